"""The loop: epochs, early stopping, resuming after a kill, several processes.

A stage is a module whose `forward(batch, seed, share)` is its loss. Everything random in an epoch
is drawn from (seed, stage, epoch), so an epoch can be repeated; after each one all that matters is
written to one file, atomically. A run that is killed at any moment and started again therefore ends
with the same numbers as one that was not. Weights are averaged over the last steps (EMA; Polyak and
Juditsky 1992): on little data that is worth more than any schedule, and it needs no final epoch to
be known in advance.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from m6rec_mini.pretraining import Share


@dataclass(frozen=True)
class LoopConfig:
    """How a stage is optimised."""

    epochs: int = 40
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up: int = 20  # steps
    clip: float = 1.0  # norm of the gradient
    average: float = 0.98  # EMA of the weights: about the last 1 / (1 - average) steps
    patience: int = 8  # epochs without a better validation value before the stage stops

    def __post_init__(self) -> None:
        for name, least in (("epochs", 0), ("batch", 1), ("warm_up", 0), ("patience", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; at least {least}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average}; 0 (no averaging) or more, and below 1, or nothing is learnt")


@dataclass(frozen=True)
class Epoch:
    """One line of the training log."""

    stage: str
    epoch: int
    loss: float
    validation: float
    seconds: float


class CheckpointError(ValueError):
    """A file that is not a checkpoint of this stage."""


@dataclass
class Stage:
    """One stage of training: a module that computes its loss, and where its batches come from."""

    name: str
    module: nn.Module
    batches: Callable[[np.random.Generator], Sequence[Any]]  # of one epoch; the same for every process
    validate: Callable[[], float]  # higher is better
    config: LoopConfig
    seed: int = 0
    folder: Path | None = None  # where to save; None keeps nothing

    def __post_init__(self) -> None:
        self.trained = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        if not self.trained:
            raise ValueError(f"stage {self.name}: every parameter is frozen, so there is nothing to train")
        self.optimizer = torch.optim.AdamW(
            self.trained.values(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        self.average = {name: p.detach().clone() for name, p in self.trained.items()}
        self.best = {name: p.detach().clone() for name, p in self.trained.items()}
        self.log: list[Epoch] = []
        self.steps = 0

    # ---- running --------------------------------------------------------------------------

    def run(self, on_epoch: Callable[[Epoch], None] = lambda _: None) -> list[Epoch]:
        """Train until validation stops improving; the module ends with its best averaged weights.

        Raises ValueError if the loss or the validation value is no longer a number, and CheckpointError
        if the folder holds a broken file or another run's.
        """
        self.load()
        for done in self.log:
            on_epoch(done)
        step = self._parallel()
        while not self.finished:
            on_epoch(self._epoch(step, len(self.log)))
            self.save()
            give_back_memory()
        self._put(self.best)
        return self.log

    @property
    def finished(self) -> bool:
        """All epochs are run, or none of the last `patience` was the best."""
        values = [done.validation for done in self.log]
        stale = len(values) - 1 - int(np.argmax(values)) if values else 0
        return len(values) >= self.config.epochs or stale >= self.config.patience

    def _epoch(self, step: nn.Module, number: int) -> Epoch:
        start, total = time.perf_counter(), 0.0
        seed = zlib.crc32(f"{self.seed} {self.name} {number}".encode())
        batches = self.batches(np.random.default_rng(seed))
        with seeded(seed):
            self.module.train()
            for count, batch in enumerate(batches):
                total += self._step(step, batch, seed + count)
        with self.averaged():
            self.module.eval()
            value = float(self.validate())
            self._check_finite(number, total, value)
            if not any(done.validation >= value for done in self.log):
                self.best = {name: p.detach().clone() for name, p in self.trained.items()}
        self.log.append(Epoch(self.name, number, total / max(len(batches), 1), value, time.perf_counter() - start))
        return self.log[-1]

    def _check_finite(self, number: int, loss: float, value: float) -> None:
        if not (math.isfinite(loss) and math.isfinite(value)):
            raise ValueError(
                f"stage {self.name}, epoch {number}: the loss is {loss}, the validation value {value}: training has "
                f"diverged. Lower the learning rate of {self.config.learning_rate:g}; no such epoch is saved"
            )

    def _step(self, step: nn.Module, batch: Any, seed: int) -> float:
        share = current_share()
        warmth = min(1.0, (self.steps + 1) / max(self.config.warm_up, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * warmth
        loss = step(batch, seed, share)
        self.optimizer.zero_grad()
        (loss * share.of).backward()  # DDP averages gradients, but the shares of a loss are to be added up
        nn.utils.clip_grad_norm_(self.trained.values(), self.config.clip)
        self.optimizer.step()
        self.steps += 1
        decay = min(self.config.average, self.steps / (self.steps + 10))
        torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.trained.values()], 1 - decay)
        value = loss.detach()
        if share.of > 1:
            dist.all_reduce(value)
        return float(value)

    def _parallel(self) -> nn.Module:
        if current_share().of == 1:
            return self.module
        return DistributedDataParallel(self.module, find_unused_parameters=True)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The module with its averaged weights, for as long as the context lasts."""
        raw = {name: p.detach().clone() for name, p in self.trained.items()}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(raw)

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, p in self.trained.items():
            p.copy_(weights[name])

    # ---- saving ---------------------------------------------------------------------------

    @property
    def _file(self) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.name}.safetensors"

    def _fingerprint(self) -> dict[str, Any]:
        shapes = {name: list(p.shape) for name, p in self.trained.items()}
        return {"stage": self.name, "seed": self.seed, "config": asdict(self.config), "shapes": shapes}

    def save(self) -> None:
        """Write all that the next epoch depends on; the file is complete or it is the old one."""
        if self._file is None or current_share().rank > 0:
            return
        tensors = {f"now/{name}": p.detach() for name, p in self.trained.items()}
        tensors |= {f"average/{name}": p for name, p in self.average.items()}
        tensors |= {f"best/{name}": p for name, p in self.best.items()}
        for name, p in self.trained.items():
            tensors |= {f"optimizer/{name}/{key}": value for key, value in self.optimizer.state.get(p, {}).items()}
        header = {
            "fingerprint": json.dumps(self._fingerprint()),
            "log": json.dumps([asdict(done) for done in self.log]),
            "steps": str(self.steps),
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        save_tensors({k: v.contiguous() for k, v in tensors.items()}, self._file, header)

    def load(self) -> None:
        """Continue from a saved epoch, if there is one; raises CheckpointError for a foreign or broken file."""
        if self._file is None or not self._file.exists():
            return
        tensors, header = load_tensors(self._file)
        if header.get("fingerprint") != json.dumps(self._fingerprint()):
            raise CheckpointError(
                f"{self._file} belongs to another run: other data, sizes, seed or settings. "
                "Train into a new folder, or delete this one to start again"
            )
        for name, p in self.trained.items():
            prefix = f"optimizer/{name}/"
            state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if state:  # moments live beside their weights; Adam counts its steps on the CPU
                self.optimizer.state[p] = {k: v if k == "step" else v.to(p.device) for k, v in state.items()}
        part = {
            kind: {name: tensors[f"{kind}/{name}"].to(p.device) for name, p in self.trained.items()}
            for kind in ("now", "average", "best")
        }
        self._put(part["now"])
        self.average, self.best = part["average"], part["best"]
        self.log = [Epoch(**done) for done in json.loads(header["log"])]
        self.steps = int(header["steps"])


# ---- processes and files --------------------------------------------------------------------------


def current_share() -> Share:
    """This process's part of each batch: under torchrun one of several, else all of it."""
    if not dist.is_initialized():
        return Share()
    return Share(dist.get_rank(), dist.get_world_size())


@contextmanager
def process_group() -> Iterator[Share]:
    """Join the other processes if torchrun started this one; alone, do nothing."""
    if "WORLD_SIZE" in os.environ and int(os.environ["WORLD_SIZE"]) > 1:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        try:
            yield current_share()
        finally:
            dist.destroy_process_group()
    else:
        yield Share()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random numbers from `seed` on; afterwards they go on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def give_back_memory() -> None:
    """Return what is free to the system, where the C library is glibc, which keeps an arena for each thread."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def save_tensors(tensors: dict[str, Tensor], file: Path, header: dict[str, str]) -> None:
    """safetensors, written beside and then renamed: a kill leaves the old file or the new, never half of one."""
    beside = file.with_name(file.name + ".part")
    save_file(tensors, beside, header)
    with beside.open("rb+") as written:  # Windows flushes only what may be written
        os.fsync(written.fileno())
    beside.replace(file)


def load_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a safetensors file; raises CheckpointError if it is not one or is cut short."""
    try:
        with safe_open(file, "pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} cannot be read ({error}): not a safetensors file, or cut short. "
            "Delete it and train again, or copy it again from where it came"
        ) from error
