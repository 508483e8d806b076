"""Logs of real decisions: what a shop showed, with what probability, and whether it was clicked.

A log of ratings cannot say what a *different* policy would have earned. These logs can, since each
round keeps its *propensity*: the probability with which the logging policy chose that item. Two
policies (uniform random, and Thompson sampling with Bernoulli rewards) served the same shop in the
same week, so what is estimated from one log can be compared with what the other one earned.
Saito et al. 2021, "Open Bandit Dataset and Pipeline".

The small version has 10,000 rounds and 38 to 69 clicks a log: enough to see that an estimator is
right, too few to say that a policy wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64

from m6rec_mini.datasets.columns import Columns, read_delimited
from m6rec_mini.datasets.records import Report, read_table
from m6rec_mini.datasets.sources import Source

Policy = Literal["random", "bts"]
Campaign = Literal["all", "men", "women"]
SOURCE = Source(
    name="open_bandit",
    about="10,000 logged decisions of a fashion shop per policy and campaign, with propensities and clicks",
    publisher="ZOZO Research, Open Bandit Dataset (small version)",
    licence="see the publisher's page",
    is_catalog=False,
    layouts={name: (f"{name}/*/item_context.csv",) for name in ("random", "bts")},  # one of them will do
)
USER_CATEGORIES = tuple(f"user_feature_{n}" for n in range(4))  # hashed
ITEM_CATEGORIES = tuple(f"item_feature_{n}" for n in range(1, 4))
LEAST = 1e-300  # above 0: an item that the policy could not choose was not shown


@dataclass(frozen=True, eq=False)
class BanditLog:
    """Rounds in order of time: in each, one item was shown in one slot of the page.

    `user_columns` name the columns of `user_features`. Logs do not all meet the same categories, so
    match two logs by these names. Columns of `item_context` mean the same in both policies' logs.
    """

    policy: Policy
    campaign: Campaign
    timestamps: Float64[np.ndarray, " rounds"]  # seconds since 1970
    items: Int64[np.ndarray, " rounds"]  # the action: a row of item_context
    positions: Int64[np.ndarray, " rounds"]  # the slot, from 0 (the file counts from 1)
    rewards: Int64[np.ndarray, " rounds"]  # 1 for a click, else 0
    propensities: Float64[np.ndarray, " rounds"]  # P(item | user, slot) under the policy, in (0, 1]
    user_features: Float32[np.ndarray, "rounds user_width"]  # one-hot
    user_columns: tuple[str, ...]
    affinities: Float32[np.ndarray, "rounds items"]  # the user's earlier clicks by item
    item_context: Float32[np.ndarray, "items item_width"]  # a number, then three one-hot blocks

    def __len__(self) -> int:
        return len(self.items)

    @property
    def num_items(self) -> int:
        """How many items the policy could choose from."""
        return len(self.item_context)


def load(path: Path, policy: Policy = "random", campaign: Campaign = "all") -> BanditLog:
    """Read one of the six logs; `path` is the folder that has the folders `random` and `bts`.

    Raises DataError with every bad row listed: leaving rows out would bias each estimate, so there
    is no way to skip them.
    """
    SOURCE.layout(path)
    folder, report = path / policy / campaign, Report()
    context = _item_context(folder / "item_context.csv", report)
    plain = folder / f"{campaign}.csv"
    file = plain if plain.exists() else plain.with_suffix(".csv.gz")
    affinities = [f"user-item_affinity_{n}" for n in range(len(context))]
    fields = ["timestamp", "item_id", "position", "click", "propensity_score", *USER_CATEGORIES, *affinities]
    table = Columns(file, read_delimited(file, report, fields, ","), fields)
    features, columns = _one_hot(table, USER_CATEGORIES)
    log = BanditLog(
        policy=policy,
        campaign=campaign,
        timestamps=_times(table),
        items=table.whole("item_id", 0, len(context) - 1),
        positions=table.whole("position", 1, 3) - 1,
        rewards=table.whole("click", 0, 1),
        propensities=table.numbers("propensity_score", LEAST, 1.0, "a probability above 0 and at most 1"),
        user_features=features,
        user_columns=columns,
        affinities=_numbers(table, affinities),
        item_context=context,
    )
    table.good(report)
    report.enforce("strict")
    return log


def _item_context(file: Path, report: Report) -> Float32[np.ndarray, "items item_width"]:
    fields = ["item_id", "item_feature_0", *ITEM_CATEGORIES]
    table = Columns(file, read_table(file, report, fields), fields)
    for n, item in enumerate(table.whole("item_id", 0, 10**6)):
        if item != n:
            table.fault(n, "item_id", "not in order", f"{n}: the log names items by their row here, from 0")
    context = np.hstack([_numbers(table, ["item_feature_0"]), _one_hot(table, ITEM_CATEGORIES)[0]])
    table.good(report)
    report.enforce("strict")
    return context


def _numbers(table: Columns, fields: Sequence[str]) -> Float32[np.ndarray, "rows width"]:
    columns = [table.numbers(field, -1e30, 1e30, "a number") for field in fields]
    return np.stack(columns, axis=1).astype(np.float32)


def _one_hot(table: Columns, fields: Sequence[str]) -> tuple[Float32[np.ndarray, "rows width"], tuple[str, ...]]:
    """One column for each category of each field, in order of first appearance.

    Not in order of name: the two policies' files hash the same item categories with different
    salts, so only the first appearance gives both the same columns.
    """
    blocks, names = [], []
    for field in fields:
        values = table.text(field)
        columns = {value: column for column, value in enumerate(dict.fromkeys(values))}
        blocks.append(np.eye(len(columns), dtype=np.float32)[[columns[value] for value in values]])
        names += [f"{field}={value}" for value in columns]
    return np.hstack(blocks), tuple(names)


def _times(table: Columns) -> Float64[np.ndarray, " rows"]:
    """Seconds since 1970 from texts such as 2019-11-24 00:00:34.762830+00:00, which may not fall."""
    seconds, latest = np.zeros(len(table.rows)), 0.0
    for n, text in enumerate(table.text("timestamp")):
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            time = datetime.min  # which has no zone
        if time.tzinfo is None:
            table.fault(n, "timestamp", "not a time", "a time with its zone, as in 2019-11-24 00:00:34.762830+00:00")
            continue
        seconds[n] = time.timestamp()
        if seconds[n] < latest:
            table.fault(n, "timestamp", "not in order", "a time no earlier than the row before")
        latest = seconds[n]
    return seconds
