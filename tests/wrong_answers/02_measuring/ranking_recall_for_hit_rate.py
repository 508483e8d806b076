"""Confuses hit rate with recall: the share of the relevant items that were found."""

import numpy as np

QUESTION = "ranking_metrics"
REJECTED_BY = "test_the_ideal_stops_at_k"


def ranking_metrics(scores, relevance, k):
    if k < 1 or scores.shape != relevance.shape or np.isnan(scores).any():
        raise ValueError("expected k of 1 or more, equal shapes, no NaN")
    asked = (relevance > 0).any(axis=1)
    if not asked.any():
        return dict.fromkeys(("hit_rate", "mrr", "ndcg"), np.nan)
    scores, relevance = scores[asked], relevance[asked]
    order = np.lexsort((relevance, -scores))
    ranked = np.take_along_axis(relevance, order, axis=1)[:, :k]
    ideal = np.sort(relevance, axis=1)[:, ::-1][:, :k]
    found = ranked > 0
    mrr = np.where(found.any(axis=1), 1 / (1 + found.argmax(axis=1)), 0)
    dcg = ((2.0**ranked - 1) / np.log2(2 + np.arange(ranked.shape[1]))).sum(axis=1)
    best = ((2.0**ideal - 1) / np.log2(2 + np.arange(ideal.shape[1]))).sum(axis=1)
    ndcg = dcg / best
    return {
        "hit_rate": (found.sum(axis=1) / (relevance > 0).sum(axis=1)).mean(),
        "mrr": mrr.mean(),
        "ndcg": ndcg.mean(),
    }
