"""A grade for a file: its code in a process of its own, the laws in this one.

What cannot be read, started or judged scores nothing and says why; nothing that a submission holds or
does raises here. Each question has a fresh process, so a crash costs that question alone.
"""

from __future__ import annotations

import inspect
import json
import re
import stat
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from m6rec_mini.course.answers import Answer, clean, interrupted_at
from m6rec_mini.course.cells import Cell, UnreadableError, graded, read_cells, runnable
from m6rec_mini.course.chapters import Chapter, NoSuchChapterError, chapter_names, load
from m6rec_mini.course.errors import Gone, OutOfTime, Unsound
from m6rec_mini.course.grader import Law, Outcome, Report, Status, run
from m6rec_mini.course.remote import NoServerError, Remote, Servers
from m6rec_mini.course.wire import Packed, WireError, pack, unpack

CHECKED = re.compile(r"""check\s*\(\s*["'](\d\d_\w+)""")
TORCH = re.compile(r"^\s*(?:import|from)\s+torch\b", re.MULTILINE)
READING = 10.0  # seconds to look for forbidden names in all of a submission's code
GRACE = 5.0  # seconds that laws may work on what they got, beyond the question's own


@dataclass(frozen=True)
class Submission:
    """What became of one file; without reports where not even its chapter is known."""

    file: str
    chapter: str
    reports: Sequence[Report]
    isolation: str
    reason: str = ""  # why nothing of it could be graded, for a teacher
    notes: Sequence[str] = ()  # what a teacher should look at
    seconds: float = 0.0

    @property
    def points(self) -> float:
        """What was earned."""
        return sum((report.points for report in self.reports), 0.0)

    @property
    def worth(self) -> float:
        """What could be earned."""
        return sum((report.worth for report in self.reports), 0.0)

    def plain(self) -> dict[str, Any]:
        """Numbers, text and containers, sums included."""
        questions = [asdict(report) | {"points": report.points, "worth": report.worth} for report in self.reports]
        own = {name: value for name, value in self.__dict__.items() if name != "reports"}
        return own | {"points": self.points, "worth": self.worth, "notes": list(self.notes), "questions": questions}

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.plain(), ensure_ascii=False)


def grade_file(path: Path, chapter: Chapter | str | None, servers: Servers) -> Submission:
    """Judge a notebook or script by all questions of a chapter, or of the one that it seems to answer.

    Raises NoSuchChapterError only for a chapter that was given and does not exist, and Unsound for a grader
    that cannot even be loaded.
    """
    start = time.monotonic()
    known = load(chapter) if isinstance(chapter, str) else chapter
    name, cells, reason = clean(path.name, 300), list[Cell](), ""
    try:
        cells = read_submission(path)
    except UnreadableError as error:
        reason = clean(error)
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        reason = f"it cannot be read ({type(error).__name__}: {clean(error, 200)})"
    try:
        known = known or load(chapter_of(path, cells))
    except NoSuchChapterError as error:
        reason = reason or clean(error)
    if known is None:
        return Submission(name, "", (), servers.level, reason, seconds=time.monotonic() - start)
    if reason:
        reports = [_not_run(known, laws, reason, servers.level) for laws in known.questions.values()]
        return Submission(name, known.name, reports, servers.level, reason, seconds=time.monotonic() - start)
    reports, notes = grade_cells(cells, known, servers)
    return Submission(name, known.name, reports, servers.level, "", notes, time.monotonic() - start)


def grade_cells(cells: Sequence[Cell], chapter: Chapter, servers: Servers) -> tuple[list[Report], list[str]]:
    """The report on each question of the chapter, and what a teacher should look at."""
    judged = graded(cells)
    needs_torch = _grader_needs_torch(chapter) or any(TORCH.search(cell.source) for cell in judged)
    imports = ("numpy", "torch") if needs_torch else ("numpy",)
    job = pack({"cells": [[cell.source, cell.kind, cell.name, cell.place] for cell in judged]})
    reports, notes = [], list[str]()
    try:
        refused = _refusals([runnable(cell.source) for cell in judged], chapter, servers, imports)
        for name, laws in chapter.questions.items():
            reports.append(_judge(chapter, laws, job, refused[name], servers, imports, notes))
    except NoServerError as error:
        notes.append(clean(error, 2000))
        left = list(chapter.questions.values())[len(reports) :]
        why = "Not run: there was no process to run it in."
        reports += [_not_run(chapter, laws, why, servers.level) for laws in left]
    return reports, notes


# ---- one question ----------------------------------------------------------------------------


def _judge(
    chapter: Chapter, laws: Sequence[Law], job: Packed, refused: str, servers: Servers, imports: tuple[str, ...],
    notes: list[str],
) -> Report:  # fmt: skip
    """One question in a process of its own; law by law in several if a law fails by itself."""
    if refused:
        return run(chapter.name, laws, Answer(Remote(None, servers.level)), refused)
    question = laws[0].question
    try:
        with (
            servers.open(job, imports, question.seconds) as remote,
            interrupted_at(time.monotonic() + question.seconds + GRACE),
        ):
            return run(chapter.name, laws, Answer(remote))
    except OutOfTime:
        why = f"Not run: judging took longer than {question.seconds + GRACE:g} seconds."
        return _not_run(chapter, laws, why, servers.level, "out of time")
    except Unsound as error:
        if len(laws) == 1:
            notes.append(f"{question.name}: {clean(error)}")
            why = "Not run: this test stumbled over what your code returned. Your teacher has been told."
            return _not_run(chapter, laws, why, servers.level)
    reports = list[Report]()
    for law in laws:
        over = any(outcome.status == "out of time" for report in reports for outcome in report.outcomes)
        why = "Not run: the time was used up" if over else ""
        one = _not_run(chapter, [law], why, servers.level) if over else None
        reports.append(one or _judge(chapter, [law], job, "", servers, imports, notes))
    outcomes = [outcome for report in reports for outcome in report.outcomes]
    return replace(reports[0], outcomes=outcomes, seconds=sum(report.seconds for report in reports))


def _not_run(chapter: Chapter, laws: Sequence[Law], why: str, level: str, status: Status = "not run") -> Report:
    question = laws[0].question
    outcomes = [
        Outcome("a hidden test" if law.hidden else law.name, 0.0, law.points, status, law.hidden, message=why)
        for law in laws
    ]
    return Report(chapter.name, question.name, question.title, outcomes, section=question.section, isolation=level)


def _refusals(sources: Sequence[str], chapter: Chapter, servers: Servers, imports: tuple[str, ...]) -> dict[str, str]:
    """Per question why it may not count, or "". In a process of its own too: hostile source can crash a parser."""
    asked = [(name, laws[0].question.forbidden) for name, laws in chapter.questions.items()]
    try:
        with servers.open(None, imports, READING) as remote:
            request = pack({"sources": list(sources), "questions": asked})
            found = unpack(remote.request(request, time.monotonic() + READING))
        return {name: str(why) for (name, _), why in zip(asked, found, strict=True)}
    except (OutOfTime, Gone, WireError):
        why = "The code could not be examined: it is too long, or too deeply nested."
        return dict.fromkeys(chapter.questions, why)


# ---- reading ---------------------------------------------------------------------------------


def read_submission(path: Path) -> list[Cell]:
    """The cells of a file that is what it seems to be; raises UnreadableError or OSError."""
    kind = path.lstat().st_mode if path.exists() or path.is_symlink() else None
    if kind is None:
        raise UnreadableError(f"{path.name} is not there")
    if stat.S_ISLNK(kind):
        raise UnreadableError(f"{path.name} is a link to another file; hand in the file itself")
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise UnreadableError(f"{path.name} is no ordinary file")
    return read_cells(path)


def chapter_of(path: Path, cells: Sequence[Cell]) -> str:
    """The chapter by the file's name, its folder, its checks, its number, or its questions.

    Raises NoSuchChapterError where nothing tells.
    """
    names = chapter_names()
    for part in (path.stem, path.parent.name):
        for name in names:
            if name in part:
                return name
    checked = Counter(found for cell in cells for found in CHECKED.findall(cell.source) if found in names)
    if checked:
        return str(checked.most_common(1)[0][0])
    numbers = set(re.findall(r"(?<!\d)\d\d(?!\d)", path.stem))
    by_number = [name for name in names if name[:2] in numbers]
    if len(by_number) == 1:
        return by_number[0]
    answered = {cell.name for cell in cells if cell.name}
    shared = {name: len(answered & set(load(name).questions)) for name in names} if answered else {}
    best = max(shared, key=lambda name: shared[name], default="")
    if best and shared[best]:
        return best
    raise NoSuchChapterError(f"nothing in {path.name} tells which chapter it answers; name the chapter")


@lru_cache(maxsize=64)
def _grader_needs_torch(chapter: Chapter) -> bool:
    modules = {sys.modules.get(law.test.__module__) for law in chapter.laws}
    try:
        return any(module is not None and TORCH.search(inspect.getsource(module)) for module in modules)
    except (OSError, TypeError):
        return False
