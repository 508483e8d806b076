"""Takes one maximum off for all: where a row lies far below it, all its odds are 0, and 0 / 0 follows."""

import numpy as np

QUESTION = "mmoe"
REJECTED_BY = "test_large_gate_scores"


def mmoe(x, experts, gates):
    outputs = np.maximum(np.einsum("bd,edw->ebw", x, experts), 0)
    scores = np.einsum("bd,tde->tbe", x, gates)
    odds = np.exp(scores - scores.max())
    shares = odds / odds.sum(axis=-1, keepdims=True)
    return np.einsum("tbe,ebw->tbw", shares, outputs)
