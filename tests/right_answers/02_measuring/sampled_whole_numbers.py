"""Exact integers by math.comb, one division at the end."""

import math

import numpy as np

QUESTION = "sampled_hit_rate"


def sampled_hit_rate(ranks, num_items, negatives, k):
    if k < 1 or not 0 <= negatives < num_items or (ranks < 1).any() or (ranks > num_items).any():
        raise ValueError("expected k >= 1, fewer negatives than items, ranks among the items")
    chances = []
    for rank in ranks.tolist():
        before, behind = rank - 1, num_items - rank
        ways = sum(math.comb(before, x) * math.comb(behind, negatives - x) for x in range(min(k, negatives + 1)))
        chances.append(ways / math.comb(num_items - 1, negatives))
    return np.array(chances, float)
