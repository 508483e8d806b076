"""IDs are not checked, and a token of -1, which pads shorter IDs elsewhere, allows the last token."""

import numpy as np

QUESTION = "allowed_tokens"
REJECTED_BY = "test_what_cannot_be_is_refused"


def allowed_tokens(ids, prefixes, vocab):
    if ids.size and ids.max() >= vocab:
        raise ValueError(f"tokens from {ids.min()} to {ids.max()} in a vocabulary of {vocab}")
    written, levels = prefixes.shape[1], ids.shape[1]
    if written > levels:
        raise ValueError(f"a prefix of {written} tokens for IDs of {levels}")
    allowed = np.zeros((len(prefixes), vocab), bool)
    if written < levels:
        begins = (prefixes[:, None] == ids[:, :written]).all(axis=2)
        beam, item = np.nonzero(begins)
        allowed[beam, ids[item, written]] = True
    return allowed
