"""`pytest tests/graders` judges the reference; `--answer FILE` judges a notebook or a script in its place.

pytest tests/graders/test_07_multimodal_fusion.py --answer my_notebook.ipynb
"""

from __future__ import annotations

from pathlib import Path

import pytest

from m6rec_mini.course.answers import Answer, Here
from m6rec_mini.course.cells import read_cells
from m6rec_mini.course.chapters import folder
from m6rec_mini.course.namespace import run_cells


def pytest_addoption(parser: pytest.Parser) -> None:
    """Whose code is judged."""
    parser.addoption("--answer", type=Path, help="a notebook (.ipynb) or a script (.py) with the answers")


@pytest.fixture(scope="module")
def answer(request: pytest.FixtureRequest) -> Answer:
    """The names that the answers define, run in this process: only for code that you trust."""
    chapter = request.path.stem.removeprefix("test_")
    given: Path | None = request.config.getoption("--answer", default=None)
    return Answer(Here(run_cells(read_cells(given or folder("solutions") / chapter / f"{chapter}.py"))))
