"""Lists and loops: one draw for each arm of each round, by arm first; counts by bincount."""

import numpy as np

QUESTION = "BetaThompson"


class BetaThompson:
    def __init__(self, num_arms, prior=(1.0, 1.0)):
        if not all(p > 0 for p in prior):
            raise ValueError("both numbers of the prior must be positive")
        self.alpha, self.beta = [prior[0]] * num_arms, [prior[1]] * num_arms

    def update(self, arms, rewards):
        n = len(self.alpha)
        if any(a < 0 or a >= n for a in arms) or any(r != 0 and r != 1 for r in rewards):
            raise ValueError("arms are counted from 0, and rewards are 0 or 1")
        clicks = np.bincount(arms, rewards, n)
        shown = np.bincount(arms, minlength=n)
        self.alpha = [a + c for a, c in zip(self.alpha, clicks)]
        self.beta = [b + s - c for b, s, c in zip(self.beta, shown, clicks)]

    def choose(self, rounds, rng):
        draws = [[rng.beta(a, b) for _ in range(rounds)] for a, b in zip(self.alpha, self.beta)]
        return [int(np.argmax(column)) for column in zip(*draws)]
