"""Draws one negative after the other and keeps the distribution of how many stand before the target."""

import numpy as np

QUESTION = "sampled_hit_rate"


def sampled_hit_rate(ranks, num_items, negatives, k):
    if k < 1 or not 0 <= negatives < num_items or (ranks < 1).any() or (ranks > num_items).any():
        raise ValueError("expected k >= 1, fewer negatives than items, ranks among the items")
    chance = np.zeros((k + 1, len(ranks)))  # of 0 … k - 1 before the target, and of more
    chance[0] = 1
    counts = np.arange(k)[:, None]
    for drawn in range(negatives):
        step = chance[:k] * np.clip((ranks - 1 - counts) / (num_items - 1 - drawn), 0, 1)
        chance[:k] -= step
        chance[1:] += step
    return chance[:k].sum(axis=0)
