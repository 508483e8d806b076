"""One bad record at a time: each is named with file, row, field and reason, and costs nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_folder import EVENTS, ITEMS, lay_out
from test_media import png_that_declares

from m6rec_mini.catalog import DataError
from m6rec_mini.datasets.folder import load_folder
from m6rec_mini.datasets.records import Record

BAD_ITEMS: list[tuple[Record, str, str]] = [
    ({"text": "x"}, "id", "no id"),
    ({"id": None, "text": "x"}, "id", "no id"),
    ({"id": "", "text": "x"}, "id", "no id"),
    ({"id": 1.5, "text": "x"}, "id", "id is 1.5; expected text or a whole number"),
    ({"id": True, "text": "x"}, "id", "id is True; expected text or a whole number"),
    ({"id": "a", "text": "x"}, "id", "id 'a' stands in row 1 already"),
    ({"id": "d"}, "modalities", "no modality at all"),
    ({"id": "d", "text": " \n"}, "modalities", "no modality at all"),
    ({"id": "d", "text": None, "image": None, "audio": None, "features": None}, "modalities", "no modality at all"),
    ({"id": "d", "text": 5}, "text", "text is 5; expected text"),
    ({"id": "d", "text": "x" * 10**6}, "text", "text has 1,000,000 characters; at most 20,000"),
    ({"id": "d", "text": "cut \ud83d"}, "text", "half a surrogate pair"),
    ({"id": "d", "text": "x", "title": ["x"]}, "title", "title is ['x']; expected text"),
    ({"id": "d", "text": "x", "domain": "x" * 30_000}, "domain", "domain has 30,000 characters"),
    ({"id": "d", "text": "x", "created_at": -5}, "created_at", "timestamp -5 is not between 1970 and 2100"),
    ({"id": "d", "text": "x", "created_at": 1.5}, "created_at", "created_at is 1.5; expected whole seconds"),
    ({"id": "d", "features": {"look": [1, float("nan")]}}, "features", "feature 'look' has NaN or infinite"),
    ({"id": "d", "features": {"look": [1, float("inf")]}}, "features", "feature 'look' has NaN or infinite"),
    ({"id": "d", "features": {"look": [1, 1e39]}}, "features", "feature 'look' has NaN or infinite"),
    ({"id": "d", "features": {"look": [1, 10**400]}}, "features", "beyond 1e308"),
    ({"id": "d", "features": {"look": [1, None]}}, "features", "expected a list of numbers"),
    ({"id": "d", "features": {"look": [1, "2"]}}, "features", "expected a list of numbers"),
    ({"id": "d", "features": {"look": [1, True]}}, "features", "expected a list of numbers"),
    ({"id": "d", "features": {"look": [[1, 2]]}}, "features", "expected a list of numbers"),
    ({"id": "d", "features": {"look": []}}, "features", "expected a list of numbers"),
    ({"id": "d", "features": {"look": "1 x"}}, "features", "expected a list of numbers"),
    ({"id": "d", "features": {"look": "[1, 2"}}, "features", "expected a list of numbers"),
    ({"id": "d", "features": {"look": 3}}, "features", "expected a list of numbers"),
    ({"id": "d", "features": {"text": [3]}}, "features", "a feature cannot be called 'text'"),
    ({"id": "d", "features": [1, 2]}, "features", "expected an object of name -> list"),
    ({"id": "d", "features": {"look": [1, 2, 3]}}, "features", "'look' has 3 numbers; most items have 2"),
    ({"id": "d", "image": "none.png"}, "image", "none.png does not exist"),
    ({"id": "d", "image": "."}, "image", "is a folder; expected a file"),
    ({"id": "d", "image": "items.jsonl"}, "image", "not a whole PNG or JPEG picture"),
    ({"id": "d", "image": "bomb.png"}, "image", "bomb.png declares more than"),
    ({"id": "d", "image": ["b.png"]}, "image", "image is ['b.png']; expected text"),
    ({"id": "d", "image": "../b.png"}, "image", "leaves the folder"),
    ({"id": "d", "image": "x\\..\\b.png"}, "image", "leaves the folder"),
    ({"id": "d", "image": "/etc/passwd"}, "image", "leaves the folder"),
    ({"id": "d", "image": "C:\\b.png"}, "image", "leaves the folder"),
    ({"id": "d", "image": "C:b.png"}, "image", "leaves the folder"),
    ({"id": "d", "image": "b\0.png"}, "image", "leaves the folder"),
    ({"id": "d", "image": "link.png"}, "image", "is a link that leaves"),
    ({"id": "d", "image": "x" * 5000}, "image", "cannot be a file"),
    ({"id": "d", "audio": "b.png"}, "audio", "not a whole WAV or FLAC sound"),
    ({"id": "d", "audio": "silence.wav"}, "audio", "an empty sound"),
    ({"id": "d", "audio": "nan.wav"}, "audio", "NaN or infinite"),
]  # fmt: skip
BAD_EVENTS: list[tuple[Record, str, str]] = [
    ({"user": None}, "user", "no user"),
    ({"user": ""}, "user", "no user"),
    ({"item": None}, "item", "no item"),
    ({"item": "z"}, "item", "item 'z' is not among the 3 items read"),
    ({"item": ["a"]}, "item", "item is ['a']; expected text or a whole number"),
    ({"action": None}, "action", "no action"),
    ({"action": "View"}, "action", "action is 'View'; expected one of view, like, comment"),
    ({"action": 1}, "action", "action is 1; expected text"),
    ({"timestamp": None}, "timestamp", "no timestamp"),
    ({"timestamp": -1}, "timestamp", "timestamp -1 is not between 1970 and 2100"),
    ({"timestamp": 1_700_000_000_000}, "timestamp", "(milliseconds? divide by 1000)"),
    ({"timestamp": 10.5}, "timestamp", "timestamp is 10.5; expected whole seconds"),
    ({"timestamp": "10.5"}, "timestamp", "timestamp is '10.5'; expected whole seconds"),
    ({"timestamp": "1_0"}, "timestamp", "timestamp is '1_0'; expected whole seconds"),
    ({"timestamp": "2024-05-01"}, "timestamp", "timestamp is '2024-05-01'; expected whole seconds"),
    ({"timestamp": float("nan")}, "timestamp", "timestamp is nan; expected whole seconds"),
    ({"timestamp": "9" * 400}, "timestamp", "expected whole seconds"),
    ({"timestamp": True}, "timestamp", "timestamp is True; expected whole seconds"),
    ({"comment": "nice"}, "comment", "only a 'comment' has words"),
    ({"action": "comment", "comment": 3}, "comment", "comment is 3; expected text"),
    ({"action": "comment", "comment": "x" * 10**6}, "comment", "comment has 1,000,000 characters"),
]  # fmt: skip


def check_rejection(folder: Path, name: str, field: str, reason: str) -> None:
    """Strict raises with the place and the reason; skip keeps all but the second record."""
    catalog, report = load_folder(folder, bad="skip")
    (problem,) = report.problems
    assert (problem.file, problem.row, problem.field) == (folder / f"{name}.jsonl", 2, field)
    assert reason in problem.reason
    assert (len(catalog.items), len(catalog.events)) == (3, 3)
    with pytest.raises(DataError) as caught:
        load_folder(folder)
    assert str(problem) in str(caught.value)


@pytest.mark.parametrize(("record", "field", "reason"), BAD_ITEMS)
def test_a_bad_item_is_named_and_costs_nothing_else(tmp_path: Path, record: Record, field: str, reason: str) -> None:
    folder = lay_out(tmp_path, [ITEMS[0], record, *ITEMS[1:]])
    (folder / "bomb.png").write_bytes(png_that_declares(60_000, 60_000))
    (folder / "link.png").symlink_to("/etc/passwd")
    soundfile.write(folder / "silence.wav", np.zeros(0, np.float32), 8000)
    soundfile.write(folder / "nan.wav", np.array([0, np.nan], np.float32), 8000, subtype="FLOAT")
    check_rejection(folder, "items", field, reason)


@pytest.mark.parametrize(("change", "field", "reason"), BAD_EVENTS)
def test_a_bad_event_is_named_and_costs_nothing_else(tmp_path: Path, change: Record, field: str, reason: str) -> None:
    check_rejection(lay_out(tmp_path, ITEMS, [EVENTS[0], EVENTS[0] | change, *EVENTS[1:]]), "events", field, reason)
