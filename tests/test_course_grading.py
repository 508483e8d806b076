"""Grades for files: the same points as in a notebook, for damaged files a reason, and nothing lost on the way."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged import ALL, CHAPTER, GOOD, HINTS, earned, graded, sandboxed

from m6rec_mini.course import grade_command, grading
from m6rec_mini.course.cells import percent_cells
from m6rec_mini.course.chapters import Chapter, NoSuchChapterError
from m6rec_mini.course.checking import judge_namespace
from m6rec_mini.course.expect import close, require
from m6rec_mini.course.grader import Question, laws_of, points, teaches
from m6rec_mini.course.grading import grade_file
from m6rec_mini.course.namespace import run_cells
from m6rec_mini.course.remote import Servers
from m6rec_mini.course.sandbox import Isolation

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the fork server needs a system that can fork")


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with sandboxed(160 * 2**20) as found:
        yield found


# ---- the same points as in a notebook --------------------------------------------------------

HONEST = {
    "right": GOOD,
    "prints and warns": GOOD.replace("return 2 *", "print('so'); import warnings; warnings.warn('oh'); return 2 *"),
    "wrong sign": GOOD.replace("2 * x", "-2 * x"),
    "first only": GOOD.replace("2 * x", "2 * x[:1]"),
    "raises": GOOD.replace("return 2 * x", "raise KeyError('x')"),
    "not written": GOOD.replace("return 2 * x", "raise NotImplementedError()"),
    "missing": GOOD.replace("def double", "def doubled"),
    "no return": GOOD.replace("return 2 * x", "2 * x"),
    "shared state": GOOD.replace("self.seen = {}", "pass").replace("class Tally:", "class Tally:\n    seen = {}"),
    "text for numbers": GOOD.replace("return 2 * x", "return 'two'"),
    "lookup error": GOOD.replace("return 2 * x", "raise LookupError('x')"),
    "mutates": GOOD.replace("return 2 * x", "x *= 2; return x"),
    "own kind of error": GOOD.replace("return 2 * x", "raise type('E', (BaseException,), {})('x')"),
    "error without words": GOOD.replace(
        "return 2 * x", "raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})()"
    ),
    "syntax error in one cell": "# %%\n" + GOOD + "# %%\ndef f(:\n",
    "name error in one cell": "# %%\nprint(nowhere)\n# %%\n" + GOOD,
    "magics": "# %%\n%matplotlib inline\n!pip list\n" + GOOD,
    "forbidden": GOOD.replace("2 * x", "np.multiply(2, x)"),
    "imports check": "from m6rec_mini.course import check, demo\n" + GOOD,
}


@pytest.mark.parametrize("name", HONEST)
def test_three_places_give_the_same_points(name: str, servers: Servers, tmp_path: Path) -> None:
    here = {}
    for question in CHAPTER.questions:
        namespace = run_cells(percent_cells(HONEST[name]))
        (tmp_path / "own.py").write_text(HONEST[name], encoding="utf-8")
        namespace["__file__"] = str(tmp_path / "own.py")
        here[question] = judge_namespace(CHAPTER, question, namespace)
    there = graded(HONEST[name], tmp_path, servers)
    assert earned(there) == {question: report.points for question, report in here.items()}
    for report in there.reports:
        assert [o.message for o in report.outcomes] == [o.message for o in here[report.question].outcomes]
        assert report.isolation == there.isolation == "sandbox"
    assert there.points == sum(earned(there).values())
    assert there.worth == 6


def test_torch_answers_and_their_gradients(tmp_path: Path, servers: Servers) -> None:
    question = Question("square", "Square", "", HINTS, seconds=20.0)

    @points(1, question)
    @teaches("The gradient of a square is twice the number.")
    def test_gradient(answer: Any) -> None:
        torch = pytest.importorskip("torch")
        output, (gradient,) = answer.square.vjp(torch.tensor([3.0, 4.0]), cotangent=torch.ones(2))
        close(output, np.array([9.0, 16.0], np.float32))
        close(gradient, np.array([6.0, 8.0], np.float32))

    chapter = Chapter("97_torch", tuple(laws_of({"test_gradient": test_gradient})))
    (tmp_path / "a.py").write_text("import torch\ndef square(x):\n    return torch.square(x)\n")
    assert grade_file(tmp_path / "a.py", chapter, servers).points == 1


# ---- damaged files ---------------------------------------------------------------------------


def notebook(*cells: str) -> str:
    return json.dumps({"cells": [{"cell_type": "code", "metadata": {}, "source": cell} for cell in cells]})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a notebook"),
        ("{", "is not a notebook"),
        ("[1, 2]", "its JSON is a list"),
        ('{"cells": 7}', "no list of cells"),
        ("[" * 100_000, "not a notebook"),
        (notebook(GOOD)[:-20], "cut off"),
        ("\x00\xff\x7fELF", "is not a notebook"),
    ],
    ids=["empty", "brace", "list", "no cells", "deep", "cut", "binary"],
)
def test_a_file_that_cannot_be_read_scores_nothing_and_says_why(
    text: str, says: str, servers: Servers, tmp_path: Path
) -> None:
    found = graded(text, tmp_path, servers, "ünï 名前 🎈.ipynb")
    assert says in found.reason
    assert found.points == 0
    assert found.worth == 6
    assert {outcome.status for report in found.reports for outcome in report.outcomes} == {"not run"}
    assert json.loads(found.to_json())["reason"] == found.reason


def test_what_is_no_file_is_not_followed(servers: Servers, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(GOOD)
    (tmp_path / "link.py").symlink_to(tmp_path / "other.py")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "folder.py").mkdir()
    for name, says in [
        ("link.py", "a link"),
        ("pipe.py", "no ordinary file"),
        ("folder.py", "a folder"),
        ("no.py", "not there"),
    ]:
        found = grade_file(tmp_path / name, CHAPTER, servers)
        assert says in found.reason
        assert found.points == 0
    assert grade_file(tmp_path / ("x" * 300), CHAPTER, servers).reason


def test_notebooks_are_graded_like_scripts(servers: Servers, tmp_path: Path) -> None:
    text = notebook("%%time\nx", "import numpy as np", GOOD, "check('98_try.double')").replace("\\n", "\\r\\n")
    assert earned(graded(text, tmp_path, servers, "a.ipynb")) == ALL


# ---- which chapter ---------------------------------------------------------------------------


@pytest.fixture
def two_chapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = "from m6rec_mini.course.grader import Question, points, teaches\n"
    for name, question in (("98_try", "double"), ("99_other", "halve")):
        body = f"Q = Question({question!r}, 'T', '', ('a', 'b', 'c'))\n@points(1, Q)\n@teaches('it')\n"
        law = f"def test_{question}(answer):\n    assert answer.{question}(2.0) == 4.0\n"
        (tmp_path / f"test_{name}.py").write_text(head + body + law)
    monkeypatch.setattr("m6rec_mini.course.chapters.folder", lambda _: tmp_path)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("99_other.py", "x = 1"),
        ("ada_99_other_final (2).py", "check('98_try.double')"),
        ("ada.py", "check('99_other.halve')\ncheck('99_other.halve')\ncheck('98_try.double')"),
        ("homework 99.py", "x = 1"),
        ("ada.py", '# %% answer="halve"\nx = 1'),
    ],
)
def test_the_chapter_is_found(file: str, source: str, servers: Servers, tmp_path: Path, two_chapters: None) -> None:
    (tmp_path / file).write_text(source)
    assert grade_file(tmp_path / file, None, servers).chapter == "99_other"


def test_a_chapter_that_nothing_tells_is_a_reason(servers: Servers, tmp_path: Path, two_chapters: None) -> None:
    (tmp_path / "ada.py").write_text("x = 1")
    found = grade_file(tmp_path / "ada.py", None, servers)
    assert "which chapter" in found.reason
    assert found.reports == ()
    with pytest.raises(NoSuchChapterError):
        grade_file(tmp_path / "ada.py", "77", servers)


# ---- faults on our side ----------------------------------------------------------------------


def test_a_law_that_stumbles_costs_itself_alone(servers: Servers, tmp_path: Path) -> None:
    question = Question("double", "T", "", HINTS, seconds=1.0)

    @points(1, question)
    @teaches("it")
    def test_stumbles(answer: Any) -> None:
        raise RuntimeError("a mistake in the law")

    @points(2, question)
    @teaches("it")
    def test_holds(answer: Any) -> None:
        require(answer.double(1.0) == 2.0, "wrong")

    laws = laws_of({"test_stumbles": test_stumbles, "test_holds": test_holds})
    (tmp_path / "a.py").write_text(GOOD)
    found = grade_file(tmp_path / "a.py", Chapter("96_stumbles", tuple(laws)), servers)
    assert [outcome.points for outcome in found.reports[0].outcomes] == [0, 2]
    assert [outcome.status for outcome in found.reports[0].outcomes] == ["not run", "passed"]
    assert "test_stumbles" in found.notes[0]


def test_a_law_that_loops_over_what_it_got_is_stopped(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grading, "GRACE", -0.7)
    question = Question("double", "T", "", HINTS, seconds=1.0)

    @points(1, question)
    @teaches("it")
    def test_counts_up(answer: Any) -> None:
        for _ in range(answer.double(10**18)):
            pass

    (tmp_path / "a.py").write_text(GOOD)
    start = time.monotonic()
    found = grade_file(
        tmp_path / "a.py", Chapter("95_loops", tuple(laws_of({"test_counts_up": test_counts_up}))), servers
    )
    assert found.points == 0
    assert found.reports[0].outcomes[0].status == "out of time"
    assert time.monotonic() - start < 20


def test_without_a_process_nothing_is_graded_and_a_teacher_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(GOOD)
    with Servers(Isolation("sandbox", "/bin/false")) as broken:
        found = grade_file(tmp_path / "a.py", CHAPTER, broken)
    assert found.points == 0
    assert found.worth == 6
    assert "did not start" in found.notes[0]


# ---- the command -----------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path, two_chapters: None) -> list[Path]:
    good, bad = tmp_path / "[red]98_try.py", tmp_path / "98_try.ipynb"
    good.write_text("def double(x):\n    return 2 * x")
    bad.write_text("{")
    return [good, bad]


def test_the_command_prints_a_table_for_each_file(
    files: list[Path], capsys: pytest.CaptureFixture[str], servers: Servers
) -> None:
    assert grade_command.grade(files[:1], isolation=servers.isolation) == 0
    assert grade_command.grade(files, isolation=servers.isolation) == 1
    printed = capsys.readouterr().out
    assert "[red]98_try.py: 1 of 1 points" in printed
    assert "98_try.ipynb: 0 of 1 points" in printed
    assert "in a sandbox" in printed
    assert "not a notebook" in " ".join(printed.split())


def test_the_command_prints_json_a_line_for_each_file(
    files: list[Path], capsys: pytest.CaptureFixture[str], servers: Servers
) -> None:
    grade_command.grade(files, chapter="98", json=True, isolation=servers.isolation)
    good, bad = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (good["points"], good["isolation"], good["questions"][0]["outcomes"][0]["status"]) == (
        1,
        "sandbox",
        "passed",
    )
    assert bad["reason"]


def test_a_class_is_not_graded_without_a_sandbox_unless_trusted(
    files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    weak = Isolation("process", why_not="nothing here")
    assert grade_command.grade(files, isolation=weak) == 2
    heard = capsys.readouterr()
    assert heard.out == ""
    assert "nothing here" in heard.err
    assert grade_command.grade(files[:1], isolation=weak) == 0
    assert "trusted code only" in capsys.readouterr().out
    assert grade_command.grade(files, trusted=True, isolation=weak) == 1
    assert grade_command.grade(files[:1], chapter="no such", isolation=weak) == 2
