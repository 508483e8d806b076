"""The learner's folder: lessons and exercises as notebooks, and beside them what has been reached.

The one idea: what a learner wrote is never written over. A file is made whole beside its place and then
linked there, which fails if anything has that name already; a reset keeps the old notebook under its date.
"""

from __future__ import annotations

import importlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from m6rec_mini.course import chapters

NAME = "m6rec-course"  # of a workspace, unless another is given
MARK = ".m6rec"  # the folder that makes a folder a workspace
EXTRA = 'pip install "m6rec-mini[study]"'
NUMBERED = "[0-9][0-9]_*"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


class WorkspaceError(ValueError):
    """A workspace cannot be made, found or used; the message says what to do."""


class NoLibraryError(WorkspaceError):
    """A library of the extra `study` is missing."""


@dataclass(frozen=True)
class Workspace:
    """A folder, and what lies where in it."""

    root: Path

    @property
    def progress(self) -> Path:
        """The file of what has been reached."""
        return self.root / MARK / "progress.sqlite"

    def exercise(self, chapter: str) -> Path:
        """The learner's notebook of a chapter."""
        return self.root / "exercises" / chapter / f"{chapter}.ipynb"

    def lesson(self, chapter: str) -> Path:
        """The lesson of a chapter, as a notebook."""
        return self.root / "lessons" / f"{chapter}.ipynb"


@dataclass(frozen=True)
class Started:
    """What `start` did."""

    workspace: Workspace
    added: Sequence[PurePath]
    left: Sequence[PurePath]  # was there already
    lacking: str = ""  # why lessons were not added


def nearest(place: Path) -> Workspace | None:
    """The workspace that is this folder, or has it within."""
    place = place.absolute()
    return next((Workspace(folder) for folder in (place, *place.parents) if (folder / MARK).is_dir()), None)


def find(folder: Path | None = None) -> Workspace:
    """The workspace at or above the given or the current folder, else `m6rec-course` within; raises WorkspaceError."""
    place = Path.cwd() if folder is None else folder
    if folder is not None and not folder.is_dir():
        what = "no folder" if folder.exists() else "not there"
        raise WorkspaceError(f"{folder} is {what}; `m6rec start` makes a workspace")
    found = nearest(place) or nearest(place / NAME)
    if found is None:
        raise WorkspaceError(
            f"there is no workspace in {place} or above it; make one with `m6rec start`, "
            "or say where yours is with --dir"
        )
    return found


# ---- start -----------------------------------------------------------------------------------


def start(root: Path) -> Started:
    """Make a workspace, or add to one what is new; nothing that is there is touched.

    Raises WorkspaceError if the course is empty, if something is in the way, or for a place that cannot be written.
    """
    source = chapters.folder("exercises")
    if not list(source.glob(f"{NUMBERED}/{NUMBERED}.ipynb")):
        raise WorkspaceError(f"the course is empty: there are no exercises in {source}; install m6rec-mini again")
    root = root.expanduser().absolute()
    if root.resolve() == source.parent.resolve():
        raise WorkspaceError(f"{root} is where the course itself lies; give another folder: m6rec start {NAME}")
    added: list[PurePath] = []
    left: list[PurePath] = []
    lacking = ""
    try:
        (root / MARK).mkdir(parents=True, exist_ok=True)
        for name, content in _files():
            target = root / name
            if os.path.lexists(target):
                left.append(name)
                continue
            try:
                (added if put_new(target, content()) else left).append(name)
            except NoLibraryError as error:
                lacking = str(error)
    except OSError as error:
        raise WorkspaceError(_refusal(root, error)) from None
    return Started(Workspace(root), added, left, lacking)


def _files() -> Iterator[tuple[PurePath, Callable[[], bytes]]]:
    """Where each file of a workspace belongs, and how to get its content; with what the notebooks need beside them."""
    exercises, lessons = chapters.folder("exercises"), chapters.folder("lessons")
    folders = [folder for folder in sorted(exercises.glob(NUMBERED)) if folder.is_dir()]
    for file in (file for folder in folders for file in _within(folder)):
        yield PurePath("exercises", file.relative_to(exercises)), file.read_bytes
    for file in _within(lessons):
        if file.suffix != ".md":
            yield PurePath("lessons", file.relative_to(lessons)), file.read_bytes
        elif file.parent == lessons and file.match(f"{NUMBERED}.md"):
            yield PurePath("lessons", f"{file.stem}.ipynb"), partial(lesson_notebook, file)
    yield PurePath("README.md"), README.format(number=folders[0].name[:2], name=folders[0].name).encode


def _within(folder: Path) -> list[Path]:
    """Its files and those of its folders, but for hidden ones and Python's own."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return [file for file in files if not any(part.startswith((".", "__")) for part in file.relative_to(folder).parts)]


def lesson_notebook(file: Path) -> bytes:
    """A MyST lesson as a notebook, the same at every call; raises NoLibraryError without jupytext."""
    jupytext = library("jupytext")
    notebook = jupytext.read(file, fmt="md:myst")
    notebook.metadata.pop("jupytext", None)  # the learner's copy is paired with nothing
    notebook.metadata.setdefault("kernelspec", KERNEL)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for place, cell in enumerate(notebook.cells, start=1):
        cell["id"] = f"cell-{place}"
    return str(jupytext.writes(notebook, fmt="ipynb")).encode()


def library(name: str) -> Any:
    """A library of the extra `study`; raises NoLibraryError, which says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise NoLibraryError(f"{name} is missing, which notebooks need; get it with: {EXTRA}") from None


def _refusal(root: Path, error: OSError) -> str:
    path = Path(str(error.filename or root))
    blocked = next((place for place in (path, *path.parents) if os.path.lexists(place) and not place.is_dir()), None)
    if isinstance(error, FileExistsError | NotADirectoryError) and blocked is not None:
        return f"{blocked} is a file where a folder should be; move it away, or give another folder: m6rec start DIR"
    return f"{path} cannot be written ({error.strerror or error}); give another folder: m6rec start DIR"


# ---- reset -----------------------------------------------------------------------------------


def reset(workspace: Workspace, chapter: str, now: datetime) -> Path | None:
    """Put a fresh exercise in place; return where the old one is kept, or None if there was none.

    Killed at any moment, the old notebook is still there under one name or both. Raises WorkspaceError.
    """
    source, notebook = chapters.folder("exercises") / chapter / f"{chapter}.ipynb", workspace.exercise(chapter)
    if not source.is_file():
        raise WorkspaceError(f"the course has no exercise {chapter}: {source} is not there; install m6rec-mini again")
    if notebook.is_dir():
        raise WorkspaceError(f"{notebook} is a folder, and a notebook is to be there; move it away")
    fresh = source.read_bytes()
    if not os.path.lexists(notebook):
        put_new(notebook, fresh)
        return None
    beside = _written_beside(notebook, fresh)
    try:
        kept = _kept(notebook, now)
        beside.replace(notebook)
    finally:
        beside.unlink(missing_ok=True)
    return kept


def _kept(file: Path, now: datetime) -> Path:
    """Give a file a second name with the date."""
    while True:
        target = dated(file, now)
        with suppress(FileExistsError):  # somebody was faster: take the next name
            try:
                target.hardlink_to(file)
            except FileExistsError:
                raise
            except OSError:  # a drive without links
                if not put_new(target, file.read_bytes()):
                    continue
            return target


def dated(file: Path, now: datetime) -> Path:
    """The first name that is free among `name.2026-11-24T061500.ipynb`, `name.2026-11-24T061500-2.ipynb` …"""
    stem, number = f"{file.stem}.{now:%Y-%m-%dT%H%M%S}", 1
    target = file.with_name(stem + file.suffix)
    while os.path.lexists(target):
        number += 1
        target = file.with_name(f"{stem}-{number}{file.suffix}")
    return target


def put_new(file: Path, content: bytes) -> bool:
    """Write a file whole or not at all; False, and nothing done, where something has its name already."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = _written_beside(file, content)
    try:
        try:
            file.hardlink_to(beside)
        except FileExistsError:
            return False
        except OSError:  # a drive without links; nobody else writes here in between
            if os.path.lexists(file):
                return False
            beside.rename(file)
    finally:
        beside.unlink(missing_ok=True)
    return True


def _written_beside(file: Path, content: bytes) -> Path:
    beside = file.with_name(f".{file.name[:100]}.{secrets.token_hex(4)}")
    try:
        with beside.open("xb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    return beside


README = """# Your course

Everything here is yours: nothing that you write is ever overwritten.

1. `m6rec lab` opens this folder in your browser.
2. Read a lesson in `lessons/`, then open its exercise, for instance `exercises/{name}/{name}.ipynb`.
3. Write the code where it says `NotImplementedError`, and run the cell with `check(…)` below it:
   it tells what is right and which law does not hold yet.

In a terminal, in this folder:

| command | what it does |
|---|---|
| `m6rec check {number}` | judges your notebook of this chapter as it was last saved |
| `m6rec hint {number}.question` | shows one hint, then the next |
| `m6rec status` | shows what you have reached and what comes next |
| `m6rec reset {number}` | puts a fresh exercise in place and keeps yours under its date |
| `m6rec start .` | adds what is new in the course and leaves all else as it is |

What you have reached is kept in `.m6rec/`.
"""
