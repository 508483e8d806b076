"""The same steps with PyTorch's tensors, but not its softmax: shift, exp, divide, NaN to zero."""

import numpy as np
import torch

QUESTION = "attention_weights"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    q, k = torch.from_numpy(query), torch.from_numpy(key)
    scores = q @ k.transpose(-1, -2) / query.shape[-1] ** 0.5
    seen = torch.ones(scores.shape, dtype=torch.bool) if mask is None else torch.as_tensor(mask).expand(scores.shape)
    scores = torch.where(seen, scores, torch.tensor(-torch.inf, dtype=scores.dtype))
    if scores.shape[-1] == 0:
        return scores.numpy()
    odds = torch.where(seen, (scores - scores.amax(-1, keepdim=True)).exp(), 0)
    return torch.nan_to_num(odds / odds.sum(-1, keepdim=True), nan=0.0).numpy()
