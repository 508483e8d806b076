"""One rule for each kind, then padding."""

import numpy as np

QUESTION = "attention_mask"


def attention_mask(kind, lengths, prefix_lengths=None):
    lengths = np.asarray(lengths)
    if (lengths < 0).any() or kind not in ("bidirectional", "causal", "unilm"):
        raise ValueError("a negative length or an unknown kind")
    if kind == "unilm" and (
        prefix_lengths is None or (np.asarray(prefix_lengths) < 0).any() or (prefix_lengths > lengths).any()
    ):
        raise ValueError("prefixes are missing or do not fit")
    place = np.arange(lengths.max(initial=0))
    row, column = place[:, None], place[None, :]
    seen = np.ones((len(lengths), len(place), len(place)), bool)
    if kind == "causal":
        seen &= column <= row
    if kind == "unilm":
        prefix = np.asarray(prefix_lengths)[:, None, None]
        seen &= (column <= row) | (column < prefix)
    end = lengths[:, None, None]
    return (seen & (row < end) & (column < end)) | (row == column)
