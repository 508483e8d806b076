"""`check("07_multimodal_fusion.attention_weights")`: judge the code of this notebook, here and now.

It shows a card and returns the points as a float, which is what nbgrader reads from the cell. The
same laws decide when a grade is at stake, but there the code runs in a process of its own.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from m6rec_mini.course.answers import Answer, Here
from m6rec_mini.course.card import html_card, text_card
from m6rec_mini.course.chapters import Chapter, load, split_name
from m6rec_mini.course.forbidden import forbidden_use
from m6rec_mini.course.grader import Report, run
from m6rec_mini.course.local import CELLS
from m6rec_mini.course.progress import note


def check(name: str, namespace: dict[str, Any] | None = None) -> float:
    """Judge one question by the caller's names; show a card; return the points that were earned.

    Raises NoSuchChapterError for a name that does not exist; whatever the learner's code does, it
    becomes part of the card.
    """
    names = namespace if namespace is not None else sys._getframe(1).f_globals
    chapter_name, question = split_name(name)
    chapter = load(chapter_name)
    report = judge_namespace(chapter, chapter.question(question).name, names)
    note(report)
    display(report)
    return report.points


def judge_namespace(chapter: Chapter, question: str, namespace: dict[str, Any]) -> Report:
    """The report on one question from names in this process."""
    laws = chapter.questions[question]
    refused = forbidden_use(sources_of(namespace), question, laws[0].question.forbidden)
    return run(chapter.name, laws, Answer(Here(namespace)), refused)


def sources_of(namespace: Mapping[str, Any]) -> list[str]:
    """The code that made these names: IPython's cells in the order in which they ran, or the file."""
    ran = namespace.get("In")
    if isinstance(ran, list) and all(isinstance(cell, str) for cell in ran):
        CELLS.update(_files_of(namespace))
        return ran
    found = []
    for value in namespace.values():
        if inspect.isfunction(value) or inspect.isclass(value):
            try:
                found.append(inspect.getsource(value))
            except (OSError, TypeError):
                continue
    return [*found, *_whole_file(namespace)]


def _files_of(namespace: Mapping[str, Any]) -> set[str]:
    """The names under which IPython compiled this notebook's functions."""
    return {value.__code__.co_filename for value in namespace.values() if inspect.isfunction(value)}


def _whole_file(namespace: Mapping[str, Any]) -> Sequence[str]:
    file = namespace.get("__file__")
    if not isinstance(file, str):
        return []
    try:
        with open(file, encoding="utf-8") as opened:  # noqa: PTH123
            return [opened.read()]
    except (OSError, UnicodeDecodeError):
        return []


def display(report: Report) -> None:
    """A card in a notebook, plain text elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and hasattr(shell, "kernel"):
        from IPython.display import display as show

        show({"text/html": html_card(report), "text/plain": text_card(report)}, raw=True)  # type: ignore[no-untyped-call]
    else:
        print(text_card(report))
