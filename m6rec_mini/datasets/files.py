"""Where reading and writing touch the disk: what is a usable file, what lies inside a folder.

Two ideas. A path in somebody's table is a claim to be checked, never followed blindly. And a
folder is written beside its place and then renamed, so that a half-written one never has its name.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

from m6rec_mini.catalog import DataError


def check_file(path: Path, max_bytes: int | None = None) -> None:
    """Raise DataError unless `path` is a readable, regular file that is neither empty nor too big."""
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected a file: give the path of one file in it")
    if not path.exists():
        raise DataError(f"{path} does not exist; check its spelling, upper and lower case included")
    if not path.is_file() or not os.access(path, os.R_OK):
        raise DataError(f"{path} cannot be read: it is no regular file, or its permissions forbid it")
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path} is empty (0 bytes); was it copied to the end?")
    if max_bytes is not None and size > max_bytes:
        raise DataError(f"{path} has {size:,} bytes; at most {max_bytes:,} are read: shorten or shrink it")


def inside(folder: Path, relative: str) -> Path:
    """The file that `relative` names under `folder`.

    Raises DataError if it lies elsewhere: an absolute path, one with `..` (in the manner of
    Windows too, so that a table means the same everywhere), or a link that leads out.
    """
    windows = PureWindowsPath(relative)  # splits at both / and \
    if "\0" in relative or windows.drive or windows.root or ".." in windows.parts:
        raise DataError(f"path {relative[:80]!r} leaves the folder; give it relative to {folder}, without '..'")
    try:
        path = folder / relative
        leaves = not path.resolve().is_relative_to(folder.resolve())
        path.exists()  # asks the system, which refuses names that are too long
    except OSError as error:
        raise DataError(f"path {relative[:80]!r} cannot be a file: {error.strerror}") from error
    if leaves:
        raise DataError(f"path {relative[:80]!r} is a link that leaves {folder}; copy the file into the folder")
    return path


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden sibling to write into; it takes the name `path` when the block ends well.

    Raises DataError if `path` is taken by a file or by a folder with something in it. If the
    block raises, the sibling is removed and nothing appears.
    """
    path = path.resolve()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path} is there already and is not an empty folder; choose another name or remove it")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            path.rmdir()  # Windows cannot rename onto a folder, even an empty one
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
