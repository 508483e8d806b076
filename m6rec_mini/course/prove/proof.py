"""`m6rec prove`: every reference, right answer, wrong answer, mutant and cheat through the graders.

A grader is sound if it accepts all that is right, rejects all that is wrong by the law that says
why, and kills the mutants of the reference. The bars stand below; CI fails under them.
"""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from m6rec_mini.course.answers import Answer, Here
from m6rec_mini.course.cells import Cell, read_cells
from m6rec_mini.course.chapters import CHECKOUT, Chapter, folder, load
from m6rec_mini.course.errors import Unsound
from m6rec_mini.course.forbidden import forbidden_use
from m6rec_mini.course.grader import Law, Report, judge, run
from m6rec_mini.course.namespace import run_cells
from m6rec_mini.course.prove.cheats import cheats, visible_examples
from m6rec_mini.course.prove.mutants import mutants

LEAST_KILLED = 0.98  # of the mutants that are not equivalent
LEAST_WRONG, LEAST_RIGHT = 4, 2  # answers on file for each question
MOST_FOR_A_CHEAT = 0.25  # of a question's points
MOST_FOR_MEMORY = 0.5  # for the cheat that knows every visible example
SLOWEST_MUTANT = 5.0  # seconds; longer is a loop without end


@dataclass(frozen=True)
class Filed:
    """An answer on file: what it is, and which law must reject it."""

    file: Path
    source: str
    question: str
    says: str
    rejected_by: str = ""


@dataclass
class Line:
    """What was found for one question."""

    question: str
    reference: bool = False
    right: tuple[int, int] = (0, 0)  # accepted, on file
    wrong: tuple[int, int] = (0, 0)  # rejected by the law that they name, on file
    killed: int = 0
    survived: int = 0
    equivalent: int = 0
    cheats: tuple[int, int] = (0, 0)  # rejected, tried
    seconds: float = 0.0  # of the reference
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # worth knowing, but over the bar

    @property
    def killed_share(self) -> float:
        """Of the mutants that are not equivalent."""
        return self.killed / max(self.killed + self.survived, 1)

    @property
    def sound(self) -> bool:
        """Over every bar."""
        return not self.problems


def prove(
    name: str, workers: int = 2, on_line: Callable[[Line], None] = lambda _: None, *, with_mutants: bool = True
) -> list[Line]:
    """Prove one chapter. `workers=0` does all in this process. Raises Unsound if an answer on file is malformed."""
    chapter = load(name)
    right, wrong = on_file("right_answers", chapter), on_file("wrong_answers", chapter)
    excuses = _excuses(chapter.name)
    lines = []
    used: set[str] = set()
    for question in chapter.questions:
        line = Line(question)
        _reference(chapter, question, line)
        if line.reference:
            _right(chapter, [answer for answer in right if answer.question == question], line)
            _wrong(chapter, [answer for answer in wrong if answer.question == question], line)
            _cheats(chapter, question, line)
            if with_mutants:
                used |= _mutants(chapter, question, line, excuses, workers)
        lines.append(line)
        on_line(line)
    for text in sorted(set(excuses) - used) if with_mutants else ():
        lines[-1].problems.append(f"equivalent.json excuses a mutant that is killed or does not exist: {text}")
    return lines


# ---- what is on file --------------------------------------------------------------------------


def on_file(kind: str, chapter: Chapter) -> list[Filed]:
    """The right or wrong answers of a chapter; raises Unsound for a file that lacks its marks."""
    found = []
    for file in sorted((CHECKOUT / "tests" / kind / chapter.name).glob("*.py")):
        source = file.read_text(encoding="utf-8")
        tree = ast.parse(source)
        marks = {
            target.id: str(node.value.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        says, question, law = ast.get_docstring(tree) or "", marks.get("QUESTION"), marks.get("REJECTED_BY", "")
        if not says or question not in chapter.questions:
            raise Unsound(f"{file} needs a docstring that says what it is, and QUESTION, one of {chapter.name}")
        if kind == "wrong_answers" and law not in [each.name for each in chapter.questions[question]]:
            raise Unsound(f"{file} needs REJECTED_BY = a law of {question}; {law!r} is none")
        found.append(Filed(file, source, question, says, law))
    return found


@lru_cache(maxsize=8)
def solution_cells(name: str) -> tuple[Cell, ...]:
    """The cells of a chapter's solution."""
    return tuple(read_cells(folder("solutions") / name / f"{name}.py"))


def answer_source(name: str, question: str) -> str:
    """The cell of the solution that answers a question."""
    found = [cell.source for cell in solution_cells(name) if cell.kind == "answer" and cell.name == question]
    if len(found) != 1:
        raise Unsound(f'the solution of {name} needs one cell `# %% answer="{question}"`; it has {len(found)}')
    return found[0]


def namespace_with(name: str, source: str | None = None, place: str = "answer") -> dict[str, Any]:
    """The names of a solution, with other code run after it."""
    cells = list(solution_cells(name))
    if source is not None:
        cells.append(Cell(source, "other", place=len(cells) + 1))
    return run_cells(cells, place)


def judged(chapter: Chapter, question: str, source: str | None, refused: str = "") -> Report:
    """The report on a question for the solution with other code put over it."""
    return run(chapter.name, chapter.questions[question], Answer(Here(namespace_with(chapter.name, source))), refused)


# ---- one kind after the other -----------------------------------------------------------------


def _reference(chapter: Chapter, question: str, line: Line) -> None:
    forbidden = chapter.question(question).forbidden
    refused = forbidden_use([cell.source for cell in solution_cells(chapter.name)], question, forbidden)
    judged(chapter, question, None)  # the first time pays for imports
    report = judged(chapter, question, None, refused)
    line.reference, line.seconds = report.passed, report.seconds
    if not report.passed:
        failure = report.first_failure
        assert failure is not None
        line.problems.append(f"the reference fails: {failure.law}: {failure.message}")


def _right(chapter: Chapter, answers: Sequence[Filed], line: Line) -> None:
    accepted = 0
    for answer in answers:
        refused = forbidden_use([answer.source], answer.question, chapter.question(answer.question).forbidden)
        report = judged(chapter, answer.question, answer.source, refused)
        accepted += report.passed
        if not report.passed:
            failure = report.first_failure
            assert failure is not None
            told = _law_messages(report, chapter.questions[answer.question]).get(failure.law, failure.message)
            line.problems.append(f"right answer {answer.file.stem} is rejected by {failure.law}: {told}")
    line.right = accepted, len(answers)
    if len(answers) < LEAST_RIGHT:
        line.problems.append(f"{len(answers)} right answers on file; at least {LEAST_RIGHT}")


def _wrong(chapter: Chapter, answers: Sequence[Filed], line: Line) -> None:
    caught = 0
    for answer in answers:
        refused = forbidden_use([answer.source], answer.question, chapter.question(answer.question).forbidden)
        problem = _not_caught(chapter, answer, refused)
        caught += not problem
        if problem:
            line.problems.append(f"wrong answer {answer.file.stem} {problem}")
    line.wrong = caught, len(answers)
    if len(answers) < LEAST_WRONG:
        line.problems.append(f"{len(answers)} wrong answers on file; at least {LEAST_WRONG}")


def _not_caught(chapter: Chapter, answer: Filed, refused: str) -> str:
    """Why a wrong answer is not rejected as it should be, or ""."""
    law = next(law for law in chapter.questions[answer.question] if law.name == answer.rejected_by)
    visible = replace(law, hidden=False)  # to see what it would say
    report = run(chapter.name, [visible], Answer(Here(namespace_with(chapter.name, answer.source))), refused)
    outcome = report.outcomes[0]
    if outcome.passed:
        return f"passes {law.name}"
    if not outcome.message.strip():
        return f"is rejected by {law.name} without a word"
    return ""


def _law_messages(report: Report, laws: Sequence[Law]) -> Mapping[str, str]:
    return {law.name: outcome.message for law, outcome in zip(laws, report.outcomes, strict=True)}


def _cheats(chapter: Chapter, question: str, line: Line) -> None:
    namespace, laws = namespace_with(chapter.name), chapter.questions[question]
    seen = visible_examples(laws, namespace, question)
    rejected, tried = 0, cheats(namespace[question], seen)
    for name, cheat in tried.items():
        report = run(chapter.name, laws, Answer(Here({**namespace, question: cheat})))
        most = MOST_FOR_MEMORY if "remembers" in name else MOST_FOR_A_CHEAT
        fine = report.points <= most * report.worth
        rejected += fine
        if not fine:
            passed = ", ".join(law.name for law, o in zip(laws, report.outcomes, strict=True) if o.passed)
            line.problems.append(
                f"the cheat that {name} gets {report.points:g} of {report.worth:g} points, by {passed}"
                if name.startswith(("returns", "remembers"))
                else f"the cheat of {name} gets {report.points:g} of {report.worth:g} points, by {passed}"
            )
    line.cheats = rejected, len(tried)


# ---- mutants ----------------------------------------------------------------------------------


def _mutants(chapter: Chapter, question: str, line: Line, excuses: Mapping[str, str], workers: int) -> set[str]:
    """Count them into the line; returns the excuses that were needed."""
    made = [(f"{question}, {mutant.text}", mutant.source) for mutant in mutants(answer_source(chapter.name, question))]
    jobs = [(chapter.name, question, source) for _, source in made]
    if workers == 0:
        alive = [survives(*job) for job in jobs]
    else:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            alive = list(pool.map(survives, *zip(*jobs, strict=True), chunksize=4)) if jobs else []
    used, survivors = set(), []
    for (text, _), lives in zip(made, alive, strict=True):
        if not lives:
            line.killed += 1
        elif text in excuses:
            used.add(text)
            line.equivalent += 1
        else:
            line.survived += 1
            survivors.append(f"a mutant survives: {text}")
    (line.notes if line.killed_share >= LEAST_KILLED else line.problems).extend(survivors)
    return used


def survives(name: str, question: str, source: str) -> bool:
    """Whether a mutant obeys every law."""
    laws = load(name).questions[question]
    answer = Answer(Here(namespace_with(name, source)), time.monotonic() + SLOWEST_MUTANT)
    return all(judge(law, answer).passed for law in laws)


def _excuses(name: str) -> Mapping[str, str]:
    file = CHECKOUT / "tests" / "wrong_answers" / name / "equivalent.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
