"""From cells to a namespace: run what can be run, and remember in words what could not."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any

from m6rec_mini.course.cells import Cell, graded, runnable
from m6rec_mini.course.errors import OutOfTime
from m6rec_mini.course.local import BROKEN, Capped, run_cell, said_by


def run_cells(cells: Sequence[Cell], label: str = "cell") -> dict[str, Any]:
    """Run the graded cells in order, each for itself: one that fails takes nothing from the others.

    What they print is dropped. The namespace holds a list of the failures under `BROKEN`.
    """
    failures: list[str] = []
    namespace: dict[str, Any] = {"__name__": "__main__", BROKEN: failures}
    sink = Capped()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cell in graded(cells):
            try:
                run_cell(runnable(cell.source), f"<{label} {cell.place}>", namespace)
            except OutOfTime:
                raise
            except BaseException as error:
                failures.append(f"cell {cell.place} did not run ({_in_words(error)})")
    return namespace


def _in_words(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__} in line {error.lineno}: {error.msg}"
    return f"{type(error).__name__}: {said_by(error)[:200]}"
