"""The other packages, each run in its own environment: scores out, no test target in.

`peers.py` starts it as `python peer_models.py NAME SEED SPLIT.npz OUT`. What is read are training
events and the histories of the cases; what is written, for every setting that is tried, are scores
of all items after each history of the validation and of the test cases. So nothing here can be tuned
on what it must predict: `peers.py` knows the targets, chooses by validation and takes the ranks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse


class Log(NamedTuple):
    """Events side by side, each user's in order of time."""

    users: np.ndarray
    items: np.ndarray
    num_users: int
    num_items: int

    def matrix(self) -> sparse.csr_matrix:
        """Users x items, 1 where touched."""
        ones = np.ones(len(self.users), np.float32)
        matrix = sparse.csr_matrix((ones, (self.users, self.items)), shape=(self.num_users, self.num_items))
        matrix.data[:] = 1
        return matrix


class Split(NamedTuple):
    """Training events, and the histories of the cases; the user of a case is its number in `cases`."""

    train: Log
    histories: dict[str, Log]  # by "validation" and "test"; users are numbers of cases
    cases: dict[str, np.ndarray]  # the user of each case
    quick: bool

    @classmethod
    def read(cls, file: Path) -> Split:
        """What `peers.py` has written."""
        a = np.load(file)
        items = int(a["num_items"])
        train = Log(a["train_users"], a["train_items"], int(a["num_users"]), items)
        names = ("validation", "test")
        cases = {name: a[f"{name}_users"] for name in names}
        histories = {n: Log(a[f"{n}_rows"], a[f"{n}_items"], len(cases[n]), items) for n in names}
        return cls(train, histories, cases, bool(a["quick"]))


Scores = dict[str, np.ndarray]
Tried = tuple[str, float, Scores]  # the setting in words, seconds of fitting, scores by "validation" and "test"


def als(split: Split, seed: int) -> Iterator[Tried]:
    """implicit's ALS. Histories are folded in, so the test sees the validation event, as it does for all."""
    from implicit.als import AlternatingLeastSquares

    train = split.train.matrix()
    grid = product((32, 64) if not split.quick else (8,), (0.01, 1.0), (1.0, 10.0), (30 if not split.quick else 2,))
    for factors, regularization, alpha, iterations in grid:
        start = time.perf_counter()
        model = AlternatingLeastSquares(
            factors, regularization, alpha, iterations=iterations, random_state=seed, use_gpu=False, num_threads=1
        )
        model.fit(train, show_progress=False)
        seconds = time.perf_counter() - start
        scores = {}
        for name, history in split.histories.items():
            users = model.recalculate_user(np.arange(history.num_users), history.matrix())
            scores[name] = users @ model.item_factors.T
        yield f"factors {factors}, regularization {regularization}, alpha {alpha}", seconds, scores


def bpr(split: Split, seed: int) -> Iterator[Tried]:
    """implicit's BPR. It cannot fold a history in, so users have the vectors that training gave them."""
    from implicit.bpr import BayesianPersonalizedRanking

    train = split.train.matrix()
    sizes, rates = ((32, 64), (0.01, 0.05)) if not split.quick else ((8,), (0.05,))
    for factors, rate, regularization in product(sizes, rates, (0.01, 0.1)):
        start = time.perf_counter()
        model = BayesianPersonalizedRanking(
            factors, rate, regularization, iterations=300 if not split.quick else 2, random_state=seed,
            use_gpu=False, num_threads=1,
        )  # fmt: skip
        model.fit(train, show_progress=False)
        seconds = time.perf_counter() - start
        scores = {name: model.user_factors[users] @ model.item_factors.T for name, users in split.cases.items()}
        yield f"factors {factors}, learning rate {rate}, regularization {regularization}", seconds, scores


def sasrec(split: Split, seed: int) -> Iterator[Tried]:
    """RecTools' SASRec, softmax loss; scores every few epochs, so that the best stopping point can be chosen."""
    from pytorch_lightning import seed_everything
    from rectools.models import SASRecModel

    data = dataset(split.train)
    histories = {name: dataset(log) for name, log in split.histories.items()}
    epochs, every, lengths = (100, 10, (50, 100)) if not split.quick else (2, 1, (20,))
    for length in lengths:  # it trains on each user's last `length` events; most have fewer than 100
        seed_everything(seed)
        model = SASRecModel(
            n_blocks=2, n_heads=2, n_factors=64, dropout_rate=0.3, session_max_len=length, loss="softmax",
            lr=2e-3, batch_size=32, epochs=1, deterministic=True, recommend_torch_device="cpu",
        )  # fmt: skip
        seconds = 0.0
        for epoch in range(every, epochs + 1, every):
            start = time.perf_counter()
            model.fit_partial(data, min_epochs=every, max_epochs=every)
            seconds += time.perf_counter() - start
            scores = {name: all_scores(model, split.histories[name], histories[name]) for name in histories}
            yield f"session_max_len {length}, {epoch} epochs", seconds, scores


def dataset(log: Log) -> Any:
    """RecTools' form of it. The time is the place in the log: the order is all that SASRec reads."""
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset

    times = pd.Timestamp("2000-01-01") + pd.to_timedelta(np.arange(len(log.users)), unit="s")
    columns = {Columns.User: log.users, Columns.Item: log.items, Columns.Weight: 1.0, Columns.Datetime: times}
    return Dataset.construct(pd.DataFrame(columns))


def all_scores(model: Any, log: Log, data: Any) -> np.ndarray:
    """Scores of all items for all cases; -inf for items that it does not know, as it recommends none of them."""
    known = len(model.data_preparator.get_known_item_ids())
    found = model.recommend(np.unique(log.users), data, k=known, filter_viewed=False, on_unsupported_targets="ignore")
    scores = np.full((log.num_users, log.num_items), -np.inf, np.float32)
    scores[found["user_id"].to_numpy(), found["item_id"].to_numpy()] = found["score"].to_numpy()
    return scores


MODELS = {"als": als, "bpr": bpr, "sasrec": sasrec}
PACKAGES = {"als": ("implicit",), "bpr": ("implicit",), "sasrec": ("rectools", "torch")}


def main(name: str, seed: int, file: Path, out: Path) -> None:
    """Write one file for each setting that is tried."""
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES[name])
    for number, (setting, seconds, scores) in enumerate(MODELS[name](Split.read(file), seed)):
        arrays = {case: matrix.astype(np.float32) for case, matrix in scores.items()}
        np.savez(out / f"{number:03}.npz", setting=setting, seconds=seconds, versions=versions, **arrays)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
