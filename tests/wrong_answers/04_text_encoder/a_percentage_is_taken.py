"""Takes 15 for a rate: every word is asked, and nobody is told."""

import numpy as np

QUESTION = "corrupt"
REJECTED_BY = "test_rates_that_are_none"


def corrupt(tokens, vocab, special, mask_id, rate, rng):
    words = np.array([n for n in range(vocab) if n != mask_id and n not in special])
    chosen = np.isin(tokens, words) & (rng.random(tokens.shape) < rate)
    kind = rng.random(tokens.shape)
    other = words[rng.integers(len(words), size=tokens.shape)]
    read = tokens.copy()
    read[chosen & (kind < 0.8)] = mask_id
    swap = chosen & (kind >= 0.8) & (kind < 0.9)
    read[swap] = other[swap]
    return read, np.where(chosen, tokens, -100)
