"""What happened, in one SQLite file: every report, every hint that was seen.

The one idea: a record is one row, written in one transaction of a write-ahead log. Whenever the process is
killed, the row is there or it is not, and the file opens again. A file that is damaged all the same is kept
under another name, and a new one begun.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from types import TracebackType

from m6rec_mini.course.grader import Report
from m6rec_mini.course.progress import Attempt, to_json
from m6rec_mini.course.workspace import dated

MARK = 0x6D367265  # "m6re": our files, among all of SQLite's
VERSION = 1
TIERS = 3  # of hints
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
READ_AT_ONCE = """SELECT (SELECT user_version FROM pragma_user_version),
    (SELECT application_id FROM pragma_application_id), (SELECT COUNT(*) FROM sqlite_master)"""
# one statement: read one by one, a file that another process is just making looks like a foreign one
ASIDE = "`m6rec status` keeps it aside and begins a new one"
SCHEMA = (
    """CREATE TABLE reports (
        id INTEGER PRIMARY KEY, time TEXT NOT NULL, day TEXT NOT NULL, chapter TEXT NOT NULL, question TEXT NOT NULL,
        points REAL NOT NULL, worth REAL NOT NULL, report TEXT NOT NULL)""",
    """CREATE TABLE hints (
        chapter TEXT NOT NULL, question TEXT NOT NULL, tier INTEGER NOT NULL, time TEXT NOT NULL,
        PRIMARY KEY (chapter, question, tier))""",
    f"PRAGMA application_id = {MARK}",
    f"PRAGMA user_version = {VERSION}",
)


class StateError(ValueError):
    """The file of progress cannot be used; the message says why and what to do."""


class _DamagedError(Exception):
    pass


class State:
    """The open file; use it in a `with`. `kept` is where a damaged one was put, if there was one.

    With `mend=False` a damaged file is an error, and its pages are not looked through. Raises StateError; waits at
    most `wait` seconds for another process that is writing.
    """

    def __init__(self, file: Path, now: datetime, wait: float = 5.0, *, mend: bool = True) -> None:
        self.file = file
        self.kept: Path | None = None
        with self._told():
            try:
                self._db = _opened(file, wait, look_through=mend)
            except (_DamagedError, sqlite3.DatabaseError) as error:
                if not mend or not _is_damage(error):
                    raise
                self.kept = _set_aside(file, now)
                self._db = _opened(file, wait, look_through=True)

    def __enter__(self) -> State:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._db.close()

    def add(self, report: Report, now: datetime) -> None:
        """Record one report; its picture is not kept."""
        row = (now.isoformat(timespec="seconds"), now.date().isoformat(), report.chapter, report.question)
        values = (*row, report.points, report.worth, to_json(replace(report, picture="")))
        columns = "time, day, chapter, question, points, worth, report"
        with self._writing() as db:
            db.execute(f"INSERT INTO reports ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def attempts(self) -> list[Attempt]:
        """All of them, oldest first."""
        with self._told():
            rows = self._db.execute("SELECT chapter, question, points, day FROM reports ORDER BY id").fetchall()
        return [Attempt(chapter, question, points, date.fromisoformat(day)) for chapter, question, points, day in rows]

    def reports(self) -> list[str]:
        """All reports as JSON, oldest first."""
        with self._told():
            return [text for (text,) in self._db.execute("SELECT report FROM reports ORDER BY id")]

    def hints(self) -> dict[tuple[str, str], int]:
        """How many hints were seen, by chapter and question."""
        with self._told():
            rows = self._db.execute("SELECT chapter, question, MAX(tier) FROM hints GROUP BY chapter, question")
            return {(chapter, question): tier for chapter, question, tier in rows}

    def next_hint(self, chapter: str, question: str, now: datetime) -> int | None:
        """Take the next hint: its tier, from 1, which from now on counts as seen; None if all were seen."""
        with self._writing() as db:
            query = "SELECT COUNT(*) FROM hints WHERE chapter = ? AND question = ?"
            (seen,) = db.execute(query, (chapter, question)).fetchone()
            if seen >= TIERS:
                return None
            row = (chapter, question, seen + 1, now.isoformat(timespec="seconds"))
            db.execute("INSERT INTO hints (chapter, question, tier, time) VALUES (?, ?, ?, ?)", row)
            return int(seen) + 1

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, from before the first read."""
        with self._told(), self._db as db:
            db.execute("BEGIN IMMEDIATE")
            yield db

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except _DamagedError as error:
            raise StateError(f"{self.file} is damaged: {error}; {ASIDE}") from None
        except sqlite3.Error as error:
            if isinstance(error, sqlite3.DatabaseError) and _is_damage(error):
                what = ASIDE
            elif getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                what = "another process is writing to it; try again, or close the other one"
            else:
                what = "check that its folder is there and can be written, and that the disk has room"
            raise StateError(f"{self.file}: {error}; {what}") from None


def _opened(file: Path, wait: float, *, look_through: bool) -> sqlite3.Connection:
    """The file, with its tables. Raises sqlite3.Error, _DamagedError, StateError."""
    db = sqlite3.connect(file, timeout=wait, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = NORMAL")  # with a write-ahead log, whole after any kill
        if _version(db, file) == 0:
            _make(db, file)
        if look_through and (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _DamagedError(found)
    except BaseException:
        db.close()
        raise
    return db


def _version(db: sqlite3.Connection, file: Path) -> int:
    """Of the format; 0 where nothing is in the file yet."""
    version, mark, tables = db.execute(READ_AT_ONCE).fetchone()
    if mark != MARK and (version or tables):
        raise _DamagedError("a database of another program")
    if version > VERSION:
        raise StateError(
            f"{file} was written by a newer m6rec-mini (format {version}, and this one knows {VERSION}); "
            "update it: pip install --upgrade m6rec-mini"
        )
    return int(version)


def _make(db: sqlite3.Connection, file: Path) -> None:
    db.execute("PRAGMA journal_mode = WAL")  # where a drive cannot have one, SQLite stays with its journal
    with db:
        db.execute("BEGIN IMMEDIATE")
        if _version(db, file) == 0:  # nobody else was faster
            for statement in SCHEMA:
                db.execute(statement)


def _is_damage(error: _DamagedError | sqlite3.DatabaseError) -> bool:
    return isinstance(error, _DamagedError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGE


def _set_aside(file: Path, now: datetime) -> Path:
    """Rename the file and what belongs to it; return its new name."""
    kept = dated(file, now)
    for suffix in ("-wal", "-shm", ""):
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    return kept
