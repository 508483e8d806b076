"""The recipe: windows that lose nothing, the validation loss by its definition, and nothing learnt from the unseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from builders import random_catalogue, random_histories, random_history, tiny_config, tiny_model
from hypothesis import given
from hypothesis import strategies as st
from small import ITEMS, UNSEEN, assert_same, small_catalog, small_recipe, timeless

from m6rec_mini.catalog import EMPTY_HISTORY, Catalog, DataError, Event, History, Interactions, Item
from m6rec_mini.content import ContentConfig, ContentReader
from m6rec_mini.evaluation import Cases, leave_one_out
from m6rec_mini.model import Batch
from m6rec_mini.recipe import batches_of, comments_in, followed, mean_loss, train, windows
from m6rec_mini.recommender import Recommender
from m6rec_mini.training import Epoch, load_tensors, seeded

SEEN = np.delete(np.arange(ITEMS), UNSEEN)
LONG = [2, 30, 1, 11, 6, 5]  # events of each user


def log_of(lengths: Sequence[int]) -> Interactions:
    """Users with so many events; each event has a time of its own, by which it is recognised."""
    users = np.repeat(np.arange(len(lengths)), lengths)
    count = len(users)
    return Interactions.sort(users, np.arange(count) % 7, np.arange(count) % 3, np.arange(count), len(lengths), 7)


def times(batches: list[list[History]]) -> list[tuple[int, ...]]:
    return [tuple(window.times.tolist()) for batch in batches for window in batch]


# ---- windows --------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(2, 9), st.integers(1, 4), st.integers(0, 99))
def test_windows_are_pieces_of_histories_and_lose_nothing(lengths: list[int], length: int, batch: int, s: int) -> None:
    log = log_of(lengths)
    batches = windows(log, length, batch, np.random.default_rng(s))
    found = times(batches)
    assert all(1 <= len(rows) <= batch for rows in batches)
    seen = set()
    for window in (window for rows in batches for window in rows):
        start = int(window.times[0])
        whole = slice(start, start + len(window))  # times are rows of the log
        assert 2 <= len(window) <= length
        assert len(set(log.users[whole])) == 1
        for column, expected in ((window.items, log.items), (window.actions, log.actions), (window.times, log.times)):
            assert np.array_equal(column, expected[whole])
        seen |= set(window.times.tolist())
    for user, count in enumerate(lengths):
        first, end = int(log.bounds[user]), int(log.bounds[user + 1])
        newest = tuple(range(max(end - length, first), end))
        assert (newest in found) == (count > 1)
        assert set(range(first + 1, end)) <= seen  # the first event may be left alone, and then out
        if 2 <= count <= length:
            assert found.count(newest) == 1


def test_each_epoch_cuts_and_mixes_anew_but_the_same_for_everybody() -> None:
    log = log_of(LONG)
    epochs = [times(windows(log, 6, 2, np.random.default_rng(seed))) for seed in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2]
    assert set(epochs[0]) != set(epochs[2])  # other cuts, not only another order
    starts = {
        window[0] for seed in range(60) for window in times(windows(log, 6, 2, np.random.default_rng(seed))) if window
    }
    rows = range(int(log.bounds[1]), int(log.bounds[2]) - 5)
    assert starts >= set(rows)  # over the epochs, a window of the long history starts everywhere


def test_a_batch_holds_histories_of_about_equal_length() -> None:
    log = log_of([*range(2, 18)] * 2)
    spread = [max(map(len, rows)) - min(map(len, rows)) for rows in windows(log, 20, 4, np.random.default_rng(0))]
    assert max(spread) <= 2  # all fit into one pool, where four neighbours in length are two pairs


def test_batches_hold_one_event_more_than_the_decoder_reads() -> None:
    batches = batches_of(log_of(LONG), 5, 3, "cpu")(np.random.default_rng(0))
    assert max(int(batch.lengths.max()) for batch in batches) == 6
    assert max(batch.but_last.items.shape[1] for batch in batches) == 5


# ---- what validation asks -------------------------------------------------------------------------


def test_followed_by_hand() -> None:
    past = History(np.array([4, 5, 6]), np.array([1, 2, 1]), np.array([10, 20, 40]))
    told = followed(past, 9, 2)
    assert told.items.tolist() == [5, 6, 9]
    assert told.actions.tolist()[:2] == [2, 1]
    assert told.times.tolist() == [20, 40, 40]
    first = followed(EMPTY_HISTORY, 9, 2)
    assert (first.items.tolist(), len(first.times)) == ([9], 1)
    assert Batch.of([told]).but_last.gaps[0, 1] == Batch.of([past.last(2)]).gaps[0, 1]


def cases_of(histories: list[History], targets: Sequence[int]) -> Cases:
    count = len(targets)
    return Cases(np.arange(count), np.array(targets, np.int64), histories, np.zeros(count, bool))


def test_mean_loss_is_what_it_says() -> None:
    unseen = (2, 7)
    model = tiny_model(num_items=9, config=tiny_config())
    kept = random_catalogue(model, 9, unseen)
    targets = [0, 3, 2, 8, 1, 5, 7]  # two of them unseen: they do not count
    histories = [*random_histories((3, 0, 4, 12, 1, 2), 9), random_history(5, 9, seed=9)]
    histories[1] = EMPTY_HISTORY
    assert targets[4] not in histories[4].items
    histories[4] = followed(histories[4], targets[4], 10)  # also a target that the history holds is open
    vectors = model.item_vectors(kept.tokens, kept.present, kept.seen)
    losses = []
    for history, target in zip(histories, targets, strict=True):
        if target not in unseen:
            state = model.decoder(model.embed(vectors, Batch.of([history.last(10)])))[0, -1]
            open_items = [i for i in range(9) if i == target or (i not in unseen and i not in history.items)]
            losses.append(-model.vector_logits(state, vectors[open_items]).log_softmax(0)[open_items.index(target)])
    expected = torch.stack(losses).mean().item()
    cases = cases_of(histories, targets)
    assert mean_loss(model, kept, cases) == pytest.approx(expected, rel=1e-5)
    assert mean_loss(model, kept, cases, batch=2) == pytest.approx(expected, rel=1e-5)
    assert mean_loss(model, kept, cases_of(histories[:2], unseen)) == 0.0


# ---- nothing of the unseen ------------------------------------------------------------------------


def test_only_comments_of_training_events_are_read() -> None:
    said = [("a", "i0", 1, "one"), ("a", "i1", 2, "two"), ("a", "i0", 3, "three"), ("a", "i2", 4, "four"),
            ("b", "i0", 1, "five"), ("b", "i0", 1, "six")]  # fmt: skip
    events = [Event(user, item, "comment", time, words) for user, item, time, words in said]
    events += [Event("a", "i3", "view", 0), Event("b", "i1", "comment", 2)]
    catalog = Catalog("c", [Item(f"i{n}", text="x") for n in range(4)], events)
    split = leave_one_out(catalog.interactions)
    assert comments_in(catalog, catalog.interactions) == ["one", "two", "three", "four", "five", "six"]
    assert comments_in(catalog, split.train) == ["one", "two", "five", "six"]


class Run(NamedTuple):
    recommender: Recommender
    log: list[Epoch]
    folder: Path


def run(folder: Path, catalog: Catalog | None = None, seed: int = 0) -> Run:
    catalog, log = catalog or small_catalog(), list[Epoch]()
    split = leave_one_out(catalog.interactions)
    return Run(train(catalog, split, small_recipe(epochs=1, seed=seed), folder, log.append), log, folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("trained"))


def scores(recommender: Recommender) -> np.ndarray:
    """Of histories of items that were in training: what others say may matter where they are in a history."""
    histories = random_histories((1, 4, 9), ITEMS)
    for history in histories:
        history.items[np.isin(history.items, UNSEEN)] = SEEN[0]
    return recommender.scores([EMPTY_HISTORY, *histories])


def otherwise(catalog: Catalog) -> Catalog:
    """The same training events; the unseen items, and what is said of late events, are quite different."""
    items = list(catalog.items)
    for row in UNSEEN:
        old = items[row]
        text = None if old.text is None else "zebra quagga okapi " * 3
        items[row] = replace(old, text=text, features={name: -50 * x for name, x in old.features.items()})
    last = {event.user: n for n, event in enumerate(catalog.events)}
    late = {n - back for n in last.values() for back in (0, 1)}
    events = [
        replace(event, comment="zebra zebra") if n in late and event.comment else event
        for n, event in enumerate(catalog.events)
    ]
    return Catalog(catalog.name, items, events)


def test_what_is_unseen_in_training_changes_nothing_that_was_learnt(trained: Run, tmp_path: Path) -> None:
    before, changed = small_catalog(), otherwise(small_catalog())
    assert sum(a != b for a, b in zip(before.events, changed.events, strict=True)) > 3
    other = run(tmp_path, changed)
    assert other.recommender.reader.to_json() == trained.recommender.reader.to_json()
    one, two = (r.recommender.scorer for r in (trained, other))
    assert_same(one.model.state_dict(), two.model.state_dict())
    assert timeless(other.log) == timeless(trained.log)
    assert vars(one.weights) == pytest.approx(vars(two.weights), abs=1e-4)
    for name in ("ids", "keywords"):
        assert torch.equal(getattr(one.catalogue, name)[SEEN], getattr(two.catalogue, name)[SEEN])
    a, b = scores(trained.recommender), scores(other.recommender)
    np.testing.assert_allclose(np.diff(a[:, SEEN]), np.diff(b[:, SEEN]), atol=1e-4)  # log-odds among the others
    assert not np.allclose(a[1:, UNSEEN] - a[1:, :1], b[1:, UNSEEN] - b[1:, :1], atol=1e-2)


def test_the_unseen_are_their_content_and_the_seen_more(trained: Run) -> None:
    scorer = trained.recommender.scorer
    content = scorer.model.content_vectors(scorer.catalogue.tokens, scorer.catalogue.present)
    more = (scorer.vectors - content).abs().amax(1).numpy()
    assert (more == 0).nonzero()[0].tolist() == list(UNSEEN)
    assert scorer.seen.nonzero()[0].tolist() == SEEN.tolist()


# ---- from beginning to end ------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_scores_and_another_seed_others(trained: Run, tmp_path: Path) -> None:
    torch.rand(3)
    state = torch.get_rng_state()
    again = run(tmp_path / "again")
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(scores(again.recommender), scores(trained.recommender))
    assert timeless(again.log) == timeless(trained.log)
    other = run(tmp_path / "other", seed=1)
    assert not np.allclose(scores(other.recommender), scores(trained.recommender), atol=1e-2)


def test_stages_follow_each_other_and_leave_alone_what_came_before(trained: Run) -> None:
    assert [(epoch.stage, epoch.epoch) for epoch in trained.log] == [("encoders", 0), ("decoder", 0), ("writing", 0)]
    weights = trained.recommender.scorer.model.state_dict()
    kept: dict[str, set[str]] = {}
    for stage in ("encoders", "decoder", "writing"):
        tensors, _ = load_tensors(trained.folder / f"{stage}.safetensors")
        best = {n.removeprefix("best/").removeprefix("model."): x for n, x in tensors.items() if n.startswith("best/")}
        kept[stage] = {name for name in best if name in weights}
        for name in kept[stage]:
            assert torch.equal(best[name], weights[name]), f"{name} moved after {stage}"
    assert not kept["encoders"] & kept["decoder"] | kept["decoder"] & kept["writing"]
    assert {name for name in weights if not name.startswith("token_")} >= set.union(*kept.values())
    assert "fusion.queries" in kept["decoder"]
    assert any(name.startswith("decoder.writer.") for name in kept["writing"])


def test_every_item_has_an_id_of_its_own(trained: Run) -> None:
    ids = trained.recommender.scorer.catalogue.ids
    assert ids is not None
    assert len(ids.unique(dim=0)) == ITEMS
    assert (ids < torch.tensor(small_recipe().model.decoder.code_sizes)).all()


def test_key_words_are_of_the_item_itself(trained: Run) -> None:
    recommender, items = trained.recommender, small_catalog().items
    keywords = recommender.scorer.catalogue.keywords
    assert keywords is not None
    spelt = [recommender._spell(row) for row in keywords]
    assert spelt[1] == ("roses", "garden")
    assert all(word in (item.text or "").split() for item, words in zip(items, spelt, strict=True) for word in words)


def test_without_epochs_and_without_prior_there_still_is_a_recommender() -> None:
    catalog, log = small_catalog(), list[Epoch]()
    recipe = replace(small_recipe(epochs=0), prior=False)
    recommender = train(catalog, leave_one_out(catalog.interactions), recipe, on_epoch=log.append)
    assert not log
    assert recommender.scorer.prior is None
    assert recommender.scorer.weights.ease == recommender.scorer.weights.markov == 0
    assert np.exp(scores(recommender)).sum(1) == pytest.approx(np.ones(4), rel=1e-5)


@pytest.mark.parametrize("late", ["i39", "i0"])
def test_without_anything_to_tune_on_nothing_is_begun(late: str, tmp_path: Path) -> None:
    """Validation asks for an item without training events, or for none at all."""
    whole = small_catalog()
    events = [Event("a", "i0", "view", 1), Event("a", late, "view", 2), Event("a", "i1", "view", 3)]
    catalog = Catalog("two users", whole.items, [*events[: 3 if late == "i39" else 2], Event("b", "i2", "view", 1)])
    cases = 1 if late == "i39" else 0
    with pytest.raises(DataError, match=rf"none of the {cases} validation cases of two users .* add events"):
        train(catalog, leave_one_out(catalog.interactions), small_recipe(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_reader_of_a_run_is_fitted_on_training_items_alone(trained: Run) -> None:
    catalog = small_catalog()
    split = leave_one_out(catalog.interactions)
    known = [catalog.items[row] for row in SEEN]
    config: ContentConfig = small_recipe().content
    expected = ContentReader.fit(known, config, comments_in(catalog, split.train))
    assert trained.recommender.reader.to_json() == expected.to_json()
    with seeded(0):  # the reader draws nothing
        assert ContentReader.fit(known, config, comments_in(catalog, split.train)).to_json() == expected.to_json()
