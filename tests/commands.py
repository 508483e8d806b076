"""Running `m6rec` in a test, and what a refusal has to look like."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from m6rec_mini.catalog import Event
from m6rec_mini.cli import app
from m6rec_mini.datasets.folder import read_events


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(result: Result, *said: str) -> str:
    """A user's mistake: exit code 2, one message on stderr with all of `said`, nothing on stdout, no traceback."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""
    for words in said:
        assert words in result.stderr
    return result.stderr


def write_events(file: Path, events: Sequence[Event]) -> Path:
    return write(file, ({"user": e.user, "item": e.item, "action": e.action, "timestamp": e.timestamp} for e in events))


def write(file: Path, records: Any) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


def one_history(data: Path, file: Path) -> Path:
    """Write the events of the first user of a folder."""
    events = read_events(data / "events.jsonl")[0]
    return write_events(file, [event for event in events if event.user == events[0].user])
