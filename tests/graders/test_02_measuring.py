"""Laws of chapter 2, by slow definitions: all pairs, all orders of a tie, all sets of negatives."""

from __future__ import annotations

import timeit
from collections.abc import Sequence
from functools import partial
from itertools import combinations, pairwise, permutations
from math import comb, log2, nan
from typing import Any

import numpy as np
from hypothesis import strategies as st

from m6rec_mini.course.expect import array, close, described, number, refuses, require, same, unchanged
from m6rec_mini.course.grader import Question, given, hidden, points, teaches

LIBRARIES = ("sklearn", "torchmetrics", "ranx", "recbole", "scipy.stats")


def equals(value: Any, want: float, what: str) -> None:
    """One number, of any kind, that is right up to its own rounding."""
    number(value, what)
    close(np.asarray(value)[()], want, what)


def has(value: Any, wanted: dict[str, float], what: str = "") -> None:
    """A dict that has these numbers under these names."""
    require(isinstance(value, dict), f"the result should be a dict; it is {described(value)}", value)
    for name, want in wanted.items():
        require(name in value, f"the result has no key {name!r}; it has {', '.join(map(repr, value)) or 'none'}", value)
        equals(value[name], want, f"{name}{what}")


def columns(rows: Sequence[Sequence[Any]], *types: Any) -> list[np.ndarray]:
    """The columns of a table, each as an array of its type."""
    return [np.array([row[n] for row in rows], kind) for n, kind in enumerate(types)]


# ---- 1. AUC ----------------------------------------------------------------------------------

AUC = Question(
    "auc",
    "AUC with ties",
    section="auc",
    hints=(
        "Take the four pairs of the worked example, and write down how many rows stand below each score.",
        "Sort once. A click at place r from below beats r - 1 rows, some of them clicks. Equal scores share a place.",
        "Each distinct score gets the mean of the places that its rows fill: the last, less half of (how many - 1)."
        " Add up the places of the c clicks, take off what they have among themselves, c (c + 1) / 2, divide.",
    ),
    forbidden=(*LIBRARIES, ".rank"),
)
BOTH_KINDS = st.lists(st.tuples(st.integers(0, 1), st.integers(-2, 2)), min_size=2, max_size=10).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


def pairs(labels: np.ndarray, scores: np.ndarray) -> float:
    """AUC by its definition: every pair of a click and a row without."""
    won = [(p > n) + (p == n) / 2 for p in scores[labels == 1] for n in scores[labels == 0]]
    return float(np.mean(won)) if won else nan


@points(1, AUC)
@teaches("AUC is the share of (click, no click) pairs in which the click has the higher score.")
def test_auc_of_a_few_rows(answer):
    equals(answer.auc(np.array([1, 0, 1, 0]), np.array([0.9, 0.9, 0.4, 0.1])), 0.625, "AUC")
    equals(answer.auc(np.array([1, 1, 0, 0, 0]), np.array([-1.0, 4, -1, -3, -3])), (2.5 + 3) / 6, "AUC")


@points(2, AUC)
@teaches("A tie is half a win. Rows with equal scores must be treated alike, whatever order a sort leaves them in.")
@given(rows=BOTH_KINDS)
def test_a_tie_counts_one_half(answer, rows):
    labels, scores = columns(rows, int, float)
    equals(answer.auc(labels, scores), pairs(labels, scores), "AUC")


@points(1, AUC)
@teaches("Without a click, or with nothing but clicks, there is no pair to count: the value is nan, not 0 and not ½.")
@given(examples=10, rows=BOTH_KINDS)
def test_no_pairs_no_value(answer, rows):
    labels, scores = columns(rows, int, float)
    equals(answer.auc(labels, scores), pairs(labels, scores), "AUC")
    for some in (labels == 0, labels == 1, labels > 1):
        equals(answer.auc(labels[some], scores[some]), nan, "AUC without a pair")


@points(2, AUC)
@teaches("Only equal scores tie, infinities too; labels may be booleans, scores integers; arguments stay as they were.")
@hidden
@given(rows=BOTH_KINDS, at=st.sampled_from([(0, 1e-12), (1, 1e-15), (-1e9, 1e-6)]), kind=st.sampled_from("?bBf"))
def test_close_is_not_equal(answer, rows, at, kind):
    labels, steps = columns([*rows, (1, 0), (0, 0), (0, 0), (1, 0)], kind, int)
    scores = at[0] + at[1] * steps
    scores[-4:] = np.inf, np.inf, -np.inf, -np.inf
    equals(answer.auc(labels, scores), pairs(labels, scores), "AUC")
    whole = (steps + 2).astype("uint8")
    equals(answer.auc(labels, whole), pairs(labels, whole), "AUC of small integers")
    unchanged(answer)


@points(1, AUC)
@teaches("A NaN sorts to one end and passes for the best or the worst score. Refuse it; and refuse unequal lengths.")
@given(examples=10, rows=BOTH_KINDS)
def test_what_has_no_order_is_refused(answer, rows):
    labels, scores = columns([*rows, (0, 0)], int, float)
    equals(answer.auc(labels, scores), pairs(labels, scores), "AUC")
    refuses(answer.auc, labels, np.append(scores[:-1], nan), what="a NaN among the scores")
    refuses(answer.auc, labels, scores[:-1], what="fewer scores than labels")


@points(1, AUC)
@teaches("Comparing every click with every other row takes n² steps. Sorting needs n log n.")
def test_grows_like_a_sort(answer):
    spent = []
    for rows in (6_000, 48_000):
        labels, scores = np.arange(rows) % 3 // 2, np.arange(rows) * 7919 % 1000
        spent.append(min(timeit.repeat(partial(answer.auc, labels, scores / 8), number=1, repeat=3)))
        others, clicks = (np.bincount(scores[labels == x], minlength=1000) for x in (0, 1))
        want = clicks @ (np.cumsum(others) - others / 2) / clicks.sum() / others.sum()
        equals(answer.calls.value, want, f"AUC of {rows} rows")
    took = f"8 times as many rows took {spent[1] / spent[0]:.0f} times as long, {spent[1]:.2f} s; a sort takes 10 times"
    require(spent[1] < 0.15 or spent[1] < 16 * spent[0], took)


# ---- 2. Grouped AUC --------------------------------------------------------------------------

GROUPED = Question(
    "grouped_auc",
    "Grouped AUC",
    section="grouped",
    hints=(
        "Work the example by hand once more: which rows are compared with which, and what does each user weigh?",
        "Bring each user's rows together, take the AUC, keep the weight beside it. A nan leaves both sums.",
        "An argsort of `users` brings rows together; where neighbours differ, the next user begins. For each user: "
        "the AUC; if it is a number, add rows * AUC to one sum and rows to the other. Divide, or nan.",
    ),
    forbidden=LIBRARIES,
)
SOME_USERS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 3)), max_size=16)


def within(answer: Any, users: Any, labels: Any, scores: Any, what: str = "") -> None:
    """Grouped AUC is as by its definition."""
    users, labels, scores = np.array(users, int), np.array(labels, int), np.array(scores, float)
    of_user = {user: users == user for user in set(users.tolist())}
    kept = {n: mine for n, mine in of_user.items() if 0 < labels[mine].sum() < mine.sum()}
    total = sum(mine.sum() * pairs(labels[mine], scores[mine]) for mine in kept.values())
    want = float(total / sum(mine.sum() for mine in kept.values())) if kept else nan
    equals(answer.grouped_auc(users, labels, scores), want, f"grouped AUC{what}")


@points(1, GROUPED)
@teaches("Each user has an AUC of their own; the result is their mean, weighted by how many rows each user has.")
def test_two_users_by_hand(answer):
    within(answer, [7, 3, 5, 3, 7, 3], [1, 0, 1, 1, 0, 0], [2, 8, 1, 8, 1, 9])  # (2 * 1 + 3 / 4) / 5
    within(answer, [1, 1, 1, 2, 2], [1, 1, 0, 1, 0], [3, 2, 1, 5, 6])  # (3 * 1 + 2 * 0) / 5


@points(2, GROUPED)
@teaches("Weigh a user by impressions, that is by rows: not all users alike, not by clicks. Ties count one half.")
@given(examples=25, rows=SOME_USERS)
def test_users_weigh_as_much_as_they_were_shown(answer, rows):
    within(answer, *columns(rows, int, int, float))


@points(2, GROUPED)
@teaches("Who clicked on all, or on nothing, has no pair: leave them out, weight and all. If nobody is left: nan.")
@given(examples=20, rows=SOME_USERS, click=st.integers(0, 1))
def test_users_of_one_class_are_left_out(answer, rows, click):
    alike = [(4, click, 1), (4, click, 2), (5, 1 - click, 0)]
    within(answer, *columns([*alike, (0, 1, 2), (0, 0, 1), *rows], int, int, float))
    within(answer, *columns(alike, int, int, float), " where no user has both kinds of rows")


@points(1, GROUPED)
@teaches("Rows of different users are never compared: adding a constant to all scores of one user changes nothing.")
@given(examples=20, rows=SOME_USERS, shift=st.lists(st.integers(-9, 9), min_size=4, max_size=4))
def test_only_pairs_within_a_user_count(answer, rows, shift):
    users, labels, scores = columns([*rows, (0, 1, 1), (0, 0, 2), (1, 1, 3), (1, 0, 0), (1, 0, 3)], int, int, float)
    within(answer, users, labels, scores + 10 * np.array(shift)[users])


@points(1, GROUPED)
@teaches("Users are any integers in any order: rows of one user need not stand together, and ids need not start at 0.")
@hidden
@given(examples=20, rows=SOME_USERS, ids=st.permutations([-7, 0, 3, 2**30]), order=st.randoms(use_true_random=False))
def test_any_ids_in_any_order(answer, rows, ids, order):
    rows = [*rows, (2, 1, 1), (3, 0, 2), (2, 0, 0), (3, 1, 1)]
    order.shuffle(rows)
    within(answer, *columns([(ids[user], *rest) for user, *rest in rows], int, int, float))
    unchanged(answer)


@points(1, GROUPED)
@teaches("Refuse what cannot be ranked: NaN scores, also of users who are left out, and columns of unequal length.")
@given(examples=5, rows=SOME_USERS)
def test_grouped_refuses_what_has_no_order(answer, rows):
    users, labels, scores = columns([*rows, (0, 1, 2), (0, 0, 1), (7, 1, 1)], int, int, float)
    within(answer, users, labels, scores)
    refuses(answer.grouped_auc, users, labels, np.append(scores[:-1], nan), what="a NaN among the scores")
    refuses(answer.grouped_auc, users, labels, scores[:-1], what="fewer scores than users")
    refuses(answer.grouped_auc, users[:-1], labels, scores, what="fewer users than labels")
    refuses(answer.grouped_auc, users, labels[:-1], scores, what="fewer labels than users")


# ---- 3. Ranking metrics ----------------------------------------------------------------------

RANKING = Question(
    "ranking_metrics",
    "Hit rate, MRR and NDCG",
    section="ranking",
    hints=(
        "Write the order of the worked example on paper, with the tie, then the place of each relevant item.",
        "One order a case with two keys: the score, and among equal scores the grade. `np.lexsort` takes keys, the "
        "most important last. All three metrics read the grades in that order.",
        "Drop cases without a grade above 0. Sort by minus score, then grade; take the grades in that order, cut at"
        " k. Hit: any above 0. MRR: 1 over the first such place. NDCG: 2^grade - 1 over log2(1 + place), added up, "
        "over the same of the grades from large to small, cut at k as well.",
    ),
    forbidden=LIBRARIES,
)


def of_order(grades: Sequence[float], k: int) -> dict[str, float]:
    """The metrics of grades in the order in which they are shown; of NDCG the DCG alone."""
    found = [place for place, grade in enumerate(grades[:k], start=1) if grade > 0]
    dcg = sum((2.0**grade - 1) / log2(1 + place) for place, grade in enumerate(grades[:k], start=1))
    return {"hit_rate": float(bool(found)), "mrr": 1 / found[0] if found else 0.0, "ndcg": dcg}


def worst(scores: np.ndarray, relevance: np.ndarray, k: int) -> dict[str, float]:
    """The least that any order gives which agrees with the scores; every order is tried."""
    cases = []
    for row, grades in zip(scores.tolist(), relevance.tolist(), strict=True):
        if max(grades, default=0) > 0:
            orders = [p for p in permutations(range(len(row))) if all(row[a] >= row[b] for a, b in pairwise(p))]
            tried = [of_order([grades[n] for n in order], k) for order in orders]
            ideal = of_order(sorted(grades, reverse=True), k)["ndcg"]
            least = {name: min(metrics[name] for metrics in tried) for name in tried[0]}
            cases.append({**least, "ndcg": least["ndcg"] / ideal})
    means = {name: sum(case[name] for case in cases) / len(cases) for name in cases[0]} if cases else {}
    return means or dict.fromkeys(("hit_rate", "mrr", "ndcg"), nan)


def ranked(answer: Any, scores: Any, grades: Any, k: int, want: dict[str, float] | None = None, what: str = "") -> None:
    """The metrics are these, or the worst that the ties allow."""
    scores, grades = np.asarray(scores), np.asarray(grades)
    got = answer.ranking_metrics(scores, grades, k)
    has(got, worst(scores, grades, k) if want is None else want, f" at {k}{what}")


@st.composite
def some_cases(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    cases, items = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    numbers = st.tuples(st.integers(0, 2), st.sampled_from([0, 0, 1, 2, 3]))
    drawn = draw(st.lists(numbers, min_size=cases * items, max_size=cases * items))
    scores, grades = columns(drawn, float, int)
    return scores.reshape(cases, items), grades.reshape(cases, items)


@points(1, RANKING)
@teaches("Sort by score, read the grades in that order, look at the first k only. Results are means over the cases.")
def test_cases_by_hand(answer):
    scores, grades = [[5.0, 3.0, 3.0, 1.0]], [[0, 2, 0, 1]]
    ranked(answer, scores, grades, 2, {"hit_rate": 0, "mrr": 0, "ndcg": 0})
    ranked(answer, scores, grades, 3, {"hit_rate": 1, "mrr": 1 / 3, "ndcg": 1.5 / (3 + 1 / log2(3))})
    scores, grades = [[9.0, 2.0, 4.0], [1.0, 3.0, 2.0]], [[1, 0, 0], [1, 0, 0]]  # at places 1 and 3
    ranked(answer, scores, grades, 3, {"hit_rate": 1, "mrr": (1 + 1 / 3) / 2, "ndcg": (1 + 1 / 2) / 2}, " of two cases")
    ranked(answer, scores, grades, 2, {"hit_rate": 0.5, "mrr": 0.5, "ndcg": 0.5}, " of two cases")


@points(2, RANKING)
@teaches("Ties go against the relevant item. Whoever breaks them by position pays a constant scorer for nothing.")
@given(cases=some_cases(), k=st.integers(1, 4))
def test_ties_go_against_the_relevant(answer, cases, k):
    ranked(answer, *cases, k)


@points(1, RANKING)
@teaches("The ideal may show k items too, no more: with more relevant items than places, a perfect list still gets 1.")
@given(examples=15, relevant=st.integers(1, 4), k=st.integers(1, 4))
def test_the_ideal_stops_at_k(answer, relevant, k):
    order = -np.arange(relevant + 1.0)[None]
    ranked(answer, order, [[1] * relevant + [0]], k, {"hit_rate": 1, "mrr": 1, "ndcg": 1}, " of a perfect list")
    ranked(answer, order, [[0] + [1] * relevant], k)


@points(1, RANKING)
@teaches("A grade g is worth 2^g - 1: one item of grade 3 is worth seven of grade 1. The discount at place 1 is 1.")
@given(examples=15, grades=st.lists(st.integers(0, 5), min_size=2, max_size=5).filter(any), k=st.integers(1, 5))
def test_grades_gain_by_powers(answer, grades, k):
    ranked(answer, -np.arange(len(grades) * 1.0)[None], [grades], k)


@points(1, RANKING)
@teaches("A case without a relevant item cannot be won: leave it out of the mean. If none is left, all three are nan.")
def test_cases_without_a_relevant_item_are_left_out(answer):
    scores, grades = np.array([[3.0, 2.0, 1.0]] * 3), np.array([[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    want = {"hit_rate": 1.0, "mrr": 0.5, "ndcg": 1 / log2(3)}
    ranked(answer, scores, grades, 2, want, " with two cases that have nothing relevant")
    ranked(answer, scores[1:], grades[1:], 2, dict.fromkeys(want, nan), " without a case to judge")
    ranked(answer, scores[:0], grades[:0], 2, dict.fromkeys(want, nan), " without a case")


@points(1, RANKING)
@teaches("k may exceed the list; masked items have -inf; grades may be floats. The caller's arrays stay as they were.")
@hidden
@given(examples=15, cases=some_cases(), k=st.integers(4, 30), kind=st.sampled_from(["float32", "float64"]))
def test_long_k_and_masked_items(answer, cases, k, kind):
    scores, grades = cases
    ranked(answer, np.where(scores == 0, -np.inf, scores).astype(kind), grades.astype(kind), k)
    unchanged(answer)


@points(1, RANKING)
@teaches("Refuse k below 1, unequal shapes, and NaN: it sorts last, so that a broken model looks merely bad.")
@given(examples=5, cases=some_cases())
def test_ranking_refuses_what_cannot_be(answer, cases):
    scores, grades = cases[0], np.maximum(cases[1], 1)
    ranked(answer, scores, grades, 1)
    refuses(answer.ranking_metrics, scores, grades, 0, what="k = 0")
    refuses(answer.ranking_metrics, scores, grades, -1, what="k = -1")
    for other in (grades[:, 1:], np.vstack([grades, grades])):
        refuses(answer.ranking_metrics, scores, other, 1, what=f"shapes {scores.shape} and {other.shape}")
    refuses(answer.ranking_metrics, scores + nan, grades, 1, what="NaN scores")


# ---- 4. Beyond accuracy ----------------------------------------------------------------------

BEYOND = Question(
    "beyond_accuracy",
    "Coverage, Gini, tail recall",
    section="beyond",
    hints=(
        "Count by hand how many places each of the four items has in the example, the items with none too.",
        "You need two things: the number of places of each item, those with none too, and for each case whether the"
        " list holds the target. Of sorted counts: how many others is the i-th larger than?",
        "`np.bincount` with `minlength`, once the -1 are gone. Sorted from small to large, the i-th of n counts "
        "(from 0) enters the sum with weight 2 i - n + 1; divide by n times the total. For the tail, first choose "
        "the cases by the count of their target, then take the mean.",
    ),
    forbidden=LIBRARIES,
)


def shown(answer: Any, lists: Any, targets: Any, counts: Any, tail: int = 2, what: str = "", only: str = "") -> None:
    """The three numbers are as by their definitions."""
    places = [sum(row.count(item) for row in lists) for item in range(len(counts))]
    pairs_apart = sum(abs(a - b) for a in places for b in places)
    found = [target in row for row, target in zip(lists, targets, strict=True) if counts[target] <= tail]
    want = {
        "coverage": sum(place > 0 for place in places) / len(places),
        "gini": pairs_apart / (2 * len(places) * sum(places)) if sum(places) else nan,
        "tail_recall": sum(found) / len(found) if found else nan,
    }
    table = np.array(lists, int).reshape(len(lists), len(lists[0]) if lists else 3)
    got = answer.beyond_accuracy(table, np.array(targets, int), np.array(counts, int), tail)
    has(got, {name: value for name, value in want.items() if only in name}, what)


@st.composite
def some_lists(draw: Any, empty: bool = False) -> tuple[list[list[int]], list[int], list[int]]:
    items, cases = draw(st.integers(2, 8)), draw(st.integers(1, 5))
    width = draw(st.integers(1, min(items, 4)))
    lists = [draw(st.permutations(range(items)))[:width] for _ in range(cases)]
    if empty:
        lists = [row[: (n := draw(st.integers(0, width)))] + [-1] * (width - n) for row in lists]
    targets = draw(st.lists(st.integers(0, items - 1), min_size=cases, max_size=cases))
    return lists, targets, draw(st.lists(st.integers(0, 4), min_size=items, max_size=items))


@points(1, BEYOND)
@teaches("Count the places of every item; coverage, Gini and tail recall are read from these counts and the lists.")
def test_shown_by_hand(answer):
    shown(answer, [[0, 1], [0, -1], [0, 1]], [1, 2, 3], [9, 2, 2, 9])  # 2 / 4, 22 / 40, 1 / 2
    shown(answer, [[2], [0], [2], [2]], [2, 2, 1, 2], [0, 5, 3], 3)  # 2 / 3, 12 / 24, 2 / 3


@points(2, BEYOND)
@teaches("Gini and coverage look at all items: those that nobody is shown are the inequality that is asked about.")
@given(examples=15, case=some_lists())
def test_gini_counts_what_is_never_shown(answer, case):
    shown(answer, *case, only="gini")
    shown(answer, *case, only="coverage")


@points(1, BEYOND)
@teaches("Gini is 0 if all items have as many places, and (n - 1) / n, not 1, if one of n items has them all.")
@given(examples=10, items=st.integers(2, 9), cases=st.integers(1, 4))
def test_from_all_alike_to_one_takes_all(answer, items, cases):
    order, none = list(range(items)), [0] * items
    shown(answer, [order] * cases, [0] * cases, none, what=" if all items have as many places")
    shown(answer, [[items - 1]] * cases, [0] * cases, none, what=f" if one of {items} items has all places")


@points(1, BEYOND)
@teaches("-1 is an empty place, not an item: it must not count for the last item of the catalogue, nor for any other.")
@given(examples=15, case=some_lists(empty=True))
def test_an_empty_place_is_no_item(answer, case):
    lists, targets, counts = case
    shown(answer, [*lists, [0] + [-1] * (len(lists[0]) - 1)], [*targets, 0], [*counts, 1])


@points(1, BEYOND)
@teaches("Tail recall is a share of the cases whose target is in the tail: `tail` events or fewer.")
@given(examples=15, case=some_lists(), tail=st.integers(0, 4))
def test_tail_recall_asks_tail_cases_only(answer, case, tail):
    lists, targets, counts = case
    counts[lists[0][-1]] = tail
    shown(answer, [*lists, lists[0], lists[0]], [*targets, lists[0][-1], lists[0][0]], counts, tail, only="tail_recall")


@points(2, BEYOND)
@teaches("What cannot be judged is nan: no place, no tail target. By default 10 events are still tail, 11 are not.")
@hidden
def test_corners(answer):
    shown(answer, [], [], [3, 4], what=" without a case")
    shown(answer, [[-1, -1]], [1], [3, 4], 4, " if nothing is shown")
    shown(answer, [[1, 0]], [1], [3, 4], 3, " without a tail target")
    lists, counts = np.array([[0, 3], [1, 3], [3, 2]]), np.array([10, 11, 500, 0])
    got = answer.beyond_accuracy(lists, np.array([0, 1, 1]), counts)
    unchanged(answer)
    has(got, {"coverage": 1.0, "gini": 0.25, "tail_recall": 1.0})  # places 1, 1, 1, 3
    has(answer.beyond_accuracy(lists, np.array([0, 0, 1]), counts), {"tail_recall": 0.5})


# ---- 5. Leave one out ------------------------------------------------------------------------

SPLIT = Question(
    "leave_one_out",
    "Leave one out, without a leak",
    section="split",
    hints=(
        "Rows 2 and 4 of the example: same user, same time. Which does your sort put last, and does it promise to?",
        "Only a stable sort keeps rows with equal keys in the order of the log: `np.lexsort` is one, `argsort` if "
        "you ask. Then each user's rows stand together, oldest first.",
        "Order rows by (user, time), stably. A place is the user's last if the next has another user or is none; it"
        " has a past if the one before has the same user. Both: test. `tied` looks at both times.",
    ),
    forbidden=("sklearn",),
)
SOME_EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=14)


def held_out(answer: Any, users: Sequence[int], times: Sequence[int], *want: Any) -> None:
    """Train, test and tied are these, or as by Python's sort, which is stable, user by user."""
    train, test, tied = want or ([], [], [])
    for user in () if want else sorted(set(users)):
        rows = sorted((row for row, other in enumerate(users) if other == user), key=lambda row: times[row])
        if len(rows) > 1:
            test.append(rows.pop())
            tied.append(times[test[-1]] == times[rows[-1]])
        train += rows
    got = answer.leave_one_out(np.array(users, np.int64), np.array(times, np.int64))
    require(isinstance(got, tuple | list) and len(got) == 3, f"expected train, test, tied; got {described(got)}")
    for name, mine, right in (("test", got[1], test), ("train", got[0], train), ("tied", got[2], tied)):
        array(mine, (len(right),), what=name)
        same(mine, np.array(right), name)
    unchanged(answer)


@points(1, SPLIT)
@teaches("Each user's last event is the test, the others train: row numbers, users ascending, oldest event first.")
def test_a_log_by_hand(answer):
    held_out(answer, [4, 2, 4, 2, 4, 9], [50, 10, 70, 30, 70, 5], [1, 0, 2, 5], [3, 4], [False, True])
    held_out(answer, [1, 1, 0, 1, 0, 0], [30, 10, 7, 20, 7, 6], [5, 2, 1, 3], [4, 0], [True, False])


@points(2, SPLIT)
@teaches("At equal times the row that comes later in the log is the later event, in test and within train.")
@given(rows=SOME_EVENTS.filter(lambda rows: len(set(rows)) < len(rows)))
def test_equal_times_keep_the_order_of_the_log(answer, rows):
    held_out(answer, *zip(*rows, strict=True))


@points(1, SPLIT)
@teaches("An unstable sort looks right on a dozen rows, and shuffles equal times on a hundred. Ask for a stable one.")
@given(examples=4, users=st.integers(1, 3), seed=st.integers(0, 99))
def test_many_equal_times(answer, users, seed):
    rng = np.random.default_rng(seed)
    held_out(answer, rng.integers(users, size=300).tolist(), rng.integers(2, size=300).tolist())


@points(1, SPLIT)
@teaches("Who has one event only trains: there is no past to predict from. An empty log gives empty arrays.")
@given(examples=10, users=st.lists(st.integers(0, 9), unique=True, max_size=4), last=st.sampled_from([[], [10] * 3]))
def test_short_histories(answer, users, last):
    held_out(answer, [*last, *users], [*last, *users][::-1])


@points(1, SPLIT)
@teaches("Compare times exactly: seconds since 1970 do not fit into float32, whose steps are two minutes wide by now.")
@hidden
@given(examples=15, rows=SOME_EVENTS)
def test_seconds_of_today(answer, rows):
    rows = [*rows, (1, 2), (1, 1), (0, 0), (0, 0)]
    held_out(answer, [10**12 * (user - 1) + 7 for user, _ in rows], [1_767_225_600 + hour for _, hour in rows])


# ---- 6. Sampled metrics ----------------------------------------------------------------------


def draw_sampled(answer: Any, _: Any) -> str:
    """Probability of a hit by full rank: the right curve, and the learner's."""
    ranks = np.arange(1, 61)
    right = [exact(rank, 60, 12, 4) for rank in ranks.tolist()]
    mine = array(answer.sampled_hit_rate(ranks, 60, 12, 4), ranks.shape).astype(float).tolist()
    body = "<path d='M40 20V150H520' fill='none' stroke='gray'/><text x='200' y='170'>full rank, 1 to 60</text>"
    body += "<text x='4' y='34'>1</text><text x='4' y='154'>0</text><text x='40' y='14'>P(hit at 4) of 12 drawn</text>"
    for values, colour, dash, y, name in (right, "#0072B2", 0, 40, "right"), (mine, "#D55E00", 7, 56, "yours"):
        heights = [150 - 120 * min(max(value, -0.1), 1.2) if value == value else 150 for value in values]
        dots = " ".join(f"{40 + 8 * n},{height:.1f}" for n, height in enumerate(heights))
        body += f"<polyline points='{dots}' fill='none' stroke-dasharray='{dash}' stroke-width='3' stroke='{colour}'/>"
        body += f"<text x='330' y='{y}' fill='{colour}'>{name}</text>"
    return f"<svg xmlns='http://www.w3.org/2000/svg' width='540' height='180' font-size='12'>{body}</svg>"


SAMPLED = Question(
    "sampled_hit_rate",
    "What a sampled metric expects",
    section="sampled",
    hints=(
        "Of the num_items - 1 others, rank - 1 stand before the target. How many of those may be drawn for a hit?",
        "Drawn without replacement from two kinds, the number of the first kind is hypergeometric. Add up what 0 to"
        " k - 1 of them have. Large binomial coefficients live in logarithms.",
        "P(x of those before) = C(rank - 1, x) C(num_items - rank, negatives - x) / C(num_items - 1, negatives), 0 "
        "where it cannot be. log C(n, x) comes from three log factorials. Exponentiate only the difference.",
    ),
    forbidden=("scipy.stats",),
    draw=draw_sampled,
)


def exact(rank: int, items: int, negatives: int, k: int) -> float:
    """In whole numbers: the share of all sets of negatives in which fewer than k stand before the target."""
    ways = (comb(rank - 1, x) * comb(items - rank, negatives - x) for x in range(min(k, negatives + 1)))
    return sum(ways) / comb(items - 1, negatives)


def by_listing(rank: int, items: int, negatives: int, k: int) -> float:
    """Every set of negatives; the others are numbered by their rank."""
    others = [other for other in range(1, items + 1) if other != rank]
    return np.mean([sum(other < rank for other in drawn) < k for drawn in combinations(others, negatives)])


def expects(answer: Any, ranks: Any, items: int, negatives: int, k: int, want: Any, what: str = "") -> None:
    got = answer.sampled_hit_rate(np.array(ranks, np.int64), items, negatives, k)
    close(got, np.array(want, float), f"P(hit@{k}{what})")


@points(1, SAMPLED)
@teaches("It is a hit if fewer than k of the items that stand before the target are drawn.")
def test_five_items_by_hand(answer):
    expects(answer, [3], 5, 2, 1, [1 / 6])
    expects(answer, [3], 5, 2, 2, [5 / 6])
    expects(answer, [1, 2, 3, 4], 4, 1, 1, [1, 2 / 3, 1 / 3, 0])  # one of three others: before it in 0, 1, 2, 3 draws


@points(2, SAMPLED)
@teaches("Negatives come from the other items, without replacement: count the sets of negatives that leave a hit.")
@given(items=st.integers(2, 8), drawn=st.integers(0, 7), k=st.integers(1, 4), ranks=st.lists(st.integers(0, 7)))
def test_all_sets_of_negatives(answer, items, drawn, k, ranks):
    ranks, negatives = [1 + rank % items for rank in (*ranks, 7, 3)], drawn % items
    expects(answer, ranks, items, negatives, k, [by_listing(rank, items, negatives, k) for rank in ranks])


@points(2, SAMPLED)
@teaches("With all others drawn, nothing is sampled: the full metric. With fewer than k negatives, everything hits.")
@given(examples=15, items=st.integers(12, 60), k=st.integers(1, 10))
def test_from_no_negative_to_all(answer, items, k):
    ranks = np.arange(1, items + 1)
    expects(answer, ranks, items, items - 1, k, ranks <= k, " among all items")
    expects(answer, ranks, items, k - 1, k, np.ones(items), f" among {k - 1} negatives")
    some = [1, items // 2, items]
    expects(answer, some, items, 11, k, [exact(rank, items, 11, k) for rank in some], " among 11 negatives")
    expects(answer, [], items, 3, k, np.zeros(0))


@points(1, SAMPLED)
@teaches("A million items: factorials overflow, and even their logarithms must be subtracted before the exponential.")
@given(examples=2, shift=st.integers(0, 99))
def test_a_million_items(answer, shift):
    items, ranks = 1_000_000, [shift + rank for rank in (1, 1_000, 50_000, 90_000, 150_000, 400_000)]
    got = array(answer.sampled_hit_rate(np.array(ranks), items, 100, 10), (len(ranks),), what="P(hit)")
    want = np.array([exact(rank, items, 100, 10) for rank in ranks])
    good = np.abs(got - want) <= 1e-6  # logarithms near 1e7 leave no more
    require(good.all(), f"P(hit@10) among 100 of a million items is not right; the ranks are {ranks}", got, want)


@points(1, SAMPLED)
@teaches("Refuse what cannot be: ranks outside the catalogue, more negatives than others, k below 1.")
@hidden
def test_sampled_refuses_what_cannot_be(answer):
    for ranks, negatives, k in (([0, 2], 2, 1), ([2, 6], 2, 1), ([2], 5, 1), ([2], -1, 1), ([2], 2, 0)):
        refuses(answer.sampled_hit_rate, np.array(ranks), 5, negatives, k)
    expects(answer, [2, 5], 5, 4, 2, [1, 0])
    unchanged(answer)
