"""A course of two chapters and three questions, made where a test wants it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from m6rec_mini.course import attempt, chapters

ADDING, MORE = "01_adding", "02_more"
GRADER_OF_ADDING = """
from m6rec_mini.course.expect import number, require
from m6rec_mini.course.grader import Question, hidden, points, teaches

ADD = Question("add", "A sum", "sums", ("Look at +.", "One + is enough.", "return a + b"), forbidden=("math.fsum",))
TWICE = Question("twice", "A double", "doubles", ("1", "2", "3"), seconds=1.0)

@points(2, ADD)
@teaches("Three and four make seven.")
def test_sum(answer):
    require(number(answer.add(3, 4)) == 7, "3 + 4 is 7", answer.add(3, 4), 7)

@points(1, ADD)
@hidden
@teaches("A secret law.")
def test_negative(answer):
    require(number(answer.add(-1, 1)) == 0, "no")

@points(1.5, TWICE)
@teaches("The double of two is four.")
def test_double(answer):
    require(number(answer.twice(2)) == 4, "2 * 2 is 4")
"""
GRADER_OF_MORE = """
from m6rec_mini.course.expect import number, require
from m6rec_mini.course.grader import Question, points, teaches

HALF = Question("half", "A half", "halves", ("a", "b", "c"))

@points(1, HALF)
@teaches("The half of four is two.")
def test_half(answer):
    require(number(answer.half(4)) == 2, "4 / 2 is 2")
"""
LESSON = """---
kernelspec:
  name: python3
  display_name: Python 3
---
# Sums

How does one *add*? ![a plus](plus.svg)

```{code-cell} ipython3
1 + 1
```
"""
UNSOLVED = ("def add(a, b):\n    raise NotImplementedError", "def twice(a):\n    raise NotImplementedError")
ADD, TWICE = "def add(a, b):\n    return a + b", "def twice(a):\n    return 2 * a"


def notebook(*sources: str) -> str:
    """A notebook of code cells."""
    cells = [
        {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None, "id": f"c{n}"}
        for n, source in enumerate(sources)
    ]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})


def make_course(root: Path) -> Callable[[str], Path]:
    """Write it; return what stands in for `chapters.folder`."""
    for chapter, grader, sources in ((ADDING, GRADER_OF_ADDING, UNSOLVED), (MORE, GRADER_OF_MORE, UNSOLVED[1:])):
        put(root / "graders" / f"test_{chapter}.py", grader)
        put(root / "exercises" / chapter / f"{chapter}.ipynb", notebook(*sources, f'check("{chapter}.add")'))
        put(root / "lessons" / f"{chapter}.md", LESSON)
    put(root / "exercises" / ADDING / "numbers.csv", "1,2")
    put(root / "exercises" / ADDING / ".ipynb_checkpoints" / "old.ipynb", "{}")
    put(root / "lessons" / "plus.svg", "<svg/>")
    put(root / "lessons" / "index.md", "# All lessons")
    return lambda part: root / part


def put(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a small course that takes the place of ours, also in processes that judge."""
    root = tmp_path / "the course"
    monkeypatch.setattr(chapters, "folder", make_course(root))
    ours = "from m6rec_mini.course import chapters; from pathlib import Path"
    monkeypatch.setattr(attempt, "CHILD", f"{ours}; chapters.folder = Path({str(root)!r}).joinpath; {attempt.CHILD}")
    return root
