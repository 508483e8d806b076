"""NumPy's masked arrays for mean and maximum; the last place from an argmax from behind."""

import numpy as np

QUESTION = "pool"


def pool(states, real, how):
    if how not in ("mean", "max", "last"):
        raise ValueError("how must be mean, max or last")
    empty = ~real.any(axis=1)
    if states.size == 0 or empty.all():
        return np.zeros((len(states), states.shape[2]), states.dtype)
    if how == "last":
        place = real.shape[1] - 1 - np.argmax(real[:, ::-1], axis=1)
        out = np.take_along_axis(states, place[:, None, None], axis=1)[:, 0]
    else:
        hidden = np.ma.array(states, mask=np.broadcast_to(~real[..., None], states.shape))
        out = np.ma.filled(getattr(hidden, how)(axis=1), 0)
    return np.where(empty[:, None], 0, out).astype(states.dtype)
