"""The model beside its baselines: everybody is asked the same cases by one harness.

The opponent that counts is the best one, found on the very cases that are reported: a choice that
favours the opponent. A difference is believed only if its paired interval excludes zero.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float32

from m6rec_mini.catalog import Catalog, History
from m6rec_mini.datasets.world import World, oracle_scores
from m6rec_mini.evaluation import Evaluation, Interval, Ranker, Split, bootstrap_mean, evaluate, paired_bootstrap
from m6rec_mini.recommender import Recommender

MODEL, ORACLE = "M6-Rec Mini", "oracle"
WITH_INTERVAL = ("hr@10", "ndcg@10")


class Trained:
    """A trained recommender as the harness wants it. Items that it does not know are ranked by content."""

    name = MODEL

    def __init__(self, recommender: Recommender, catalog: Catalog) -> None:
        self.recommender = recommender.with_items(catalog.items)
        self.rows = np.array([self.recommender.index[item.id] for item in catalog.items], np.int64)

    def fit(self, split: Split) -> Trained:  # noqa: ARG002
        """Nothing is left to fit."""
        return self

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "cases items"]:
        """Columns as in the catalog, whatever the order in which the model keeps its items."""
        known = [History(self.rows[h.items], h.actions, h.times) for h in histories]
        return self.recommender.scores(known)[:, self.rows]


@dataclass(frozen=True, eq=False)
class Row:
    """One ranker's result, how long its fit took, and what a reader must know to judge it fairly."""

    evaluation: Evaluation
    seconds: float
    note: str = ""

    @property
    def name(self) -> str:
        """How tables call it."""
        return self.evaluation.name

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Bootstrap intervals of the metrics in `WITH_INTERVAL`."""
        return {metric: bootstrap_mean(self.evaluation.per_case(metric)) for metric in WITH_INTERVAL}

    @cached_property
    def summary(self) -> dict[str, float]:
        """Every metric of the harness."""
        return self.evaluation.summary()


@dataclass(frozen=True, eq=False)
class Contest:
    """The model, its opponents, and, where the truth is known, what is possible at all."""

    model: Row
    baselines: Sequence[Row]
    ceiling: Row | None = None

    @property
    def rows(self) -> list[Row]:
        """As a table shows them: the model, the baselines, the ceiling."""
        return [self.model, *self.baselines, *([self.ceiling] if self.ceiling else [])]

    def best(self, metric: str) -> Row:
        """The baseline that is highest in this metric on the reported cases."""
        return max(self.baselines, key=lambda row: row.evaluation.mean(metric))

    @cached_property
    def differences(self) -> dict[str, Interval]:
        """The model minus the best baseline of each metric in `WITH_INTERVAL`, paired by case."""
        model = self.model.evaluation
        return {
            metric: paired_bootstrap(model.per_case(metric), self.best(metric).evaluation.per_case(metric))
            for metric in WITH_INTERVAL
        }

    @property
    def verdict(self) -> str:
        """The result in two sentences, which claim no more than the interval does."""
        best, gap = self.best("hr@10"), self.differences["hr@10"]
        judged = "within chance"
        if gap.excludes_zero:
            judged = "more than chance" if gap.mean > 0 else "a loss beyond chance"
        return (
            f"{MODEL} has the item that came next among its first ten for {self.model.evaluation.mean('hr@10'):.1%} "
            f"of {len(self.model.evaluation.ranks):,} users; the best baseline, {best.name}, for "
            f"{best.evaluation.mean('hr@10'):.1%}. The difference of {signed(100 * gap.mean, 1)} points "
            f"(95% interval {signed(100 * gap.low, 1)} to {signed(100 * gap.high, 1)}) is {judged}."
        )

    @property
    def gaps(self) -> str:
        """Each difference with its interval, and to whom it is, in one sentence."""
        return "Model minus the best baseline, paired by user, with 95% intervals: " + "; ".join(
            f"{metric.upper()} {signed(gap.mean)} [{signed(gap.low)}, {signed(gap.high)}] to {self.best(metric).name}"
            for metric, gap in self.differences.items()
        )


def signed(value: float, digits: int = 3) -> str:
    """A difference as books print it, with a real minus sign."""
    return f"{value:+.{digits}f}".replace("-", "−")


def judge(ranker: Ranker, split: Split, note: str = "") -> Row:
    """Fit on training, tune on validation, report on test."""
    start = time.perf_counter()
    ranker.fit(split)
    seconds = time.perf_counter() - start
    return Row(evaluate(ranker, split.test, split.train), seconds, note)


def judge_oracle(world: World, split: Split) -> Row:
    """The best that anybody could do in this world, who knows its truth but not its dice."""
    evaluation = evaluate(_oracle(world, split), split.test, split.train)
    return Row(replace(evaluation, name=ORACLE), 0.0, "knows the truth of this world: what is possible, no opponent")


def _oracle(world: World, split: Split) -> Float[np.ndarray, "cases items"]:
    log = world.catalog.interactions
    last = log.times[log.bounds[split.test.users + 1] - 1]  # when the event happened that is asked for
    rows = [
        oracle_scores(world.truth, world.catalog, int(user), int(now))
        for user, now in zip(split.test.users, last, strict=True)
    ]
    return np.stack(rows)
