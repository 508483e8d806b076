"""Plain Python, one case after the other; floats of Python and a dict with more than was asked for."""

import math

QUESTION = "ranking_metrics"


def ranking_metrics(scores, relevance, k):
    if k < 1 or scores.shape != relevance.shape:
        raise ValueError("k or shapes")
    hits, firsts, gains = [], [], []
    for row, grades in zip(scores.tolist(), relevance.tolist(), strict=True):
        if any(math.isnan(score) for score in row):
            raise ValueError("NaN")
        if not any(grades):
            continue
        shown = [grade for _, grade in sorted(zip(row, grades, strict=True), key=lambda pair: (-pair[0], pair[1]))][:k]
        places = [place for place, grade in enumerate(shown, 1) if grade]
        hits.append(1 if places else 0)
        firsts.append(1 / places[0] if places else 0)
        best = sorted(grades, reverse=True)[:k]
        dcg, ideal = (sum((2**g - 1) / math.log2(n + 1) for n, g in enumerate(x, 1)) for x in (shown, best))
        gains.append(dcg / ideal)
    n = len(hits)
    names = {"hit_rate": hits, "mrr": firsts, "ndcg": gains}
    return {"cases": n, **{name: sum(values) / n if n else math.nan for name, values in names.items()}}
