"""Hides every chosen word. The model never learns to say anything about a word that it can see, and later sees
nothing else.
"""

import numpy as np

QUESTION = "corrupt"
REJECTED_BY = "test_eighty_ten_ten"


def corrupt(tokens, vocab, special, mask_id, rate, rng):
    if not 0 <= rate <= 1:
        raise ValueError("the rate must lie from 0 to 1")
    words = np.array([n for n in range(vocab) if n != mask_id and n not in special])
    chosen = np.isin(tokens, words) & (rng.random(tokens.shape) < rate)
    read = tokens.copy()
    read[chosen] = mask_id
    return read, np.where(chosen, tokens, -100)
