"""`m6rec prove [NN]`: the table of what the graders can tell apart."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from m6rec_mini.course.chapters import chapter_names, find, folder
from m6rec_mini.course.errors import Unsound
from m6rec_mini.course.prove.proof import Line, prove

COLUMNS = ("question", "itself", "right", "wrong", "mutants", "equal", "cheats", "ms")


def run(names: Sequence[str], workers: int, console: Console) -> bool:
    """Prove these chapters, or all, and print a table for each; whether all are sound."""
    if not folder("solutions").is_dir():
        raise ValueError("proofs need the solutions, which only a checkout of the repository has")
    sound = True
    for name in [find(name) for name in names] or chapter_names():
        with console.status(f"{name}") as status:

            def said(line: Line, name: str = name, status: object = status) -> None:
                status.update(f"{name}: {line.question} is done")  # type: ignore[attr-defined]

            try:
                lines = prove(name, workers, said)
            except Unsound as error:
                console.print(f"[red]{name}:[/red] {error}", highlight=False)
                sound = False
                continue
        console.print(table(name, lines))
        for line in lines:
            for text, style in [*((p, "red") for p in line.problems), *((n, "dim") for n in line.notes)]:
                console.print(f"  {line.question}: {text}", style=style, markup=False, highlight=False)
        sound &= all(line.sound for line in lines)
    return sound


def table(name: str, lines: Sequence[Line]) -> Table:
    """One row a question, and their sum."""
    caption = "itself: the reference; wrong: rejected by the law they name; equal: mutants excused with a reason"
    made = Table(title=name, title_justify="left", caption=caption, caption_justify="left", box=SIMPLE_HEAD)
    for column in COLUMNS:
        made.add_column(column, justify="left" if column == "question" else "right", no_wrap=True)
    for line in lines:
        total = line.killed + line.survived
        made.add_row(
            line.question,
            "passes" if line.reference else "FAILS",
            "{}/{}".format(*line.right),
            "{}/{}".format(*line.wrong),
            f"{line.killed}/{total}",
            str(line.equivalent),
            "{}/{}".format(*line.cheats),
            f"{line.seconds * 1000:.0f}",
        )
    return made
