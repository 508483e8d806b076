"""The log-gamma function of SciPy, all ranks and numbers at once; rounded into [0, 1]."""

import numpy as np
from scipy.special import gammaln

QUESTION = "sampled_hit_rate"


def sampled_hit_rate(ranks, num_items, negatives, k):
    if k < 1 or not 0 <= negatives < num_items or (ranks < 1).any() or (ranks > num_items).any():
        raise ValueError("expected k >= 1, fewer negatives than items, ranks among the items")

    def log_choose(n, x):
        inside = (x >= 0) & (x <= n)
        n, x = np.where(inside, n, 0), np.where(inside, x, 0)
        return np.where(inside, gammaln(n + 1) - gammaln(x + 1) - gammaln(n - x + 1), -np.inf)

    x = np.arange(k)[:, None]
    logs = log_choose(ranks - 1, x) + log_choose(num_items - ranks, negatives - x)
    return np.clip(np.exp(logs - log_choose(num_items - 1, negatives)).sum(axis=0), 0, 1)
