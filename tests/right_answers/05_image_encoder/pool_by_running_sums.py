"""Cells as differences of a table of running sums, in double precision."""

import numpy as np

QUESTION = "masked_average_pool"


def masked_average_pool(features, sizes, side=1):
    if side <= 0:
        raise ValueError("no cells")
    if sizes.shape != (features.shape[0], 2):
        raise ValueError("a size for each item, please")
    for size in sizes:
        if not all(0 <= real <= most for real, most in zip(size, features.shape[2:])):
            raise ValueError("a size outside the map")
    results = []
    for item, (rows, columns) in zip(features, sizes.tolist()):
        table = np.zeros((len(item), rows + 1, columns + 1))
        table[:, 1:, 1:] = item[:, :rows, :columns].astype(float).cumsum(1).cumsum(2)
        grid = np.zeros((len(item), side, side))
        for i in range(side):
            for j in range(side):
                t, b = i * rows // side, -(-(i + 1) * rows // side)
                w, e = j * columns // side, -(-(j + 1) * columns // side)
                if b > t and e > w:
                    inside = table[:, b, e] - table[:, t, e] - table[:, b, w] + table[:, t, w]
                    grid[:, i, j] = inside / ((b - t) * (e - w))
        results.append(grid)
    return np.array(results, features.dtype).reshape(len(features), features.shape[1], side, side)
