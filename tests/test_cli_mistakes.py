"""Every mistake that one can make at the command line gets one message, which says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import one_history, refused, run, write
from conftest import TinyModel

from m6rec_mini import jobs
from m6rec_mini.recommender import Recommender


@pytest.fixture
def history(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """The events of one user of the tiny world."""
    return one_history(tiny_model.data, tmp_path / "history.jsonl")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recommend", "--model", "nowhere"], ["nowhere", "no model.json", "m6rec train"]),
        (["evaluate", "--model", "nowhere"], ["nowhere", "no model.json"]),
        (["train", "--model", "m", "--data", "nonsense"], ["'nonsense'", "world, movielens, lastfm, folder"]),
        (["train", "--model", "m", "--data", "folder"], ["folder needs the path"]),
        (["train", "--model", "m", "--data", "folder", "--path", "nowhere"], ["nowhere does not exist"]),
        (["train", "--model", "m", "--data", "fsdd"], ["fsdd has no items with histories"]),
        (["train", "--model", "m", "--device", "toaster"], ["'toaster'", "--device cpu"]),
        (["data", "movielens"], ["give the path of its folder", "GroupLens"]),
        (["data", "nonsense"], ["'nonsense'"]),
        (["data", "open_bandit", "--path", "nowhere"], ["nowhere does not exist", "ZOZO"]),
    ],
)
def test_a_mistake_gets_a_message(
    words: list[str], said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(run(*words), *said)
    assert not list(tmp_path.iterdir())


def test_a_damaged_model_is_named(tiny_model: TinyModel, tmp_path: Path) -> None:
    def damage(name: str, content: bytes) -> Path:
        folder = tmp_path / name.replace(".", "-")
        shutil.copytree(tiny_model.model, folder)
        (folder / name).write_bytes(content)
        return folder

    whole = (tiny_model.model / "model.safetensors").read_bytes()
    short = damage("model.safetensors", whole[: len(whole) // 2])
    refused(run("recommend", "--model", short), "model.safetensors", "cut short", "copy it again")
    foreign = damage("model.json", b'{"format": "somebody else"}')
    refused(run("recommend", "--model", foreign), foreign.name, "'somebody else'")
    refused(run("recommend", "--model", damage("reader.json", b"{")), "reader-json", "damaged")
    refused(run("recommend", "--model", tiny_model.model / "model.json"), "is not a saved model")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ["is empty (0 bytes)"]),
        ('{"user": "u", "item": "x"', ["row 1", "not JSON"]),
        ('{"user": "u", "item": "x", "action": "buy", "timestamp": 5}', ["row 1", "action", "view, like, comment"]),
        ('{"user": "u", "item": "x", "action": "view", "timestamp": 5}', ["item 'x'", "add it to the candidates"]),
    ],
)
def test_a_bad_history_is_named(tiny_model: TinyModel, tmp_path: Path, content: str, said: list[str]) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text(content)
    refused(run("recommend", "--model", tiny_model.model, "--history", file), str(file), *said)


def test_unknown_items_of_a_history_may_be_skipped(tiny_model: TinyModel, history: Path) -> None:
    with history.open("a") as file:
        user = json.loads(history.read_text().splitlines()[0])["user"]
        file.write(json.dumps({"user": user, "item": "gone", "action": "view", "timestamp": 1_700_000_000}) + "\n")
    ask = ["recommend", "--model", tiny_model.model, "--history", history, "--format", "json"]
    refused(run(*ask), "'gone'", history.name)
    result = run(*ask, "--skip-bad")
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)) == 10
    assert "'gone'" in result.stderr


def test_of_several_users_one_must_be_chosen(tiny_model: TinyModel) -> None:
    ask = ["recommend", "--model", tiny_model.model, "--history", tiny_model.data / "events.jsonl", "--format", "json"]
    refused(run(*ask), "events.jsonl", "24 users", "--user user-00000")
    refused(run(*ask, "--user", "nobody"), "no event of user 'nobody'")
    one, other = (json.loads(run(*ask, "--user", f"user-0000{n}").stdout) for n in (0, 1))
    assert one != other


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], ["row 2", "id 'a' stands in row 1 already"]),
        ([{"id": "a"}], ["row 1", "no modality at all"]),
        ([{"id": "a", "image": "none.png"}], ["row 1", "none.png does not exist"]),
        ([{"id": "a", "features": {"smell": [1, 2]}}], ["'a' has only smell", "reads text, image, audio"]),
    ],
)
def test_bad_candidates_are_named(
    tiny_model: TinyModel, tmp_path: Path, records: list[dict[str, Any]], said: list[str]
) -> None:
    file = write(tmp_path / "candidates.jsonl", records)
    refused(run("recommend", "--model", tiny_model.model, "--candidates", file), str(file), *said)


def test_candidates_that_cannot_be_read_may_be_skipped(tiny_model: TinyModel, tmp_path: Path) -> None:
    records = [{"id": "a", "features": {"smell": [1, 2]}}, {"id": "b", "image": "none.png"}, {"id": "c", "text": "x"}]
    file = write(tmp_path / "candidates.jsonl", records)
    ask = ["recommend", "--model", tiny_model.model, "--candidates", file, "--format", "json", "--skip-bad"]
    result = run(*ask)
    assert [place["id"] for place in json.loads(result.stdout)] == ["c"]
    assert "none.png" in result.stderr
    assert "smell" in result.stderr


def test_a_folder_in_place_of_a_file(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = tmp_path / "items.jsonl"
    folder.mkdir()
    for option in ("--history", "--candidates"):
        refused(run("recommend", "--model", tiny_model.model, option, folder), str(folder), "is a folder")


def test_a_model_is_replaced_only_by_force_and_nothing_else_ever(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, other = tmp_path / "saved", tmp_path / "other"
    shutil.copytree(tiny_model.model, saved)
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    refused(run("train", "--model", saved), "saved holds a model already", "--force")
    refused(run("train", "--model", other, "--force"), "not by a model")
    assert (other / "thesis.txt").read_text() == "years of work"
    recommender = Recommender.load(saved)
    monkeypatch.setattr(jobs, "train", lambda *_: recommender)
    before = (saved / "model.json").stat().st_mtime_ns
    ask = ["train", "--data", "folder", "--path", tiny_model.data, "--model", saved, "--device", "cpu", "--force"]
    assert run(*ask).exit_code == 0
    assert (saved / "model.json").stat().st_mtime_ns > before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "saved"]


def test_a_model_that_cannot_be_saved_leaves_the_old_one(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model.model, tmp_path / "m")
    recommender = Recommender.load(tmp_path / "m")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "m"))

    monkeypatch.setattr(Recommender, "save", full)
    with pytest.raises(OSError, match="No space"):
        jobs.save_model(recommender, tmp_path / "m")
    Recommender.load(tmp_path / "m")


def test_users_with_too_few_events_cannot_be_tested_on(tiny_model: TinyModel, tmp_path: Path) -> None:
    shutil.copytree(tiny_model.data, tmp_path / "d")
    lines = (tmp_path / "d" / "events.jsonl").read_text("utf-8").splitlines()
    (tmp_path / "d" / "events.jsonl").write_text("\n".join(lines[:2]), encoding="utf-8")
    refused(run("train", "--model", tmp_path / "m", "--data", "folder", "--path", tmp_path / "d"), "has 3 events")
