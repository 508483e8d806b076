"""Cells of `rows // side` rows: what does not divide falls off at the end."""

import numpy as np

QUESTION = "masked_average_pool"
REJECTED_BY = "test_one_map_by_hand"


def masked_average_pool(features, sizes, side=1):
    items, channels, height, width = features.shape
    if side < 1:
        raise ValueError(f"a grid of side {side} has no cells")
    if sizes.shape != (items, 2) or (sizes < 0).any() or (sizes > (height, width)).any():
        raise ValueError(f"sizes {sizes.tolist()} do not fit {items} maps of {height} x {width}")
    out = np.zeros((items, channels, side, side), features.dtype)
    for n in range(items):
        rows, columns = int(sizes[n, 0]), int(sizes[n, 1])
        if rows == 0 or columns == 0:
            continue
        for i in range(side):
            for j in range(side):
                top, bottom = i * max(rows // side, 1), (i + 1) * max(rows // side, 1)
                left, right = j * max(columns // side, 1), (j + 1) * max(columns // side, 1)
                out[n, :, i, j] = features[n, :, top:bottom, left:right].mean(axis=(1, 2))
    return out
