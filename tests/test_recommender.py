"""Events and candidates in, a list with reasons out: laws of the list, measured reasons, saving, and every mistake."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TinyModel
from hypothesis import given, settings
from hypothesis import strategies as st

from m6rec_mini.catalog import ACTIONS, EMPTY_HISTORY, Catalog, DataError, Event, History, Item
from m6rec_mini.content import ContentReader
from m6rec_mini.datasets.folder import load_folder
from m6rec_mini.recommender import Because, Known, Recommendation, Recommender, history_of, in_words, without
from m6rec_mini.scoring import Scorer, Weights
from m6rec_mini.training import CheckpointError, load_tensors, save_tensors


@pytest.fixture(scope="module")
def recommender(tiny_model: TinyModel) -> Recommender:
    return Recommender.load(tiny_model.model)


@pytest.fixture(scope="module")
def world(tiny_model: TinyModel) -> Catalog:
    return load_folder(tiny_model.data)[0]


@pytest.fixture(scope="module")
def past(world: Catalog) -> list[Event]:
    """Everything that the busiest user did."""
    busiest = max(world.users, key=lambda user: sum(event.user == user for event in world.events))
    return [event for event in world.events if event.user == busiest]


@pytest.fixture(scope="module")
def fresh(world: Catalog) -> list[Item]:
    """Items that the model has never seen: with words alone, a picture alone, a sound alone, and all three."""
    whole = next(item for item in world.items if len(item.modalities) == 3)
    kinds = {"words": ("image", "audio"), "picture": ("text", "audio"), "sound": ("text", "image"), "whole": ()}
    return [replace(whole, id=name, title=name, **dict.fromkeys(hidden)) for name, hidden in kinds.items()]


def ids(places: Sequence[Recommendation]) -> list[str]:
    return [place.item.id for place in places]


# ---- the list -------------------------------------------------------------------------------------


def test_the_list_is_the_best_of_what_is_not_in_the_history(recommender: Recommender, past: list[Event]) -> None:
    places = recommender.recommend(past, k=1000)
    scores = recommender.scores([recommender.history(past)])[0]
    seen = {event.item for event in past}
    assert set(ids(places)) == {item.id for item in recommender.items} - seen
    assert [place.rank for place in places] == list(range(1, len(places) + 1))
    assert [place.score for place in places] == sorted((place.score for place in places), reverse=True)
    assert [place.score for place in places] == [float(scores[recommender.index[place.item.id]]) for place in places]
    assert ids(recommender.recommend(past, k=3)) == ids(places[:3])
    everything = recommender.recommend(past, k=1000, seen_too=True, explain=False)
    assert len(everything) == len(recommender.items)


def test_without_reasons_the_list_is_the_same(recommender: Recommender, past: list[Event]) -> None:
    told, bare = (recommender.recommend(past, k=4, explain=explain) for explain in (True, False))
    assert [(p.rank, p.item, p.score) for p in told] == [(p.rank, p.item, p.score) for p in bare]
    assert all(p.reason and p.attention for p in told)
    assert not any(p.reason or p.because or p.words or p.modalities or p.attention for p in bare)


def test_candidates_decide_who_is_ranked(recommender: Recommender, world: Catalog, past: list[Event]) -> None:
    some = [item for item in world.items if item.id not in {event.item for event in past}][:7]
    assert set(ids(recommender.recommend(past, some, k=50))) == {item.id for item in some}
    assert recommender.recommend(past, [], k=3) == []
    old = [item for item in world.items if item.id in {event.item for event in past}]
    assert recommender.recommend(past, old) == []
    assert set(ids(recommender.recommend(past, old, k=50, seen_too=True, explain=False))) == {i.id for i in old}


def test_who_has_no_history_gets_a_list_and_no_reasons(recommender: Recommender, fresh: list[Item]) -> None:
    for places in (recommender.recommend([], k=5), recommender.recommend([], fresh)):
        assert places
        for place in places:
            assert (place.because, place.words) == ((), ())
            assert place.reason == "nothing in the history speaks for it in particular"


@pytest.mark.parametrize("row", range(4))
def test_a_new_item_is_ranked_by_whatever_it_has(
    row: int, recommender: Recommender, fresh: list[Item], past: list[Event]
) -> None:
    item = fresh[row]
    (place,) = recommender.recommend(past, [item])
    assert place.item == Known(item.id, item.title, item.domain)
    assert np.isfinite(place.score)
    assert set(place.modalities) == set(item.modalities)
    assert sum(place.attention.values()) == pytest.approx(1, abs=1e-5)
    assert {name for name, share in place.attention.items() if share > 0} == set(item.modalities)
    (again,) = recommender.recommend([replace(past[0], item=item.id)], [item], seen_too=True)
    assert [b.item.id for b in again.because] in ([], [item.id])  # it may be in the history as well
    assert recommender.recommend([replace(past[0], item=item.id)], [item]) == []


def test_asking_changes_nothing(recommender: Recommender, fresh: list[Item], past: list[Event]) -> None:
    history, candidates = list(past), list(fresh)
    before, state = copy.deepcopy(recommender.scorer.model.state_dict()), torch.get_rng_state()
    first = recommender.recommend(history, candidates)
    assert recommender.recommend(history, candidates) == first
    assert history == past
    assert all(one is other for one, other in zip(candidates, fresh, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(x, before[name]) for name, x in recommender.scorer.model.state_dict().items())
    assert fresh[0].id not in recommender.index


def test_events_may_come_in_any_order(recommender: Recommender, past: list[Event]) -> None:
    assert len({event.timestamp for event in past}) == len(past)
    assert recommender.recommend(past[::-1], k=5) == recommender.recommend(past, k=5)


@settings(max_examples=15)
@given(st.permutations(range(12)), st.integers(1, 12))
def test_the_order_of_candidates_does_not_matter(
    recommender: Recommender, world: Catalog, past: list[Event], order: list[int], k: int
) -> None:
    items = list(world.items[40:52])
    one = recommender.recommend(past, items, k, explain=False)
    assert recommender.recommend(past, [items[n] for n in order], k, explain=False) == one


@settings(max_examples=15)
@given(st.data())
def test_one_candidate_more_does_not_change_the_order_of_the_others(
    recommender: Recommender, world: Catalog, past: list[Event], fresh: list[Item], data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(world.items) - 1), min_size=2, max_size=12, unique=True))
    items = [world.items[row] for row in rows] + data.draw(st.sampled_from([[], fresh[:2]]))
    more = data.draw(st.sampled_from([item for item in [*world.items, *fresh[2:]] if item not in items]))
    place = data.draw(st.integers(0, len(items)))
    with_it = ids(recommender.recommend(past, [*items[:place], more, *items[place:]], k=50, explain=False))
    assert [i for i in with_it if i != more.id] == ids(recommender.recommend(past, items, k=50, explain=False))


def test_ties_stand_in_the_order_of_candidates(recommender: Recommender, world: Catalog, fresh: list[Item]) -> None:
    kept = recommender.scorer
    nothing = Scorer(kept.model, kept.catalogue, kept.prior, kept.counts, Weights(0.0, fresh=0.0))
    flat = Recommender("flat", recommender.items, recommender.reader, nothing)
    mixed = [fresh[3], world.items[7], fresh[0], world.items[2]]
    places = flat.recommend([], mixed)
    assert len({place.score for place in places}) == 1
    assert ids(places) == [item.id for item in mixed]
    assert ids(flat.recommend([], k=3)) == [item.id for item in recommender.items[:3]]


# ---- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, -3])
def test_a_list_of_nothing_is_refused(recommender: Recommender, k: int) -> None:
    with pytest.raises(DataError, match=f"k is {k}; ask for at least one"):
        recommender.recommend([], k=k)


def test_what_cannot_be_understood_is_refused(recommender: Recommender, fresh: list[Item], past: list[Event]) -> None:
    with pytest.raises(DataError, match="candidate 'picture' is given twice"):
        recommender.recommend(past, [*fresh, fresh[1]])
    with pytest.raises(DataError, match=r"events of 2 users \(.*somebody.*\); give one"):
        recommender.recommend([*past, replace(past[0], user="somebody")])
    with pytest.raises(DataError, match=r"names item 'sound', .* add it to the candidates, or leave the event out"):
        recommender.recommend([*past, replace(past[0], item="sound")], fresh[:2])
    blank = Item("numbers", features={"weight": np.ones(3, np.float32)})
    with pytest.raises(DataError, match=r"candidate 'numbers' has only weight; this model reads text, image, audio"):
        recommender.recommend(past, [*fresh, blank])


# ---- reasons --------------------------------------------------------------------------------------


def test_an_event_is_a_reason_by_what_its_absence_costs(recommender: Recommender, past: list[Event]) -> None:
    history = recommender.history(past)
    assert len(history) > 10
    rows = np.array([recommender.index[place.item.id] for place in recommender.recommend(past, k=6, explain=False)])
    whole = recommender.scores([history])[0]
    some = False
    for row, because in zip(rows, recommender.because(history, rows), strict=True):
        falls = {}
        for event in range(len(history) - 10, len(history)):  # the latest ten are tried
            keep = np.arange(len(history)) != event
            shorter = History(history.items[keep], history.actions[keep], history.times[keep])
            fall = float(whole[row] - recommender.scores([shorter])[0, row])
            falls[event] = fall
        expected = sorted((event for event in falls if falls[event] > 0), key=lambda event: -falls[event])[:2]
        assert [b.drop for b in because] == pytest.approx([falls[event] for event in expected], abs=1e-4)
        assert [b.item.id for b in because] == [recommender.items[history.items[event]].id for event in expected]
        assert [b.action for b in because] == [ACTIONS[history.actions[event]] for event in expected]
        some |= len(because) > 0
    assert some


def test_words_are_of_the_item_and_of_the_history(recommender: Recommender, world: Catalog, past: list[Event]) -> None:
    places = recommender.recommend(past, k=100)
    texts = {item.id: item.text or "" for item in world.items}
    met = [texts[event.item] for event in past]
    assert any(place.words for place in places)
    for place in places:
        assert len(set(place.words)) == len(place.words)
        for word in place.words:
            assert word in texts[place.item.id]
            assert any(word in text for text in met)
            assert word in place.reason
    assert recommender.shared_words(EMPTY_HISTORY, np.arange(5)) == [()] * 5


def test_a_topic_is_made_of_key_words(recommender: Recommender, past: list[Event]) -> None:
    kept = recommender.scorer.catalogue.keywords
    assert kept is not None
    words = {word for row in kept for word in recommender._spell(row)}
    for history in (EMPTY_HISTORY, recommender.history(past)):
        topic = recommender.topic(history)
        assert topic
        assert set(topic) <= words


def test_a_sentence_says_no_more_than_was_measured() -> None:
    jazz, tea = Because(Known("a", "Jazz"), "like", 0.3), Because(Known("b", "Tea"), "comment", 0.1)
    assert in_words((), ()) == "nothing in the history speaks for it in particular"
    assert in_words(("piano", "night"), ()) == "in common: piano, night"
    assert in_words((), (jazz,)) == "you liked “Jazz”"
    assert in_words(("piano",), (jazz, tea)) == "you liked “Jazz” and commented on “Tea”; in common: piano"


def test_histories_by_hand() -> None:
    events = [Event("u", "b", "like", 9), Event("u", "a", "view", 5), Event("u", "c", "comment", 9)]
    history = history_of(events, {"a": 0, "b": 1, "c": 2})
    assert (history.items.tolist(), history.actions.tolist(), history.times.tolist()) == (
        [0, 1, 2],
        [0, 1, 2],
        [5, 9, 9],
    )
    assert without(history, 1).items.tolist() == [0, 2]
    assert len(history_of([], {})) == 0


# ---- saving ---------------------------------------------------------------------------------------


def test_a_saved_model_is_the_same_model(
    recommender: Recommender, tiny_model: TinyModel, fresh: list[Item], past: list[Event], tmp_path: Path
) -> None:
    recommender.save(tmp_path / "again")
    again = Recommender.load(str(tmp_path / "again"))
    histories = [EMPTY_HISTORY, recommender.history(past)]
    assert np.array_equal(again.scores(histories), recommender.scores(histories))
    assert again.recommend(past, fresh) == recommender.recommend(past, fresh)
    assert np.array_equal(again.scorer.codes(histories), recommender.scorer.codes(histories))
    assert again.topic(histories[1]) == recommender.topic(histories[1])
    assert (again.name, again.items, again.scorer.weights) == (
        recommender.name, recommender.items, recommender.scorer.weights)  # fmt: skip
    for file in tiny_model.model.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_a_model_with_items_added_can_be_saved_too(
    recommender: Recommender, fresh: list[Item], past: list[Event], tmp_path: Path
) -> None:
    wider = recommender.with_items(fresh)
    wider.save(tmp_path / "wider")
    again = Recommender.load(tmp_path / "wider")
    assert again.items[-4:] == wider.items[-4:]
    assert again.recommend(past, k=200) == wider.recommend(past, k=200)


def test_a_taken_folder_is_left_alone(recommender: Recommender, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not an empty folder"):
        recommender.save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_what_cannot_be_saved_to_the_end_leaves_nothing(
    recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: ContentReader) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(ContentReader, "to_json", full)
    with pytest.raises(OSError, match="disk full"):
        recommender.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


FILES = ("model.json", "reader.json", "model.safetensors")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["missing", "cut short", "empty", "no text"])
def test_a_damaged_model_is_refused(name: str, how: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model.model, folder)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes({"cut short": whole[: len(whole) // 2], "no text": b"\xff\xfe\x00"}.get(how, b""))
    if how == "missing":
        (folder / name).unlink()
    with pytest.raises(CheckpointError) as error:
        Recommender.load(folder)
    assert str(folder) in str(error.value)
    assert how != "missing" or f"has no {name}" in str(error.value)
    assert any(advice in str(error.value) for advice in ("rain or copy it again", "copy it again", "`m6rec train`"))


def changed(file: Path, **fields: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **fields}), encoding="utf-8")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "m6rec-mini 99"}, "model.json has format 'm6rec-mini 99'; this version reads 'm6rec-mini 1'"),
        ({"items": [["a", "A", ""]]}, "model.json lists 1 items, model.safetensors holds 100"),
        ({"weights": {"luck": 1.0}}, "Weights has no field 'luck'"),
        ({"items": 3}, "damaged or of another version"),
        ({"model": {"identities": False}}, "damaged or of another version"),
    ],
)
def test_a_foreign_description_is_refused(
    fields: dict[str, object], message: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model.model, tmp_path / "model")
    changed(tmp_path / "model" / "model.json", **fields)
    with pytest.raises(CheckpointError, match=message):
        Recommender.load(tmp_path / "model")


def test_what_is_no_model_at_all_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    for nothing in (tmp_path / "nowhere", tiny_model.model / "model.json"):
        with pytest.raises(CheckpointError, match=r"is not a saved model: it has no model\.json\. `m6rec train` makes"):
            Recommender.load(nothing)
    shutil.copytree(tiny_model.model, tmp_path / "model")
    (tmp_path / "model" / "model.json").write_text("[]")
    with pytest.raises(CheckpointError, match="has format None"):
        Recommender.load(tmp_path / "model")


def test_a_tensor_that_is_missing_is_named(tiny_model: TinyModel, tmp_path: Path) -> None:
    shutil.copytree(tiny_model.model, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    tensors, header = load_tensors(file)
    del tensors["counts"]
    save_tensors(tensors, file, header)
    with pytest.raises(CheckpointError, match=r"it has no 'counts'\. Train or copy it again"):
        Recommender.load(tmp_path / "model")
