"""No sort of the scores: the place of each item is one more than the number of items that stand before it."""

import numpy as np

QUESTION = "ranking_metrics"


def ranking_metrics(scores, relevance, k):
    if k < 1:
        raise ValueError(f"k is {k}")
    if scores.shape != relevance.shape:
        raise ValueError("shapes differ")
    if np.isnan(scores).any():
        raise ValueError("NaN")
    asked = relevance.max(axis=1, initial=0) > 0
    scores, relevance = scores[asked], relevance[asked].astype(float)
    if not len(scores):
        return {"hit_rate": np.nan, "mrr": np.nan, "ndcg": np.nan}

    def places(*keys):
        before = np.zeros((len(scores), scores.shape[1], scores.shape[1]), bool)
        same = ~before
        for key in (*keys, -np.arange(scores.shape[1]) + 0 * relevance):
            before |= same & (key[:, None, :] > key[:, :, None])
            same &= key[:, None, :] == key[:, :, None]
        return 1 + before.sum(axis=2)

    def dcg(place):
        return np.where(place <= k, (2**relevance - 1) / np.log2(1 + place), 0).sum(axis=1)

    mine, ideal = places(scores, -relevance), places(relevance)
    first = np.where(relevance > 0, mine, np.inf).min(axis=1)
    values = (first <= k), np.where(first <= k, 1 / first, 0), dcg(mine) / dcg(ideal)
    return dict(zip(("hit_rate", "mrr", "ndcg"), (float(np.mean(v)) for v in values), strict=True))
