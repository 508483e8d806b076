"""Grader of chapter 3: item-kNN, FM, DCN, DIN, MMoE, in-batch softmax.

The oracles are loops over single numbers, written from the definitions; worked examples are derived in comments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from m6rec_mini.course.answers import Answer
from m6rec_mini.course.expect import array, close, finite, number, numpy_of, refuses, require, unchanged, zero
from m6rec_mini.course.grader import Law, Question, given, hidden, points, teaches

LN3 = math.log(3)
SEEDS, SIZES, TYPES = st.integers(0, 2**12), st.integers(1, 4), st.sampled_from([np.float64, np.float32])
DONE_ELSEWHERE = ("scipy.special", ".softmax", ".log_softmax", ".cross_entropy", "sklearn")
WIDE = 1_000_000  # features, of which all pairs would fill 8 TB: no machine tries to find the room


def noise(seed: int, *shape: int, dtype: type = np.float64) -> np.ndarray:
    """The same normal numbers each time, short enough to read."""
    return np.random.default_rng([seed, *shape]).normal(size=shape).round(1).astype(dtype)


def shares(scores: Sequence[float]) -> list[float]:
    """Softmax of a list of numbers."""
    odds = [math.exp(score - max(scores)) for score in scores]
    return [odd / math.fsum(odds) for odd in odds]


def two(value: Any, first: str, second: str) -> tuple[Any, Any]:
    """A pair, as a tuple or a list."""
    good = isinstance(value, list | tuple) and len(value) == 2
    require(good, f"the result should be the pair ({first}, {second})", value)
    return value[0], value[1]


# ---- 1. item_similarities ---------------------------------------------------------------------

SIMILAR = Question(
    "item_similarities",
    "Item-kNN: which items are alike",
    section="knn",
    hints=(
        "One matrix product gives what all pairs of items have in common. Which of its numbers are the lengths?",
        "Before the product, think of the type: booleans and 8-bit integers do not add up as numbers should. "
        "After it, think of items without users: where is the denominator 0?",
        "Turn the matrix into float64, multiply its transpose by it, take the root of the diagonal for lengths, and "
        "divide by their outer product plus the shrinkage, only where that is above 0. Clear the diagonal last.",
    ),
    forbidden=("sklearn", "scipy.spatial", ".corrcoef"),
)


def similar_of(matrix: np.ndarray, shrinkage: float) -> np.ndarray:
    """Shrunk cosines, one pair of columns after the other."""
    columns = [[float(x) for x in column] for column in matrix.T]
    out = np.zeros((len(columns), len(columns)))
    for i, a in enumerate(columns):
        for j, b in enumerate(columns):
            dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
            if i != j and dot:
                out[i, j] = dot / (math.hypot(*a) * math.hypot(*b) + shrinkage)
    return out


def touches(seed: int, users: int, items: int) -> np.ndarray:
    """Counts, many of them 0."""
    rng = np.random.default_rng([seed, users, items])
    return rng.integers(0, 4, (users, items)) * (rng.random((users, items)) < 0.6)


@points(1, SIMILAR)
@teaches("Two items are as alike as the cosine of their columns; shrinkage is added to the product of the lengths.")
def test_two_items_by_hand(answer: Answer) -> None:
    matrix = np.array([[1.0, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]])
    for shrinkage, want in ((0.0, 0.5), (2.0, 0.25)):  # 1 / (2 * 1) and 1 / (2 * 1 + 2)
        got = array(answer.item_similarities(matrix, shrinkage), (3, 3), what="the similarities")
        text = f"items 0 and 1 with shrinkage {shrinkage:g}"
        close([got[0, 1], got[1, 0]], np.array([want, want]), f"the similarity of {text}")


@points(2, SIMILAR)
@teaches("Lengths are those of the columns of counts, and the matrix is symmetric. The input is left alone.")
@given(examples=25, seed=SEEDS, users=SIZES, items=SIZES, shrinkage=st.sampled_from((0.0, 1.0, 0.5, 10.0)))
def test_shrunk_cosines(answer: Answer, seed: int, users: int, items: int, shrinkage: float) -> None:
    matrix = touches(seed, users, items + 1) * (0.125 if seed % 2 else 1.0)  # touches may have faded
    matrix[0, :2] = 0.25, 0.5  # so that there is something to find
    close(answer.item_similarities(matrix, shrinkage), similar_of(matrix, shrinkage), "the matrix of similarities")
    unchanged(answer)


@points(1, SIMILAR)
@teaches("No item is its own neighbour: the diagonal is exactly 0, or every item recommends itself first.")
@given(examples=10, seed=SEEDS, shrinkage=st.sampled_from((0.0, 1.0)))
def test_diagonal_is_zero(answer: Answer, seed: int, shrinkage: float) -> None:
    matrix = touches(seed, 4, 3).astype(float) + 1
    got = answer.item_similarities(matrix, shrinkage)
    zero(got, where=np.eye(3, dtype=bool), what="the diagonal")
    close(got, similar_of(matrix, shrinkage), "the matrix of similarities")


@points(1, SIMILAR)
@teaches("An item that nobody touched is like none: 0, not NaN, and it takes nothing from the others.")
@given(examples=10, seed=SEEDS, nobody=st.integers(0, 2))
def test_untouched_items_are_like_none(answer: Answer, seed: int, nobody: int) -> None:
    matrix = touches(seed, 4, 3).astype(float) + 1
    matrix[:, nobody] = 0
    got = answer.item_similarities(matrix)
    finite(got, "the matrix of similarities")
    close(got, similar_of(matrix, 0.0), "the matrix of similarities")


@points(1, SIMILAR)
@teaches("Booleans and 8-bit counts are numbers too: a product in their own type loses what goes over the top.")
@given(examples=8, seed=SEEDS, kind=st.sampled_from(("bool", "uint8", "int8", "int64")))
def test_small_types_do_not_overflow(answer: Answer, seed: int, kind: str) -> None:
    matrix = (np.random.default_rng(seed).random((40, 2)) < 0.8) * (1 if kind == "bool" else 100)
    got = answer.item_similarities(matrix.astype(kind), 0.5)
    close(got, similar_of(matrix, 0.5), f"the matrix of similarities of {kind} input")


@points(1, SIMILAR)
@hidden
@teaches("Negative shrinkage is refused; no users or no items give a matrix of zeros or of no size.")
def test_edges_of_similarities(answer: Answer) -> None:
    one = np.array([[1.0, 2.0], [0.0, 1.0]])  # lengths 1 and sqrt 5, dot 2
    close(answer.item_similarities(one), np.array([[0, 2 / 5**0.5], [2 / 5**0.5, 0]]))
    refuses(answer.item_similarities, one, -0.5, what="a shrinkage of -0.5")
    close(answer.item_similarities(np.zeros((0, 2)), 1.0), np.zeros((2, 2)))
    close(answer.item_similarities(np.zeros((0, 2))), np.zeros((2, 2)))
    array(answer.item_similarities(np.zeros((3, 0))), (0, 0))


# ---- 2. fm_score ------------------------------------------------------------------------------

FM = Question(
    "fm_score",
    "A factorisation machine in linear time",
    section="fm",
    hints=(
        "Write (a + b + c)² out. Which of its terms do you want, and how often does each come?",
        "The square of the sum holds every pair twice and every feature with itself once. Do this in each of the k "
        "dimensions of v, for the vectors v_i · x_i.",
        "Two products of x (or its square) with v (or its square), both of shape [batch, k]: square of the sum minus "
        "sum of the squares, summed over k, halved. Then the linear part.",
    ),
)


def fm_of(x: np.ndarray, w0: float, w: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The double sum as it stands in the definition."""
    out = []
    for row in x.tolist():
        terms = [w0, *(a * b for a, b in zip(row, w.tolist(), strict=True))]
        for j in range(len(row)):
            for i in range(j):
                terms.append(math.fsum(p * q for p, q in zip(v[i], v[j], strict=True)) * row[i] * row[j])
        out.append(math.fsum(terms))
    return np.array(out)


@points(1, FM)
@teaches("A score is the bias, plus the linear part, plus every pair of features once.")
def test_three_features_by_hand(answer: Answer) -> None:
    x, w, v = np.array([[1.0, 2, 3]]), np.array([1.0, 0, -1]), np.array([[1.0], [2], [-1]])
    close(answer.fm_score(x, 0.5, w, v), np.array([0.5 - 2 - 11]), "the scores")


@points(2, FM)
@teaches("The fast form equals the sum over all pairs, for any numbers x. The inputs stay as they are.")
@given(examples=25, seed=SEEDS, batch=SIZES, n=st.integers(1, 5), k=SIZES)
def test_equals_the_sum_over_pairs(answer: Answer, seed: int, batch: int, n: int, k: int) -> None:
    x, w, v = noise(seed, batch, n), noise(seed + 1, n), noise(seed + 2, n, k)
    w0 = float(noise(seed + 3, 1)[0]) + 0.25
    close(answer.fm_score(x, w0, w, v), fm_of(x, w0, w, v), "the scores")
    unchanged(answer)


@points(1, FM)
@teaches("A feature does not pair with itself: a row with a single feature has the bias and its weight, and no more.")
@given(examples=10, seed=SEEDS, at=st.integers(0, 3), size=st.sampled_from((1.0, 3.0, -2.0)))
def test_one_feature_has_no_pair(answer: Answer, seed: int, at: int, size: float) -> None:
    x, w, v = np.zeros((1, 4)), noise(seed, 4), noise(seed, 4, 3) + 2
    x[0, at] = size
    close(answer.fm_score(x, 0.5, w, v), np.array([0.5 + size * w[at]]), f"the score of feature {at} alone")


@points(1, FM)
@teaches("An FM takes x as numbers of any type: a row of 0 and 1 as integers scores as the same row of floats.")
@given(examples=10, seed=SEEDS, batch=SIZES, kind=st.sampled_from((np.int64, np.int32, np.int8)))
def test_integer_features(answer: Answer, seed: int, batch: int, kind: type) -> None:
    x = np.random.default_rng(seed).integers(0, 30, (batch, 3))
    w, v = noise(seed, 3), noise(seed, 3, 2)
    close(answer.fm_score(x.astype(kind), -1.0, w, v), fm_of(x, -1.0, w, v), f"the scores of {np.dtype(kind)} features")


@points(1, FM)
@hidden
@teaches("An empty batch has no scores; without features only the bias is left, without factors only the linear part.")
def test_edges_of_fm(answer: Answer) -> None:
    x, w, v = noise(1, 2, 3), noise(2, 3), noise(3, 3, 2)
    close(answer.fm_score(x, 0.0, w, v), fm_of(x, 0.0, w, v))
    close(answer.fm_score(x[:0], 1.0, w, v), np.zeros(0))
    close(answer.fm_score(np.zeros((2, 0)), 1.5, np.zeros(0), np.zeros((0, 2))), np.full(2, 1.5))
    close(answer.fm_score(x, 1.5, w, np.zeros((3, 0))), 1.5 + x @ w)


@points(2, FM)
@teaches("A row of n features costs n · k, not n²: with a million features there is no room for all pairs.")
def test_wide_rows_are_cheap(answer: Answer) -> None:
    x, w, v = np.ones((1, WIDE)), np.zeros(WIDE), np.zeros((WIDE, 2))
    w[7], v[5], v[WIDE - 1], v[3] = 2.0, (1.0, 2.0), (3.0, -1.0), (0.0, 4.0)
    # pairs (5, last): 3 - 2 = 1; (3, 5): 8; (3, last): -4; together 5, plus the weight 2
    close(answer.fm_score(x, 0.0, w, v), np.array([7.0]), "the score of a row of a million features")


# ---- 3. cross_layer ---------------------------------------------------------------------------

CROSS = Question(
    "cross_layer",
    "The cross layer of DCN",
    section="dcn",
    hints=(
        "Two inputs come in: the very first one and that of this layer. Which one multiplies, which one is added?",
        "In the first version multiply x by w before anything else: that is one number for each row. In the second "
        "one the bias joins before the product with x0.",
        "Vector: x0 times the column x @ w, plus b, plus x. Matrix: x0 times (x by w transposed, plus b), plus x.",
    ),
)


def cross_of(x0: np.ndarray, x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Number by number."""
    out = np.zeros(x0.shape)
    for r, i in np.ndindex(*x0.shape):
        if w.ndim == 1:
            out[r, i] = math.fsum(float(x0[r, i]) * float(a) * float(c) for a, c in zip(x[r], w, strict=True)) + b[i]
        else:
            out[r, i] = x0[r, i] * (math.fsum(float(a) * float(c) for a, c in zip(x[r], w[i], strict=True)) + b[i])
        out[r, i] += x[r, i]
    return out


@points(1, CROSS)
@teaches("With a vector w: x0 times the number x · w, plus the bias, plus x.")
def test_vector_by_hand(answer: Answer) -> None:
    x0, x, b = np.array([[1.0, 2]]), np.array([[3.0, -1]]), np.array([10.0, 20])
    close(answer.cross_layer(x0, x, np.array([2.0, 1]), b), np.array([[18.0, 29]]), "the output")


@points(1, CROSS)
@teaches("With a matrix w: x0 times (W x + b), element by element, plus x. The bias is multiplied too.")
def test_matrix_by_hand(answer: Answer) -> None:
    x0, x, b = np.array([[1.0, 2]]), np.array([[3.0, -1]]), np.array([10.0, 20])
    close(answer.cross_layer(x0, x, np.array([[1.0, 0], [2, 1]]), b), np.array([[16.0, 49]]), "the output")


@points(2, CROSS)
@teaches("Every row is its own; x0 and x are different things from the second layer on. The inputs stay as they are.")
@given(examples=25, seed=SEEDS, batch=SIZES, n=SIZES, square=st.booleans())
def test_both_versions(answer: Answer, seed: int, batch: int, n: int, square: bool) -> None:
    x0, x, b = noise(seed, batch, n), noise(seed + 1, batch, n), noise(seed + 2, n)
    w = noise(seed + 3, n, n) if square else noise(seed + 3, n)
    close(answer.cross_layer(x0, x, w, b), cross_of(x0, x, w, b), "the output")
    unchanged(answer)


@points(1, CROSS)
@teaches("With the vector, x0 (xᵀ w) is cheap and (x0 xᵀ) w is not: a million features leave no room for n² numbers.")
def test_wide_vectors_are_cheap(answer: Answer) -> None:
    x0, x, w, b = np.full((1, WIDE), 2.0), np.ones((1, WIDE)), np.zeros(WIDE), np.full(WIDE, 0.5)
    w[3], w[WIDE - 1] = 1.0, 2.0  # x · w = 3, so 2 * 3 + 0.5 + 1
    close(answer.cross_layer(x0, x, w, b), np.full((1, WIDE), 7.5), "the output for a million features")


@points(1, CROSS)
@hidden
@teaches("An empty batch goes through; one feature has two versions too; a w of another shape is refused.")
def test_edges_of_cross(answer: Answer) -> None:
    x0, x, b = np.array([[2.0]]), np.array([[3.0]]), np.array([5.0])
    close(answer.cross_layer(x0, x, np.array([4.0]), b), np.array([[32.0]]))  # 2 * 12 + 5 + 3
    close(answer.cross_layer(x0, x, np.array([[4.0]]), b), np.array([[37.0]]))  # 2 * (12 + 5) + 3
    for w in (np.ones(1), np.ones((1, 1))):
        array(answer.cross_layer(x0[:0], x[:0], w, b), (0, 1))
    wide = np.ones((2, 3))
    for shape in ((2,), (3, 1), (2, 3), (3, 2), (1, 3), (3, 3, 3), (), (1,), (2, 2)):
        refuses(answer.cross_layer, wide, wide, np.ones(shape), np.ones(3), what=f"w of shape {shape}")


# ---- 4. target_attention ----------------------------------------------------------------------


def din_of(parts: Sequence[Any], normalise: bool) -> tuple[np.ndarray, np.ndarray]:
    """Event by event, from the real events and no others."""
    candidate, history, present, w1, b1, w2, b2 = parts
    weights, pooled = np.zeros(present.shape), np.zeros(candidate.shape)
    for row, c in enumerate(candidate.astype(float)):
        real, scores = np.flatnonzero(present[row]).tolist(), []
        for event in real:
            e = history[row, event].astype(float)
            seen = [*e, *c, *(e - c), *(e * c)]
            hidden_units = [
                max(math.fsum(p * float(q) for p, q in zip(seen, column, strict=True)) + float(bias), 0.0)
                for column, bias in zip(w1.T, b1, strict=True)
            ]
            scores.append(math.fsum(p * float(q) for p, q in zip(hidden_units, w2, strict=True)) + b2)
        for event, weight in zip(real, shares(scores) if normalise and scores else scores, strict=True):
            weights[row, event] = weight
            pooled[row] += weight * history[row, event]
    return pooled, weights


def draw_attention(answer: Answer, law: Law) -> str:
    """Three candidates over five events: bars of the learner's weights above those of the definition."""
    history = np.tile(np.array([[1.0, 0], [0, 1], [1, 1], [0.5, 0], [2, 2]]), (3, 1, 1))
    present = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    w1, soft = np.concatenate([np.zeros((6, 1)), np.ones((2, 1))]), "softmax" in law.name
    parts = (np.array([[1.0, 0], [0, 1], [1, 1]]), history, present, w1, np.zeros(1), np.ones(1), 0.2)
    got, want = numpy_of(answer.target_attention(*parts, soft)[1]).astype(float), din_of(parts, soft)[1]
    if got.shape != want.shape or np.allclose(got, want):
        return ""
    svg = "<svg xmlns='http://www.w3.org/2000/svg' width='430' height='250' font-size='11' font-family='sans-serif'>"
    top = max(np.nanmax(np.abs(got)), 1.0)
    for left, title, matrix, colour in ((0, "yours", got, "#d55e00"), (220, "right", want, "#0072b2")):
        svg += f"<text x='{left + 4}' y='14' font-weight='bold'>{title}, normalise={soft}</text>"
        for (row, event), x in np.ndenumerate(matrix):
            x0, base = left + 4 + 40 * event, 80 + 70 * row
            tall = 44 * abs(x) / top if np.isfinite(x) else 44
            fill = colour if np.isfinite(x) else "#000"
            svg += f"<rect x='{x0}' y='{base - tall:.1f}' width='30' height='{tall:.1f}' fill='{fill}'/>"
            svg += f"<text x='{x0}' y='{base + 12}'>{x:.2f}{'' if present[row, event] else ' pad'}</text>"
    return svg + "<text x='4' y='244'>candidates down, events across; pad: padding</text></svg>"


DIN = Question(
    "target_attention",
    "DIN's target attention",
    section="din",
    hints=(
        "Build the features of every event with every candidate first: [batch, events, 4 d]. Then it is two products.",
        "Padding must go out twice: its contents before any arithmetic (NaN times 0 is NaN), and its weight after, "
        "or before a softmax as minus infinity. What does a softmax do in a row that has no event at all?",
        "Replace padding by 0 (choose, do not multiply). Join event, candidate, difference and product on the last "
        "axis. ReLU, second product, plus b2. Raw: choose 0 at padding. Softmax: choose -inf, take the "
        "row's largest real score off, exp, and divide where the sum is above 0. Keep the type of the history.",
    ),
    forbidden=DONE_ELSEWHERE,
    draw=draw_attention,
)


def din_parts(seed: int, batch: int, events: int, dtype: type = np.float64) -> list[Any]:
    """Inputs with some padding; the first event of every row is real."""
    d, units = 1 + seed % 3, 1 + seed % 4
    present = np.random.default_rng(seed).random((batch, events)) < 0.6
    present[:, 0] = True
    shapes = ((batch, d), (batch, events, d), (4 * d, units), (units,), (units,))
    candidate, history, w1, b1, w2 = (noise(seed + n, *shape, dtype=dtype) for n, shape in enumerate(shapes))
    return [candidate, history, present, w1, b1, w2, 0.5 - seed % 2]


def attended(answer: Answer, parts: Sequence[Any], normalise: bool) -> tuple[Any, Any]:
    """The pair, as it came."""
    return two(answer.target_attention(*parts, normalise), "pooled", "weights")


def attends(answer: Answer, parts: Sequence[Any], normalise: bool) -> None:
    """Both results are those of the definition."""
    want = din_of(parts, normalise)
    pooled, weights = attended(answer, parts, normalise)
    close(weights, want[1], "the array of weights", like=parts[1])
    close(pooled, want[0], "`pooled`", like=parts[1])


@points(1, DIN)
@teaches("A weight is the score of relu([e, c, e - c, e ⊙ c] w1 + b1) w2 + b2 as it is; pooled is weight times event.")
def test_raw_weights_by_hand(answer: Answer) -> None:
    parts = (
        np.array([[LN3]]), np.array([[[1.0], [-1], [5]]]), np.array([[True, True, False]]),
        np.array([[0.0], [0], [0], [1]]), np.zeros(1), np.ones(1), 0.0,
    )  # fmt: skip
    pooled, weights = two(answer.target_attention(*parts), "pooled", "weights")
    close(weights, np.array([[LN3, 0, 0]]), "the array of weights")
    close(pooled, np.array([[LN3]]), "`pooled`")


@points(2, DIN)
@teaches("The features are event, candidate, event - candidate and product, in this order; scores may be negative.")
@given(examples=25, seed=SEEDS, batch=SIZES, events=SIZES)
def test_raw_weights_are_the_scores(answer: Answer, seed: int, batch: int, events: int) -> None:
    attends(answer, din_parts(seed, batch, events), False)
    unchanged(answer)


@points(2, DIN)
@teaches("With normalise=True the real events share a weight of 1, by the softmax of their scores.")
@given(examples=25, seed=SEEDS, batch=SIZES, events=SIZES)
def test_softmax_over_real_events(answer: Answer, seed: int, batch: int, events: int) -> None:
    attends(answer, din_parts(seed, batch, events), True)


@points(1, DIN)
@teaches("Padding has weight exactly 0 and says nothing, even where it holds NaN.")
@given(examples=12, seed=SEEDS, soft=st.booleans(), fill=st.sampled_from((np.nan, np.inf, 1e6)))
def test_padding_says_nothing(answer: Answer, seed: int, soft: bool, fill: float) -> None:
    parts = din_parts(seed, 2, 3)
    parts[2][:, 2] = False
    want = din_of(parts, soft)
    parts[1][:, 2] = fill
    pooled, weights = attended(answer, parts, soft)
    zero(weights, where=~parts[2], what="the weight of padding")
    close(weights, want[1], "the array of weights")
    close(pooled, want[0], f"`pooled` with {fill:g} in the padding")


@points(1, DIN)
@teaches("An empty history has no interest: weights and pooled are 0 in both modes, and other rows do not notice.")
@given(examples=12, seed=SEEDS, soft=st.booleans(), empty=st.integers(0, 2))
def test_empty_histories_are_zero(answer: Answer, seed: int, soft: bool, empty: int) -> None:
    parts = din_parts(seed, 3, 2)
    parts[2][empty] = False
    attends(answer, parts, soft)


@points(1, DIN)
@hidden
@teaches("Scores of ±10,000 do not overflow, float32 stays float32, and there may be no events or no rows.")
def test_edges_of_attention(answer: Answer) -> None:
    for bias, size in ((0.0, 1e4), (-1e4, 0.0), (1e4, 0.0), (-1e4, 1e3)):
        parts = din_parts(7, 3, 4)
        parts[5], parts[6] = parts[5] * size, bias
        attends(answer, parts, True)
    for soft in (False, True):
        parts = din_parts(6, 2, 3, np.float32)
        for value, what in zip(attended(answer, parts, soft), ("`pooled`", "the array of weights"), strict=True):
            array(value, dtype=np.float32, what=what)
        attends(answer, parts, soft)
        candidate, history, present, *rest = din_parts(5, 2, 3)
        attends(answer, (candidate, history[:, :0], present[:, :0], *rest), soft)
        attends(answer, (candidate[:0], history[:0], present[:0], *rest), soft)


# ---- 5. mmoe ----------------------------------------------------------------------------------

MMOE = Question(
    "mmoe",
    "MMoE: experts shared, gates apart",
    section="mmoe",
    hints=(
        "Write down the shape of each step: experts' outputs, gates' scores, shares. What is shared, and by whom?",
        "The shares of one task and one example add up to 1 over the experts. The experts' outputs do not depend "
        "on the task.",
        "Outputs [experts, batch, width] by a stacked product and ReLU; scores [tasks, batch, experts]; softmax on "
        "the last axis with its maximum taken off; then sum over experts of share times output.",
    ),
    forbidden=DONE_ELSEWHERE,
)


def mmoe_of(x: np.ndarray, experts: np.ndarray, gates: np.ndarray) -> np.ndarray:
    """Task by task, example by example."""
    out = np.zeros((len(gates), len(x), experts.shape[2]))
    for t, r in np.ndindex(len(gates), len(x)):
        row = x[r].astype(float)
        mix = shares([math.fsum(row * gates[t, :, e]) for e in range(len(experts))])
        for share, matrix in zip(mix, experts, strict=True):
            out[t, r] += [share * max(math.fsum(row * column), 0.0) for column in matrix.T]
    return out


def mmoe_parts(seed: int, batch: int, tasks: int, count: int, dtype: type = np.float64) -> tuple[np.ndarray, ...]:
    """Inputs of unlike sizes."""
    d, width = 1 + seed % 3, 1 + seed % 4
    shapes = ((batch, d), (count, d, width), (tasks, d, count))
    return tuple(noise(seed + n, *shape, dtype=dtype) for n, shape in enumerate(shapes))


@points(1, MMOE)
@teaches("Each task mixes the outputs of the same experts by shares of its own, which depend on the example.")
def test_two_tasks_by_hand(answer: Answer) -> None:
    experts, gates = np.array([[[1.0]], [[3.0]]]), np.array([[[0.0, 0.0]], [[LN3, 0.0]]])
    got = answer.mmoe(np.array([[1.0], [2.0]]), experts, gates)
    close(got, np.array([[[2.0], [4]], [[1.5], [2.4]]]), "the output")


@points(2, MMOE)
@teaches("Shares are a softmax over the experts, for each task and each example. The inputs stay as they are.")
@given(examples=25, seed=SEEDS, batch=SIZES, tasks=st.integers(1, 3), count=SIZES)
def test_mixtures_of_experts(answer: Answer, seed: int, batch: int, tasks: int, count: int) -> None:
    parts = mmoe_parts(seed, batch, tasks, count)
    close(answer.mmoe(*parts), mmoe_of(*parts), "the output")
    unchanged(answer)


@points(1, MMOE)
@teaches("The ReLU belongs to each expert, before the mixture; a single expert gets all the weight.")
@given(examples=12, seed=SEEDS, batch=SIZES)
def test_relu_before_the_mixture(answer: Answer, seed: int, batch: int) -> None:
    x, experts, gates = np.abs(noise(seed, batch, 1)) + 0.5, np.array([[[2.0]], [[-2.0]]]), np.zeros((2, 1, 2))
    close(answer.mmoe(x, experts, gates), np.stack([x, x]), "half of one expert that is on and one that is off")
    close(answer.mmoe(x, experts[:1], gates[:, :, :1]), np.stack([2 * x, 2 * x]), "the output of a single expert")


@points(1, MMOE)
@teaches("Gate scores of ±10,000 are no problem for a softmax that takes each row's own maximum off first.")
@given(examples=12, seed=SEEDS, size=st.sampled_from((1e4, 800.0)), shift=st.sampled_from((0.0, -1e4, 1e4)))
def test_large_gate_scores(answer: Answer, seed: int, size: float, shift: float) -> None:
    x, experts, gates = mmoe_parts(seed, 3, 2, 3)
    x, experts = np.concatenate([x, np.ones((3, 1))], 1), np.concatenate([experts, experts[:, :1]], 1)
    gates = np.concatenate([size * gates, np.full((2, 1, 3), shift)], 1)
    gates[0, :-1] = noise(seed, *gates[0, :-1].shape)  # one task small, the other large
    got = answer.mmoe(x, experts, gates)
    finite(got, "the output")
    close(got, mmoe_of(x, experts, gates), "the output")


@points(1, MMOE)
@hidden
@teaches("float32 stays float32, and an empty batch gives an empty result of the right shape.")
def test_edges_of_mmoe(answer: Answer) -> None:
    parts = mmoe_parts(5, 3, 2, 4, np.float32)
    close(array(answer.mmoe(*parts), dtype=np.float32, what="the output"), mmoe_of(*parts), like=parts[0])
    x, experts, gates = mmoe_parts(6, 2, 3, 2)
    close(answer.mmoe(x[:0], experts, gates), np.zeros((3, 0, experts.shape[2])))
    close(answer.mmoe(x, experts, gates), mmoe_of(x, experts, gates))


# ---- 6. in_batch_softmax_loss -----------------------------------------------------------------

TOWERS = Question(
    "in_batch_softmax_loss",
    "Two towers: in-batch softmax with logQ",
    section="logq",
    hints=(
        "Build the square of logits first: a row for each user, a column for each item. The diagonal is the own items.",
        "The correction belongs to columns. Accidental hits leave the row before the softmax, never the diagonal. "
        "Loss and gradient come from the same softmax; the loss should not take the logarithm of it.",
        "Product over temperature, minus log_q along the columns, -inf where ids are equal off the diagonal. Take each "
        "row's maximum off. Loss: mean of log of the sum of exp minus the diagonal. Slopes: (softmax - identity) / B.",
    ),
    forbidden=DONE_ELSEWHERE,
)


def softmax_loss_of(
    users: np.ndarray, items: np.ndarray, item_ids: np.ndarray, log_q: np.ndarray | None, temperature: float
) -> tuple[float, np.ndarray]:
    """Row by row, from the columns that take part and no others."""
    count, losses = len(users), []
    slopes = np.zeros((count, count))
    for i in range(count):
        columns = [j for j in range(count) if j == i or item_ids[j] != item_ids[i]]
        line = [math.fsum(users[i] * items[j]) / temperature - (0 if log_q is None else log_q[j]) for j in columns]
        own = line[columns.index(i)]
        losses.append(max(line) - own + math.log(math.fsum(math.exp(x - max(line)) for x in line)))
        slopes[i, columns] = np.array(shares(line)) / count
        slopes[i, i] -= 1 / count
    return math.fsum(losses) / count, slopes


def tower_parts(seed: int, count: int, ids: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of pairs, item ids out of so many, and log probabilities that go with the ids."""
    rng, dim = np.random.default_rng([seed, count]), 1 + seed % 3
    item_ids = rng.integers(0, ids, count)
    vectors, log_q = noise(seed, ids, dim), np.log(rng.dirichlet(np.ones(ids)) * 0.9 + 0.1 / ids)
    return noise(seed + 1, count, dim), vectors[item_ids], item_ids + 10, log_q[item_ids]


def learns(answer: Answer, *parts: Any) -> None:
    """Loss and gradient are those of the definition."""
    want = softmax_loss_of(*parts)
    loss, gradient = two(answer.in_batch_softmax_loss(*parts), "loss", "gradient")
    close(number(loss, "the loss"), want[0], "the loss")
    close(gradient, want[1], "the gradient")


@points(1, TOWERS)
@teaches("The example of the contract: odds of 1/q in each row, without accidental hits.")
def test_three_pairs_by_hand(answer: Answer) -> None:
    flat = np.zeros((3, 1)), np.ones((3, 1)), np.array([7, 8, 7]), -np.log([2.0, 6.0, 2.0]), 1.0
    loss, gradient = two(answer.in_batch_softmax_loss(*flat), "loss", "gradient")
    close(number(loss, "the loss"), (2 * math.log(4) + math.log(5 / 3)) / 3, "the loss")
    want = np.array([[-0.75, 0.75, 0], [0.2, -0.4, 0.2], [0, 0.75, -0.75]]) / 3
    close(gradient, want, "the gradient")


@points(1, TOWERS)
@teaches("Without correction, and all items unlike: cross-entropy of each user's row, the own item on the diagonal.")
@given(examples=20, seed=SEEDS, count=st.integers(1, 4), temperature=st.sampled_from((1.0, 0.5, 0.07)))
def test_plain_in_batch_softmax(answer: Answer, seed: int, count: int, temperature: float) -> None:
    users, items = noise(seed, count, 2), noise(seed + 1, count, 2)
    learns(answer, users, items, np.arange(count), None, temperature)
    unchanged(answer)


@points(2, TOWERS)
@teaches("log_q comes off each column's logit, after the temperature, and off the own item's as well.")
@given(examples=20, seed=SEEDS, count=st.integers(2, 4), temperature=st.sampled_from((1.0, 0.5, 0.07)))
def test_log_q_comes_off_every_column(answer: Answer, seed: int, count: int, temperature: float) -> None:
    users, items, _, _ = tower_parts(seed, count, 4)
    log_q = np.log(np.random.default_rng(seed).dirichlet(np.ones(count)) * 0.9 + 0.1 / count)
    learns(answer, users, items, np.arange(count), log_q, temperature)
    unchanged(answer)


@points(2, TOWERS)
@teaches("The same item in another row is no negative: it has no part in the sum, and a slope of exactly 0.")
@given(examples=25, seed=SEEDS, count=st.integers(2, 5), ids=st.integers(1, 3), corrected=st.booleans())
def test_accidental_hits_take_no_part(answer: Answer, seed: int, count: int, ids: int, corrected: bool) -> None:
    users, items, item_ids, log_q = tower_parts(seed, count, ids)
    parts = users, items, item_ids, log_q if corrected else None, 0.5
    hits = (item_ids[:, None] == item_ids) & ~np.eye(count, dtype=bool)
    _, gradient = two(answer.in_batch_softmax_loss(*parts), "loss", "gradient")
    array(gradient, (count, count), what="the gradient")
    zero(gradient, where=hits, what="the slope of an accidental hit")
    learns(answer, *parts)


@points(1, TOWERS)
@teaches("Logits of ±10,000 give a finite loss: the maximum comes off each row, and no log is taken of a softmax.")
@given(examples=12, seed=SEEDS, size=st.sampled_from((1e4, 2e3)), count=st.integers(2, 4), ids=st.integers(2, 4))
def test_large_logits(answer: Answer, seed: int, size: float, count: int, ids: int) -> None:
    users, items, item_ids, log_q = tower_parts(seed, count, ids)
    users[0] = np.abs(users[0])  # one row high, the next one low
    users[1] = -np.abs(users[1])
    items = np.abs(items) + 0.25
    loss, gradient = two(answer.in_batch_softmax_loss(users * size, items, item_ids, log_q, 1.0), "loss", "gradient")
    finite(number(loss, "the loss"), "the loss")
    finite(gradient, "the gradient")
    learns(answer, users * size, items, item_ids, log_q, 1.0)


@points(1, TOWERS)
@hidden
@teaches("An empty batch and a temperature that is not above 0 are refused; one pair has no negatives: loss 0.")
def test_edges_of_in_batch_softmax(answer: Answer) -> None:
    users, items, item_ids, log_q = tower_parts(3, 3, 2)
    for temperature in (0.0, -0.5, float("nan")):
        what = f"a temperature of {temperature:g}"
        refuses(answer.in_batch_softmax_loss, users, items, item_ids, log_q, temperature, what=what)
    for q in (log_q[:0], None):
        parts = users[:0], items[:0], item_ids[:0], q, 1.0
        refuses(answer.in_batch_softmax_loss, *parts, what="an empty batch")
    learns(answer, users[:1], items[:1], item_ids[:1], log_q[:1], 0.5)
    learns(answer, users, items, np.full(3, 4), log_q, 0.5)
    learns(answer, users * 0.3, items, item_ids, log_q, 3.0)
