"""Adds the squares of the features and forgets their products, as if features were never correlated."""

import numpy as np

QUESTION = "LinUCB"
REJECTED_BY = "test_theta_is_each_arms_own_regression"


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
        self.A[arm] += np.diag(context**2)
        self.b[arm] += reward * context

    def theta(self):
        return np.stack([np.linalg.solve(A, b) for A, b in zip(self.A, self.b)])

    def bounds(self, contexts):
        theta = self.theta()
        spread = np.array([x @ np.linalg.solve(A, x) for A, x in zip(self.A, contexts)])
        return (theta * contexts).sum(axis=1) + self.alpha * np.sqrt(spread)

    def choose(self, contexts):
        return int(np.argmax(self.bounds(contexts)))
