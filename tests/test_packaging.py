"""What is shipped: its metadata, its files, its pins, and a README whose examples work."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import m6rec_mini
from m6rec_mini.catalog import Sound
from m6rec_mini.datasets.folder import load_folder
from m6rec_mini.datasets.media import write_image, write_sound

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
INSTALLING = ("Makefile", "constraints.txt", "pyproject.toml", ".ci/run")
MACHINE_PATH = re.compile(r"(?<![\w.:/])(/(work|home|root|Users|tmp)/|[A-Z]:\\)\w")  # a home, a drive


def tracked_texts() -> dict[str, str]:
    """Every text file that git tracks, by name; skips outside a checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    names = [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    if not names:
        pytest.skip("not a git checkout")
    return {name: (ROOT / name).read_text(encoding="utf-8", errors="replace") for name in names}


def pins() -> dict[str, Version]:
    """The versions of constraints.txt, by name; every line must be one exact version."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    exact = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in exact}


def test_the_installed_package_says_what_it_is() -> None:
    try:
        about = importlib.metadata.distribution("m6rec-mini")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed; `make install` does it")
    assert about.version == m6rec_mini.__version__
    assert about.metadata["Requires-Python"] == "<3.14,>=3.11"
    assert about.metadata["License-Expression"] == "Apache-2.0"
    (command,) = about.entry_points.select(group="console_scripts")
    assert command.name == "m6rec"
    assert callable(command.load())


def test_every_file_of_the_package_reaches_the_wheel() -> None:
    package = Path(m6rec_mini.__file__).parent
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["m6rec_mini"]
    shipped = {file for pattern in patterns for file in package.glob(pattern)}
    assert package / "py.typed" in shipped
    others = {file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    assert {file for file in others if file.suffix != ".py"} == shipped


def test_the_course_reaches_the_wheel(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assets = tmp_path / "m6rec_mini" / "course" / "assets"
    for part, source in (("lessons", "lessons"), ("exercises", "exercises"), ("graders", "tests/graders")):
        files = {
            file.name for file in (ROOT / source).rglob("*[0-9][0-9]_*") if file.suffix in (".py", ".md", ".ipynb")
        }
        assert files
        assert files == {file.name for file in (assets / part).rglob("*") if file.is_file()}
    assert not list(assets.rglob("*solution*"))


def test_all_that_ci_installs_is_pinned_to_a_version_that_pyproject_allows() -> None:
    pinned, extras = pins(), PROJECT["project"]["optional-dependencies"]
    for text in [*PROJECT["project"]["dependencies"], *extras["dev"], *extras["minilm"], *extras["study"]]:
        wanted = Requirement(text)
        assert pinned[canonicalize_name(wanted.name)] in wanted.specifier, text


def test_installing_names_no_host_so_that_any_mirror_will_do() -> None:
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in INSTALLING}
    assert [name for name, text in texts.items() if re.search(r"://|index-url|find-links", text)] == []


def test_no_tracked_file_knows_a_path_of_one_machine() -> None:
    assert MACHINE_PATH.search("read('/home" + "/ann/films')")
    assert MACHINE_PATH.search("D:" + "\\films")
    found = {name: MACHINE_PATH.search(text) for name, text in tracked_texts().items()}
    assert {name: match.group() for name, match in found.items() if match} == {}


def test_the_data_of_the_readme_load(tmp_path: Path) -> None:
    """The two JSON blocks are items.jsonl and events.jsonl; the media that they name are made here."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, block in zip(("items", "events"), re.findall(r"```json\n(.*?)```", readme, re.DOTALL), strict=True):
        (tmp_path / f"{name}.jsonl").write_text(block, encoding="utf-8")
    items = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    for folder in ("images", "sounds"):
        (tmp_path / folder).mkdir()
    for item in items:
        if "image" in item:
            write_image(tmp_path / item["image"], np.full((8, 8, 3), 200, np.uint8))
        if "audio" in item:
            write_sound(tmp_path / item["audio"], Sound(np.full(800, 0.1, np.float32), 8000))
    catalog, _ = load_folder(tmp_path)
    assert {name for item in catalog.items for name in item.modalities} == {"text", "image", "audio", "look"}
    assert {event.action for event in catalog.events} == {"view", "like", "comment"}
