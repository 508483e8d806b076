"""Differences squared by einsum, columns stacked at the end, a list for the three results."""

import numpy as np

QUESTION = "residual_quantise"


def residual_quantise(vectors, codebooks):
    columns, left, said = [], vectors.copy(), np.zeros(vectors.shape, vectors.dtype)
    lost = []
    for centroids in codebooks:
        if centroids.ndim != 2 or centroids.shape[0] < 1 or centroids.shape[1] != vectors.shape[1]:
            raise ValueError(f"codebook of shape {centroids.shape}")
        difference = left[:, None, :] - centroids[None]
        far = np.einsum("nkd,nkd->nk", difference, difference)
        best = far.argmin(1)
        rows = np.arange(len(left))
        columns.append(best)
        lost.append(far[rows, best])
        left = difference[rows, best]
        said += np.take(centroids, best, axis=0)
    if not columns:
        return [np.zeros((len(vectors), 0), np.int64), said, np.zeros((len(vectors), 0), vectors.dtype)]
    return [np.stack(columns, 1).astype(np.int64), said, np.stack(lost, 1)]
