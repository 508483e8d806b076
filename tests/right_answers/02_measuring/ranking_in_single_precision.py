"""Two stable sorts, by grade and then by score, and float32 from there on."""

import numpy as np

QUESTION = "ranking_metrics"


def ranking_metrics(scores, relevance, k):
    if k < 1 or scores.shape != relevance.shape or np.isnan(scores).any():
        raise ValueError("k, shapes or NaN")
    totals, cases = np.zeros(3, np.float32), 0
    for row, grades in zip(scores, relevance, strict=True):
        if (grades > 0).any():
            by_grade = np.argsort(grades, kind="stable")
            order = by_grade[np.argsort(-row[by_grade], kind="stable")][:k]
            discount = 1 / np.log2(np.arange(2, len(order) + 2, dtype=np.float32))
            shown, best = grades[order], np.sort(grades)[::-1][:k]
            first = np.flatnonzero(shown)
            ndcg = (
                (np.exp2(shown.astype(np.float32)) - 1) @ discount / ((np.exp2(best.astype(np.float32)) - 1) @ discount)
            )
            totals += np.array([len(first) > 0, 1 / (1 + first[0]) if len(first) else 0, ndcg], np.float32)
            cases += 1
    means = totals / np.float32(cases) if cases else np.full(3, np.nan, np.float32)
    return {"hit_rate": means[0], "mrr": means[1], "ndcg": means[2]}
