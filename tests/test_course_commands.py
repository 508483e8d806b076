"""The candidate's way through the course at the command line, with all that can go wrong on it."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from small_course import ADD, ADDING, MORE, TWICE, UNSOLVED, course, notebook, put  # noqa: F401
from typer.testing import CliRunner, Result

from m6rec_mini.cli import Explained
from m6rec_mini.course import commands, workspace
from m6rec_mini.course.progress import from_json
from m6rec_mini.course.state import State
from m6rec_mini.course.workspace import Workspace

NOW = datetime(2026, 11, 24, 6, 15, tzinfo=UTC)
app = typer.Typer(cls=Explained, pretty_exceptions_enable=False)
commands.register(app)


def m6rec(*words: str | Path, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], input=typed)


def refused(result: Result, *said: str) -> None:
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    for words in said:
        assert words in result.stderr


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    def set_clock(now: datetime) -> None:
        monkeypatch.setattr(commands, "clock", lambda: now)

    set_clock(NOW)
    return set_clock


@pytest.fixture
def mine(course: Path, tmp_path: Path, today: object, monkeypatch: pytest.MonkeyPatch) -> Workspace:  # noqa: F811
    """A workspace with a name that is awkward everywhere, and the current folder."""
    root = tmp_path / "mein Kurs, 课程 [é]"
    assert m6rec("start", root).exit_code == 0
    monkeypatch.chdir(root)
    return Workspace(root)


def write(mine: Workspace, *sources: str, chapter: str = ADDING) -> None:
    mine.exercise(chapter).write_text(notebook(*sources), encoding="utf-8")


def recorded(mine: Workspace) -> list[tuple[str, float]]:
    with State(mine.progress, NOW) as state:
        return [(report.question, report.points) for report in map(from_json, state.reports())]


# ---- start and lab ---------------------------------------------------------------------------


def test_start_tells_what_it_added_and_what_it_left(course: Path, tmp_path: Path) -> None:  # noqa: F811
    root = tmp_path / "my course"
    first = m6rec("start", root)
    assert first.exit_code == 0, first.output
    assert f"Your course is in {root}" in first.stdout
    assert "added: 3 files in exercises, 3 files in lessons, README.md" in first.stdout
    assert "left" not in first.stdout
    assert f"Next: m6rec lab '{root}'" in first.stdout
    assert (root / ".m6rec" / "progress.sqlite").is_file()
    second = m6rec("start", root)
    assert "Nothing is new" in second.stdout
    assert "left as they are: 3 files in exercises, 3 files in lessons, README.md" in second.stdout
    assert "added:" not in second.stdout


def test_start_without_a_name_makes_m6rec_course(
    course: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert m6rec("start").exit_code == 0
    assert (tmp_path / "m6rec-course" / "README.md").is_file()
    assert m6rec("status").exit_code == 0  # found from outside as well


def test_start_says_what_is_missing_or_in_the_way(
    course: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused(m6rec("start", put(tmp_path / "x", "")), "is a file where a folder should be")
    monkeypatch.setitem(sys.modules, "jupytext", None)
    result = m6rec("start", tmp_path / "mine")
    assert result.exit_code == 0
    assert 'pip install "m6rec-mini[study]"' in result.stderr


def test_lab_runs_jupyter_in_the_workspace(mine: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[list[str], Path]] = []

    class Process:
        def __init__(self, command: list[str], cwd: Path) -> None:
            ran.append((command, cwd))
            self.interrupted = False

        def wait(self) -> int:
            if not self.interrupted:
                self.interrupted = True
                raise KeyboardInterrupt  # which is Jupyter's own business
            return 3

    monkeypatch.setattr(commands.subprocess, "Popen", Process)
    monkeypatch.setattr(workspace, "library", lambda name: name)
    assert m6rec("lab", mine.root).exit_code == 3
    assert ran == [([sys.executable, "-m", "jupyterlab"], mine.root)]


def test_lab_says_what_to_install(mine: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    refused(m6rec("lab"), "jupyterlab is missing", 'pip install "m6rec-mini[study]"')


# ---- check -----------------------------------------------------------------------------------


def test_check_judges_and_records(mine: Workspace) -> None:
    write(mine, ADD, TWICE + "\nprint('[bold]hi[/] \\x1b[31m')")
    right = m6rec("check", "1")
    assert right.exit_code == 0, right.output
    assert "A sum: 3 of 3 points" in right.stdout
    assert "A double: 1.5 of 1.5 points" in right.stdout
    assert "01_adding: 2 of 2 solved, 4.5 of 4.5 points" in right.stdout
    assert right.stderr == ""
    write(mine, ADD.replace("+", "-"), TWICE)
    wrong = m6rec("check", "01.add", "--dir", mine.root)
    assert wrong.exit_code == 1
    assert "A sum: 0 of 3 points" in wrong.stdout
    assert "add(3, 4)" in wrong.stdout
    assert "m6rec hint 01.add" in wrong.stdout
    assert "secret" not in wrong.stdout
    assert recorded(mine) == [("add", 3.0), ("twice", 1.5), ("add", 0.0)]


def test_cells_that_fail_cost_only_what_they_define(mine: Workspace) -> None:
    helper = put(mine.exercise(ADDING).parent / "json.py", "value = 4")  # a name of ours, beside the notebook
    cells = ["def add(a, b:", "1 / 0", "import os; os.write(1, b'x' * 200_000)", "input()", TWICE, "import json"]
    write(mine, *cells)
    result = m6rec("check", "adding")
    assert result.exit_code == 1, result.output
    assert "A double: 1.5 of 1.5" in result.stdout
    assert "cell 1 did not run (SyntaxError" in result.stdout
    assert helper.exists()
    assert recorded(mine) == [("add", 0.0), ("twice", 1.5)]


def test_an_endless_cell_is_named_and_left_out(mine: Workspace) -> None:
    write(mine, "while True: pass", ADD, "import time; time.sleep(60)\n" + TWICE)
    result = m6rec("check", "01", "--seconds", "1")
    assert result.exit_code == 1, result.output
    assert "A sum: 3 of 3" in result.stdout
    assert "A double: 0 of 1.5" in result.stdout
    assert result.stderr.count("was stopped; look for a loop that never ends") == 2
    assert "cell 3 was still running after 1 seconds" in result.stdout  # that is why there is no `twice`


DEAF = "def add(a, b):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def add(a, b):\n    import os\n    os._exit(0)", "Your code ended its process (exit code 0)"),
        ("def add(a, b):\n    import os\n    os.kill(os.getpid(), 11)", "Your code brought its process down (SIGSEGV)"),
        (DEAF.replace("add", "twice").replace("(a, b)", "(a)"), "Your code was still running after 1 seconds"),
    ],
)
def test_a_question_that_brings_its_process_down_is_the_only_one_lost(
    code: str, said: str, mine: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("m6rec_mini.course.attempt.GRACE", 0.5)
    write(mine, ADD, TWICE, code)
    result = m6rec("check", "01")
    assert result.exit_code == 1, result.output
    assert said in result.stdout
    points = dict(recorded(mine))
    assert points == ({"add": 3.0, "twice": 0.0} if "twice" in code else {"add": 0.0, "twice": 1.5})


def test_a_cell_that_brings_its_process_down_is_told(mine: Workspace, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reading = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    background = f"import subprocess; file = open({str(tmp_path / 'fifo')!r}, 'w', buffering=1); file.write('begun\\n')"
    background += "; subprocess.Popen(['sleep', '600'], stdout=file)"
    write(mine, ADD, background, "import os; os.kill(os.getpid(), 9)")
    result = m6rec("check", "01")
    assert result.exit_code == 1, result.output
    assert result.stdout.count("(SIGKILL; perhaps the memory was used up)") == 2
    assert os.read(reading, 99) == b"begun\n"
    assert select.select([reading], [], [], 20)[0]  # an end of file: what the cell had started has ended too
    assert os.read(reading, 99) == b""
    os.close(reading)
    write(mine, ADD, TWICE, "import threading, time; threading.Thread(target=time.sleep, args=(99,)).start()")
    assert m6rec("check", "01").exit_code == 0  # a thread that was left behind holds nobody up


def test_no_answer_by_a_forbidden_call(mine: Workspace) -> None:
    write(mine, "import math as m", "def helper(x):\n    return m.fsum(x)", "def add(a, b):\n    return helper([a, b])")
    result = m6rec("check", "01.add")
    assert result.exit_code == 1, result.output
    assert "It uses `math.fsum`" in result.stdout


def test_a_grader_at_fault_is_not_the_learners(mine: Workspace, course: Path) -> None:  # noqa: F811
    grader = course / "graders" / f"test_{MORE}.py"
    grader.write_text(grader.read_text().replace("answer.half(4)", "undefined"))
    write(mine, "def half(a):\n    return a / 2", chapter=MORE)
    refused(m6rec("check", "02"), "the grader of 02_more is at fault, not your code", "undefined")
    assert recorded(mine) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "03"], ["'03' names no chapter; there are 01_adding, 02_more"]),
        (["check", "01.nothing"], ["01_adding has no question 'nothing'; it has add, twice"]),
        (["hint", "01"], ["a hint is for one question", "01.add, 01.twice"]),
        (["hint", "01.nothing"], ["it has add, twice"]),
        (["check", "01", "--dir", "nowhere"], ["nowhere is not there", "m6rec start"]),
        (["status", "--dir", "README.md"], ["README.md is no folder"]),
        (["reset", "7", "--yes"], ["names no chapter"]),
        (["check"], ["Missing argument"]),
    ],
)
def test_a_mistake_gets_a_message(words: list[str], said: list[str], mine: Workspace) -> None:
    refused(m6rec(*words), *said)


def test_a_notebook_that_cannot_be_read_is_told(mine: Workspace) -> None:
    mine.exercise(ADDING).write_text('{"cells": [')
    refused(m6rec("check", "01"), "is not a notebook", str(mine.exercise(ADDING)), "`m6rec reset 01` puts a fresh one")
    mine.exercise(ADDING).unlink()
    refused(m6rec("check", "01"), "is not there", "m6rec start")
    assert m6rec("start", ".").exit_code == 0
    assert mine.exercise(ADDING).is_file()


def test_outside_a_workspace_one_is_told_how_to_make_one(
    course: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["check", "01"], ["hint", "01.add"], ["status"], ["reset", "01"]):
        refused(m6rec(*words), "there is no workspace", "m6rec start", "--dir")


def test_progress_of_a_newer_version_spoils_no_check(mine: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m6rec_mini.course.state.VERSION", 0)
    write(mine, ADD, TWICE)
    result = m6rec("check", "01")
    assert result.exit_code == 0
    assert "not in your progress" in result.stderr
    assert "update it: pip install --upgrade m6rec-mini" in result.stderr
    refused(m6rec("status"), "pip install --upgrade m6rec-mini")


# ---- hint, reset, status ---------------------------------------------------------------------


def test_hints_are_given_one_at_a_time(mine: Workspace) -> None:
    hints = ["Hint 1 of 3: Look at +.", "Hint 2 of 3: One + is enough.", "Hint 3 of 3: return a + b"]
    assert "no hint of this question yet: m6rec hint 01.add" in m6rec("hint", "01.add", "--again").stdout
    for n, hint in enumerate(hints):
        assert m6rec("hint", "01.add").stdout == f"{hint}\n"
        assert m6rec("hint", "1.add", "--again").stdout.splitlines() == hints[: n + 1]
    last = m6rec("hint", "01.add")
    assert last.exit_code == 0
    assert 'no more hints. Read the section "sums" of lessons/01_adding.ipynb again' in last.stdout
    assert m6rec("hint", "01.twice").stdout == "Hint 1 of 3: 1\n"


def test_reset_asks_and_keeps_the_old(mine: Workspace) -> None:
    file, fresh = mine.exercise(ADDING), mine.exercise(ADDING).read_bytes()
    file.write_text("work")
    for typed in ("n\n", "\n", ""):
        assert m6rec("reset", "01", typed=typed).exit_code == 1
        assert file.read_text() == "work"
    result = m6rec("reset", "01", typed="y\n")
    assert result.exit_code == 0
    kept = file.with_name(f"{ADDING}.2026-11-24T061500.ipynb")
    assert kept.name in result.stdout
    assert (file.read_bytes(), kept.read_text()) == (fresh, "work")
    assert m6rec("reset", "01", "--yes").exit_code == 0
    assert kept.read_text() == "work"


def test_status_maps_the_course(mine: Workspace, today: Callable[[datetime], None]) -> None:
    empty = m6rec("status").stdout
    assert "Streak: 0 days" in empty
    assert "Next: 01.add in exercises/01_adding/01_adding.ipynb, then m6rec check 01.add" in empty
    m6rec("hint", "01.twice")
    write(mine, ADD, *UNSOLVED[1:])
    for day in (24, 25):
        today(NOW.replace(day=day))
        assert m6rec("check", "01").exit_code == 1
    row = next(line.split() for line in m6rec("status").stdout.splitlines() if "01 Adding" in line)
    assert row[:4] == ["01", "Adding", "1/2", "3/4.5"]
    assert row[-2:] == ["4", "1"]  # checks, hints
    for day, said in ((25, "2 days\n"), (26, "2 days; a check today keeps it\n"), (27, "0 days\n")):
        today(NOW.replace(day=day))
        assert f"Streak: {said}" in m6rec("status").stdout
    shown = m6rec("status").stdout
    assert "In all: 4 checks on 2 days" in shown
    assert "Next: 01.twice" in shown
    write(mine, ADD, TWICE)
    write(mine, "def half(a):\n    return a / 2", chapter=MORE)
    assert [m6rec("check", name).exit_code for name in ("01", "02")] == [0, 0]
    assert "Everything is solved." in m6rec("status").stdout


def test_damaged_progress_is_kept_and_told(mine: Workspace) -> None:
    m6rec("hint", "01.add")
    mine.progress.write_bytes(b"garbage" * 1000)
    result = m6rec("status")
    assert result.exit_code == 0
    assert "was damaged. It is kept as progress.2026-11-24T061500.sqlite, and a new one begins" in result.stderr
    assert m6rec("status").stderr == ""
    assert mine.progress.with_name("progress.2026-11-24T061500.sqlite").read_bytes() == b"garbage" * 1000


def test_a_terminal_that_knows_only_ascii_gets_question_marks(mine: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    commands._say("✓ done")
    stream.flush()
    assert stream.buffer.getvalue() == b"? done\n"
