"""Vectors v_i x_i on three axes, row after row, and a list of Python numbers."""

import numpy as np

QUESTION = "fm_score"


def fm_score(x, w0, w, v):
    scores = []
    for row in np.asarray(x, dtype=float):
        scaled = row[:, None] * v
        square_of_sum = scaled.sum(axis=0) ** 2
        sum_of_squares = (scaled**2).sum(axis=0)
        scores.append(float(w0 + np.dot(row, w) + (square_of_sum - sum_of_squares).sum() / 2))
    return scores
