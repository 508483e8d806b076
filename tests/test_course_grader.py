"""The engine's promises: points, messages, hidden laws, deadlines, and that learners' code cannot disturb it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from m6rec_mini.course import answers
from m6rec_mini.course.answers import Answer, Here
from m6rec_mini.course.card import html_card, text_card
from m6rec_mini.course.errors import Crashed, Missing, OutOfTime, Unsound
from m6rec_mini.course.expect import Broken, array, close, finite, number, refuses, same, unchanged, zero
from m6rec_mini.course.grader import HIDDEN, Law, Question, Report, given, hidden, laws_of, points, run, teaches

DOUBLE = Question("double", "Twice", "twice", ("look", "idea", "code"))


@points(1, DOUBLE)
@teaches("Twice two is four.")
def example(answer: Any) -> None:
    close(answer.double(np.array([2.0])), [4.0])


@points(2, DOUBLE)
@teaches("Every element is doubled, and the input is left alone.")
@given(x=st.lists(st.floats(-9, 9), max_size=4))
def every(answer: Any, x: list[float]) -> None:
    close(answer.double(np.array(x)), 2 * np.array(x))
    unchanged(answer)


@points(1, DOUBLE)
@hidden
@teaches("SECRET LAW")
def secret(answer: Any) -> None:
    same(answer.double(np.array([0])), np.array([0]), "SECRET VALUE")


LAWS = laws_of({"test_example": example, "test_all": every, "test_secret": secret})


HASTY = [replace(law, question=replace(DOUBLE, seconds=0.4)) for law in LAWS]


def judged(function: Callable[..., Any] | None, laws: Sequence[Law] = LAWS) -> Report:
    return run("00_test", laws, Answer(Here({"double": function} if function is not None else {})))


def statuses(report: Report) -> list[str]:
    return [outcome.status for outcome in report.outcomes]


def test_a_right_answer_gets_all_points_and_its_laws_are_named() -> None:
    report = judged(lambda x: 2 * x)
    assert (report.points, report.worth, report.passed) == (4, 4, True)
    assert "Twice two is four." in text_card(report)


def test_partial_answers_get_partial_points() -> None:
    report = judged(lambda x: x + 2)
    assert statuses(report) == ["passed", "failed", "failed"]
    assert report.points == 1


def test_the_smallest_call_that_breaks_a_law_is_shown() -> None:
    outcome = judged(lambda x: 2 * np.abs(x)).outcomes[1]
    assert outcome.called == "double(array([-1.]))"
    assert (outcome.got, outcome.expected) == ("array([2.])", "array([-2.])")


def spoil(x: np.ndarray) -> np.ndarray:
    x *= 2
    return x


def test_changing_the_input_is_noticed_and_does_no_harm() -> None:
    report = judged(spoil)
    assert report.outcomes[1].message == (
        "`double` changed its argument (number 1). Callers still need it: work on a copy."
    )


def test_nothing_of_a_hidden_law_is_told_whether_it_fails_or_passes() -> None:
    for function in (lambda x: 2 * x, lambda x: 2 * x + (x == 0), lambda x: x.nothing):
        report = judged(function)
        for text in (text_card(report), html_card(report), repr(report)):
            assert "SECRET" not in text
            assert "secret" not in text
    assert judged(lambda x: 2 * x + (x == 0)).outcomes[2].message == HIDDEN


def test_an_unwritten_answer_is_not_called_wrong() -> None:
    def double(x: Any) -> Any:
        raise NotImplementedError

    report = judged(double)
    assert statuses(report) == ["unanswered", "not run", "not run"]
    assert "not written yet" in text_card(report)
    missing = judged(None)
    assert statuses(missing)[0] == "missing"
    assert "no `double` here" in text_card(missing)


def endless(x: Any) -> Any:
    while True:
        pass


def stubborn(x: Any) -> Any:
    while True:
        try:
            while True:
                pass
        except BaseException:
            if time.monotonic() > STOP[0]:
                raise


STOP = [0.0]


@pytest.mark.parametrize("by_thread", [False, True])
def test_an_endless_loop_is_stopped(monkeypatch: pytest.MonkeyPatch, by_thread: bool) -> None:
    if by_thread:
        monkeypatch.delattr(answers.signal, "setitimer")
    start = time.monotonic()
    report = judged(endless, HASTY)
    assert statuses(report) == ["out of time", "not run", "not run"]
    assert "loop that never ends" in text_card(report)
    assert time.monotonic() - start < 5


def test_a_loop_that_catches_everything_is_interrupted_again() -> None:
    STOP[0] = time.monotonic() + 0.9
    assert statuses(judged(stubborn, HASTY))[0] == "out of time"


def test_what_learners_print_is_shown_and_cut() -> None:
    def double(x: Any) -> Any:
        print("here I am", "x" * 10_000)
        return 2 * x

    report = judged(double)
    assert report.passed
    assert report.printed.startswith("here I am")
    assert len(report.printed) < 5_000


def test_crashes_are_told_with_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {}
    exec(compile("def double(x):\n    return x.nothing\n", "<cell 3>", "exec"), namespace)
    report = run("00_test", LAWS, Answer(Here(namespace)))
    assert "raised AttributeError" in report.outcomes[0].message
    for wild in (SystemExit, KeyboardInterrupt, RecursionError, MemoryError):

        def double(x: Any, wild: type[BaseException] = wild) -> Any:
            raise wild

        assert wild.__name__ in judged(double).outcomes[0].message
    assert capsys.readouterr().out == ""


class Sly:
    def __eq__(self, other: object) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return Sly()

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("value", [None, Sly(), "4.0", [[4.0]], {}, np.array(["4"])])
def test_wrong_kinds_are_told_in_words(value: Any) -> None:
    report = judged(lambda x: value)  # noqa: ARG005
    assert report.points == 0
    assert "result" in report.outcomes[0].message
    if value is None:
        assert "is a `return` missing?" in report.outcomes[0].message


def test_results_that_change_from_call_to_call_are_told() -> None:
    calls = iter(range(10**6))
    report = judged(lambda x: 2 * x if next(calls) % 3 else 3 * x - 1)
    assert report.points < report.worth


def test_a_broken_grader_is_not_the_learners_fault() -> None:
    def broken(answer: Any) -> None:
        answer.double(1 / 0)

    law = Law("test_broken", DOUBLE, 1.0, "x", False, broken)
    with pytest.raises(Unsound, match="failed by itself"):
        run("00_test", [law], Answer(Here({"double": lambda x: x})))
    with pytest.raises(Unsound, match="needs @points"):
        laws_of({"test_x": broken})


def test_a_result_that_a_law_cannot_use_is_a_wrong_answer() -> None:
    def law_of_arrays(answer: Any) -> None:
        close(answer.double(np.array([1.0])).sum(), 2.0)

    law = Law("test_sum", DOUBLE, 1.0, "x", False, law_of_arrays)
    report = run("00_test", [law], Answer(Here({"double": lambda x: {"two": 2}})))  # noqa: ARG005
    assert report.outcomes[0].message == "This result cannot be judged: it is a dict of 1."


def test_a_broken_law_is_told_even_if_the_time_ends_while_a_smaller_example_is_sought() -> None:
    def slow(x: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return 2 * x + (np.abs(x) > 1)

    law = replace(HASTY[1], question=replace(DOUBLE, seconds=0.6))
    report = run("00_test", [law], Answer(Here({"double": slow})))
    assert report.outcomes[0].status == "failed"
    assert "expected" in report.outcomes[0].message


def test_refused_answers_score_nothing() -> None:
    report = run("00_test", LAWS, Answer(Here({"double": lambda x: 2 * x})), "It calls the library.")
    assert report.points == 0
    assert "It calls the library." in text_card(report)


def test_cards_escape_what_learners_wrote() -> None:
    def double(x: Any) -> Any:
        print("<script>alert(1)</script>")
        raise ValueError("<img src=x onerror=alert(1)>")

    page = html_card(judged(double))
    assert "<script>" not in page
    assert "<img" not in page


# ---- objects and gradients --------------------------------------------------------------------


def test_objects_stay_where_they_are_and_can_be_used() -> None:
    class Counter:
        def __init__(self, start: int) -> None:
            self.count = start

        def add(self, n: int) -> int:
            self.count += n
            return self.count

        def __call__(self) -> int:
            return self.count

    answer = Answer(Here({"Counter": Counter, "read": lambda counter: counter.count}))
    counter = answer.Counter(3)
    assert counter.add(4) == 7
    assert counter.count.value() == 7
    assert counter() == 7
    assert answer.read(counter) == 7
    assert repr(counter) == "an object of type Counter"


def test_gradients_come_as_vector_jacobian_products() -> None:
    torch = pytest.importorskip("torch")
    answer = Answer(Here({"f": lambda x, y: x**2 * y, "g": lambda x: x.detach()}))
    x, y, weight = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]), torch.tensor([1.0, 10.0])
    output, (by_x, by_y) = answer.f.vjp(x, y, cotangent=weight, wrt=(0, 1))
    assert torch.equal(output, x**2 * y)
    assert torch.equal(by_x, 2 * x * y * weight)
    assert torch.equal(by_y, x**2 * weight)
    assert answer.g.vjp(x, cotangent=weight)[1] == [None]


def test_calls_that_fail_have_kinds() -> None:
    answer = Answer(Here({"f": lambda: 1 / 0}))
    with pytest.raises(Crashed) as crashed:
        answer.f()
    assert crashed.value.kind == "ZeroDivisionError"
    with pytest.raises(Missing):
        answer.g()
    answer.new_deadline(time.monotonic() - 1)
    with pytest.raises(OutOfTime):
        answer.f()


# ---- what graders ask -------------------------------------------------------------------------


@pytest.mark.parametrize("right", [2.0, 2, np.float32(2), np.array(2.0), 2.0 + 1e-9])
def test_close_takes_any_kind_of_number(right: Any) -> None:
    close(right, 2.0)
    assert number(right) == pytest.approx(2)


@pytest.mark.parametrize("wrong", [2.001, True, [2.0], np.array([2.0]), None, "2", float("nan")])
def test_close_refuses_what_is_no_such_number(wrong: Any) -> None:
    with pytest.raises(Broken):
        close(wrong, 2.0)


def test_tolerance_is_that_of_the_coarsest_type() -> None:
    close(np.float32(1) / np.float32(3), 1 / 3)
    with pytest.raises(Broken):
        close(1 / 3 + 1e-6, 1 / 3)
    close(1 / 3 + 1e-6, 1 / 3, like=np.zeros(1, np.float32))


def test_other_demands() -> None:
    assert array([1, 2], (2,)).tolist() == [1, 2]
    zero(np.array([0.0, -0.0, 3.0]), where=np.array([True, True, False]))
    finite(np.array([1, 2]))
    finite(2.5)
    same({"a": np.int64(1)}, {"a": 1})
    for demand in (
        lambda: array([1, 2], (3,)),
        lambda: array(np.zeros(2, np.float64), dtype="float32"),
        lambda: zero(np.array([1e-30])),
        lambda: finite(np.array([np.inf])),
        lambda: same(1.0, 1),
        lambda: same([1], (1,)),
        lambda: same(np.array([1, 2]), np.array([1, 3])),
    ):
        with pytest.raises(Broken):
            demand()


def test_refusals_want_the_right_kind_and_a_message() -> None:
    def strict(x: int) -> int:
        if x == 1:
            raise ValueError("x is 1; expected another number")
        if x == 2:
            raise ValueError
        if x == 3:
            raise KeyError("x")
        return x

    answer = Answer(Here({"strict": strict}))
    assert "expected" in refuses(answer.strict, 1)
    for x, why in ((2, "without a message"), (3, "it raised KeyError"), (4, "it returned 4")):
        with pytest.raises(Broken, match=why):
            refuses(answer.strict, x)
