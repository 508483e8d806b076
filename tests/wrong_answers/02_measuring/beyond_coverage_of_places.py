"""Divides the distinct items by the number of places, which measures diversity and not coverage."""

import numpy as np

QUESTION = "beyond_accuracy"
REJECTED_BY = "test_gini_counts_what_is_never_shown"


def beyond_accuracy(lists, targets, item_counts, tail=10):
    places = np.bincount(lists[lists >= 0], minlength=len(item_counts))
    apart = np.abs(places[:, None] - places).sum()
    gini = apart / (2 * len(places) * places.sum()) if places.sum() else np.nan
    wanted = item_counts[targets] <= tail
    found = (lists == targets[:, None]).any(axis=1)
    recall = found[wanted].mean() if wanted.any() else np.nan
    return {"coverage": (places > 0).sum() / max((lists >= 0).sum(), 1), "gini": gini, "tail_recall": recall}
