"""The loop: averages by hand, when it stops, a kill at any moment, foreign files, two processes for one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from m6rec_mini import training
from m6rec_mini.pretraining import Share
from m6rec_mini.recipe import train_model
from m6rec_mini.training import (
    CheckpointError,
    Epoch,
    LoopConfig,
    Stage,
    current_share,
    load_tensors,
    process_group,
    save_tensors,
    seeded,
)

PLAIN = LoopConfig(epochs=1, learning_rate=0.1, weight_decay=0.0, warm_up=0, average=0.9)
NOISY = LoopConfig(epochs=4, learning_rate=0.05, warm_up=3, average=0.7, patience=9)


class Slope(nn.Module):
    """One weight whose loss falls by one with each unit: Adam then moves it by the learning rate at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch: float, *_: object) -> Tensor:
        return -(self.weight * batch).sum()


class Noisy(nn.Module):
    """A little network with all the kinds of chance that an epoch has: order, dropout, and the step's seed."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 4), nn.Dropout(0.5), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, batch: Tensor, seed: int, _: Share) -> Tensor:
        more = torch.randn(batch.shape, generator=torch.Generator().manual_seed(seed))
        return (self.net(batch + 0.1 * more) - batch.sum(1, keepdim=True)).square().mean()


def slope(
    values: Sequence[float] = (0.0,), batches: int = 1, config: LoopConfig = PLAIN
) -> tuple[Stage, Slope, list[float]]:
    """A stage whose validation values are given, and the weights that validation saw."""
    module, saw = Slope(), list[float]()

    def validate() -> float:
        saw.append(module.weight.item())
        return values[len(saw) - 1]

    return Stage("slope", module, lambda _: [1.0] * batches, validate, config), module, saw


def noisy(folder: Path | None = None, seed: int = 0, width: int = 3, config: LoopConfig = NOISY) -> Stage:
    with seeded(5):
        module, data = Noisy(width), torch.randn(10, width)

    def batches(rng: np.random.Generator) -> list[Tensor]:
        return [data[rows] for rows in torch.from_numpy(rng.permutation(10)).split(4)]

    @torch.no_grad()
    def validate() -> float:
        return -float((module.net(data) - data.sum(1, keepdim=True)).square().mean())

    return Stage("noisy", module, batches, validate, config, seed, folder)


class Killed(BaseException):
    pass


def kill_at(number: int) -> Callable[[Epoch], None]:
    def on_epoch(epoch: Epoch) -> None:
        if epoch.epoch == number:
            raise Killed

    return on_epoch


# ---- weights and their average --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("average", "by_hand"),
    [
        (0.0, 0.3),  # no memory
        (0.05, 0.05 * (0.05 * 0.095 + 0.95 * 0.2) + 0.95 * 0.3),  # never more than it is told to remember
        (0.98, 3 / 13 * (2 / 12 * (10 / 11 * 0.1) + 10 / 12 * 0.2) + 10 / 13 * 0.3),  # early steps remember less
    ],
)
def test_average_of_weights_worked_by_hand(average: float, by_hand: float) -> None:
    stage, module, saw = slope(batches=3, config=replace(PLAIN, average=average))
    stage.run()  # the weight is 0, 0.1, 0.2, 0.3
    assert saw == pytest.approx([by_hand])
    assert module.weight.item() == saw[0]  # what was validated is what remains


def test_the_first_steps_are_small() -> None:
    stage, _, saw = slope(batches=5, config=replace(PLAIN, average=0.0, warm_up=4))
    log = stage.run()
    assert saw == pytest.approx([0.1 * (1 / 4 + 2 / 4 + 3 / 4 + 1 + 1)])
    assert log[0].loss == pytest.approx(-0.1 * (0 + 1 / 4 + 3 / 4 + 6 / 4 + 10 / 4) / 5)  # before each step


def test_a_steep_batch_is_clipped() -> None:
    """Adam forgets the scale of gradients, but not of one among others: 100 after 1 would leave its mark."""
    clipped, steep = (slope(config=replace(PLAIN, average=0.0)) for _ in range(2))
    clipped[0].batches, steep[0].batches = lambda _: [1.0, 1.0], lambda _: [1.0, 100.0]
    clipped[0].run()
    steep[0].run()
    assert steep[1].weight.item() == pytest.approx(clipped[1].weight.item(), rel=1e-5)


def test_only_what_is_not_frozen_moves() -> None:
    stage = noisy()
    assert isinstance(stage.module, Noisy)
    stage.module.net[0].requires_grad_(False)
    stage = replace(stage)
    before = {name: p.clone() for name, p in stage.module.state_dict().items()}
    stage.run()
    moved = {name for name, p in stage.module.state_dict().items() if not torch.equal(p, before[name])}
    assert moved == {"net.3.weight", "net.3.bias"}


def test_a_stage_with_everything_frozen_is_refused() -> None:
    with pytest.raises(ValueError, match="stage noisy: every parameter is frozen"):
        Stage("noisy", Noisy().requires_grad_(False), lambda _: [], lambda: 0.0, NOISY)


# ---- when to stop ---------------------------------------------------------------------------------


def test_it_stops_when_nothing_gets_better_and_the_best_remains() -> None:
    values = (1.0, 3.0, 2.0, 3.0, 2.5, 9.0)  # as good as the best is no better
    stage, module, saw = slope(values, config=replace(PLAIN, epochs=20, patience=3, average=0.0))
    told: list[Epoch] = []
    log = stage.run(told.append)
    assert [epoch.validation for epoch in log] == list(values[:5])
    assert [epoch.epoch for epoch in log] == [0, 1, 2, 3, 4]
    assert told == log
    assert saw == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert module.weight.item() == saw[1]


def test_all_epochs_are_run_while_it_gets_better() -> None:
    stage, module, saw = slope(range(9), config=replace(PLAIN, epochs=4, patience=1))
    assert len(stage.run()) == 4
    assert module.weight.item() == saw[3]


def test_no_epochs_change_nothing() -> None:
    stage, module, saw = slope(config=replace(PLAIN, epochs=0))
    assert stage.run() == []
    assert module.weight.item() == 0
    assert not saw


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", -1), ("batch", 0), ("warm_up", -1), ("patience", 0), ("average", 1.0)]
)
def test_settings_that_make_no_sense_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        replace(PLAIN, **{field: value})


@pytest.mark.parametrize("where", ["loss", "validation"])
def test_a_diverged_run_says_so_and_saves_nothing_of_it(where: str, tmp_path: Path) -> None:
    stage, _, _ = slope((1.0, float("nan") if where == "validation" else 2.0), config=replace(PLAIN, epochs=5))
    stage.folder = tmp_path
    stage.batches = lambda _: [float("nan") if where == "loss" and stage.log else 1.0]
    with pytest.raises(ValueError, match=r"stage slope, epoch 1: .* nan.*Lower the learning rate of 0\.1"):
        stage.run()
    _, header = load_tensors(tmp_path / "slope.safetensors")
    assert len(json.loads(header["log"])) == 1


def test_weights_come_back_when_validation_fails() -> None:
    stage, module, _ = slope(values=())
    with pytest.raises(IndexError):
        stage.run()
    assert module.weight.item() == pytest.approx(0.1)  # not the average


# ---- chance ---------------------------------------------------------------------------------------


def test_seeded_draws_the_same_and_leaves_the_generator_as_it_was() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(7):
        one = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(7):
        assert torch.equal(torch.rand(3), one)
    assert not torch.equal(one, expected)


def test_a_run_repeats_itself_whatever_was_drawn_before() -> None:
    one = noisy()
    log = one.run()
    torch.rand(3)
    again, other = noisy(), noisy(seed=1)
    state = torch.get_rng_state()
    assert small.timeless(again.run()) == small.timeless(log)
    assert torch.equal(torch.get_rng_state(), state)
    small.assert_same(one.module.state_dict(), again.module.state_dict())
    assert small.timeless(other.run()) != small.timeless(log)


def test_every_epoch_and_every_stage_has_its_own_order() -> None:
    orders: list[tuple[int, ...]] = []

    def batches(rng: np.random.Generator) -> list[float]:
        orders.append(tuple(rng.permutation(20).tolist()))
        return [1.0]

    for name in ("one", "other"):
        Stage(name, Slope(), batches, lambda: 0.0, replace(PLAIN, epochs=3)).run()
    assert len(set(orders)) == 6


# ---- going on after a kill ------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(NOISY.epochs))
def test_a_run_that_is_cut_short_goes_on_to_the_same_result(number: int, tmp_path: Path) -> None:
    unbroken = noisy()
    log = unbroken.run()
    for _ in range(2):  # the second time at the same place: that epoch was not saved
        with pytest.raises(Killed):
            noisy(tmp_path).run(kill_at(number))
    resumed, told = noisy(tmp_path), list[Epoch]()
    assert small.timeless(resumed.run(told.append)) == small.timeless(log)
    assert told == resumed.log  # also what was done before the kill
    small.assert_same(resumed.module.state_dict(), unbroken.module.state_dict())
    small.assert_same(resumed.average, unbroken.average)


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    done = noisy(tmp_path)
    log = done.run()
    again = noisy(tmp_path)
    again.batches = lambda _: pytest.fail("nothing is left to do")
    assert again.run() == log
    small.assert_same(again.module.state_dict(), done.module.state_dict())


def program(*words: str | Path) -> str:
    """Run small.py in a process of its own, one thread each."""
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, *map(str, words)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no kill -9")
def test_kill_9_at_the_worst_moments_changes_nothing(tmp_path: Path) -> None:
    killed = -signal.SIGKILL
    assert program(small.__file__, "killed", tmp_path) == "".join(f"{how} {killed}\n" for how in small.DEATHS)
    unbroken = train_model(*small.small_split(), small.small_recipe())
    for how in small.DEATHS:
        file = tmp_path / how / "decoder.safetensors"
        assert file.with_name("decoder.safetensors.part").exists() == (how != "before saving")
        assert len(json.loads(load_tensors(file)[1]["log"])) == 1  # of two epochs
        resumed = train_model(*small.small_split(), small.small_recipe(), file.parent)
        small.assert_same(resumed.model.state_dict(), unbroken.model.state_dict())
        assert small.timeless(resumed.log) == small.timeless(unbroken.log)
        assert not list(file.parent.glob("*.part"))


# ---- files that cannot be gone on with ------------------------------------------------------------


def damage(file: Path, how: str) -> None:
    whole = file.read_bytes()
    if how == "other tensors":
        save_file({"weight": torch.zeros(2)}, file)
    elif how == "another stage":
        save_tensors({"weight": torch.zeros(2)}, file, {"fingerprint": json.dumps({"stage": "encoders"})})
    else:
        file.write_bytes({"cut short": whole[: len(whole) // 2], "empty": b"", "words": b"not a checkpoint" * 9}[how])


@pytest.mark.parametrize("how", ["cut short", "empty", "words", "other tensors", "another stage"])
def test_a_damaged_checkpoint_is_named_and_kept(how: str, tmp_path: Path) -> None:
    noisy(tmp_path).run()
    file = tmp_path / "noisy.safetensors"
    damage(file, how)
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match=r"noisy\.safetensors") as error:
        noisy(tmp_path).run()
    assert str(file) in str(error.value)
    assert "elete" in str(error.value)  # what to do
    assert file.read_bytes() == before


@pytest.mark.parametrize("other", [{"seed": 1}, {"width": 4}, {"config": replace(NOISY, learning_rate=0.06)}])
def test_a_checkpoint_of_another_run_is_refused(other: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Killed):
        noisy(tmp_path).run(kill_at(1))
    with pytest.raises(CheckpointError, match=r"noisy\.safetensors belongs to another run: .*delete this one"):
        noisy(tmp_path, **other).run()
    noisy(tmp_path).run()  # its own goes on


def test_tensors_and_header_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}
    save_tensors(tensors, tmp_path / "x.safetensors", {"told": "as it was"})
    found, header = load_tensors(tmp_path / "x.safetensors")
    small.assert_same(found, tensors)
    assert header == {"told": "as it was"}
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]
    with pytest.raises(CheckpointError, match=r"y\.safetensors cannot be read"):
        load_tensors(tmp_path / "y.safetensors")


# ---- several processes ----------------------------------------------------------------------------


def test_alone_there_is_no_group_and_only_the_first_of_many_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    with process_group() as share:
        assert share == current_share() == Share(0, 1)
    stage = noisy(tmp_path)
    monkeypatch.setattr(training, "current_share", lambda: Share(1, 2))
    stage.save()
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(training, "current_share", lambda: Share(0, 2))
    stage.save()
    assert [file.name for file in tmp_path.iterdir()] == ["noisy.safetensors"]


@pytest.mark.slow
def test_two_processes_come_to_the_same_as_one(tmp_path: Path) -> None:
    """Both stages; the last batch of an epoch has too few rows for both processes.

    Sums in another order differ by rounding, a few 1e-7 a step. Adam magnifies that only where the true
    gradient is zero, and it is zero for key biases alone: they move all scores of a query alike.
    """
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    program(*run, small.__file__, "company", tmp_path / "two.safetensors")
    together, header = load_tensors(tmp_path / "two.safetensors")
    alone = train_model(*small.small_split(), small.without_noise())
    assert header["processes"] == "2"
    assert [epoch.stage for epoch in alone.log] == ["encoders"] * 2 + ["decoder"] * 2
    for one, two in zip(alone.log, json.loads(header["log"]), strict=True):
        assert (two["stage"], two["epoch"]) == (one.stage, one.epoch)
        assert (two["loss"], two["validation"]) == pytest.approx((one.loss, one.validation), rel=1e-5)
    for name, weight in alone.model.state_dict().items():
        if not name.endswith("key.bias"):
            torch.testing.assert_close(together[name], weight, atol=1e-5, rtol=1e-4, msg=name)
