"""What a grader is made of: questions, laws that an answer must obey, and the points for each.

A chapter's grader is a file of plain pytest tests that take a fixture `answer`. Every test states one
law, says what it teaches, and is worth points of one question:

    ATTENTION = Question("attention_weights", "Masked attention weights", section="masks", hints=(…, …, …))

    @points(2, ATTENTION)
    @teaches("A masked key gets exactly zero weight: mask the scores before the softmax.")
    @given(inputs=attention_inputs())
    def test_masked_keys_get_no_weight(answer, inputs):
        weights = answer.attention_weights(inputs.query, inputs.key, inputs.mask)
        zero(weights, where=~inputs.mask, what="weights of masked keys")

`run` gives the report of one question. It is the same for a notebook's check, `m6rec grade`, and nbgrader.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from functools import wraps
from io import StringIO
from typing import Any, Literal, TypeVar

import hypothesis
from hypothesis.errors import Flaky

from m6rec_mini.course.answers import Answer
from m6rec_mini.course.errors import AnswerError, OutOfTime, Unsound
from m6rec_mini.course.expect import Broken
from m6rec_mini.course.show import kind, short

Test = TypeVar("Test", bound=Callable[..., None])
Status = Literal["passed", "failed", "unanswered", "missing", "out of time", "not run"]
EXAMPLES = 30  # that Hypothesis tries for each law


@dataclass(frozen=True)
class Question:
    """One thing to write. Hints go from where to look, over which idea, to almost the code."""

    name: str  # of the function or class
    title: str
    section: str  # the anchor in the lesson that explains it
    hints: tuple[str, str, str]
    forbidden: tuple[str, ...] = ()  # dotted names that would do the work: "numpy.linalg.svd", ".softmax"
    seconds: float = 10.0  # for all of its tests together
    draw: Callable[[Answer, Law], str] | None = field(default=None, compare=False)  # a wrong picture as SVG or PNG


@dataclass(frozen=True)
class Law:
    """A test, and what is known of it."""

    name: str
    question: Question
    points: float
    teaches: str
    hidden: bool
    test: Callable[..., None] = field(compare=False)


def points(worth: int | float, question: Question) -> Callable[[Test], Test]:
    """This test is worth so many points of the question."""

    def mark(test: Test) -> Test:
        test._worth = (float(worth), question)  # type: ignore[attr-defined]
        return test

    return mark


def teaches(law: str) -> Callable[[Test], Test]:
    """What a learner reads when the test fails: the law in one or two sentences, never the answer."""

    def mark(test: Test) -> Test:
        test._teaches = law  # type: ignore[attr-defined]
        return test

    return mark


def hidden(test: Test) -> Test:
    """Nothing of this test is ever shown, but that it has failed."""
    test._hidden = True  # type: ignore[attr-defined]
    return test


def given(*, examples: int = EXAMPLES, **strategies: Any) -> Callable[[Test], Test]:
    """Hypothesis' `given`, always with the same examples, and without files, deadlines or health checks."""
    settings = hypothesis.settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate, hypothesis.Phase.shrink),  # explain is slow
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=False,
    )

    def mark(test: Test) -> Test:
        @wraps(test)
        def remembered(*args: Any, **kwargs: Any) -> None:
            try:
                test(*args, **kwargs)
            except (Broken, AnswerError) as error:
                kwargs["answer"].failure = error  # told even if the time ends while a smaller example is sought
                raise

        return settings(hypothesis.given(**strategies)(remembered))  # type: ignore[return-value]

    return mark


def laws_of(module: Mapping[str, Any]) -> list[Law]:
    """The tests of a grader in the order in which they stand; raises Unsound if one lacks points or its law."""
    laws = []
    for name, test in module.items():
        if not name.startswith("test_"):
            continue
        if not hasattr(test, "_worth") or not hasattr(test, "_teaches"):
            raise Unsound(f"{name} needs @points(worth, QUESTION) and @teaches('the law')")
        worth, question = test._worth
        laws.append(Law(name, question, worth, test._teaches, getattr(test, "_hidden", False), test))
    return laws


# ---- running ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of one law. Of a hidden one nothing is told but its status."""

    law: str
    points: float
    worth: float
    status: Status
    hidden: bool = False
    teaches: str = ""
    message: str = ""
    called: str = ""  # the smallest call that shows it
    got: str = ""
    expected: str = ""

    @property
    def passed(self) -> bool:
        """All its points."""
        return self.status == "passed"


@dataclass(frozen=True)
class Report:
    """One question, judged."""

    chapter: str
    question: str
    title: str
    outcomes: Sequence[Outcome]
    hint: str = ""  # the first of the question's, once an attempt has failed
    section: str = ""
    isolation: str = "none"
    printed: str = ""
    seconds: float = 0.0
    picture: str = ""  # <svg> or a data URL

    @property
    def points(self) -> float:
        """What was earned."""
        return sum((outcome.points for outcome in self.outcomes), 0.0)

    @property
    def worth(self) -> float:
        """What could be earned."""
        return sum((outcome.worth for outcome in self.outcomes), 0.0)

    @property
    def passed(self) -> bool:
        """Everything right."""
        return all(outcome.passed for outcome in self.outcomes)

    @property
    def first_failure(self) -> Outcome | None:
        """What to tell first: a law that may be shown, before one that may not."""
        failed = [outcome for outcome in self.outcomes if not outcome.passed]
        return min(failed, key=lambda outcome: outcome.hidden, default=None)


def run(chapter: str, laws: Sequence[Law], answer: Answer, refused: str = "") -> Report:
    """Judge one question by its laws; `refused` says why nothing of it may count, such as a forbidden call."""
    question, start = laws[0].question, time.monotonic()
    end = start + question.seconds
    answer.new_deadline(end)
    outcomes: list[Outcome] = []
    printed, picture, stop = "", "", refused
    for law in laws:
        outcome = _blank(law, "failed" if refused else "not run", stop) if stop else judge(law, answer)
        printed = printed or answer.printed
        if not outcome.passed and not outcome.hidden and not picture and question.draw and not stop:
            picture = _picture(question, answer, law)
        if outcome.status in ("missing", "unanswered", "out of time") and not stop:
            stop = "Not run: " + {"out of time": "the time was used up"}.get(
                outcome.status, "there is nothing to judge"
            )
        outcomes.append(outcome)
    tried = any(outcome.status in ("failed", "out of time") for outcome in outcomes)
    return Report(
        chapter, question.name, question.title, outcomes, question.hints[0] if tried else "", question.section,
        answer.isolation, printed, seconds=time.monotonic() - start, picture=picture,
    )  # fmt: skip


def judge(law: Law, answer: Answer) -> Outcome:
    """Try one law. Raises Unsound if the test itself is at fault."""
    answer.calls = answer.failure = None
    try:
        with redirect_stdout(StringIO()):  # Hypothesis tells its examples in its own words
            law.test(answer=answer)
    except OutOfTime:
        if answer.failure is not None:
            return _failed(law, answer.failure, answer)
        text = (
            f"Your code was still running after {law.question.seconds:g} seconds and was stopped. "
            "Look for a loop that never ends, or for work that grows faster than it has to."
        )
        return _told(law, "out of time", text, answer)
    except (Broken, AnswerError) as error:
        return _failed(law, error, answer)
    except Flaky:
        text = "The same call gave different results. Draw random numbers only from the generator that you are given."
        return _told(law, "failed", text, answer)
    except Exception as error:
        if answer.calls is not None and answer.calls.returned:
            return _told(law, "failed", f"This result cannot be judged: it is {kind(answer.calls.value)}.", answer)
        raise Unsound(f"{law.name} failed by itself: {type(error).__name__}: {error}") from error
    return replace(_blank(law, "passed", ""), points=law.points, teaches="" if law.hidden else law.teaches)


def _failed(law: Law, error: Broken | AnswerError, answer: Answer) -> Outcome:
    if isinstance(error, Broken):
        return _told(law, "failed", str(error), answer, error.got, error.expected)
    return _told(law, error.status, str(error), answer)  # type: ignore[arg-type]


HIDDEN = "A hidden test of this question fails. Read its contract once more, above all the special cases."


def _told(law: Law, status: Status, message: str, answer: Answer, got: str = "", expected: str = "") -> Outcome:
    if law.hidden and status not in ("missing", "unanswered"):
        return _blank(law, status, HIDDEN)
    called = "" if status in ("missing", "unanswered") else told_call(answer)
    return replace(_blank(law, status, message), teaches=law.teaches, called=called, got=got, expected=expected)


def _blank(law: Law, status: Status, message: str) -> Outcome:
    name = "a hidden test" if law.hidden else law.name
    return Outcome(name, 0.0, law.points, status, law.hidden, message=message)


def told_call(answer: Answer) -> str:
    """The last call as one would write it."""
    call = answer.calls
    if call is None:
        return ""
    parts = [short(value) for value in call.args] + [f"{name}={short(value)}" for name, value in call.kwargs.items()]
    line = f"{call.name}({', '.join(parts)})"
    return line if len(line) <= 88 else f"{call.name}(\n    " + ",\n    ".join(parts) + ",\n)"


def _picture(question: Question, answer: Answer, law: Law) -> str:
    """A drawing is a help: if it fails, there is none."""
    assert question.draw is not None
    try:
        return question.draw(answer, law)
    except (Exception, OutOfTime):
        return ""


def questions_of(laws: Sequence[Law]) -> dict[str, list[Law]]:
    """The laws of each question by its name, in order."""
    found: dict[str, list[Law]] = {}
    for law in laws:
        found.setdefault(law.question.name, []).append(law)
    return found
