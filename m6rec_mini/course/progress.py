"""What a learner has reached: reports as JSON, points, what comes next, the streak of days.

The one idea: only attempts are stored, and everything that is shown is counted from them anew. So a
chapter that gained a question, or a bar that was wrong, needs no mending of what was stored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from threading import Thread

from m6rec_mini.course.chapters import Chapter
from m6rec_mini.course.grader import Outcome, Report

OFF = "M6REC_PROGRESS"  # set to "off", `check` in a notebook records nothing
WRITER = "m6rec progress"  # the thread that writes for a notebook
ROUNDING = 1e-9  # of points that were added up


class NoReportError(ValueError):
    """Text that is no report."""


@dataclass(frozen=True)
class Attempt:
    """One check of one question, on a local day."""

    chapter: str
    question: str
    points: float
    day: date


@dataclass(frozen=True)
class Standing:
    """How far a chapter has come."""

    chapter: str
    questions: int
    unsolved: tuple[str, ...]  # questions, in order
    points: float
    worth: float
    attempts: int
    hints: int

    @property
    def solved(self) -> int:
        """How many questions have all their points."""
        return self.questions - len(self.unsolved)


# ---- reports as JSON -------------------------------------------------------------------------


def to_json(report: Report) -> str:
    """A report as one line of ASCII."""
    return json.dumps(asdict(report))


def from_json(text: str) -> Report:
    """The report again. Raises NoReportError for text that `to_json` cannot have made."""
    try:
        fields = json.loads(text)
        outcomes = [Outcome(**outcome) for outcome in fields.pop("outcomes")]
        report = Report(outcomes=outcomes, **fields)
        json.dumps([report.points + 0.0, report.worth + 0.0])  # numbers, or it is no report
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NoReportError(f"not a report ({type(error).__name__}: {error})") from None
    return report


# ---- counting --------------------------------------------------------------------------------


def standing(chapter: Chapter, attempts: Sequence[Attempt], hints: Mapping[tuple[str, str], int]) -> Standing:
    """Of one chapter: the best attempt at each question counts. `hints` says how many were seen, by question."""
    mine = [attempt for attempt in attempts if attempt.chapter == chapter.name]
    worth = {name: sum(law.points for law in laws) for name, laws in chapter.questions.items()}
    best = dict.fromkeys(worth, 0.0)
    for attempt in mine:
        if attempt.question in best:  # it may have been renamed since
            best[attempt.question] = max(best[attempt.question], min(attempt.points, worth[attempt.question]))
    return Standing(
        chapter.name,
        questions=len(worth),
        unsolved=tuple(name for name in worth if best[name] < worth[name] - ROUNDING),
        points=sum(best.values()),
        worth=sum(worth.values()),
        attempts=len(mine),
        hints=sum(hints.get((chapter.name, name), 0) for name in worth),
    )


def next_question(standings: Sequence[Standing], attempts: Sequence[Attempt]) -> tuple[str, str] | None:
    """Chapter and question to go on with: where the last attempt was, else the first unsolved; None if all is done."""
    last = attempts[-1].chapter if attempts else ""
    unsolved = [standing for standing in standings if standing.unsolved]
    here = next((standing for standing in unsolved if standing.chapter == last), None) or next(iter(unsolved), None)
    return None if here is None else (here.chapter, here.unsolved[0])


def streak(days: Collection[date], today: date) -> int:
    """Days in a row with a check, up to today; a day that is not over yet breaks nothing."""
    day, length = today if today in days else today - timedelta(days=1), 0
    while day in days:
        day, length = day - timedelta(days=1), length + 1
    return length


def title(chapter: str) -> str:
    """ "07_multimodal_fusion" for people: "07 Multimodal fusion"."""
    number, _, name = chapter.partition("_")
    return f"{number} {name.replace('_', ' ').capitalize()}"


# ---- from notebooks --------------------------------------------------------------------------


def note(report: Report) -> None:
    """Record a report in the workspace that holds the current folder, if one does and it can.

    It says nothing, raises nothing and waits for nothing, so that no check fails or is slow for the sake of
    statistics: a thread does the writing, which the end of the process waits for.
    """
    if os.environ.get(OFF) == "off":
        return
    with suppress(Exception):  # not every browser has threads
        from m6rec_mini.course.workspace import nearest

        workspace, now = nearest(Path.cwd()), datetime.now().astimezone()
        if workspace is not None:
            Thread(target=_write, args=(workspace.progress, report, now), name=WRITER, daemon=False).start()


def _write(file: Path, report: Report, now: datetime) -> None:
    """A damaged file is left to the next command, which can tell."""
    with suppress(Exception):
        from m6rec_mini.course.state import State

        with State(file, now, mend=False) as state:
            state.add(report, now)
