"""The command line as a person uses it: train, evaluate, recommend; and every mistake one can make on the way."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import TinyModel
from typer.testing import CliRunner, Result

from m6rec_mini import jobs
from m6rec_mini.catalog import Event
from m6rec_mini.cli import app
from m6rec_mini.datasets.folder import load_folder, read_events
from m6rec_mini.recommender import Recommender
from m6rec_mini.training import CheckpointError, Epoch, load_tensors


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(result: Result, *said: str) -> str:
    """A user's mistake: exit code 2, one message on stderr with all of `said`, nothing on stdout, no traceback."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""
    for words in said:
        assert words in result.stderr
    return result.stderr


@pytest.fixture
def history(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """The events of one user of the tiny world."""
    events = read_events(tiny_model.data / "events.jsonl")[0]
    return write_events(tmp_path / "history.jsonl", [event for event in events if event.user == events[0].user])


def write_events(file: Path, events: Sequence[Event]) -> Path:
    return write(file, ({"user": e.user, "item": e.item, "action": e.action, "timestamp": e.timestamp} for e in events))


def write(file: Path, records: Any) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


@pytest.fixture
def candidates(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """Some items of the tiny world, and two new ones: words alone, and a picture and a sound alone."""
    records = [json.loads(line) for line in (tiny_model.data / "items.jsonl").read_text("utf-8").splitlines()]
    image, audio = (next(r for r in records if name in r) for name in ("image", "audio"))
    for source, name in ((image, "image"), (audio, "audio")):
        shutil.copy(tiny_model.data / source[name], tmp_path / Path(source[name]).name)
    files = {"image": Path(image["image"]).name, "audio": Path(audio["audio"]).name}
    known = [{k: v for k, v in record.items() if k not in files} for record in records[40:52] if "text" in record]
    new = [{"id": "words", "text": "A guide to tea"}, {"id": "media", "title": "没有文字", **files}]
    return write(tmp_path / "candidates.jsonl", [*known, *new])


# ---- the journey ----------------------------------------------------------------------------------


def test_training_shows_each_stage_saves_and_cleans_up(tiny_model: TinyModel) -> None:
    for stage in ("encoders", "decoder", "writing"):
        assert f"{stage:<9} epoch  1/1" in tiny_model.printed
    assert f"Saved in {tiny_model.model}" in tiny_model.printed
    assert not list(tiny_model.model.parent.glob("model?*"))  # neither checkpoints nor half a model
    assert len(Recommender.load(tiny_model.model).items) == 100


def test_evaluation_prints_metrics_with_intervals(tiny_model: TinyModel) -> None:
    result = run("evaluate", "--model", tiny_model.model, "--data", "folder", "--path", tiny_model.data)
    assert result.exit_code == 0, result.output
    rows = {line.split("  ")[1]: line for line in result.stdout.splitlines() if line.startswith("  ")}
    assert {"hr@10", "ndcg@10", "mrr", "coverage@10", "gini@10", "tail hr@50"} <= rows.keys()
    assert " to " in rows["hr@10"]
    assert result.stderr == ""


def test_evaluation_says_which_items_are_new_to_the_model(tiny_model: TinyModel, tmp_path: Path) -> None:
    more = tmp_path / "more"
    shutil.copytree(tiny_model.data, more)
    with (more / "items.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "new", "text": "A guide to tea"}\n')
    result = run("evaluate", "--model", tiny_model.model, "--data", "folder", "--path", more)
    assert result.exit_code == 0
    assert "1 of 101 items are new to this model" in result.stderr


def test_a_list_is_the_same_as_table_json_csv_and_from_python(
    tiny_model: TinyModel, history: Path, candidates: Path
) -> None:
    ask = ["recommend", "--model", tiny_model.model, "--history", history, "--candidates", candidates, "--k", 5]
    as_table, as_json, as_csv = (run(*ask, "--format", form) for form in ("table", "json", "csv"))
    for result in (as_table, as_json, as_csv):
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
    places = json.loads(as_json.stdout)
    rows = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    items, events = jobs.read_items(candidates)[0], read_events(history)[0]
    expected = Recommender.load(tiny_model.model).recommend(events, items, 5)
    assert [place["id"] for place in places] == [row["id"] for row in rows] == [place.item.id for place in expected]
    assert [place["score"] for place in places] == [float(row["score"]) for row in rows]
    assert [place["score"] for place in places] == pytest.approx([place.score for place in expected])
    assert [place["score"] for place in places] == sorted((place["score"] for place in places), reverse=True)
    assert places[0].keys() >= {"rank", "title", "domain", "reason", "words", "because", "modalities", "attention"}
    for place in places:
        assert f"{place['score']:.2f}" in as_table.stdout


def test_new_candidates_are_ranked_by_what_they_have(tiny_model: TinyModel, history: Path, candidates: Path) -> None:
    ask = ["--history", history, "--candidates", candidates, "--k", 50, "--format", "json", "--seen-too"]
    result = run("recommend", "--model", tiny_model.model, *ask)
    places = {place["id"]: place for place in json.loads(result.stdout)}
    assert set(places["words"]["modalities"]) == {"text"}
    assert set(places["media"]["modalities"]) == {"image", "audio"}
    assert places["media"]["title"] == "没有文字"


def test_without_files_a_new_user_gets_the_models_own_items(tiny_model: TinyModel) -> None:
    result = run("recommend", "--model", tiny_model.model, "--format", "csv", "-k", 3)
    assert len(list(csv.DictReader(io.StringIO(result.stdout)))) == 3


def test_when_all_is_seen_the_list_is_empty_and_says_why(tiny_model: TinyModel, tmp_path: Path) -> None:
    known = Recommender.load(tiny_model.model).items[0].id
    past = write_events(tmp_path / "one.jsonl", [Event("ann", known, "like", 1_700_000_000)])
    same = write(tmp_path / "same.jsonl", [{"id": known, "text": "A guide to tea"}])
    ask = ["recommend", "--model", tiny_model.model, "--history", past, "--candidates", same, "--format", "json"]
    result = run(*ask)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == []
    assert "--seen-too" in result.stderr
    assert len(json.loads(run(*ask, "--seen-too").stdout)) == 1


def test_a_history_may_hold_a_new_candidate(tiny_model: TinyModel, tmp_path: Path) -> None:
    past = write_events(tmp_path / "one.jsonl", [Event("ann", "tea", "like", 1_700_000_000)])
    new = write(tmp_path / "new.jsonl", [{"id": "tea", "text": "A guide to tea"}, {"id": "cup", "text": "Cups"}])
    result = run("recommend", "--model", tiny_model.model, "--history", past, "--candidates", new, "--format", "json")
    assert [place["id"] for place in json.loads(result.stdout)] == ["cup"]


def test_a_stopped_training_goes_on_to_the_same_model(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = ["train", "--data", "folder", "--path", tiny_model.data, "--model", tmp_path / "m", "--device", "cpu"]
    show = jobs.TrainingProgress.__call__

    def stop(progress: jobs.TrainingProgress, done: Epoch) -> None:
        show(progress, done)
        if done.stage == "decoder":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(jobs.TrainingProgress, "__call__", stop)
        stopped = run(*ask, "--epochs", 1)
    assert stopped.exit_code == 130
    assert "the same command goes on" in stopped.stderr
    assert not (tmp_path / "m").exists()
    refused(run(*ask, "--epochs", 2), "m.training holds an unfinished run with other data or settings")
    result = run(*ask, "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "Going on from" in result.stdout
    assert not (tmp_path / "m.training").exists()
    unbroken, resumed = (load_tensors(folder / "model.safetensors")[0] for folder in (tiny_model.model, tmp_path / "m"))
    assert unbroken.keys() == resumed.keys()
    for name, tensor in unbroken.items():
        assert torch.equal(tensor, resumed[name]), name


# ---- data -----------------------------------------------------------------------------------------


def test_data_alone_lists_every_data_set() -> None:
    result = run("data")
    assert result.exit_code == 0
    for name in ("world", "movielens", "lastfm", "folder", "open_bandit", "fsdd"):
        assert name in result.stdout


def test_data_shows_a_folder_and_writes_it_again(tiny_model: TinyModel, tmp_path: Path) -> None:
    result = run("data", "folder", "--path", tiny_model.data, "--out", tmp_path / "copy")
    assert result.exit_code == 0, result.output
    for words in ("synthetic world", "100, ", "text", "image", "audio", "view", "like", "comment", "Licence: yours"):
        assert words in result.stdout
    one, other = (load_folder(folder)[0] for folder in (tiny_model.data, tmp_path / "copy"))
    assert [item.id for item in one.items] == [item.id for item in other.items]
    assert one.events == other.events


def test_data_that_are_no_catalogs_are_shown_too(shared_data: Path) -> None:
    logs = run("data", "open_bandit", "--path", shared_data / "open_bandit_small")
    assert "random: 10,000 rounds" in logs.stdout
    refused(run("data", "fsdd", "--path", shared_data / "fsdd", "--out", "x"), "leave out --out")


def test_a_broken_picture_stops_or_is_skipped_and_reported(tiny_model: TinyModel, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model.data, broken)
    picture = sorted((broken / "images").iterdir())[0]
    picture.write_bytes(b"not a picture")
    ask = ["data", "folder", "--path", broken]
    refused(run(*ask), picture.name, "--skip-bad", "items.jsonl")
    result = run(*ask, "--skip-bad")
    assert result.exit_code == 0
    assert picture.name in result.stderr
    assert "99, " in result.stdout


# ---- mistakes -------------------------------------------------------------------------------------


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


# ---- the frame ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["recommend"],
        ["recommend", "--model", "m", "--k", "0"],
        ["recommend", "--model", "m", "--format", "xml"],
        ["no"],
    ],
)
def test_a_wrong_command_line_is_refused(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_version_and_help() -> None:
    assert "m6rec-mini" in run("--version").stdout
    text = run("--help").stdout
    for command in ("demo", "data", "train", "evaluate", "recommend", "benchmark"):
        assert command in text


def test_our_own_mistakes_keep_their_traceback_and_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: BaseException) -> Result:
        def load(*_: Any) -> None:
            raise error

        monkeypatch.setattr(Recommender, "load", load)
        return run("recommend", "--model", "m")

    assert fail(KeyboardInterrupt()).exit_code == 130
    refused(fail(PermissionError(13, "Permission denied", "m")), "m: Permission denied; check")
    for error in (KeyError(), ValueError("raised here, as if by a library")):
        assert fail(error).exception is error


def test_a_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("M6REC_TRACEBACK", "1")
    assert isinstance(run("recommend", "--model", tmp_path).exception, CheckpointError)


def test_benchmark_and_demo_get_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}
    spy = SimpleNamespace(run_benchmark=lambda path, out, **options: asked.update(path=path, out=out, **options))
    monkeypatch.setitem(sys.modules, "m6rec_mini.benchmark", spy)
    assert run("benchmark", "--path", tmp_path, "--seeds", 2, "--quick").exit_code == 0
    assert (asked["path"], asked["seeds"], asked["quick"], asked["out"]) == (tmp_path, 2, True, Path("benchmarks"))
    monkeypatch.setattr("m6rec_mini.demo.run_demo", lambda out, _, config: asked.update(out=out, config=config))
    assert run("demo", "--out", tmp_path, "--seed", 3, "--items", 100, "--users", 20).exit_code == 0
    world = asked["config"].world
    assert (asked["out"], world.seed, world.items, world.users) == (tmp_path, 3, 100, 20)
    assert asked["config"].recipe.seed == 3
