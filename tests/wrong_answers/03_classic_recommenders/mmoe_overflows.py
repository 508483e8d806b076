"""Takes exp of the gate scores as they are."""

import numpy as np

QUESTION = "mmoe"
REJECTED_BY = "test_large_gate_scores"


def mmoe(x, experts, gates):
    outputs = np.maximum(np.einsum("bd,edw->ebw", x, experts), 0)
    scores = np.einsum("bd,tde->tbe", x, gates)
    odds = np.exp(scores)
    shares = odds / odds.sum(axis=-1, keepdims=True)
    return np.einsum("tbe,ebw->tbw", shares, outputs)
