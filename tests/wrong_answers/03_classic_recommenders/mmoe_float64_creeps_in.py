"""Works in float64 and forgets to go back: a float32 network doubles in size."""

import numpy as np

QUESTION = "mmoe"
REJECTED_BY = "test_edges_of_mmoe"


def mmoe(x, experts, gates):
    x = x.astype(np.float64)
    outputs = np.maximum(np.einsum("bd,edw->ebw", x, experts), 0)
    scores = np.einsum("bd,tde->tbe", x, gates)
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares = odds / odds.sum(axis=-1, keepdims=True)
    return np.einsum("tbe,ebw->tbw", shares, outputs)
