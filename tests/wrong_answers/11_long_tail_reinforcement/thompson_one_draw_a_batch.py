"""Draws once from each posterior and sends the whole batch to the winner."""

import numpy as np

QUESTION = "BetaThompson"
REJECTED_BY = "test_each_round_draws_anew"


class BetaThompson:
    def __init__(self, num_arms, prior=(1.0, 1.0)):
        if min(prior) <= 0:
            raise ValueError("a prior must be above 0")
        self.alpha = np.full(num_arms, float(prior[0]))
        self.beta = np.full(num_arms, float(prior[1]))

    def update(self, arms, rewards):
        if not set(np.unique(rewards).tolist()) <= {0, 1}:
            raise ValueError("rewards must be 0 or 1")
        if len(arms) and not (arms.min() >= 0 and arms.max() < len(self.alpha)):
            raise ValueError("no such arm")
        np.add.at(self.alpha, arms, rewards)
        np.add.at(self.beta, arms, 1 - rewards)

    def choose(self, rounds, rng):
        return np.full(rounds, np.argmax(rng.beta(self.alpha, self.beta)))
