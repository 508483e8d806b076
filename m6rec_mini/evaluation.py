"""How good is a ranking? Splits, full-ranking metrics, and how sure we may be of a difference.

The one idea: every ranker answers the same question on the same cases, which is "here is a history,
score every item", and all that is judged is the rank of the event that came next. Items already in
the history are masked, the whole catalogue competes (sampled candidates reorder rankers: Krichene
and Rendle 2020), and a tie counts against the target, so that a constant scorer earns nothing.
NDCG: Järvelin and Kekäläinen 2002, with one relevant item; bootstrap: Efron and Tibshirani 1993.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from m6rec_mini.catalog import History, Interactions

TAIL = 10  # an item with at most so many training events belongs to the long tail


# ── Splits ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Cases:
    """What a ranker is asked, one row a case: which item came next after this history?

    `tied` is true where the target has the same timestamp as the event before it: the log does not
    say which of the two came first, and an order by item id can be learnt, so such cases are
    reported apart.
    """

    users: Int64[np.ndarray, " cases"]
    targets: Int64[np.ndarray, " cases"]
    histories: Sequence[History]
    tied: Bool[np.ndarray, " cases"]

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: Int64[np.ndarray, " chosen"]) -> Cases:
        """The given cases, in that order."""
        return Cases(self.users[rows], self.targets[rows], [self.histories[r] for r in rows], self.tied[rows])


@dataclass(frozen=True, eq=False)
class Split:
    """Events to learn from, cases to tune on, cases to report."""

    train: Interactions
    validation: Cases
    test: Cases


def leave_one_out(interactions: Interactions) -> Split:
    """Each user's last event is a test case, the one before it validation, the rest is for training.

    A test history holds everything before the target, the validation event too. Users with fewer
    than three events only train.
    """
    last = interactions.bounds[1:] - 1
    last = last[np.diff(interactions.bounds) >= 3]
    held_out = np.zeros(len(interactions), bool)
    held_out[last] = held_out[last - 1] = True
    return Split(interactions.keep(~held_out), _cases(interactions, last - 1), _cases(interactions, last))


def global_time(interactions: Interactions, validation_share: float = 0.1, test_share: float = 0.1) -> Split:
    """Cut all users at the same two moments, so that nothing is learnt from anybody's future.

    Every event after a cut is a case if its user has done something before it, on either side of the
    cut; its history is all that came before. A user may so have many cases, which are not
    independent: average them with `per_user` before any bootstrap. Targets that training has never
    seen stay in: they are part of the problem. Raises ValueError if the shares leave nothing to train on.
    """
    if min(validation_share, test_share) <= 0 or validation_share + test_share >= 1:
        raise ValueError(f"shares {validation_share} and {test_share} must be positive and leave a rest for training")
    cuts = np.quantile(interactions.times, [1 - validation_share - test_share, 1 - test_share])
    period = np.searchsorted(cuts, interactions.times, side="right")  # 0 train, 1 validation, 2 test
    has_past = np.arange(len(interactions)) > interactions.bounds[interactions.users]
    validation, test = (np.flatnonzero((period == late) & has_past) for late in (1, 2))
    return Split(interactions.keep(period == 0), _cases(interactions, validation), _cases(interactions, test))


def hold_out_items(
    interactions: Interactions, share: float, rng: np.random.Generator
) -> tuple[Split, Int64[np.ndarray, " cold"]]:
    """Make a random share of the items *cold*: no event of theirs is in training or in any history.

    One test case per user who touched a cold item after a warm one: the last such event, asked with
    the warm events before it. The warm rest is split as in `leave_one_out`; its validation cases are
    for tuning, and its test events are left out of everything here. Returns the cold items, sorted.
    Raises ValueError if there would be no cold or no warm item.
    """
    count = round(share * interactions.num_items)
    if not 0 < count < interactions.num_items:
        raise ValueError(f"a share of {share} makes {count} of {interactions.num_items} items cold; give 0 < share < 1")
    cold = np.sort(rng.choice(interactions.num_items, count, replace=False)).astype(np.int64)
    is_warm = ~np.isin(interactions.items, cold)
    warm_before = np.concatenate([[0], np.cumsum(is_warm)])  # among the first n events
    has_past = warm_before[:-1] > warm_before[interactions.bounds[interactions.users]]
    rows = np.flatnonzero(~is_warm & has_past)
    last = rows[np.append(np.diff(interactions.users[rows]) > 0, True)] if len(rows) else rows
    warm = leave_one_out(interactions.keep(is_warm))
    return Split(warm.train, warm.validation, _cases(interactions, last, is_warm)), cold


def _cases(
    interactions: Interactions, rows: Int64[np.ndarray, " cases"], visible: Bool[np.ndarray, " events"] | None = None
) -> Cases:
    """Ask for the events at `rows`, each after its user's earlier (visible) events."""
    users = interactions.users[rows]
    histories = [interactions.history(int(user), int(row)) for user, row in zip(users, rows, strict=True)]
    if visible is not None:
        starts = interactions.bounds[users]
        shown = [visible[start:row] for start, row in zip(starts, rows, strict=True)]
        histories = [
            History(h.items[keep], h.actions[keep], h.times[keep]) for h, keep in zip(histories, shown, strict=True)
        ]
    ties = [len(h) > 0 and h.times[-1] == interactions.times[row] for h, row in zip(histories, rows, strict=True)]
    return Cases(users, interactions.items[rows], histories, np.array(ties, bool))


# ── Ranking ──────────────────────────────────────────────────────────────────────────────────────


@runtime_checkable
class Ranker(Protocol):
    """Whatever scores every item, given histories; higher is better."""

    @property
    def name(self) -> str:
        """How tables call it."""

    def fit(self, split: Split) -> Ranker:
        """Learn from `split.train`; choose settings on `split.validation`; never look at `split.test`."""

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "cases items"]:
        """A score for every item of the catalogue, seen or not."""


def target_ranks(
    scores: Float[np.ndarray, "cases items"],
    targets: Int64[np.ndarray, " cases"],
    histories: Sequence[History],
    candidates: Bool[np.ndarray, " items"] | None = None,
) -> Int64[np.ndarray, " cases"]:
    """Rank of each target, 1 is best, among candidates (all, if None) that its history does not hold.

    The target itself is never masked. Items that tie with it stand before it. Raises ValueError if
    a score is NaN (no order) or a target is not among the candidates.
    """
    _check_scores(scores)
    if candidates is not None and not candidates[targets].all():
        case = int(np.flatnonzero(~candidates[targets])[0])
        raise ValueError(f"case {case}: its target, item {targets[case]}, is not a candidate, so it can have no rank")
    rows = np.arange(len(targets))
    rivals = _allowed(scores.shape, histories, candidates)
    rivals[rows, targets] = False
    ahead = rivals & (scores >= scores[rows, targets][:, None])  # cases, items
    return np.asarray(1 + ahead.sum(axis=1), np.int64)


def top_items(
    scores: Float[np.ndarray, "cases items"],
    histories: Sequence[History],
    k: int,
    candidates: Bool[np.ndarray, " items"] | None = None,
) -> Int64[np.ndarray, "cases k"]:
    """The k best unseen candidates, best first, ties by lower index; -1 where there are not so many."""
    _check_scores(scores)
    allowed = _allowed(scores.shape, histories, candidates)
    finite = np.maximum(scores, np.finfo(scores.dtype).min)  # a score of -inf still beats what is masked
    best = np.argsort(-np.where(allowed, finite, -np.inf), axis=1, kind="stable")[:, :k]
    best = np.pad(best, ((0, 0), (0, k - best.shape[1])))  # a catalogue of fewer than k items
    picked = np.where(np.take_along_axis(allowed, best, axis=1), best, -1)
    picked[:, scores.shape[1] :] = -1
    return picked.astype(np.int64)


def _allowed(
    shape: tuple[int, ...], histories: Sequence[History], candidates: Bool[np.ndarray, " items"] | None
) -> Bool[np.ndarray, "cases items"]:
    allowed = np.ones(shape, bool) if candidates is None else np.tile(candidates, (shape[0], 1))
    for row, history in enumerate(histories):
        allowed[row, history.items] = False
    return allowed


def _check_scores(scores: Float[np.ndarray, "cases items"]) -> None:
    if np.isnan(scores).any():
        case, item = np.argwhere(np.isnan(scores))[0]
        raise ValueError(f"the score of item {item} in case {case} is NaN, which has no place in an order")


# ── Metrics ──────────────────────────────────────────────────────────────────────────────────────


def hit_rate(ranks: Int64[np.ndarray, " cases"], k: int) -> Float64[np.ndarray, " cases"]:
    """1 where the target is among the first k."""
    return (ranks <= k).astype(np.float64)


def ndcg(ranks: Int64[np.ndarray, " cases"], k: int) -> Float64[np.ndarray, " cases"]:
    """1 / log2(1 + rank) among the first k, else 0; with a single relevant item the ideal is 1."""
    return np.asarray(np.where(ranks <= k, 1 / np.log2(1 + ranks), 0.0))


def reciprocal_rank(ranks: Int64[np.ndarray, " cases"], k: int | None = None) -> Float64[np.ndarray, " cases"]:
    """1 / rank, or 0 beyond the first k."""
    return np.where(ranks <= (np.inf if k is None else k), 1 / ranks, 0.0)


def coverage(counts: Int64[np.ndarray, " items"]) -> float:
    """Share of the items that are recommended at all; `counts` says how often each is."""
    return float(np.mean(counts > 0))


def gini(counts: Int64[np.ndarray, " items"]) -> float:
    """How unequally recommendations fall on items: 0 all alike, towards 1 one item takes all; NaN if none."""
    n, total = len(counts), counts.sum()
    weights = 2 * np.arange(1, n + 1) - n - 1  # of the ascending counts: half the mean absolute difference
    return float(weights @ np.sort(counts) / (n * total)) if total else float("nan")


METRICS: dict[str, Callable[..., Float64[np.ndarray, " cases"]]] = {
    "hr": hit_rate,
    "ndcg": ndcg,
    "mrr": reciprocal_rank,
}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a ranker did on each case; all numbers of a table are means over it."""

    name: str
    users: Int64[np.ndarray, " cases"]
    ranks: Int64[np.ndarray, " cases"]  # of the target, 1 is best
    lists: Int64[np.ndarray, "cases k"]  # what was recommended, -1 for an empty place
    tied: Bool[np.ndarray, " cases"]
    tail: Bool[np.ndarray, " cases"]  # the target has at most TAIL training events
    candidates: Bool[np.ndarray, " items"]

    def per_case(self, metric: str) -> Float64[np.ndarray, " cases"]:
        """One value a case of "hr@10", "ndcg@10", "mrr", "mrr@10"…, any k; for paired comparisons."""
        name, _, k = metric.partition("@")
        if name not in METRICS or (k and not k.isdigit()) or (name != "mrr" and not k):
            raise ValueError(f"metric {metric!r} is unknown; expected mrr or one of {', '.join(METRICS)} with @k")
        return METRICS[name](self.ranks, *([int(k)] if k else []))

    def mean(self, metric: str, where: Bool[np.ndarray, " cases"] | None = None) -> float:
        """Mean over all cases, or over those where `where` is true; NaN if there are none."""
        values = self.per_case(metric) if where is None else self.per_case(metric)[where]
        return float(values.mean()) if len(values) else float("nan")

    @property
    def item_counts(self) -> Int64[np.ndarray, " candidates"]:
        """How often each candidate is in a list."""
        counts: Int64[np.ndarray, " items"] = np.bincount(self.lists[self.lists >= 0], minlength=len(self.candidates))
        return np.asarray(counts[self.candidates])

    def summary(self) -> dict[str, float]:
        """The row of a table: accuracy, then beyond accuracy, then the slices that mislead if unsaid."""
        k = self.lists.shape[1]
        row = {metric: self.mean(metric) for metric in (f"hr@{k}", f"ndcg@{k}", f"mrr@{k}", "mrr", "hr@50")}
        row |= {f"coverage@{k}": coverage(self.item_counts), f"gini@{k}": gini(self.item_counts)}
        row |= {f"tail hr@{at}": self.mean(f"hr@{at}", self.tail) for at in (k, 50)}
        return row | {
            f"untied hr@{k}": self.mean(f"hr@{k}", ~self.tied),
            f"tied hr@{k}": self.mean(f"hr@{k}", self.tied),
        }


def evaluate(
    ranker: Ranker | Float[np.ndarray, "cases items"],
    cases: Cases,
    train: Interactions,
    k: int = 10,
    candidates: Bool[np.ndarray, " items"] | None = None,
    batch: int = 256,
) -> Evaluation:
    """Rank the whole catalogue (or `candidates`) for each case, `batch` cases at a time.

    `ranker` is fitted, or is a matrix of scores made elsewhere. `train` says how many items there
    are and which of them are tail. Memory stays at about batch x items numbers.
    """
    name = ranker.name if isinstance(ranker, Ranker) else "scores"
    ranks, lists = [np.zeros(0, np.int64)], [np.zeros((0, k), np.int64)]
    for start in range(0, len(cases), batch):
        rows = slice(start, start + batch)
        histories = cases.histories[rows]
        scores = ranker.scores(histories) if isinstance(ranker, Ranker) else ranker[rows]
        if scores.shape != (len(histories), train.num_items):
            raise ValueError(f"{name} gave scores of shape {scores.shape}; expected {len(histories), train.num_items}")
        ranks.append(target_ranks(scores, cases.targets[rows], histories, candidates))
        lists.append(top_items(scores, histories, k, candidates))
    tail = train.item_counts[cases.targets] <= TAIL
    everything = np.ones(train.num_items, bool) if candidates is None else candidates
    return Evaluation(name, cases.users, np.concatenate(ranks), np.concatenate(lists), cases.tied, tail, everything)


# ── Significance ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Interval:
    """A mean and the interval that holds 95% of its bootstrap repetitions."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """The difference is more than noise between cases."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def bootstrap_mean(values: Float64[np.ndarray, "*seeds cases"], samples: int = 2000, seed: int = 0) -> Interval:
    """Interval of a mean over cases, drawn again with replacement; several seeds are averaged first.

    Cases are what is drawn, so the interval speaks about other users, not about other seeds.
    """
    by_case = _mean_of_seeds(values)
    if not len(by_case):
        raise ValueError("there are no cases to draw from")
    rng = np.random.default_rng(seed)
    means = [by_case[rng.integers(len(by_case), size=len(by_case))].mean() for _ in range(samples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(by_case.mean()), float(low), float(high))


def paired_bootstrap(
    a: Float64[np.ndarray, "*seeds_a cases"],
    b: Float64[np.ndarray, "*seeds_b same_cases"],
    samples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of mean(a) - mean(b) on the same cases; each may have runs of several seeds.

    Pairing removes what makes cases hard for both, which is most of the variance.
    """
    a_by_case, b_by_case = _mean_of_seeds(a), _mean_of_seeds(b)
    if a_by_case.shape != b_by_case.shape:
        raise ValueError(f"{len(a_by_case)} cases against {len(b_by_case)}: pairs need the same cases, in order")
    return bootstrap_mean(a_by_case - b_by_case, samples, seed)


def _mean_of_seeds(values: Float64[np.ndarray, "*seeds cases"]) -> Float64[np.ndarray, " cases"]:
    return np.asarray(values.mean(axis=tuple(range(values.ndim - 1))))


def per_user(
    values: Float64[np.ndarray, " cases"], users: Int64[np.ndarray, " cases"]
) -> Float64[np.ndarray, " distinct_users"]:
    """Mean of each user's cases, so that whoever has many counts once and rows are independent."""
    _, row = np.unique(users, return_inverse=True)
    return np.bincount(row, weights=values) / np.bincount(row)
