"""A catalog of forty items and a recipe that learns it in a second: enough to see everything work, no use for quality.

Run as a program, it trains where a test wants to look from outside: under torchrun, or until it is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

import m6rec_mini.training as training
from m6rec_mini.catalog import ACTIONS, Catalog, Event, Item
from m6rec_mini.content import ContentConfig
from m6rec_mini.decoder import DecoderConfig
from m6rec_mini.encoders import EncoderConfig
from m6rec_mini.evaluation import Split, leave_one_out
from m6rec_mini.fusion import FusionConfig
from m6rec_mini.model import ModelConfig
from m6rec_mini.recipe import Recipe, train_model
from m6rec_mini.training import Epoch, LoopConfig

TOPICS = ("jazz piano", "garden roses", "rocket engine", "winter soup")
ITEMS, UNSEEN = 40, (17, 39)  # nobody has touched these two


def small_item(row: int, rng: np.random.Generator) -> Item:
    """Words and a look of one of four topics; a quarter has no words, another quarter no look."""
    topic = row % 4
    text = f"{TOPICS[topic]} number {row}" if row % 16 < 12 else None
    look = (2.0 * np.eye(4)[topic] + rng.normal(0, 0.3, 4)).astype(np.float32)
    features = {"look": look} if row % 16 >= 12 or row % 16 < 8 else {}
    return Item(f"i{row}", text=text, features=features, title=f"Item {row}")


def small_catalog(seed: int = 0, users: int = 18) -> Catalog:
    """Everybody stays with one topic most of the time."""
    rng = np.random.default_rng(seed)
    items = [small_item(row, rng) for row in range(ITEMS)]
    events = []
    for user in range(users):
        weights = np.where(np.arange(ITEMS) % 4 == user % 4, 8.0, 1.0)
        weights[list(UNSEEN)] = 0
        picked = rng.choice(ITEMS, int(rng.integers(3, 16)), replace=False, p=weights / weights.sum())
        for step, row in enumerate(picked.tolist()):
            action = ACTIONS[int(rng.integers(3))]
            words = f"more {TOPICS[row % 4]}" if action == "comment" else None
            events.append(Event(f"u{user}", f"i{row}", action, 1_700_000_000 + 1000 * step, words))
    return Catalog("small", items, events)


def timeless(log: Sequence[Epoch]) -> list[Epoch]:
    """A training log without what differs between any two runs."""
    return [replace(epoch, seconds=0.0) for epoch in log]


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """The same tensors, bit for bit."""
    assert one.keys() == other.keys()
    for name, weight in one.items():
        assert torch.equal(weight, other[name]), name


def small_recipe(dropout: float = 0.1, epochs: int = 2, seed: int = 0) -> Recipe:
    loop = LoopConfig(epochs=epochs, batch=5, learning_rate=3e-3, warm_up=2, average=0.5, patience=2)
    return Recipe(
        ContentConfig(vocab=300, text_length=8),
        ModelConfig(
            EncoderConfig(dim=8, layers=1, heads=2, tokens=2, dropout=dropout),
            FusionConfig(dim=16, heads=2, queries=2, dropout=dropout, drop_modality=dropout),
            DecoderConfig(dim=16, layers=1, heads=2, dropout=dropout, events=6, code_sizes=(4, 4, 16)),
            hide_identity=0.5 if dropout else 0.0,
        ),
        encoder_loop=replace(loop, batch=9),
        decoder_loop=loop,
        writing_loop=loop,
        seed=seed,
    )


def small_split() -> tuple[Catalog, Split]:
    catalog = small_catalog()
    return catalog, leave_one_out(catalog.interactions)


def without_noise() -> Recipe:
    """No dropout, nothing hidden and no writing: one process or several must come to the same."""
    recipe = small_recipe(dropout=0.0)
    return replace(recipe, writing_loop=replace(recipe.writing_loop, epochs=0))


def train_in_company(file: Path) -> None:
    """One of torchrun's processes; the first of them writes weights and log, for all to compare."""
    with training.process_group() as share:
        trained = train_model(*small_split(), without_noise())
        if share.rank == 0:
            log = [asdict(epoch) for epoch in trained.log]
            save_file(trained.model.state_dict(), file, {"log": json.dumps(log), "processes": str(share.of)})


def die(*_: Any) -> None:
    """As `kill -9` does it: no handler runs, nothing is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(how: str, folder: Path) -> None:
    """Train into `folder` and die in the second epoch of the decoder, or while that is being saved."""

    def on_epoch(epoch: Epoch) -> None:
        if (epoch.stage, epoch.epoch) == ("decoder", 1):
            deaths[how]()

    def save_half(tensors: dict[str, Tensor], file: Path, header: dict[str, str]) -> None:
        save_file(tensors, file, header)
        os.truncate(file, file.stat().st_size // 2)
        die()

    deaths = {
        "before saving": die,
        "half written": lambda: setattr(training, "save_file", save_half),
        "not yet renamed": lambda: setattr(training.os, "fsync", die),
    }
    train_model(*small_split(), small_recipe(), folder, on_epoch)


DEATHS = ("before saving", "half written", "not yet renamed")

if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "company":
        train_in_company(Path(sys.argv[2]))
    for how in DEATHS if sys.argv[1] == "killed" else ():
        child = os.fork()  # cheaper than a new interpreter for each death
        if child == 0:
            train_until_killed(how, Path(sys.argv[2]) / how)
            os._exit(0)
        print(how, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
