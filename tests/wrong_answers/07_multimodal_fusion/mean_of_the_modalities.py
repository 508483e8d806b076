"""Attends within each modality and takes the plain mean over those present.

The query can then no longer prefer one modality to another.
"""

import numpy as np

QUESTION = "fuse_modalities"
REJECTED_BY = "test_every_item_is_fused_from_what_it_has"


def softmax(scores: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Over the last axis; zeros where nothing is visible."""
    visible = np.broadcast_to(True if mask is None else mask, scores.shape)
    scores = np.where(visible, scores, -np.inf)
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=np.finfo(scores.dtype).min))
    total = odds.sum(axis=-1, keepdims=True)
    return np.divide(odds, total, out=np.zeros_like(odds), where=total > 0)


def fuse_modalities(query: np.ndarray, tokens: dict[str, np.ndarray], present: dict[str, np.ndarray]) -> np.ndarray:
    has = np.stack([present[name] & (tokens[name].shape[1] > 0) for name in tokens])
    empty = np.flatnonzero(~has.any(axis=0)).tolist()
    if empty:
        raise ValueError(f"items {empty} have no modality present")
    total = 0
    for there, block in zip(has, tokens.values(), strict=True):
        block = np.where(there[:, None, None], block, 0)
        total = total + softmax(query @ np.swapaxes(block, 1, 2) / query.shape[-1] ** 0.5, None) @ block
    return total / has.sum(axis=0)[:, None, None]
