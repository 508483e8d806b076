"""Splits, ranks and metrics: laws, values worked by hand, and scikit-learn and ranx as oracles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, top_k_accuracy_score

from m6rec_mini.catalog import EMPTY_HISTORY, History, Interactions
from m6rec_mini.evaluation import (
    Cases,
    Evaluation,
    coverage,
    evaluate,
    gini,
    global_time,
    hit_rate,
    hold_out_items,
    leave_one_out,
    ndcg,
    reciprocal_rank,
    target_ranks,
    top_items,
)


def int64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def log(*rows: tuple[int, int, int], items: int) -> Interactions:
    """A log from (user, item, time) rows."""
    users, things, times = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return Interactions.sort(users, things, np.zeros_like(users), times, int(users.max()) + 1, items)


def history(*items: int) -> History:
    return History(int64(*items), np.zeros(len(items), np.int64), np.arange(len(items)))


@st.composite
def logs(draw: st.DrawFn, unique: bool = False) -> Interactions:
    """Small logs with repeats and ties in time, of up to 8 users and 12 items."""
    seed, users, items = draw(st.integers(0, 10**6)), draw(st.integers(1, 8)), draw(st.integers(4, 12))
    rng = np.random.default_rng(seed)
    count = draw(st.integers(1, 60))
    rows = np.stack([rng.integers(users, size=count), rng.integers(items, size=count), rng.integers(20, size=count)], 1)
    if unique:  # nobody touches an item twice
        rows = rows[np.unique(rows[:, :2], axis=0, return_index=True)[1]]
    users_, items_, times = (np.ascontiguousarray(column) for column in rows.T)
    return Interactions.sort(users_, items_, np.zeros_like(users_), times, users, items)


@st.composite
def questions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[History]]:
    """Scores with ties, targets, and histories that do not hold the target."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    cases, items = draw(st.integers(1, 6)), draw(st.integers(4, 15))
    scores = rng.integers(-5, 5, size=(cases, items)).astype(np.float32)
    orders = [rng.permutation(items) for _ in range(cases)]
    targets = np.array([order[0] for order in orders])
    return scores, targets, [history(*order[1 : 1 + rng.integers(items - 2)].tolist()) for order in orders]


# ── Splits ───────────────────────────────────────────────────────────────────────────────────────


def triples(interactions: Interactions) -> list[tuple[int, int, int]]:
    return list(zip(*(x.tolist() for x in (interactions.users, interactions.items, interactions.times)), strict=True))


def test_leave_one_out_by_hand() -> None:
    split = leave_one_out(log((0, 3, 5), (0, 1, 1), (0, 2, 5), (0, 0, 5), (1, 1, 1), (1, 2, 2), items=4))
    assert triples(split.train) == [(0, 1, 1), (0, 3, 5), (1, 1, 1), (1, 2, 2)]  # user 1 is too short to be asked
    assert split.validation.targets.tolist() == [2]
    assert split.test.targets.tolist() == [0]
    assert split.validation.histories[0].items.tolist() == [1, 3]
    assert split.test.histories[0].items.tolist() == [1, 3, 2]  # ties in time stand as the log had them
    assert split.validation.tied.tolist() == split.test.tied.tolist() == [True]


@given(logs())
def test_leave_one_out_holds_every_event_once(interactions: Interactions) -> None:
    split = leave_one_out(interactions)
    assert split.validation.users.tolist() == split.test.users.tolist()
    held_out = len(split.validation) + len(split.test)
    assert len(split.train) + held_out == len(interactions)
    for n, user in enumerate(split.test.users):
        events = interactions.history(int(user)).items.tolist()
        trained = split.train.history(int(user)).items.tolist()
        asked = [split.validation.targets[n], split.test.targets[n]]
        assert [*trained, *asked] == events
        assert split.validation.histories[n].items.tolist() == trained
        assert split.test.histories[n].items.tolist() == events[:-1]


@given(logs(), st.integers(0, 5))
def test_leave_one_out_ignores_the_order_of_users_in_the_log(interactions: Interactions, seed: int) -> None:
    """Only the order within a user matters, so logs that interleave users differently agree."""
    keys = np.random.default_rng(seed).uniform(size=len(interactions))
    keys[np.argsort(interactions.users, kind="stable")] = keys  # any interleaving…
    for user in range(interactions.num_users):  # …that keeps each user's order
        rows = interactions.users == user
        keys[rows] = np.sort(keys[rows])
    order = np.argsort(keys)
    mixed = Interactions.sort(
        *(x[order] for x in (interactions.users, interactions.items, interactions.actions, interactions.times)),
        interactions.num_users,
        interactions.num_items,
    )
    one, other = leave_one_out(interactions), leave_one_out(mixed)
    assert one.test.targets.tolist() == other.test.targets.tolist()
    assert triples(one.train) == triples(other.train)


@given(logs())
def test_global_time_learns_nothing_from_the_future(interactions: Interactions) -> None:
    split = global_time(interactions, 0.2, 0.2)
    newest = split.train.times.max(initial=-1)
    for cases in (split.validation, split.test):
        for user, target, past in zip(cases.users, cases.targets, cases.histories, strict=True):
            assert len(past) > 0
            events = interactions.history(int(user))
            assert events.items[: len(past)].tolist() == past.items.tolist()
            assert events.items[len(past)] == target
            assert events.times[len(past)] > newest
    assert len(split.train) + len(split.validation) + len(split.test) <= len(interactions)


def test_global_time_by_hand() -> None:
    rows = [
        (0, 0, 1),
        (0, 1, 2),
        (0, 2, 3),
        (0, 3, 4),
        (1, 0, 5),
        (0, 4, 6),
        (1, 1, 7),
        (0, 5, 8),
        (2, 0, 9),
        (2, 1, 10),
    ]
    split = global_time(log(*rows, items=6), 0.2, 0.2)
    assert sorted(split.train.times.tolist()) == [1, 2, 3, 4, 5, 6]
    assert split.validation.targets.tolist() == [5, 1]  # users 0 and 1
    assert split.test.users.tolist() == [2]  # their first event is nobody's case, for it has no past
    assert split.test.histories[0].items.tolist() == [0]


@pytest.mark.parametrize("shares", [(0.0, 0.1), (0.1, -0.1), (0.5, 0.5)])
def test_global_time_rejects_shares_that_leave_nothing(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="leave a rest for training"):
        global_time(log((0, 0, 1), items=1), *shares)


@given(logs(), st.integers(0, 100))
def test_cold_items_are_nowhere_but_in_test_targets(interactions: Interactions, seed: int) -> None:
    split, cold = hold_out_items(interactions, 0.3, np.random.default_rng(seed))
    assert len(cold) == round(0.3 * interactions.num_items)
    warm_places = [split.train.items, split.validation.targets]
    warm_places += [h.items for cases in (split.validation, split.test) for h in cases.histories]
    assert not np.isin(np.concatenate(warm_places), cold).any()
    assert np.isin(split.test.targets, cold).all()
    assert len(set(split.test.users.tolist())) == len(split.test)
    for user, target, past in zip(split.test.users, split.test.targets, split.test.histories, strict=True):
        events = interactions.history(int(user)).items
        last = np.flatnonzero(np.isin(events, cold)).max()
        assert events[last] == target
        assert past.items.tolist() == [item for item in events[:last] if item not in cold]
        assert len(past) > 0


def test_every_user_with_a_cold_item_after_a_warm_one_is_asked() -> None:
    interactions = log((0, 0, 1), (0, 1, 2), (1, 1, 1), (2, 1, 1), (2, 0, 2), items=2)
    split, cold = hold_out_items(interactions, 0.5, np.random.default_rng(0))
    assert split.test.users.tolist() == ([0] if cold[0] == 1 else [2])


def test_hold_out_items_needs_both_kinds() -> None:
    with pytest.raises(ValueError, match="makes 0 of 2 items cold"):
        hold_out_items(log((0, 0, 1), items=2), 0.1, np.random.default_rng(0))


# ── Ranks ────────────────────────────────────────────────────────────────────────────────────────


def test_ranks_by_hand() -> None:
    scores = np.array([[5.0, 4.0, 3.0, 3.0, 9.0]], np.float32)
    assert target_ranks(scores, int64(2), [EMPTY_HISTORY]).tolist() == [5]  # behind 9, 5, 4 and its equal
    assert target_ranks(scores, int64(2), [history(4, 0)]).tolist() == [3]  # the seen ones do not compete
    assert target_ranks(scores, int64(2), [history(2, 4)]).tolist() == [4]  # a seen target still does
    few = np.array([True, False, True, False, False])
    assert target_ranks(scores, int64(2), [EMPTY_HISTORY], few).tolist() == [2]
    with pytest.raises(ValueError, match="item 1, is not a candidate"):
        target_ranks(scores, int64(1), [EMPTY_HISTORY], few)


@given(questions())
def test_a_perfect_scorer_is_first_and_a_constant_one_last(question: tuple) -> None:
    scores, targets, histories = question
    perfect = np.zeros_like(scores)
    perfect[np.arange(len(targets)), targets] = 1
    assert (target_ranks(perfect, targets, histories) == 1).all()
    unseen = [scores.shape[1] - len(h) for h in histories]
    assert target_ranks(np.zeros_like(scores), targets, histories).tolist() == unseen
    assert target_ranks(np.full_like(scores, -np.inf), targets, histories).tolist() == unseen


@given(questions())
def test_only_the_order_of_scores_matters(question: tuple) -> None:
    scores, targets, histories = question
    for transformed in (3 * scores + 7, np.exp(scores), scores.astype(np.float64) ** 3):
        assert (target_ranks(transformed, targets, histories) == target_ranks(scores, targets, histories)).all()
        assert (top_items(transformed, histories, 4) == top_items(scores, histories, 4)).all()


@given(questions(), st.randoms(use_true_random=False))
def test_renaming_items_changes_nothing(question: tuple, random) -> None:
    scores, targets, histories = question
    new = np.array(random.sample(range(scores.shape[1]), scores.shape[1]))  # old index -> new index
    renamed = np.empty_like(scores)
    renamed[:, new] = scores
    moved = [history(*new[h.items].tolist()) for h in histories]
    assert (target_ranks(renamed, new[targets], moved) == target_ranks(scores, targets, histories)).all()


@given(questions(), st.integers(1, 20))
def test_lists_are_unseen_distinct_and_best_first(question: tuple, k: int) -> None:
    scores, _, histories = question
    candidates = np.arange(scores.shape[1]) % 3 != 1
    scores[0, [0, -1]] = -np.inf
    for row, past, best in zip(scores, histories, top_items(scores, histories, k, candidates), strict=True):
        allowed = [i for i in range(len(row)) if candidates[i] and i not in past.items]
        expected = sorted(allowed, key=lambda item: (-row[item], item))[:k]  # ties by lower index
        assert best.tolist() == expected + [-1] * (k - len(expected))


@given(questions(), st.integers(1, 20))
def test_rank_and_list_agree_where_nothing_ties(question: tuple, k: int) -> None:
    scores, targets, histories = question
    distinct = scores + np.arange(scores.shape[1], dtype=np.float32) / 100
    in_list = (top_items(distinct, histories, k) == targets[:, None]).any(axis=1)
    assert (in_list == (target_ranks(distinct, targets, histories) <= k)).all()


def test_nan_is_no_score() -> None:
    scores = np.array([[1.0, np.nan]], np.float32)
    with pytest.raises(ValueError, match="item 1 in case 0 is NaN"):
        target_ranks(scores, int64(0), [EMPTY_HISTORY])
    with pytest.raises(ValueError, match="item 1 in case 0 is NaN"):
        top_items(scores, [EMPTY_HISTORY], 1)


# ── Metrics ──────────────────────────────────────────────────────────────────────────────────────


def test_metrics_by_hand() -> None:
    ranks = int64(1, 2, 3, 10, 11)
    assert hit_rate(ranks, 10).tolist() == [1, 1, 1, 1, 0]
    assert ndcg(ranks, 10) == pytest.approx([1, 0.63093, 0.5, 0.28906, 0], abs=1e-5)
    assert reciprocal_rank(ranks, 10) == pytest.approx([1, 1 / 2, 1 / 3, 1 / 10, 0])
    assert reciprocal_rank(ranks) == pytest.approx([1, 1 / 2, 1 / 3, 1 / 10, 1 / 11])


@given(questions())
def test_metrics_agree_with_scikit_learn(question: tuple) -> None:
    scores, targets, histories = question
    scores = scores + np.arange(scores.shape[1], dtype=np.float32) / 100  # it breaks ties in its own way
    for row, past in zip(scores, histories, strict=True):
        row[past.items] = -100  # out of the way, since it knows no masks
    relevant = np.eye(scores.shape[1])[targets]
    ranks = target_ranks(scores, targets, histories)
    assert ndcg(ranks, 3).mean() == pytest.approx(ndcg_score(relevant, scores, k=3))
    assert reciprocal_rank(ranks).mean() == pytest.approx(label_ranking_average_precision_score(relevant, scores))
    labels = np.arange(scores.shape[1])
    assert hit_rate(ranks, 3).mean() == pytest.approx(top_k_accuracy_score(targets, scores, k=3, labels=labels))


@pytest.mark.slow  # ranx compiles its metrics first
def test_metrics_agree_with_ranx() -> None:
    import ranx

    rng = np.random.default_rng(0)
    scores, targets = rng.normal(size=(40, 12)), rng.integers(12, size=40)
    ranks = target_ranks(scores, targets, [EMPTY_HISTORY] * 40)
    names = [f"case{n}" for n in range(40)]
    qrels = ranx.Qrels({name: {str(target): 1} for name, target in zip(names, targets, strict=True)})
    run = ranx.Run({n: {str(i): float(s) for i, s in enumerate(row)} for n, row in zip(names, scores, strict=True)})
    ours = {"hit_rate@3": hit_rate(ranks, 3), "ndcg@3": ndcg(ranks, 3), "mrr@3": reciprocal_rank(ranks, 3)}
    ours["mrr"] = reciprocal_rank(ranks)
    assert {name: values.mean() for name, values in ours.items()} == pytest.approx(
        ranx.evaluate(qrels, run, list(ours))
    )


def test_coverage_and_gini_by_hand() -> None:
    assert coverage(int64(3, 0, 1, 0)) == 0.5
    assert gini(int64(2, 2, 2)) == 0
    assert gini(int64(0, 0, 0, 8)) == pytest.approx(0.75)  # one of n takes all: 1 - 1/n
    assert gini(int64(1, 3)) == pytest.approx(0.25)
    assert np.isnan(gini(int64(0, 0)))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any))
def test_gini_is_half_the_mean_difference_over_the_mean(counts: list[int]) -> None:
    mean_difference = np.mean([[abs(a - b) for a in counts] for b in counts])
    assert gini(np.array(counts, np.int64)) == pytest.approx(mean_difference / 2 / np.mean(counts))


@given(logs(unique=True), st.integers(1, 7))
def test_batches_do_not_change_an_evaluation(interactions: Interactions, batch: int) -> None:
    split = leave_one_out(interactions)
    scores = np.random.default_rng(0).normal(size=(len(split.test), interactions.num_items)).astype(np.float32)
    one, other = (evaluate(scores, split.test, split.train, 3, batch=size) for size in (256, batch))
    assert one.summary() == pytest.approx(other.summary(), nan_ok=True)


def test_evaluation_by_hand() -> None:
    train = log(*((u, 0, 1) for u in range(11)), *((u, 2, 2) for u in range(10)), items=4)  # all but item 0 are tail
    cases = Cases(
        int64(0, 1, 2), int64(0, 2, 3), [history(1), history(0, 1), history(0)], np.array([True, False, False])
    )
    scores = np.array([[4, 9, 2, 1], [4, 3, 1, 2], [4, 3, 2, 1]], np.float32)
    result = evaluate(scores, cases, train, k=1)
    assert result.ranks.tolist() == [1, 2, 3]
    assert result.lists.tolist() == [[0], [3], [1]]
    expected = {"hr@1": 1 / 3, "ndcg@1": 1 / 3, "mrr@1": 1 / 3, "mrr": (1 + 1 / 2 + 1 / 3) / 3, "hr@50": 1}
    expected |= {"coverage@1": 0.75, "gini@1": 0.25, "tail hr@1": 0, "tail hr@50": 1, "untied hr@1": 0, "tied hr@1": 1}
    assert result.summary() == pytest.approx(expected)
    only_cold = evaluate(scores[1:], cases.take(int64(1, 2)), train, 1, np.array([False, False, True, True]))
    assert only_cold.ranks.tolist() == [2, 2]
    assert only_cold.item_counts.tolist() == [1, 1]  # candidates alone are counted


def test_unknown_metrics_and_wrong_shapes_are_named() -> None:
    split = leave_one_out(log((0, 0, 1), (0, 1, 2), (0, 2, 3), items=4))
    result = evaluate(np.zeros((1, 4), np.float32), split.test, split.train)
    for metric in ("auc@10", "hr", "ndcg@ten", "hr@"):
        with pytest.raises(ValueError, match="is unknown; expected mrr or one of hr, ndcg, mrr with @k"):
            result.per_case(metric)
    with pytest.raises(ValueError, match=r"shape \(1, 3\); expected \(1, 4\)"):
        evaluate(np.zeros((1, 3), np.float32), split.test, split.train)


def test_no_cases_make_an_empty_evaluation() -> None:
    split = leave_one_out(log((0, 0, 1), items=4))
    result = evaluate(np.zeros((0, 4), np.float32), split.test, split.train)
    assert np.isnan(result.mean("hr@10"))
    assert isinstance(result, Evaluation)


# ── Real data ────────────────────────────────────────────────────────────────────────────────────


def test_popularity_on_real_films_is_as_measured_elsewhere(shared_data: Path) -> None:
    """Hit rate and NDCG of popularity on movielens_trimodal, as an independent script found them."""
    table = np.loadtxt(shared_data / "movielens_trimodal" / "ratings.csv", delimiter=",", skiprows=1)
    users, items = (np.unique(table[:, column], return_inverse=True)[1] for column in (0, 1))
    times = table[:, 3].astype(np.int64)
    films = Interactions.sort(users, items, np.zeros_like(users), times, int(users.max()) + 1, int(items.max()) + 1)
    split = leave_one_out(films)
    assert (len(split.test), films.num_items) == (610, 1852)
    assert split.test.tied.mean() == pytest.approx(0.13, abs=0.005)
    counts = np.tile(split.train.item_counts.astype(np.float32), (610, 1))
    result = evaluate(counts, split.test, split.train).summary()
    assert result["hr@10"] == pytest.approx(0.0623, abs=0.005)  # ours lets ties count against the target
    assert result["ndcg@10"] == pytest.approx(0.0353, abs=0.002)
    assert result["tail hr@50"] == 0
