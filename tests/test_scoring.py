"""The joined score: each part by its definition, weights against another optimiser, new items that disturb nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from builders import (
    SIZES,
    randn,
    random_catalogue,
    random_content,
    random_histories,
    tiny_config,
    tiny_model,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp

from m6rec_mini.catalog import EMPTY_HISTORY, History
from m6rec_mini.evaluation import Cases
from m6rec_mini.generation import TrieTensors, id_log_likelihood
from m6rec_mini.model import Batch
from m6rec_mini.prior import CooccurrencePrior
from m6rec_mini.scoring import PARTS, Scorer, Weights, closed_items, fit_weights, nearest
from m6rec_mini.semantic_ids import Trie

ITEMS, UNSEEN = 12, (3, 8)
SEEN = np.delete(np.arange(ITEMS), UNSEEN)
EVEN = Weights(1.0, 0.7, 0.5, 0.3, 0.6, 0.2)
HISTORIES = random_histories((0, 3, 14, 1), ITEMS)  # none, few, more than the decoder reads, one


def random_prior(items: int = ITEMS) -> CooccurrencePrior:
    rng = np.random.default_rng(4)
    ease, markov = rng.normal(size=(items, items)), rng.random((items, items)) + 0.01
    settings = np.array([3.0, 1.0, 0.5, 0.5])
    popularity = rng.random(items)
    arrays = {"ease": ease, "markov": markov / markov.sum(1, keepdims=True), "popularity": popularity}
    arrays = {name: x.astype(np.float32) for name, x in arrays.items()}
    return CooccurrencePrior.from_arrays({**arrays, "settings": settings})


@cache
def scorer(unseen: tuple[int, ...] = UNSEEN, kind: str = "attention") -> Scorer:
    model = tiny_model(num_items=ITEMS, config=tiny_config(kind))
    text = model.encoders.encoders["text"]
    text.word_axes = randn(*text.word_axes.shape, seed=7)
    catalogue = random_catalogue(model, ITEMS, unseen, seed=2)
    counts = np.where(catalogue.seen.numpy(), np.arange(ITEMS) + 1, 0)
    return Scorer(model, catalogue, random_prior(), counts, EVEN)


def weighed(weights: Weights, unseen: tuple[int, ...] = UNSEEN) -> Scorer:
    kept = scorer(unseen)
    return Scorer(kept.model, kept.catalogue, kept.prior, kept.counts, weights)


def assert_distribution(scores: np.ndarray) -> None:
    assert scores.dtype == np.float32
    assert logsumexp(scores, axis=1) == pytest.approx(np.zeros(len(scores)), abs=1e-5)


def odds(scores: np.ndarray, items: Sequence[int] | np.ndarray = SEEN) -> np.ndarray:
    """Log-odds of `items` against the first of them."""
    return np.asarray(scores[:, items] - scores[:, items[:1]])


# ---- the parts ------------------------------------------------------------------------------------


def test_the_decoders_part_is_one_softmax_after_each_history() -> None:
    kept = scorer()
    scores = kept.decoder(HISTORIES)
    assert_distribution(scores)
    for history, row in zip(HISTORIES, scores, strict=True):
        with torch.no_grad():  # alone, without padding
            state = kept.model.decoder(kept.model.embed(kept.vectors, Batch.of([history.last(10)])))[:, -1]
            expected = kept.model.vector_logits(state, kept.vectors).log_softmax(-1)[0]
        assert row == pytest.approx(expected.numpy(), abs=1e-4)


def test_content_by_hand() -> None:
    kept = weighed(EVEN, unseen=(3,))
    kept.likeness, kept.seen = np.array([[1, 0], [0, 1], [0.6, 0.8], [-1, 0]], np.float32), np.array([1, 1, 1, 0]) > 0
    history = History(np.array([0, 1]), np.zeros(2, np.int64), np.arange(2))
    # An event before the last counts half: the mean is (0.5, 1), and the products 0.5, 1, 1.1 and -0.5.
    spread = np.sqrt(((0.5 - 2.6 / 3) ** 2 + (1 - 2.6 / 3) ** 2 + (1.1 - 2.6 / 3) ** 2) / 3)  # of the seen three
    by_hand = (np.array([0.5, 1, 1.1, -0.5]) - 2.6 / 3) / spread
    scores = kept.content([history, EMPTY_HISTORY], half_life=1.0)
    assert scores[0] == pytest.approx(by_hand, rel=1e-5)
    assert (scores[1] == 0).all()


def test_neighbours_by_hand() -> None:
    likeness = np.array([[0.6, 0.8], [-1, 0], [1, 0], [0, 1], [0.8, 0.6]], np.float32)
    rows, shares = nearest(likeness, np.array([True, True, False, True, True]), count=2)
    assert rows.tolist() == [[4, 0]]
    assert shares[0] == pytest.approx([0.8 / 1.4, 0.6 / 1.4])
    rows, shares = nearest(likeness, np.array([True, True, False, False, False]), count=5)
    assert rows.tolist() == [[0, 1]] * 3  # there are only two
    assert shares[0] == pytest.approx([1, 0], abs=1e-6)  # what is unlike lends nothing
    assert shares.sum(1) == pytest.approx([1, 1, 1])


def test_items_without_counts_get_the_mean_of_their_neighbours() -> None:
    kept = weighed(EVEN)
    kept.lent = np.array([[0, 5], [2, 1]]), np.array([[0.75, 0.25], [1.0, 0.0]], np.float32)
    parts = kept.parts(HISTORIES)
    assert set(parts) == set(PARTS)
    assert kept.prior is not None
    for name, own in kept.prior.parts(HISTORIES).items():
        assert np.array_equal(parts[name][:, SEEN], own[:, SEEN])
        assert np.exp(parts[name][:, 3]) == pytest.approx(0.75 * np.exp(own[:, 0]) + 0.25 * np.exp(own[:, 5]), rel=1e-4)
        assert parts[name][:, 8] == pytest.approx(own[:, 2], rel=1e-4)


def test_without_a_prior_there_are_two_parts() -> None:
    kept = scorer()
    bare = Scorer(kept.model, kept.catalogue, None, kept.counts, EVEN)
    assert set(bare.parts(HISTORIES)) == {"decoder", "content"}
    assert_distribution(bare.scores(HISTORIES))
    assert bare.scores([]).shape == (0, ITEMS)


# ---- joining --------------------------------------------------------------------------------------


def test_join_by_hand() -> None:
    kept = weighed(Weights(decoder=2.0, content=0.5, fresh=3.0, popularity_penalty=0.1))
    decoder, content = (np.random.default_rng(n).normal(size=(2, ITEMS)).astype(np.float32) for n in range(2))
    raw = 2 * decoder + np.where(kept.seen, 0.5, 3.0) * content - 0.1 * np.log(1 + kept.counts)
    joined = kept.join({"decoder": decoder, "content": content})
    assert joined == pytest.approx(log_softmax(raw, axis=1), abs=1e-5)
    assert_distribution(joined)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_left_out_is_a_part_of_weight_zero(name: str) -> None:
    parts = scorer().parts(HISTORIES)
    nothing = {name: 0.0} | ({"fresh": 0.0} if name == "content" else {})
    without = {other: part for other, part in parts.items() if other != name}
    silent = weighed(replace(EVEN, **nothing)).join(parts)
    assert scorer().join(without) == pytest.approx(silent, abs=1e-5)
    assert not np.allclose(silent, scorer().join(parts), atol=1e-2)


@settings(max_examples=20)
@given(st.lists(st.floats(0, 2, width=16), min_size=6, max_size=6))
def test_whatever_the_weights_scores_are_a_distribution(weights: list[float]) -> None:
    scores = weighed(Weights(*weights)).scores(HISTORIES)
    assert_distribution(scores)
    assert np.isfinite(scores).all()


def test_a_popularity_penalty_lowers_what_is_popular() -> None:
    plain, fined = (weighed(replace(EVEN, popularity_penalty=p)).scores(HISTORIES) for p in (0.2, 0.7))
    change = fined - plain
    assert odds(change, np.arange(ITEMS)) == pytest.approx(
        np.tile(-0.5 * (np.log1p(scorer().counts) - np.log1p(scorer().counts[0])), (4, 1)), abs=1e-4
    )
    assert (np.diff(change[:, SEEN]) < 0).all()  # counts rise with the row


# ---- fitting the weights --------------------------------------------------------------------------


class Given(Scorer):
    """A scorer of parts that a test has chosen."""

    def __init__(self, parts: Mapping[str, np.ndarray], unseen: Sequence[int] = ()) -> None:
        self.given = {name: part.astype(np.float32) for name, part in parts.items()}
        self.seen = ~np.isin(np.arange(parts["decoder"].shape[1]), unseen)
        self.weights = Weights(fresh=0.9, popularity_penalty=0.25)

    def parts(self, histories: Sequence[History]) -> dict[str, np.ndarray]:
        return {name: part[[int(history.times[0]) for history in histories]] for name, part in self.given.items()}


def toy(seed: int = 0, cases: int = 60, items: int = 9) -> tuple[dict[str, np.ndarray], Cases]:
    """Targets drawn from two of three parts; the third is wrong, and the fourth absent."""
    rng = np.random.default_rng(seed)
    parts = {name: rng.normal(size=(cases, items)) for name in ("decoder", "ease", "content")}
    truth = np.exp(log_softmax(1.5 * parts["decoder"] + 0.7 * parts["ease"] - 0.8 * parts["content"], axis=1))
    targets = np.array([rng.choice(items, p=p / p.sum()) for p in truth])
    histories = [History(rng.integers(0, items, 2), np.zeros(2, np.int64), np.full(2, n)) for n in range(cases)]
    return parts, Cases(np.arange(cases), targets, histories, np.zeros(cases, bool))


def nll(weights: ArrayLike, parts: Mapping[str, np.ndarray], cases: Cases, seen: np.ndarray) -> float:
    logits = np.stack(list(parts.values()), axis=-1) @ np.asarray(weights)
    logits = np.where(closed_items(cases, seen), -np.inf, logits)
    return float(-log_softmax(logits, axis=1)[np.arange(len(cases)), cases.targets].mean())


@pytest.mark.parametrize("seed", range(3))
def test_weights_agree_with_another_optimiser(seed: int) -> None:
    parts, cases = toy(seed)
    kept = Given(parts)
    found = fit_weights(kept, cases)
    ours = np.array([found.decoder, found.ease, found.content])
    best = minimize(nll, np.ones(3), (parts, cases, kept.seen), bounds=[(0, None)] * 3)
    assert ours == pytest.approx(best.x, abs=0.02)
    assert nll(ours, parts, cases, kept.seen) == pytest.approx(best.fun, abs=1e-4)
    assert 0 <= found.content < 0.02  # it would be negative if it could
    assert (found.markov, found.fresh, found.popularity_penalty) == (0.0, 0.9, 0.25)  # not asked about


@settings(max_examples=10)
@given(st.integers(0, 1000), st.floats(0, 4))
def test_together_the_parts_are_never_less_likely_than_one_of_them(seed: int, alone: float) -> None:
    parts, cases = toy(seed, cases=25)
    kept = Given(parts)
    found = fit_weights(kept, cases)
    ours = nll([found.decoder, found.ease, found.content], parts, cases, kept.seen)
    assert ours <= min(nll(alone * np.eye(3)[n], parts, cases, kept.seen) for n in range(3)) + 1e-3


def test_what_training_has_not_seen_does_not_weigh() -> None:
    parts, cases = toy()
    kept = Given(parts, unseen=(2, 5))
    known = cases.take(np.flatnonzero(~np.isin(cases.targets, (2, 5))))
    assert 0 < len(known) < len(cases)
    assert fit_weights(kept, cases) == fit_weights(kept, known)
    changed = {name: np.where(kept.seen, part, 99 * part) for name, part in parts.items()}  # as rivals neither
    assert fit_weights(Given(changed, unseen=(2, 5)), cases) == fit_weights(kept, cases)
    assert fit_weights(kept, cases.take(np.flatnonzero(np.isin(cases.targets, (2, 5))))) == kept.weights


def test_closed_items_by_hand() -> None:
    histories = [History(np.array([0, 2]), np.zeros(2, np.int64), np.arange(2)), EMPTY_HISTORY]
    cases = Cases(np.arange(2), np.array([2, 3]), histories, np.zeros(2, bool))
    closed = closed_items(cases, np.array([True, True, True, False]))
    assert closed.tolist() == [[True, False, False, True], [False, False, False, False]]


# ---- new items ------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.lists(st.floats(0, 2, width=16), min_size=6, max_size=6), st.integers(1, 6), st.integers(0, 50))
def test_new_items_change_nothing_between_the_others(weights: list[float], new: int, seed: int) -> None:
    kept = weighed(Weights(*weights))
    wider = kept.with_items(random_content(new, seed))
    before, after = kept.scores(HISTORIES), wider.scores(HISTORIES)
    assert after.shape == (4, ITEMS + new)
    assert_distribution(after)
    assert odds(after, np.arange(ITEMS)) == pytest.approx(odds(before, np.arange(ITEMS)), abs=2e-3)
    assert wider.weights == kept.weights


def test_a_new_item_is_judged_as_an_unseen_one_of_the_same_content() -> None:
    content = random_content(ITEMS, seed=2)  # as the catalogue has it
    wider = scorer().with_items(content.rows(torch.tensor(UNSEEN)))
    scores = wider.scores(HISTORIES)
    assert scores[:, ITEMS:] == pytest.approx(scores[:, UNSEEN], abs=1e-3)
    twice = scorer().with_items(content.rows(torch.tensor([3]))).with_items(content.rows(torch.tensor([8])))
    assert twice.scores(HISTORIES) == pytest.approx(scores, abs=1e-4)
    seen = scorer().with_items(content.rows(torch.from_numpy(SEEN))).decoder(HISTORIES)
    assert not np.allclose(seen[:, ITEMS:], seen[:, SEEN], atol=1e-2)  # these have identities beside content


def test_events_on_new_items_are_read_but_not_counted() -> None:
    wider = scorer().with_items(random_content(3))
    old, new = HISTORIES[1], np.array([ITEMS, ITEMS + 2])
    mixed = History(np.append(old.items, new), np.append(old.actions, [0, 1]), np.append(old.times, [10**7, 10**7 + 9]))
    only = History(new, np.array([0, 1]), np.arange(2))
    parts, plain = wider.parts([mixed, only]), wider.parts([old, EMPTY_HISTORY])
    for name in PARTS:
        same = np.allclose(parts[name], plain[name], atol=1e-5)
        assert same == (name in ("ease", "markov")), name


# ---- codes ----------------------------------------------------------------------------------------


def test_a_wide_beam_is_the_exhaustive_likelihood_of_the_codes() -> None:
    kept = scorer()
    ids = kept.catalogue.ids
    assert ids is not None
    trie = TrieTensors.of(Trie.build(ids.numpy(), SIZES))
    scores = kept.codes(HISTORIES, width=ITEMS)
    assert_distribution(scores)
    for history, row in zip(HISTORIES, scores, strict=True):
        with torch.no_grad():
            states = kept.model.decoder(kept.model.embed(kept.vectors, Batch.of([history.last(10)])))
        assert row == pytest.approx(id_log_likelihood(kept.model.decoder, states, ids, trie).numpy(), abs=1e-4)
    narrow = kept.codes(HISTORIES, width=3)
    found = np.isfinite(narrow)
    assert (found.sum(1) == 3).all()
    assert narrow[found] == pytest.approx(scores[found], abs=1e-4)


def test_new_items_have_no_codes() -> None:
    with pytest.raises(ValueError, match="no semantic IDs"):
        scorer().with_items(random_content(2)).codes(HISTORIES)


# ---- what a score is made of ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["attention", "concatenation"])
def test_modality_shares_by_their_definition(kind: str) -> None:
    kept, rows = scorer(kind=kind), np.arange(ITEMS)
    tokens, present = kept.catalogue.tokens, kept.catalogue.present
    for history in HISTORIES[:2]:
        shares = kept.modality_shares(history, rows)
        with torch.no_grad():
            state = kept.model.decoder(kept.model.embed(kept.vectors, Batch.of([history])))[0, -1]
            full = kept.model.vector_logits(state, kept.vectors)
            average = kept.model.vector_logits(state, kept.vectors.mean(0, keepdim=True))[0]
        for name, span in kept.model.encoders.spans.items():
            assert np.array_equal(np.isnan(shares[name]), ~present[:, span].any(1).numpy())
            for row in np.flatnonzero(present[:, span].any(1).numpy()):
                hidden = present[row : row + 1].clone()
                hidden[:, span] = False
                left = average
                if hidden.any():  # the item as it would be without this modality, its identity kept
                    with torch.no_grad():
                        content = [kept.model.content_vectors(tokens[[row]], p)[0] for p in (hidden, present[[row]])]
                        vector = kept.vectors[row] - content[1] + content[0]
                        left = kept.model.vector_logits(state, vector[None])[0]
                assert shares[name][row] == pytest.approx(float(full[row] - left), abs=1e-3)


def test_attention_adds_up_and_is_nothing_for_concatenation() -> None:
    kept, rows = scorer(), np.array([5, 0, 1, 5])
    attention = kept.attention(rows)
    assert list(attention) == list(kept.model.encoders.spans)
    assert sum(attention.values()) == pytest.approx(np.ones(4), abs=1e-5)
    for name, span in kept.model.encoders.spans.items():
        there = kept.catalogue.present[rows, span].any(1).numpy()
        assert np.array_equal(attention[name] > 0, there)
    assert scorer(kind="concatenation").attention(rows) == {}


def test_a_new_item_can_be_the_best() -> None:
    """A picture of what the history likes: nobody has touched it, and it comes first."""
    kept = weighed(Weights(decoder=0.0, fresh=5.0))
    content = random_content(ITEMS, seed=2)
    liked = History(np.array([0, 0]), np.ones(2, np.int64), np.arange(2))
    wider = kept.with_items(content.rows(torch.tensor([0])))
    assert wider.scores([liked])[0].argmax() == ITEMS
