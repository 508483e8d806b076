"""How long things take: the work of training against what the machine can do, and time per request.

The one idea: a time says little without the work behind it. Every matrix product of one epoch is
counted as it happens; divided by the epoch's seconds and by the rate of one large product on the
same single thread, it tells how much of the machine the training really uses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from m6rec_mini.baselines import RecencyEASE
from m6rec_mini.catalog import ACTIONS, Catalog, Event, History, Item
from m6rec_mini.contest import MODEL
from m6rec_mini.evaluation import Ranker, Split, leave_one_out, top_items
from m6rec_mini.recipe import Recipe, train_model
from m6rec_mini.recommender import Recommender
from m6rec_mini.sasrec import SASRec, SASRecConfig
from m6rec_mini.training import Epoch


def measure_speed(catalog: Catalog, recipe: Recipe, recommender: Recommender, quick: bool = False) -> dict[str, Any]:
    """Facts for the table of time, all on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        split = leave_one_out(catalog.interactions)
        return {
            "peak": peak_flops(256 if quick else 2048),
            "flops": flops_per_epoch(catalog, split, recipe),
            "latency": latencies(catalog, split, recommender, 3 if quick else 100),
        }
    finally:
        torch.set_num_threads(threads)


def peak_flops(size: int, repeats: int = 5) -> float:
    """Floating-point operations per second of a float32 matrix product: the best of some repeats."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / min(seconds(lambda: a @ b) for _ in range(repeats))


def seconds(what: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def flops_per_epoch(catalog: Catalog, split: Split, recipe: Recipe) -> dict[str, float]:
    """Operations in matrix products and convolutions of one epoch of each stage, validation included."""
    one = replace(
        recipe,
        encoder_loop=replace(recipe.encoder_loop, epochs=1),
        decoder_loop=replace(recipe.decoder_loop, epochs=1),
        writing_loop=replace(recipe.writing_loop, epochs=1),
    )
    found: dict[str, float] = {}

    def note(epoch: Epoch) -> None:
        found[epoch.stage] = counter.total - sum(found.values())

    with Operations() as counter, sdpa_kernel(SDPBackend.MATH):  # attention as matrix products, so they are counted
        train_model(catalog, split, one, on_epoch=note)
    return found


class Operations(TorchDispatchMode):
    """Adds up the operations of whatever torch does inside, forwards and backwards, by torch's own formulas."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call it and count it."""
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        self.total += formula(*args, **(kwargs or {}), out_val=out) if formula else 0
        return out


def latencies(catalog: Catalog, split: Split, recommender: Recommender, requests: int) -> list[list[Any]]:
    """Rows of [ranker, candidates, reasons, p50 ms, p95 ms] over requests of different users."""
    items, histories = list(catalog.items), split.test.histories[:requests]
    events = [
        [Event("user", items[i].id, ACTIONS[a], int(t)) for i, a, t in zip(h.items, h.actions, h.times, strict=True)]
        for h in histories
    ]
    rng = np.random.default_rng(0)
    some = [[items[i] for i in rng.choice(len(items), min(100, len(items)), replace=False)] for _ in events]
    pools: dict[str, Sequence[Sequence[Item] | None]] = {
        "1": [pool[:1] for pool in some],
        "100": some,
        f"all {len(items):,}": [None] * len(some),
        "100 new items": [[replace(item, id=f"new {item.id}") for item in pool] for pool in some],
    }
    rows = []
    for explain in (False, True):
        for name, pool in pools.items():
            calls = [
                partial(recommender.recommend, past, candidates, 10, seen_too=True, explain=explain)
                for past, candidates in zip(events, pool, strict=True)
            ]
            rows.append([MODEL, name, "yes" if explain else "no", *percentiles(calls)])
    for ranker in (SASRec(SASRecConfig(epochs=1)).fit(split), RecencyEASE().fit(split)):  # weights change no time
        asked = [partial(first_ten, ranker, history) for history in histories]
        rows.append([ranker.name, f"all {len(items):,}", "no", *percentiles(asked)])
    return rows


def first_ten(ranker: Ranker, history: History) -> Int64[np.ndarray, "1 10"]:
    """One request to a baseline."""
    return top_items(ranker.scores([history]), [history], 10)


def percentiles(calls: Sequence[Callable[[], object]]) -> tuple[float, float]:
    """Median and 95th percentile of the calls' times in milliseconds; the first call only warms up."""
    calls[0]()
    p50, p95 = np.percentile([1000 * seconds(call) for call in calls], [50, 95])
    return float(p50), float(p95)
