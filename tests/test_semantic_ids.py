"""Semantic IDs: the codes describe the vector, no two items share an ID, and the trie holds nothing else."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans, kmeans_plusplus

from m6rec_mini.semantic_ids import ResidualQuantiser, Trie, assign_ids, kmeans, squared_distances

QUANTISER = ResidualQuantiser(
    (np.array([[0, 0], [10, 0]], np.float32), np.array([[0, 0], [0, 2], [3, 0]], np.float32)),
)
LINE = ResidualQuantiser((np.array([[0], [100]], np.float32), np.array([[0], [1], [5]], np.float32)))


def vectors(*rows: float) -> np.ndarray:
    return np.array(rows, np.float64)[:, None]


def blobs(points: int = 400, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(12, 5))[rng.integers(0, 12, points)] * 4 + rng.normal(size=(points, 5))


def inertia(x: np.ndarray, centroids: np.ndarray) -> float:
    return float(squared_distances(x, centroids).min(1).sum())


# k-means


@given(seed=st.integers(0, 1000), points=st.integers(1, 6), k=st.integers(1, 4))
def test_squared_distances_agree_with_the_definition(seed: int, points: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    x, centroids = rng.normal(size=(points, 3)), rng.normal(size=(k, 3))
    expected = [[((p - c) ** 2).sum() for c in centroids] for p in x]
    np.testing.assert_allclose(squared_distances(x, centroids), expected, atol=1e-12)
    assert (squared_distances(x, x) >= 0).all()


@pytest.mark.parametrize("k", [4, 12, 30])
def test_kmeans_is_as_good_as_scikit_learn(k: int) -> None:
    """Same algorithm, other random numbers: the means of ten runs each differ by a few per cent."""
    x = blobs()
    ours = [inertia(x, kmeans(x, k, np.random.default_rng(seed), rounds=100)) for seed in range(10)]
    seeds = [kmeans_plusplus(x, k, random_state=seed, n_local_trials=1)[0] for seed in range(10)]
    theirs = [KMeans(k, init=start, n_init=1).fit(x).inertia_ for start in seeds]
    assert 0.9 < np.mean(ours) / np.mean(theirs) < 1.1


def test_kmeans_ends_where_scikit_learn_finds_nothing_to_improve() -> None:
    x = blobs()
    ours = kmeans(x, 12, np.random.default_rng(0), rounds=100)
    theirs = KMeans(12, init=ours, n_init=1, tol=0).fit(x)
    np.testing.assert_allclose(np.sort(theirs.cluster_centers_, axis=0), np.sort(ours, axis=0), atol=1e-3)


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), distinct=st.integers(2, 30), copies=st.integers(1, 20), data=st.data())
def test_kmeans_leaves_no_cluster_empty(seed: int, distinct: int, copies: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    different = rng.integers(-3, 4, size=(distinct, 2)).astype(float)
    x = np.repeat(different, rng.integers(1, copies + 1, distinct), axis=0)
    k = data.draw(st.integers(1, len(np.unique(different, axis=0))))
    centroids = kmeans(x, k, rng)
    assert centroids.shape == (k, 2)
    assert len(np.unique(squared_distances(x, centroids).argmin(1))) == k


class TwiceTheSame(np.random.Generator):
    """Picks points 0, 1 and 0 again as seeds, whatever their chances."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))
        self.picks = iter([1, 0])

    def integers(self, *_: int, size: int) -> np.ndarray:  # type: ignore[override]
        return np.zeros(size, np.int64)

    def choice(self, *_: int, **__: object) -> int:  # type: ignore[override]
        return next(self.picks)


def test_an_empty_cluster_restarts_at_the_farthest_point() -> None:
    """The second centroid takes 1, 8 and 9; the third is where the first is, finds nothing, and goes to 9."""
    assert sorted(kmeans(vectors(0, 1, 8, 9), 3, TwiceTheSame(), rounds=1)[:, 0]) == [0, 6, 9]
    assert sorted(kmeans(vectors(0, 1, 8, 9), 3, TwiceTheSame())[:, 0]) == [0, 1, 8.5]


@pytest.mark.parametrize("distinct", [1, 2, 3])
def test_fewer_distinct_points_than_centroids(distinct: int) -> None:
    x = np.repeat(np.arange(distinct, dtype=float)[:, None], 4, axis=0)
    centroids = kmeans(x, 5, np.random.default_rng(0))
    assert centroids.shape == (5, 1)
    assert np.isfinite(centroids).all()
    assert inertia(x, centroids) == 0


def test_the_same_seed_gives_the_same_centroids() -> None:
    x = blobs()
    one, same, other = (kmeans(x, 8, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


# The quantiser


def test_codes_worked_by_hand() -> None:
    """(12, .4): nearest to (10, 0), leaves (2, .4), nearest to (3, 0). Together they say (13, 0)."""
    x = np.array([[12, 0.4], [1, 1.5], [9, 0]])
    codes = QUANTISER.encode(x)
    assert codes.tolist() == [[1, 2], [0, 1], [1, 0]]
    assert QUANTISER.decode(codes).tolist() == [[13, 0], [0, 2], [10, 0]]
    assert QUANTISER.decode(codes[:, :1]).tolist() == [[10, 0], [0, 0], [10, 0]]  # what the first code alone says
    assert QUANTISER.decode(codes[:, :0]).tolist() == [[0, 0]] * 3


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), items=st.integers(2, 60))
def test_each_level_brings_the_description_closer(seed: int, items: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(items, 4))
    quantiser = ResidualQuantiser.fit(x, (4, 4, 4), rng)
    codes = quantiser.encode(x)
    errors = [float(((x - quantiser.decode(codes[:, :n])) ** 2).sum()) for n in range(4)]
    for before, after in pairwise(errors):
        assert after < before or after < 1e-9


def test_every_level_takes_the_nearest_centroid_of_what_is_left() -> None:
    x = blobs(50).astype(np.float32)
    quantiser = ResidualQuantiser.fit(x, (5, 4, 3), np.random.default_rng(0))
    codes = quantiser.encode(x)
    for row, code in zip(x.astype(np.float64), codes, strict=True):
        for level, chosen in zip(quantiser.levels, code, strict=True):
            away = ((row - level) ** 2).sum(1)
            assert away[chosen] <= away.min() + 1e-9
            row = row - level[chosen]


def test_similar_items_share_a_prefix() -> None:
    x = blobs(200)
    quantiser = ResidualQuantiser.fit(x, (12, 8), np.random.default_rng(0))
    close = quantiser.encode(x + 1e-3)
    assert (close[:, 0] == quantiser.encode(x)[:, 0]).mean() > 0.98


def test_fit_learns_from_residuals_in_one_dimension() -> None:
    """Points at 0, 1, 10, 11: the first level finds .5 and 10.5, the second ±.5 around both at once."""
    quantiser = ResidualQuantiser.fit(vectors(0, 1, 10, 11), (2, 2), np.random.default_rng(0))
    assert [sorted(level[:, 0].tolist()) for level in quantiser.levels] == [[0.5, 10.5], [-0.5, 0.5]]
    codes = quantiser.encode(vectors(0, 1, 10, 11))
    assert quantiser.decode(codes)[:, 0].tolist() == [0, 1, 10, 11]


# IDs


def test_items_that_agree_are_numbered_in_their_order() -> None:
    ids = assign_ids(LINE, vectors(0, 100, 0.1, 0), spare=3)
    assert ids.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 2]]


def test_overflow_takes_the_next_nearest_code() -> None:
    """Two places a code: the third and fourth at 0 go to code 1 (at 1), the fifth to code 2 (at 5)."""
    ids = assign_ids(LINE, vectors(0, 0, 0, 0, 0, 4), spare=2)
    assert ids.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [0, 2, 0], [0, 2, 1]]


def test_no_room_is_said_plainly() -> None:
    full = vectors(*[0] * 6)
    assert len(assign_ids(LINE, full, spare=2)) == 6
    with pytest.raises(ValueError, match=r"item 6: no free ID under \(0,\); raise the code sizes, or `spare` above 2"):
        assign_ids(LINE, np.vstack([full, [[0.0]]]), spare=2)


many_duplicates = st.lists(st.sampled_from([-1.0, 0.0, 0.4, 0.6, 3.0, 5.0, 100.0, 102.0]), min_size=1, max_size=25)


@given(rows=many_duplicates, spare=st.integers(5, 9))
def test_ids_are_always_different_and_as_close_as_there_is_room(rows: list[float], spare: int) -> None:
    x = vectors(*rows)
    try:
        ids = assign_ids(LINE, x, spare)
    except ValueError:
        nearest = LINE.encode(x)[:, 0]
        assert np.bincount(nearest).max() > 3 * spare  # three codes of the last level, `spare` places each
        return
    assert len(np.unique(ids, axis=0)) == len(x)
    assert (ids >= 0).all()
    assert (ids < [2, 3, spare]).all()
    assert np.array_equal(ids[:, 0], LINE.encode(x)[:, 0])
    for row, (first, code, _) in enumerate(ids):
        rest = x[row, 0] - LINE.levels[0][first, 0]
        away = (rest - LINE.levels[1][:, 0]) ** 2
        for closer in np.flatnonzero(away < away[code]):  # was full when this item came
            assert ((ids[:row, :2] == [first, closer]).all(1)).sum() == spare


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), kinds=st.integers(1, 6))
def test_ids_of_real_vectors_start_with_their_codes(seed: int, kinds: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(kinds, 6)).astype(np.float32)[rng.integers(0, kinds, 40)]
    quantiser = ResidualQuantiser.fit(x, (3, 3, 3), rng)
    assert np.array_equal(assign_ids(quantiser, x, spare=40)[:, :-1], quantiser.encode(x))


@given(rows=many_duplicates, later=many_duplicates)
def test_items_that_come_later_change_no_earlier_id(rows: list[float], later: list[float]) -> None:
    """What an ID says of the content depends on the item alone; its last number on who was there before."""
    before = assign_ids(LINE, vectors(*rows), spare=50)
    assert np.array_equal(assign_ids(LINE, vectors(*rows, *later), spare=50)[: len(rows)], before)


@given(rows=many_duplicates, data=st.data())
def test_codes_do_not_depend_on_the_other_items(rows: list[float], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    x = vectors(*rows)
    assert np.array_equal(LINE.encode(x[order]), LINE.encode(x)[order])
    with_room = assign_ids(LINE, x, spare=50)
    assert np.array_equal(assign_ids(LINE, x[order], spare=50)[:, :-1], with_room[order, :-1])


# The trie


def follow(trie: Trie, code: tuple[int, ...]) -> int:
    node = 0
    for table, step in zip(trie.tables, code, strict=True):
        if node < 0:
            return -1
        node = int(table[node, step])
    return node


def test_trie_of_three_items() -> None:
    trie = Trie.build(np.array([[1, 0], [0, 2], [1, 1]]), (2, 3))
    assert [table.tolist() for table in trie.tables] == [[[0, 1]], [[-1, -1, 1], [0, 2, -1]]]


@given(chosen=st.sets(st.integers(0, 23), min_size=1), seed=st.integers(0, 100))
def test_exactly_the_given_ids_can_be_reached(chosen: set[int], seed: int) -> None:
    sizes = (4, 3, 2)
    every = list(product(*(range(size) for size in sizes)))
    rows = np.random.default_rng(seed).permutation([every[n] for n in sorted(chosen)])
    trie = Trie.build(rows, sizes)
    found = {code: follow(trie, code) for code in every}
    expected = {tuple(code): row for row, code in enumerate(rows.tolist())}
    assert found == {code: expected.get(code, -1) for code in every}
    for table in trie.tables:  # no dead end: every node leads on to an item
        assert (table >= 0).any(1).all()


def test_a_shared_id_is_refused() -> None:
    with pytest.raises(ValueError, match="two items have the same semantic ID"):
        Trie.build(np.array([[0, 1], [1, 1], [0, 1]]), (2, 2))


def test_sizes_must_fit_the_ids() -> None:
    ids = np.array([[0, 1], [0, 0]])
    for sizes in ((2,), (2, 2, 2)):
        with pytest.raises(ValueError, match="argument"):
            Trie.build(ids, sizes)
