"""Semantic IDs: an item's vector written as a few small numbers, and the trie of the valid ones.

Residual quantisation: the first code names the nearest of k centroids, the second the nearest
centroid of what the first left over, and so on; similar items share a prefix. Items that still
agree in every code are told apart by one last number. The codes come from content alone, so an
item gets an ID on the day it arrives. Rajput et al. 2023 (TIGER), section 3.1, with k-means in
place of a trained RQ-VAE: nothing to train, and no codebook that collapses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64


def squared_distances(
    x: Float[np.ndarray, "points dim"], centroids: Float[np.ndarray, "k dim"]
) -> Float[np.ndarray, "points k"]:
    """Squared Euclidean distance of every point to every centroid."""
    expanded = (x**2).sum(1)[:, None] - 2 * x @ centroids.T + (centroids**2).sum(1)
    return np.asarray(np.maximum(expanded, 0))  # rounding can leave a point at distance -1e-16 from itself


def kmeans(
    x: Float[np.ndarray, "points dim"], k: int, rng: np.random.Generator, rounds: int = 30
) -> Float[np.ndarray, "k dim"]:
    """Lloyd's algorithm from k-means++ seeds (Arthur & Vassilvitskii 2007); an empty cluster restarts far out."""
    centroids = x[rng.integers(len(x), size=1)]
    for _ in range(k - 1):
        nearest = squared_distances(x, centroids).min(1)
        total = nearest.sum()
        chance = nearest / total if total > 0 else np.full(len(x), 1 / len(x))  # fewer distinct points than k
        centroids = np.vstack([centroids, x[rng.choice(len(x), p=chance)]])
    for _ in range(rounds):
        distances = squared_distances(x, centroids)
        label = distances.argmin(1)
        sums = np.zeros_like(centroids)
        np.add.at(sums, label, x)
        counts = np.bincount(label, minlength=k)
        moved = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], x[distances.min(1).argmax()])
        if np.allclose(moved, centroids):
            break
        centroids = moved
    return centroids


@dataclass(frozen=True, eq=False)
class ResidualQuantiser:
    """Centroids level by level; each level describes what the levels before it left over."""

    levels: tuple[Float32[np.ndarray, "_k dim"], ...]

    @classmethod
    def fit(
        cls, vectors: Float[np.ndarray, "items dim"], sizes: tuple[int, ...], rng: np.random.Generator
    ) -> ResidualQuantiser:
        """One k-means per level, on the residuals of the level before."""
        residual, levels = vectors.astype(np.float64), []
        for size in sizes:
            centroids = kmeans(residual, size, rng).astype(np.float32)
            residual = residual - centroids[squared_distances(residual, centroids).argmin(1)]
            levels.append(centroids)
        return cls(tuple(levels))

    def encode(self, vectors: Float[np.ndarray, "items dim"]) -> Int64[np.ndarray, "items levels"]:
        """The nearest centroid of each level's residual."""
        return np.stack([distances.argmin(1) for distances in self.distances(vectors)], axis=1).astype(np.int64)

    def distances(self, vectors: Float[np.ndarray, "items dim"]) -> Iterator[Float[np.ndarray, "items _"]]:
        """Level by level, how far the centroids are from what the levels before left over."""
        residual = vectors.astype(np.float64)
        for centroids in self.levels:
            far = squared_distances(residual, centroids)
            yield far
            residual = residual - centroids[far.argmin(1)]

    def decode(self, codes: Int64[np.ndarray, "items written"]) -> Float32[np.ndarray, "items dim"]:
        """The sum of the named centroids: the closest vector that the codes, or the first few, can say."""
        vectors = np.zeros((len(codes), self.levels[0].shape[1]), np.float32)
        for centroids, code in zip(self.levels, codes.T, strict=False):
            vectors += centroids[code]
        return vectors


def assign_ids(
    quantiser: ResidualQuantiser, vectors: Float[np.ndarray, "items dim"], spare: int
) -> Int64[np.ndarray, "items levels_plus_one"]:
    """A different ID for every item: its codes, and a last number below `spare` for those that collide.

    When more than `spare` items share all codes, the overflow takes the next nearest code of the
    last level, so that an ID stays close to the truth. First come, first served: items added at the
    end change no ID before them. Raises ValueError if there is no room.
    """
    *levels, last = quantiser.distances(vectors)
    prefixes = np.stack([far.argmin(1) for far in levels], axis=1) if levels else np.zeros((len(vectors), 0), np.int64)
    nearest = last.argsort(1, kind="stable")
    used: dict[tuple[int, ...], int] = {}
    ids = np.empty((len(vectors), len(quantiser.levels) + 1), np.int64)
    for row, prefix in enumerate(map(tuple, prefixes.tolist())):
        for code in nearest[row].tolist():
            number = used.get((*prefix, code), 0)
            if number < spare:
                used[(*prefix, code)] = number + 1
                ids[row] = (*prefix, code, number)
                break
        else:
            raise ValueError(f"item {row}: no free ID under {prefix}; raise the code sizes, or `spare` above {spare}")
    return ids


@dataclass(frozen=True, eq=False)
class Trie:
    """The valid IDs as one table per level: tables[level][node, code] is the next node, or -1.

    Nodes of the last table's entries are the items themselves.
    """

    tables: tuple[Int64[np.ndarray, "_nodes _codes"], ...]

    @classmethod
    def build(cls, ids: Int64[np.ndarray, "items levels"], sizes: tuple[int, ...]) -> Trie:
        """The trie of these IDs; raises ValueError if two items share one, or if `sizes` are not one a level."""
        if len(np.unique(ids, axis=0)) != len(ids):
            raise ValueError("two items have the same semantic ID; assign_ids makes them unique")
        node, count, tables = np.zeros(len(ids), np.int64), 1, []
        for level, (size, codes) in enumerate(zip(sizes, ids.T, strict=True)):
            key = node * size + codes
            _, child = np.unique(key, return_inverse=True)
            child = np.arange(len(ids)) if level == len(sizes) - 1 else child
            table = np.full((count, size), -1, np.int64)
            table[node, codes] = child
            tables.append(table)
            node, count = child, int(child.max()) + 1
        return cls(tuple(tables))
