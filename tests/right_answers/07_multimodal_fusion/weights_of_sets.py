"""Sums over sets with the weight |S|! (n - |S| - 1)! / n!, for all items that have the same modalities at once."""

from itertools import combinations
from math import factorial

import numpy as np

QUESTION = "modality_credit"


def modality_credit(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    items, modalities = present.shape
    if scores.shape != (2**modalities, items):
        raise ValueError(f"scores have shape {scores.shape}, expected {(2**modalities, items)}")
    credit = np.full((items, modalities), np.nan)
    for pattern in np.unique(present, axis=0):
        rows = np.flatnonzero((present == pattern).all(axis=1))
        there = np.flatnonzero(pattern).tolist()
        n = len(there)
        for m in there:
            others = [x for x in there if x != m]
            credit[rows, m] = 0
            for size in range(n):
                weight = factorial(size) * factorial(n - size - 1) / factorial(n)
                for group in combinations(others, size):
                    before = sum(2**x for x in group)
                    credit[rows, m] += weight * (scores[before + 2**m, rows] - scores[before, rows])
    return credit
