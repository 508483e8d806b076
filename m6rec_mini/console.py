"""What people see in a terminal: progress, tables, lists, problems.

One idea: everything that came from data is `plain` before it is shown. A title may hold colour
codes for the terminal or markup of the library that draws tables; neither is obeyed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich import box
from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from m6rec_mini.contest import Contest, Row, signed
from m6rec_mini.datasets.records import Report
from m6rec_mini.recommender import Recommendation
from m6rec_mini.training import Epoch

EIGHTHS = " ▏▎▍▌▋▊▉"
COLOURS = ("blue", "dark_orange", "green", "magenta", "cyan", "yellow")  # of the modalities, in order


def plain(text: str) -> str:
    """The text without anything that a terminal obeys; line breaks and the joiners of scripts and emoji stay."""
    return "".join(c if c.isprintable() or c in "\n\u200c\u200d" else " " for c in text)


def complain(message: str) -> None:
    """One message in red on stderr."""
    text = Text.assemble(("error: ", "bold red"), (plain(message), "red"))
    Console(stderr=True).print(text, soft_wrap=True)


def remark(message: str) -> None:
    """Worth knowing, and no part of the result: on stderr, so that stdout stays clean for machines."""
    Console(stderr=True).print(Text(plain(message), "yellow"), soft_wrap=True)


def show_rejected(report: Report) -> None:
    """What was skipped, if anything was."""
    if report.rejected:
        remark(str(report))


# ---- progress -------------------------------------------------------------------------------------


class TrainingProgress:
    """Training epoch by epoch: a moving line per stage in a terminal, a line per epoch elsewhere."""

    def __init__(self, console: Console, most: Mapping[str, int]) -> None:
        self.console, self.most = console, most  # most epochs of each stage
        self.seconds: defaultdict[str, float] = defaultdict(float)  # that each stage has taken so far
        self.tasks: dict[str, TaskID] = {}
        columns = TextColumn("{task.description:<9}"), BarColumn(bar_width=16), TextColumn("{task.fields[said]}")
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)

    def __enter__(self) -> TrainingProgress:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is None:
            self._end_stages()
        self.progress.stop()

    def __call__(self, done: Epoch) -> None:
        """Show one more epoch."""
        count, most = done.epoch + 1, self.most[done.stage]
        self.seconds[done.stage] += done.seconds
        left = (most - count) * self.seconds[done.stage] / count
        said = (
            f"epoch {count:>2}/{most}  loss {done.loss:.3f}  validation {-done.validation:.3f}  "
            f"{f'at most {left:.0f} s left' if count < most else 'done'}"
        )
        if done.stage not in self.tasks:
            self._end_stages()
            self.tasks[done.stage] = self.progress.add_task(done.stage, total=most, said=said)
        self.progress.update(self.tasks[done.stage], completed=count, said=said)
        if not self.console.is_terminal:
            self.console.print(f"{done.stage:<9} {said}", highlight=False, soft_wrap=True)

    def _end_stages(self) -> None:
        """A stage that stopped improving ends before its last epoch."""
        for task in self.progress.tasks:
            if task.total is not None and task.completed < task.total:
                said = task.fields["said"].rpartition("  ")[0] + "  stopped early"
                self.progress.update(task.id, total=task.completed, said=said)


# ---- results --------------------------------------------------------------------------------------


def metrics_table(contest: Contest, title: str) -> Table:
    """A row for each ranker: accuracy, then what accuracy hides."""
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("ranker", no_wrap=True)
    for name in ("HR@10", r"NDCG@10 \[95%]", "cover\n@10", "Gini\n@10", "tail\nHR@50", "fit,\ns"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in contest.rows:
        style = "bold" if row is contest.model else "dim" if row is contest.ceiling else ""
        table.add_row(*_cells(row), style=style)
    return table


def _cells(row: Row) -> list[str]:
    ndcg, values = row.intervals["ndcg@10"], row.summary
    return [
        row.name + (" *" if row.note else ""),
        f"{values['hr@10']:.3f}",
        rf"{ndcg.mean:.3f} \[{ndcg.low:.3f}, {ndcg.high:.3f}]",
        *(f"{values[name]:.2f}" for name in ("coverage@10", "gini@10")),
        f"{values['tail hr@50']:.3f}",
        f"{row.seconds:.0f}" if row.seconds else "",
    ]


def contest_view(contest: Contest, title: str) -> Group:
    """The table, its foot notes, and the result in words."""
    notes = [Text(f"* {row.name}: {row.note}", "dim") for row in contest.rows if row.note]
    return Group(
        metrics_table(contest, title),
        *notes,
        Text(contest.gaps),
        Text(contest.verdict, "bold"),
    )


def single_table(row: Row, title: str) -> Table:
    """One ranker's metrics below each other, with intervals where there are any."""
    table = Table("metric", "mean", "95% interval", title=Text(title), box=box.SIMPLE_HEAD, title_justify="left")
    for name, value in row.summary.items():
        between = row.intervals.get(name)
        table.add_row(name, f"{value:.4f}", f"{between.low:.4f} to {between.high:.4f}" if between else "")
    return table


def ranked_table(places: Sequence[Recommendation], title: str) -> Table:
    """A ranked list: title and reason, domain, score, and what each modality contributed as small bars."""
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("#", justify="right")
    table.add_column("item and reason", ratio=1, overflow="fold")
    table.add_column("domain")
    table.add_column("score", justify="right")
    shown = any(place.modalities for place in places)
    if shown:
        table.add_column("modalities", no_wrap=True)
    most = max((abs(x) for place in places for x in place.modalities.values()), default=0.0)
    names = list(dict.fromkeys(name for place in places for name in place.modalities))
    for place in places:
        what = Text.assemble((plain(place.item.title), "bold"))
        if place.reason:
            what.append("\n" + plain(place.reason), "dim")
        bars = [_bars(place.modalities, names, most)] if shown else []
        table.add_row(str(place.rank), what, Text(plain(place.item.domain)), f"{place.score:.2f}", *bars)
    return table


def _bars(values: Mapping[str, float], names: Sequence[str], most: float) -> Text:
    text, width = Text(), max(map(len, names))
    for n, name in enumerate(names):
        text.append("\n" if n else "").append(f"{name:<{width}} ")
        if name in values:
            text.append(f"{bar(abs(values[name]), most)} ", COLOURS[n % len(COLOURS)]).append(signed(values[name], 1))
        else:
            text.append("none", "dim")
    return text


def bar(value: float, most: float, width: int = 6) -> str:
    """A bar of `width` characters when `value` is `most`, in eighths of a character."""
    eighths = round(8 * width * min(max(value / most, 0.0), 1.0)) if most > 0 else 0
    full, rest = divmod(eighths, 8)
    return ("█" * full + EIGHTHS[rest] * (rest > 0)).ljust(width)
