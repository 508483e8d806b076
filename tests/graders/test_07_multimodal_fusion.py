"""Grader of chapter 7: masked attention, cross-attention, missing modalities, InfoNCE, credit.

The oracles are loops over single numbers, written from the definitions; worked examples are derived in comments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations, permutations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from m6rec_mini.course.answers import Answer
from m6rec_mini.course.expect import array, close, finite, numpy_of, refuses, require, unchanged, zero
from m6rec_mini.course.grader import Law, Question, given, hidden, points, teaches

Block = tuple[np.ndarray, np.ndarray, np.ndarray]  # query, key, mask
Items = tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]  # query, tokens, present

LN2, LN3, LN5 = math.log(2), math.log(3), math.log(5)
FRIENDLY = st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 1.75])
SEEDS, TYPES = st.integers(0, 30), st.sampled_from([np.float64, np.float32])
DONE_ELSEWHERE = ("scipy.special", ".softmax", ".log_softmax", ".scaled_dot_product_attention", ".MultiheadAttention")


def noise(seed: int, *shape: int, dtype: type = np.float64) -> np.ndarray:
    """The same normal numbers each time, short enough to read."""
    return np.random.default_rng(seed).normal(size=shape).round(1).astype(dtype)


# ---- oracles ------------------------------------------------------------------------------------


def shares(scores: Sequence[float]) -> list[float]:
    """Softmax of a list of numbers."""
    odds = [math.exp(score - max(scores)) for score in scores]
    return [odd / math.fsum(odds) for odd in odds]


def weights_of(query: np.ndarray, key: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Attention weights of one block: query (queries, dim), key (keys, dim), visible (queries, keys)."""
    out = np.zeros((len(query), len(key)))
    for row, q, seen in zip(out, query.tolist(), visible, strict=True):
        keys = key[seen].tolist()
        row[seen] = shares([math.fsum(x * y for x, y in zip(q, k, strict=True)) / math.sqrt(len(q)) for k in keys])
    return out


def layer_of(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, matrices: Sequence[np.ndarray], heads: int, mask: np.ndarray
) -> np.ndarray:
    """Cross-attention of one block, head after head, each adding its own rows of w_out."""
    out = np.zeros((len(query), matrices[3].shape[1]))
    for q, k, v, o in zip(
        *(np.split(w, heads, axis) for w, axis in zip(matrices, (1, 1, 1, 0), strict=True)), strict=True
    ):
        out += weights_of(query @ q, key @ k, mask) @ (value @ v @ o)
    return out


def fused_of(query: np.ndarray, tokens: dict[str, np.ndarray], present: dict[str, np.ndarray]) -> np.ndarray:
    """Fusion item by item, from the tokens that are there and no others."""
    rows = []
    for item in range(len(next(iter(tokens.values())))):
        there = np.concatenate([block[item] for name, block in tokens.items() if present[name][item]])
        rows.append(weights_of(query, there, np.ones((len(query), len(there)), bool)) @ there)
    return np.array(rows)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """All cosines, one by one in double precision; 0 with a vector of zeros."""
    rows = [[(float(x @ y), math.sqrt(x @ x) * math.sqrt(y @ y)) for y in b.astype(float)] for x in a.astype(float)]
    return np.array([[dot / (lengths or 1.0) for dot, lengths in row] for row in rows])


def contrast_of(logits: np.ndarray) -> tuple[float, np.ndarray]:
    """Both cross-entropies of a square of logits, and their slopes, line after line."""
    count, loss, slopes = len(logits), 0.0, np.zeros(logits.shape)
    for lines, out in ((logits, slopes), (logits.T, slopes.T)):
        for own, line in enumerate(lines.tolist()):
            found = shares(line)
            loss += max(line) - line[own] + math.log(math.fsum(math.exp(x - max(line)) for x in line))
            out[own] += np.array(found) - np.eye(count)[own]
    return loss / (2 * count), slopes / (2 * count)


def credit_of(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Shapley values by the weights of sets, |S|! (n - |S| - 1)! / n!."""
    out = np.full(present.shape, np.nan)
    for item, m in np.argwhere(present).tolist():
        others = [2**other for other in np.flatnonzero(present[item]).tolist() if other != m]
        terms = []
        for size in range(len(others) + 1):
            weight = 1 / (math.comb(len(others), size) * (len(others) + 1))
            for shown in map(sum, combinations(others, size)):
                terms.append(weight * float(scores[shown + 2**m, item] - scores[shown, item]))
        out[item, m] = math.fsum(terms)
    return out


# ---- pictures -----------------------------------------------------------------------------------


def heat_maps(got: np.ndarray, want: np.ndarray, rows: str, columns: str) -> str:
    """The wrong matrix next to the right one: blue above zero, orange below, black where not a number."""
    if got.shape == want.shape and np.allclose(got, want):
        return ""
    side, gap, cells = 36, 40, []
    for left, title, matrix in ((0, "yours", got), (got.shape[1] * side + gap, "right", want)):
        cells.append(f'<text x="{left}" y="14" font-weight="bold">{title}</text>')
        for (i, j), x in np.ndenumerate(matrix):
            colour = "#000" if not np.isfinite(x) else "#0072b2" if x >= 0 else "#d55e00"
            shade = min(abs(float(x)), 1.0) if np.isfinite(x) else 1.0
            ink = "#fff" if shade > 0.7 else "#000"
            cells.append(
                f'<rect x="{left + j * side}" y="{22 + i * side}" width="{side}" height="{side}" fill="{colour}" '
                f'fill-opacity="{shade:.2f}" stroke="#767f89"/><text x="{left + (j + 0.5) * side}" '
                f'text-anchor="middle" y="{26 + (i + 0.5) * side}" fill="{ink}">{x:.2f}</text>'
            )
    width, height = (got.shape[1] + want.shape[1]) * side + gap, max(len(got), len(want)) * side + 44
    note = f'<text x="0" y="{height - 6}">{rows} down, {columns} across</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="11" role="img" aria-label="your matrix beside the right one">{"".join(cells)}{note}</svg>'
    )


def matrix(value: object) -> np.ndarray:
    """Whatever came out, as a matrix; a picture needs no more."""
    return np.atleast_2d(numpy_of(value).astype(float))


def draw_weights(answer: Answer, law: Law) -> str:
    """Three queries over four keys; the last query may look at nothing."""
    query, key = np.array([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [1.0, 1.0, 0, 0]]), 1.5 * np.eye(4)
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], bool)
    return heat_maps(
        matrix(answer.attention_weights(query, key, mask)), weights_of(query, key, mask), "queries", "keys"
    )


def draw_gradient(answer: Answer, law: Law) -> str:
    """How the loss of three pairs pulls and pushes (times the number of pairs)."""
    a, b = np.eye(3), np.array([[1.0, 0, 0], [0, 1, 0.5], [0, 1, 0.6]])
    want = contrast_of(cosines(a, b) / 0.5)[1]
    return heat_maps(3 * matrix(answer.info_nce(a, b, 0.5)[1]), 3 * want, "rows of a", "rows of b")


# ---- 1. attention_weights -----------------------------------------------------------------------

WEIGHTS = Question(
    "attention_weights",
    "Masked attention weights",
    section="masks",
    hints=(
        "Three steps: scores, mask, softmax. Ask of each what it does in a row where every key is masked.",
        "Masked scores become minus infinity before the softmax. Take the largest score off each row before exp, "
        "and think about which rows have no largest score and no sum.",
        "Put -inf where the mask is false (replace, do not add). Subtract the row's maximum, but never -inf. Take exp, "
        "then divide by the row's sum only where that is above 0. Scale by a plain Python float to keep float32.",
    ),
    forbidden=DONE_ELSEWHERE,
    draw=draw_weights,
)


@st.composite
def blocks(draw: Callable) -> Block:
    """Query, key and a mask for them; every query may see the first key."""
    queries, keys, dim = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    arrays = [draw(hnp.arrays(float, (rows, dim), elements=FRIENDLY, fill=st.nothing())) for rows in (queries, keys)]
    mask = draw(hnp.arrays(bool, (queries, keys)))
    mask[:, 0] = True
    return (*arrays, mask)


@points(1, WEIGHTS)
@teaches("A weight is the softmax of query · key / √dim over the keys: positive, and each row adds up to 1.")
def test_three_keys_by_hand(answer: Answer) -> None:
    query, key = np.array([[2.0, 0, 0, 0]]), np.array([[0.0, 1, 1, 1], [LN2, 0, 0, 1], [LN5, 1, 0, 0]])
    # dim 4, so scores are halved: 0, ln 2, ln 5; exp: 1, 2, 5
    close(answer.attention_weights(query, key, None), np.array([[1, 2, 5]]) / 8, "the array of weights")
    got = answer.attention_weights(query, key, np.array([[True, True, False]]))
    close(got, np.array([[1 / 3, 2 / 3, 0]]), "with the third key masked, the array of weights")


@points(1, WEIGHTS)
@teaches("A masked key gets exactly 0, and the others share all of the weight: mask the scores, before the softmax.")
@given(examples=25, block=blocks())
def test_masked_keys_get_no_weight(answer: Answer, block: Block) -> None:
    query, key, mask = block
    mask[0, -1] = len(key) == 1  # so that somebody misses something
    got = answer.attention_weights(query, key, mask)
    array(got, mask.shape, what="the array of weights")
    zero(got, where=~mask, what="the weight of a masked key")
    close(got, weights_of(query, key, mask), "the array of weights")


@points(1, WEIGHTS)
@teaches("A query that may look at nothing has no weights to give: a row of zeros. Softmax over nothing is 0/0.")
@given(examples=15, block=blocks())
def test_a_query_that_sees_nothing_gets_zeros(answer: Answer, block: Block) -> None:
    query, key, mask = block
    query, mask = np.vstack([query, query[:1], query[:1]]), np.vstack([mask, mask[:1] & False, mask[:1] | True])
    got = answer.attention_weights(query, key, mask)
    array(got, mask.shape, what="the array of weights")
    finite(got, "a row of weights where every key is masked")
    zero(numpy_of(got)[-2], what="the weight of a query that may look at nothing")
    close(got, weights_of(query, key, mask), "the array of weights")


@points(1, WEIGHTS)
@teaches("Softmax ignores a number that is taken off all scores. Take off the largest, and exp cannot overflow.")
@given(examples=12, size=st.sampled_from([800.0, 8e3, 8e5]), sign=st.sampled_from([1, -1]), kind=TYPES)
def test_large_scores_stay_finite(answer: Answer, size: float, sign: int, kind: type) -> None:
    top = sign * size  # dim 1: scores top, top - 1, top - 2 (exact in float32), and one far below
    query, key = np.array([[1], [0]], kind), np.array([[top], [top - 1], [top - 2], [top - size]], kind)
    got = answer.attention_weights(query, key, None)
    finite(got, f"the array of weights, for scores near {top:g},")
    want = np.array([shares([0.0, -1.0, -2.0, -size]), [0.25] * 4])  # the second query has small scores
    close(got, want, f"the array of weights, for scores near {top:g},", like=key)


@points(1, WEIGHTS)
@teaches("Batch axes broadcast as in NumPy: the last two axes are queries or keys and dim, whatever stands before.")
@given(examples=12, items=st.integers(1, 3), heads=st.integers(1, 2), kind=st.sampled_from(range(5)))
def test_batch_axes_broadcast(answer: Answer, items: int, heads: int, kind: int) -> None:
    query, key = noise(kind, heads, 2, 2), noise(9 + kind, items, 1, 3, 2)
    seen = noise(20 + kind, items, heads, 2, 3) > -0.5
    mask = [seen, seen[:, :, :1], seen[:1, :1], seen[0, 0, 0], seen[:, :1, :1]][kind]
    full = np.broadcast_to(mask, seen.shape)
    want = np.array([[weights_of(query[h], key[i, 0], full[i, h]) for h in range(heads)] for i in range(items)])
    what = f"for query {query.shape}, key {key.shape} and mask {mask.shape}, the array of weights"
    close(answer.attention_weights(query, key, mask), want, what)


@points(1, WEIGHTS)
@teaches("float32 in, float32 out. A NumPy scalar such as np.sqrt(4) is float64, and so is all that it meets.")
@given(examples=6, kind=TYPES, masked=st.booleans())
def test_the_type_is_kept(answer: Answer, kind: type, masked: bool) -> None:
    query, key = noise(1, 2, 3, dtype=kind), noise(2, 4, 3, dtype=kind)
    mask = np.array([[1, 0, 1, 1], [0, 1, 1, 0]], bool) if masked else None
    got = answer.attention_weights(query, key, mask)
    array(got, (2, 4), kind, "the array of weights")
    close(got, weights_of(query, key, mask if masked else np.ones((2, 4), bool)), "the array of weights", like=query)
    unchanged(answer)


@points(1, WEIGHTS)
@hidden
@teaches("A masked key is not read: not its NaN, not its infinity, and no finite number stands in for -infinity.")
@given(examples=10, bad=st.sampled_from([np.nan, np.inf, -np.inf, 1e200]), far=st.sampled_from([1.0, -1e12]))
def test_what_is_masked_is_never_read(answer: Answer, bad: float, far: float) -> None:
    query, key = np.array([[1.0], [2.0]]), np.array([[far], [bad], [1.25 * far], [far]])
    mask = np.array([[True, False, True, True], [False] * 4])
    got = answer.attention_weights(query, key, mask)
    finite(got, f"the array of weights, beside a masked key of {bad},")
    close(got, weights_of(query, key, mask), f"the array of weights, beside a masked key of {bad},")
    array(answer.attention_weights(query, key[:0], None), (2, 0), what="over no keys, the array of weights")
    array(answer.attention_weights(query[:0], key, None), (0, 4), what="of no queries, the array of weights")


# ---- 2. cross_attention -------------------------------------------------------------------------

CROSS = Question(
    "cross_attention",
    "Multi-head cross-attention",
    section="heads",
    hints=(
        "Write the shapes beside each line. The difficulty is one reshape and one swap of axes, done and undone.",
        "Project, cut the width into (heads, width), bring heads before tokens, attend, bring heads back behind "
        "tokens, join, multiply by w_out. The mask needs an axis for the heads.",
        "Split: reshape the last axis to (heads, inner // heads), then swap axes -2 and -3. The mask, at least 2-D, "
        "gets an axis at -3. Attend with attention_weights, so the scale is a head's width. Swap back before you join.",
    ),
    forbidden=(*DONE_ELSEWHERE, "torch.nn"),
)


def layer(seed: int, dims: tuple[int, int, int], inner: int, inner_value: int, out: int) -> list[np.ndarray]:
    """The four matrices of a layer."""
    shapes = ((dims[0], inner), (dims[1], inner), (dims[2], inner_value), (inner_value, out))
    return [noise(seed + n, *shape) for n, shape in enumerate(shapes)]


def inputs(seed: int, queries: int, keys: int, dims: tuple[int, int, int]) -> list[np.ndarray]:
    """Query, key and value without a batch axis."""
    return [noise(seed + 30 * n, rows, dims[n]) for n, rows in enumerate((queries, keys, keys))]


@points(1, CROSS)
@teaches("Each head attends with its own block of columns, and the heads' results stand side by side in order.")
def test_two_heads_by_hand(answer: Answer) -> None:
    query, key, value = np.array([[1.0, 0]]), np.array([[0.0, 0], [LN3, 9]]), np.array([[0.0, 0], [8, 8]])
    # head 0: scores 0, ln 3; weights 1/4, 3/4; 6. head 1: its query is 0, so weights 1/2, 1/2; 4
    got = answer.cross_attention(query, key, value, *[np.eye(2)] * 4, 2, None)
    close(got, np.array([[6.0, 4.0]]), "the result")
    # one head of width 2: scores 0 and ln(3) / √2, so the second key has odds of 3 ** (1 / √2)
    odds = 3 ** (1 / math.sqrt(2))
    got = answer.cross_attention(query, key, value, *[np.eye(2)] * 4, 1, None)
    close(got, np.full((1, 2), 8 * odds / (1 + odds)), "the result of a single head")


@points(1, CROSS)
@teaches("A head owns consecutive columns, and its scores are scaled by the width of a head, not of the layer.")
@given(examples=15, heads=st.integers(1, 3), wide=st.integers(1, 3), queries=st.integers(1, 3), seed=SEEDS)
def test_heads_own_consecutive_columns(answer: Answer, heads: int, wide: int, queries: int, seed: int) -> None:
    matrices, given_ = layer(seed, (4, 4, 4), heads * wide, heads * wide, 4), inputs(seed, queries, 3, (4, 4, 4))
    want = layer_of(*given_, matrices, heads, np.ones((queries, 3), bool))
    close(
        answer.cross_attention(*given_, *matrices, heads, None), want, f"with {heads} heads of width {wide}, the result"
    )


@points(1, CROSS)
@teaches("Queries, keys, values and output may have widths of their own; only `inner` is shared, by queries and keys.")
@given(examples=8, heads=st.sampled_from([1, 2]), seed=SEEDS)
def test_widths_may_differ(answer: Answer, heads: int, seed: int) -> None:
    matrices, given_ = layer(seed, (3, 5, 2), 4, 6, 7), inputs(seed, 2, 4, (3, 5, 2))
    want = layer_of(*given_, matrices, heads, np.ones((2, 4), bool))
    close(answer.cross_attention(*given_, *matrices, heads, None), want, "with a width of its own for each, the result")


@points(1, CROSS)
@teaches("One mask holds for every head: it broadcasts to (..., queries, keys), and none of these axes is the heads'.")
@given(examples=12, kind=st.sampled_from(range(5)), heads=st.sampled_from([2, 4]), seed=SEEDS)
def test_the_mask_holds_for_every_head(answer: Answer, kind: int, heads: int, seed: int) -> None:
    # As many items as heads and as queries: a mask on the wrong axis would still fit.
    matrices, blocks_ = layer(seed, (4, 4, 4), 4, 4, 3), [inputs(seed + n, 2, 3, (4, 4, 4)) for n in range(2)]
    seen = np.array([[[1, 0, 1], [0, 1, 1]], [[1, 1, 0], [1, 0, 0]]], bool)
    mask = [seen, seen[:, :1], seen[0], seen[0, 0], seen[:, :, :1] | True][kind]
    full = np.broadcast_to(mask, seen.shape)
    got = answer.cross_attention(*map(np.stack, zip(*blocks_, strict=True)), *matrices, heads, mask)
    want = np.array([layer_of(*block, matrices, heads, full[i]) for i, block in enumerate(blocks_)])
    close(got, want, f"with a mask of shape {mask.shape}, the result")


@points(1, CROSS)
@teaches("Batch axes broadcast: learned queries without a batch axis are asked of every item.")
@given(examples=8, items=st.integers(1, 3), extra=st.booleans(), seed=SEEDS)
def test_queries_may_be_shared_by_all_items(answer: Answer, items: int, extra: bool, seed: int) -> None:
    matrices, query = layer(seed, (3, 3, 3), 4, 4, 3), noise(seed, 2, 3)
    key, value = noise(seed + 30, items, 4, 3), noise(seed + 60, items, 4, 3)
    want = np.array([layer_of(query, key[i], value[i], matrices, 2, np.ones((2, 4), bool)) for i in range(items)])
    if extra:  # one more batch axis
        key, value, want = (np.stack([x, x[::-1]]) for x in (key, value, want))
    got = answer.cross_attention(query, key, value, *matrices, 2, None)
    close(got, want, f"for queries {query.shape} and keys {key.shape}, the result")


@points(1, CROSS)
@teaches("A query that may look at nothing gets zeros; its neighbours do not notice.")
@given(examples=6, heads=st.sampled_from([1, 2]), blind=st.sampled_from([0, 1]), seed=SEEDS)
def test_a_blind_query_gets_zeros(answer: Answer, heads: int, blind: int, seed: int) -> None:
    matrices, given_ = layer(seed, (4, 4, 4), 4, 4, 3), inputs(seed, 2, 3, (4, 4, 4))
    mask = np.ones((2, 3), bool)
    mask[blind] = False
    got = answer.cross_attention(*given_, *matrices, heads, mask)
    zero(array(got, (2, 3), what="the result")[blind], what="the result for a query that may look at nothing")
    close(got, layer_of(*given_, matrices, heads, mask), "the result")


@points(0.5, CROSS)
@teaches("Heads that do not divide both widths are refused with ValueError and a message.")
def test_heads_must_fit(answer: Answer) -> None:
    given_ = inputs(0, 2, 3, (4, 4, 4))
    for heads, inner, inner_value in ((0, 4, 4), (-1, 4, 4), (3, 4, 6), (3, 6, 4)):
        matrices, what = (
            layer(2, (4, 4, 4), inner, inner_value, 4),
            f"{heads} heads for widths {inner} and {inner_value}",
        )
        refuses(answer.cross_attention, *given_, *matrices, heads, None, what=what)
    matrices = layer(2, (4, 4, 4), 6, 3, 4)  # three heads divide both: no reason to refuse
    want = layer_of(*given_, matrices, 3, np.ones((2, 3), bool))
    close(answer.cross_attention(*given_, *matrices, 3, None), want, "with 3 heads for widths 6 and 3, the result")


@points(0.5, CROSS)
@hidden
@teaches("float32 stays float32, no queries give no rows, and the arguments stay as they were.")
@given(examples=4, kind=TYPES, queries=st.sampled_from([2, 0]))
def test_type_and_arguments_of_the_layer(answer: Answer, kind: type, queries: int) -> None:
    matrices, given_ = (
        [x.astype(kind) for x in xs] for xs in (layer(1, (4,) * 3, 4, 4, 3), inputs(1, queries, 3, (4,) * 3))
    )
    mask = np.array([[1, 1, 0], [0, 0, 0]], bool)[:queries]
    got = answer.cross_attention(*given_, *matrices, 2, mask)
    unchanged(answer)
    array(got, (queries, 3), kind, "the result")
    close(got, layer_of(*given_, matrices, 2, mask), "the result", like=given_[1])


# ---- 3. fuse_modalities -------------------------------------------------------------------------

FUSE = Question(
    "fuse_modalities",
    "Fusion with missing modalities",
    section="missing",
    hints=(
        "For one item it is question 1 over the tokens that it has. Everything else is about tokens that it has not.",
        "Set all modalities' tokens side by side, build one mask (items, tokens) from `present` by name, attend once. "
        "Then ask where a NaN in a missing row could still get through.",
        "Concatenate along axis 1; spread each present[name] over its number of tokens. Raise if a row of the mask is "
        "all False. Put 0 for masked tokens (0 * NaN is NaN), then weights with mask[:, None], times the tokens.",
    ),
    forbidden=(*DONE_ELSEWHERE, "torch.nn"),
)


@st.composite
def catalogues(draw: Callable) -> Items:
    """A query, tokens of two or three modalities, and who has them; everybody has something."""
    items, dim, seed = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(SEEDS)
    names = ["text", "image", "audio"][: draw(st.integers(2, 3))]
    has = draw(hnp.arrays(bool, (items, len(names))))
    has[~has.any(axis=1), seed % len(names)] = True
    tokens = {name: noise(seed + n, items, draw(st.integers(1, 3)), dim) for n, name in enumerate(names)}
    return noise(seed + 7, 2, dim), tokens, {name: has[:, n].copy() for n, name in enumerate(names)}


@points(1, FUSE)
@teaches("The result is a weighted mean of the tokens that an item has. What is missing has no weight and no vote.")
def test_one_item_by_hand(answer: Answer) -> None:
    tokens = {"text": np.array([[[2.0, 4.0]]]), "image": np.array([[[8.0, 0.0]]])}
    yes, no, query = np.array([True]), np.array([False]), np.zeros((1, 2))  # a query that looks at all alike
    got = answer.fuse_modalities(query, tokens, {"text": yes, "image": yes})
    close(got, np.array([[[5.0, 2.0]]]), "with both modalities, the result")
    got = answer.fuse_modalities(query, tokens, {"text": yes, "image": no})
    close(got, np.array([[[2.0, 4.0]]]), "with text alone, the result")
    # a query of [ln 3 · √2 / 6, 0]: scores 2/6 and 8/6 of ln 3, so the weights are 1/4 and 3/4
    got = answer.fuse_modalities(np.array([[LN3 * math.sqrt(2) / 6, 0]]), tokens, {"text": yes, "image": yes})
    close(got, np.array([[[6.5, 1.0]]]), "with a query that prefers the image, the result")


@points(1, FUSE)
@teaches("All tokens of all modalities present compete in one softmax: three tokens of text count three times.")
@given(examples=20, catalogue=catalogues())
def test_every_item_is_fused_from_what_it_has(answer: Answer, catalogue: Items) -> None:
    close(answer.fuse_modalities(*catalogue), fused_of(*catalogue), "the result")


@points(1, FUSE)
@teaches("A missing modality is as good as never mentioned: no zero vector, nor whatever stands in its rows.")
@given(examples=12, catalogue=catalogues(), left=st.sampled_from([0.0, 50.0, -1e3]))
def test_missing_is_as_good_as_never_mentioned(answer: Answer, catalogue: Items, left: float) -> None:
    query, tokens, present = catalogue
    first, *others = tokens
    everybody = present[first] | True
    spoilt = {name: block if name == first else np.full_like(block, left) for name, block in tokens.items()}
    got = answer.fuse_modalities(query, spoilt, {first: everybody, **dict.fromkeys(others, ~everybody)})
    want = fused_of(query, {first: tokens[first]}, {first: everybody})
    close(got, want, f"where all items have {first} alone, and {left:g} in the missing rows, the result")


@points(1, FUSE)
@teaches("Modalities are a set. Their order changes nothing, in `tokens` or in `present`: match them by name.")
@given(examples=12, catalogue=catalogues(), turn=st.integers(0, 5))
def test_order_changes_nothing(answer: Answer, catalogue: Items, turn: int) -> None:
    query, tokens, present = catalogue
    orders = list(permutations(tokens))
    names = orders[turn % len(orders)]
    for what, change in (("tokens", (names, tuple(present))), ("`present`", (tuple(tokens), names))):
        ordered = {name: tokens[name] for name in change[0]}, {name: present[name] for name in change[1]}
        close(
            answer.fuse_modalities(query, *ordered), fused_of(*catalogue), f"with {what} listed as {names}, the result"
        )


@points(1, FUSE)
@teaches("An item with nothing has nothing to say: refuse it by its row, here, and not as NaN three layers later.")
@given(examples=10, has=hnp.arrays(bool, (4, 2)).filter(lambda has: not has.any(axis=1).all()))
def test_items_with_nothing_are_named(answer: Answer, has: np.ndarray) -> None:
    query, tokens = noise(3, 1, 3), {"text": noise(1, 14, 2, 3), "image": noise(2, 14, 1, 3)}
    have = {name: np.append(np.ones(10, bool), has[:, n]) for n, name in enumerate(tokens)}
    said = refuses(answer.fuse_modalities, query, tokens, have, what="a catalogue with an item that has nothing")
    numbers = "".join(c if c.isdigit() else " " for c in said).split()
    for row in (np.flatnonzero(~has.any(axis=1)) + 10).tolist():
        require(str(row) in numbers, f"the message should name row {row}, which has nothing; it says: {said}")
    have["text"] |= True
    close(answer.fuse_modalities(query, tokens, have), fused_of(query, tokens, have), "the result")


@points(1, FUSE)
@hidden
@teaches("Whatever stands in the rows of a missing modality, NaN and infinity included, must not reach the result.")
@given(examples=8, catalogue=catalogues(), bad=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_rows_of_the_missing_are_never_read(answer: Answer, catalogue: Items, bad: float) -> None:
    query, tokens, present = catalogue
    spoilt = {name: np.where(present[name][:, None, None], block, bad) for name, block in tokens.items()}
    got = answer.fuse_modalities(query, spoilt, present)
    close(got, fused_of(*catalogue), f"with {bad} in the rows of missing modalities, the result")


@points(1, FUSE)
@hidden
@teaches("No items give no rows, a modality without tokens counts for nothing, and float32 stays float32.")
@given(examples=4, kind=TYPES)
def test_special_cases_of_fusion(answer: Answer, kind: type) -> None:
    query, yes = noise(1, 2, 3, dtype=kind), np.ones(2, bool)
    tokens = {"text": noise(2, 2, 2, 3, dtype=kind), "image": np.zeros((2, 0, 3), kind)}
    got = answer.fuse_modalities(query, tokens, {"text": yes, "image": yes})
    unchanged(answer)
    array(got, (2, 2, 3), kind, "the result")
    close(got, fused_of(query, {"text": tokens["text"]}, {"text": yes}), "the result", like=query)
    only = {"text": ~yes, "image": yes}
    refuses(answer.fuse_modalities, query, tokens, only, what="an item whose only modality has no tokens")
    none = {name: block[:0] for name, block in tokens.items()}, {name: has[:0] for name, has in only.items()}
    array(answer.fuse_modalities(query, *none), (0, 2, 3), what="for no items, the result")


# ---- 4. info_nce --------------------------------------------------------------------------------

CONTRAST = Question(
    "info_nce",
    "Symmetric InfoNCE and its gradient",
    section="contrast",
    hints=(
        "One square of cosines, two softmaxes over it: along each row and along each column.",
        "Compute log-probabilities, never the logarithm of probabilities. The gradient of a cross-entropy by its "
        "logits is probability, less 1 at the right place; here two of them meet in each cell.",
        "log_softmax: take the maximum off, then the log of the summed exps, along axis 1 and along axis 0. The loss "
        "is minus the mean of all diagonal entries of both. The gradient is (exp of one + exp of the other - 2 on the "
        "diagonal) over 2 · pairs.",
    ),
    forbidden=(*DONE_ELSEWHERE, ".logsumexp", ".cross_entropy", "torch.nn", ".autograd"),
    draw=draw_gradient,
)


def both(answer: Answer, a: np.ndarray, b: np.ndarray, temperature: float) -> tuple[object, object]:
    """Loss and gradient, from whatever holds two things."""
    got = answer.info_nce(a, b, temperature)
    require(isinstance(got, tuple | list) and len(got) == 2, "the result should be a pair: (loss, gradient)", got)
    return got[0], got[1]


def partners(seed: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of several lengths that agree somewhat."""
    shared = noise(seed, pairs, 3)
    return shared + noise(seed + 50, pairs, 3), 3 * shared + noise(seed + 90, pairs, 3)


@points(1, CONTRAST)
@teaches("The loss is -log of the probability of finding one's partner: a mean over the pairs and both directions.")
def test_loss_of_two_pairs_by_hand(answer: Answer) -> None:
    # logits 1 on the diagonal and 0 beside it: p = e / (e + 1), -ln p = ln(1 + 1/e)
    close(both(answer, np.eye(2), np.eye(2), 1.0)[0], 0.31326168751822286, "the loss of two pairs that fit")
    # partners exchanged, temperature 1/2: logits 0 on the diagonal, 2 beside it; ln(1 + e²)
    close(both(answer, np.eye(2), np.eye(2)[::-1].copy(), 0.5)[0], 2.1269280110429727, "the loss of two that do not")


@points(1, CONTRAST)
@teaches("Only directions count. Without unit length a long vector would be everybody's neighbour.")
@given(examples=12, pairs=st.integers(2, 4), seed=SEEDS, size=st.sampled_from([1.0, 0.01, 700.0]))
def test_lengths_do_not_count(answer: Answer, pairs: int, seed: int, size: float) -> None:
    a, b = partners(seed, pairs)
    stretch = size ** np.linspace(-1, 1, pairs)[:, None]
    want = contrast_of(cosines(a, b) / 0.5)[0]
    close(both(answer, a * stretch, b / stretch, 0.5)[0], want, "the loss of vectors of several lengths")
    a[0] = 0  # no direction: it stays as it is, and its cosines are 0
    close(both(answer, a, b, 0.5)[0], contrast_of(cosines(a, b) / 0.5)[0], "the loss with a row of zeros")


@points(1, CONTRAST)
@teaches("Each row must find its column and each column its row. So exchanging a and b changes nothing.")
@given(examples=12, pairs=st.integers(2, 5), seed=SEEDS, temperature=st.sampled_from([0.1, 0.5, 2.0]))
def test_both_directions_count(answer: Answer, pairs: int, seed: int, temperature: float) -> None:
    a, b = partners(seed, pairs)
    want = contrast_of(cosines(a, b) / temperature)[0]
    close(both(answer, a, b, temperature)[0], want, "the loss")
    close(both(answer, b, a, temperature)[0], want, "the loss with a and b exchanged")


@points(1, CONTRAST)
@teaches("Small temperatures make huge logits. Stay with log-probabilities: nothing overflows, no log of 0 is taken.")
@given(examples=8, temperature=st.sampled_from([1e-2, 1e-3, 1e-4]), kind=TYPES)
def test_small_temperatures_are_safe(answer: Answer, temperature: float, kind: type) -> None:
    a = np.eye(3, dtype=kind)
    loss, gradient = both(answer, a, np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]], kind), temperature)
    # rows 0 and 1 have logits (0, 1/τ, 0), their own being 0: -log p = 1/τ. Row 2 has (0, 0, -1/τ): 1/τ + ln 2
    close(loss, 1 / temperature + LN2 / 3, f"the loss at temperature {temperature:g}", like=a)
    # each row and column takes 1 from its own cell and gives it to its largest, or half to each of two
    want = np.array([[-2, 2, 0.5], [2, -2, 0.5], [0.5, 0.5, -2]]) / 6
    close(gradient, want, f"the gradient at temperature {temperature:g}", like=a)


@points(1, CONTRAST)
@teaches("The gradient pulls each pair together by 1 - p and pushes others apart by p, from both directions.")
def test_gradient_of_two_pairs_by_hand(answer: Answer) -> None:
    p = math.e / (math.e + 1)
    want = np.array([[p - 1, 1 - p], [1 - p, p - 1]]) / 2
    close(both(answer, np.eye(2), np.eye(2), 1.0)[1], want, "the gradient")
    # both partners alike: logits [[1, 1], [0, 0]]. Rows give 1/2 each, columns p and 1 - p
    want = np.array([[0.5 - 1 + p - 1, 0.5 + p], [0.5 + 1 - p, 0.5 - 1 + 1 - p - 1]]) / 4
    close(
        both(answer, np.eye(2), np.array([[1.0, 0], [1, 0]]), 1.0)[1],
        want,
        "with partners that look alike, the gradient",
    )


@points(1, CONTRAST)
@teaches("A gradient is a slope: if one logit moves a little, the loss changes by that much. Logits, not cosines.")
@given(examples=12, pairs=st.integers(1, 4), seed=SEEDS, temperature=st.sampled_from([0.2, 1.0, 3.0]))
def test_gradient_is_the_slope_of_the_loss(answer: Answer, pairs: int, seed: int, temperature: float) -> None:
    a, b = partners(seed, pairs)
    logits, step = cosines(a, b) / temperature, 1e-4 * noise(seed, pairs, pairs)
    gradient = array(both(answer, a, b, temperature)[1], (pairs, pairs), what="the gradient")
    risen = (contrast_of(logits + step)[0] - contrast_of(logits - step)[0]) / 2
    require(abs(risen - np.sum(step * gradient)) < 1e-9, "the loss does not rise as the gradient says", gradient)
    close(gradient, contrast_of(logits)[1], "the gradient")


@points(0.5, CONTRAST)
@teaches("What cannot be answered is refused with ValueError: no temperature, no pairs, partners missing.")
def test_what_makes_no_sense_is_refused(answer: Answer) -> None:
    a = noise(1, 3, 2)
    for temperature in (0.0, -0.1, math.nan):
        refuses(answer.info_nce, a, a, temperature, what=f"temperature {temperature:g}")
    for other in (a[:2], a[:1], a[:, :1]):
        refuses(answer.info_nce, a, other, 1.0, what=f"a of shape {a.shape} against b of shape {other.shape}")
    refuses(answer.info_nce, a[:0], a[:0], 1.0, what="no pairs at all")
    close(both(answer, a, a, 1e-3)[0], contrast_of(cosines(a, a) / 1e-3)[0], "the loss at temperature 0.001")


@points(0.5, CONTRAST)
@hidden
@teaches("One pair has nothing to be told from: loss 0, gradient 0. The gradient has the inputs' type.")
@given(examples=4, kind=TYPES)
def test_one_pair_and_types(answer: Answer, kind: type) -> None:
    a, b = (x.astype(kind) for x in partners(3, 4))
    loss, gradient = both(answer, a, b, 0.3)
    unchanged(answer)
    array(gradient, (4, 4), kind, "the gradient")
    want = contrast_of(cosines(a, b) / 0.3)
    close(loss, want[0], "the loss", like=a)
    close(gradient, want[1], "the gradient", like=a)
    loss, gradient = both(answer, a[:1], b[:1], 0.1)
    close(loss, 0.0, "the loss of a single pair", like=a)
    close(gradient, np.zeros((1, 1)), "the gradient of a single pair", like=a)


# ---- 5. modality_credit -------------------------------------------------------------------------

CREDIT = Question(
    "modality_credit",
    "Who deserves the credit?",
    section="credit",
    hints=(
        "Take one item with two modalities and write down both orders of arrival. Then do the same for three.",
        "For each order of what the item has: start with the empty set, add one after the other, note by how much the "
        "score rises. The credit is the mean of that over all orders. A set is a number; its bits are its members.",
        "Per item: loop over the permutations of what it has. shown = 0; for m in order: new = shown + 2**m; credit[m] "
        "+= (scores[new] - scores[shown]) / number of orders; shown = new. Start with NaN for all, 0 for present.",
    ),
    forbidden=("shap",),
)


def item(*scores: float) -> np.ndarray:
    """The scores of a single item, by set."""
    return np.array(scores, float)[:, None]


@points(1, CREDIT)
@teaches("A modality's credit is what it adds when it arrives, meant over all orders: first, and after the others.")
def test_two_modalities_by_hand(answer: Answer) -> None:
    # text first: 6, second: 10 - 2 = 8; picture first: 2, second: 10 - 6 = 4
    close(answer.modality_credit(item(0, 6, 2, 10), np.ones((1, 2), bool)), np.array([[7.0, 3.0]]), "the credit")
    # what is there with nothing shown is nobody's: text 1 or 8, picture -3 or 4
    close(answer.modality_credit(item(5, 6, 2, 10), np.ones((1, 2), bool)), np.array([[4.5, 0.5]]), "the credit")


@points(1, CREDIT)
@teaches("Two modalities that say the same share what they say. Hiding one at a time would give both nothing.")
@given(examples=8, worth=st.sampled_from([4.0, -3.0, 1.5]), own=st.sampled_from([0.0, 2.0]), who=st.integers(0, 2))
def test_twins_share(answer: Answer, worth: float, own: float, who: int) -> None:
    twins = 7 - 2**who  # the set of the two others
    scores = item(*(worth * bool(s & twins) + own * bool(s & 2**who) for s in range(8)))
    want = np.array([[own if m == who else worth / 2 for m in range(3)]])
    what = f"where all but modality {who} say the same, the credit"
    close(answer.modality_credit(scores, np.ones((1, 3), bool)), want, what)


@points(1, CREDIT)
@teaches("Where modalities just add up, each gets its own term. Modality m is bit m of the set's number.")
@given(examples=12, terms=st.lists(st.sampled_from([0.0, 1.0, -2.0, 5.0]), min_size=1, max_size=4))
def test_terms_that_add_up(answer: Answer, terms: list[float]) -> None:
    sets = range(2 ** len(terms))
    scores = item(*(3 + sum(term for m, term in enumerate(terms) if s & 2**m) for s in sets))
    got = answer.modality_credit(scores, np.ones((1, len(terms)), bool))
    close(got, np.array([terms]), f"where the modalities add {terms}, the credit")


@points(1, CREDIT)
@teaches("Every order of arrival counts alike, so sets do not: among three, coming second is split over two sets.")
@given(examples=15, modalities=st.integers(1, 4), items=st.integers(1, 3), seed=SEEDS)
def test_every_order_counts_alike(answer: Answer, modalities: int, items: int, seed: int) -> None:
    scores, present = noise(seed, 2**modalities, items), np.ones((items, modalities), bool)
    got = array(answer.modality_credit(scores, present), (items, modalities), what="the credit")
    close(got.sum(axis=1), scores[-1] - scores[0], "the sum of all credits, an item each,")
    close(got, credit_of(scores, present), "the credit")


@points(1, CREDIT)
@teaches("A missing modality never arrives: its credit is NaN, and those that are there share among themselves.")
@given(examples=15, has=hnp.arrays(bool, (3, 3)), seed=SEEDS)
def test_the_missing_never_arrive(answer: Answer, has: np.ndarray, seed: int) -> None:
    has[0] = [True, False, True]
    scores = noise(seed, 8, 3)
    got = array(answer.modality_credit(scores, has), (3, 3), what="the credit")
    require(np.isnan(got[~has]).all(), "the credit of a modality that is missing should be NaN", got)
    finite(got[has], "the credit of modalities that are there")
    close(got, credit_of(scores, has), "the credit")


@points(1, CREDIT)
@teaches("Scores that do not fit the modalities or the items are refused with ValueError.")
def test_shapes_must_fit(answer: Answer) -> None:
    for shape, has in (((4, 2), (2, 3)), ((8, 2), (2, 2)), ((4, 3), (2, 2)), ((4, 1), (2, 2)), ((2, 4), (4, 2))):
        what = f"scores {shape} for {has[0]} items and {has[1]} modalities"
        refuses(answer.modality_credit, noise(1, *shape), np.ones(has, bool), what=what)
    scores, present = noise(1, 4, 2), np.ones((2, 2), bool)
    close(answer.modality_credit(scores, present), credit_of(scores, present), "where shapes fit, the credit")


@points(1, CREDIT)
@hidden
@teaches("Scores of sets that an item cannot show are never read, even as NaN. Who has nothing gets NaN throughout.")
@given(examples=10, has=hnp.arrays(bool, (3, 3)), bad=st.sampled_from([np.nan, np.inf]), kind=TYPES)
def test_impossible_sets_are_never_read(answer: Answer, has: np.ndarray, bad: float, kind: type) -> None:
    has[:2] = [[False, True, True], [False] * 3]
    scores = noise(5, 8, 3).astype(kind)
    sets = np.arange(8)[:, None, None] >> np.arange(3) & 1  # sets, 1, modalities
    scores[((sets == 1) & ~has).any(axis=2)] = bad
    got = answer.modality_credit(scores, has)
    unchanged(answer)
    array(got, (3, 3), np.float64, "the credit")
    close(got, credit_of(scores.astype(float), has), "the credit", like=scores)
    array(answer.modality_credit(scores[:, :0], has[:0]), (0, 3), what="for no items, the credit")
