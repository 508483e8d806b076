"""A product of matrices: which beam agrees with which item, times the one-hot of the next tokens."""

import numpy as np

QUESTION = "allowed_tokens"


def allowed_tokens(ids, prefixes, vocab):
    if ids.shape[0] and ids.shape[1] and not ((ids >= 0) & (ids < vocab)).all():
        raise ValueError("IDs outside the vocabulary")
    n = prefixes.shape[1]
    if n > ids.shape[1]:
        raise ValueError("a prefix longer than an ID")
    if n == ids.shape[1]:
        return np.zeros((len(prefixes), vocab), np.bool_)
    agree = np.ones((len(prefixes), len(ids)), bool)
    for place in range(n):
        agree &= np.equal.outer(prefixes[:, place], ids[:, place])
    following = ids[:, n][:, None] == np.arange(vocab)
    return agree @ following
