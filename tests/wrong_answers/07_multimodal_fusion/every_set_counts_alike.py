"""The mean over all sets of others (Banzhaf's index).

With three modalities, sets of one get too much weight, and credits do not add up.
"""

import numpy as np

QUESTION = "modality_credit"
REJECTED_BY = "test_every_order_counts_alike"


def modality_credit(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    items, modalities = present.shape
    if scores.shape != (2**modalities, items):
        raise ValueError(f"scores have shape {scores.shape}, expected {(2**modalities, items)}")
    credit = np.full((items, modalities), np.nan)
    for item in range(items):
        full = sum(1 << m for m in range(modalities) if present[item, m])
        for m in np.flatnonzero(present[item]).tolist():
            sets = [s for s in range(2**modalities) if s & full == s and not s >> m & 1]
            credit[item, m] = np.mean([scores[s | 1 << m, item] - scores[s, item] for s in sets])
    return credit
