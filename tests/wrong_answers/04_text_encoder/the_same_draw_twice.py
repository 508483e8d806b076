"""Uses the number that chose a word again for 80, 10 and 10. It is below the rate, so below 0.8: every word is
hidden.
"""

import numpy as np

QUESTION = "corrupt"
REJECTED_BY = "test_eighty_ten_ten"


def corrupt(tokens, vocab, special, mask_id, rate, rng):
    if not 0 <= rate <= 1:
        raise ValueError("the rate must lie from 0 to 1")
    words = np.array([n for n in range(vocab) if n != mask_id and n not in special])
    chosen = np.isin(tokens, words) & ((draw := rng.random(tokens.shape)) < rate)
    kind = draw
    other = words[rng.integers(len(words), size=tokens.shape)]
    read = tokens.copy()
    read[chosen & (kind < 0.8)] = mask_id
    swap = chosen & (kind >= 0.8) & (kind < 0.9)
    read[swap] = other[swap]
    return read, np.where(chosen, tokens, -100)
