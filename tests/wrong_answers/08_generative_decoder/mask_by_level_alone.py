"""Every token that occurs at this level is allowed: codes are checked one by one, and mixtures of items get through."""

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
        begins = np.ones((len(prefixes), len(ids)), bool)
        beam, item = np.nonzero(begins)
        allowed[beam, ids[item, written]] = True
    return allowed
