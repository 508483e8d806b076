"""Shares the whole gain out evenly. It adds up as it should, and says nothing about anybody."""

import numpy as np

QUESTION = "modality_credit"
REJECTED_BY = "test_two_modalities_by_hand"


def modality_credit(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    items, modalities = present.shape
    if scores.shape != (2**modalities, items):
        raise ValueError(f"scores have shape {scores.shape}, expected {(2**modalities, items)}")
    credit = np.full((items, modalities), np.nan)
    for item in range(items):
        full = sum(1 << m for m in range(modalities) if present[item, m])
        there = present[item].sum()
        credit[item, present[item]] = (scores[full, item] - scores[0, item]) / max(there, 1)
    return credit
