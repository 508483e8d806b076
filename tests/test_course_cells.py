"""Submissions are read as text, however damaged; and an answer that leaves the work to others is found."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m6rec_mini.course.cells import UnreadableError, graded, notebook_cells, percent_cells, read_cells, runnable
from m6rec_mini.course.forbidden import forbidden_use
from m6rec_mini.course.namespace import BROKEN, run_cells

ANSWER = {
    "cell_type": "code",
    "metadata": {"nbgrader": {"grade_id": "f", "solution": True}},
    "source": "def f(): return 1",
}
CHECK = {
    "cell_type": "code",
    "metadata": {"nbgrader": {"grade_id": "check-f", "grade": True}},
    "source": "check('x.f')",
}
DEMO = {"cell_type": "code", "metadata": {"tags": ["demo"]}, "source": "1 / 0"}


def notebook(*cells: Any, **more: Any) -> str:
    return json.dumps({"nbformat": 4, "cells": list(cells), **more})


def kinds(text: str) -> list[tuple[str, str]]:
    return [(cell.kind, cell.name) for cell in notebook_cells(text)]


def test_cells_are_told_apart() -> None:
    other = {"cell_type": "code", "source": ["import math\n", "x = 1"]}
    text = {"cell_type": "markdown", "source": "words"}
    assert kinds(notebook(other, text, ANSWER, CHECK, DEMO)) == [
        ("other", ""), ("answer", "f"), ("check", "f"), ("demo", ""),
    ]  # fmt: skip


def test_an_answer_that_also_checks_is_still_an_answer() -> None:
    both = {**ANSWER, "source": "def f(): return 1\ncheck('x.f')"}
    lost = {"cell_type": "code", "source": "def f(): return 1\ncheck('x.f')"}
    alone = {"cell_type": "code", "source": "# try\ncheck('x.f')\n"}
    assert [kind for kind, _ in kinds(notebook(both, lost, alone))] == ["answer", "other", "check"]


def test_an_answer_that_was_turned_into_text_counts() -> None:
    assert kinds(notebook({**ANSWER, "cell_type": "markdown"})) == [("answer", "f")]


def test_a_notebook_of_the_third_format_is_read() -> None:
    old = {"nbformat": 3, "worksheets": [{"cells": [{"cell_type": "code", "input": "x = 1"}]}]}
    assert [cell.source for cell in notebook_cells(json.dumps(old))] == ["x = 1"]


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "not a notebook"), ("[]", "its JSON is a list"), ("{}", "no list of cells"), ('{"cells": 3}', "no list"),
     (notebook(ANSWER)[:-9], "cut off"), ("[" * 100_000, "not a notebook")],
)  # fmt: skip
def test_what_is_no_notebook_is_told(text: str, why: str) -> None:
    with pytest.raises(UnreadableError, match=why):
        notebook_cells(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.sampled_from(["code", "markdown"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["cells", "cell_type", "source", "metadata", "nbgrader", "tags", "worksheets", "x"]), inner
        )
    ),
    max_leaves=25,
)


@given(json_values, st.integers(0, 400))
def test_no_mutation_of_a_notebook_raises_anything_but_its_own_error(value: Any, cut: int) -> None:
    for text in (json.dumps(value), json.dumps({"cells": [value, ANSWER]})[:cut], json.dumps({"cells": value})):
        with contextlib.suppress(UnreadableError):
            notebook_cells(text)


def test_files_of_every_kind(tmp_path: Path) -> None:
    windows = tmp_path / "作业 答案.ipynb"
    windows.write_bytes(b"\xef\xbb\xbf" + notebook(ANSWER).replace("\n", "\r\n").encode())
    assert read_cells(windows)[0].name == "f"
    script = tmp_path / "a.py"
    script.write_text('import math\n# %% [markdown]\n# words\n# %% answer="f"\ndef f(): return 1\n', encoding="utf-8")
    assert [(cell.kind, cell.name) for cell in read_cells(script)] == [("other", ""), ("answer", "f")]
    with pytest.raises(UnreadableError, match="not there"):
        read_cells(tmp_path / "none.ipynb")
    with pytest.raises(UnreadableError, match="folder"):
        read_cells(tmp_path)


def test_magics_and_shell_lines_are_passed_over() -> None:
    assert runnable("%matplotlib inline\n!rm x\nx = 1").splitlines()[2] == "x = 1"
    assert runnable("%%bash\nrm x") == ""
    namespace = run_cells(percent_cells("%matplotlib inline\nx = 1"))
    assert namespace["x"] == 1


def test_a_cell_that_fails_takes_nothing_from_the_others() -> None:
    namespace = run_cells(percent_cells("# %%\nx = 1\n# %%\ny =\n# %%\n1/0\n# %%\nraise SystemExit\n# %%\nz = 2\n"))
    assert (namespace["x"], namespace["z"]) == (1, 2)
    assert len(namespace[BROKEN]) == 3
    assert "SyntaxError" in namespace[BROKEN][0]


def test_checks_and_demos_do_not_run_for_a_grade() -> None:
    assert [cell.kind for cell in graded(notebook_cells(notebook(ANSWER, CHECK, DEMO)))] == ["answer"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import numpy as np\ndef f(x): return np.linalg.svd(x)", "numpy.linalg.svd"),
        ("from numpy import linalg as la\ndef f(x): return la.svd(x)", "numpy.linalg.svd"),
        ("def f(x):\n    from numpy.linalg import svd as s\n    return s(x)", "numpy.linalg.svd"),
        ("import numpy as np\ndef g(x): return np.linalg.svd(x)\ndef f(x): return g(x)", "numpy.linalg.svd"),
        ("import numpy as np\ng = np.linalg.svd\ndef f(x): return g(x)", "numpy.linalg.svd"),
        ("class f:\n    def go(self, x): return x.softmax(0)", "softmax"),
        ("def f(x):\n    from m6rec_mini.evaluation import ndcg\n    return ndcg(x)", "the reference"),
        ("import m6rec_mini.fusion as m\ndef f(x): return m.fuse(x)", "the reference"),
        ("from m6rec_mini.fusion import g\ny = g(1)\ndef f(x): return y", "the reference"),
        ("from m6rec_mini.fusion import g\ndef f(x):\n    global y\n    y = g\n    return y(x)", "the reference"),
        ("def f(x): return eval('x')", "eval"),
        ("def f(x): return __import__('numpy')", "__import__"),
    ],
)
def test_work_left_to_others_is_found(source: str, found: str) -> None:
    assert found in forbidden_use([source], "f", ("numpy.linalg.svd", ".softmax"))


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\ndef f(x): return np.linalg.norm(x)",
        "import numpy as np\ndef f(x): return x\ndef unrelated(x): return np.linalg.svd(x)",
        "from m6rec_mini.course import check\ndef f(x): return x",
        "def svd(x): return x\ndef f(x): return svd(x)",
        "from m6rec_mini.fusion import g\nwith demo('f'):\n    y = g(1)\ndef f(x):\n    y = x + 1\n    return y",
        "from m6rec_mini.fusion import g\nys = [n for n in g(1)]\nh = lambda n: g(n)\ndef f(x): return n + x",
        "from m6rec_mini.fusion import g\nwith demo('f'):\n    y = g(1)\ndef f(x): return y",
        "from m6rec_mini import fusion\ndef f(fusion): return fusion + 1",
        "def f(x): return 1 +",
        "",
    ],
)
def test_honest_work_is_not_accused(source: str) -> None:
    assert forbidden_use([source], "f", ("numpy.linalg.svd", ".softmax")) == ""
