"""Each axis as a matrix of shares: rows times map times columns, after the padding was cut off."""

import numpy as np

QUESTION = "masked_average_pool"


def masked_average_pool(features, sizes, side=1):
    def shares(real, dtype):
        starts, ends = np.arange(side) * real // side, -(-np.arange(1, side + 1) * real // side)
        places = np.arange(real)
        inside = (places >= starts[:, None]) & (places < ends[:, None])
        return (inside / inside.sum(axis=1, keepdims=True)).astype(dtype)

    if side < 1 or np.shape(sizes) != (len(features), 2):
        raise ValueError("the grid has no cells, or sizes have another shape")
    if np.any(np.asarray(sizes) < 0) or np.any(np.asarray(sizes) > features.shape[2:]):
        raise ValueError("a size outside the map")
    found = np.zeros(features.shape[:2] + (side, side), features.dtype)
    for out, item, (rows, columns) in zip(found, features, sizes):
        if rows * columns > 0:
            out[:] = shares(rows, features.dtype) @ item[:, :rows, :columns] @ shares(columns, features.dtype).T
    return found
