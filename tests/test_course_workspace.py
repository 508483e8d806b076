"""The learner's folder: nothing in it is ever overwritten, nothing is lost, whatever happens."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_course import ADDING, course, make_course, notebook, put  # noqa: F401

from m6rec_mini.course import chapters
from m6rec_mini.course.workspace import Workspace, WorkspaceError, find, nearest, put_new, reset, start

NOW = datetime(2026, 11, 24, 6, 15, 0, tzinfo=timezone(timedelta(hours=9)))
ALL = {
    "README.md",
    "exercises/01_adding/01_adding.ipynb",
    "exercises/01_adding/numbers.csv",
    "exercises/02_more/02_more.ipynb",
    "lessons/01_adding.ipynb",
    "lessons/02_more.ipynb",
    "lessons/plus.svg",
}


def files(root: Path) -> dict[str, bytes]:
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()}


# ---- start -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("course")
def test_a_workspace_has_all_and_nothing_hidden(tmp_path: Path) -> None:
    done = start(tmp_path / "mine")
    assert set(files(tmp_path / "mine")) == ALL == {str(path) for path in done.added}
    assert not done.left
    assert not done.lacking
    lesson = nbformat.read(done.workspace.lesson(ADDING), as_version=4)
    nbformat.validate(lesson)
    assert [cell.cell_type for cell in lesson.cells] == ["markdown", "code"]
    assert lesson.cells[1].source == "1 + 1"
    assert lesson.metadata.kernelspec.name == "python3"
    assert done.workspace.exercise(ADDING).stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_start_again_adds_what_is_new_and_touches_nothing(course: Path, tmp_path: Path) -> None:  # noqa: F811
    root = tmp_path / "mein Kurs 课程"
    start(root)
    put(root / "exercises" / ADDING / f"{ADDING}.ipynb", "my work")
    (root / "README.md").write_text("my notes")
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in root.rglob("*") if file.is_file()}
    put(course / "exercises" / "03_new" / "03_new.ipynb", notebook())
    put(course / "exercises" / ADDING / f"{ADDING}.ipynb", "another edition")
    done = start(root)
    assert [str(path) for path in done.added] == ["exercises/03_new/03_new.ipynb"]
    assert {str(path) for path in done.left} == ALL
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in before} == before
    assert not start(root).added


@settings(max_examples=20)
@given(there=st.dictionaries(st.sampled_from(sorted(ALL)), st.sampled_from(["file", "folder", "link"])))
def test_nothing_is_ever_overwritten(there: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setattr(chapters, "folder", make_course(Path(scratch) / "course"))
        root = Path(scratch) / "mine"
        for name, kind in there.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            if kind == "file":
                (root / name).write_text(f"my {name}")
            elif kind == "folder":
                (root / name).mkdir()
            else:
                (root / name).symlink_to("nowhere")
        done = start(root)
        assert {str(path) for path in done.left} == set(there)
        assert {str(path) for path in done.added} == ALL - set(there)
        for name, kind in there.items():
            kept = root / name
            assert {"file": kept.is_file, "folder": kept.is_dir, "link": kept.is_symlink}[kind]()
            assert kind != "file" or kept.read_text() == f"my {name}"


@pytest.mark.parametrize("way", ["mine", "mine/lessons", "mine/exercises/01_adding", "mine/.m6rec"])
@pytest.mark.usefixtures("course")
def test_a_file_in_the_way_is_named(way: str, tmp_path: Path) -> None:
    blocked = put(tmp_path / way, "mine")
    with pytest.raises(WorkspaceError, match="is a file where a folder should be") as error:
        start(tmp_path / "mine")
    assert str(blocked) in str(error.value)
    assert blocked.read_text() == "mine"
    with pytest.raises(WorkspaceError, match="is a file where"):
        start(blocked / "deeper")


def test_a_folder_that_cannot_be_written_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with locked_course() as folder:
        monkeypatch.setattr(chapters, "folder", folder.joinpath)
        with pytest.raises(WorkspaceError, match=r"cannot be written \(Permission denied\); give another folder"):
            start(folder / "mine")


@contextmanager
def locked_course() -> Iterator[Path]:
    """A course in a folder without write permission, and a user whom that stops."""
    folder = Path(tempfile.mkdtemp())
    make_course(folder)
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.usefixtures("course")
def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WorkspaceError, match="No space left"):
            start(tmp_path / "mine")
    assert not files(tmp_path / "mine")
    assert len(start(tmp_path / "mine").added) == len(ALL)


@pytest.mark.usefixtures("course")
def test_lessons_wait_for_the_library_that_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "jupytext", None)  # as if it were not installed
        done = start(tmp_path / "mine")
    assert 'pip install "m6rec-mini[study]"' in done.lacking
    lessons = {"lessons/01_adding.ipynb", "lessons/02_more.ipynb"}
    assert {str(path) for path in done.added} == ALL - lessons
    assert {str(path) for path in start(tmp_path / "mine").added} == lessons
    monkeypatch.setitem(sys.modules, "jupytext", None)
    assert not start(tmp_path / "mine").lacking  # what is there needs no library


def test_an_empty_course_says_so(course: Path, tmp_path: Path) -> None:  # noqa: F811
    shutil.rmtree(course / "exercises")
    with pytest.raises(WorkspaceError, match="the course is empty: there are no exercises in"):
        start(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_the_course_itself_is_no_workspace(course: Path) -> None:  # noqa: F811
    before = files(course)
    with pytest.raises(WorkspaceError, match="where the course itself lies"):
        start(course)
    assert files(course) == before


def no_links(*_: object) -> None:
    raise OSError(errno.EPERM, "this drive has no links")


@pytest.mark.parametrize("links", [True, False])
def test_of_many_who_write_one_wins_and_its_file_is_whole(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    contents = [bytes([n]) * 50_000 for n in range(6)]
    with ThreadPoolExecutor(6 if links else 1) as pool:
        won = list(pool.map(lambda content: put_new(tmp_path / "x", content), contents))
    assert sum(won) == 1
    assert files(tmp_path) == {"x": contents[won.index(True)]}


def test_the_nearest_workspace_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "outer" / "m6rec-course" / "exercises" / ADDING
    deep.mkdir(parents=True)
    (deep.parents[1] / ".m6rec").mkdir()
    assert nearest(deep) == Workspace(deep.parents[1])
    assert nearest(tmp_path) is None
    monkeypatch.chdir(deep)
    assert find() == Workspace(deep.parents[1])
    monkeypatch.chdir(tmp_path / "outer")
    assert find() == find(tmp_path / "outer") == Workspace(deep.parents[1])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkspaceError, match=r"there is no workspace in .*; make one with `m6rec start`"):
        find()
    with pytest.raises(WorkspaceError, match="is not there"):
        find(tmp_path / "nowhere")


# ---- reset -----------------------------------------------------------------------------------


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.usefixtures("course")
def test_reset_keeps_every_old_notebook(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = start(tmp_path / "mine").workspace
    notebook, fresh = mine.exercise(ADDING), mine.exercise(ADDING).read_bytes()
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    kept = []
    for n in range(3):  # within one second
        notebook.write_text(f"work {n}")
        kept.append(reset(mine, ADDING, NOW))
        assert notebook.read_bytes() == fresh
    names = [path.name for path in kept if path is not None]
    assert names == [f"{ADDING}.2026-11-24T061500{end}.ipynb" for end in ("", "-2", "-3")]
    assert [path.read_text() for path in kept if path is not None] == ["work 0", "work 1", "work 2"]
    assert len(list(notebook.parent.iterdir())) == 5  # these, the notebook, and numbers.csv


@pytest.mark.usefixtures("course")
def test_reset_brings_back_what_is_gone_and_refuses_a_folder(tmp_path: Path) -> None:
    mine = start(tmp_path / "mine").workspace
    mine.exercise(ADDING).unlink()
    assert reset(mine, ADDING, NOW) is None
    assert mine.exercise(ADDING).is_file()
    mine.exercise(ADDING).unlink()
    mine.exercise(ADDING).mkdir()
    with pytest.raises(WorkspaceError, match="is a folder"):
        reset(mine, ADDING, NOW)
    with pytest.raises(WorkspaceError, match="the course has no exercise 09_none"):
        reset(mine, "09_none", NOW)


@pytest.mark.usefixtures("course")
def test_a_reset_that_is_cut_short_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = start(tmp_path / "mine").workspace
    mine.exercise(ADDING).write_text("work")

    replace_file = Path.replace

    def cut(file: Path, target: Path) -> Path:
        if target == mine.exercise(ADDING):
            raise KeyboardInterrupt
        return replace_file(file, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut)
        with pytest.raises(KeyboardInterrupt):
            reset(mine, ADDING, NOW)
    assert mine.exercise(ADDING).read_text() == "work"
    assert not [path for path in mine.exercise(ADDING).parent.iterdir() if path.name.startswith(".")]
