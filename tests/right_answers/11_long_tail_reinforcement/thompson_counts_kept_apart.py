"""Keeps integer counts of clicks and misses; the posterior is a property; Beta draws are made of Gammas."""

import numpy as np

QUESTION = "BetaThompson"


class BetaThompson:
    def __init__(self, num_arms, prior=(1.0, 1.0)):
        a, b = prior
        if a <= 0 or b <= 0:
            raise ValueError(f"{prior} is no prior")
        self.prior, self.counts = prior, np.zeros((num_arms, 2), dtype=np.int64)

    @property
    def alpha(self):
        return self.prior[0] + self.counts[:, 1]

    @property
    def beta(self):
        return self.prior[1] + self.counts[:, 0]

    def update(self, arms, rewards):
        pairs = list(zip(np.asarray(arms).tolist(), np.asarray(rewards).tolist()))
        for arm, reward in pairs:
            if reward not in (0, 1) or not 0 <= arm < len(self.counts):
                raise ValueError(f"arm {arm} with reward {reward}")
        for arm, reward in pairs:
            self.counts[arm, int(reward)] += 1

    def choose(self, rounds, rng):
        hits = rng.standard_gamma(self.alpha, (rounds, len(self.counts)))
        misses = rng.standard_gamma(self.beta, (rounds, len(self.counts)))
        return (hits / (hits + misses)).argmax(1).astype(np.int32)
