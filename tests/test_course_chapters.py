"""What must hold of every chapter: notebooks current and without answers, graders sound, three ways in agreement."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbgrader.utils import determine_grade

from m6rec_mini.course import build
from m6rec_mini.course.answers import Answer, Here
from m6rec_mini.course.card import html_card, text_card
from m6rec_mini.course.cells import Cell, notebook_cells
from m6rec_mini.course.chapters import CHECKOUT, Chapter, chapter_names, folder, load
from m6rec_mini.course.errors import Unsound
from m6rec_mini.course.forbidden import forbidden_use
from m6rec_mini.course.grader import Report, run
from m6rec_mini.course.grading import grade_cells
from m6rec_mini.course.namespace import run_cells
from m6rec_mini.course.nbgrader_engine import put_back, write_outputs
from m6rec_mini.course.prove.proof import answer_source, judged, on_file, prove
from m6rec_mini.course.remote import Servers
from m6rec_mini.course.sandbox import strongest

NAMES = chapter_names()
EVERY = bool(os.environ.get("M6REC_EVERY_ANSWER"))  # CI sets it, after `make test`, and runs `m6rec prove`
STEP = 1 if EVERY else 8


def read(part: str, name: str) -> Any:
    return nbformat.read(folder(part) / name / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]


def test_there_are_chapters_and_each_has_all_its_parts() -> None:
    assert {"02_measuring", "07_multimodal_fusion", "11_long_tail_reinforcement"} <= set(NAMES)
    for name in NAMES:
        for part in (f"lessons/{name}.md", f"solutions/{name}/{name}.py", f"tests/right_answers/{name}"):
            assert (CHECKOUT / part).exists(), part
        lesson = (CHECKOUT / "lessons" / f"{name}.md").read_text(encoding="utf-8")
        for laws in load(name).questions.values():
            assert f"({laws[0].question.section})=" in lesson, f"{name}: {laws[0].question.name} links to no section"
            assert len(laws[0].question.hints) == 3


@pytest.mark.slow
def test_the_committed_notebooks_are_current() -> None:
    """They are what the sources and nbgrader's own release give; `make notebooks` writes them."""
    assert build.stale() == []


@pytest.mark.parametrize("name", NAMES)
def test_a_learners_notebook_gives_nothing_away(name: str) -> None:
    source = (folder("solutions") / name / f"{name}.py").read_text(encoding="utf-8")
    text = (folder("exercises") / name / f"{name}.ipynb").read_text(encoding="utf-8")
    assert build.leaked(text, source) == []
    assert "SOLUTION" not in text
    assert text.count("raise NotImplementedError()") >= len(load(name).questions)


def test_leaks_are_found() -> None:
    source = "### BEGIN SOLUTION\nsecret = 41 + 1\n### END SOLUTION\n"
    clean: dict[str, Any] = {"cells": [{"id": "a", "source": ["x = 1\n"], "metadata": {}, "outputs": []}]}
    assert build.leaked(json.dumps(clean), source) == []
    for change in ({"source": ["    secret = 41 + 1\n"]}, {"outputs": [{}]}, {"metadata": {"answer": "secret"}}):
        dirty = {"cells": [clean["cells"][0] | change]}
        assert len(build.leaked(json.dumps(dirty), source)) == 1


def test_sources_that_do_not_fit_their_grader_are_refused() -> None:
    name = NAMES[0]
    source = (folder("solutions") / name / f"{name}.py").read_text(encoding="utf-8")
    question = next(iter(load(name).questions))
    with pytest.raises(Unsound, match="in this order"):
        build.solution_notebook(name, source.replace(f'# %% check="{question}"', "# %%"))
    with pytest.raises(Unsound, match="the grader asks for"):
        build.solution_notebook(name, source.replace(f'# %% answer="{question}"', '# %% answer="nothing"'))


def executed(notebook: Any, folder_: Path) -> Any:
    kernel = {"metadata": {"path": str(folder_)}}
    return NotebookClient(notebook, timeout=120, kernel_name="python3", resources=kernel).execute()


def points_shown(notebook: Any) -> dict[str, float]:
    """What nbgrader itself would read from the outputs."""
    cells = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    return {cell.metadata["nbgrader"]["grade_id"].removeprefix("check-"): determine_grade(cell)[0] for cell in cells}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_learner_who_has_solved_nothing_can_run_the_notebook(name: str, tmp_path: Path) -> None:
    done = executed(read("exercises", name), tmp_path)
    assert set(points_shown(done).values()) == {0.0}
    texts = [str(cell.get("outputs")) for cell in done.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    assert all("is not written yet" in text for text in texts)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_learner_who_pasted_the_solution_gets_all_points(name: str, tmp_path: Path) -> None:
    notebook = read("exercises", name)
    for cell in notebook.cells:
        marks = cell.metadata.get("nbgrader", {})
        if marks.get("solution"):
            cell.source = answer_source(name, marks["grade_id"])
    shown = points_shown(executed(notebook, tmp_path))
    assert shown == {question: sum(law.points for law in laws) for question, laws in load(name).questions.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES if EVERY else NAMES[:1])
def test_right_answers_pass_wrong_ones_are_named_and_cheats_are_caught(name: str) -> None:
    """All of `m6rec prove` but the mutants, which take their time."""
    problems = {line.question: line.problems for line in prove(name, workers=0, with_mutants=False)}
    assert problems == {question: [] for question in load(name).questions}


def with_answer(name: str, question: str, source: str) -> Any:
    """A learner's notebook in which one question is answered, by this code."""
    notebook = read("exercises", name)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == question:
            cell.source = source
    return notebook


def judge_cells(chapter: Chapter, question: str, cells: list[Cell]) -> Report:
    """As a check in a notebook whose cells have run."""
    laws = chapter.questions[question]
    refused = forbidden_use([cell.source for cell in cells], question, laws[0].question.forbidden)
    return run(chapter.name, laws, Answer(Here(run_cells(cells))), refused)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_check_grade_and_nbgrader_agree_on_the_answers_on_file(name: str) -> None:
    chapter, differ = load(name), []
    with Servers(strongest()) as servers:
        for answer in [*on_file("wrong_answers", chapter), *on_file("right_answers", chapter)][::STEP]:
            alone = Chapter(name, tuple(chapter.questions[answer.question]))
            notebook = with_answer(name, answer.question, answer.source)
            cells = notebook_cells(nbformat.writes(notebook))  # type: ignore[no-untyped-call]
            here = judge_cells(chapter, answer.question, cells)
            (there,), _ = grade_cells(cells, alone, servers)
            write_outputs(notebook, {answer.question: there})
            points = {here.points, there.points, points_shown(notebook)[answer.question]}
            statuses = [[outcome.status for outcome in report.outcomes] for report in (here, there)]
            if len(points) != 1 or statuses[0] != statuses[1]:
                differ.append((answer.file.stem, points, statuses))
    assert differ == []


def test_hidden_laws_stay_hidden_in_every_card() -> None:
    for name in NAMES:
        chapter = load(name)
        secrets = [text for law in chapter.laws if law.hidden for text in (law.name, law.teaches)]
        assert secrets
        for answer in on_file("wrong_answers", chapter)[:: 3 * STEP]:
            report = judged(chapter, answer.question, answer.source)
            shown = text_card(report) + html_card(report) + repr(report)
            assert not [secret for secret in secrets if secret in shown]


def test_deleted_grade_cells_are_put_back_and_every_grade_cell_has_an_output() -> None:
    name = NAMES[0]
    notebook = read("exercises", name)
    notebook.cells = [cell for cell in notebook.cells if not cell.metadata.get("nbgrader", {}).get("grade")]
    put_back(notebook, load(name))
    write_outputs(notebook, {})
    assert points_shown(notebook) == dict.fromkeys(load(name).questions, 0.0)


GOLDEN = [
    ([], 5.0),  # no output: full points, so there must always be one
    ([("stream", {"name": "stdout", "text": "3 failed, 1 passed"})], 5.0),
    ([("execute_result", {"data": {"text/plain": "<ExitCode.TESTS_FAILED: 1>"}})], 5.0),
    ([("stream", {"name": "stderr", "text": "a warning"})], 0.0),
    ([("execute_result", {"data": {"text/plain": "2.5"}})], 2.5),
]


@pytest.mark.parametrize(("outputs", "points"), GOLDEN)
def test_how_nbgrader_reads_a_grade_cell(outputs: list[tuple[str, dict[str, Any]]], points: float) -> None:
    """The five facts on which the engine's way of writing outputs stands."""
    cell = nbformat.v4.new_code_cell("check()")  # type: ignore[no-untyped-call]
    cell.metadata["nbgrader"] = {"grade": True, "solution": False, "points": 5.0, "grade_id": "x", "locked": True}
    cell.outputs = [nbformat.v4.new_output(kind, **fields) for kind, fields in outputs]  # type: ignore[no-untyped-call]
    assert determine_grade(cell)[0] == points


def test_the_engines_outputs_are_read_as_the_points() -> None:
    notebook = read("exercises", NAMES[0])
    question, laws = next(iter(load(NAMES[0]).questions.items()))
    report = judged(load(NAMES[0]), question, f"def {question}(*_, **__): return None")
    assert isinstance(report, Report)
    write_outputs(notebook, {question: report})
    assert points_shown(notebook)[question] == report.points < sum(law.points for law in laws)
