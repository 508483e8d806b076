"""Returns 0 where nothing can be judged: no tail case looks like a tail that is never reached."""

import numpy as np

QUESTION = "beyond_accuracy"
REJECTED_BY = "test_corners"


def beyond_accuracy(lists, targets, item_counts, tail=10):
    places = np.bincount(lists[lists >= 0], minlength=len(item_counts))
    apart = np.abs(places[:, None] - places).sum()
    gini = apart / (2 * len(places) * places.sum()) if places.sum() else 0.0
    wanted = item_counts[targets] <= tail
    found = (lists == targets[:, None]).any(axis=1)
    recall = found[wanted].mean() if wanted.any() else 0.0
    return {"coverage": (places > 0).mean(), "gini": gini, "tail_recall": recall}
