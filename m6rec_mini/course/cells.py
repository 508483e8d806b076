"""Learner's code as cells, from a notebook or a script, however damaged.

Nothing here runs: a submission is read as text. What cannot be read is told in a sentence, so that
one broken file never stops the others. Cells that check or only demonstrate are left out of grading;
where its marks were lost, a cell that does nothing but `check` gives itself away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["answer", "check", "demo", "other"]
LARGEST = 64 * 2**20  # bytes of a notebook
PERCENT = re.compile(r"^# %%(.*)$", re.MULTILINE)
CHECK = re.compile(r"check\s*\(")
SHELL = re.compile(r"^\s*[%!]")


class UnreadableError(ValueError):
    """A submission from which no code can be taken; the message is for a teacher."""


@dataclass(frozen=True)
class Cell:
    """Some code, and what it is for."""

    source: str
    kind: Kind = "other"
    name: str = ""  # of the question, where the cell says it
    place: int = 0  # its number in the notebook, from 1


def read_cells(file: Path) -> list[Cell]:
    """The code cells of a notebook (.ipynb) or a script (.py, percent cells or none). Raises UnreadableError."""
    if not file.exists():
        raise UnreadableError(f"{file.name} is not there")
    if file.is_dir():
        raise UnreadableError(f"{file.name} is a folder, not a notebook")
    if file.stat().st_size > LARGEST:
        raise UnreadableError(f"{file.name} has {file.stat().st_size >> 20} MiB; clear its outputs and save it again")
    text = file.read_bytes().decode("utf-8-sig", "replace").replace("\r\n", "\n").replace("\r", "\n")
    if file.suffix == ".py":
        return percent_cells(text)
    return notebook_cells(text, file.name)


def notebook_cells(text: str, name: str = "the notebook") -> list[Cell]:
    """The code cells of a notebook's JSON; cells that are damaged are passed over."""
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{name} is not a notebook: {error}. It was cut off or edited by hand") from None
    if not isinstance(notebook, Mapping):
        raise UnreadableError(f"{name} is not a notebook: its JSON is a {type(notebook).__name__}")
    cells = notebook.get("cells")
    if cells is None and isinstance(notebook.get("worksheets"), list):  # format 3, of before 2015
        sheets = [sheet.get("cells") for sheet in notebook["worksheets"] if isinstance(sheet, Mapping)]
        cells = [cell for sheet in sheets if isinstance(sheet, list) for cell in sheet]
    if not isinstance(cells, list):
        raise UnreadableError(f"{name} is not a notebook: it has no list of cells")
    found = []
    for place, cell in enumerate(cells, start=1):
        if isinstance(cell, Mapping) and (cell.get("cell_type") == "code" or _is_solution(cell)):
            source = _joined(cell.get("source", cell.get("input", "")))
            found.append(Cell(source, *_kind(_metadata(cell), source), place=place))
    return found


def percent_cells(text: str) -> list[Cell]:
    """The code cells of a script; all of it where it has no `# %%` lines."""
    parts = PERCENT.split(text)
    found = [Cell(parts[0], *_kind({}, parts[0]), place=1)] if parts[0].strip() else []
    for place, (head, body) in enumerate(zip(parts[1::2], parts[2::2], strict=True), start=2):
        if "[markdown]" in head:
            continue
        marks = dict(re.findall(r'(\w+)="([^"]*)"', head))
        found.append(Cell(body.strip("\n"), *_kind(marks, body), place=place))
    return found


def runnable(source: str) -> str:
    """The code without IPython's own syntax: lines of magic and of shell become comments, keeping line numbers."""
    if source.lstrip().startswith("%%"):
        return ""
    return "\n".join("pass  # " + line.strip() if SHELL.match(line) else line for line in source.split("\n"))


def graded(cells: Sequence[Cell]) -> list[Cell]:
    """The cells to run for a grade, in order."""
    return [cell for cell in cells if cell.kind in ("answer", "other")]


def _is_solution(cell: Mapping[str, Any]) -> bool:
    """An answer whose cell was turned into text or raw by accident."""
    return bool(_nbgrader(_metadata(cell)).get("solution")) and cell.get("cell_type") != "code"


def _metadata(cell: Mapping[str, Any]) -> Mapping[str, Any]:
    found = cell.get("metadata")
    return found if isinstance(found, Mapping) else {}


def _nbgrader(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    found = metadata.get("nbgrader")
    return found if isinstance(found, Mapping) else {}


def _kind(metadata: Mapping[str, Any], source: str) -> tuple[Kind, str]:
    marks, tags = _nbgrader(metadata), metadata.get("tags") or ()
    name = str(marks.get("grade_id") or metadata.get("answer") or metadata.get("check") or "")
    if marks.get("solution") or "answer" in metadata:
        return "answer", name
    if marks.get("grade") or "check" in metadata or _only_checks(source):
        return "check", name.removeprefix("check-")
    return ("demo", name) if "demo" in metadata or "demo" in tags else ("other", "")


def _only_checks(source: str) -> bool:
    """A cell that lost its marks and does nothing but check."""
    lines = [line.strip() for line in source.split("\n") if line.strip() and not line.strip().startswith("#")]
    return bool(lines) and all(CHECK.match(line) for line in lines)


def _joined(source: Any) -> str:
    if isinstance(source, list):
        return "".join(part for part in source if isinstance(part, str))
    return source if isinstance(source, str) else ""
