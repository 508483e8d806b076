"""The honest opponents that need no network: popularity, item-kNN, Markov chain, EASE, content-kNN.

The one idea: but for popularity they are a single formula. A history is a row of weights that halve
every `half_life` events into the past, and scores are that row times an items x items matrix; the
recommenders differ only in the matrix. Each tries its own grid on the validation cases, for a
baseline that nobody tuned is no opponent. The matrix is dense: 4 bytes x items².
EASE: Steck 2019, eq. 8. Item-kNN: Sarwar et al. 2001, with the shrinkage of Bell and Koren 2007.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf

import numpy as np
from jaxtyping import Float, Float32, Float64
from scipy import sparse

from m6rec_mini.catalog import History, Interactions
from m6rec_mini.evaluation import Split, ndcg, target_ranks

LAST_ONLY = 1e-9  # a half-life so short that only the last event has any weight


def history_weights(histories: Sequence[History], num_items: int, half_life: float = inf) -> sparse.csr_array:
    """Cases x items: 0.5 ** (events ago / half_life), the last event being 0 ago; 0 for unseen items.

    An item that occurs more than once counts as of its latest event. After 20 half-lives, a
    millionth, an event is forgotten.
    """
    lengths = np.array([len(h) for h in histories], np.int64)
    rows = np.repeat(np.arange(len(histories)), lengths)
    items = np.concatenate([np.zeros(0, np.int64), *(h.items for h in histories)])
    ago = np.concatenate([np.zeros(0), *(np.arange(n)[::-1] for n in lengths)])
    _, first = np.unique((rows * num_items + items)[::-1], return_index=True)  # reversed: the latest comes first
    latest = len(rows) - 1 - first
    keep = latest[ago[latest] < 20 * half_life]
    weights = np.exp2(-ago[keep] / half_life).astype(np.float32)
    return sparse.csr_array((weights, (rows[keep], items[keep])), shape=(len(histories), num_items))


def user_items(train: Interactions) -> sparse.csr_array:
    """Users x items: 1 where the user has touched the item."""
    ones = np.ones(len(train), np.float32)
    matrix = sparse.csr_array((ones, (train.users, train.items)), shape=(train.num_users, train.num_items))
    matrix.data[:] = 1  # repeated events were added up
    return matrix


DAY = 86_400  # seconds


@dataclass(frozen=True)
class PopularityConfig:
    """Grid: after how many days an event counts half; never, for the textbook's popularity."""

    half_lives: Sequence[float] = (inf,)


class Popularity:
    """How often each item was touched, the same list for everybody; that is what to beat first.

    With a finite half-life it is the popularity of the hour: events before the history's last one
    count, and fade. An empty history is asked at the end of the training events.
    """

    name = "popularity"

    def __init__(self, config: PopularityConfig | None = None) -> None:
        self.config = config or PopularityConfig()

    def fit(self, split: Split) -> Popularity:
        """Keep the half-life with the best NDCG@10 on validation; the first of equals."""
        self.train, cases, best = split.train, split.validation, -1.0
        order = np.argsort(split.train.times, kind="stable")
        self.times, self.items = split.train.times[order], split.train.items[order]
        for half_life in self.config.half_lives:
            value = total_ndcg(self._scores(cases.histories, half_life), split)
            if value > best:
                best, self.half_life, self.chosen = value, half_life, f"half-life {half_life:g} days"
        return self

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "cases items"]:
        """Weighted counts of events."""
        return self._scores(histories, self.half_life)

    def _scores(self, histories: Sequence[History], half_life: float) -> Float32[np.ndarray, "cases items"]:
        if half_life == inf:
            return np.tile(self.train.item_counts.astype(np.float32), (len(histories), 1))
        result = np.empty((len(histories), self.train.num_items), np.float32)
        for row, history in enumerate(histories):
            now = history.times[-1] if len(history) else self.times[-1]
            start, end = np.searchsorted(self.times, [now - 20 * half_life * DAY, now])  # 2^-20 is nothing
            weights = np.exp2((self.times[start:end] - now) / (half_life * DAY))
            result[row] = np.bincount(self.items[start:end], weights, self.train.num_items)
        return result


class RecentPopularity(Popularity):
    """Popularity of the hour, as quick to fade as validation likes it."""

    name = "recent popularity"

    def __init__(self, config: PopularityConfig | None = None) -> None:
        super().__init__(config or PopularityConfig(half_lives=(inf, 7.0, 30.0, 90.0, 365.0)))


class ItemToItem(ABC):
    """scores(history) = sum over its items of weight(age) * matrix[item, candidate]."""

    name: str
    half_lives: Sequence[float]  # the grid, in events
    matrix: Float32[np.ndarray, "items items"]
    half_life: float
    fallback: Float32[np.ndarray, " items"]  # popularity, for who has no history
    chosen: str  # the setting that validation chose, for the report

    @abstractmethod
    def matrices(self, train: Interactions) -> Iterator[tuple[str, Float[np.ndarray, "items items"]]]:
        """The grid: each setting in words, and the matrix that training events make under it."""

    def fit(self, split: Split) -> ItemToItem:
        """Keep the matrix and half-life with the best NDCG@10 on validation; the first of equals."""
        histories, best = split.validation.histories, -1.0
        self.fallback = split.train.item_counts.astype(np.float32) / max(len(split.train), 1)
        for setting, matrix in self.matrices(split.train):
            small = matrix.astype(np.float32)
            for half_life in self.half_lives:
                value = total_ndcg(history_weights(histories, len(small), half_life) @ small, split)
                if value > best:
                    best, self.matrix, self.half_life = value, small, half_life
                    self.chosen = f"{setting}, half-life {half_life:g}"
        return self

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "cases items"]:
        """Each history's weights times the matrix; popularity for an empty history."""
        scores = np.asarray(history_weights(histories, len(self.matrix), self.half_life) @ self.matrix)
        scores[[len(h) == 0 for h in histories]] = self.fallback
        return scores


@dataclass(frozen=True)
class ItemKNNConfig:
    """Grid: how many neighbours an item keeps, what is added to the norms, how fast events fade."""

    neighbours: Sequence[int] = (20, 100, 1_000_000)
    shrink: Sequence[float] = (0.0, 10.0)
    half_lives: Sequence[float] = (inf, 5.0, 2.0)


class ItemKNN(ItemToItem):
    """Cosine between the sets of users who touched two items; shrinkage mistrusts small sets."""

    name = "item-kNN"

    def __init__(self, config: ItemKNNConfig | None = None) -> None:
        self.config = config or ItemKNNConfig()
        self.half_lives = self.config.half_lives

    def matrices(self, train: Interactions) -> Iterator[tuple[str, Float[np.ndarray, "items items"]]]:
        """common / (norm * norm + shrink), in each row the largest `neighbours` of them."""
        common = co_occurrence(train)
        norms = np.sqrt(np.diag(common))
        np.fill_diagonal(common, 0)
        for shrink, neighbours in product(self.config.shrink, self.config.neighbours):
            similarity = common / np.maximum(np.outer(norms, norms) + shrink, 1e-12)
            yield f"{min(neighbours, len(common))} neighbours, shrink {shrink:g}", keep_largest(similarity, neighbours)


@dataclass(frozen=True)
class EASEConfig:
    """Grid: the ridge, and how fast events fade (never, for the original)."""

    ridge: Sequence[float] = (50.0, 100.0, 200.0, 400.0, 800.0)
    half_lives: Sequence[float] = (inf,)


class EASE(ItemToItem):
    """Ridge regression of every item on all others, in closed form: one inverse gives all columns."""

    name = "EASE"

    def __init__(self, config: EASEConfig | None = None) -> None:
        self.config = config or EASEConfig()
        self.half_lives = self.config.half_lives

    def matrices(self, train: Interactions) -> Iterator[tuple[str, Float[np.ndarray, "items items"]]]:
        """B = P / -diag(P) with P = (X'X + ridge I)^-1, and a zero diagonal: no item predicts itself."""
        common = co_occurrence(train)
        for ridge in self.config.ridge:
            precision = np.linalg.inv(common + ridge * np.eye(len(common)))
            weights = precision / -np.diag(precision)
            np.fill_diagonal(weights, 0)
            yield f"ridge {ridge:g}", weights


class RecencyEASE(EASE):
    """EASE that reads a history as taste in motion: recent events weigh more."""

    name = "EASE + recency"

    def __init__(self, config: EASEConfig | None = None) -> None:
        super().__init__(config or EASEConfig(half_lives=(10.0, 5.0, 3.0, 2.0)))


@dataclass(frozen=True)
class MarkovConfig:
    """Grid of the chain. The first of each, with `half_lives=(LAST_ONLY,)`, is the textbook's order 1.

    A pair d events apart counts `distance_decay ** (d - 1)`, and `backward` times that in reverse.
    `smoothing` is the weight, in transitions, of popularity; `discount` is the power of popularity
    that divides what came out, for a popular item follows everything.
    """

    distance_decay: Sequence[float] = (0.0, 0.8, 0.9)
    backward: Sequence[float] = (0.0, 0.3)
    discount: Sequence[float] = (0.0, 0.2)
    smoothing: Sequence[float] = (20.0,)
    half_lives: Sequence[float] = (LAST_ONLY, 1.0, 2.0, 3.0)


class Markov(ItemToItem):
    """P(next item | item), mixed over the history; each row of the matrix is a distribution."""

    name = "Markov"

    def __init__(self, config: MarkovConfig | None = None) -> None:
        self.config = config or MarkovConfig()
        self.half_lives = self.config.half_lives

    def matrices(self, train: Interactions) -> Iterator[tuple[str, Float[np.ndarray, "items items"]]]:
        """(transitions + smoothing * popularity) / popularity ** discount, each row made to add up to 1."""
        popularity = (train.item_counts + 1) / (len(train) + train.num_items)
        grid = self.config
        for decay in grid.distance_decay:
            forward = transitions(train, decay)
            for backward, smoothing, discount in product(grid.backward, grid.smoothing, grid.discount):
                rows = (forward + backward * forward.T + smoothing * popularity) / popularity**discount
                setting = f"distance decay {decay:g}, backward {backward:g}, discount {discount:g}"
                yield setting, rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class ContentKNNConfig:
    """Grid: by which power of the lengths an inner product is divided (1 is the cosine), how fast events fade."""

    length_power: Sequence[float] = (1.0, 0.5, 0.0)
    half_lives: Sequence[float] = (inf, 20.0, 5.0, 2.0)


class ContentKNN(ItemToItem):
    """Likeness of item vectors, so that items are ranked which nobody has touched.

    The mean vector is taken off first: what all items share says nothing about taste. The cosine
    also forgets how long a vector is, and the other settings do not: where vectors are made of tags
    that people gave, length betrays popularity. An item whose vector is all zeros is unknown and
    is like none.
    """

    name = "content-kNN"

    def __init__(self, vectors: Float[np.ndarray, "items width"], config: ContentKNNConfig | None = None) -> None:
        self.config = config or ContentKNNConfig()
        self.half_lives = self.config.half_lives
        known = np.abs(vectors).sum(axis=1, keepdims=True) > 0
        self.vectors = np.where(known, vectors - vectors.mean(axis=0, where=known), 0.0)

    def matrices(self, train: Interactions) -> Iterator[tuple[str, Float[np.ndarray, "items items"]]]:
        """Inner products over a power of the lengths, with a zero diagonal."""
        if len(self.vectors) != train.num_items:
            raise ValueError(f"{len(self.vectors)} item vectors for {train.num_items} items; give one row per item")
        products = self.vectors @ self.vectors.T
        lengths = np.maximum(np.sqrt(np.diag(products)), 1e-12)
        np.fill_diagonal(products, 0)
        for power in self.config.length_power:
            yield f"lengths to the power of {power:g}", products / np.outer(lengths, lengths) ** power


def co_occurrence(train: Interactions) -> Float64[np.ndarray, "items items"]:
    """X'X: how many users have touched both items."""
    touched = user_items(train)
    return np.asarray((touched.T @ touched).toarray(), np.float64)


def transitions(train: Interactions, distance_decay: float) -> Float64[np.ndarray, "items items"]:
    """How often one item follows another in a user's events; d events later counts decay ** (d - 1)."""
    counts = np.zeros((train.num_items, train.num_items))
    weight, distance = 1.0, 1
    while weight > 0.02 and distance < len(train):
        same = train.users[distance:] == train.users[:-distance]
        np.add.at(counts, (train.items[:-distance][same], train.items[distance:][same]), weight)
        weight, distance = weight * distance_decay, distance + 1
    return counts


def keep_largest(matrix: Float[np.ndarray, "items items"], count: int) -> Float[np.ndarray, "items items"]:
    """The `count` largest of each row and what ties with them; zero elsewhere."""
    if count >= len(matrix):
        return matrix
    least = np.partition(matrix, -count, axis=1)[:, [-count]]
    return np.where(matrix >= least, matrix, 0)


def total_ndcg(scores: Float[np.ndarray, "cases items"], split: Split) -> float:
    """NDCG@10 on validation, summed, so that without any case it is 0 and not NaN."""
    cases = split.validation
    return float(ndcg(target_ranks(scores, cases.targets, cases.histories), 10).sum())
