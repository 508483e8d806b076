"""A Counter and sets; Gini from sorted counts with weights from 1; whole numbers where they are whole."""

import math
from collections import Counter

QUESTION = "beyond_accuracy"


def beyond_accuracy(lists, targets, item_counts, tail=10):
    rows, wanted, counts = lists.tolist(), targets.tolist(), item_counts.tolist()
    shown = Counter(item for row in rows for item in row if item >= 0)
    n, total = len(counts), sum(shown.values())
    places = sorted(shown.get(item, 0) for item in range(n))
    weighted = sum(place * rank for rank, place in enumerate(places, 1))
    gini = 2 * weighted / (n * total) - (n + 1) / n if total else math.nan
    found = [target in set(row) for row, target in zip(rows, wanted, strict=True) if counts[target] <= tail]
    recall = sum(found) / len(found) if found else math.nan
    return {"coverage": len(shown) / n, "gini": max(gini, 0), "tail_recall": recall}
