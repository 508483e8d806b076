"""Token by token in plain Python, drawing only where a word is; returns lists."""

import numpy as np

QUESTION = "corrupt"


def corrupt(tokens, vocab, special, mask_id, rate, rng):
    if not (rate >= 0 and rate <= 1):
        raise ValueError(f"rate {rate} is no probability")
    words = sorted(set(range(vocab)) - set(special) - {mask_id})

    def one(token):
        if token not in words_set or rng.random() >= rate:
            return token, -100
        dice = rng.integers(10)
        if dice < 8:
            return mask_id, token
        return (words[rng.integers(len(words))] if dice == 8 else token), token

    words_set = set(words)
    pairs = [one(token) for token in tokens.ravel().tolist()]
    read = np.array([left for left, _ in pairs], dtype=np.int32).reshape(tokens.shape)
    labels = np.array([right for _, right in pairs], dtype=np.int32).reshape(tokens.shape)
    return [read, labels]
