"""Gini as one less twice the area under the Lorenz curve, by trapezoids; float32 at the end."""

import numpy as np

QUESTION = "beyond_accuracy"


def beyond_accuracy(lists, targets, item_counts, tail=10):
    places = np.zeros(len(item_counts))
    np.add.at(places, lists[lists != -1], 1)
    nan = np.float32("nan")
    gini = nan
    if places.any():
        curve = np.append(0, np.cumsum(np.sort(places))) / places.sum()
        gini = np.float32(1 - (curve[1:] + curve[:-1]).mean())
    rows = np.flatnonzero(item_counts[targets] <= tail)
    found = [targets[row] in lists[row] for row in rows]
    return {"gini": gini, "tail_recall": np.float32(np.mean(found)) if found else nan, "coverage": np.mean(places > 0)}
