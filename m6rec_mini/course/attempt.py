"""A notebook judged in a process of its own, so that nothing in its cells can hurt the terminal.

The one idea: the process says in a file how far it has come, line by line. Whoever waits knows what is
running and how long it may take; if the process falls silent or dies, one question is lost, and a new
process goes on with the next. This is for learners; when a grade is at stake, see `remote`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import walk_tb
from typing import Any

from m6rec_mini.course.answers import Answer, Here, interrupted_at
from m6rec_mini.course.cells import Cell, UnreadableError, graded, read_cells, runnable
from m6rec_mini.course.chapters import Chapter, load
from m6rec_mini.course.checking import judge_namespace
from m6rec_mini.course.errors import OutOfTime
from m6rec_mini.course.grader import Report, run
from m6rec_mini.course.local import BROKEN
from m6rec_mini.course.namespace import run_cells
from m6rec_mini.course.progress import OFF, from_json, to_json
from m6rec_mini.course.workspace import WorkspaceError

SECONDS = 60.0  # for the cells of a notebook
LEFT_OUT = 3  # endless cells; after so many nothing is judged
IMPORTS = 120.0  # seconds that a slow machine may take to get ready
GRACE = 5.0  # seconds after a deadline until code that cannot be interrupted is killed
CHILD = "from m6rec_mini.course.attempt import main; main()"
ENDLESS = "look for a loop that never ends"


@dataclass
class Heard:
    """What one process has said."""

    ran: bool = False  # all cells
    late: list[str] = field(default_factory=list)  # cells that were stopped
    reports: list[Report] = field(default_factory=list)
    ending: str = ""  # how it ended before its time
    fault: str = ""  # of a grader, not of the learner

    def take(self, line: bytes) -> None:
        """Understand one line; what is none is passed over."""
        with suppress(ValueError, TypeError):
            kind, text = json.loads(line)
            if kind == "ran":
                self.ran = True
            elif kind == "late":
                self.late.append(str(text))
            elif kind == "report":
                self.reports.append(from_json(text))
            elif kind == "fault":
                self.fault = str(text)


def judge(
    notebook: Path, chapter: Chapter, questions: Sequence[str], seconds: float = SECONDS
) -> tuple[list[Report], list[str]]:
    """A report for each question, in order, and remarks about cells that were stopped after `seconds`.

    Raises WorkspaceError for a notebook that cannot be read, and for a grader that is at fault.
    """
    try:
        read_cells(notebook)
    except UnreadableError as error:
        missing = f"`m6rec start` or `m6rec reset {chapter.number}` puts it there again"
        broken = f"`m6rec reset {chapter.number}` puts a fresh one in place and keeps this one"
        raise WorkspaceError(f"{error} ({notebook}); {broken if notebook.exists() else missing}") from None
    reports: list[Report] = []
    late: list[str] = []
    while len(reports) < len(questions):
        rest = questions[len(reports) :]
        heard = _attempt(notebook, chapter, rest, seconds)
        reports += heard.reports[: len(rest)]
        late = late or heard.late
        if heard.fault:
            raise WorkspaceError(
                f"the grader of {chapter.name} is at fault, not your code; please report: {heard.fault}"
            )
        if len(heard.reports) < len(rest):
            lost = rest[len(heard.reports) :]
            reports += [_lost(chapter, question, heard.ending) for question in (lost[:1] if heard.ran else lost)]
    return reports, late


def _lost(chapter: Chapter, question: str, why: str) -> Report:
    return run(chapter.name, chapter.questions[question], Answer(Here({})), refused=why)


# ---- the side that waits ---------------------------------------------------------------------


def _attempt(notebook: Path, chapter: Chapter, questions: Sequence[str], seconds: float) -> Heard:
    limits = [chapter.question(question).seconds for question in questions]
    job = {"notebook": str(notebook.absolute()), "chapter": chapter.name, "questions": questions, "seconds": seconds}
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "said"
        file.touch()
        process = subprocess.Popen(  # -P: a `numpy.py` beside the notebook must not stand in for ours
            [sys.executable, "-P", "-c", CHILD, json.dumps({**job, "file": str(file)})],
            cwd=notebook.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, OFF: "off", "MPLBACKEND": "Agg"},  # no windows, and no double records
            start_new_session=True,
        )
        try:
            return _listen(process, file, seconds, limits)
        finally:
            _end(process)  # also when all is said: threads that were left behind may keep it alive


def _listen(process: subprocess.Popen[bytes], file: Path, seconds: float, limits: Sequence[float]) -> Heard:
    """Hear all, or until nothing was heard for longer than may be."""
    heard, limit, since = Heard(), IMPORTS, time.monotonic()
    with file.open("rb") as opened:
        said = b""
        while True:
            over = process.poll() is not None  # asked before reading, or its last words were missed
            *lines, said = (said + opened.read()).split(b"\n")
            for line in lines:
                heard.take(line)
                since = time.monotonic()
                limit = limits[min(len(heard.reports), len(limits) - 1)] if heard.ran else seconds
            if heard.fault or len(heard.reports) == len(limits):
                return heard
            if over:
                heard.ending = _ending(process.returncode)
                return heard
            if time.monotonic() - since > limit + GRACE:
                whose = "Your code" if heard.ran else "A cell of your notebook"
                heard.ending = f"{whose} was still running after {limit:g} seconds and had to be killed; {ENDLESS}."
                return heard
            time.sleep(0.02)


def _ending(code: int) -> str:
    if code >= 0:
        return f"Your code ended its process (exit code {code}): leave out os._exit and the like."
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    why = "; perhaps the memory was used up" if name == "SIGKILL" else ""
    return f"Your code brought its process down ({name}{why}). Run its cells in the notebook to find which one does."


def _end(process: subprocess.Popen[bytes]) -> None:
    """The process, and all that its cells have started."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


# ---- the side that runs the cells ------------------------------------------------------------


def main() -> None:
    """Run the cells, judge the questions, say what comes out. The job is JSON, in the first argument."""
    job = json.loads(sys.argv[1])
    notebook, questions = Path(job["notebook"]), list(job["questions"])
    with Path(job["file"]).open("a", encoding="ascii") as file:

        def say(kind: str, text: str = "") -> None:
            file.write(json.dumps([kind, text]) + "\n")
            file.flush()

        try:
            chapter = load(job["chapter"])
            say("ready")
            sys.path.insert(0, str(notebook.parent))  # as Jupyter does, for modules beside the notebook
            names = _names(read_cells(notebook), job["seconds"], say)
            say("ran")
            for question in questions:
                say("report", to_json(judge_namespace(chapter, question, names)))
        except Exception as error:  # a learner's errors are in the reports
            say("fault", f"{type(error).__name__}: {error}")


def _names(cells: Sequence[Cell], seconds: float, say: Callable[[str, str], None]) -> dict[str, Any]:
    """What the cells define; one that does not end in time is left out, and the others run once more."""
    late: list[str] = []
    while len(late) < LEFT_OUT:
        try:
            with interrupted_at(time.monotonic() + seconds):
                names = run_cells(cells)
        except OutOfTime as stop:
            place = _place(stop)
            late.append(f"cell {place} was still running after {seconds:g} seconds and was stopped; {ENDLESS}")
            say("late", late[-1])
            cells = [cell for cell in cells if cell.place != place]
        else:
            names[BROKEN] += late
            names["In"] = [runnable(cell.source) for cell in graded(cells)]  # what was run, for `sources_of`
            return names
    return {BROKEN: late}


def _place(stop: OutOfTime) -> int:
    """Which cell was running; 0 if none was."""
    files = (frame.f_code.co_filename for frame, _ in walk_tb(stop.__traceback__))
    found = (re.fullmatch(r"<cell (\d+)>", file) for file in files)
    return next((int(match[1]) for match in found if match), 0)
