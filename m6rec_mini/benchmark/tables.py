"""What the sections of the benchmark's report are made of: saved ranks in, means, tables and text out.

The one idea: every number is a mean over users. A user with many cases counts once, several seeds are
averaged first, and the interval is a bootstrap over users: it speaks about other users, not about
other seeds. Differences are paired, user by user, on the very same cases.
"""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import rich.table
import torch
from jaxtyping import Bool, Float64
from rich import box
from rich.console import Console
from rich.text import Text

from m6rec_mini.benchmark.jobs import Data, Job, Result, finished
from m6rec_mini.catalog import Catalog
from m6rec_mini.evaluation import Evaluation, Interval, bootstrap_mean, paired_bootstrap, per_user
from m6rec_mini.plots import Plot

Runs: TypeAlias = dict[int, Evaluation]  # by seed
SLICES: dict[str, Callable[[Evaluation], Bool[np.ndarray, " cases"]]] = {
    "all": lambda e: np.ones(len(e.ranks), bool),
    "tail": lambda e: e.tail,
    "tied": lambda e: e.tied,
    "untied": lambda e: ~e.tied,
}


# ---- results ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Results:
    """Everything saved, by the names of jobs and rows."""

    found: Mapping[str, Mapping[int, Result]]

    @classmethod
    def load(cls, jobs: Sequence[Job], data: Data, out: Path) -> Results:
        """The finished ones among `jobs`, and those of other packages, if made from the same cases."""
        found: dict[str, dict[int, Result]] = {}
        for job in jobs:
            result = finished(job, data, out)
            if result is not None:
                found.setdefault(job.name, {})[job.seed] = result
        for file in sorted((out / "jobs").glob("peer-*.npz")):
            result, _ = Result.load(file)
            if result.facts["data"] == [data.name, data.quick]:
                found.setdefault(f"peer {result.facts['name']}", {})[result.facts["seed"]] = result
        return cls(found)

    def runs(self, job: str, row: str) -> Runs:
        """One row under every seed; empty if there is none."""
        return {seed: result.rows[row] for seed, result in self.found.get(job, {}).items() if row in result.rows}

    def facts(self, job: str) -> list[Mapping[str, Any]]:
        """The facts of every seed."""
        return [result.facts for _, result in sorted(self.found.get(job, {}).items())]

    def rows(self, job: str) -> list[str]:
        """Names of a job's rows."""
        return list(next(iter(self.found[job].values())).rows) if job in self.found else []


def by_user(runs: Runs, metric: str, where: str = "all") -> Float64[np.ndarray, " users"]:
    """A value per user: the mean over their cases of all seeds."""
    values = [e.per_case(metric)[SLICES[where](e)] for e in runs.values()]
    users = [e.users[SLICES[where](e)] for e in runs.values()]
    return per_user(np.concatenate(values), np.concatenate(users))


def interval(runs: Runs, metric: str, where: str = "all") -> Interval | None:
    """Mean and bootstrap interval; None if there is no case."""
    if not any(SLICES[where](e).any() for e in runs.values()):
        return None
    return bootstrap_mean(by_user(runs, metric, where))


def mean(runs: Runs, metric: str, where: str = "all") -> float:
    """The mean alone; NaN if there is no case."""
    return float(by_user(runs, metric, where).mean()) if any(SLICES[where](e).any() for e in runs.values()) else np.nan


def difference(a: Runs, b: Runs, metric: str, where: str = "all") -> Interval | None:
    """Interval of a - b on the same cases of the same seeds; a run that needs no seed stands for every seed."""
    if not a or not b:
        return None
    b = dict.fromkeys(a, *b.values()) if len(b) == 1 else b
    same = [s for s in sorted(a.keys() & b.keys()) if np.array_equal(a[s].users, b[s].users)]
    if not any(SLICES[where](a[s]).any() for s in same):
        return None
    left, right = (by_user({s: runs[s] for s in same}, metric, where) for runs in (a, b))
    return paired_bootstrap(left, right)


# ---- what a page is made of -------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As in Markdown, numbers to the right."""
        lines = [self.head, ["---", *["---:"] * (len(self.head) - 1)], *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def drawn(self) -> rich.table.Table:
        """As in a terminal; what Markdown sets in bold is bold."""
        table = rich.table.Table(box=box.SIMPLE_HEAD)
        for place, name in enumerate(self.head):
            table.add_column(Text(name), justify="right" if place else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(cell.replace("*", ""), "bold" if "**" in cell else "") for cell in row))
        return table


@dataclass(frozen=True)
class Picture:
    """A plot and the name of its files, without an ending."""

    name: str
    plot: Plot

    def markdown(self) -> str:
        """For light and for dark paper, with its text."""
        alt = self.plot.alt.replace('"', "&quot;")
        dark = f'<source media="(prefers-color-scheme: dark)" srcset="{self.name}-dark.svg">'
        return f'<picture>{dark}<img src="{self.name}.svg" alt="{alt}"></picture>'

    def save(self, folder: Path) -> None:
        """Write both files."""
        (folder / f"{self.name}.svg").write_text(self.plot.light, encoding="utf-8")
        (folder / f"{self.name}-dark.svg").write_text(self.plot.dark, encoding="utf-8")


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    body: Sequence[str | Table | Picture] = ()

    def markdown(self, pictures: bool = True) -> str:
        """The whole section."""
        kept = [part for part in self.body if pictures or not isinstance(part, Picture)]
        return "\n\n".join([f"## {self.title}", *(p if isinstance(p, str) else p.markdown() for p in kept)])

    def show(self, console: Console) -> None:
        """Print it: text as it is, tables as tables; pictures stay in their files."""
        console.rule(Text(self.title, "bold"), align="left")
        for part in self.body:
            if isinstance(part, str):
                console.print(Text(part.replace("*", "")))
            elif isinstance(part, Table):
                console.print(part.drawn())


@dataclass(frozen=True)
class About:
    """Under what conditions the numbers came about."""

    data: str  # as it is called in every heading
    lines: Sequence[str] = field(default_factory=tuple)
    failed: Sequence[str] = ()
    trimodal: bool = False  # the set for which the project has named its aims

    @classmethod
    def of(cls, catalog: Catalog, name: str, seeds: int, quick: bool, failed: Sequence[str]) -> About:
        """Describe catalog and machine."""
        log = catalog.interactions
        made_up = " It is made up by a program: no real data." if name == "world" else ""
        lines = [
            f"Data set: **{catalog.name}**, {log.num_users:,} users, {log.num_items:,} items, {len(log):,} events; "
            f"modalities {', '.join(catalog.modalities)}.{made_up}",
            *([f"Actions are derived: {catalog.derived}."] if catalog.derived else []),
            f"Date of this report: {datetime.date.today().isoformat()}. Seeds: {', '.join(map(str, range(seeds)))}.",
            f"Machine: {os.cpu_count()} cores, {cpu_model()}, {platform.system()}; Python {platform.python_version()}, "
            f"torch {torch.__version__}, NumPy {np.__version__}. Two jobs at a time, one thread each.",
            *(["**A smoke test (`quick`): hardly any training. These numbers mean nothing.**"] if quick else []),
        ]
        return cls(catalog.name, lines, failed, catalog.name == "movielens-trimodal" and not quick)


def cpu_model() -> str:
    """The processor's own name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def number(value: float) -> str:
    """Three digits behind the point; a dash for what does not exist."""
    return "—" if np.isnan(value) else f"{value:.3f}"


def spread(found: Interval | None) -> str:
    """A mean with its interval."""
    return "—" if found is None else f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def signed(found: Interval | None) -> str:
    """A difference with its interval; bold if it is more than noise."""
    if found is None:
        return "—"
    text = f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
    return f"**{text}**" if found.excludes_zero else text
