"""The proof itself: slips are made as promised, and a weak grader is found out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from m6rec_mini.course import chapters
from m6rec_mini.course.errors import Unsound
from m6rec_mini.course.prove import command, proof
from m6rec_mini.course.prove.cheats import EqualsEverything, filled
from m6rec_mini.course.prove.mutants import mutants


def slips(source: str) -> list[str]:
    return [mutant.source for mutant in mutants(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", {"a <= b"}),
        ("a + b", {"a - b"}),
        ("a - b", {"a + b", "b - a"}),
        ("a @ b", {"b @ a"}),
        ("not a", {"a"}),
        ("a and b", {"a or b"}),
        ("f(1)", {"f(2)", "f(0)", "1", "pass"}),
        ("y = 0.5", {"y = 1.0"}),
        ("x[1:]", {"x[:]", "x[2:]", "x[0:]"}),
        (
            "np.max(x, axis=0)",
            {"np.min(x, axis=0)", "np.max(x)", "np.max(x, axis=1)", "np.max(x, axis=-1)", "x", "pass"},
        ),
        ("x += 1", {"x -= 1", "x += 2", "x += 0", "pass"}),
        ("a if b else c", {"a if not b else c"}),
    ],
)
def test_every_slip_is_made_once(source: str, expected: set[str]) -> None:
    found = slips(source)
    assert set(found) == expected
    assert len(found) == len(set(found))


def test_words_for_people_are_left_alone() -> None:
    source = '''
def f(x: int = 0) -> int:
    """Adds 1 to 2."""
    if x:
        raise ValueError(f"{x + 1} is more than {2}")
    return x
'''
    found = slips(source)
    assert all("Adds 1 to 2." in text for text in found)
    assert not any("x - 1" in text for text in found)
    assert any("pass" in text for text in found)  # the raise itself may go


def test_cheats_keep_the_shape_and_nothing_else() -> None:
    value = {"a": np.ones((2, 3), np.float32), "b": (1, [2.5], "word")}
    out = filled(value, 0.0)
    assert out["a"].dtype == np.float32
    assert out["a"].sum() == 0
    assert out["b"] == (0, [0.0], "")
    assert EqualsEverything() == 3


GRADER = """
from m6rec_mini.course.expect import close
from m6rec_mini.course.grader import Question, hidden, points, teaches

ABSOLUTE = Question("absolute", "Without a sign", "sign", ("a", "b", "c"))

@points(1, ABSOLUTE)
@teaches("Positive numbers stay.")
def test_positive(answer):
    close(answer.absolute(3.0), 3.0)

@points(3, ABSOLUTE)
@hidden
@teaches("Negative numbers lose their sign.")
def test_negative(answer):
    close(answer.absolute(-2.0), 2.0)
    close(answer.absolute(-0.5), 0.5)
    close(answer.absolute(0.5), 0.5)
"""
SOLUTION = """
# %% answer="absolute"
def absolute(x: float) -> float:
    ### BEGIN SOLUTION
    return -x if x < 0 else x
    ### END SOLUTION
"""
WRONG = '"""Returns it as it is."""\nQUESTION = "absolute"\nREJECTED_BY = "test_negative"\ndef absolute(x): return x\n'
RIGHT = '"""By the library."""\nQUESTION = "absolute"\ndef absolute(x): return abs(x)\n'
BY_EVAL = RIGHT.replace("abs(x)", 'eval("abs(x)")')
NAME = "01_signs"


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A chapter with one question, sound but for having too few answers on file."""
    files = {
        f"graders/test_{NAME}.py": GRADER,
        f"solutions/{NAME}/{NAME}.py": SOLUTION,
        **{f"tests/wrong_answers/{NAME}/w{n}.py": WRONG for n in range(4)},
        **{f"tests/right_answers/{NAME}/r{n}.py": RIGHT for n in range(2)},
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    for module in (chapters, proof, command):
        monkeypatch.setattr(module, "folder", lambda part: tmp_path / part)
    monkeypatch.setattr(proof, "CHECKOUT", tmp_path)
    proof.solution_cells.cache_clear()
    yield tmp_path
    proof.solution_cells.cache_clear()


def change(course: Path, name: str, old: str, new: str) -> None:
    file = course / name
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def problems() -> list[str]:
    (line,) = proof.prove(NAME, workers=0)
    return line.problems


def test_a_sound_chapter_is_found_sound(course: Path) -> None:
    lines = proof.prove(NAME, workers=0)
    assert [(line.reference, line.right, line.wrong, line.sound) for line in lines] == [(True, (2, 2), (4, 4), False)]
    assert lines[0].killed > 0
    assert lines[0].problems == ["a mutant survives: absolute, line 3: x < 0  ->  x <= 0"]  # the same for 0


def test_equivalent_mutants_are_excused_with_a_reason_and_only_those(course: Path) -> None:
    survivors = [problem.removeprefix("a mutant survives: ") for problem in problems()]
    assert survivors
    excuses = dict.fromkeys(survivors, "0 and -0 are the same number")
    file = course / "tests" / "wrong_answers" / NAME / "equivalent.json"
    file.write_text(json.dumps(excuses), encoding="utf-8")
    assert problems() == []
    file.write_text(json.dumps(excuses | {"absolute, line 9: x  ->  y": "no such line"}), encoding="utf-8")
    assert ["no such" in p or "does not exist" in p for p in problems()] == [True]


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (f"solutions/{NAME}/{NAME}.py", "-x if", "x if", "the reference fails: "),
        (f"tests/right_answers/{NAME}/r0.py", "abs(x)", "x", "right answer r0 is rejected by"),
        (f"tests/wrong_answers/{NAME}/w1.py", "return x", "return abs(x)", "wrong answer w1 passes test_negative"),
        (f"tests/right_answers/{NAME}/r1.py", RIGHT, BY_EVAL, "which can run anything"),
        (f"graders/test_{NAME}.py", "@points(1", "@points(9", "the cheat that returns its first argument gets 9 of 12"),
        (f"graders/test_{NAME}.py", "answer.absolute(0.5), 0.5", "answer.absolute(9.0), 9.0", "0  ->  1"),
    ],
)  # fmt: skip
def test_what_is_unsound_is_named(course: Path, name: str, old: str, new: str, said: str) -> None:
    change(course, name, old, new)
    assert any(said in problem for problem in problems()), problems()


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("wrong_answers", 'REJECTED_BY = "test_negative"', 'REJECTED_BY = "test_nothing"', "a law of absolute"),
        ("wrong_answers", '"""Returns it as it is."""', "", "needs a docstring"),
        ("wrong_answers", 'QUESTION = "absolute"', 'QUESTION = "other"', "QUESTION"),
    ],
)
def test_answers_without_their_marks_are_refused(course: Path, name: str, old: str, new: str, said: str) -> None:
    change(course, f"tests/{name}/{NAME}/w0.py", old, new)
    with pytest.raises(Unsound, match=said):
        proof.prove(NAME, workers=0)


def test_the_command_prints_the_table_and_what_is_wrong(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(course, f"tests/wrong_answers/{NAME}/w1.py", "return x", "return abs(x)")
    assert not command.run([NAME], 0, Console(width=100))
    printed = capsys.readouterr().out
    assert "3/4" in printed
    assert "wrong answer w1 passes test_negative" in printed
    (course / "solutions" / NAME / f"{NAME}.py").unlink()
    (course / "solutions" / NAME).rmdir()
    (course / "solutions").rmdir()
    with pytest.raises(ValueError, match="only a checkout"):
        command.run([NAME], 0, Console())


def test_numpy_questions_are_judged_without_torch() -> None:
    """So that they also run where there is no torch: in a browser. Some chapters ask for modules, and say so."""
    graders = {name: chapters.folder("graders") / f"test_{name}.py" for name in chapters.chapter_names()}
    plain = [name for name, file in graders.items() if "import torch" not in file.read_text(encoding="utf-8")]
    assert {"02_measuring", "07_multimodal_fusion", "11_long_tail_reinforcement"} <= set(plain)
    code = (
        "import sys\n"
        "from m6rec_mini.course.chapters import load\n"
        "from m6rec_mini.course.prove.proof import judged\n"
        "assert all(judged(load('02'), name, None).passed for name in load('02').questions)\n"
        "found = [load(name) for name in sys.argv[1:]]\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *plain], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
