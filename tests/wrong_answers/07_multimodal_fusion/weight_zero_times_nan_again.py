"""Vectorised over items with weight 0 for sets that an item cannot show.

0 times NaN is NaN, and the whole row is lost.
"""

from math import comb

import numpy as np

QUESTION = "modality_credit"
REJECTED_BY = "test_impossible_sets_are_never_read"


def modality_credit(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    items, modalities = present.shape
    if scores.shape != (2**modalities, items):
        raise ValueError(f"scores have shape {scores.shape}, expected {(2**modalities, items)}")
    sets = np.arange(2**modalities)[:, None] >> np.arange(modalities) & 1 == 1
    possible = ~(sets[:, None] & ~present).any(axis=2)  # sets, items
    count = present.sum(axis=1)
    credit = np.full((items, modalities), np.nan)
    for m in range(modalities):
        total = np.zeros(items)
        for s in np.flatnonzero(~sets[:, m]).tolist():
            size = int(sets[s].sum())
            ways = [1 / (comb(n - 1, size) * n) if n > size else 0.0 for n in count.tolist()]
            total += possible[s] * np.array(ways) * (scores[s | 1 << m] - scores[s])
        credit[:, m] = np.where(present[:, m], total, np.nan)
    return credit
