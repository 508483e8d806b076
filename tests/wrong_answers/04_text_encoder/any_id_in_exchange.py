"""Draws the other word from the whole vocabulary, with padding, start, end and mask in it."""

import numpy as np

QUESTION = "corrupt"
REJECTED_BY = "test_other_words"


def corrupt(tokens, vocab, special, mask_id, rate, rng):
    if not 0 <= rate <= 1:
        raise ValueError("the rate must lie from 0 to 1")
    words = np.array([n for n in range(vocab) if n != mask_id and n not in special])
    chosen = np.isin(tokens, words) & (rng.random(tokens.shape) < rate)
    kind = rng.random(tokens.shape)
    other = rng.integers(vocab, size=tokens.shape)
    read = tokens.copy()
    read[chosen & (kind < 0.8)] = mask_id
    swap = chosen & (kind >= 0.8) & (kind < 0.9)
    read[swap] = other[swap]
    return read, np.where(chosen, tokens, -100)
