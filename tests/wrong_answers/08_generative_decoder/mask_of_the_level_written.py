"""The column before: it allows what has just been written."""

import numpy as np

QUESTION = "allowed_tokens"
REJECTED_BY = "test_three_ids_by_hand"


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
        allowed[beam, ids[item, max(written - 1, 0)]] = True
    return allowed
