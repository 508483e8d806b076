"""By Harsanyi's dividends: what a set is worth beyond its parts is shared out evenly among its members."""

import numpy as np

QUESTION = "modality_credit"


def modality_credit(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    items, modalities = present.shape
    if scores.shape != (2**modalities, items):
        raise ValueError(f"scores have shape {scores.shape}, expected {(2**modalities, items)}")
    credit = np.where(present, 0.0, np.nan)
    for item in range(items):
        full = int(sum(2**m for m in range(modalities) if present[item, m]))
        dividend: dict[int, float] = {}
        for s in range(full + 1):
            if s & full == s:
                dividend[s] = float(scores[s, item]) - sum(d for part, d in dividend.items() if part & s == part)
                for m in range(modalities):
                    if s >> m & 1:
                        credit[item, m] += dividend[s] / s.bit_count()
    return credit
