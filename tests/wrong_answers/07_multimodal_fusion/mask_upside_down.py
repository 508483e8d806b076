"""Takes True for 'hide this key', as key_padding_mask of PyTorch's MultiheadAttention does.

Here True means 'may look'.
"""

import numpy as np

QUESTION = "attention_weights"
REJECTED_BY = "test_masked_keys_get_no_weight"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    scores = query @ np.swapaxes(key, -1, -2) / query.shape[-1] ** 0.5
    hidden = np.broadcast_to(False if mask is None else mask, scores.shape)
    scores = np.where(hidden, -np.inf, scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=np.finfo(scores.dtype).min))
    total = weights.sum(axis=-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
