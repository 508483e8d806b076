"""One Cholesky factor for each arm, made anew after an update; the width is the length of L⁻¹x."""

import numpy as np

QUESTION = "LinUCB"


class LinUCB:
    def __init__(self, num_arms, width, alpha, ridge=1.0):
        if not ridge > 0:
            raise ValueError("without a ridge an arm that nobody pulled has no inverse")
        self.alpha, self.matrices = alpha, [np.diag([float(ridge)] * width) for _ in range(num_arms)]
        self.sums = [np.zeros(width) for _ in range(num_arms)]
        self.factors = [np.linalg.cholesky(m) for m in self.matrices]

    def update(self, arm, context, reward):
        if arm not in range(len(self.sums)):
            raise ValueError(f"{arm} is none of the arms")
        x = np.asarray(context, dtype=float)
        self.matrices[arm] = self.matrices[arm] + x[:, None] * x
        self.sums[arm] = self.sums[arm] + reward * x
        self.factors[arm] = np.linalg.cholesky(self.matrices[arm])

    def theta(self):
        halves = [np.linalg.solve(L, b) for L, b in zip(self.factors, self.sums)]
        return [np.linalg.solve(L.T, h).tolist() for L, h in zip(self.factors, halves)]

    def bounds(self, contexts):
        width = [np.linalg.norm(np.linalg.solve(L, x)) for L, x in zip(self.factors, contexts)]
        return [float(np.dot(t, x) + self.alpha * w) for t, x, w in zip(self.theta(), contexts, width)]

    def choose(self, contexts):
        bounds = self.bounds(contexts)
        return bounds.index(max(bounds))
