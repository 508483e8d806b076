"""Draws many samples and averages: an estimate with noise, where the exact value costs less."""

import numpy as np

QUESTION = "sampled_hit_rate"
REJECTED_BY = "test_five_items_by_hand"


def sampled_hit_rate(ranks, num_items, negatives, k):
    if k < 1 or not 0 <= negatives < num_items or (ranks < 1).any() or (ranks > num_items).any():
        raise ValueError("expected k >= 1, fewer negatives than items, ranks among the items")
    rng = np.random.default_rng(0)
    drawn = rng.hypergeometric(ranks - 1, num_items - ranks, negatives, size=(2000, len(ranks)))
    return (drawn < k).mean(axis=0)
