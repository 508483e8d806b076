"""Returns the batch first and the tasks second."""

import numpy as np

QUESTION = "mmoe"
REJECTED_BY = "test_mixtures_of_experts"


def mmoe(x, experts, gates):
    outputs = np.maximum(np.einsum("bd,edw->ebw", x, experts), 0)
    scores = np.einsum("bd,tde->tbe", x, gates)
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares = odds / odds.sum(axis=-1, keepdims=True)
    return np.einsum("tbe,ebw->btw", shares, outputs)
