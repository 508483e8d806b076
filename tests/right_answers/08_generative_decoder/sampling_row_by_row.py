"""Row by row with a Python loop for the nucleus; minus infinity for what is cut, and one softmax at the end."""

import numpy as np

QUESTION = "sampling_distribution"


def sampling_distribution(logits, temperature=1.0, top_k=None, top_p=None):
    if np.isnan(temperature) or temperature < 0:
        raise ValueError("temperature")
    if top_k is not None and top_k <= 0:
        raise ValueError("top_k")
    if top_p is not None and (np.isnan(top_p) or top_p <= 0 or top_p > 1):
        raise ValueError("top_p")
    out = np.zeros(logits.shape, logits.dtype)
    for place in np.ndindex(*logits.shape[:-1]):
        row = logits[place].astype(np.float64)
        if np.all(np.isneginf(row)):
            raise ValueError("nothing is allowed")
        if temperature == 0:
            out[(*place, int(row.argmax()))] = 1
            continue
        row = (row - row.max()) / max(temperature, 1e-300)
        order = sorted(range(len(row)), key=lambda n: (-row[n], n))
        order = [n for n in order if row[n] > -np.inf][:top_k]
        odds = np.exp(row[order])
        odds /= odds.sum()
        if top_p is not None and top_p != 1:
            stay, reached = 0, 0.0
            for chance in odds:
                stay, reached = stay + 1, reached + chance
                if reached >= top_p:
                    break
            order, odds = order[:stay], odds[:stay] / odds[:stay].sum()
        for n, chance in zip(order, odds, strict=True):
            out[(*place, n)] = chance
    return out
