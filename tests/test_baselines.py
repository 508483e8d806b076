"""The counting baselines: closed forms against scikit-learn, chains by hand, laws, and real films."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf, log
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity

from m6rec_mini.baselines import (
    DAY,
    EASE,
    LAST_ONLY,
    ContentKNN,
    ContentKNNConfig,
    EASEConfig,
    ItemKNN,
    ItemKNNConfig,
    Markov,
    MarkovConfig,
    Popularity,
    PopularityConfig,
    RecencyEASE,
    RecentPopularity,
    co_occurrence,
    history_weights,
    keep_largest,
    transitions,
    user_items,
)
from m6rec_mini.bpr import BPRMF, BPRConfig, Factors, FoldIn
from m6rec_mini.catalog import EMPTY_HISTORY, History, Interactions
from m6rec_mini.evaluation import Cases, Ranker, Split, evaluate, hold_out_items, leave_one_out
from m6rec_mini.prior import CooccurrencePrior

SMALL_BPR = BPRConfig(dim=8, epochs=4, every=2)
RANKERS: dict[str, Callable[[], Ranker]] = {
    "popularity": Popularity,
    "recent popularity": RecentPopularity,
    "item-kNN": ItemKNN,
    "EASE": EASE,
    "EASE + recency": RecencyEASE,
    "Markov": Markov,
    "BPR-MF": lambda: BPRMF(SMALL_BPR),
    "EASE + Markov": CooccurrencePrior,
    "content-kNN": lambda: ContentKNN(np.random.default_rng(0).normal(size=(20, 5))),
}


def history(*items: int) -> History:
    return History(np.array(items, np.int64), np.zeros(len(items), np.int64), np.arange(len(items)))


def interactions(*sequences: list[int], num_items: int) -> Interactions:
    """One user per sequence, a day between events."""
    users = np.repeat(np.arange(len(sequences)), [len(s) for s in sequences])
    times = np.concatenate([np.arange(len(s)) for s in sequences]) * DAY
    return Interactions.sort(users, np.concatenate(sequences), np.zeros_like(users), times, len(sequences), num_items)


def training_only(train: Interactions) -> Split:
    """A split with nothing to tune on: the first of each grid is kept."""
    nothing = Cases(*(np.zeros(0, np.int64) for _ in range(2)), [], np.zeros(0, bool))
    return Split(train, nothing, nothing)


def cycles(seed: int = 0, users: int = 40, num_items: int = 20) -> Interactions:
    """Everybody walks the same circle of items from their own start, for 8 to 14 steps."""
    rng = np.random.default_rng(seed)
    walks = [(rng.integers(num_items) + np.arange(rng.integers(8, 15))) % num_items for _ in range(users)]
    return interactions(*(walk.tolist() for walk in walks), num_items=num_items)


@pytest.fixture(scope="module")
def films(shared_data: Path) -> Interactions:
    table = np.loadtxt(shared_data / "movielens_trimodal" / "ratings.csv", delimiter=",", skiprows=1)
    users, items = (np.unique(table[:, column], return_inverse=True)[1] for column in (0, 1))
    times = table[:, 3].astype(np.int64)
    return Interactions.sort(users, items, np.zeros_like(users), times, int(users.max()) + 1, int(items.max()) + 1)


# ── Weights of a history ─────────────────────────────────────────────────────────────────────────


def test_history_weights_by_hand() -> None:
    histories = [history(3, 1, 0), EMPTY_HISTORY, history(2, 1, 2)]
    halved = [[1, 0.5, 0, 0.25], [0, 0, 0, 0], [0, 0.5, 1, 0]]  # a repeated item counts as of its last event
    assert history_weights(histories, 4, 1.0).toarray().tolist() == halved
    assert history_weights(histories, 4).toarray().tolist() == [[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]]
    assert history_weights(histories, 4, LAST_ONLY).toarray().tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert history_weights([], 4).shape == (0, 4)


def test_user_items_counts_a_repeated_event_once() -> None:
    train = interactions([0, 1, 0], [1], num_items=3)
    assert user_items(train).toarray().tolist() == [[1, 1, 0], [0, 1, 0]]
    assert co_occurrence(train).tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]


# ── Popularity ───────────────────────────────────────────────────────────────────────────────────


def test_popularity_by_hand() -> None:
    train = interactions([0, 1, 2], [1, 2], [2], num_items=4)
    ranker = Popularity().fit(training_only(train))
    assert ranker.scores([history(0), EMPTY_HISTORY]).tolist() == [[1, 2, 3, 0], [1, 2, 3, 0]]


def test_recent_popularity_halves_and_does_not_look_ahead() -> None:
    train = interactions([0, 1, 2], [1, 2], [2], num_items=4)  # on days 0, 1, 2; 0, 1; 0
    ranker = RecentPopularity(PopularityConfig((1.0,))).fit(training_only(train))
    asked = History(np.array([3]), np.array([0]), np.array([DAY * 3 // 2]))  # at noon of day 1
    scores = ranker.scores([asked, EMPTY_HISTORY])
    noon = 2**-0.5  # what an event of half a day ago still counts
    assert scores[0] == pytest.approx([noon / 2, noon * 1.5, noon * 1.5, 0])
    assert scores[1] == pytest.approx([0.25, 0.75, 0.75, 0])  # asked on day 2, whose own event is not before it


# ── Item to item ─────────────────────────────────────────────────────────────────────────────────


@given(st.integers(0, 1000))
def test_item_knn_is_the_cosine_of_columns(seed: int) -> None:
    train = random_log(seed)
    ranker = ItemKNN(ItemKNNConfig((100,), (0.0,), (inf,))).fit(training_only(train))
    cosine = cosine_similarity(user_items(train).toarray().T)
    np.fill_diagonal(cosine, 0)
    assert ranker.matrix == pytest.approx(cosine, abs=1e-6)
    asked = [train.history(user) for user in range(train.num_users) if len(train.history(user))]
    assert ranker.scores(asked) == pytest.approx(np.stack([cosine[np.unique(h.items)].sum(0) for h in asked]), abs=1e-5)


def test_shrinkage_and_neighbours_by_hand() -> None:
    train = interactions([0, 1], [0, 1], [0, 2], num_items=3)
    ranker = ItemKNN(ItemKNNConfig((1,), (2.0,), (inf,))).fit(training_only(train))
    # |0| = sqrt 3, |1| = sqrt 2, |2| = 1; item 0 keeps its best neighbour alone
    one, two = 2 / (6**0.5 + 2), 1 / (3**0.5 + 2)
    assert ranker.matrix == pytest.approx(np.array([[0, one, 0], [one, 0, 0], [two, 0, 0]]))
    assert keep_largest(np.array([[1.0, 2.0], [3.0, 3.0]]), 1).tolist() == [[0, 2], [3, 3]]


@given(st.integers(0, 1000), st.floats(0.5, 50))
def test_ease_is_ridge_regression_of_each_item_on_the_others(seed: int, ridge: float) -> None:
    train = random_log(seed)
    weights = EASE(EASEConfig((ridge,))).fit(training_only(train)).matrix
    assert (np.diag(weights) == 0).all()
    touched = user_items(train).toarray().astype(np.float64)
    for item in range(train.num_items):
        others = np.delete(np.arange(train.num_items), item)
        model = Ridge(alpha=ridge, fit_intercept=False).fit(touched[:, others], touched[:, item])
        assert weights[others, item] == pytest.approx(model.coef_, abs=1e-5)


def test_recency_ease_weighs_the_rows_of_the_same_matrix() -> None:
    split = training_only(random_log(3))
    plain, recent = EASE(EASEConfig((10.0,))).fit(split), RecencyEASE(EASEConfig((10.0,), (2.0,))).fit(split)
    assert (plain.matrix == recent.matrix).all()
    expected = plain.matrix[0] * 0.5 + plain.matrix[1] * 0.5**0.5 + plain.matrix[2]
    assert recent.scores([history(0, 1, 2)])[0] == pytest.approx(expected, abs=1e-6)


def test_markov_by_hand() -> None:
    train = interactions([0, 1, 2], [0, 1], [0, 2], num_items=3)
    order_one = Markov(MarkovConfig((0.0,), (0.0,), (0.0,), (0.0,), (LAST_ONLY,))).fit(training_only(train))
    assert order_one.scores([history(1, 0)])[0] == pytest.approx([0, 2 / 3, 1 / 3])
    mixed = Markov(MarkovConfig((0.5,), (0.0,), (0.0,), (5.0,), (1.0,))).fit(training_only(train))
    popularity = np.array([4, 3, 3]) / 10  # counts 3, 2, 2, and one each, out of 10
    after_0 = (np.array([0, 2, 1 + 0.5]) + 5 * popularity) / 8.5  # 0 · 2 at distance 2 counts half
    after_1 = (np.array([0, 0, 1]) + 5 * popularity) / 6
    assert mixed.scores([history(1, 0)])[0] == pytest.approx(after_0 + after_1 / 2)


def test_markov_backward_and_discount_by_hand() -> None:
    train = interactions([0, 1], [0], num_items=2)  # popularity (2 + 1) / 5 and (1 + 1) / 5
    config = MarkovConfig((0.0,), (0.5,), (1.0,), (5.0,), (LAST_ONLY,))
    matrix = Markov(config).fit(training_only(train)).matrix
    after_0 = np.array([0 + 3, 1 + 2]) / [0.6, 0.4]
    after_1 = np.array([0.5 + 3, 0 + 2]) / [0.6, 0.4]
    assert matrix == pytest.approx(np.stack([after_0 / after_0.sum(), after_1 / after_1.sum()]))


@given(st.integers(0, 1000), st.floats(0, 0.9))
def test_transitions_are_counted_by_brute_force(seed: int, decay: float) -> None:
    train = random_log(seed)
    expected = np.zeros((train.num_items, train.num_items))
    for user in range(train.num_users):
        items = train.history(user).items
        for later in range(len(items)):
            for earlier in range(later):
                weight = decay ** (later - earlier - 1)
                expected[items[earlier], items[later]] += weight if weight > 0.02 else 0
    assert transitions(train, decay) == pytest.approx(expected)


def test_content_knn_knows_items_without_events_but_not_without_vectors() -> None:
    vectors = np.array([[2.0, 0.1], [1.9, 0.0], [0.0, 1.0], [1.0, 0.1], [0.0, 0.0]])
    ranker = ContentKNN(vectors, ContentKNNConfig((1.0,), (inf,)))
    ranker.fit(training_only(interactions([0, 2], num_items=5)))
    scores = ranker.scores([history(0)])[0]
    assert scores.argmax() == 1  # nobody has touched it
    assert scores[4] == 0
    assert scores[2] < 0  # further from the mean than unknown
    centred = vectors[:4] - vectors[:4].mean(axis=0)
    assert scores[[1, 2, 3]] == pytest.approx(cosine_similarity(centred)[0, 1:], abs=1e-6)
    with pytest.raises(ValueError, match="5 item vectors for 7 items"):
        ranker.fit(training_only(interactions([0, 2], num_items=7)))


# ── BPR-MF and the prior ─────────────────────────────────────────────────────────────────────────


def test_fold_in_by_hand() -> None:
    fold_in = FoldIn(np.eye(2, dtype=np.float32), np.array([0.0, 0.5], np.float32), 2.0, 1.0)
    assert fold_in.scores([EMPTY_HISTORY])[0].tolist() == [0, 0.5]
    user = np.array([1, 0.5]) / np.hypot(1, 0.5) * 2  # the mean, half as much of the older one, of length 2
    assert fold_in.scores([history(1, 0)])[0] == pytest.approx(user + np.array([0, 0.5]))


def test_bpr_loss_by_hand() -> None:
    factors = Factors(1, 2, BPRConfig(dim=2, regularisation=0.1), torch.Generator())
    factors.users.data, factors.items.data = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    factors.biases.data = torch.tensor([0.5, 0.0])
    loss = factors(torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))
    assert loss.item() == pytest.approx(log(1 + exp(-1.5)) + 0.05 * (5 + 9 + 1))  # 3 - 2 + 0.5 apart


def test_bpr_learns_two_separate_tastes() -> None:
    rng = np.random.default_rng(0)
    tastes = [(rng.permutation(8)[:6] + 8 * (user % 2)).tolist() for user in range(40)]
    split = leave_one_out(interactions(*tastes, num_items=16))
    ranker = BPRMF(BPRConfig(dim=8, learning_rate=0.03, batch=32, epochs=20)).fit(split)
    scores = ranker.scores([history(0, 1), history(8, 9)])
    assert scores[0, 2:8].min() > scores[0, 10:].max()
    assert scores[1, 10:].min() > scores[1, 2:8].max()


def test_prior_parts_are_log_distributions_and_join_by_their_weights() -> None:
    split = leave_one_out(cycles())
    prior = CooccurrencePrior().fit(split)
    asked = [history(3, 4, 5), EMPTY_HISTORY]
    parts = prior.parts(asked)
    assert set(parts) == set(prior.weights) == {"ease", "markov"}
    for part in parts.values():
        assert np.exp(part).sum(axis=1) == pytest.approx([1, 1], abs=1e-4)
    joined = sum(np.float32(prior.weights[name]) * part for name, part in parts.items())
    assert prior.scores(asked) == pytest.approx(joined, abs=1e-5)


def test_prior_is_restored_from_its_arrays() -> None:
    prior = CooccurrencePrior().fit(leave_one_out(cycles()))
    arrays = prior.arrays()
    restored = CooccurrencePrior.from_arrays(arrays)
    asked = [history(3, 4, 5), EMPTY_HISTORY, history(7)]
    assert (restored.scores(asked) == prior.scores(asked)).all()
    assert restored.weights == prior.weights
    del arrays["markov"]
    with pytest.raises(ValueError, match="needs the arrays markov too"):
        CooccurrencePrior.from_arrays(arrays)


# ── Laws of every baseline ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", RANKERS)
def test_baselines_are_rankers_that_see_no_test_case(name: str) -> None:
    """The same fit whatever the test cases are; finite scores, of every item, the empty history too."""
    split = leave_one_out(cycles())
    blind = Split(split.train, split.validation, split.validation.take(np.array([0])))
    one, other = RANKERS[name]().fit(split), RANKERS[name]().fit(blind)
    assert isinstance(one, Ranker)
    assert one.name == name
    asked = [*split.test.histories, EMPTY_HISTORY]
    scores = one.scores(asked)
    assert scores.shape == (len(asked), 20)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert (scores == other.scores(asked)).all()


@pytest.mark.parametrize("name", ["Markov", "EASE + recency", "EASE + Markov"])
def test_order_aware_baselines_walk_the_circle(name: str) -> None:
    split = leave_one_out(cycles())
    ranker = RANKERS[name]().fit(split)
    result = evaluate(ranker, split.test, split.train, k=1)
    popular = evaluate(Popularity().fit(split), split.test, split.train, k=1)
    assert result.mean("hr@1") > 0.9 > 0.3 > popular.mean("hr@1")


@pytest.mark.parametrize("name", RANKERS)
def test_training_without_validation_cases_works(name: str) -> None:
    ranker = RANKERS[name]().fit(training_only(cycles()))
    assert np.isfinite(ranker.scores([history(1, 2)])).all()


def test_validation_chooses_the_setting() -> None:
    split = leave_one_out(cycles())
    config = EASEConfig((10.0,), (inf, LAST_ONLY))  # on a circle only the last event tells what follows
    assert RecencyEASE(config).fit(split).half_life == LAST_ONLY
    assert RecencyEASE(config).fit(training_only(split.train)).half_life == inf  # the first, where nothing can choose
    assert RecentPopularity().fit(training_only(split.train)).half_life == inf


# ── Real data ────────────────────────────────────────────────────────────────────────────────────


def test_baselines_reach_what_was_measured_on_real_films(films: Interactions) -> None:
    """One setting each, near what validation chooses; the bars are published or measured elsewhere."""
    split = leave_one_out(films)
    bars = {
        EASE(EASEConfig((200.0,))): (0.1393, 0.0688),
        RecencyEASE(EASEConfig((100.0,), (5.0,))): (0.1656, 0.0797),
        Markov(MarkovConfig((0.8,), (0.3,), (0.2,), half_lives=(2.0,))): (0.182, 0.102),
    }
    for ranker, (hit_rate, ndcg) in bars.items():
        result = evaluate(ranker.fit(split), split.test, split.train)
        assert result.mean("hr@10") > hit_rate - 0.005, ranker.name
        assert result.mean("ndcg@10") > ndcg - 0.003, ranker.name


def test_id_baselines_cannot_find_cold_films(films: Interactions) -> None:
    split, cold = hold_out_items(films, 0.1, np.random.default_rng(0))
    ease = EASE(EASEConfig((100.0,))).fit(split)
    assert not np.isin(evaluate(ease, split.test, split.train).lists, cold).any()


def random_log(seed: int) -> Interactions:
    rng = np.random.default_rng(seed)
    users, items, count = int(rng.integers(2, 8)), int(rng.integers(3, 9)), int(rng.integers(5, 40))
    columns = (rng.integers(users, size=count), rng.integers(items, size=count), np.zeros(count, np.int64))
    return Interactions.sort(*columns, rng.integers(10, size=count), users, items)


def test_smallest_probability_keeps_logs_finite() -> None:
    """A chain without smoothing gives zeros; the prior's log of it is low, not -inf."""
    prior = CooccurrencePrior().fit(training_only(interactions([0, 1], [0, 1], num_items=3)))
    prior.markov.matrix = np.eye(3, dtype=np.float32)
    assert prior.parts([history(0)])["markov"][0] == pytest.approx([0, log(1e-9), log(1e-9)], rel=1e-4)
