"""`m6rec grade SUBMISSION…`: a table for each file, or JSON; one file that is broken never stops the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from m6rec_mini.course.card import MARKS
from m6rec_mini.course.chapters import NoSuchChapterError, load
from m6rec_mini.course.grader import Report
from m6rec_mini.course.grading import Submission, grade_file
from m6rec_mini.course.remote import Servers
from m6rec_mini.course.sandbox import Isolation, strongest

GRADED, INCOMPLETE, REFUSED = 0, 1, 2  # exit codes


def grade(
    submissions: Sequence[Path], chapter: str | None = None, json: bool = False, trusted: bool = False,
    isolation: Isolation | None = None,
) -> int:  # fmt: skip
    """Grade files and print; returns the exit code: 1 if something needs a human, 2 if nothing was done.

    Without a sandbox several files are graded only if they are `trusted`.
    """
    console, errors = Console(), Console(stderr=True)
    shut_in = isolation or strongest()
    if shut_in.level != "sandbox" and len(submissions) > 1 and not trusted:
        errors.print(
            f"There is no sandbox on this machine: {shut_in.why_not}. Code that is handed in could read and change "
            "whatever you can. If you trust all of it, say --trusted.",
            markup=False, soft_wrap=True,
        )  # fmt: skip
        return REFUSED
    try:
        known = load(chapter) if chapter else None
    except NoSuchChapterError as error:
        errors.print(str(error), markup=False, soft_wrap=True)
        return REFUSED
    complete = True
    with Servers(shut_in, hide={path.absolute().parent for path in submissions}) as servers:
        for path in submissions:
            result = grade_file(path, known, servers)
            complete &= not result.reason and not result.notes
            if json:
                print(result.to_json(), flush=True)
            else:
                show(result, console)
    return GRADED if complete else INCOMPLETE


def show(submission: Submission, console: Console) -> None:
    """One file: the sum, a row for each question, what a teacher should know, and the level of isolation."""
    level = "in a sandbox" if submission.isolation == "sandbox" else "without a sandbox: trusted code only"
    sums = f"{submission.points:g} of {submission.worth:g} points"
    head = Text(f"{submission.file}: {sums} ({submission.chapter or 'no chapter'}, judged {level})", "bold")
    console.print(head, soft_wrap=True)
    if not submission.reason:
        console.print(_table(submission))
    for line in [submission.reason] if submission.reason else submission.notes:
        console.print(Text(line), soft_wrap=True)


def _table(submission: Submission) -> Table:
    found = Table()
    found.add_column("question")
    found.add_column("points", justify="right")
    found.add_column("laws")
    found.add_column("what to mend", overflow="fold")
    for report in submission.reports:
        found.add_row(*_row(report))
    return found


def _row(report: Report) -> tuple[Text, Text, Text, Text]:
    failure = report.first_failure
    marks = "".join(MARKS[outcome.status] for outcome in report.outcomes)
    points = f"{report.points:g} of {report.worth:g}"
    style = "green" if report.passed else ""
    return Text(report.question), Text(points, style), Text(marks, style), Text(failure.message if failure else "")
