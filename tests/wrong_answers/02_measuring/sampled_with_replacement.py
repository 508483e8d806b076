"""Draws with replacement (binomial): close for a large catalogue, wrong for a small one."""

import math

import numpy as np

QUESTION = "sampled_hit_rate"
REJECTED_BY = "test_all_sets_of_negatives"


def sampled_hit_rate(ranks, num_items, negatives, k):
    if k < 1 or not 0 <= negatives < num_items or (ranks < 1).any() or (ranks > num_items).any():
        raise ValueError("expected k >= 1, fewer negatives than items, ranks among the items")
    p = (ranks - 1) / max(num_items - 1, 1)
    ways = [math.comb(negatives, x) * p**x * (1 - p) ** (negatives - x) for x in range(min(k, negatives + 1))]
    return np.sum(ways, axis=0)
