"""`make notebooks`: from one source to the solution's notebook and the learner's.

    solutions/NN/NN.py  →  solutions/NN/NN.ipynb  →  nbgrader generate_assignment  →  exercises/NN/NN.ipynb

The one idea: what a learner gets is what nbgrader itself releases, so a teacher who runs
`nbgrader generate_assignment NN` in the repository gets the same file, byte for byte.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from m6rec_mini.course.chapters import CHECKOUT, chapter_names, load
from m6rec_mini.course.errors import Unsound

SCHEMA = 3  # of nbgrader's metadata
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
SOLUTION = re.compile(r"### BEGIN SOLUTION(.*?)### END SOLUTION", re.DOTALL)


def build(names: Sequence[str] | None = None, root: Path = CHECKOUT) -> list[Path]:
    """Write the notebooks of these chapters, or of all; returns the files that changed."""
    changed = []
    for name in names or chapter_names():
        source = root / "solutions" / name / f"{name}.py"
        changed += _write(source.with_suffix(".ipynb"), solution_notebook(name, source.read_text(encoding="utf-8")))
    for name, text in released(names or chapter_names(), root):
        leaks = leaked(text, (root / "solutions" / name / f"{name}.py").read_text(encoding="utf-8"))
        if leaks:
            raise Unsound(f"the learner's notebook of {name} would give away: {leaks[0]}")
        changed += _write(root / "exercises" / name / f"{name}.ipynb", text)
    return changed


def stale(names: Sequence[str] | None = None, root: Path = CHECKOUT) -> list[Path]:
    """The committed notebooks that are not what `build` would write, with nothing written."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("solutions", "exercises"):
            shutil.copytree(root / part, copy / part)
        shutil.copy(root / "nbgrader_config.py", copy)
        return [root / file.relative_to(copy) for file in build(names, copy)]


def solution_notebook(name: str, source: str) -> str:
    """The percent script as a notebook with nbgrader's marks. Raises Unsound where a mark is missing or wrong."""
    import jupytext

    notebook = jupytext.reads(source, fmt="py:percent")
    worth = {question: sum(law.points for law in laws) for question, laws in load(name).questions.items()}
    marked: list[str] = []
    for number, cell in enumerate(notebook.cells):
        marks = dict(cell.metadata)
        cell.metadata = _metadata(marks, worth)
        cell["id"] = str(cell.metadata.get("nbgrader", {}).get("grade_id", f"cell-{number:02}"))
        marked += [f"{kind} {marks[kind]}" for kind in ("answer", "check") if kind in marks]
    wanted = [f"{kind} {question}" for question in worth for kind in ("answer", "check")]
    if marked != wanted:
        raise Unsound(f"{name} should have the cells {wanted}, in this order, as its grader does; it has {marked}")
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    return _text(notebook)


def _metadata(marks: dict[str, Any], worth: dict[str, float]) -> dict[str, Any]:
    """nbgrader's marks, from ours."""
    common = {"schema_version": SCHEMA, "task": False, "cell_type": "code"}
    for kind in ("answer", "check"):
        if kind in marks and marks[kind] not in worth:
            raise Unsound(f"a cell is marked {kind}={marks[kind]!r}, but the grader asks for {', '.join(worth)}")
    if "answer" in marks:
        return {"nbgrader": common | {"grade_id": marks["answer"], "solution": True, "grade": False, "locked": False}}
    if "check" in marks:
        name = marks["check"]
        graded = {"grade_id": f"check-{name}", "solution": False, "grade": True, "locked": True, "points": worth[name]}
        return {"nbgrader": common | graded}
    return {"tags": ["demo"]} if "demo" in marks else {}


def released(names: Sequence[str], root: Path) -> Iterator[tuple[str, str]]:
    """What nbgrader releases of these solutions, made in a folder of its own."""
    beside = str(Path(sys.executable).parent)  # nbgrader calls alembic by name
    env = {**os.environ, "PATH": os.pathsep.join([beside, os.environ.get("PATH", "")])}
    with tempfile.TemporaryDirectory() as folder:
        course = Path(folder)
        shutil.copy(root / "nbgrader_config.py", course)
        for name in names:
            (course / "solutions" / name).mkdir(parents=True)
            shutil.copy(root / "solutions" / name / f"{name}.ipynb", course / "solutions" / name)
            command = [sys.executable, "-m", "nbgrader", "generate_assignment", name, "--create", "--force"]
            done = subprocess.run(command, cwd=course, env=env, capture_output=True, text=True, check=False)
            made = course / "exercises" / name / f"{name}.ipynb"
            if done.returncode or not made.exists():
                raise Unsound(f"nbgrader could not release {name}: {done.stderr[-2000:]}")
            yield name, made.read_text(encoding="utf-8")


def leaked(notebook: str, source: str) -> list[str]:
    """Lines of the answers that a learner's notebook shows, outputs, and marks that it should not have."""
    found = []
    cells = json.loads(notebook)["cells"]
    shown = {line.strip() for cell in cells for line in "".join(cell["source"]).split("\n")}
    for answer in SOLUTION.findall(source):
        secret = {line.strip() for line in answer.split("\n")}
        others = {line.strip() for line in SOLUTION.sub("", source).split("\n")}
        found += sorted(line for line in (secret - others) & shown if len(line) > 3 and not line.startswith("#"))
    for cell in cells:
        if cell.get("outputs") or cell.get("execution_count"):
            found.append(f"the output of cell {cell.get('id')}")
        odd = set(cell.get("metadata", {})) - {"nbgrader", "tags", "deletable", "editable"}
        found += [f"metadata {name} of cell {cell.get('id')}" for name in sorted(odd)]
    return found


def _text(notebook: Any) -> str:
    import nbformat

    nbformat.validate(notebook)
    return str(nbformat.writes(notebook, version=nbformat.NO_CONVERT)) + "\n"  # type: ignore[no-untyped-call]


def _write(file: Path, text: str) -> list[Path]:
    """Write if it differs; a kill leaves the old file or the new."""
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return []
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)
    return [file]


def main(arguments: Sequence[str]) -> int:
    """`python -m m6rec_mini.course.build [--check] [NAME …]`: write the notebooks, or say which are not current."""
    names = [name for name in arguments if name != "--check"] or None
    try:
        files = stale(names) if "--check" in arguments else build(names)
    except Unsound as error:
        print(error, file=sys.stderr)
        return 2
    for file in files:
        print(f"{'not current' if '--check' in arguments else 'written'}: {file}")
    return int("--check" in arguments and bool(files))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
