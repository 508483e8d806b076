"""The mean squared error over the dimensions in place of the squared length."""

import numpy as np

QUESTION = "residual_quantise"
REJECTED_BY = "test_errors_level_by_level"


def residual_quantise(vectors, codebooks):
    codes = np.zeros((len(vectors), len(codebooks)), np.int64)
    errors = np.zeros((len(vectors), len(codebooks)), vectors.dtype)
    reconstruction, residual = np.zeros_like(vectors), vectors
    for level, centroids in enumerate(codebooks):
        if len(centroids) == 0 or centroids.shape[1] != vectors.shape[1]:
            raise ValueError(f"level {level}: a codebook of shape {centroids.shape} does not fit")
        distances = ((residual[:, None] - centroids) ** 2).sum(axis=2)
        codes[:, level] = distances.argmin(axis=1)
        reconstruction = reconstruction + centroids[codes[:, level]]
        residual = residual - centroids[codes[:, level]]
        errors[:, level] = (residual**2).mean(axis=1)
    return codes, reconstruction, errors
