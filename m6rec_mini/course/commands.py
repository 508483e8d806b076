"""The candidate's commands: `m6rec start | lab | check | hint | reset | status`.

The one idea: each command says what it did and what can be done next, and whatever stands in its way is told
in one message. What comes from a learner's code is `plain` before it is shown. The libraries that take
time to import are imported by the command that needs them.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from m6rec_mini.course.grader import Report
    from m6rec_mini.course.progress import Standing
    from m6rec_mini.course.state import State
    from m6rec_mini.course.workspace import Workspace

COLOURS = {"✓": "green", "✗": "red", "?": "yellow", "⧖": "yellow", "·": "dim"}  # by the marks of a card
WIDTH = 12  # of a bar

Which = Annotated[str, typer.Argument(metavar="NN[.QUESTION]", help="A chapter, or one of its questions.")]
Of = Annotated[str, typer.Argument(metavar="NN.QUESTION", help="A question, such as 07.attention_weights.")]
Chapter = Annotated[str, typer.Argument(metavar="NN", help="A chapter, such as 07.")]
To = Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make, or to add to.")]
In = Annotated[Path | None, typer.Argument(metavar="DIR", help="The workspace; else the one around here.")]
Dir = Annotated[Path | None, typer.Option("--dir", help="The workspace; else the one around here.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (start, lab, check, hint, reset, status):
        app.command()(command)


def clock() -> datetime:
    """Now, with the local zone."""
    return datetime.now().astimezone()


# ---- the commands ----------------------------------------------------------------------------


def start(folder: To = Path("m6rec-course")) -> None:
    """Make your folder of lessons and exercises; again: add what is new, overwrite nothing."""
    from m6rec_mini.course import workspace

    done = workspace.start(folder)
    with _state(done.workspace):
        pass  # its file is there from the first day
    _say(f"{'Your course is in' if done.added else 'Nothing is new for'} {done.workspace.root}", "bold")
    for what, paths in (("added", done.added), ("left as they are", done.left)):
        if paths:
            _say(f"  {what}: {_counted(paths)}")
    if done.lacking:
        _remark(f"lessons were left out: {done.lacking}; then run `m6rec start` again")
    where = "" if done.workspace.root == Path.cwd() else f" {shlex.quote(str(folder))}"
    _say(f"Next: m6rec lab{where}")


def lab(folder: In = None) -> None:
    """Open your workspace in Jupyter Lab."""
    from m6rec_mini.course.workspace import find, library

    library("jupyterlab")
    place = find(folder)
    process = subprocess.Popen([sys.executable, "-m", "jupyterlab"], cwd=place.root)
    while True:
        try:
            raise typer.Exit(process.wait())
        except KeyboardInterrupt:  # it has got the same signal, and asks whether to stop
            continue


def check(
    name: Which,
    folder: Dir = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long the cells of the notebook may run.")] = 60.0,
) -> None:
    """Judge your notebook of a chapter as it was last saved; the exit code is 0 if all is right."""
    from m6rec_mini.course.attempt import judge
    from m6rec_mini.course.chapters import load, split_name
    from m6rec_mini.course.workspace import find

    number, question = split_name(name)
    chapter = load(number)
    questions = [chapter.question(question).name] if question else list(chapter.questions)
    place = find(folder)
    with Console(stderr=True).status(f"Running {chapter.name}.ipynb …"):
        reports, late = judge(place.exercise(chapter.name), chapter, questions, seconds)
    for report in reports:
        _print(_card(report))
        _say("")
    if len(reports) > 1:
        earned, worth = sum(report.points for report in reports), sum(report.worth for report in reports)
        solved = sum(report.passed for report in reports)
        _say(f"{chapter.name}: {solved} of {len(reports)} solved, {earned:g} of {worth:g} points", "bold")
    for remark in late:
        _remark(remark)
    _record(place, reports)
    raise typer.Exit(int(not all(report.passed for report in reports)))


def hint(
    name: Of,
    folder: Dir = None,
    again: Annotated[bool, typer.Option("--again", help="Show those that you have seen, and no new one.")] = False,
) -> None:
    """Show the next of the three hints of a question."""
    from m6rec_mini.course.chapters import NoSuchChapterError, load, split_name
    from m6rec_mini.course.workspace import find

    number, wanted = split_name(name)
    chapter = load(number)
    if not wanted:
        names = ", ".join(_short(chapter.name, question) for question in chapter.questions)
        raise NoSuchChapterError(f"a hint is for one question: m6rec hint with one of {names}")
    question, place = chapter.question(wanted), find(folder)
    lesson = place.lesson(chapter.name).relative_to(place.root).as_posix()
    command, hints = f"m6rec hint {_short(chapter.name, question.name)}", question.hints
    with _state(place) as state:
        if again:
            seen = state.hints().get((chapter.name, question.name), 0)
            shown = range(1, seen + 1)
        else:
            tier = state.next_hint(chapter.name, question.name, clock())
            shown = range(tier or 0, (tier or -1) + 1)
    for tier in shown:
        _print(Text.assemble((f"Hint {tier} of {len(hints)}: ", "bold"), _plain(hints[tier - 1])))
    if again and not shown:
        _say(f"You have seen no hint of this question yet: {command}")
    elif not shown:
        _say(f'There are no more hints. Read the section "{question.section}" of {lesson} again; {command} --again')


def reset(
    name: Chapter,
    folder: Dir = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Put a fresh exercise in place and keep yours under its date."""
    from m6rec_mini.course import workspace
    from m6rec_mini.course.chapters import find

    chapter, place = find(name), workspace.find(folder)
    notebook = place.exercise(chapter)
    if notebook.exists() and not yes:
        typer.confirm(f"Put a fresh {notebook.name} in place of yours, which is kept under its date?", abort=True)
    kept = workspace.reset(place, chapter, clock())
    _say(f"{notebook} is fresh." + (f" Your old one is {kept.name}, beside it." if kept else ""))
    _say("Points and hints stay as they are. If it is open in Jupyter: File, Reload Notebook from Disk.")


def status(folder: Dir = None) -> None:
    """Show what you have reached, and what comes next."""
    from m6rec_mini.course.chapters import chapter_names, load
    from m6rec_mini.course.progress import next_question, standing, streak
    from m6rec_mini.course.workspace import find

    place = find(folder)
    with _state(place) as state:
        attempts, hints = state.attempts(), state.hints()
    standings = [standing(load(name), attempts, hints) for name in chapter_names()]
    _print(_map(standings))
    days = {attempt.day for attempt in attempts}
    today = clock().date()
    length = streak(days, today)
    _say(f"Streak: {_many(length, 'day')}" + ("; a check today keeps it" if length and today not in days else ""))
    _say(f"In all: {_many(len(attempts), 'check')} on {_many(len(days), 'day')}")
    following = next_question(standings, attempts)
    if following is None:
        _say("Everything is solved." if standings else "The course is empty: it has no graders.", "bold green")
    else:
        notebook = place.exercise(following[0]).relative_to(place.root).as_posix()
        _say(f"Next: {_short(*following)} in {notebook}, then m6rec check {_short(*following)}", "bold")


# ---- what they share -------------------------------------------------------------------------


def _state(place: Workspace) -> State:
    """The workspace's file of progress; if it was damaged, tell."""
    from m6rec_mini.course.state import State

    state = State(place.progress, clock())
    if state.kept is not None:
        _remark(f"{place.progress} was damaged. It is kept as {state.kept.name}, and a new one begins")
    return state


def _record(place: Workspace, reports: Sequence[Report]) -> None:
    """Remember the reports; a check is worth something even where that is impossible."""
    from m6rec_mini.course.state import StateError

    try:
        with _state(place) as state:
            for report in reports:
                state.add(report, clock())
    except (StateError, OSError) as error:
        _remark(f"this check is not in your progress: {error}")


def _short(chapter: str, question: str) -> str:
    return f"{chapter[:2]}.{question}"


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _counted(paths: Sequence[PurePath]) -> str:
    """ "3 in exercises, 2 in lessons, README.md"."""
    folders = Counter(path.parts[0] for path in paths if len(path.parts) > 1)
    names = [str(path) for path in paths if len(path.parts) == 1]
    return ", ".join([*(f"{_many(count, 'file')} in {name}" for name, count in folders.items()), *names])


def _map(standings: Sequence[Standing]) -> Table:
    from m6rec_mini.course.progress import title

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("chapter", overflow="fold")
    for name in ("solved", "points", "", "checks", "hints"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for row in standings:
        style = "" if row.attempts or row.hints else "dim"
        cells: list[Any] = [
            title(row.chapter), f"{row.solved}/{row.questions}", f"{row.points:g}/{row.worth:g}",
            Bar(max(row.worth, 1e-9), 0, row.points, width=WIDTH, color="green"),
            str(row.attempts), str(row.hints),
        ]  # fmt: skip
        table.add_row(*cells, style="green" if not row.unsolved else style)
    return table


def _card(report: Report) -> Text:
    """The card of a report with the colours of its marks."""
    from m6rec_mini.course.card import text_card

    head, *lines = _plain(text_card(report)).split("\n")
    text = Text(head, style="bold green" if report.passed else "bold red")
    for line in lines:
        mark = line[2:3] if line.startswith("  ") and line[3:4] == " " else ""
        text = text.append("\n").append(line, Text(style=COLOURS.get(mark, "not bold default")).style)
    return text


def _plain(text: str) -> str:
    """The text without anything that a terminal obeys."""
    return "".join(c if c.isprintable() or c in "\n\u200c\u200d" else " " for c in text)


def _console(*, stderr: bool = False) -> Console:
    stream: Any = sys.stderr if stderr else sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")  # a terminal without ✓ shows ? and goes on
    return Console(stderr=stderr, highlight=False)


def _print(what: Any) -> None:
    _console().print(what, soft_wrap=isinstance(what, Text))


def _say(line: str, style: str = "") -> None:
    _print(Text(_plain(line), style))


def _remark(line: str) -> None:
    """Worth knowing, and no part of the result."""
    _console(stderr=True).print(Text(_plain(line), "yellow"), soft_wrap=True)
