"""What the tests of the benchmark share: rankings made up by hand, and a small catalog."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from m6rec_mini.benchmark.jobs import Data
from m6rec_mini.benchmark.tables import About
from m6rec_mini.catalog import Catalog, Event, Item
from m6rec_mini.evaluation import Evaluation

WORLD = Data("world", quick=True)


def films() -> Catalog:
    """Eight items with text and feature, all but one with a picture; two users."""
    looks = [np.array([n], np.float32) for n in range(8)]
    pictures = [np.full((8, 8, 3), 10 * n, np.uint8) if n else None for n in range(8)]
    items = [Item(str(n), text=f"film {n}", image=pictures[n], features={"look": looks[n]}) for n in range(8)]
    return Catalog("films", items, [Event(user, str(n), "view", n) for user in "ab" for n in range(8)])


def ranked(ranks: list[int], users: list[int] | None = None, **slices: list[bool]) -> Evaluation:
    n = len(ranks)
    return Evaluation(
        "row",
        np.array(users if users is not None else range(n), np.int64),
        np.array(ranks, np.int64),
        np.tile(np.arange(10), (n, 1)),
        np.array(slices.get("tied", [False] * n)),
        np.array(slices.get("tail", [False] * n)),
        np.ones(20, bool),
    )


def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def about(trimodal: bool = False) -> About:
    return About("toy data", ["a line"], (), trimodal)
