"""Shares out 80, 10 and 10 in order of place: the first words asked are always hidden, the last always kept."""

import numpy as np

QUESTION = "corrupt"
REJECTED_BY = "test_neither_place_nor_word_decides"


def corrupt(tokens, vocab, special, mask_id, rate, rng):
    if not 0 <= rate <= 1:
        raise ValueError("the rate must lie from 0 to 1")
    words = np.array([n for n in range(vocab) if n != mask_id and n not in special])
    chosen = np.isin(tokens, words) & (rng.random(tokens.shape) < rate)
    kind = np.zeros(tokens.shape)
    kind[chosen] = np.linspace(0, 1, chosen.sum(), endpoint=False)
    other = words[rng.integers(len(words), size=tokens.shape)]
    read = tokens.copy()
    read[chosen & (kind < 0.8)] = mask_id
    swap = chosen & (kind >= 0.8) & (kind < 0.9)
    read[swap] = other[swap]
    return read, np.where(chosen, tokens, -100)
