"""Keeps all rows and solves least squares when asked; the choice is a NumPy integer."""

import numpy as np

QUESTION = "LinUCB"


class LinUCB:
    def __init__(self, num_arms, width, alpha, ridge=1.0):
        if ridge <= 0:
            raise ValueError(f"ridge {ridge}")
        self.alpha = alpha
        self.rows = [list(np.sqrt(ridge) * np.eye(width)) for _ in range(num_arms)]
        self.paid = [[0.0] * width for _ in range(num_arms)]

    def update(self, arm, context, reward):
        if not 0 <= arm <= len(self.rows) - 1:
            raise ValueError(f"arm {arm}")
        self.rows[arm].append(np.array(context))
        self.paid[arm].append(reward)

    def theta(self):
        return np.array(
            [np.linalg.lstsq(np.array(x), np.array(y), rcond=None)[0] for x, y in zip(self.rows, self.paid)]
        )

    def bounds(self, contexts):
        widths = []
        for rows, x in zip(self.rows, contexts):
            triangle = np.linalg.qr(np.array(rows), mode="r")
            widths.append(np.sqrt(np.sum(np.linalg.solve(triangle.T, x) ** 2)))
        return np.einsum("ij,ij->i", self.theta(), contexts) + self.alpha * np.array(widths)

    def choose(self, contexts):
        return self.bounds(contexts).argmax()
