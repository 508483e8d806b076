"""Folders of one's own data: what is saved loads as the same, and every bad record is named."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_media import NOISE

from m6rec_mini.catalog import RAW_MODALITIES, Catalog, DataError, Event, Item, Sound
from m6rec_mini.datasets.folder import load_folder, read_events, read_items, save_folder
from m6rec_mini.datasets.media import write_image, write_sound
from m6rec_mini.datasets.records import Record

ITEMS: list[Record] = [
    {"id": "a", "domain": "music", "title": "A", "text": "blue song", "features": {"look": [1, 2.5]}},
    {"id": "b", "text": "红色电影", "image": "b.png", "audio": "b.wav", "created_at": 1000},
    {"id": "c", "features": {"look": [0.5, 3], "sound": [7]}},
]
EVENTS: list[Record] = [
    {"user": "u", "item": "a", "action": "view", "timestamp": 10},
    {"user": "v", "item": "b", "action": "like", "timestamp": 10},
    {"user": "u", "item": "c", "action": "comment", "timestamp": 11, "comment": 'so\nso, "truly"'},
]


def lay_out(folder: Path, items: list[Record] = ITEMS, events: list[Record] = EVENTS) -> Path:
    """A folder with two tables as JSONL, one picture and one sound."""
    write_image(folder / "b.png", NOISE)
    write_sound(folder / "b.wav", Sound(np.array([0, 0.5, -1], np.float32), 8000))
    for name, records in (("items", items), ("events", events)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return folder


def same(ours: Catalog, theirs: Catalog) -> bool:
    """Equal in all but the last bit of sounds."""

    def plain(item: Item) -> tuple[object, ...]:
        picture = None if item.image is None else (item.image.shape, item.image.tobytes())
        features = [(name, vector.dtype, vector.tolist()) for name, vector in item.features.items()]
        return item.id, item.domain, item.text, item.title, item.created_at, picture, features

    def alike(a: Sound | None, b: Sound | None) -> bool:
        if a is None or b is None:
            return a is b
        return a.rate == b.rate and len(a.wave) == len(b.wave) and bool(np.abs(a.wave - b.wave).max() <= 1 / 32768)

    return (
        [*map(plain, ours.items)] == [*map(plain, theirs.items)]
        and all(alike(a.audio, b.audio) for a, b in zip(ours.items, theirs.items, strict=True))
        and (ours.name, list(ours.events), list(ours.friends), ours.derived)
        == (theirs.name, list(theirs.events), list(theirs.friends), theirs.derived)
    )


words = st.text(st.characters(codec="utf-8"), max_size=6)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
times = st.integers(0, 4_102_444_799)
sounds = st.builds(
    Sound,
    arrays.arrays(np.float32, st.integers(1, 5), elements=st.floats(-1, 1, width=32)),
    st.sampled_from([8000, 44_100, 96_001]),
)
pictures = arrays.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 4), st.just(3)))
vectors = arrays.arrays(np.float32, 3, elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


@st.composite
def parts(draw: st.DrawFn) -> tuple[str, list[tuple[Any, ...]], list[Event], list[tuple[str, str]], str]:
    """What a catalog is made of; items as their arguments."""
    features = st.dictionaries(names.filter(lambda n: n not in RAW_MODALITIES), vectors, min_size=1, max_size=2)
    rest = (words, st.none() | words, st.none() | pictures, st.none() | sounds, features, st.none() | times, words)
    items = [(name, *map(draw, rest)) for name in draw(st.lists(names, min_size=1, max_size=3, unique=True))]
    ids = st.sampled_from([name for name, *_ in items])
    plain = st.builds(Event, names, ids, st.sampled_from(["view", "like", "comment"]), times)
    talk = st.builds(Event, names, ids, st.just("comment"), times, words)
    friends = st.lists(st.lists(names, min_size=2, max_size=2, unique=True).map(tuple), max_size=2)
    return draw(words), items, draw(st.lists(plain | talk, max_size=4)), draw(friends), draw(words)


@settings(max_examples=25)
@given(parts())
def test_what_is_saved_loads_as_the_same(tmp_path_factory: pytest.TempPathFactory, parts: tuple[Any, ...]) -> None:
    name, items, *others = parts
    catalog = Catalog(name, [Item(*item) for item in items], *others)
    path = save_folder(catalog, tmp_path_factory.mktemp("round") / "trip")
    loaded, report = load_folder(path)
    assert same(loaded, catalog)
    assert report.accepted.total() == len(catalog.items) + len(catalog.events) + len(catalog.friends)
    again, _ = load_folder(save_folder(loaded, path.with_name("again")))
    assert all(
        a.audio is b.audio or np.array_equal(a.audio.wave, b.audio.wave)
        for a, b in zip(again.items, loaded.items, strict=True)
    )


def test_a_folder_by_hand(tmp_path: Path) -> None:
    catalog, report = load_folder(lay_out(tmp_path))
    first, second, third = catalog.items
    assert (first.id, first.domain, first.title, first.text) == ("a", "music", "A", "blue song")
    assert first.features["look"].tolist() == [1, 2.5]
    assert (second.text, second.created_at, second.modalities) == ("红色电影", 1000, ("text", "image", "audio"))
    assert second.image is not None
    assert second.audio is not None
    np.testing.assert_array_equal(second.image, NOISE)
    assert second.audio.wave.tolist() == [0, 0.5, -1]
    assert third.modalities == ("look", "sound")
    assert catalog.events[2] == Event("u", "c", "comment", 11, 'so\nso, "truly"')
    assert (catalog.name, catalog.derived, catalog.friends) == (tmp_path.name, "", [])
    assert str(report) == "6 records accepted, 0 rejected"


def write_as(kind: str, folder: Path, stem: str, records: list[Record]) -> None:
    (folder / f"{stem}.jsonl").unlink()
    if kind == "parquet":
        columns = {name: None for record in records for name in record}
        pq.write_table(pa.Table.from_pylist([dict(columns) | record for record in records]), folder / f"{stem}.parquet")
        return
    flat = [dict(record) for record in records]
    for record in flat:
        features: Any = record.pop("features", {})
        record |= {
            f"features.{name}": json.dumps(v) if name == "look" else " ".join(map(str, v))
            for name, v in features.items()
        }
    names = list(dict.fromkeys(name for record in flat for name in record))
    quoted = [['"' + str(record.get(name, "")).replace('"', '""') + '"' for name in names] for record in flat]
    lines = [",".join(names), *(",".join(row) for row in quoted)]
    (folder / f"{stem}.csv").write_bytes("\r\n".join(lines).encode("utf-8-sig"))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_csv_and_parquet_say_the_same_as_jsonl(tmp_path: Path, kind: str) -> None:
    expected, _ = load_folder(lay_out(tmp_path))
    write_as(kind, tmp_path, "items", ITEMS)
    write_as(kind, tmp_path, "events", EVENTS)
    loaded, report = load_folder(tmp_path)
    assert same(loaded, expected)
    assert not report.notes


def test_parquet_times_and_maps_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")  # where the reader sits must not matter
    time.tzset()
    noon = datetime(1970, 1, 2, 12)
    rows = [("u", "a", "view", noon), ("u", "a", "view", noon.replace(microsecond=5))]
    columns = dict(zip(("user", "item", "action", "timestamp"), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "events.parquet")
    events, report = read_events(tmp_path / "events.parquet", bad="skip")
    assert [event.timestamp for event in events] == [36 * 3600]
    assert "expected whole seconds since 1970 (UTC)" in report.problems[0].reason
    aware = pa.table(columns | {"timestamp": [noon.replace(tzinfo=UTC)] * 2})
    pq.write_table(aware, tmp_path / "events.parquet")
    assert [event.timestamp for event in read_events(tmp_path / "events.parquet")[0]] == [36 * 3600] * 2
    monkeypatch.undo()
    time.tzset()
    kind = pa.map_(pa.string(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": [7], "features": pa.array([[("look", [1, 2])]], kind)}), tmp_path / "items.parquet")
    (item,) = read_items(tmp_path / "items.parquet")[0]
    assert item.id == "7"
    assert item.features["look"].tolist() == [1, 2]


@pytest.mark.parametrize("moment", [10, 10.0, "10", "10.0", "1e1"])
def test_whole_numbers_are_times_however_written(tmp_path: Path, moment: object) -> None:
    folder = lay_out(tmp_path, events=[EVENTS[0] | {"timestamp": moment, "item": 5}])
    assert read_events(folder / "events.jsonl")[0] == [Event("u", "5", "view", 10)]


def test_the_odd_widths_are_the_rare_ones_even_if_they_come_first(tmp_path: Path) -> None:
    widths = (3, 2, 2, 3, 2)
    items = [{"id": str(n), "text": "x", "features": {"look": [0] * width}} for n, width in enumerate(widths)]
    kept, report = read_items(lay_out(tmp_path, items) / "items.jsonl", bad="skip")
    assert [item.id for item in kept] == ["1", "2", "4"]
    assert [problem.row for problem in report.problems] == [1, 4]


def test_strict_shows_the_problems_of_every_table_at_once(tmp_path: Path) -> None:
    folder = lay_out(tmp_path, [*ITEMS, {"id": "d"}], [*EVENTS, {}, *[EVENTS[0] | {"item": "d"}] * 30])
    (folder / "friends.csv").write_text("user,friend\nu,v\nu,u\n")
    with pytest.raises(DataError) as caught:
        load_folder(folder, limit=3)
    text = str(caught.value)
    assert text.startswith("7 records accepted, 33 rejected")
    assert "items.jsonl, row 4, modalities: no modality" in text
    assert "events.jsonl, row 4, action: no action" in text
    assert "30  events.jsonl, item, unknown item (first: row 5)" in text
    assert "1  friends.csv, friend, own friend (first: row 3)" in text
    catalog, _ = load_folder(folder, bad="skip")
    assert list(catalog.friends) == [("u", "v")]


def test_columns_that_nobody_uses_are_noted(tmp_path: Path) -> None:
    folder = lay_out(tmp_path, [ITEMS[0] | {"imgae": "b.png"}, *ITEMS[1:]], [EVENTS[0] | {"device": "tv"}])
    _, report = load_folder(folder)
    assert report.notes == ["items.jsonl: columns not used: 'imgae'", "events.jsonl: columns not used: 'device'"]


@pytest.mark.parametrize("bad", ["strict", "skip"])
def test_a_spoilt_folder_is_a_data_error_in_both_policies(tmp_path: Path, bad: Any) -> None:
    def refused(reason: str) -> None:
        with pytest.raises(DataError, match=reason):
            load_folder(tmp_path / "f", bad)

    refused("does not exist; expected a folder")
    (tmp_path / "f").mkdir()
    refused(r"has none of items\.jsonl, items\.csv, items\.parquet, \*\.item")
    lay_out(tmp_path / "f", [{"id": "a"}, {"id": "b"}])
    refused("(?s)items.jsonl: every record was rejected.*row 2, modalities")
    lay_out(tmp_path / "f", events=[{}])
    refused("(?s)events.jsonl: every record was rejected.*row 1, action: no action")
    lay_out(tmp_path / "f", events=[])
    refused(r"events.jsonl is empty \(0 bytes\)")
    (tmp_path / "f" / "events.jsonl").unlink()
    refused(r"has none of events\.jsonl")
    (tmp_path / "f" / "events.jsonl").mkdir()
    refused("events.jsonl is a folder; expected a file")
    (tmp_path / "f" / "events.csv").write_text("user,item,timestamp\nu,a,1\n")
    refused(r"has events\.jsonl and events\.csv; keep one")
    (tmp_path / "f" / "events.jsonl").rmdir()
    refused("events.csv: no column action; it has 'user, item, timestamp'")
    (tmp_path / "f" / "events.csv").write_text("user,item,timestamp,action\n")
    refused("events.csv has no records")
    lay_out(tmp_path / "f")
    (tmp_path / "f" / "events.csv").unlink()
    (tmp_path / "f" / "catalog.json").write_text("[1]")
    refused("expected an object with a name")
    (tmp_path / "f" / "catalog.json").write_text("{")
    refused("is not JSON")
    with pytest.raises(DataError, match="is a file; expected a folder"):
        load_folder(tmp_path / "f" / "b.png", bad)


def test_recbole_atomic_files(tmp_path: Path) -> None:
    (tmp_path / "toy.item").write_text(
        "item_id:token\tmovie_title:token_seq\tyear:token\tlook:float_seq\tprice:float\tcreated_at:float\n"
        "1\tToy Story\t1995\t0.5 1\t9.5\t7.0\n"
        "2\t\t\t1 2\t\t\n"
    )
    (tmp_path / "toy.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "8\t1\t4\t881250949.0\n8\t2\t3.5\t881250950\n8\t1\t\t9\n8\t1\tnan\t9\n8\t2\t5\t9.5\n"
    )
    catalog, report = load_folder(tmp_path, bad="skip")
    first, second = catalog.items
    assert (first.id, first.title, first.text, first.created_at) == ("1", "Toy Story", "Toy Story. 1995", 7)
    assert first.features["look"].tolist() == [0.5, 1]
    assert (second.text, second.title, second.modalities) == (None, "", ("look",))
    assert catalog.events == [Event("8", "1", "like", 881250949), Event("8", "2", "view", 881250950)]
    assert catalog.derived == "a rating from 4 up is a like, any other a view; the source has ratings only"
    assert [(problem.row, problem.field) for problem in report.problems] == [
        (4, "rating"),
        (5, "rating"),
        (6, "timestamp"),
    ]
    assert "note: toy.item: columns not used: 'price'" in str(report)
    assert f"note: actions are derived: {catalog.derived}" in str(report)


def test_recbole_actions_are_views_without_ratings_and_themselves_where_given(tmp_path: Path) -> None:
    (tmp_path / "a.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n8\t1\t5\n")
    events, report = read_events(tmp_path / "a.inter")
    assert events == [Event("8", "1", "view", 5)]
    assert report.derived == "every row is a view; the source has neither actions nor ratings"
    (tmp_path / "a.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\taction:token\n8\t1\t5\tlike\n")
    events, report = read_events(tmp_path / "a.inter")
    assert events == [Event("8", "1", "like", 5)]
    assert report.derived == ""


def test_saving_never_overwrites_and_never_leaves_half_a_folder(tmp_path: Path) -> None:
    good = Catalog("toy", [Item("a", text="x")])
    silent = Sound(np.zeros(0, np.float32), 8000)
    for bad, reason in {
        Item("b", audio=silent): "empty sound",
        Item("b", text="\ud83d"): "half a surrogate pair",
    }.items():
        with pytest.raises(DataError, match=reason):
            save_folder(Catalog("toy", [Item("a", image=NOISE), bad]), tmp_path / "out")
        assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    assert save_folder(good, tmp_path / "out") == tmp_path / "out"
    with pytest.raises(DataError, match="is there already and is not an empty folder"):
        save_folder(good, tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is there already"):
        save_folder(good, tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out"]
    assert load_folder(tmp_path / "out")[0].name == "toy"


def test_events_added_to_a_folder_saved_without_are_read(tmp_path: Path) -> None:
    folder = save_folder(Catalog("toy", [Item("a", text="x")]), tmp_path / "toy")
    assert load_folder(folder)[0].events == []
    (folder / "events.csv").write_text("user,item,action,timestamp\nu,a,view,1\n")
    assert load_folder(folder)[0].events == [Event("u", "a", "view", 1)]


def test_pictures_and_sounds_are_bounded_on_loading(tmp_path: Path) -> None:
    catalog, _ = load_folder(lay_out(tmp_path), max_side=30, max_seconds=2 / 8000)
    image, audio = catalog.items[1].image, catalog.items[1].audio
    assert image is not None
    assert audio is not None
    assert image.shape == (30, 20, 3)
    assert len(audio.wave) == 2


def test_ml_100k_agrees_with_a_plain_reading(tmp_path: Path, shared_data: Path) -> None:
    lines = (shared_data / "ml-100k" / "ml-100k.inter").read_text("utf-8").splitlines()[:5_001]
    (tmp_path / "a.inter").write_text("\n".join(lines))
    (tmp_path / "a.item").write_bytes((shared_data / "ml-100k" / "ml-100k.item").read_bytes())
    catalog, report = load_folder(tmp_path)
    rows = [line.split("\t") for line in lines[1:]]
    expected = [
        Event(user, item, "like" if int(stars) > 3 else "view", int(second)) for user, item, stars, second in rows
    ]
    assert catalog.events == expected
    assert len(catalog.items) == 1682
    assert catalog.items[0].text == "Toy Story. 1995. Animation Children's Comedy"
    assert report.rejected == 0
