"""The textbook softmax with -inf for what is masked. A row of nothing but -inf gives -inf - (-inf) = NaN."""

import numpy as np

QUESTION = "attention_weights"
REJECTED_BY = "test_a_query_that_sees_nothing_gets_zeros"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    scores = query @ np.swapaxes(key, -1, -2) / query.shape[-1] ** 0.5
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)
