"""Adds at index -1 for an empty place: NumPy counts it for the last item of the catalogue."""

import numpy as np

QUESTION = "beyond_accuracy"
REJECTED_BY = "test_an_empty_place_is_no_item"


def beyond_accuracy(lists, targets, item_counts, tail=10):
    places = np.zeros(len(item_counts), int)
    np.add.at(places, lists.ravel(), 1)
    apart = np.abs(places[:, None] - places).sum()
    gini = apart / (2 * len(places) * places.sum()) if places.sum() else np.nan
    wanted = item_counts[targets] <= tail
    found = (lists == targets[:, None]).any(axis=1)
    recall = found[wanted].mean() if wanted.any() else np.nan
    return {"coverage": (places > 0).mean(), "gini": gini, "tail_recall": recall}
