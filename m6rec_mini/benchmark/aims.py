"""What the project set out to reach on movielens_trimodal, beside what it reached."""

from __future__ import annotations

import numpy as np

from m6rec_mini.benchmark.sections import chosen_penalty, tail_curve
from m6rec_mini.benchmark.tables import About, Results, Section, Table, difference, mean, number, signed
from m6rec_mini.contest import MODEL
from m6rec_mini.evaluation import Interval

MINUTES = 20  # of training


def aims_section(results: Results, about: About) -> Section | None:
    """Met or missed, one line each; only for the data set for which they were named."""
    if not about.trimodal:
        return None
    rows = [*_reached(results), *_beaten(results), *_tail(results), *_minutes(results)]
    return Section(f"Aims ({about.data})", [Table(["aim", "reached", ""], rows)])


def _line(aim: str, value: float, least: float) -> list[str]:
    verdict = "not measured" if np.isnan(value) else "met" if value >= least else "**missed**"
    return [f"{aim} ≥ {least:g}", number(value), verdict]


def _reached(results: Results) -> list[list[str]]:
    joined, cold = results.runs("model", "joined"), "HR@10 of cold items"
    return [
        _line("HR@10", mean(joined, "hr@10"), 0.21),
        _line("NDCG@10", mean(joined, "ndcg@10"), 0.11),
        _line("HR@10, the prototype's best", mean(joined, "hr@10"), 0.234),
        _line("NDCG@10, the prototype's best", mean(joined, "ndcg@10"), 0.128),
        _line(f"{cold}, with tags", mean(results.runs("cold, with tags", "cold: joined"), "hr@10"), 0.43),
        _line(f"{cold}, without tags", mean(results.runs("cold, everything", "cold: joined"), "hr@10"), 0.27),
        _line(f"{cold} among all, with tags", mean(results.runs("cold, with tags", "all: joined"), "hr@10"), 0.10),
        _line("Tail HR@50, no penalty", mean(joined, "hr@50", "tail"), 0.12),
    ]


def _beaten(results: Results) -> list[list[str]]:
    """Differences in HR@10 that must be more than noise."""
    tags, no_tags = "cold, with tags", "cold, everything"
    pairs: dict[str, Interval | None] = {
        f"{MODEL} above {name}": difference(results.runs("model", "joined"), results.runs("counting", row), "hr@10")
        for name, row in (("EASE + recency", "EASE + recency"), ("the prior alone", "EASE + Markov"))
    }
    for knn in ("content-kNN, words", "content-kNN, fused"):
        rows = [results.runs(tags, f"cold: {name}") for name in ("joined", knn)]
        pairs[f"Cold items, with tags: above {knn}"] = difference(rows[0], rows[1], "hr@10")
    shuffled = results.runs("cold, shuffled", "cold: joined")
    pairs["Cold items, without tags: above the shuffled control"] = difference(
        results.runs(no_tags, "cold: joined"), shuffled, "hr@10"
    )
    warm = [results.runs(tags, f"warm: {name}") for name in ("joined", "EASE + recency")]
    pairs["Warm items kept: the same model above EASE + recency"] = difference(warm[0], warm[1], "hr@10")
    return [
        [aim, signed(gap), "not measured" if gap is None else "met" if gap.low > 0 else "**missed**"]
        for aim, gap in pairs.items()
    ]


def _tail(results: Results) -> list[list[str]]:
    rows = []
    for reading in ("joined", "decoder"):
        curve = tail_curve(results, reading)
        if curve:
            chosen = chosen_penalty(results, reading)
            overall, tail = curve[chosen][:2]
            verdict = "met" if tail >= 0.06 and overall >= 0.18 else "**missed**"
            aim = f"Tail HR@10 ≥ 0.06 with HR@10 ≥ 0.18: {reading}, penalty {chosen:g} (chosen on validation)"
            rows.append([aim, f"{number(tail)} with {number(overall)}", verdict])
    return rows


def _minutes(results: Results) -> list[list[str]]:
    took = [sum(facts["seconds"].values()) / 60 for facts in results.facts("model")]
    if not took:
        return []
    verdict = "met" if max(took) <= MINUTES else "**missed**"
    return [[f"Training at most {MINUTES} minutes, one thread", f"{max(took):.1f} at most", verdict]]
