"""Scales the rank down to the sample and compares it with k: the mean place is not the chance of a hit."""

QUESTION = "sampled_hit_rate"
REJECTED_BY = "test_five_items_by_hand"


def sampled_hit_rate(ranks, num_items, negatives, k):
    if k < 1 or not 0 <= negatives < num_items or (ranks < 1).any() or (ranks > num_items).any():
        raise ValueError("expected k >= 1, fewer negatives than items, ranks among the items")
    place = 1 + (ranks - 1) * negatives / max(num_items - 1, 1)
    return (place <= k).astype(float)
