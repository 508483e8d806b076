"""Our engine in the place of nbgrader's `Execute`: the points of a check, and no foreign code beside the gradebook.

nbgrader reads a grade from the output of a grade cell: a float is partial credit, an error none, and no
output at all full points. So every grade cell gets an output here, whatever became of the answer, and a
grade cell that a learner deleted is put back first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_grade

from m6rec_mini.course.card import html_card, text_card
from m6rec_mini.course.cells import notebook_cells
from m6rec_mini.course.chapters import Chapter, NoSuchChapterError, load
from m6rec_mini.course.grader import Report
from m6rec_mini.course.grading import grade_cells
from m6rec_mini.course.remote import Servers
from m6rec_mini.course.sandbox import strongest


class Engine(NbGraderPreprocessor):  # type: ignore[misc]
    """Judges the answers in a sandbox and writes points and a card into the grade cells."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """The notebook with outputs. Raises ValueError for an assignment that is no chapter of the course."""
        name = resources["nbgrader"]["notebook"]
        try:
            chapter = load(name)
        except NoSuchChapterError as error:
            raise ValueError(
                f"{error}. This course's engine grades its chapters; for other assignments take the line "
                "Autograde.autograde_preprocessors out of nbgrader_config.py"
            ) from None
        folder = Path(resources["metadata"].get("path") or ".")
        put_back(nb, chapter)
        reports, notes = self._judge(nb, chapter, folder)
        for note in notes:
            self.log.warning("%s: %s", name, note)
        write_outputs(nb, {report.question: report for report in reports})
        return nb, resources

    def _judge(self, nb: Any, chapter: Chapter, folder: Path) -> tuple[Sequence[Report], Sequence[str]]:
        cells = notebook_cells(nbformat.writes(nb))  # type: ignore[no-untyped-call]
        shut_in = strongest()
        if shut_in.level != "sandbox":
            self.log.warning("No sandbox here (%s): only for code that you trust", shut_in.why_not)
        with Servers(shut_in, hide={folder.absolute()}) as servers:
            return grade_cells(cells, chapter, servers)


def put_back(nb: Any, chapter: Chapter) -> None:
    """Add the grade cells that are missing, so that nobody gains or silently loses points by deleting one."""
    there = {cell.metadata["nbgrader"]["grade_id"] for cell in nb.cells if is_grade(cell)}
    for question, laws in chapter.questions.items():
        if f"check-{question}" in there:
            continue
        cell = nbformat.v4.new_code_cell(f'check("{chapter.name}.{question}")')  # type: ignore[no-untyped-call]
        cell["id"] = f"check-{question}"
        cell.metadata["nbgrader"] = {
            "cell_type": "code", "grade": True, "grade_id": f"check-{question}", "locked": True,
            "points": sum(law.points for law in laws), "schema_version": 3, "solution": False, "task": False,
        }  # fmt: skip
        nb.cells.append(cell)


def write_outputs(nb: Any, reports: Mapping[str, Report]) -> None:
    """Every code cell loses its old output; every grade cell gets a card, and last the points as a float."""
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if not is_grade(cell) or cell.cell_type != "code":
            continue
        report = reports.get(cell.metadata["nbgrader"]["grade_id"].removeprefix("check-"))
        points = report.points if report else 0.0
        if report:
            cards = {"text/html": html_card(report), "text/plain": text_card(report)}
            cell.outputs.append(nbformat.v4.new_output("display_data", cards))  # type: ignore[no-untyped-call]
        value = {"text/plain": repr(float(points))}
        cell.outputs.append(nbformat.v4.new_output("execute_result", value, execution_count=1))  # type: ignore[no-untyped-call]
        cell.execution_count = 1
