"""Draws from a normal curve of the same mean and variance. With few clicks the posterior is far from normal."""

import numpy as np

QUESTION = "BetaThompson"
REJECTED_BY = "test_arms_are_chosen_as_often_as_they_are_best"


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
        total = self.alpha + self.beta
        spread = np.sqrt(self.alpha * self.beta / (total**2 * (total + 1)))
        return rng.normal(self.alpha / total, spread, (rounds, len(total))).argmax(axis=1)
