"""The command line as a person uses it: train, evaluate, recommend, look at data."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from commands import one_history, refused, run, write, write_events
from conftest import TinyModel
from typer.testing import Result

from m6rec_mini import jobs
from m6rec_mini.catalog import Event
from m6rec_mini.datasets.folder import load_folder, read_events
from m6rec_mini.recommender import Recommender
from m6rec_mini.training import CheckpointError, Epoch, load_tensors


@pytest.fixture
def history(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """The events of one user of the tiny world."""
    return one_history(tiny_model.data, tmp_path / "history.jsonl")


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
