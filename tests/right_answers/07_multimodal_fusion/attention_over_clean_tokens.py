"""Calls attention_weights of question 1 on tokens cleaned by assignment, with modalities in the order of `present`."""

import numpy as np

QUESTION = "fuse_modalities"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """As in question 1."""
    scores = np.where(mask, query @ np.swapaxes(key, -1, -2) / query.shape[-1] ** 0.5, -np.inf)
    odds = np.exp(scores - scores.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def fuse_modalities(query: np.ndarray, tokens: dict[str, np.ndarray], present: dict[str, np.ndarray]) -> np.ndarray:
    blocks, masks = [], []
    for name, has in present.items():
        block = tokens[name].copy()
        block[~has] = 0
        blocks.append(block)
        masks.append(np.tile(has[:, None], (1, block.shape[1])))
    context, mask = np.hstack(blocks), np.hstack(masks)
    if not mask.any(axis=1).all():
        raise ValueError("rows without any token: " + ", ".join(str(i) for i in np.where(~mask.any(axis=1))[0]))
    return np.einsum("iqt,itd->iqd", attention_weights(query, context, mask[:, None, :]), context)
