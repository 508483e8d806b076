"""One draw a word, cut into four ranges: below 0.8 rate, 0.9 rate, rate, and the rest. Right, since the ranges
scale with the rate.
"""

import numpy as np

QUESTION = "corrupt"


def corrupt(tokens, vocab, special, mask_id, rate, rng):
    if rate != rate or rate < 0 or rate > 1:
        raise ValueError("no probability")
    words = np.setdiff1d(np.arange(vocab), np.append(special, mask_id))
    draw = np.where(np.isin(tokens, words), rng.random(tokens.shape), 2.0)
    other = words[np.floor(rng.random(tokens.shape) * len(words)).astype(int)]
    read = np.select([draw < 0.8 * rate, draw < 0.9 * rate], [np.full_like(tokens, mask_id), other], tokens)
    return read, np.select([draw < rate], [tokens], -100)
