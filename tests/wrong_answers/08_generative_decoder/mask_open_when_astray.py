"""A beam without any valid token may write everything, so that no softmax is over nothing."""

import numpy as np

QUESTION = "allowed_tokens"
REJECTED_BY = "test_dead_ends_allow_nothing"


def allowed_tokens(ids, prefixes, vocab):
    if ids.size and (ids.min() < 0 or ids.max() >= vocab):
        raise ValueError(f"tokens from {ids.min()} to {ids.max()} in a vocabulary of {vocab}")
    written, levels = prefixes.shape[1], ids.shape[1]
    if written > levels:
        raise ValueError(f"a prefix of {written} tokens for IDs of {levels}")
    allowed = np.zeros((len(prefixes), vocab), bool)
    if written < levels:
        begins = (prefixes[:, None] == ids[:, :written]).all(axis=2)
        beam, item = np.nonzero(begins)
        allowed[beam, ids[item, written]] = True
    allowed[~allowed.any(axis=1)] = True
    return allowed
