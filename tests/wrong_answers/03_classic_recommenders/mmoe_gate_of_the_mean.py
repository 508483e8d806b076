"""Gates see the mean of the batch: all examples get the same mixture."""

import numpy as np

QUESTION = "mmoe"
REJECTED_BY = "test_two_tasks_by_hand"


def mmoe(x, experts, gates):
    outputs = np.maximum(np.einsum("bd,edw->ebw", x, experts), 0)
    scores = np.einsum("bd,tde->tbe", np.broadcast_to(x.mean(axis=0), x.shape), gates)
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares = odds / odds.sum(axis=-1, keepdims=True)
    return np.einsum("tbe,ebw->tbw", shares, outputs)
