"""Uses the first gate for every task: a mixture of experts, but not multi-gate."""

import numpy as np

QUESTION = "mmoe"
REJECTED_BY = "test_two_tasks_by_hand"


def mmoe(x, experts, gates):
    outputs = np.maximum(np.einsum("bd,edw->ebw", x, experts), 0)
    scores = np.einsum("bd,tde->tbe", x, np.repeat(gates[:1], len(gates), axis=0))
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares = odds / odds.sum(axis=-1, keepdims=True)
    return np.einsum("tbe,ebw->tbw", shares, outputs)
