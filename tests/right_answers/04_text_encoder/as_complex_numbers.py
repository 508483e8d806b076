"""Each pair is one complex number, and a turn is one product; as in Llama's own code."""

import numpy as np

QUESTION = "rotary"


def rotary(x, positions, base=10_000.0):
    if x.shape[-1] % 2:
        raise ValueError("dim must be even")
    numbers = x[..., ::2].astype(np.float64) + 1j * x[..., 1::2]
    speeds = np.exp(-np.log(base) * np.arange(x.shape[-1] // 2) * 2 / x.shape[-1])
    spun = numbers * np.exp(1j * np.multiply.outer(np.asarray(positions, float), speeds))
    return np.stack([spun.real, spun.imag], axis=-1).reshape(x.shape).astype(x.dtype)
