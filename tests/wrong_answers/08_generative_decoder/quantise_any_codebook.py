"""No check: a codebook of width 1 broadcasts, and nobody notices."""

import numpy as np

QUESTION = "residual_quantise"
REJECTED_BY = "test_codebooks_that_do_not_fit_are_refused"


def residual_quantise(vectors, codebooks):
    codes = np.zeros((len(vectors), len(codebooks)), np.int64)
    errors = np.zeros((len(vectors), len(codebooks)), vectors.dtype)
    reconstruction, residual = np.zeros_like(vectors), vectors
    for level, centroids in enumerate(codebooks):
        if len(centroids) == 0:
            raise ValueError(f"level {level}: a codebook of shape {centroids.shape} does not fit")
        distances = ((residual[:, None] - centroids) ** 2).sum(axis=2)
        codes[:, level] = distances.argmin(axis=1)
        reconstruction = reconstruction + centroids[codes[:, level]]
        residual = residual - centroids[codes[:, level]]
        errors[:, level] = (residual**2).sum(axis=1)
    return codes, reconstruction, errors
