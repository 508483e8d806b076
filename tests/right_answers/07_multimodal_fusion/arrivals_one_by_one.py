"""Recursive: the last to arrive is anybody with equal chance, and the rest is the same question for one less."""

import numpy as np

QUESTION = "modality_credit"


def modality_credit(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    items, modalities = present.shape
    if scores.shape != (2**modalities, items):
        raise ValueError(f"scores have shape {scores.shape}, expected {(2**modalities, items)}")

    def share(there: frozenset[int], item: int) -> dict[int, float]:
        total = dict.fromkeys(there, 0.0)
        whole = sum(1 << m for m in there)
        for last in there:
            total[last] += (float(scores[whole, item]) - float(scores[whole - (1 << last), item])) / len(there)
            for m, part in share(there - {last}, item).items():
                total[m] += part / len(there)
        return total

    rows = [share(frozenset(np.flatnonzero(has).tolist()), item) for item, has in enumerate(present)]
    values = [[row.get(m, float("nan")) for m in range(modalities)] for row in rows]
    return np.array(values, dtype=float).reshape(items, modalities)
