"""Where the course lies, and a chapter by its name or number.

In a checkout the lessons, exercises and graders stand in folders of their own; the wheel carries them
within this package. Either way a chapter is a name, and the same name finds all its parts.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from m6rec_mini.course.grader import Law, Question, laws_of, questions_of

PACKED = Path(__file__).parent / "assets"  # in the wheel
CHECKOUT = Path(__file__).parents[2]


class NoSuchChapterError(ValueError):
    """A name that no chapter, or no question, has."""


@dataclass(frozen=True, eq=False)
class Chapter:
    """A name, and the laws that its grader holds."""

    name: str
    laws: tuple[Law, ...]

    @property
    def number(self) -> str:
        """Its two digits."""
        return self.name[:2]

    @property
    def questions(self) -> dict[str, list[Law]]:
        """The laws of each question, in order."""
        return questions_of(self.laws)

    def question(self, name: str) -> Question:
        """A question by its name; raises NoSuchChapterError."""
        if name not in self.questions:
            raise NoSuchChapterError(f"{self.name} has no question {name!r}; it has {', '.join(self.questions)}")
        return self.questions[name][0].question

    @property
    def points(self) -> float:
        """What all its questions are worth."""
        return sum((law.points for law in self.laws), 0.0)


def folder(part: str) -> Path:
    """The folder of one part: "lessons", "exercises", "solutions" or "graders"."""
    base = PACKED if PACKED.is_dir() else CHECKOUT
    return base / ("tests/graders" if part == "graders" and base is CHECKOUT else part)


def chapter_names() -> list[str]:
    """All chapters that have a grader, in order."""
    return sorted(file.stem.removeprefix("test_") for file in folder("graders").glob("test_[0-9][0-9]_*.py"))


def find(name: str) -> str:
    """The chapter that is meant by "07_multimodal_fusion", "07", "7" or "fusion"; raises NoSuchChapterError."""
    names = chapter_names()
    wanted = name.zfill(2) if name.isdigit() else name
    found = [full for full in names if full == wanted] or [
        full for full in names if full[:2] == wanted or (len(wanted) > 2 and wanted in full)
    ]
    if len(found) != 1:
        there = ", ".join(names)
        raise NoSuchChapterError(
            f"{name!r} names {len(found) or 'no'} chapter{'s' * (len(found) > 1)}; there are {there}"
        )
    return found[0]


def split_name(name: str) -> tuple[str, str]:
    """ "07_multimodal_fusion.attention_weights" as chapter and question; the question may be missing."""
    chapter, _, question = name.partition(".")
    return find(chapter.strip()), question.strip()


def load(name: str) -> Chapter:
    """A chapter by its name or number; raises NoSuchChapterError."""
    return _load(find(name), folder("graders"))


@lru_cache(maxsize=32)
def _load(name: str, graders: Path) -> Chapter:
    file = graders / f"test_{name}.py"
    module_name = "m6rec_mini_grader_" + re.sub(r"\W", "_", name)
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return Chapter(name, tuple(laws_of(vars(module))))
