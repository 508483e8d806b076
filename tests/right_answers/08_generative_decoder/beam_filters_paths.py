"""No table: each round looks through all valid paths for those that begin with an open one. NumPy scalars, tuples."""

import numpy as np

QUESTION = "beam_search"


def beam_search(step, valid, width, alpha=0.0):
    if width < 1:
        raise ValueError("width")
    paths = [tuple(sequence) + (0,) for sequence in valid]
    for path in paths:
        if min(path[:-1]) < 1 or max(path) >= step.shape[0]:
            raise ValueError("no such token")
    kept, done, n = {(): np.float64(0)}, {}, 0
    while kept:
        n += 1
        grown = {}
        for path in paths:
            if len(path) >= n and path[: n - 1] in kept:
                before = path[n - 2] if n > 1 else 0
                grown[path[:n]] = kept[path[: n - 1]] + step[before, path[n - 1]]
        best = sorted((-total, path) for path, total in grown.items() if np.isfinite(total))[:width]
        done.update({path: -total for total, path in best if path[-1] == 0})
        kept = {path: -total for total, path in best if path[-1] != 0}
    ranked = sorted((-total / np.power(float(len(path)), alpha), path) for path, total in done.items())
    return tuple((path[:-1], -score) for score, path in ranked[:width])
