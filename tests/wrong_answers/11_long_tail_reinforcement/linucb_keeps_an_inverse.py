"""Updates the inverse by Sherman and Morrison: cheap, but the errors of an ill-conditioned start stay in it."""

import numpy as np

QUESTION = "LinUCB"
REJECTED_BY = "test_collinear_features_do_not_spoil_the_width"


class LinUCB:
    def __init__(self, num_arms, width, alpha, ridge=1.0):
        if ridge <= 0:
            raise ValueError("ridge must be above 0")
        self.alpha = alpha
        self.inverse = np.stack([np.eye(width) / ridge for _ in range(num_arms)])
        self.b = np.zeros((num_arms, width))

    def update(self, arm, context, reward):
        if arm < 0 or arm >= len(self.b):
            raise ValueError("no such arm")
        moved = self.inverse[arm] @ context
        self.inverse[arm] -= np.outer(moved, moved) / (1 + context @ moved)
        self.b[arm] += reward * context

    def theta(self):
        return np.einsum("auw,aw->au", self.inverse, self.b)

    def bounds(self, contexts):
        spread = np.einsum("au,auw,aw->a", contexts, self.inverse, contexts)
        return (self.theta() * contexts).sum(axis=1) + self.alpha * np.sqrt(np.maximum(spread, 0.0))

    def choose(self, contexts):
        return int(np.argmax(self.bounds(contexts)))
