"""Keeps cases without a relevant item as zeros, so that the number measures how many of those there are."""

import numpy as np

QUESTION = "ranking_metrics"
REJECTED_BY = "test_cases_without_a_relevant_item_are_left_out"


def ranking_metrics(scores, relevance, k):
    if k < 1 or scores.shape != relevance.shape or np.isnan(scores).any():
        raise ValueError("expected k of 1 or more, equal shapes, no NaN")
    if not len(scores):
        return dict.fromkeys(("hit_rate", "mrr", "ndcg"), np.nan)
    order = np.lexsort((relevance, -scores))
    ranked = np.take_along_axis(relevance, order, axis=1)[:, :k]
    ideal = np.sort(relevance, axis=1)[:, ::-1][:, :k]
    found = ranked > 0
    mrr = np.where(found.any(axis=1), 1 / (1 + found.argmax(axis=1)), 0)
    dcg = ((2.0**ranked - 1) / np.log2(2 + np.arange(ranked.shape[1]))).sum(axis=1)
    best = ((2.0**ideal - 1) / np.log2(2 + np.arange(ideal.shape[1]))).sum(axis=1)
    ndcg = dcg / np.where(best > 0, best, 1)
    return {"hit_rate": found.any(axis=1).mean(), "mrr": mrr.mean(), "ndcg": ndcg.mean()}
