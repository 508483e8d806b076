"""Leave-one-out:

what is lost when a modality is hidden from the full item. Two modalities that say the same both get nothing.
"""

import numpy as np

QUESTION = "modality_credit"
REJECTED_BY = "test_twins_share"


def modality_credit(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    items, modalities = present.shape
    if scores.shape != (2**modalities, items):
        raise ValueError(f"scores have shape {scores.shape}, expected {(2**modalities, items)}")
    credit = np.full((items, modalities), np.nan)
    for item in range(items):
        full = sum(1 << m for m in range(modalities) if present[item, m])
        for m in np.flatnonzero(present[item]).tolist():
            credit[item, m] = scores[full, item] - scores[full - (1 << m), item]
    return credit
