"""Each gate is a sigmoid of its own, so the shares do not add up to 1."""

import numpy as np

QUESTION = "mmoe"
REJECTED_BY = "test_two_tasks_by_hand"


def mmoe(x, experts, gates):
    outputs = np.maximum(np.einsum("bd,edw->ebw", x, experts), 0)
    scores = np.einsum("bd,tde->tbe", x, gates)
    shares = 1 / (1 + np.exp(-scores))
    return np.einsum("tbe,ebw->tbw", shares, outputs)
