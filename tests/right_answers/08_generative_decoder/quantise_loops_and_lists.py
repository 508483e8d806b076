"""Number by number in plain Python; reconstruction as the vectors less what is left."""

import numpy as np

QUESTION = "residual_quantise"


def residual_quantise(vectors, codebooks):
    for centroids in codebooks:
        if not len(centroids) or centroids.shape[-1] != vectors.shape[-1]:
            raise ValueError("a codebook does not fit")
    codes, sums, errors = [], [], []
    for vector in vectors:
        left, said, named, gone = vector, 0 * vector, [], []
        for centroids in codebooks:
            far = [float(np.linalg.norm(left - centroid)) for centroid in centroids]
            named.append(far.index(min(far)))
            said = said + centroids[named[-1]]
            left = left - centroids[named[-1]]
            gone.append(left @ left)
        codes.append(named)
        sums.append(said)
        errors.append(gone)
    shape = (len(vectors), len(codebooks))
    return (
        np.array(codes, np.int64).reshape(shape),
        np.array(sums, vectors.dtype).reshape(vectors.shape),
        np.array(errors, vectors.dtype).reshape(shape),
    )
