"""Your own data: a folder of tables and media, read into a `Catalog` and written from one.

A folder holds `items` and `events`, each as .jsonl, .csv, .parquet or a RecBole atomic file
(.item, .inter), and, if there are any, `friends`. Nothing comes in half: either the whole folder
is good, or DataError lists what is wrong; with `bad="skip"` the good records come in and the
`Report` lists the others.

items:   id, domain, text, title, image and audio (paths in the folder), created_at, and features:
         an object of name -> numbers, or a column `features.NAME` for each
events:  user, item, action (view, like, comment), timestamp (whole seconds since 1970), comment
friends: user, friend
catalog.json, which `save_folder` adds: the name, how actions were derived, and that 0 events are meant
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from m6rec_mini.catalog import Catalog, DataError, Event, Item
from m6rec_mini.datasets.fields import (
    DERIVED_FROM_RATINGS,
    DERIVED_FROM_ROWS,
    EVENT_FIELDS,
    FEATURE,
    ITEM_FIELDS,
    event_from,
    event_of_atomic,
    identifier,
    item_from,
    item_of_atomic,
)
from m6rec_mini.datasets.files import check_file, new_folder
from m6rec_mini.datasets.media import MAX_SECONDS, MAX_SIDE, sound_suffix, write_image, write_sound
from m6rec_mini.datasets.records import OnBad, Record, Report, RowError, read_table, show

T = TypeVar("T")
TABLES = (".jsonl", ".csv", ".parquet")
ABOUT = "catalog.json"  # what no table has a place for: the name, and how actions were derived


def load_folder(
    path: Path, bad: OnBad = "strict", limit: int = 20, max_side: int = MAX_SIDE, max_seconds: float = MAX_SECONDS
) -> tuple[Catalog, Report]:
    """Read a folder; pictures are shrunk to `max_side` pixels, sounds cut after `max_seconds`.

    Raises DataError if a table is missing or spoilt, and, with bad="strict", if any record is; the
    message then has the whole report, of which it shows `limit` records and the totals.
    """
    if not path.is_dir():
        kind = "is a file" if path.exists() else "does not exist"
        raise DataError(f"{path} {kind}; expected a folder with items.jsonl and events.jsonl (or .csv, .parquet)")
    report, about = Report(limit), _about(path)
    items = _items(_table(path, "items", ".item"), report, max_side, max_seconds)
    events: list[Event] = []
    if about.get("events") != 0 or _candidates(path, "events", ".inter"):  # only who says so may have none
        events = _events(_table(path, "events", ".inter"), {item.id for item in items}, report)
    friends = _friends(_table(path, "friends"), report) if _candidates(path, "friends") else []
    report.enforce(bad)
    name, derived = str(about.get("name", path.resolve().name)), str(about.get("derived", report.derived))
    return Catalog(name, items, events, friends, derived), report


def read_items(
    file: Path, bad: OnBad = "strict", limit: int = 20, max_side: int = MAX_SIDE, max_seconds: float = MAX_SECONDS
) -> tuple[list[Item], Report]:
    """Read one table of items; media paths are relative to its folder. Raises DataError as `load_folder` does."""
    report = Report(limit)
    items = _items(file, report, max_side, max_seconds)
    report.enforce(bad)
    return items, report


def read_events(
    file: Path, known_items: Collection[str] | None = None, bad: OnBad = "strict", limit: int = 20
) -> tuple[list[Event], Report]:
    """Read one table of events, on `known_items` only, if given. Raises DataError as `load_folder` does."""
    report = Report(limit)
    events = _events(file, None if known_items is None else frozenset(known_items), report)
    report.enforce(bad)
    return events, report


def save_folder(catalog: Catalog, path: Path) -> Path:
    """Write the catalog so that `load_folder` reads it again: tables as JSONL, media as PNG and FLAC or WAV.

    The folder appears complete or not at all. Sounds keep 16 bits. Raises DataError if `path` is
    taken, or if something cannot be written, such as an empty sound.
    """
    with new_folder(path) as folder:
        _write_jsonl(folder / "items.jsonl", (_item_record(item, n, folder) for n, item in enumerate(catalog.items)))
        _write_jsonl(folder / "events.jsonl", map(_event_record, catalog.events))
        _write_jsonl(folder / "friends.jsonl", ({"user": user, "friend": friend} for user, friend in catalog.friends))
        about = {"name": catalog.name, "derived": catalog.derived, "events": len(catalog.events)}
        (folder / ABOUT).write_text(json.dumps(about, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def _items(file: Path, report: Report, max_side: int, max_seconds: float) -> list[Item]:
    atomic = file.suffix.lower() == ".item"
    rows: dict[str, int] = {}  # of the good items so far
    unused: set[str] = set()

    def build(record: Record) -> Item:
        record = item_of_atomic(record) if atomic else record
        unused.update(name for name in record.keys() - ITEM_FIELDS if not name.startswith(FEATURE))
        name = identifier(record, "id")
        if name in rows:  # asked before its media are decoded
            raise RowError("id", "duplicate id", f"id {show(name)} stands in row {rows[name]} already; keep one")
        return item_from(record, file.parent, max_side, max_seconds)

    numbered: list[tuple[int, Item]] = []
    for row, item in _build(file, report, ["item_id"] if atomic else ["id"], build):
        rows[item.id] = row
        numbered.append((row, item))
    items = _agreeing(numbered, file, report)
    report.accept(file, len(items), unused)
    return items


def _agreeing(numbered: list[tuple[int, Item]], file: Path, report: Report) -> list[Item]:
    """The items whose features have the usual widths, those of the most items; the others are reported."""
    widths = Counter((name, len(vector)) for _, item in numbered for name, vector in item.features.items())
    usual = {name: width for (name, width), _ in reversed(widths.most_common())}  # the most common is written last
    items = []
    for row, item in numbered:
        odd = [name for name, vector in item.features.items() if len(vector) != usual[name]]
        if odd:
            width, most = len(item.features[odd[0]]), usual[odd[0]]
            reason = f"feature '{odd[0]}' has {width} numbers; most items have {most}, and all must agree"
            report.reject(file, row, RowError("features", "odd width", reason))
        else:
            items.append(item)
    return items


def _events(file: Path, known: Collection[str] | None, report: Report) -> list[Event]:
    atomic = file.suffix.lower() == ".inter"
    unused: set[str] = set()

    def build(record: Record) -> Event:
        if atomic and "action" not in record:
            report.derived = DERIVED_FROM_RATINGS if "rating" in record else DERIVED_FROM_ROWS
        record = event_of_atomic(record) if atomic else record
        unused.update(record.keys() - EVENT_FIELDS)
        event = event_from(record)
        if known is not None and event.item not in known:
            reason = f"item {show(event.item)} is not among the {len(known):,} items read (missing or rejected there)"
            raise RowError("item", "unknown item", reason)
        return event

    required = ["user_id", "item_id", "timestamp"] if atomic else ["user", "item", "action", "timestamp"]
    events = [event for _, event in _build(file, report, required, build)]
    report.accept(file, len(events), unused)
    return events


def _friends(file: Path, report: Report) -> list[tuple[str, str]]:
    def build(record: Record) -> tuple[str, str]:
        user, friend = identifier(record, "user"), identifier(record, "friend")
        if user == friend:
            raise RowError(
                "friend", "own friend", f"user {show(user)} is given as a friend of themselves; remove the row"
            )
        return user, friend

    friends = [pair for _, pair in _build(file, report, ["user", "friend"], build)]
    report.accept(file, len(friends))
    return friends


def _build(
    file: Path, report: Report, required: Collection[str], build: Callable[[Record], T]
) -> Iterator[tuple[int, T]]:
    """What `build` makes of each record, by row; its RowErrors go into the report."""
    for row, record in read_table(file, report, required):
        try:
            built = build(record)
        except RowError as error:
            report.reject(file, row, error)
        else:
            yield row, built


def _candidates(path: Path, stem: str, atomic: str | None = None) -> list[Path]:
    ours = [path / f"{stem}{suffix}" for suffix in TABLES]
    theirs = [] if atomic is None else [file for file in sorted(path.glob(f"*{atomic}")) if file.name[0] != "."]
    return [file for file in ours if file.exists()] + theirs


def _table(path: Path, stem: str, atomic: str | None = None) -> Path:
    found = _candidates(path, stem, atomic)
    if len(found) != 1:
        names = ", ".join([f"{stem}{suffix}" for suffix in TABLES] + ([f"*{atomic}"] if atomic else []))
        what = f"{' and '.join(file.name for file in found)}; keep one" if found else f"none of {names}"
        raise DataError(f"{path} has {what}")
    return found[0]


def _about(path: Path) -> Record:
    file = path / ABOUT
    if not file.exists():
        return {}
    check_file(file, 2**20)
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON ({error}); mend or remove it") from error
    if not isinstance(about, dict):
        raise DataError(f"{file} holds {show(about)}; expected an object with a name; mend or remove it")
    return about


def _write_jsonl(file: Path, records: Iterable[Record]) -> None:
    """One object a line; no file at all where there are no records."""
    lines = [json.dumps(record, ensure_ascii=False, allow_nan=False) for record in records]
    try:
        if lines:
            file.write_bytes("".join(line + "\n" for line in lines).encode())
    except UnicodeEncodeError as error:
        raise DataError(f"{file.name}: some text has half a surrogate pair ({error.reason}); mend it first") from error


def _item_record(item: Item, row: int, folder: Path) -> Record:
    """The item as JSON has it; its media are written on the way, named by row, since an id may be any text."""
    record: Record = {"id": item.id, "domain": item.domain, "title": item.title, "text": item.text}
    if item.image is not None:
        record["image"] = f"images/{row:06d}.png"
        (folder / "images").mkdir(exist_ok=True)
        write_image(folder / f"images/{row:06d}.png", item.image)
    if item.audio is not None:
        record["audio"] = f"sounds/{row:06d}{sound_suffix(item.audio)}"
        (folder / "sounds").mkdir(exist_ok=True)
        write_sound(folder / f"sounds/{row:06d}{sound_suffix(item.audio)}", item.audio)
    if item.created_at is not None:
        record["created_at"] = int(item.created_at)
    record["features"] = {name: vector.tolist() for name, vector in item.features.items()}
    return {name: value for name, value in record.items() if value not in (None, {})}


def _event_record(event: Event) -> Record:
    record: Record = {"user": event.user, "item": event.item, "action": event.action}
    record["timestamp"] = int(event.timestamp)
    return record if event.comment is None else record | {"comment": event.comment}
