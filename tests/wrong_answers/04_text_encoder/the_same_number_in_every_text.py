"""Chooses exactly the share of each text, rounded. Short texts get none or too many, and choices depend on each
other.
"""

import numpy as np

QUESTION = "corrupt"
REJECTED_BY = "test_share_that_is_asked"


def corrupt(tokens, vocab, special, mask_id, rate, rng):
    if not 0 <= rate <= 1:
        raise ValueError("the rate must lie from 0 to 1")
    words = np.array([n for n in range(vocab) if n != mask_id and n not in special])
    chosen = np.zeros(tokens.shape, bool)
    for row, there in zip(
        chosen.reshape(-1, tokens.shape[-1]), np.isin(tokens, words).reshape(-1, tokens.shape[-1]), strict=True
    ):
        places = np.flatnonzero(there)
        row[rng.permutation(places)[: round(rate * len(places))]] = True
    kind = rng.random(tokens.shape)
    other = words[rng.integers(len(words), size=tokens.shape)]
    read = tokens.copy()
    read[chosen & (kind < 0.8)] = mask_id
    swap = chosen & (kind >= 0.8) & (kind < 0.9)
    read[swap] = other[swap]
    return read, np.where(chosen, tokens, -100)
