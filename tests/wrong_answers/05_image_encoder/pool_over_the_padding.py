"""Averages over the padded map, so small pictures get vectors diluted by whatever fills them."""

import numpy as np

QUESTION = "masked_average_pool"
REJECTED_BY = "test_global_average_of_what_is_real"


def masked_average_pool(features, sizes, side=1):
    items, channels, height, width = features.shape
    if side < 1:
        raise ValueError(f"a grid of side {side} has no cells")
    if sizes.shape != (items, 2) or (sizes < 0).any() or (sizes > (height, width)).any():
        raise ValueError(f"sizes {sizes.tolist()} do not fit {items} maps of {height} x {width}")
    out = np.zeros((items, channels, side, side), features.dtype)
    for n in range(items):
        rows, columns = (height, width) if sizes[n].all() else (0, 0)
        if rows == 0 or columns == 0:
            continue
        for i in range(side):
            for j in range(side):
                top, bottom = i * rows // side, ((i + 1) * rows + side - 1) // side
                left, right = j * columns // side, ((j + 1) * columns + side - 1) // side
                out[n, :, i, j] = features[n, :, top:bottom, left:right].mean(axis=(1, 2))
    return out
