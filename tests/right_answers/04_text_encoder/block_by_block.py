"""Text by text, by filling blocks of a square; returns nested lists where there are texts."""

import numpy as np

QUESTION = "attention_mask"


def attention_mask(kind, lengths, prefix_lengths=None):
    lengths = [int(n) for n in lengths]
    if kind not in {"bidirectional", "causal", "unilm"}:
        raise ValueError(f"no such kind: {kind}")
    if min(lengths, default=0) < 0:
        raise ValueError("a length is negative")
    if kind == "unilm":
        if prefix_lengths is None:
            raise ValueError("unilm needs prefixes")
        if any(not 0 <= p <= n for p, n in zip(prefix_lengths, lengths, strict=True)):
            raise ValueError("a prefix does not fit")
    width = max(lengths, default=0)
    out = np.zeros((len(lengths), width, width), bool)
    for text, length in enumerate(lengths):
        free = {"bidirectional": length, "causal": 0}.get(kind)
        free = prefix_lengths[text] if free is None else free
        out[text, :length, :length] = np.tri(length, dtype=bool)
        out[text, :length, :free] = True
        for n in range(width):
            out[text, n, n] = True
    return out.tolist() if width and lengths else out
