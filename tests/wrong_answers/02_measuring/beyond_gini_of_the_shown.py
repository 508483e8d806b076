"""Takes Gini over the items that were recommended at all: a recommender of ten items to all looks perfectly fair."""

import numpy as np

QUESTION = "beyond_accuracy"
REJECTED_BY = "test_gini_counts_what_is_never_shown"


def beyond_accuracy(lists, targets, item_counts, tail=10):
    places = np.bincount(lists[lists >= 0], minlength=len(item_counts))
    apart = np.abs(np.subtract.outer(places[places > 0], places[places > 0])).sum()
    gini = apart / (2 * (places > 0).sum() * places.sum()) if places.sum() else np.nan
    wanted = item_counts[targets] <= tail
    found = (lists == targets[:, None]).any(axis=1)
    recall = found[wanted].mean() if wanted.any() else np.nan
    return {"coverage": (places > 0).mean(), "gini": gini, "tail_recall": recall}
