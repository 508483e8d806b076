"""The benchmark: its jobs and plan, a whole run on a tiny world, and the way to other packages."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from benchmark_builders import WORLD, console, films, ranked

from m6rec_mini.baselines import EASE, RecencyEASE
from m6rec_mini.benchmark import jobs as jobs_module
from m6rec_mini.benchmark import run as run_module
from m6rec_mini.benchmark import run_benchmark
from m6rec_mini.benchmark import tables as tables_module
from m6rec_mini.benchmark.jobs import Data, Job, Result, finished, job_file, run_job, shuffle_modalities
from m6rec_mini.benchmark.report import PROTOCOL
from m6rec_mini.benchmark.run import plan, recipe_for, run_jobs
from m6rec_mini.benchmark.tables import (
    number,
)
from m6rec_mini.catalog import Catalog, Item
from m6rec_mini.datasets.world import WorldConfig, make_world
from m6rec_mini.evaluation import bootstrap_mean, evaluate, leave_one_out, paired_bootstrap
from m6rec_mini.recipe import Recipe

ROOT = Path(__file__).parents[1]
REAL_LOAD = jobs_module._load


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    """A world so small that a training takes a second."""
    return make_world(WorldConfig(items=60, users=30, min_events=3, mean_events=12.0)).catalog


@pytest.fixture(scope="module")
def tiny(catalog: Catalog) -> Iterator[None]:
    """Every job reads the tiny world, and intervals are drawn from few repetitions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs_module, "_load", lambda *_: catalog)
        patch.setattr(tables_module, "bootstrap_mean", partial(bootstrap_mean, samples=20))
        patch.setattr(tables_module, "paired_bootstrap", partial(paired_bootstrap, samples=20))
        yield


# ---- jobs and files ---------------------------------------------------------------------------


def test_shuffling_keeps_text_and_who_has_what_and_moves_the_rest() -> None:
    before = films()
    after = shuffle_modalities(before, seed=1)
    assert [item.text for item in after.items] == [item.text for item in before.items]
    assert [item.modalities for item in after.items] == [item.modalities for item in before.items]
    shades = [[int(i.image[0, 0, 0]) for i in c.items if i.image is not None] for c in (before, after)]
    looks = [[float(i.features["look"][0]) for i in c.items] for c in (before, after)]
    for old, new in (shades, looks):
        assert sorted(old) == sorted(new)
        assert old != new
    assert [e.item for e in after.events] == [e.item for e in before.events]
    again = shuffle_modalities(before, seed=1)
    assert [i.features["look"][0] for i in again.items] == looks[1]


def test_a_result_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    row = ranked([1, 5], tied=[True, False], tail=[False, True])
    Result({"cold: joined": row}, {"seconds": {"decoder": 1.5}}).save(tmp_path / "jobs" / "x.npz", "print")
    loaded, fingerprint = Result.load(tmp_path / "jobs" / "x.npz")
    assert fingerprint == "print"
    assert loaded.facts == {"seconds": {"decoder": 1.5}}
    for name in ("users", "ranks", "lists", "tied", "tail", "candidates"):
        np.testing.assert_array_equal(getattr(loaded.rows["cold: joined"], name), getattr(row, name))
    assert [file.name for file in (tmp_path / "jobs").iterdir()] == ["x.npz"]


def test_a_result_counts_only_for_the_very_same_job_and_data(tmp_path: Path) -> None:
    job = Job("model", "model", 0, recipe_for(0, True))
    Result().save(job_file(job, tmp_path), job.fingerprint(WORLD))
    longer = replace(job.recipe, decoder_loop=replace(job.recipe.decoder_loop, epochs=3))
    assert finished(job, WORLD, tmp_path) is not None
    assert finished(replace(job, recipe=longer), WORLD, tmp_path) is None
    assert finished(replace(job, shuffled=True), WORLD, tmp_path) is None
    assert finished(replace(job, seed=1), WORLD, tmp_path) is None
    assert finished(job, Data("world"), tmp_path) is None


def test_tags_can_be_left_out_only_where_there_are_some(tmp_path: Path) -> None:
    assert not Data("world").has_tags
    assert not Data("movielens", tmp_path).has_tags
    (tmp_path / "items.csv").touch()
    assert Data("movielens", tmp_path).has_tags


# ---- the plan ---------------------------------------------------------------------------------


def test_the_plan_has_a_file_for_each_job_and_measures_speed_last(catalog: Catalog) -> None:
    jobs = plan(WORLD, catalog, seeds=2)
    assert len({job.stem for job in jobs}) == len(jobs)
    assert jobs[-1].task == "speed"
    assert {job.seed for job in jobs} == {0, 1}
    assert all(job.recipe.seed == job.seed for job in jobs if job.task in ("model", "ablation", "cold"))
    assert [job.name for job in plan(WORLD, catalog, 1, ["speed"])] == ["model", "speed"]


def test_each_ablation_changes_what_its_name_says_and_nothing_else() -> None:
    jobs = {job.name: job for job in plan(WORLD, films(), 1, ["ablations"])}
    full = run_module.silent(recipe_for(0, True))
    model = full.model
    expected = {
        "ablation, text": replace(full, content=replace(full.content, modalities=("text",))),
        "ablation, text + image": replace(full, content=replace(full.content, modalities=("text", "image"))),
        "ablation, concatenation": replace(
            full, model=replace(model, fusion=replace(model.fusion, kind="concatenation"))
        ),
        "ablation, no pretraining": replace(full, encoder_loop=replace(full.encoder_loop, epochs=0)),
        "ablation, no identities": replace(full, model=replace(model, identities=False)),
        "ablation, shuffled": full,
    }
    assert jobs.keys() - {"model"} == expected.keys()
    for name, recipe in expected.items():
        assert jobs[name].recipe == recipe
        assert jobs[name].shuffled == (name == "ablation, shuffled")


def test_cold_items_are_measured_without_tags_too_and_against_the_shuffled_control(tmp_path: Path) -> None:
    (tmp_path / "items.csv").touch()
    jobs = plan(Data("movielens", tmp_path, quick=True), films(), 1, ["cold items"])
    assert [(job.name, job.tags, job.shuffled) for job in jobs] == [
        ("cold, with tags", True, False),
        ("cold, text", False, False),
        ("cold, text + image", False, False),
        ("cold, everything", False, False),
        ("cold, shuffled", False, True),
    ]


def test_nothing_is_read_alone_that_some_item_lacks() -> None:
    lacking = Catalog("x", [*films().items, Item("8", features={"look": np.zeros(1, np.float32)})])
    assert run_module.steps(lacking) == []
    assert run_module.steps(films()) == [("text",), ("text", "image")]


def test_the_smoke_test_differs_from_the_real_recipe_in_epochs_only() -> None:
    quick, real = recipe_for(3, True), recipe_for(3, False)
    assert real == Recipe(seed=3)
    loops = ("encoder_loop", "decoder_loop", "writing_loop")
    same = {name: replace(getattr(quick, name), epochs=getattr(real, name).epochs) for name in loops}
    assert replace(quick, **same) == real


# ---- a whole run ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tiny: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything once, in this process, on the tiny world."""
    out = tmp_path_factory.mktemp("benchmark")
    run_benchmark(None, out, quick=True, data="world", console=console(), workers=0)
    return out


def test_the_report_says_what_was_measured_and_how(whole: Path) -> None:
    text = (whole / "RESULTS.md").read_text(encoding="utf-8")
    assert text.startswith("# Results on world")
    assert PROTOCOL in text
    assert "no real data" in text
    assert "These numbers mean nothing" in text
    for title in (
        "Accuracy",
        "Packages a user would pick",
        "Cold items",
        "Ablations",
        "The long tail",
        "Time",
        "Global",
    ):
        assert f"\n## {title}" in text
    for row in ("popularity", "SASRec", "BPR-MF", "EASE + recency", "decoder, semantic IDs", "no prior", "shuffled"):
        assert f"\n| {row} |" in text
    assert "nan" not in text.lower()
    assert "did not finish" not in text


def test_pictures_lie_beside_the_report_with_their_text(whole: Path) -> None:
    text = (whole / "RESULTS.md").read_text(encoding="utf-8")
    for name in ("accuracy", "cold", "tail"):
        assert f'srcset="{name}-dark.svg"><img src="{name}.svg" alt="' in text
        for file in (f"{name}.svg", f"{name}-dark.svg"):
            assert (whole / file).read_text(encoding="utf-8").startswith("<svg")


def test_numbers_in_the_report_are_those_of_the_harness(whole: Path, catalog: Catalog) -> None:
    split = leave_one_out(catalog.interactions)
    expected = {ranker.name: evaluate(ranker.fit(split), split.test, split.train) for ranker in (EASE(), RecencyEASE())}
    lines = (whole / "RESULTS.md").read_text(encoding="utf-8").splitlines()
    for name, evaluation in expected.items():
        cells = next(line for line in lines if line.startswith(f"| {name} |")).split("|")
        row = evaluation.summary()
        assert cells[2].split()[0] == number(row["hr@10"])
        assert cells[3].split()[0] == number(row["ndcg@10"])
        assert [cell.strip() for cell in cells[4:8]] == [
            number(row[key]) for key in ("mrr", "hr@50", "coverage@10", "gini@10")
        ]


def test_id_models_fail_on_cold_items_and_the_model_still_ranks_them(whole: Path) -> None:
    result, _ = Result.load(whole / "jobs" / "cold-everything-0.npz")
    cold = result.rows["cold: EASE + recency"]
    assert (cold.ranks == 6).all()  # 6 of 60 items are cold and tie, so the target comes last
    assert result.facts["cold items"] == cold.candidates.sum() == 6
    assert set(result.rows["cold: joined"].ranks.tolist()) > {1}
    assert result.rows["warm: joined"].candidates.all()


def test_work_is_counted_for_each_stage_and_time_for_each_kind_of_request(whole: Path) -> None:
    result, _ = Result.load(whole / "jobs" / "speed-0.npz")
    assert list(result.facts["flops"]) == ["encoders", "decoder", "writing"]
    assert min(result.facts["flops"].values()) > 1e6
    assert result.facts["peak"] > 1e6
    requests = [tuple(row[:3]) for row in result.facts["latency"]]
    pools = ("1", "100", "all 60", "100 new items")
    model = [("M6-Rec Mini", pool, reasons) for reasons in ("no", "yes") for pool in pools]
    assert requests == [*model, ("SASRec", "all 60", "no"), ("EASE + recency", "all 60", "no")]
    assert all(0 < p50 <= p95 for *_, p50, p95 in result.facts["latency"])


def test_a_second_run_does_nothing_again_and_says_the_same(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(whole, tmp_path / "again")
    monkeypatch.setattr(run_module, "run_job", lambda *_: pytest.fail("a finished job was run again"))
    run_benchmark(None, out, quick=True, data="world", console=console(), parts=["accuracy"], workers=0)
    before, after = (folder.joinpath("RESULTS.md").read_text(encoding="utf-8") for folder in (whole, out))
    accuracy = before[before.index("## Accuracy") : before.index("## Packages")]
    assert accuracy in after
    assert "## Cold items" not in after


def test_only_what_is_missing_is_run(tiny: None, tmp_path: Path, catalog: Catalog) -> None:
    jobs = [job for job in plan(WORLD, catalog, 1) if job.task in ("counting", "bpr")]
    assert run_jobs(jobs, WORLD, tmp_path, 0, console()) == []
    times = {job.name: job_file(job, tmp_path).stat().st_mtime_ns for job in jobs}
    job_file(jobs[1], tmp_path).unlink()
    run_jobs(jobs, WORLD, tmp_path, 0, console())
    assert [job_file(job, tmp_path).stat().st_mtime_ns == times[job.name] for job in jobs] == [True, False]


def test_a_failing_job_is_told_and_does_not_stop_the_others(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalog: Catalog
) -> None:
    def broken(*_: object) -> Result:
        raise MemoryError("no room")

    def fake(*_: object) -> Result:
        split = leave_one_out(catalog.interactions)
        scores = np.random.default_rng(0).normal(size=(len(split.test), 60))
        rows = dict.fromkeys(("joined", "decoder", "no prior", "codes"), evaluate(scores, split.test, split.train))
        return Result(rows, {"seconds": {}})

    monkeypatch.setitem(jobs_module.TASKS, "sasrec", broken)
    monkeypatch.setitem(jobs_module.TASKS, "model", fake)
    with pytest.raises(RuntimeError, match=r"1 of 4 jobs failed \(sasrec-0\).*same command"):
        run_benchmark(None, tmp_path, quick=True, data="world", console=console(), parts=["accuracy"], workers=0)
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "## What did not finish\n\n- SASRec, seed 0: no room" in text
    assert "\n| BPR-MF |" in text
    assert "\n| SASRec |" not in text


def test_training_that_was_cut_short_goes_on_and_encoders_are_borrowed(tiny: None, tmp_path: Path) -> None:
    job = Job("ablation, no identities", "ablation", 0, run_module.silent(recipe_for(0, True)))

    def killed() -> None:
        with jobs_module.checkpoints(job, WORLD, tmp_path) as folder:
            folder.mkdir(parents=True)
            (folder / "encoders.safetensors").write_text("trained")
            raise KeyError

    with pytest.raises(KeyError):
        killed()
    with jobs_module.checkpoints(job, WORLD, tmp_path) as again:
        assert (again / "encoders.safetensors").read_text() == "trained"
    assert not again.exists()
    other = replace(job, name="ablation, concatenation")
    with jobs_module.checkpoints(other, WORLD, tmp_path) as borrowed:
        assert (borrowed / "encoders.safetensors").read_text() == "trained"
    for stranger in (replace(job, seed=1), replace(job, shuffled=True), replace(job, task="cold")):
        with jobs_module.checkpoints(stranger, WORLD, tmp_path) as own:
            assert not own.exists()


def test_an_unknown_part_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no part 'accurracy'; expected some of accuracy, cold items"):
        run_benchmark(None, tmp_path, data="world", parts=["accurracy"])


@pytest.mark.slow
def test_jobs_run_in_processes_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "_load", REAL_LOAD)
    data = Data("world", quick=True)
    jobs = [Job("BPR-MF", "bpr", seed, epochs=1) for seed in (0, 1)]
    assert run_jobs(jobs, data, tmp_path, 2, console()) == []
    apart = finished(jobs[1], data, tmp_path)
    run_job(jobs[1], data, tmp_path / "here")
    here = finished(jobs[1], data, tmp_path / "here")
    assert apart is not None
    assert here is not None
    np.testing.assert_array_equal(apart.rows["BPR-MF"].ranks, here.rows["BPR-MF"].ranks)


# ---- other packages ---------------------------------------------------------------------------


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_other_packages_get_histories_and_no_targets(catalog: Catalog, tmp_path: Path) -> None:
    peers, models = script("peers"), script("peer_models")
    split = leave_one_out(catalog.interactions)
    peers.write_split(split, True, tmp_path / "split.npz")
    read = models.Split.read(tmp_path / "split.npz")
    np.testing.assert_array_equal(read.train.items, split.train.items)
    assert read.train.matrix().sum() == len({*zip(split.train.users.tolist(), split.train.items.tolist(), strict=True)})
    for name, cases in (("validation", split.validation), ("test", split.test)):
        log = read.histories[name]
        assert (log.num_users, log.num_items) == (len(cases), catalog.interactions.num_items)
        for row, history in enumerate(cases.histories):
            np.testing.assert_array_equal(log.items[log.users == row], history.items)
    with np.load(tmp_path / "split.npz") as arrays:
        assert not [name for name in arrays if "target" in name]


def test_the_setting_of_another_package_is_chosen_on_validation(catalog: Catalog, tmp_path: Path) -> None:
    peers, split = script("peers"), leave_one_out(catalog.interactions)

    def scores(right: bool, targets: np.ndarray) -> np.ndarray:
        matrix = np.zeros((len(targets), catalog.interactions.num_items), np.float32)
        matrix[np.arange(len(targets)), targets] = 1 if right else -1
        return matrix

    for number_, (setting, validation, test) in enumerate((("good", True, False), ("lucky", False, True))):
        arrays = {"validation": scores(validation, split.validation.targets), "test": scores(test, split.test.targets)}
        np.savez(tmp_path / f"{number_:03}.npz", setting=setting, seconds=1.0, versions="1", **arrays)
    facts, evaluation = peers.choose(sorted(tmp_path.glob("*.npz")), split)
    assert facts == {"setting": "good", "seconds": 1.0, "versions": "1", "validation ndcg@10": 1.0}
    assert evaluation.mean("hr@10") == 0
