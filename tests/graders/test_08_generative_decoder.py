"""Grader of chapter 8: residual quantisation, collisions, the trie's mask, beam search, sampling, KV cache.

The oracles are loops over single numbers, written from the definitions; worked examples are derived in comments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from m6rec_mini.course.answers import Answer
from m6rec_mini.course.expect import array, close, finite, number, numpy_of, refuses, require, same, unchanged, zero
from m6rec_mini.course.grader import Law, Question, given, hidden, points, teaches

Ranked = list[tuple[tuple[int, ...], float]]  # tokens and score, best first

INF, LN3 = math.inf, math.log(3)
# Multiples of 1/4: sums and squares of them are exact in float32, so ties are ties for everybody.
DYADIC = st.sampled_from([0.0, 1.0, -1.0, 0.5, -0.25, 2.0, -3.0])
SEEDS, TYPES = st.integers(0, 60), st.sampled_from([np.float64, np.float32])


def noise(seed: int, *shape: int, dtype: type = np.float64) -> np.ndarray:
    """The same normal numbers each time, short enough to read."""
    return np.random.default_rng(seed).normal(size=shape).round(1).astype(dtype)


# ---- oracles ------------------------------------------------------------------------------------


def quantised_of(vectors: np.ndarray, codebooks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, reconstruction and errors, number by number."""
    codes = np.zeros((len(vectors), len(codebooks)), int)
    errors, sums = np.zeros(codes.shape), np.zeros(vectors.shape)
    for row, vector in enumerate(vectors.astype(float).tolist()):
        for level, book in enumerate(codebooks):
            far = [math.fsum((x - c) ** 2 for x, c in zip(vector, row_, strict=True)) for row_ in book.tolist()]
            codes[row, level] = code = far.index(min(far))
            vector = [x - c for x, c in zip(vector, book[code].tolist(), strict=True)]
            errors[row, level] = far[code]
            sums[row] += book[code]
    return codes, sums, errors


def numbered(codes: np.ndarray) -> np.ndarray:
    """The codes of each row, and how many rows before it have the same."""
    rows = codes.tolist()
    return np.array([[*row, rows[:n].count(row)] for n, row in enumerate(rows)], np.int64)


def next_tokens(ids: np.ndarray, prefixes: np.ndarray, vocab: int) -> np.ndarray:
    """Token by token: is there an ID that begins so?"""
    begun = {tuple(row[:n]) for row in ids.tolist() for n in range(1, ids.shape[1] + 1)}
    rows = [[(*prefix, token) in begun for token in range(vocab)] for prefix in prefixes.tolist()]
    return np.array(rows, bool).reshape(len(prefixes), vocab)


def total_of(step: np.ndarray, path: Sequence[int]) -> float:
    """The sum of log-probabilities along a path that starts after 0."""
    return math.fsum(float(step[a, b]) for a, b in zip((0, *path), path, strict=False))


def ranked_of(step: np.ndarray, paths: Sequence[tuple[int, ...]], alpha: float) -> Ranked:
    """Paths that end with 0, best first, and by tokens where scores are equal."""
    scored = [(path[:-1], total_of(step, path) / len(path) ** alpha) for path in sorted(paths)]
    return sorted((pair for pair in scored if pair[1] > -INF), key=lambda pair: -pair[1])


def beamed_of(step: np.ndarray, valid: Sequence[Sequence[int]], width: int, alpha: float) -> Ranked:
    """Round by round: the beginnings of this length that go on from what was kept."""
    paths, alive, ended = {(*sequence, 0) for sequence in valid}, {()}, []
    for n in range(1, max(map(len, paths), default=0) + 1):
        begun = sorted({path[:n] for path in paths if len(path) >= n and path[: n - 1] in alive})
        begun = sorted((path for path in begun if total_of(step, path) > -INF), key=lambda path: -total_of(step, path))
        alive = set(begun[:width])
        ended += [path for path in alive if path[-1] == 0]
    return ranked_of(step, ended, alpha)[:width]


def drawn_from(row: Sequence[float], temperature: float, top_k: int | None, top_p: float | None) -> list[float]:
    """The probabilities of one row, token after token from the likeliest down."""
    order = sorted((n for n, x in enumerate(row) if x > -INF), key=lambda n: (-row[n], n))
    order = order[: 1 if temperature == 0 else top_k]
    odds = [math.exp((row[n] - row[order[0]]) / (temperature or 1)) for n in order]
    stay, reached = 0, 0.0
    while stay < len(odds) and (top_p in (None, 1) or reached < top_p):  # type: ignore[operator]
        reached += odds[stay] / math.fsum(odds)
        stay += 1
    out = [0.0] * len(row)
    for n, odd in zip(order[:stay], odds, strict=False):
        out[n] = odd / math.fsum(odds[:stay])
    return out


def attended(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Causal attention over whole sequences, one token at a time."""
    out = np.zeros((*query.shape[:2], value.shape[2]))
    for b, t in np.ndindex(*query.shape[:2]):
        scores = [float(query[b, t].astype(float) @ key[b, s]) / math.sqrt(query.shape[2]) for s in range(t + 1)]
        odds = [math.exp(score - max(scores)) for score in scores]
        out[b, t] = sum(odd * value[b, s].astype(float) for s, odd in enumerate(odds)) / math.fsum(odds)
    return out


# ---- pictures -----------------------------------------------------------------------------------


def two_grids(got: np.ndarray, want: np.ndarray, rows: Sequence[str]) -> str:
    """The wrong matrix above the right one, shaded by its numbers."""
    if got.shape != want.shape or np.allclose(got, want):
        return ""
    side, label, cells, top = 40, 130, [], 0
    for title, matrix in (("yours", got), ("right", want)):
        cells.append(f'<text x="0" y="{top + 14}" font-weight="bold">{title}</text>')
        for i, name in enumerate(rows):
            cells.append(f'<text x="0" y="{top + 22 + i * 24 + 16}">{name}</text>')
        for (i, j), x in np.ndenumerate(matrix):
            shade = min(max(float(np.nan_to_num(x)), 0.0), 1.0)
            ink = "#fff" if shade > 0.6 else "#000"
            differs = not np.isclose(x, want[i, j])
            edge = 'stroke="#d55e00" stroke-width="3"' if differs else 'stroke="#767f89"'
            left, high = label + j * side, top + 22 + i * 24
            cells.append(
                f'<rect x="{left + 2}" y="{high + 2}" width="{side - 4}" height="20" fill="#0072b2" '
                f'fill-opacity="{shade:.2f}" {edge}/><text x="{left + side / 2}" y="{high + 16}" '
                f'text-anchor="middle" fill="{ink}">{x:.2g}</text>'
            )
        top += 34 + 24 * len(rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{label + side * want.shape[1] + 4}" height="{top}" '
        f'font-family="sans-serif" font-size="11" role="img" aria-label="your matrix above the right one">'
        f"{''.join(cells)}</svg>"
    )


def matrix_of(value: Any) -> np.ndarray:
    """Whatever came out, as a matrix; a picture needs no more."""
    return np.atleast_2d(numpy_of(value).astype(float))


def draw_mask(answer: Answer, law: Law) -> str:
    """Three beams in a trie of five IDs; the last has gone astray."""
    ids = np.array([[1, 0, 2], [1, 0, 3], [1, 2, 2], [3, 1, 0], [3, 1, 4]])
    prefixes = np.array([[1, 0], [3, 1], [2, 1]])
    rows = [f"after {tuple(row)}" for row in prefixes.tolist()]
    return two_grids(matrix_of(answer.allowed_tokens(ids, prefixes, 5)), next_tokens(ids, prefixes, 5), rows)


def draw_chances(answer: Answer, law: Law) -> str:
    """One row of logits under five settings."""
    logits = np.log([0.4, 0.3, 0.3, 0.2, 0.1])
    knobs = [(1.0, None, None), (0.5, None, None), (0.0, None, None), (1.0, 2, None), (1.0, None, 0.6), (1.0, 3, 0.65)]
    got = [matrix_of(answer.sampling_distribution(logits, *knob)) for knob in knobs]
    want = [drawn_from(logits.tolist(), *knob) for knob in knobs]
    rows = [f"T {t:g}, k {k or '-'}, p {p or '-'}" for t, k, p in knobs]
    return two_grids(np.concatenate(got), np.array(want), rows)


# ---- 1. residual_quantise -----------------------------------------------------------------------

QUANTISE = Question(
    "residual_quantise",
    "Residual quantisation",
    section="quantise",
    hints=(
        "Follow one vector by hand through two levels, and write down what is left over after each.",
        "A residual starts as the vectors. At each level: distances to all centroids, the nearest; take it off.",
        "Distances: the residual with an axis in the middle, minus the centroids, squared, summed over the last axis. "
        "argmin takes the lowest index by itself. Add the chosen centroids to a sum, take them off the residual, and "
        "note its squared length.",
    ),
    forbidden=("sklearn", "faiss", "scipy.cluster"),
)


def described(value: Any) -> tuple[Any, Any, Any]:
    """The three things that come back."""
    good = isinstance(value, tuple | list) and len(value) == 3
    require(good, "Return three things: codes, reconstruction, errors", value)
    return value[0], value[1], value[2]


def agrees(answer: Answer, vectors: np.ndarray, codebooks: list[np.ndarray], what: str = "") -> None:
    """All three, against the oracle."""
    codes, reconstruction, errors = described(answer.residual_quantise(vectors, codebooks))
    wanted = quantised_of(vectors, codebooks)
    same(codes, wanted[0], f"{what}the array of codes")
    close(reconstruction, wanted[1], f"{what}the reconstruction", like=vectors)
    close(errors, wanted[2], f"{what}the array of errors", like=vectors)


@st.composite
def coded(draw: Any) -> tuple[np.ndarray, list[np.ndarray]]:
    """A few vectors and one to three codebooks of different sizes."""
    items, dim = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    arrays = [draw(hnp.arrays(float, (rows, dim), elements=DYADIC, fill=st.nothing())) for rows in (items, *sizes)]
    return arrays[0], arrays[1:]


@points(1, QUANTISE)
@teaches("Each level names the centroid nearest to what the levels before left over; their sum is the reconstruction.")
def test_two_levels_by_hand(answer: Answer) -> None:
    books = [np.array([[0.0, 0], [4, 0]]), np.array([[0.0, 2], [1, 0]])]
    # [5, 1]: 26 and 2, so 1; [1, 1] is left: 2 and 1, so 1; [0, 1] is left
    codes, reconstruction, errors = described(answer.residual_quantise(np.array([[5.0, 1.0]]), books))
    same(codes, np.array([[1, 1]]), "the array of codes")
    close(reconstruction, np.array([[5.0, 0.0]]), "the reconstruction")
    close(errors, np.array([[2.0, 1.0]]), "the array of errors")


@points(2, QUANTISE)
@teaches(
    "The second level is asked about the residual, never again about the vector; nearest is by Euclidean distance."
)
@given(examples=40, case=coded())
def test_each_level_describes_the_residual(answer: Answer, case: tuple[np.ndarray, list[np.ndarray]]) -> None:
    agrees(answer, *case)


@points(1, QUANTISE)
@teaches("Between centroids that are equally near, the lowest index is taken: a tie must not depend on the machine.")
@given(examples=15, dim=st.integers(1, 3), turn=st.integers(0, 3))
def test_ties_go_to_the_lowest_index(answer: Answer, dim: int, turn: int) -> None:
    # around the origin, all at distance 1: then the same again, so that the second level has ties as well
    book = np.roll(np.concatenate([np.eye(dim), -np.eye(dim), np.eye(dim)]), turn, axis=0)
    agrees(answer, np.zeros((2, dim)), [book, np.concatenate([3 * book, book])], "with ties, ")


@points(1, QUANTISE)
@teaches("The errors are squared lengths of what is left, one per item and level; they need not fall at every level.")
@given(examples=12, seed=SEEDS, items=st.integers(1, 5), levels=st.integers(1, 4))
def test_errors_level_by_level(answer: Answer, seed: int, items: int, levels: int) -> None:
    vectors, books = 3 * noise(seed, items, 3), [noise(seed + 90 * n, 2 + n, 3) for n in range(1, levels + 1)]
    agrees(answer, vectors, books)


@points(1, QUANTISE)
@teaches("Codes are int64; the rest has the type of the vectors. The vectors are the caller's and stay as they are.")
@given(examples=8, kind=TYPES, seed=st.integers(0, 9))
def test_types_are_kept(answer: Answer, kind: type, seed: int) -> None:
    vectors = np.random.default_rng(seed).integers(-8, 9, (3, 2)).astype(kind) / 4
    books = [np.array([[0, 1], [1, 0], [-1, -1]], kind), np.array([[0.5, 0], [0, -0.5]], kind)]
    codes, reconstruction, errors = described(answer.residual_quantise(vectors, books))
    unchanged(answer)
    array(codes, (3, 2), np.int64, "the array of codes")
    array(reconstruction, (3, 2), kind, "the reconstruction")
    array(errors, (3, 2), kind, "the array of errors")
    wanted = quantised_of(vectors, books)
    for got, want in zip((codes, reconstruction, errors), wanted, strict=True):
        close(got, want, "one of the results", like=vectors)


@points(1, QUANTISE)
@teaches(
    "A codebook that is empty, or of another width, is refused; broadcasting would accept a width of 1 in silence."
)
def test_codebooks_that_do_not_fit_are_refused(answer: Answer) -> None:
    good = np.ones((2, 3))
    for shape in ((2, 1), (0, 3), (2, 2), (2, 4)):
        what = f"a codebook of shape {shape} for vectors of width 3"
        refuses(answer.residual_quantise, np.ones((4, 3)), [np.ones(shape)], what=what)
        refuses(answer.residual_quantise, np.ones((4, 3)), [good, np.ones(shape)], what=what)
    agrees(answer, np.ones((1, 3)), [good, good])


@points(1, QUANTISE)
@hidden
@teaches("Far from the origin only differences are exact; and no items or no levels are not an error.")
@given(examples=8, seed=st.integers(0, 9), far=st.sampled_from([1e8, -1e8]))
def test_far_away_and_empty(answer: Answer, seed: int, far: float) -> None:
    vectors = np.random.default_rng(seed).integers(-8, 9, (4, 2)) / 2 + far
    near = np.array([[0.5, 0], [-0.5, 1], [2, 2], [0, -3], [-3, -2]])
    agrees(answer, vectors, [near + far, near / 2], "far from the origin, ")
    agrees(answer, vectors[:0], [near, near[:2]], "without items, ")
    agrees(answer, vectors[:1], [], "without levels, ")


# ---- 2. assign_ids ------------------------------------------------------------------------------

COLLISIONS = Question(
    "assign_ids",
    "When codes collide",
    section="collisions",
    hints=(
        "Go through the rows in order. What must you remember of the rows before?",
        "A dictionary from codes to how many items have had them so far. A row of an array is no key; a tuple is.",
        "For each row: look its tuple up, 0 if it is new. If the count is at least spare, raise, with the row. "
        "Otherwise the count is the last number, and goes up by one. Join codes and numbers as int64.",
    ),
)


@points(1, COLLISIONS)
@teaches("Among items with the same codes, the first gets 0, the next 1, and so on; the order of rows stays.")
def test_four_items_by_hand(answer: Answer) -> None:
    codes = np.array([[3, 1], [0, 2], [3, 1], [3, 1]])
    want = np.array([[3, 1, 0], [0, 2, 0], [3, 1, 1], [3, 1, 2]])
    same(answer.assign_ids(codes, 4), want, "the array of IDs")


@points(2, COLLISIONS)
@teaches("Every ID is different, keeps its codes, and stands in its row. Items that collide need not be neighbours.")
@given(
    examples=30, codes=hnp.arrays(np.int64, st.tuples(st.integers(1, 7), st.integers(1, 3)), elements=st.integers(0, 2))
)
def test_every_id_is_different(answer: Answer, codes: np.ndarray) -> None:
    same(answer.assign_ids(codes, 7), numbered(codes), "the array of IDs")


@points(1, COLLISIONS)
@teaches("First come, first served: an item added at the end changes no ID before it, or everything must be relearnt.")
@given(examples=12, seed=SEEDS, first=st.integers(1, 8))
def test_new_items_change_no_id(answer: Answer, seed: int, first: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2, (10, 2))
    before = array(answer.assign_ids(codes[:first], 10), (first, 3), what="the array of IDs")
    after = array(answer.assign_ids(codes, 10), (10, 3), what="the array of IDs")
    require((before == after[:first]).all(), "IDs changed when items were added at the end", after[:first], before)
    same(after, numbered(codes), "the array of IDs")


@points(1, COLLISIONS)
@teaches("Exactly `spare` items may share their codes. One more has no number: refuse it, and say which row it is.")
@given(examples=10, spare=st.integers(1, 4), before=st.integers(0, 3), between=st.integers(0, 2))
def test_too_many_are_refused(answer: Answer, spare: int, before: int, between: int) -> None:
    others = [[9, n] for n in range(before)]
    rows = [*others, *[[1, 2]] * spare, *[[2, 1]] * between]
    same(answer.assign_ids(np.array(rows), max(spare, between)), numbered(np.array(rows)), "the array of IDs")
    if between <= spare:
        row = len(rows)
        full = np.array([*rows, [1, 2], [5, 5], [1, 2]])
        said = refuses(
            answer.assign_ids, full, spare, what=f"{spare + 2} items with the same codes, with spare {spare},"
        )
        named = [int(n) for n in re.findall(r"\d+", said)]
        require(row in named, f"the message should name row {row}, the first without a number", said)


@points(1, COLLISIONS)
@teaches("IDs are int64, whatever small type the codes came in: number 300 does not fit into a byte.")
@given(examples=4, kind=st.sampled_from([np.uint8, np.int16, np.int32, np.int64]), rows=st.sampled_from([3, 300]))
def test_ids_are_int64(answer: Answer, kind: type, rows: int) -> None:
    codes = np.full((rows, 2), 7, kind)
    codes[1] = 100
    ids = array(answer.assign_ids(codes, 400), (rows, 3), np.int64, "the array of IDs")
    unchanged(answer)
    same(ids, numbered(codes), "the array of IDs")


@points(1, COLLISIONS)
@teaches("Codes are compared one by one. Run together into one number or text, [1, 11] and [11, 1] become the same.")
@given(examples=6, big=st.sampled_from([10, 100, 256, 1000, 1024, 2**31]))
def test_different_codes_are_not_confused(answer: Answer, big: int) -> None:
    codes = np.array([[0, big], [1, 0], [1, 11], [11, 1], [111, 0], [big, 0], [0, 1], [1, 11], [0, 111], [big - 1, 1]])
    same(answer.assign_ids(codes, 2), numbered(codes), "the array of IDs")


@points(1, COLLISIONS)
@hidden
@teaches("No items, no levels and 20,000 items are all fine; a last level without numbers is not.")
def test_empty_and_large(answer: Answer) -> None:
    refuses(answer.assign_ids, np.array([[1, 2]]), 0, what="a spare of 0")
    refuses(answer.assign_ids, np.zeros((0, 2), int), 0, what="a spare of 0")
    array(answer.assign_ids(np.zeros((0, 2), int), 1), (0, 3), what="without items, the array of IDs")
    want = np.array([[0], [1], [2]])
    same(answer.assign_ids(np.zeros((3, 0), int), 3), want, "without levels, the array of IDs")
    codes = np.arange(20_000)[:, None] % 9_999 * [1, 3]
    want = np.concatenate([codes, np.arange(20_000)[:, None] // 9_999], axis=1)
    same(answer.assign_ids(codes, 3), want, "for 20,000 items, the array of IDs")


# ---- 3. allowed_tokens --------------------------------------------------------------------------

TRIE = Question(
    "allowed_tokens",
    "Only what exists",
    section="trie",
    hints=(
        "For one beam: which of the IDs begin with what it has written, and what is their next token?",
        "Compare every prefix with the first `written` columns of every ID, all tokens at once; nothing written "
        "agrees with everything. A complete ID has no next token.",
        "begins[beam, item] is true where all `written` columns agree. Start from a mask of False and, for every such "
        "pair, set the place of ids[item, written] in the beam's row. Skip this if written equals levels.",
    ),
    draw=draw_mask,
)


def trie_of(seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """IDs, and prefixes of one length, most of which begin some ID."""
    rng = np.random.default_rng(seed)
    vocab, levels = int(rng.integers(2, 5)), int(rng.integers(1, 4))
    ids = rng.integers(0, vocab, (int(rng.integers(1, 7)), levels))
    prefixes = ids[rng.integers(0, len(ids), 3), : seed % (levels + 1)].copy()
    prefixes[0] = rng.integers(0, vocab, prefixes.shape[1])
    return ids, prefixes, vocab


@points(1, TRIE)
@teaches("A token may follow a prefix if some valid ID begins with the prefix and then this token.")
def test_three_ids_by_hand(answer: Answer) -> None:
    ids, t, f = np.array([[1, 0], [1, 2], [3, 1]]), True, False
    got = answer.allowed_tokens(ids, np.zeros((1, 0), int), 4)
    same(got, np.array([[f, t, f, t]]), "after nothing, the mask")
    got = answer.allowed_tokens(ids, np.array([[1], [2]]), 4)
    same(got, np.array([[t, f, t, f], [f, f, f, f]]), "after [1] and [2], the mask")


@points(2, TRIE)
@teaches("The whole prefix counts, every token in its place: not the last token alone, and not some of them.")
@given(examples=30, seed=st.integers(0, 300))
def test_the_whole_prefix_counts(answer: Answer, seed: int) -> None:
    ids = np.array([[0, 1, 2], [1, 0, 0], [1, 1, 1], [2, 1, 0]])
    prefixes = np.array([[0, 1], [1, 0], [1, 1], [2, 1], [1, 2], [0, 0]])
    same(answer.allowed_tokens(ids, prefixes, 3), next_tokens(ids, prefixes, 3), "the mask")
    ids, prefixes, vocab = trie_of(seed)
    same(answer.allowed_tokens(ids, prefixes, vocab), next_tokens(ids, prefixes, vocab), "the mask")


@points(1, TRIE)
@teaches("Beams are independent, and each gets its own row. The mask is boolean, and as wide as the vocabulary.")
@given(examples=12, beams=st.integers(1, 6), vocab=st.sampled_from([6, 9]), seed=SEEDS)
def test_each_beam_has_its_row(answer: Answer, beams: int, vocab: int, seed: int) -> None:
    ids = np.random.default_rng(seed).integers(0, 6, (12, 3))
    prefixes = ids[:beams, :2][::-1]
    got = array(answer.allowed_tokens(ids, prefixes, vocab), (beams, vocab), bool, "the mask")
    unchanged(answer)
    same(got, next_tokens(ids, prefixes, vocab), "the mask")


@points(1, TRIE)
@teaches("After a complete ID nothing may follow, and after a prefix of no ID neither, whatever numbers it holds.")
@given(examples=12, astray=st.sampled_from([[[2, 0]], [[-1, 0]], [[0, 9]], [[1, -2], [3, 1]], [[99, 99], [1, 0]]]))
def test_dead_ends_allow_nothing(answer: Answer, astray: list[list[int]]) -> None:
    ids = np.array([[1, 0, 2], [1, 2, 2], [3, 1, 0], [3, 1, 3]])
    prefixes = np.array(astray)
    same(answer.allowed_tokens(ids, prefixes, 4), next_tokens(ids, prefixes, 4), f"after {astray}, the mask")
    full = np.array([[1, 0, 2], [3, 1, 0], [0, 0, 0]])
    zero(answer.allowed_tokens(ids, full, 4), what="the mask after complete IDs")
    array(answer.allowed_tokens(ids, full, 4), (3, 4), what="the mask after complete IDs")


@points(1, TRIE)
@teaches("Inputs that cannot be are refused: a prefix longer than an ID, or an ID outside the vocabulary.")
@given(examples=6, low=st.sampled_from([0, -1]), top=st.integers(2, 4), levels=st.integers(1, 2))
def test_what_cannot_be_is_refused(answer: Answer, low: int, top: int, levels: int) -> None:
    ids, prefix = np.array([[0, 1], [top, 0], [1, low]]), np.array([[1]])
    if low < 0:
        refuses(answer.allowed_tokens, ids, prefix, 9, what="an ID with the token -1")
    else:
        same(answer.allowed_tokens(ids, prefix, top + 1), next_tokens(ids, prefix, top + 1), "the mask")
    refuses(answer.allowed_tokens, np.abs(ids), prefix, top, what=f"the token {top} in a vocabulary of {top}")
    long = np.zeros((1, levels + 1), int)
    refuses(answer.allowed_tokens, np.zeros((2, levels), int), long, 3, what="a prefix longer than an ID")


@points(1, TRIE)
@hidden
@teaches("No IDs, no beams, one level, or the same ID twice: the rule holds without exceptions.")
@given(examples=6, written=st.integers(0, 2), beams=st.sampled_from([0, 1, 3]))
def test_empty_inputs(answer: Answer, written: int, beams: int) -> None:
    ids, prefixes = np.array([[0, 1, 4], [0, 1, 4], [0, 3, 2]]), np.zeros((beams, written), int)
    for some in (ids[:0], ids):
        what = f"with {len(some)} IDs and {beams} beams, the mask"
        same(answer.allowed_tokens(some, prefixes, 5), next_tokens(some, prefixes, 5), what)
    one = np.array([[2], [0]])
    same(
        answer.allowed_tokens(one, np.zeros((1, 0), int), 3),
        np.array([[True, False, True]]),
        "with one level, the mask",
    )


# ---- 4. beam_search -----------------------------------------------------------------------------

BEAM = Question(
    "beam_search",
    "Beam search with length normalisation",
    section="beam",
    hints=(
        "Write three things down: what is open, what has ended, and what one round does to them.",
        "First a table: which tokens may follow each beginning, the end (0) being one of them. A round extends, sorts, "
        "cuts, then splits into ended and open. Lengths matter only at the very end.",
        "Keep pairs (total, tokens). Sort by (-total, tokens) and cut to the width *before* you put those that "
        "end with 0 aside. After the last round divide each total by the tuple's length (its 0 counts) to the alpha, "
        "sort and cut again the same way.",
    ),
)


def ranking(answer: Answer, step: np.ndarray, valid: list[list[int]], width: int, alpha: float | None) -> Ranked:
    """The pairs that came back; without an alpha it is left to its default."""
    value = answer.beam_search(step, valid, width, *([] if alpha is None else [alpha]))
    require(isinstance(value, list | tuple), "Return a list of pairs (tokens, score)", value)
    found = []
    for pair in value:
        require(isinstance(pair, list | tuple) and len(pair) == 2, "Each entry should be a pair (tokens, score)", pair)
        tokens = array(pair[0], what="the tokens of a pair")
        require(tokens.ndim == 1, "The tokens of a pair should be a list", pair[0])
        found.append((tuple(int(token) for token in tokens), number(pair[1], "a score")))
    return found


def ranks(
    answer: Answer, step: np.ndarray, valid: list[list[int]], width: int, alpha: float | None, want: Ranked
) -> None:
    """What came back is this, tokens and scores."""
    got = ranking(answer, step, valid, width, alpha)
    sequences, wanted = [list(tokens) for tokens, _ in got], [list(tokens) for tokens, _ in want]
    what = f"with width {width} and " + ("no alpha" if alpha is None else f"alpha {alpha:g}")
    require(sequences == wanted, f"{what}, these sequences came out, best first: {sequences}", sequences, wanted)
    if want:
        scores = np.array([score for _, score in want])
        close(np.array([score for _, score in got]), scores, f"{what}, the list of scores")


def chances(vocab: int, **entries: float) -> np.ndarray:
    """A matrix of -9 but for some entries: s02=-1 is token 2 after token 0."""
    step = np.full((vocab, vocab), -9.0)
    for name, value in entries.items():
        step[int(name[1]), int(name[2])] = value
    return step


def language(seed: int, most: int = 6) -> tuple[np.ndarray, list[list[int]]]:
    """A random model and some valid sequences, of which one may begin another."""
    rng = np.random.default_rng(seed)
    vocab = int(rng.integers(2, 6))
    step = -rng.gamma(1.0, 2.0, (vocab, vocab))
    valid = [rng.integers(1, vocab, int(rng.integers(1, 5))).tolist() for _ in range(int(rng.integers(1, most + 1)))]
    return step, [*valid, valid[0][:1]]


@points(1, BEAM)
@teaches("The sum of log-probabilities, the end included, over its number of tokens to the alpha: best first.")
def test_two_sequences_by_hand(answer: Answer) -> None:
    step, valid = chances(3, s01=-2, s02=-1, s10=-1, s21=-1.5), [[1], [2, 1]]
    # [1, 0]: -2 - 1; [2, 1, 0]: -1 - 1.5 - 1
    ranks(answer, step, valid, 2, 0.0, [((1,), -3.0), ((2, 1), -3.5)])
    ranks(answer, step, valid, 2, 1.0, [((2, 1), -3.5 / 3), ((1,), -1.5)])
    ranks(answer, step, valid, 1, 0.0, [((2, 1), -3.5)])
    ranks(answer, step, valid, 2, None, [((1,), -3.0), ((2, 1), -3.5)])


@points(2, BEAM)
@teaches("A beam as wide as there are valid sequences drops nothing, so it gives the exact ranking of all of them.")
@given(examples=40, seed=SEEDS, more=st.integers(0, 3), alpha=st.sampled_from([0.0, 1.0, 0.6]))
def test_a_wide_beam_is_exact(answer: Answer, seed: int, more: int, alpha: float) -> None:
    step, valid = language(seed)
    want = ranked_of(step, [tuple(path) for path in {(*sequence, 0) for sequence in valid}], alpha)
    ranks(answer, step, valid, len(valid) + more, alpha, want)


@points(2, BEAM)
@teaches(
    "A round keeps the best `width` of what the valid sequences allow: forbid first, then cut, ended ones included."
)
@given(examples=50, seed=SEEDS, width=st.integers(1, 3), alpha=st.sampled_from([0.0, 1.0, 2.0]))
def test_a_narrow_beam_cuts_every_round(answer: Answer, seed: int, width: int, alpha: float) -> None:
    step, valid = language(seed, 14)
    ranks(answer, step, valid, width, alpha, beamed_of(step, valid, width, alpha))


@points(1, BEAM)
@teaches(
    "A beginning that is valid by itself may end or go on. What has ended waits aside and takes no place in a beam."
)
def test_what_ends_makes_room(answer: Answer) -> None:
    # [1] ends at -2; [1, 2] goes on; after that, one place is enough for [1, 2, 2, 0]: -1 - 1 - 4 - 0.5
    step, valid = chances(3, s01=-1, s10=-1, s12=-1, s22=-4, s20=-0.5), [[1], [1, 2, 2]]
    ranks(answer, step, valid, 2, 0.0, [((1,), -2.0), ((1, 2, 2), -6.5)])
    ranks(answer, step, valid, 2, 2.0, [((1, 2, 2), -6.5 / 16), ((1,), -0.5)])
    # three rounds with an ended one each, and width 2 throughout: [1], [1, 1], [1, 1, 1]
    step = chances(3, s01=-1, s10=-3, s11=-1)
    want = [((1,), -4.0), ((1, 1), -5.0)]
    ranks(answer, step, [[1], [1, 1], [1, 1, 1]], 2, 0.0, want)


@points(1, BEAM)
@teaches(
    "The length is in tokens with the end, and normalising happens once: all extensions of a round are equally long."
)
def test_the_end_counts_as_a_token(answer: Answer) -> None:
    # [1, 0]: -2 over 2; [2, 2, 2, 0]: -4.5 over 4. Without the end they would be -2 and -1.5, the other way round.
    step, valid = chances(3, s01=-1, s10=-1, s02=-1.5, s22=-1, s20=-1), [[1], [2, 2, 2]]
    ranks(answer, step, valid, 2, 1.0, [((1,), -1.0), ((2, 2, 2), -1.125)])
    ranks(answer, step, valid, 2, 0.5, [((1,), -2 / math.sqrt(2)), ((2, 2, 2), -2.25)])
    # with log-probabilities above 0, as of densities, a longer sequence is not always worse
    ranks(answer, chances(3, s01=2, s10=2, s02=1, s20=1), [[1], [2]], 2, 1.0, [((1,), 2.0), ((2,), 1.0)])


@points(1, BEAM)
@teaches(
    "Ties go to the lower tokens from the left, in every round and at the end; a sequence named twice counts once."
)
@given(examples=8, width=st.integers(1, 5), turn=st.integers(0, 3), alpha=st.sampled_from([0.0, 1.0]))
def test_ties_go_to_the_lower_tokens(answer: Answer, width: int, turn: int, alpha: float) -> None:
    step = np.full((4, 4), -0.5)
    valid = [[3, 1], [2, 3], [2, 1], [1, 3], [2, 1]]
    valid = valid[turn:] + valid[:turn]
    ranks(answer, step, valid, width, alpha, beamed_of(step, valid, width, alpha))
    ranks(answer, step, [[3], [1, 1], [2], [3]], width, 0.0, beamed_of(step, [[3], [1, 1], [2]], width, 0.0))
    # -1 over 2 tokens and -1.5 over 3: scores of -0.5 both
    ranks(answer, step, [[3], [1, 1]], 2, 1.0, [((1, 1), -0.5), ((3,), -0.5)])


@points(1, BEAM)
@teaches("What has probability 0 is never found, even if it is valid; with nothing valid, nothing is found.")
@given(examples=20, seed=SEEDS, width=st.integers(1, 4))
def test_impossible_sequences_are_not_found(answer: Answer, seed: int, width: int) -> None:
    step, valid = language(seed, 9)
    step[np.random.default_rng(seed).random(step.shape) < 0.3] = -INF
    ranks(answer, step, valid, width, 1.0, beamed_of(step, valid, width, 1.0))
    unchanged(answer)
    ranks(answer, step, [], width, 1.0, [])


@points(1, BEAM)
@hidden
@teaches("A beam without places and tokens that do not exist are refused; a longer search obeys the same rules.")
@given(examples=8, bad=st.sampled_from([0, -1, 3, 7]), seed=st.integers(100, 120))
def test_refusals_and_a_longer_search(answer: Answer, bad: int, seed: int) -> None:
    step = chances(3, s01=-1, s10=-1, s02=-2, s20=-1)
    refuses(answer.beam_search, step, [[1], [2]], 0, 0.0, what="a width of 0")
    refuses(answer.beam_search, step, [[1], [1, bad, 2]], 2, 0.0, what=f"the token {bad} in a vocabulary of 3")
    rng = np.random.default_rng(seed)
    step = np.log(rng.dirichlet(np.full(8, 0.4), 8) + 1e-9)
    valid = [rng.integers(1, 8, int(rng.integers(1, 7))).tolist() for _ in range(60)]
    for width in (4, 100):
        ranks(answer, step, valid, width, 0.7, beamed_of(step, valid, width, 0.7))


# ---- 5. sampling_distribution -------------------------------------------------------------------

SAMPLING = Question(
    "sampling_distribution",
    "Temperature, top-k, nucleus",
    section="sampling",
    hints=(
        "Work on a sorted copy, likeliest first, and go back to the old order at the end.",
        "After sorting, top-k is a slice. For the nucleus ask of each token how much probability is *ahead* of it: "
        "it stays while that is below top_p, so the first always stays.",
        "A stable argsort of minus the logits; take off the row's largest; divide by the temperature (0 is top-k 1); "
        "exp; zero from top_k on; divide by the sum; where cumulative sum minus own is at least top_p, zero; divide by "
        "the sum; put back along the axis. Skip the nucleus at top_p 1.",
    ),
    forbidden=("scipy.special", ".softmax", ".log_softmax", "transformers"),
    draw=draw_chances,
)

ROWS = st.lists(st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, -INF]), min_size=1, max_size=6)


def drawn(
    answer: Answer, rows: Any, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> None:
    """A row or rows of logits, against the oracle; zeros must be exact."""
    logits = np.asarray(rows)
    got = answer.sampling_distribution(logits, temperature, top_k, top_p)
    flat = logits.reshape(-1, logits.shape[-1])
    want = np.array([drawn_from(row, temperature, top_k, top_p) for row in flat.tolist()]).reshape(logits.shape)
    what = f"with temperature {temperature:g}, top_k {top_k} and top_p {top_p}, the probability"
    array(got, logits.shape, what="the array of probabilities")
    finite(got, what)
    close(got, want, what, like=logits)
    zero(got, where=want == 0, what="the probability of a token that is cut away")


@points(1, SAMPLING)
@teaches(
    "Top-k keeps the k likeliest; the nucleus keeps the likeliest until their sum gets there; what stays adds up to 1."
)
def test_four_tokens_by_hand(answer: Answer) -> None:
    logits = np.log([4.0, 3.0, 2.0, 1.0])
    close(answer.sampling_distribution(logits), np.array([4, 3, 2, 1]) / 10, "without any knob, the array")
    close(answer.sampling_distribution(logits, 1.0, None, 0.6), np.array([4, 3, 0, 0]) / 7, "with top_p 0.6, the array")
    close(answer.sampling_distribution(logits, 1.0, 3, None), np.array([4, 3, 2, 0]) / 9, "with top_k 3, the array")
    got = answer.sampling_distribution(logits, 1.0, 2, 0.5)
    close(got, np.array([1.0, 0, 0, 0]), "with top_k 2 and top_p 0.5, the array")


@points(1, SAMPLING)
@teaches("Logits are divided by the temperature: low sharpens, high flattens. At 0 the largest takes all.")
@given(examples=25, row=ROWS, temperature=st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]))
def test_temperature_divides_the_logits(answer: Answer, row: list[float], temperature: float) -> None:
    drawn(answer, [0.5, *row], temperature)


@points(1, SAMPLING)
@teaches("Top-k keeps exactly k tokens, or all if there are fewer. Among equals the lowest index stays.")
@given(examples=25, row=ROWS, top_k=st.integers(1, 8))
def test_top_k_keeps_exactly_k(answer: Answer, row: list[float], top_k: int) -> None:
    drawn(answer, [0.5, *row], 1.0, top_k)


@points(1, SAMPLING)
@teaches("The token that carries the sum to top_p stays. So there is always one, even if top_p is below the first.")
@given(examples=30, row=ROWS, top_p=st.sampled_from([1e-6, 0.13, 0.37, 0.61, 0.83, 0.97]))
def test_the_nucleus_includes_the_token_that_gets_there(answer: Answer, row: list[float], top_p: float) -> None:
    drawn(answer, [0.5, *row], 1.0, None, top_p)
    drawn(answer, [3.0] * 4, 1.0, None, 0.5)  # two quarters are exactly a half: enough
    drawn(answer, [-1.0, -1.0], 1.0, None, 0.5)


@points(1, SAMPLING)
@teaches("Temperature, then top-k, then the nucleus, measured on probabilities that add up to 1 after top-k.")
@given(examples=12, seed=SEEDS, temperature=st.sampled_from([0.5, 1.0, 2.0, 0.0]))
def test_the_order_of_the_filters(answer: Answer, seed: int, temperature: float) -> None:
    for top_k in (2, 3, 9):
        for top_p in (0.37, 0.61, 0.83, 1.0):
            drawn(answer, noise(seed, 5), temperature, top_k, top_p)


@points(1, SAMPLING)
@teaches("Take the largest logit off before exp. A forbidden token has exactly 0, and no filter brings it back.")
@given(examples=12, size=st.sampled_from([1e3, -1e3, 1e5]), temperature=st.sampled_from([1.0, 1e-3, 0.0]), kind=TYPES)
def test_large_logits_do_not_overflow(answer: Answer, size: float, temperature: float, kind: type) -> None:
    drawn(answer, np.array([size, size - 1, -INF, size - 2, size], kind), temperature)
    drawn(answer, np.array([-INF, -size, -INF], kind), temperature, 2, 0.9)
    drawn(answer, np.array([1.0, 0.0], kind), 1e-200 if kind is np.float64 else 1e-30)


@points(1, SAMPLING)
@teaches("Every row is filtered by itself, whatever axes stand in front; shape and type stay, and so do the logits.")
@given(
    examples=10,
    seed=SEEDS,
    shape=st.sampled_from([(4,), (1, 4), (3, 4), (2, 3, 4)]),
    kind=TYPES,
    top_k=st.integers(1, 3),
)
def test_rows_types_and_inputs(answer: Answer, seed: int, shape: tuple[int, ...], kind: type, top_k: int) -> None:
    logits = noise(seed, *shape, dtype=kind)
    for knobs in ((0.5, top_k, None), (1.0, None, 0.61), (0.0, None, None)):
        drawn(answer, logits, *knobs)
        array(answer.sampling_distribution(logits, *knobs), shape, kind, "the array of probabilities")
        unchanged(answer)


@points(1, SAMPLING)
@teaches("A knob out of range is a mistake of the caller, and so is a row in which nothing is allowed: refuse both.")
@given(
    examples=16,
    knobs=st.sampled_from([(-0.1, None, None), (math.nan, None, None), (1.0, 0, None), (1.0, -1, None)])
    | st.tuples(st.just(1.0), st.none(), st.sampled_from([0.0, 1.01, -0.5, math.nan])),
)
def test_knobs_out_of_range_are_refused(answer: Answer, knobs: tuple[float, int | None, float | None]) -> None:
    refuses(answer.sampling_distribution, np.array([1.0, 2.0]), *knobs, what=f"(temperature, top_k, top_p) = {knobs}")
    nothing = np.array([[1.0, 2.0], [-INF, -INF]])
    refuses(answer.sampling_distribution, nothing, 1.0, None, None, what="a row of -inf")
    drawn(answer, [1.0, 2.0], 1.0, 1, 1.0)


@points(1, SAMPLING)
@hidden
@teaches("top_p 1 cuts nothing, however small; temperature 0 beats the other knobs; no rows give no rows.")
@given(examples=12, tail=st.sampled_from([36.0, 39.0, 60.0]), top_k=st.sampled_from([None, 2, 50]), kind=TYPES)
def test_the_corners_of_the_knobs(answer: Answer, tail: float, top_k: int | None, kind: type) -> None:
    for top_p in (None, 1.0):
        logits = np.array([-tail, 0.0], kind)
        got = answer.sampling_distribution(logits, 1.0, top_k, top_p)
        drawn(answer, logits, 1.0, top_k, top_p)
        require(numpy_of(got)[0] > 0, f"with top_p {top_p} a probability of exp(-{tail:g}) is still one", got)
    drawn(answer, np.array([2.0, -INF, 2.0, 1.0], kind), 0.0, top_k, 0.99)
    drawn(answer, np.array([[7.0], [-1.0]], kind), 2.0, top_k, 0.5)
    array(answer.sampling_distribution(np.zeros((0, 3), kind), 1.0, top_k, 0.5), (0, 3), what="the array of no rows")


# ---- 6. cached_attention ------------------------------------------------------------------------

CACHE = Question(
    "cached_attention",
    "Attention with a cache",
    section="cache",
    hints=(
        "Draw the matrix of scores: new tokens down, all tokens so far across. Which part must be hidden?",
        "The cache is the keys and values of all tokens so far. Pick the parents' rows, join old and new along the "
        "tokens, attend with a mask, and return the joined arrays as the new cache.",
        "New token i of `new` may see places up to total - new + i. Hide the rest with -inf before the softmax. Index "
        "the old keys and values by parents, never the new ones, and concatenate: that makes copies.",
    ),
    forbidden=("scipy.special", ".softmax", ".log_softmax", ".scaled_dot_product_attention", ".MultiheadAttention"),
)


def tokens(
    seed: int, batch: int, length: int, dim: int = 2, width: int = 3, kind: type = np.float64
) -> list[np.ndarray]:
    """Queries, keys and values of whole sequences."""
    shapes = ((batch, length, dim), (batch, length, dim), (batch, length, width))
    return [2 * noise(seed + 100 * n, *shape, dtype=kind) for n, shape in enumerate(shapes)]


def attend(
    answer: Answer, parts: Sequence[np.ndarray], cache: Any = None, parents: Any = None
) -> tuple[np.ndarray, Any]:
    """One call, and the two things that come back."""
    value = answer.cached_attention(*parts, cache, parents)
    require(isinstance(value, tuple | list) and len(value) == 2, "Return two things: output, cache", value)
    return array(value[0], (*parts[0].shape[:2], parts[2].shape[2]), what="the output"), value[1]


def chunked(answer: Answer, whole: Sequence[np.ndarray], cuts: Sequence[int]) -> np.ndarray:
    """The outputs of one chunk after another."""
    cache, outputs = None, []
    for start, end in zip((0, *cuts), (*cuts, whole[0].shape[1]), strict=True):
        output, cache = attend(answer, [part[:, start:end] for part in whole], cache)
        outputs.append(output)
    return np.concatenate(outputs, axis=1)


@points(1, CACHE)
@teaches("A token attends to those before it and to itself. With a cache, those before it need not be sent again.")
def test_two_tokens_by_hand(answer: Answer) -> None:
    query, key, value = np.array([[[0.0], [1.0]]]), np.array([[[0.0], [LN3]]]), np.array([[[2.0], [6.0]]])
    # the second: scores 0 and ln 3, weights 1/4 and 3/4, 0.5 + 4.5
    first, cache = attend(answer, [query[:, :1], key[:, :1], value[:, :1]])
    close(first, np.array([[[2.0]]]), "the output of the first token")
    second, _ = attend(answer, [query[:, 1:], key[:, 1:], value[:, 1:]], cache)
    close(second, np.array([[[5.0]]]), "the output of the second token")


@points(1, CACHE)
@teaches("Within a chunk nobody looks ahead: token i sees tokens up to i, and scores are scaled by the root of dim.")
@given(examples=12, seed=SEEDS, batch=st.integers(1, 2), length=st.integers(1, 5), dim=st.integers(1, 4))
def test_one_pass_is_causal(answer: Answer, seed: int, batch: int, length: int, dim: int) -> None:
    whole = tokens(seed, batch, length, dim)
    close(attend(answer, whole)[0], attended(*whole), "in one pass, the output")


@points(2, CACHE)
@teaches(
    "However the tokens are cut into chunks, the outputs are those of one pass: the mask is shifted by what is cached."
)
@given(examples=20, seed=SEEDS, length=st.integers(2, 6), cuts=st.sets(st.integers(1, 5), max_size=5))
def test_chunks_equal_one_pass(answer: Answer, seed: int, length: int, cuts: set[int]) -> None:
    whole, cuts = tokens(seed, 2, length), {cut for cut in cuts if cut < length}
    close(chunked(answer, whole, sorted(cuts)), attended(*whole), f"cut before tokens {sorted(cuts)}, the output")


@points(1, CACHE)
@teaches("A cache stays good after it was used: two continuations may start from it, as two beams do.")
@given(examples=8, seed=SEEDS)
def test_an_old_cache_stays_good(answer: Answer, seed: int) -> None:
    whole, other = tokens(seed, 1, 5), tokens(seed + 7, 1, 2)
    _, cache = attend(answer, [part[:, :3] for part in whole])
    first, _ = attend(answer, [part[:, 3:] for part in whole], cache)
    unchanged(answer)
    close(first, attended(*whole)[:, 3:], "the output of the first continuation")
    second, _ = attend(answer, other, cache)
    joined = [np.concatenate([part[:, :3], new], axis=1) for part, new in zip(whole, other, strict=True)]
    close(second, attended(*joined)[:, 3:], "the output of a second continuation of the same cache")


@points(2, CACHE)
@teaches(
    "When beams are reordered, the caches go along: row b continues row parents[b]. New tokens are in the new order."
)
@given(examples=15, seed=SEEDS, parents=st.lists(st.integers(0, 2), min_size=1, max_size=4), new=st.integers(1, 2))
def test_rows_continue_their_parents(answer: Answer, seed: int, parents: list[int], new: int) -> None:
    old, fresh = tokens(seed, 3, 2), tokens(seed + 9, len(parents), new)
    _, cache = attend(answer, old)
    output, later = attend(answer, fresh, cache, np.array(parents))
    whole = [np.concatenate([part[parents], more], axis=1) for part, more in zip(old, fresh, strict=True)]
    what = f"with parents {parents}, the output"
    close(output, attended(*whole)[:, 2:], what)
    last = tokens(seed + 19, len(parents), 1)  # and once more, in the other order
    turned = [np.concatenate([part[::-1], more], axis=1) for part, more in zip(whole, last, strict=True)]
    output, _ = attend(answer, last, later, np.arange(len(parents))[::-1].copy())
    close(output, attended(*turned)[:, -1:], "after a second change of order, the output")


@points(1, CACHE)
@teaches("float32 stays float32, scores in the thousands do not overflow, and no argument is changed.")
@given(examples=8, kind=TYPES, size=st.sampled_from([1.0, 1e3]), seed=st.integers(0, 9))
def test_types_and_large_scores(answer: Answer, kind: type, size: float, seed: int) -> None:
    whole = [part.round() for part in tokens(seed, 2, 4, 4, 2, kind)]
    whole[0] *= kind(size)  # whole numbers, so that scores are exact
    cache = None
    for start, end in ((0, 2), (2, 3), (3, 4)):
        output, cache = attend(answer, [part[:, start:end] for part in whole], cache)
        unchanged(answer)
        finite(output, f"the output, for scores near {size:g},")
        array(output, dtype=kind, what="the output")
        close(output, attended(*whole)[:, start:end], f"for scores near {size:g}, the output", like=whole[0])


@points(1, CACHE)
@hidden
@teaches("Parents without a cache mean nothing, no parents mean row by row, and a long history is read as a short one.")
@given(examples=5, seed=st.integers(0, 9))
def test_long_histories_and_idle_parents(answer: Answer, seed: int) -> None:
    whole = tokens(seed, 3, 20, 3, 1)
    want = attended(*whole)
    first, cache = attend(answer, [part[:, :9] for part in whole], None, np.array([2, 0, 0]))
    close(first, want[:, :9], "the output of the first call, which has no cache to pick from,")
    for end in range(10, 21):
        output, cache = attend(answer, [part[:, end - 1 : end] for part in whole], cache)
        close(output, want[:, end - 1 : end], f"the output of token {end}")
