"""Adds the variance and not its square root: the width then falls with 1/n, and exploration ends too early."""

import numpy as np

QUESTION = "LinUCB"
REJECTED_BY = "test_bound_is_prediction_plus_width"


class LinUCB:
    def __init__(self, num_arms, width, alpha, ridge=1.0):
        if ridge <= 0:
            raise ValueError("ridge must be above 0")
        self.alpha = alpha
        self.A = np.stack([ridge * np.eye(width) for _ in range(num_arms)])
        self.b = np.zeros((num_arms, width))

    def update(self, arm, context, reward):
        if arm < 0 or arm >= len(self.b):
            raise ValueError("no such arm")
        self.A[arm] += np.outer(context, context)
        self.b[arm] += reward * context

    def theta(self):
        return np.stack([np.linalg.solve(A, b) for A, b in zip(self.A, self.b)])

    def bounds(self, contexts):
        theta = self.theta()
        spread = np.array([x @ np.linalg.solve(A, x) for A, x in zip(self.A, contexts)])
        return (theta * contexts).sum(axis=1) + self.alpha * spread

    def choose(self, contexts):
        return int(np.argmax(self.bounds(contexts)))
