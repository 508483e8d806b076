"""What a modality adds when it comes first and alone.

Redundant modalities are all paid in full, and what they do together is paid to nobody.
"""

import numpy as np

QUESTION = "modality_credit"
REJECTED_BY = "test_two_modalities_by_hand"


def modality_credit(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    items, modalities = present.shape
    if scores.shape != (2**modalities, items):
        raise ValueError(f"scores have shape {scores.shape}, expected {(2**modalities, items)}")
    credit = np.full((items, modalities), np.nan)
    for m in range(modalities):
        has = present[:, m]
        credit[has, m] = scores[1 << m, has] - scores[0, has]
    return credit
