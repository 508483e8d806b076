"""Takes the softmax over the tasks: an expert is shared out among them."""

import numpy as np

QUESTION = "mmoe"
REJECTED_BY = "test_two_tasks_by_hand"


def mmoe(x, experts, gates):
    outputs = np.maximum(np.einsum("bd,edw->ebw", x, experts), 0)
    scores = np.einsum("bd,tde->tbe", x, gates)
    odds = np.exp(scores - scores.max(axis=0, keepdims=True))
    shares = odds / odds.sum(axis=0, keepdims=True)
    return np.einsum("tbe,ebw->tbw", shares, outputs)
