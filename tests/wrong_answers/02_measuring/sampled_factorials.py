"""Takes the exponential of each log factorial before dividing: infinite over infinite from 171 on."""

import math

import numpy as np

QUESTION = "sampled_hit_rate"
REJECTED_BY = "test_a_million_items"


def sampled_hit_rate(ranks, num_items, negatives, k):
    if k < 1 or not 0 <= negatives < num_items or (ranks < 1).any() or (ranks > num_items).any():
        raise ValueError("expected k >= 1, fewer negatives than items, ranks among the items")
    factorial = np.exp([math.lgamma(n + 1.0) if n < 400 else 1e9 for n in range(num_items)])

    def choose(n, x):
        n = np.asarray(n)
        return np.where(n >= x, factorial[n] / factorial[x] / factorial[np.maximum(n - x, 0)], 0)

    ways = [choose(ranks - 1, x) * choose(num_items - ranks, negatives - x) for x in range(min(k, negatives + 1))]
    return np.sum(ways, axis=0) / choose(num_items - 1, negatives)
