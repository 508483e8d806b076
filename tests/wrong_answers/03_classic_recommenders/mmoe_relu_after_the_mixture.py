"""Mixes first and applies the ReLU to the mixture: an expert below 0 pulls the others down."""

import numpy as np

QUESTION = "mmoe"
REJECTED_BY = "test_relu_before_the_mixture"


def mmoe(x, experts, gates):
    outputs = np.einsum("bd,edw->ebw", x, experts)
    scores = np.einsum("bd,tde->tbe", x, gates)
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares = odds / odds.sum(axis=-1, keepdims=True)
    return np.maximum(np.einsum("tbe,ebw->tbw", shares, outputs), 0)
