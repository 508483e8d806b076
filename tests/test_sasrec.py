"""SASRec: causality, windows that lose nothing, determinism, and a circle that it must learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m6rec_mini.baselines import Popularity
from m6rec_mini.catalog import EMPTY_HISTORY, History, Interactions
from m6rec_mini.evaluation import Ranker, Split, evaluate, leave_one_out
from m6rec_mini.sasrec import SASRec, SASRecConfig, SASRecNet, batches, pad, windows

SMALL = SASRecConfig(dim=16, layers=1, heads=2, events=6, dropout=0.1, learning_rate=0.01, epochs=12)


def cycles(users: int = 40, num_items: int = 12) -> Interactions:
    """Everybody walks the same circle of items from their own start, for 8 to 11 steps."""
    rng = np.random.default_rng(0)
    walks = [(rng.integers(num_items) + np.arange(rng.integers(8, 12))) % num_items for _ in range(users)]
    owner = np.repeat(np.arange(users), [len(walk) for walk in walks])
    steps = np.concatenate([np.arange(len(walk)) for walk in walks])
    return Interactions.sort(owner, np.concatenate(walks), np.zeros_like(owner), steps, users, num_items)


def history(*items: int) -> History:
    return History(np.array(items, np.int64), np.zeros(len(items), np.int64), np.arange(len(items)))


@pytest.fixture(scope="module")
def split() -> Split:
    return leave_one_out(cycles())


@pytest.fixture(scope="module")
def fitted(split: Split) -> SASRec:
    return SASRec(SMALL).fit(split)


def test_sasrec_learns_the_circle_and_popularity_does_not(split: Split, fitted: SASRec) -> None:
    assert isinstance(fitted, Ranker)
    sasrec, popular = (evaluate(r, split.test, split.train, k=1) for r in (fitted, Popularity().fit(split)))
    assert sasrec.mean("hr@1") > 0.9
    assert popular.mean("hr@1") < 0.5


@given(st.lists(st.integers(0, 11), min_size=2, max_size=6), st.integers(0, 11), st.data())
def test_the_future_does_not_change_the_past(items: list[int], other: int, data: st.DataObject) -> None:
    torch.manual_seed(0)
    net = SASRecNet(12, SMALL).eval()
    place = data.draw(st.integers(1, len(items) - 1))
    changed = [*items[:place], other, *items[place + 1 :]]
    with torch.no_grad():
        one, two = net(torch.tensor([items, changed]))
    assert torch.allclose(one[:place], two[:place], atol=1e-6)
    if other != items[place]:
        assert not torch.allclose(one[place:], two[place:], atol=1e-6)


def test_padding_and_company_do_not_change_scores(fitted: SASRec) -> None:
    asked = [history(1, 2, 3), history(4), EMPTY_HISTORY, history(5, 6, 7, 8, 9, 10, 11)]
    together = fitted.scores(asked)
    alone = np.concatenate([fitted.scores([one]) for one in asked])
    assert together == pytest.approx(alone, abs=1e-5)
    assert (together[2] == fitted.fallback).all()  # nothing known: popularity


def test_only_the_last_events_are_read(fitted: SASRec) -> None:
    recent = history(3, 4, 5, 6, 7, 8)
    assert (fitted.scores([history(9, 0, *recent.items)]) == fitted.scores([recent])).all()


def test_a_seed_gives_one_result_and_leaves_the_callers_random_state(split: Split, fitted: SASRec) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    again = SASRec(SMALL).fit(split)
    assert torch.equal(torch.random.get_rng_state(), before)
    asked = split.test.histories
    assert (again.scores(asked) == fitted.scores(asked)).all()
    other = SASRec(replace(SMALL, seed=1, epochs=1)).fit(split)
    assert not np.allclose(other.scores(asked), SASRec(replace(SMALL, epochs=1)).fit(split).scores(asked))


def test_training_stops_when_validation_does_and_keeps_the_best(split: Split) -> None:
    """With a rate of zero nothing improves after the first look, so patience ends it."""
    ranker = SASRec(replace(SMALL, learning_rate=0.0, epochs=1000, every=1, patience=2)).fit(split)
    assert ranker.chosen == "1 epochs"


@given(st.integers(0, 1000), st.integers(1, 7), st.lists(st.integers(0, 30), min_size=1, max_size=4))
def test_windows_predict_every_event_once_or_more(seed: int, events: int, lengths: list[int]) -> None:
    owner = np.repeat(np.arange(len(lengths)), lengths)
    count = len(owner)
    train = Interactions.sort(owner, np.arange(count), np.zeros_like(owner), np.arange(count), len(lengths), count + 1)
    rows = windows(train, events, np.random.default_rng(seed))
    assert all(2 <= len(row) <= events + 1 for row in rows)
    assert all((np.diff(row) == 1).all() for row in rows)  # consecutive events…
    assert all(len(set(owner[row])) == 1 for row in rows)  # …of one user
    predicted = {int(item) for row in rows for item in row[1:]}
    starts = set((np.cumsum(lengths) - lengths).tolist())  # only a first event cannot be predicted
    assert predicted == set(range(count)) - starts


@given(st.lists(st.integers(1, 9), max_size=20), st.integers(1, 5))
def test_batches_hold_every_row_once(lengths: list[int], size: int) -> None:
    rows = [np.full(length, n) for n, length in enumerate(lengths)]
    found = [int(row[0]) for batch in batches(rows, size, np.random.default_rng(0)) for row in batch]
    assert sorted(found) == list(range(len(rows)))


def test_pad_by_hand() -> None:
    assert pad([np.array([1, 2, 3]), np.array([4])], 9).tolist() == [[1, 2, 3], [4, 9, 9]]
