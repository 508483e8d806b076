"""The largest dot product for the nearest: long centroids win, however far away they are."""

import numpy as np

QUESTION = "residual_quantise"
REJECTED_BY = "test_each_level_describes_the_residual"


def residual_quantise(vectors, codebooks):
    codes = np.zeros((len(vectors), len(codebooks)), np.int64)
    errors = np.zeros((len(vectors), len(codebooks)), vectors.dtype)
    reconstruction, residual = np.zeros_like(vectors), vectors
    for level, centroids in enumerate(codebooks):
        if len(centroids) == 0 or centroids.shape[1] != vectors.shape[1]:
            raise ValueError(f"level {level}: a codebook of shape {centroids.shape} does not fit")
        distances = -residual @ centroids.T
        codes[:, level] = distances.argmin(axis=1)
        reconstruction = reconstruction + centroids[codes[:, level]]
        residual = residual - centroids[codes[:, level]]
        errors[:, level] = (residual**2).sum(axis=1)
    return codes, reconstruction, errors
