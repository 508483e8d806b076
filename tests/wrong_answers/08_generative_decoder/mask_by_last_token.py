"""Only the last token is compared: a bigram, not a trie."""

import numpy as np

QUESTION = "allowed_tokens"
REJECTED_BY = "test_the_whole_prefix_counts"


def allowed_tokens(ids, prefixes, vocab):
    if ids.size and (ids.min() < 0 or ids.max() >= vocab):
        raise ValueError(f"tokens from {ids.min()} to {ids.max()} in a vocabulary of {vocab}")
    written, levels = prefixes.shape[1], ids.shape[1]
    if written > levels:
        raise ValueError(f"a prefix of {written} tokens for IDs of {levels}")
    allowed = np.zeros((len(prefixes), vocab), bool)
    if written < levels:
        begins = (prefixes[:, None] == ids[:, :written])[:, :, -1:].all(axis=2)
        beam, item = np.nonzero(begins)
        allowed[beam, ids[item, written]] = True
    return allowed
