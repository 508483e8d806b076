"""From a raw record to an `Item` or an `Event`: every field checked, the one at fault named.

The rules of content stand in `catalog.py`; here its ValueErrors learn which field they are about.
What is added are the rules of files: types, paths that stay in their folder, readable media.
A record is good as a whole or rejected as a whole: an item whose picture is broken does not
quietly become an item without one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float32

from m6rec_mini.catalog import ACTIONS, MAX_TEXT, RAW_MODALITIES, DataError, Event, Item
from m6rec_mini.datasets.files import inside
from m6rec_mini.datasets.media import read_image, read_sound
from m6rec_mini.datasets.records import Record, RowError, number, show

T = TypeVar("T")
ITEM_FIELDS = frozenset({"id", "domain", "text", "title", "image", "audio", "created_at", "features"})
EVENT_FIELDS = frozenset({"user", "item", "action", "timestamp", "comment"})
FEATURE = "features."  # begins a feature's column where a table has no objects: features.look
OURS = {"user_id": "user", "item_id": "item"}  # RecBole's names of columns
LIKED = 4.0  # stars; from here up a rating counts as a like
DERIVED_FROM_RATINGS = f"a rating from {LIKED:g} up is a like, any other a view; the source has ratings only"
DERIVED_FROM_ROWS = "every row is a view; the source has neither actions nor ratings"

# How a message of catalog.py begins -> the field that it is about, and the kind of fault.
ITEM_FAULTS = {
    "feature": ("features", "NaN or infinite"),
    "timestamp": ("created_at", "not a time"),
    "no modality": ("modalities", "no modality"),
}
EVENT_FAULTS = {
    "timestamp": ("timestamp", "not a time"),
    "comment text": ("comment", "comment on another action"),
}


def item_from(record: Record, folder: Path, max_side: int, max_seconds: float) -> Item:
    """The item that a record describes; its media are read from under `folder`. Raises RowError."""
    picture, sound = _media_path(record, "image", folder), _media_path(record, "audio", folder)
    try:
        return Item(
            id=identifier(record, "id"),
            domain=words(record, "domain") or "",
            text=words(record, "text"),
            title=words(record, "title") or "",
            created_at=None if record.get("created_at") is None else whole_seconds(record, "created_at"),
            features=_vectors(record),
            image=None if picture is None else _read("image", lambda: read_image(picture, max_side=max_side)),
            audio=None if sound is None else _read("audio", lambda: read_sound(sound, max_seconds)),
        )
    except ValueError as error:
        raise _fault(error, ITEM_FAULTS) from error


def event_from(record: Record) -> Event:
    """The event that a record describes. Raises RowError."""
    action = words(record, "action")
    if action is None:
        raise RowError("action", "missing", "no action; every event needs one")
    if action not in ACTIONS:
        raise RowError("action", "unknown action", f"action is {show(action)}; expected one of {', '.join(ACTIONS)}")
    try:
        return Event(
            identifier(record, "user"),
            identifier(record, "item"),
            action,
            whole_seconds(record, "timestamp"),
            words(record, "comment"),
        )
    except ValueError as error:
        raise _fault(error, EVENT_FAULTS) from error


def item_of_atomic(record: Record) -> Record:
    """RecBole's columns under our names: words other than the id make the text, lists of numbers are features."""
    ours: Record = {"id": record.get("item_id")}
    features: dict[str, object] = {}
    texts: list[str] = []
    for name, value in record.items():
        text = " ".join(map(str, value)) if isinstance(value, list) else value
        if value is None:
            continue
        if isinstance(value, list) and isinstance(value[0], float):
            features[name] = value
        elif name in ("domain", "image", "audio", "created_at") or not isinstance(text, str):
            ours[name] = text  # a lone number has no place in an item: it is kept only to be noted as unused
        elif name != "item_id":
            texts.append(text)
            if name.endswith(("title", "name")):
                ours.setdefault("title", text)
    return ours | {"text": ". ".join(texts) or None, "features": features}


def event_of_atomic(record: Record) -> Record:
    """RecBole's columns under our names; without an action column, the rating says view or like."""
    ours = {OURS.get(name, name): value for name, value in record.items()}
    if "action" not in ours:
        ours["action"] = "like" if "rating" in ours and _stars(ours.pop("rating")) >= LIKED else "view"
    return ours


def identifier(record: Record, field: str) -> str:
    """An id, which may be text or a whole number. Raises RowError."""
    value = record.get(field)
    if value is None or value == "":
        raise RowError(field, "missing", f"no {field}; every record needs one")
    if type(value) is int:
        return str(value)
    if not isinstance(value, str):
        raise RowError(field, "wrong type", f"{field} is {show(value)}; expected text or a whole number")
    return words(record, field) or ""


def words(record: Record, field: str) -> str | None:
    """Text, or None where there is none. Raises RowError if it is no text, too long, or half a character."""
    value = record.get(field)
    if value is None:
        return None
    if not isinstance(value, str):
        raise RowError(field, "wrong type", f"{field} is {show(value)}; expected text")
    if len(value) > MAX_TEXT:
        reason = f"{field} has {len(value):,} characters; at most {MAX_TEXT:,} are read, so cut it first"
        raise RowError(field, "too long", reason)
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise RowError(field, "half a character", f"{field} has half a surrogate pair; it was cut inside a character")
    return value


def whole_seconds(record: Record, field: str) -> int:
    """Seconds since 1970 from 5, 5.0, "5", "5.0" or a Parquet time (UTC unless it says). Raises RowError."""
    value = given = record.get(field)
    if value is None:
        raise RowError(field, "missing", f"no {field}; every event needs one")
    if isinstance(value, datetime):
        value = value.replace(tzinfo=value.tzinfo or UTC).timestamp()
    elif isinstance(value, str):
        value = int(value) if value.isdecimal() and value.isascii() and len(value) < 16 else number(value)
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise RowError(field, "not a time", f"{field} is {show(given)}; expected whole seconds since 1970 (UTC)")


def _vectors(record: Record) -> dict[str, Float32[np.ndarray, " width"]]:
    given = record.get("features")
    if given is None:
        given = {}
    elif isinstance(given, list) and all(isinstance(pair, tuple) for pair in given):
        given = dict(given)  # Parquet's map type
    if not isinstance(given, Mapping):
        hint = "an object of name -> list of numbers, or columns such as features.look"
        raise RowError("features", "wrong type", f"features is {show(given)}; expected {hint}")
    columns = {name.removeprefix(FEATURE): value for name, value in record.items() if name.startswith(FEATURE)}
    return {name: _vector(name, value) for name, value in {**given, **columns}.items() if value is not None}


def _vector(name: str, value: object) -> Float32[np.ndarray, " width"]:
    if not name or name in RAW_MODALITIES:
        raise RowError("features", "name taken", f"a feature cannot be called {name!r}; choose another name")
    if isinstance(value, str):
        value = _numbers(value)
    if not isinstance(value, list) or not value or any(type(x) not in (int, float) for x in value):
        reason = f"feature '{name}' is {show(value)}; expected a list of numbers, at least one"
        raise RowError("features", "not numbers", reason)
    try:
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which Item rejects in words
            return np.array(value, np.float64).astype(np.float32)
    except OverflowError as error:
        raise RowError("features", "NaN or infinite", f"feature '{name}' has a number beyond 1e308") from error


def _numbers(text: str) -> object:
    """A cell with a JSON list, or with numbers separated by spaces."""
    if not text.lstrip().startswith("["):
        return [number(word) for word in text.split()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _media_path(record: Record, field: str, folder: Path) -> Path | None:
    value = words(record, field)
    try:
        return inside(folder, value) if value else None
    except DataError as error:
        raise RowError(field, "bad path", str(error)) from error


def _read(field: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except DataError as error:
        raise RowError(field, "unusable file", str(error)) from error


def _stars(value: object) -> float:
    stars = number(value) if isinstance(value, str) else value
    if not isinstance(stars, float) or not np.isfinite(stars):
        raise RowError("rating", "not a number", f"rating is {show(value)}; expected a number, which tells likes")
    return stars


def _fault(error: ValueError, faults: Mapping[str, tuple[str, str]]) -> RowError:
    message = str(error)
    field, kind = next((where for start, where in faults.items() if message.startswith(start)), ("", "invalid"))
    return RowError(field, kind, message)
