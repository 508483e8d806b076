"""Leaves padding out of the causal mask, since it stands in the future: but its rows see the text."""

import numpy as np

QUESTION = "attention_mask"
REJECTED_BY = "test_causal"


def attention_mask(kind, lengths, prefix_lengths=None):
    lengths = np.asarray(lengths)
    if (lengths < 0).any():
        raise ValueError("a length is negative")
    place = np.arange(lengths.max(initial=0))
    past = np.broadcast_to(place <= place[:, None], (len(lengths), len(place), len(place)))
    if kind == "causal":
        return past.copy()
    if kind == "bidirectional":
        free = lengths
    elif kind == "unilm" and prefix_lengths is not None:
        free = np.asarray(prefix_lengths)
        if (free < 0).any() or (free > lengths).any():
            raise ValueError("a prefix does not fit")
    else:
        raise ValueError("unknown kind, or no prefixes")
    real = place < lengths[:, None]
    seen = (past | (place < free[:, None, None])) & real[:, None] & real[:, :, None]
    return seen | np.eye(len(place), dtype=bool)
