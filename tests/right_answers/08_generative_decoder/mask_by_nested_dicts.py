"""A real trie of dictionaries, walked by each beam."""

import numpy as np

QUESTION = "allowed_tokens"


def allowed_tokens(ids, prefixes, vocab):
    root = {}
    for row in ids.tolist():
        node = root
        for token in row:
            if not 0 <= token < vocab:
                raise ValueError(f"token {token} is not in a vocabulary of {vocab}")
            node = node.setdefault(token, {})
    if prefixes.shape[1] > ids.shape[1]:
        raise ValueError("the prefix is too long")
    mask = np.full((prefixes.shape[0], vocab), False)
    for beam, row in enumerate(prefixes.tolist()):
        node = root
        for token in row:
            node = node.get(token, {})
        mask[beam, list(node)] = True
    return mask
