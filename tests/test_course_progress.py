"""Reports, points, streaks and the file that keeps them: whole after any kill, and no burden on a check."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_course import ADD, ADDING, MORE, course  # noqa: F401

from m6rec_mini.course import chapters, check, progress
from m6rec_mini.course.grader import Outcome, Report
from m6rec_mini.course.progress import Attempt, NoReportError, from_json, next_question, standing, streak, to_json
from m6rec_mini.course.state import State, StateError
from m6rec_mini.course.workspace import Workspace, start

NOW = datetime(2026, 11, 24, 6, 15, 0, tzinfo=timezone(timedelta(hours=9)))
REPORT = Report(
    ADDING, "add", "A sum", [Outcome("test_sum", 2.0, 2.0, "passed"), Outcome("h", 0.0, 1.0, "failed", True)]
)


# ---- reports as JSON, and counting -----------------------------------------------------------

words = st.text(max_size=8)
outcome_values = st.tuples(
    words, st.floats(0, 5), st.floats(0, 5), st.sampled_from(["passed", "failed", "missing", "not run"]),
    st.booleans(), words, words, words, words, words,
)  # fmt: skip
report_values = st.tuples(
    words, words, words, st.lists(outcome_values, max_size=3), words, words, words, words,
    st.floats(0, 5), words,
)  # fmt: skip


@given(values=report_values)
def test_a_report_comes_back_from_json(values: tuple[Any, ...]) -> None:
    report = Report(*values[:3], [Outcome(*outcome) for outcome in values[3]], *values[4:])
    text = to_json(report)
    assert text.isascii()
    assert "\n" not in text
    assert from_json(text) == report


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '"x"', "[" * 5000, to_json(REPORT)[:-1]),
        *(to_json(REPORT).replace(*change) for change in (('"law"', '"lore"'), ('"worth": 2.0', '"worth": "2"'))),
    ],
)
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(NoReportError, match="not a report"):
        from_json(text)


def test_a_streak_by_hand() -> None:
    days = {date(2026, 10, 30), date(2026, 10, 31), date(2026, 11, 1), date(2026, 11, 3)}
    assert streak(days, date(2026, 11, 1)) == 3  # over the end of a month
    assert streak(days, date(2026, 11, 2)) == 3  # today is not over
    assert streak(days, date(2026, 11, 3)) == 1
    assert streak(days, date(2026, 11, 5)) == 0
    assert streak(set(), date(2026, 11, 5)) == 0


@given(ago=st.sets(st.integers(-3, 12)))
def test_a_streak_is_the_run_that_ends_today_or_yesterday(ago: set[int]) -> None:
    today = date(2027, 1, 3)
    runs = [last - first + 1 for last in range(13) for first in (0, 1) if set(range(first, last + 1)) <= ago]
    expected = max([n for n in runs if n > 0], default=0)
    assert streak({today - timedelta(days=n) for n in ago}, today) == expected


def attempts_at(*tries: tuple[str, str, float]) -> list[Attempt]:
    return [Attempt(chapter, question, points, NOW.date()) for chapter, question, points in tries]


@pytest.mark.usefixtures("course")
def test_the_best_attempt_counts_and_no_more_than_there_is() -> None:
    tries = attempts_at((ADDING, "add", 3.0), (ADDING, "add", 1.0), (ADDING, "twice", 1.0), (MORE, "half", 99.0))
    tries += attempts_at((ADDING, "renamed since", 7.0))
    first, second = (standing(chapters.load(name), tries, {(ADDING, "twice"): 2}) for name in (ADDING, MORE))
    assert (first.points, first.worth, first.solved, first.questions) == (4.0, 4.5, 1, 2)
    assert (first.unsolved, first.attempts, first.hints) == (("twice",), 4, 2)
    assert (second.points, second.worth, second.unsolved) == (1.0, 1.0, ())


@pytest.mark.usefixtures("course")
def test_one_goes_on_where_one_was() -> None:
    def following(*tries: tuple[str, str, float]) -> tuple[str, str] | None:
        made = attempts_at(*tries)
        return next_question([standing(chapters.load(name), made, {}) for name in (ADDING, MORE)], made)

    assert following() == (ADDING, "add")
    assert following((ADDING, "add", 3.0)) == (ADDING, "twice")
    assert following((MORE, "half", 0.0)) == (MORE, "half")
    assert following((MORE, "half", 1.0)) == (ADDING, "add")
    assert following((MORE, "half", 1.0), (ADDING, "add", 3.0), (ADDING, "twice", 1.5)) is None


# ---- the file of progress --------------------------------------------------------------------


def test_what_is_recorded_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    file = tmp_path / "progress.sqlite"
    with State(file, NOW) as state:
        state.add(replace(REPORT, picture="<svg/>"), NOW)
        state.add(replace(REPORT, question="twice", outcomes=[]), NOW.replace(hour=23) + timedelta(hours=2))
    with State(file, NOW) as state:
        assert state.kept is None
        assert state.attempts() == [
            Attempt(ADDING, "add", 2.0, date(2026, 11, 24)),
            Attempt(ADDING, "twice", 0.0, date(2026, 11, 25)),  # the local day
        ]
        assert from_json(state.reports()[0]) == REPORT


def test_hints_come_one_at_a_time_and_end(tmp_path: Path) -> None:
    file = tmp_path / "progress.sqlite"
    for tier in (1, 2, 3, None, None):
        with State(file, NOW) as state:
            assert state.next_hint(ADDING, "add", NOW) == tier
    with State(file, NOW) as state:
        assert state.next_hint(ADDING, "twice", NOW) == 1
        assert state.hints() == {(ADDING, "add"): 3, (ADDING, "twice"): 1}


def test_many_at_once_lose_nothing_and_take_each_hint_once(tmp_path: Path) -> None:
    file = tmp_path / "progress.sqlite"

    def one(_: int) -> int | None:
        with State(file, NOW) as state:
            state.add(REPORT, NOW)
            return state.next_hint(ADDING, "add", NOW)

    with ThreadPoolExecutor(8) as pool:  # also at making the file
        tiers = list(pool.map(one, range(16)))
    assert sorted(tier for tier in tiers if tier) == [1, 2, 3]
    with State(file, NOW) as state, State(file, NOW, wait=0.01) as other:
        assert len(state.attempts()) == 16
        with state._writing(), pytest.raises(StateError, match="another process is writing"):
            other.next_hint(ADDING, "twice", NOW)  # no one reads what somebody is about to change


WRITER = """
import sys
from pathlib import Path
from datetime import datetime, timezone
from m6rec_mini.course.grader import Outcome, Report
from m6rec_mini.course.state import State
now, n = datetime(2026, 11, 24, tzinfo=timezone.utc), 0
while True:
    with State(Path(sys.argv[1]), now) as state:
        for _ in range(5):
            n += 1
            state.add(Report("01_adding", str(n), "t" * 3000, [Outcome("law", 1.0, 1.0, "passed")]), now)
            print(n, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
@pytest.mark.parametrize("lines", [1, 33])
def test_kill_9_leaves_whole_records_only(lines: int, tmp_path: Path) -> None:
    file = tmp_path / "progress.sqlite"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    for _ in range(lines):
        assert writer.stdout.readline()
    writer.kill()
    told = lines + len(writer.stdout.read().split())
    writer.wait()
    with State(file, NOW) as state:
        assert state.kept is None
        found = [from_json(text) for text in state.reports()]
        assert [report.question for report in found] == [str(n + 1) for n in range(len(found))]
        assert told <= len(found) <= told + 1  # all that were promised, and perhaps the one in work
        assert {len(report.title) for report in found} == {3000}
        state.add(REPORT, NOW)


def garbage(file: Path) -> None:
    file.write_bytes(b"not a database at all" * 100)


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def scrambled(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + bytes(255 for _ in whole[4096:]))


def foreign(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE reports (mine TEXT)")
    db.close()


@pytest.mark.parametrize("damage", [garbage, half, scrambled, foreign])
def test_a_damaged_file_is_kept_and_a_new_one_begun(damage: Callable[[Path], None], tmp_path: Path) -> None:
    file = tmp_path / "progress.sqlite"
    with State(file, NOW) as state:
        for _ in range(20):
            state.add(REPORT, NOW)
    damage(file)
    broken = file.read_bytes()
    with pytest.raises(StateError, match="m6rec status"), State(file, NOW, mend=False) as state:
        state.attempts()
    for end in ("", "-2"):
        with State(file, NOW) as state:
            assert state.kept == tmp_path / f"progress.2026-11-24T061500{end}.sqlite"
            assert state.kept.read_bytes() == broken
            assert state.attempts() == []
            state.add(REPORT, NOW)
        with State(file, NOW) as state:
            assert state.kept is None
            assert len(state.attempts()) == 1
        file.write_bytes(broken)


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "progress.sqlite"
    State(file, NOW).__exit__(None, None, None)
    db = sqlite3.connect(file)
    db.execute("PRAGMA user_version = 2")
    db.close()
    before = file.read_bytes()
    with pytest.raises(StateError, match=r"newer m6rec-mini \(format 2, .* pip install --upgrade"):
        State(file, NOW)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_used_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="check that its folder is there"):
        State(tmp_path / "nowhere" / "progress.sqlite", NOW)
    file = tmp_path / "progress.sqlite"
    with State(file, NOW, wait=0.01) as state:
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match="another process is writing"):
            state.add(REPORT, NOW)
        other.rollback()
        state.add(REPORT, NOW)
        other.close()


# ---- from notebooks --------------------------------------------------------------------------


def checked(namespace: dict[str, Any]) -> float:
    """A check in a notebook, and the end of its writing."""
    points = check("01.add", namespace)
    for thread in threading.enumerate():
        if thread.name == progress.WRITER:
            thread.join()
    return points


def attempts_in(place: Workspace) -> list[Attempt]:
    with State(place.progress, NOW) as state:
        return state.attempts()


@pytest.mark.usefixtures("course")
def test_a_check_in_a_notebook_is_recorded_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = start(tmp_path / "mine").workspace
    namespace: dict[str, Any] = {}
    exec(ADD, namespace)
    monkeypatch.chdir(mine.exercise(ADDING).parent)
    assert checked(namespace) == 3.0
    monkeypatch.setenv(progress.OFF, "off")
    assert checked(namespace) == 3.0
    monkeypatch.delenv(progress.OFF)
    assert [attempt.points for attempt in attempts_in(mine)] == [3.0]
    monkeypatch.chdir(tmp_path)
    assert checked(namespace) == 3.0
    assert len(attempts_in(mine)) == 1


@pytest.mark.usefixtures("course")
def test_progress_that_cannot_be_kept_disturbs_no_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = start(tmp_path / "mine").workspace
    monkeypatch.chdir(mine.root)
    namespace: dict[str, Any] = {}
    exec(ADD, namespace)
    mine.progress.write_bytes(b"garbage" * 1000)
    assert checked(namespace) == 3.0
    assert mine.progress.read_bytes() == b"garbage" * 1000  # for the next command to tell
    mine.progress.unlink()
    mine.progress.mkdir()
    assert checked(namespace) == 3.0
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "sqlite3", None)
        patch.delitem(sys.modules, "m6rec_mini.course.state")
        assert checked(namespace) == 3.0
    said = capfd.readouterr()
    assert said.err == ""
    assert said.out.count("A sum: 3 of 3 points") == 3
