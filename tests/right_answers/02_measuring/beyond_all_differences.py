"""Gini by its definition, all differences at once."""

import numpy as np

QUESTION = "beyond_accuracy"


def beyond_accuracy(lists, targets, item_counts, tail=10):
    places = np.bincount(lists[lists >= 0], minlength=len(item_counts))
    apart = np.abs(places[:, None] - places).sum()
    gini = apart / (2 * len(places) * places.sum()) if places.sum() else np.nan
    wanted = item_counts[targets] <= tail
    found = (lists == targets[:, None]).any(axis=1)
    recall = found[wanted].mean() if wanted.any() else np.nan
    return {"coverage": (places > 0).mean(), "gini": gini, "tail_recall": recall}
