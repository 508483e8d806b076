"""A small chapter to be judged, answers to it, and who still runs afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from m6rec_mini.course import remote, sandbox
from m6rec_mini.course.answers import Answer
from m6rec_mini.course.chapters import Chapter
from m6rec_mini.course.expect import close, require
from m6rec_mini.course.grader import Question, given, hidden, laws_of, points, teaches
from m6rec_mini.course.grading import Submission, grade_file
from m6rec_mini.course.remote import Servers
from m6rec_mini.course.wire import Packed, pack

HINTS = ("where", "which idea", "almost")
DOUBLE = Question("double", "Twice as much", "twice", HINTS, forbidden=("numpy.multiply",), seconds=60.0)
TALLY = Question("Tally", "Count what comes", "tally", HINTS, seconds=60.0)


@points(2, DOUBLE)
@teaches("Every number is doubled.")
@given(examples=8, numbers=st.lists(st.floats(-9, 9), min_size=1, max_size=4))
def law_each_is_doubled(answer: Any, numbers: list[float]) -> None:
    close(answer.double(np.array(numbers)), np.array(numbers) * 2)


@points(1, DOUBLE)
@teaches("An empty array stays empty.")
@hidden
def law_empty(answer: Any) -> None:
    require(np.asarray(answer.double(np.zeros(0))).shape == (0,), "not empty")


@points(2, TALLY)
@teaches("Each call counts one.")
def law_counts(answer: Any) -> None:
    tally = answer.Tally()
    require([tally.add("a"), tally.add("a"), tally.add("b")] == [1, 2, 1], "wrong count")


@points(1, TALLY)
@teaches("A new tally begins at one.")
def law_starts_again(answer: Any) -> None:
    answer.Tally().add("a")
    require(answer.Tally().add("a") == 1, "it remembers")


LAWS = {
    "test_doubled": law_each_is_doubled,
    "test_empty": law_empty,
    "test_counts": law_counts,
    "test_again": law_starts_again,
}
CHAPTER = Chapter("98_try", tuple(laws_of(LAWS)))
GOOD = """
import numpy as np
def double(x):
    return 2 * x
class Tally:
    def __init__(self):
        self.seen = {}
    def add(self, key):
        self.seen[key] = self.seen.get(key, 0) + 1
        return self.seen[key]
"""
ALL = {"double": 3.0, "Tally": 3.0}


def graded(
    source: str, folder: Path, servers: Servers, name: str = "answer.py", chapter: Chapter = CHAPTER
) -> Submission:
    file = folder / name
    file.write_text(dedent(source), encoding="utf-8")
    return grade_file(file, chapter, servers)


def with_little_time(*questions: str) -> Chapter:
    """The same laws, but these questions are over after a moment."""
    short = {name: replace(CHAPTER.question(name), seconds=0.5) for name in questions}
    laws = (replace(law, question=short.get(law.question.name, law.question)) for law in CHAPTER.laws)
    return Chapter(CHAPTER.name, tuple(laws))


def earned(submission: Submission) -> dict[str, float]:
    return {report.question: report.points for report in submission.reports}


@contextmanager
def sandboxed(memory: int) -> Iterator[Servers]:
    """Servers in a sandbox, with so many bytes for each answer; skips where there is no sandbox."""
    isolation = sandbox.strongest()
    if isolation.level != "sandbox":
        pytest.skip(f"no sandbox here: {isolation.why_not}")
    with pytest.MonkeyPatch.context() as patch, Servers(isolation) as found:
        patch.setitem(remote.MEMORY, "numpy", memory)
        yield found


def below(pid: int) -> list[int]:
    """The processes under one, however deep."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found = [pid]
    for parent in found:
        found += [child for child, above in parents.items() if above == parent]
    return found[1:]


def running(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def cells(source: str) -> Packed:
    return pack({"cells": [[source, "other", "", 1]]})


def told(servers: Servers, source: str, seconds: float = 5.0, imports: tuple[str, ...] = ("numpy",)) -> object:
    """What `f()` of this code returns over there."""
    with servers.open(cells(source), imports) as link:
        return Answer(link, time.monotonic() + seconds).f()
