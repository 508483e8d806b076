"""Grader of chapter 4: byte-pair encoding, rotary positions, masks, pooling, BERT's corruption.

The oracles are written in another form than one would answer: merging by regular expressions over text with
spaces, rotation by complex numbers, masks and pools token by token. Corruption is judged by its statistics.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from m6rec_mini.course.answers import Answer
from m6rec_mini.course.expect import Broken, array, close, finite, numpy_of, plain, refuses, require, unchanged
from m6rec_mini.course.grader import Law, Question, given, hidden, points, teaches
from m6rec_mini.course.show import kind as kind_of

Pair = tuple[str, str]
Texts = tuple[np.ndarray, np.ndarray]  # states, real

SIGMAS = 5.0  # a right answer, in whatever order it draws, is further off once in two million checks
SEEDS, TYPES = st.integers(0, 30), st.sampled_from([np.dtype("float64"), np.dtype("float32")])
IGNORE = -100


def noise(seed: int, *shape: int, dtype: np.dtype | type = np.float64) -> np.ndarray:
    """The same normal numbers each time, short enough to read."""
    return np.random.default_rng(seed).normal(size=shape).round(1).astype(dtype)


# ---- oracles of byte-pair encoding --------------------------------------------------------------


def glued(text: str, pair: Pair) -> str:
    """Text whose tokens stand between spaces, with this pair joined from left to right."""
    return re.sub(rf"(?<!\S){re.escape(pair[0])} {re.escape(pair[1])}(?!\S)", lambda _: "".join(pair), text)


def pairs_in(text: str) -> list[Pair]:
    """Neighbouring tokens of such a text."""
    tokens = text.split(" ")
    return [(left, right) for left, right in pairwise(tokens) if left and right]


def merges_of(word_counts: dict[str, int], merges: int) -> list[Pair]:
    """What there is to learn."""
    texts, learnt = {" ".join(word): 0 for word in word_counts}, []
    for word, count in word_counts.items():
        texts[" ".join(word)] += count
    for _ in range(merges):
        everywhere: dict[Pair, int] = {}
        for text, count in texts.items():
            for pair in pairs_in(text):
                everywhere[pair] = everywhere.get(pair, 0) + count
        often = max(everywhere.values(), default=0)
        if often <= 1:
            break
        learnt.append(sorted(pair for pair, count in everywhere.items() if count == often)[0])
        texts = {glued(text, learnt[-1]): count for text, count in texts.items()}
    return learnt


def tokens_of(word: str, merges: Sequence[Pair]) -> list[str]:
    """How the merges cut a word."""
    text = " ".join(word)
    while found := [pair for pair in merges if pair in pairs_in(text)]:
        text = glued(text, found[0])
    return [token for token in text.split(" ") if token]


def strings(value: Any, what: str = "the result") -> list[str]:
    """A list of strings."""
    if not isinstance(value, list | tuple) or not all(isinstance(token, str) for token in value):
        raise Broken(f"{what} should be a list of strings; it is {kind_of(value)}", repr(value)[:200])
    return list(value)


def learnt_by(answer: Answer, word_counts: dict[str, int], merges: int) -> list[Pair]:
    """The learner's list, as pairs."""
    got = answer.learn_merges(word_counts, merges)
    if not isinstance(got, list | tuple) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in got):
        raise Broken(f"the result should be a list of pairs of strings; it is {kind_of(got)}", repr(got)[:200])
    return [(left, right) for left, right in map(strings, got)]


def same_merges(got: list[Pair], want: list[Pair]) -> None:
    """The same pairs in the same order, or where they part."""
    for step, (mine, right) in enumerate(zip(got, want, strict=False), start=1):
        require(mine == right, f"merge number {step} is {mine}; expected {right}", got, want)
    require(len(got) == len(want), f"{len(got)} merges were learnt; expected {len(want)}", got, want)


# ---- 1. learn_merges ----------------------------------------------------------------------------

DONE_ELSEWHERE = ("tokenizers", "sentencepiece", "transformers", "tiktoken", "subword_nmt")
WORDS = st.text("abc", min_size=1, max_size=6)
TABLES = st.dictionaries(WORDS, st.integers(1, 4), min_size=1, max_size=5)

LEARN = Question(
    "learn_merges",
    "Learn the merges of byte-pair encoding",
    section="bpe",
    hints=(
        "Work the example on paper: keep each word as a list of tokens, and recount after every merge.",
        "Three parts: count the pairs, weighted by how often the word occurs; take the best, where a tie goes to "
        "the smaller pair; join it in every word. A joined token must not be joined again in the same pass.",
        "Smallest by the key (minus the count, the pair). To join, walk through a word by index: if this token and the "
        "next are the pair, put their sum out and go on by two, else put the token out and go on by one. Stop when the "
        "best count is below 2.",
    ),
    forbidden=DONE_ELSEWHERE,
)


@points(1, LEARN)
@teaches("The most frequent pair is joined, then all is counted anew: a joined pair is a token that can be joined.")
def test_four_words_by_hand(answer: Answer) -> None:
    # es and st 9 each; then es+t 9; then lo and ow 7 each; then lo+w 7
    table = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
    same_merges(learnt_by(answer, table, 4), [("e", "s"), ("es", "t"), ("l", "o"), ("lo", "w")])


@points(1, LEARN)
@teaches("A word counts as often as it occurs: a pair in one frequent word beats a pair in many rare ones.")
@given(examples=12, often=st.integers(4, 9), rest=st.lists(st.sampled_from("fgh"), min_size=2, max_size=3, unique=True))
def test_words_count_as_often_as_they_occur(answer: Answer, often: int, rest: list[str]) -> None:
    table = {f"ab{letter}": 1 for letter in rest} | {"xy": often}
    same_merges(learnt_by(answer, table, 2), [("x", "y"), ("a", "b")])


@points(1, LEARN)
@teaches("Among equally frequent pairs the smallest wins, whatever order the words come in. Else no two runs agree.")
@given(examples=15, words=st.permutations(["zb", "ba", "by", "az", "az", "c"]), times=st.integers(2, 3))
def test_ties_go_to_the_smallest(answer: Answer, words: list[str], times: int) -> None:
    table = dict.fromkeys(words, times)
    same_merges(learnt_by(answer, table, 4), [("a", "z"), ("b", "a"), ("b", "y"), ("z", "b")])
    same_merges(learnt_by(answer, table, 1), [("a", "z")])


@points(1, LEARN)
@teaches("Repeats: every place counts, even if places overlap, but a pass joins from left to right without overlap.")
@given(examples=12, length=st.integers(3, 9), rival=st.integers(1, 8))
def test_repeated_letters(answer: Answer, length: int, rival: int) -> None:
    table = {"b" * length: 1, "ac": rival}
    same_merges(learnt_by(answer, table, 5), merges_of(table, 5))


@points(1, LEARN)
@teaches("A pair that occurs once is no pattern: stop there, or after as many merges as were asked for.")
def test_when_to_stop(answer: Answer) -> None:
    same_merges(learnt_by(answer, {"abc": 2, "xy": 1}, 9), [("a", "b"), ("ab", "c")])
    same_merges(learnt_by(answer, {"abc": 2, "xy": 1}, 1), [("a", "b")])
    for table, merges in (({"abc": 2}, 0), ({}, 3), ({"a": 9, "b": 9}, 3), ({"abc": 1, "xbz": 1}, 3)):
        same_merges(learnt_by(answer, table, merges), [])
    refuses(answer.learn_merges, {"abc": 2}, -1, what="a negative number of merges")


@points(1, LEARN)
@teaches("No pair crosses from one word to the next, and what was joined in one word is joined in all of them.")
@given(examples=40, table=TABLES, merges=st.integers(1, 6))
def test_small_vocabularies(answer: Answer, table: dict[str, int], merges: int) -> None:
    got = learnt_by(answer, table, merges)
    unchanged(answer)
    same_merges(got, merges_of(table, merges))


@points(1, LEARN)
@hidden
@teaches("Longer words, many merges, any script.")
@given(examples=8, seed=SEEDS)
def test_longer_words_in_any_script(answer: Answer, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = ["推荐", "音", "ab", "aa", "é", "x", "ba"]
    table = {"".join(rng.choice(parts, rng.integers(1, 6))): int(rng.integers(1, 5)) for _ in range(12)}
    got = learnt_by(answer, table, 15)
    unchanged(answer)
    same_merges(got, merges_of(table, 15))


# ---- 2. encode ----------------------------------------------------------------------------------

ENCODE = Question(
    "encode",
    "Apply the merges",
    section="bpe",
    hints=(
        "The list of merges is a list of priorities, not a dictionary of words to be matched.",
        "Look at all neighbouring pairs of the word at once and ask which of them was learnt first. Join that one, and "
        "ask again.",
        "Give each pair its place in the list. While there are two tokens or more: take the smallest place among the "
        "neighbours; if none has one, stop; replace these two tokens by their sum.",
    ),
    forbidden=DONE_ELSEWHERE,
)


def same_tokens(answer: Answer, word: str, merges: list[Pair], want: list[str]) -> None:
    """The learner's tokens are those."""
    got = strings(answer.encode(word, merges))
    require(got == want, f"{word!r} was cut into {got}; expected {want}")


@points(1, ENCODE)
@teaches("A new word is built up from its characters by the pairs that were learnt, as far as they carry.")
def test_a_new_word_by_hand(answer: Answer) -> None:
    merges = [("e", "s"), ("es", "t"), ("l", "o"), ("lo", "w")]
    same_tokens(answer, "lowest", merges, ["low", "est"])
    same_tokens(answer, "slower", merges, ["s", "low", "e", "r"])


@points(1, ENCODE)
@teaches("The pair that was learnt first goes first, wherever it stands. Reading from the left is another tokenizer.")
@given(examples=12, order=st.permutations([("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")]))
def test_the_earliest_learnt_goes_first(answer: Answer, order: list[Pair]) -> None:
    for word in ("abc", "abcd", "dabcda"):
        same_tokens(answer, word, order, tokens_of(word, order))


@points(1, ENCODE)
@teaches("After each join look from the top of the list again: an early pair may only now have become possible.")
@given(examples=6, letters=st.permutations("abcd"), tail=st.sampled_from(["", "z"]))
def test_from_the_top_again(answer: Answer, letters: Sequence[str], tail: str) -> None:
    a, b, c, d = letters
    merges = [(b, c), (a + b + c, d), (d, "z"), (a, b + c)]
    same_tokens(answer, a + b + c + d, merges, [a + b + c + d])
    same_tokens(answer, d + b + c + tail, merges, [d, b + c, *tail])
    merges = [(b, c), (a + b + c, d), (a, b + c)]
    same_tokens(answer, a + b + c + d + tail, merges, [a + b + c + d, *tail])


@points(1, ENCODE)
@teaches("Nothing is lost and nothing is invented: unknown characters stay, and no merges leave single characters.")
def test_unknown_and_empty(answer: Answer) -> None:
    merges = [("a", "b")]
    same_tokens(answer, "x?é推", merges, ["x", "?", "é", "推"])
    same_tokens(answer, "cab", merges, ["c", "ab"])
    same_tokens(answer, "ab", [], ["a", "b"])
    same_tokens(answer, "a", merges, ["a"])
    same_tokens(answer, "", merges, [])


@points(1, ENCODE)
@teaches("Words of the training texts come out as training left them, and repeats are joined from the left.")
@given(examples=25, table=TABLES, word=WORDS)
def test_learnt_lists(answer: Answer, table: dict[str, int], word: str) -> None:
    merges = merges_of(table, 6)
    for each in [*list(table)[:2], word]:
        same_tokens(answer, each, merges, tokens_of(each, merges))


@points(1, ENCODE)
@hidden
@teaches("Repeats of one letter are joined from the left; arguments are left alone.")
@given(examples=8, length=st.integers(2, 9), start=st.sampled_from(["", "b"]))
def test_repeats_from_the_left(answer: Answer, length: int, start: str) -> None:
    word, merges = start + "a" * length, [("a", "a"), ("b", "aa"), ("aa", "aa")]
    same_tokens(answer, word, merges, tokens_of(word, merges))
    unchanged(answer)


# ---- 3. rotary ----------------------------------------------------------------------------------


def turned(x: np.ndarray, positions: np.ndarray, base: float) -> np.ndarray:
    """Rotation by complex numbers: a plane is a number, a turn is a product."""
    wide, dim = x.astype(np.float64), x.shape[-1]
    out = np.zeros(x.shape)
    for i in range(dim // 2):
        angle = np.asarray(positions, np.float64) / math.pow(base, 2 * i / dim)
        number = (wide[..., 2 * i] + 1j * wide[..., 2 * i + 1]) * np.exp(1j * angle)
        out[..., 2 * i], out[..., 2 * i + 1] = number.real, number.imag
    return out


ROTARY = Question(
    "rotary",
    "Rotary positions",
    section="positions",
    hints=(
        "Write down the turn of one point in a plane. Then: which numbers of a vector make a plane, and how fast does "
        "each plane turn?",
        "All planes turn at once: an array of speeds (dim / 2), an array of angles (tokens, dim / 2), its cosines and "
        "sines. The coordinates are every second number from 0 and every second from 1.",
        "speeds = base to the power of -(0, 2, 4, …) / dim. angles = positions with one more axis, times speeds. New "
        "even numbers: even · cos - odd · sin. New odd ones: even · sin + odd · cos. Interleave them: stack on a new "
        "last axis, reshape to x's shape. Cast cos and sin to x's type, not the angles.",
    ),
    forbidden=("torch", "transformers"),
)


@points(1, ROTARY)
@teaches("Each pair of numbers is a point that turns counter-clockwise: (1, 0) becomes (cos, sin). Pairs are 2i, 2i+1.")
def test_turns_by_hand(answer: Answer) -> None:
    x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    want = np.array([[0.0, 1.0], [-1.0, 0.0], [-2.0, 0.0]])
    close(answer.rotary(x, np.array([0.5, 1, 0.5]) * np.pi, 10_000.0), want, "by quarter and half turns, the result")
    # dim 4, base 100: speeds 1 and 100 ** (-2 / 4) = 1 / 10
    want = np.array([[-1, 0, math.cos(math.pi / 10), math.sin(math.pi / 10)]])
    close(answer.rotary(np.array([[1.0, 0, 1, 0]]), np.array([np.pi]), 100.0), want, "with two planes, the result")


@points(1, ROTARY)
@teaches("Position 0 changes nothing, and no position changes a length: a turn is not a sum.")
@given(examples=12, seed=SEEDS, tokens=st.integers(1, 4), dim=st.sampled_from([2, 4, 6]))
def test_lengths_are_kept(answer: Answer, seed: int, tokens: int, dim: int) -> None:
    x, positions = 1 + noise(seed, tokens + 1, dim), np.arange(tokens + 1)
    got = close(answer.rotary(x, positions, 50.0)[:1], x[:1], "at position 0, the result")
    got = array(answer.rotary(x, positions, 50.0), x.shape)
    close((got**2).sum(-1), (x**2).sum(-1), "the squared length of the result")
    close(got, turned(x, positions, 50.0), "the result")


@points(1, ROTARY)
@teaches("The dot product of a turned query and a turned key depends on the distance of their positions only.")
@given(examples=15, seed=SEEDS, distance=st.integers(1, 20), shift=st.sampled_from([-7, 3, 100, 0.5]))
def test_dot_products_know_distances_only(answer: Answer, seed: int, distance: int, shift: float) -> None:
    query, key = 1 + noise(seed, 1, 6), 1 + noise(seed + 50, 1, 6)
    dots = []
    for at in (0.0, shift):
        turned_query = answer.rotary(query, np.array([at + distance]), 100.0)
        dots.append(array(turned_query, (1, 6)) @ array(answer.rotary(key, np.array([at]), 100.0), (1, 6)).T)
    close(dots[1], dots[0], f"query · key at distance {distance}, both moved by {shift}, ")
    close(dots[0], turned(query, np.array([distance]), 100.0) @ key.T, f"query · key at distance {distance}")


@points(1, ROTARY)
@teaches("Planes turn at falling speeds, base ** (-2i / dim): the first tells neighbours apart, the last far places.")
@given(examples=12, dim=st.sampled_from([2, 4, 6, 8]), base=st.sampled_from([10.0, 100.0, 1e4]), at=st.integers(1, 40))
def test_speeds_of_the_planes(answer: Answer, dim: int, base: float, at: int) -> None:
    x = np.tile([1.0, 0.0], (1, dim // 2))
    close(answer.rotary(x, np.array([at]), base), turned(x, np.array([at]), base), "the result")
    if base == 1e4:
        close(answer.rotary(x, np.array([at])), turned(x, np.array([at]), base), "with the base left out, the result")


@points(1, ROTARY)
@teaches("Any axes may stand in front (batch, heads). Positions broadcast to them: one for all texts, or one row each.")
@given(examples=12, seed=SEEDS, shape=st.sampled_from([(), (1,), (3,), (2, 3), (2, 1, 3)]), own=st.booleans())
def test_axes_in_front(answer: Answer, seed: int, shape: tuple[int, ...], own: bool) -> None:
    x = 1 + noise(seed, *shape, 4)
    positions = np.arange(math.prod(shape)).reshape(shape) if own else np.arange(1, 1 + (shape or (1,))[-1])
    positions = positions if shape else np.array(3)
    got = array(answer.rotary(x, positions, 20.0), x.shape)
    unchanged(answer)
    close(got, turned(x, positions, 20.0), "the result")


@points(1, ROTARY)
@teaches("float32 stays float32, but its angles are computed in float64: far positions have no digits to lose.")
@given(examples=8, far=st.sampled_from([1, 1_000, 100_003, 3_000_001]), as_float=st.booleans())
def test_far_positions_in_float32(answer: Answer, far: int, as_float: bool) -> None:
    x = 1 + noise(3, 4, 6, dtype=np.float32)
    positions = far + np.arange(4)
    positions = positions.astype(np.float64) if as_float else positions
    got = array(answer.rotary(x, positions, 10_000.0), (4, 6), x.dtype)
    close(got, turned(x, positions, 10_000.0), f"near position {far}, the result", like=x)


@points(0.5, ROTARY)
@teaches("An odd width leaves a number without a partner: ValueError.")
def test_odd_widths_are_refused(answer: Answer) -> None:
    for dim in (1, 3, 5):
        refuses(answer.rotary, np.ones((2, dim)), np.arange(2), 100.0, what=f"dim {dim}")
    x = 1 + noise(9, 2, 4)
    close(answer.rotary(x, np.arange(2), 100.0), turned(x, np.arange(2), 100.0), "with dim 4, the result")


@points(0.5, ROTARY)
@hidden
@teaches("No tokens give no rows; negative positions turn the other way.")
@given(examples=4, kind=TYPES)
def test_special_cases_of_rotary(answer: Answer, kind: np.dtype) -> None:
    x = 1 + noise(5, 3, 4, dtype=kind)
    got = array(answer.rotary(x, np.array([-2, 0, -9]), 30.0), (3, 4), kind)
    unchanged(answer)
    close(got, turned(x, np.array([-2, 0, -9]), 30.0), "at negative positions, the result", like=x)
    array(answer.rotary(x[:0], np.arange(0), 30.0), (0, 4), kind, "for no tokens, the result")


# ---- 4. attention_mask --------------------------------------------------------------------------


def mask_of(kind: str, lengths: Sequence[int], prefixes: Sequence[int] | None = None) -> np.ndarray:
    """The mask, token by token."""
    width = max(lengths, default=0)
    out = np.zeros((len(lengths), width, width), bool)
    for text, length in enumerate(lengths):
        for query in range(width):
            for key in range(width):
                if query >= length or key >= length:
                    out[text, query, key] = query == key
                elif kind == "causal":
                    out[text, query, key] = key <= query
                elif kind == "unilm" and prefixes is not None:
                    out[text, query, key] = key < prefixes[text] or key <= query
                else:
                    out[text, query, key] = True
    return out


def mask_by(
    answer: Answer, kind: str, lengths: Sequence[int], prefixes: Sequence[int] | None = None, what: str = ""
) -> np.ndarray:
    """The learner's mask, after comparing it with the right one."""
    want = mask_of(kind, lengths, prefixes)
    arguments = [np.array(lengths, np.int64)] + ([] if prefixes is None else [np.array(prefixes, np.int64)])
    value = answer.attention_mask(kind, *arguments)
    got = array(value, want.shape, what="the mask")
    require(got.dtype == bool or not got.size, f"the mask should be boolean; it holds {got.dtype}", value)
    for text, query, key in np.argwhere(got.astype(bool) != want)[:1].tolist():
        may = "looks" if got[text, query, key] else "does not look"
        should = "should" if want[text, query, key] else "should not"
        place = f"in text {text} of length {lengths[text]}"
        place += f" and prefix {prefixes[text]}" if prefixes is not None else ""
        raise Broken(f"{what}token {query} {may} at token {key} {place}; it {should}", repr(plain(got.astype(int))))
    return got


def draw_mask(answer: Answer, law: Law) -> str:
    """Two texts side by side, the learner's mask above the right one: filled where a row may look at a column."""
    kind = next((name for name in ("bidirectional", "causal") if name in law.name), "unilm")
    lengths, prefixes, side = [5, 3], [3, 1], 22
    arguments = (kind, np.array(lengths), np.array(prefixes))
    rows = (("yours", numpy_of(answer.attention_mask(*arguments))), ("right", mask_of(kind, lengths, prefixes)))
    parts = []
    for line, (title, mask) in enumerate(rows):
        top = line * 150
        parts.append(f'<text x="0" y="{top + 14}" font-weight="bold">{title}, {kind}</text>')
        for text, (i, j) in ((text, place) for text in range(2) for place in np.ndindex(*mask.shape[1:])):
            x, y = text * 150 + j * side, top + 22 + i * side
            wrong = mask.shape == rows[1][1].shape and bool(mask[text, i, j]) != rows[1][1][text, i, j]
            colour = "#0072b2" if mask[text, i, j] else "#ffffff"
            edge = 'stroke="#d55e00" stroke-width="3"' if wrong else 'stroke="#767f89"'
            parts.append(
                f'<rect x="{x + 2}" y="{y + 2}" width="{side - 4}" height="{side - 4}" fill="{colour}" {edge}/>'
            )
    note = '<text x="0" y="316">lengths 5 and 3, prefixes 3 and 1; rows look at columns; framed: wrong</text>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="420" height="322" font-family="sans-serif" font-size="11" '
        f'role="img" aria-label="your mask above the right one">{"".join(parts)}{note}</svg>'
    )


MASK = Question(
    "attention_mask",
    "Three masks",
    section="masks",
    hints=(
        "Draw the square of one text of four tokens, once for each kind. Then draw it for a text with padding.",
        "Compare two aranges: the place of the row, the place of the column. One text has two numbers of its own, its "
        "length and its prefix; give them axes so that they broadcast.",
        "A column may be seen if it lies in the prefix, or not after the row. Take the whole length as prefix for "
        "bidirectional, 0 for causal. Then row and column must both be real. At last let everybody see itself.",
    ),
    draw=draw_mask,
)
LENGTHS = st.lists(st.integers(0, 5), min_size=1, max_size=3)


@st.composite
def prefixed(draw: Callable) -> tuple[list[int], list[int]]:
    """Lengths and prefixes that fit; the first text is long and has a real choice."""
    lengths = [draw(st.integers(3, 5)), *draw(st.lists(st.integers(0, 5), max_size=2))]
    return lengths, [draw(st.integers(1, lengths[0] - 1)), *(draw(st.integers(0, n)) for n in lengths[1:])]


@points(1, MASK)
@teaches("UniLM: the prefix is read in both directions, the rest from left to right. Rows look, columns are looked at.")
def test_two_texts_by_hand(answer: Answer) -> None:
    got = mask_by(answer, "unilm", [3, 2], [2, 1])
    want = [[[1, 1, 0], [1, 1, 0], [1, 1, 1]], [[1, 0, 0], [1, 1, 0], [0, 0, 1]]]
    close(got.astype(int), np.array(want), "the mask")


@points(1, MASK)
@teaches("BERT: every real token looks at every real token, before and after it, and at no padding.")
@given(examples=12, lengths=LENGTHS)
def test_bidirectional(answer: Answer, lengths: list[int]) -> None:
    mask_by(answer, "bidirectional", [4, 2, *lengths])


@points(1, MASK)
@teaches("GPT: a token looks at itself and at what came before. One glance ahead, and the loss is a copy.")
@given(examples=12, lengths=LENGTHS)
def test_causal(answer: Answer, lengths: list[int]) -> None:
    mask_by(answer, "causal", [4, 2, *lengths])


@points(1, MASK)
@teaches("UniLM: nobody in the prefix may look beyond it, and each text has a prefix of its own.")
@given(examples=25, case=prefixed())
def test_unilm(answer: Answer, case: tuple[list[int], list[int]]) -> None:
    mask_by(answer, "unilm", *case)


@points(1, MASK)
@teaches("The two others are its ends: with no prefix it is causal, with the whole text as prefix bidirectional.")
@given(examples=8, lengths=LENGTHS)
def test_ends_of_unilm(answer: Answer, lengths: list[int]) -> None:
    lengths = [4, *lengths]
    mask_by(answer, "unilm", lengths, [0] * len(lengths), "without a prefix, ")
    mask_by(answer, "unilm", lengths, lengths, "with the whole text as prefix, ")
    mask_by(answer, "causal", lengths, [2, *lengths[1:]], "causal, with prefixes to be ignored, ")


@points(1, MASK)
@teaches("A padding token looks at itself only: real tokens must not feel it, and a softmax over nothing is NaN.")
@given(examples=10, short=st.integers(0, 2), kind=st.sampled_from(["bidirectional", "causal", "unilm"]))
def test_padding_sees_itself(answer: Answer, short: int, kind: str) -> None:
    got = mask_by(answer, kind, [4, short], [2, short // 2] if kind == "unilm" else None)
    close(got[1, short:].astype(int), np.eye(4, dtype=int)[short:], "the rows of padding")


@points(0.5, MASK)
@teaches("What makes no sense is refused with ValueError: another kind, a prefix longer than its text, none at all.")
def test_masks_that_make_no_sense(answer: Answer) -> None:
    lengths = np.array([3, 2])
    refuses(answer.attention_mask, "prefix", lengths, lengths, what="the kind 'prefix'")
    refuses(answer.attention_mask, "unilm", lengths, what="unilm without prefixes")
    for prefixes in ([1, 3], [-1, 1], [4, 0]):
        refuses(answer.attention_mask, "unilm", lengths, np.array(prefixes), what=f"prefixes {prefixes} of [3, 2]")
    for kind in ("causal", "bidirectional"):
        refuses(answer.attention_mask, kind, np.array([3, -1]), what=f"lengths [3, -1], {kind},")
    mask_by(answer, "unilm", [3, 2], [3, 0])


@points(0.5, MASK)
@hidden
@teaches("No texts, one text, texts without tokens, many texts at once; arguments are left alone.")
def test_special_cases_of_masks(answer: Answer) -> None:
    mask_by(answer, "unilm", [6, 0, 1, 5, 2], [5, 0, 1, 2, 1])
    unchanged(answer)
    for lengths in ([], [1], [0], [0, 0], [0, 3]):
        for kind in ("causal", "bidirectional", "unilm"):
            mask_by(answer, kind, lengths, lengths if kind == "unilm" else None)


# ---- 5. pool ------------------------------------------------------------------------------------

WAYS = ("mean", "max", "last")


def pooled(states: np.ndarray, real: np.ndarray, how: str) -> np.ndarray:
    """Pooling text by text, from the real rows and no others."""
    out = np.zeros((len(states), states.shape[2]))
    for text, (rows, there) in enumerate(zip(states.astype(np.float64), real.tolist(), strict=True)):
        kept = [row for row, yes in zip(rows, there, strict=True) if yes]
        if kept:
            columns = list(zip(*kept, strict=True))
            by_how = {"mean": lambda c: math.fsum(c) / len(c), "max": lambda c: sorted(c)[-1], "last": lambda c: c[-1]}
            out[text] = [by_how[how](column) for column in columns]
    return out


POOL = Question(
    "pool",
    "One vector from many states",
    section="pooling",
    hints=(
        "For each way ask: what would the padding do to it? Then ask what is left of a text that is all padding.",
        "Padding must be neutral: 0 in a sum, minus infinity in a maximum. Select it away with np.where; multiplying "
        "by 0 leaves NaN. Divide by the number of real tokens. The last real place need not be the number of them.",
        "mean: where(real, states, 0), sum, over max(count, 1). max: where(real, states, -inf), maximum with a first "
        "value, then 0 where the count is 0. last: the largest place times real; take that row, or zeros if there is "
        "none. Keep the type: no float64 in between.",
    ),
    forbidden=("torch",),
)


@st.composite
def texts(draw: Callable) -> Texts:
    """Negative states (mostly), and loud padding anywhere; each text has a real token."""
    count, tokens = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    states = noise(draw(SEEDS), count, tokens, 2) - 3
    real = draw(hnp.arrays(bool, (count, tokens)))
    real[np.arange(count), [draw(st.integers(0, tokens - 1)) for _ in range(count)]] = True
    return np.where(real[..., None], states, 50.0), real


@points(1, POOL)
@teaches("Mean, maximum and last state of a text, over its real tokens: padding counts for nothing.")
def test_two_tokens_and_padding_by_hand(answer: Answer) -> None:
    states, real = np.array([[[-1.0, 4], [-3, 2], [9, 9]]]), np.array([[True, True, False]])
    for how, want in (("mean", [[-2, 3]]), ("max", [[-1, 4]]), ("last", [[-3, 2]])):
        close(answer.pool(states, real, how), np.array(want, float), f"the {how}")


@points(1, POOL)
@teaches("A mean divides by the number of real tokens, not by the width: else it depends on the batch's longest text.")
@given(examples=20, case=texts())
def test_mean_of_the_real(answer: Answer, case: Texts) -> None:
    close(answer.pool(*case, "mean"), pooled(*case, "mean"), "the mean")


@points(1, POOL)
@teaches("A maximum must not see padding, nor the zeros put in its place: they beat all negative numbers.")
@given(examples=20, case=texts())
def test_max_of_the_real(answer: Answer, case: Texts) -> None:
    close(answer.pool(*case, "max"), pooled(*case, "max"), "the maximum")


@points(1, POOL)
@teaches("The last real token is the last place that is real, wherever the padding stands: right, left, between.")
@given(examples=20, case=texts())
def test_last_of_the_real(answer: Answer, case: Texts) -> None:
    close(answer.pool(*case, "last"), pooled(*case, "last"), "the last state")


@points(1, POOL)
@teaches("A text without any real token has nothing to say: zeros. Not NaN, not minus infinity, not its padding.")
@given(examples=12, case=texts(), how=st.sampled_from(WAYS))
def test_empty_texts_are_zeros(answer: Answer, case: Texts, how: str) -> None:
    states, real = (np.concatenate([part, part[:1]]) for part in case)
    real[-1] = False
    got = answer.pool(states, real, how)
    finite(got, f"the {how}")
    close(got, pooled(states, real, how), f"with an empty text in the last row, the {how}")


@points(1, POOL)
@hidden
@teaches("Whatever padding holds, NaN and infinity included, must not reach the result; float32 stays float32.")
@given(examples=15, case=texts(), how=st.sampled_from(WAYS), bad=st.sampled_from([np.nan, np.inf, -np.inf]), kind=TYPES)
def test_padding_is_never_read(answer: Answer, case: Texts, how: str, bad: float, kind: np.dtype) -> None:
    states, real = case
    states = np.where(real[..., None], states, bad).astype(kind)
    got = answer.pool(states, real, how)
    unchanged(answer)
    array(got, (len(states), 2), kind, f"the {how}")
    close(got, pooled(states, real, how), f"with {bad} in the padding, the {how}", like=states)


@points(0.5, POOL)
@teaches("A way of pooling that nobody defined is refused with ValueError, not guessed.")
def test_other_ways_are_refused(answer: Answer) -> None:
    states, real = noise(1, 2, 3, 2), np.ones((2, 3), bool)
    for how in ("first", "sum", "MEAN", ""):
        refuses(answer.pool, states, real, how, what=f"how = {how!r}")
    close(answer.pool(states, real, "last"), pooled(states, real, "last"), "the last state")


@points(0.5, POOL)
@hidden
@teaches("No texts give no rows, no tokens give zeros.")
@given(examples=4, kind=TYPES)
def test_special_cases_of_pooling(answer: Answer, kind: np.dtype) -> None:
    states, real = noise(2, 2, 3, 4, dtype=kind), np.array([[True, False, True], [False, True, False]])
    for how in WAYS:
        close(answer.pool(states, real, how), pooled(states, real, how), f"the {how}", like=states)
        array(answer.pool(states[:0], real[:0], how), (0, 4), kind, f"for no texts, the {how}")
        got = array(answer.pool(states[:, :0], real[:, :0], how), (2, 4), kind, f"for no tokens, the {how}")
        close(got, np.zeros((2, 4)), f"for no tokens, the {how}")


# ---- 6. corrupt ---------------------------------------------------------------------------------

CORRUPT = Question(
    "corrupt",
    "Hide words the way BERT does",
    section="cloze",
    hints=(
        "Three decisions, each with a draw of its own: is this word chosen, what becomes of it, and by which word.",
        "Draw whole arrays and select. A number that was below the rate cannot also decide between 80, 10 and 10: it "
        "is small already. Draw replacements from the ids that are words, not from the whole vocabulary.",
        "words = ids without special and mask_id. chosen = is a word, and random < rate. kind = another random array: "
        "below 0.8 the mask, below 0.9 a word drawn from words for each place, else as it is. The labels are tokens "
        "where chosen, all three kinds, and -100 elsewhere.",
    ),
    forbidden=("transformers", "torch", "numpy.random.rand", "numpy.random.random", "numpy.random.seed"),
)
VOCAB, SPECIAL, HIDE = 24, [0, 2, 3], 1  # the mask is not listed among the special ones
ORDINARY = np.arange(4, VOCAB)


def batch(seed: int, rows: int = 400, columns: int = 50) -> np.ndarray:
    """Texts of uneven length: start, words, end, padding."""
    rng = np.random.default_rng(seed)
    tokens = rng.choice(ORDINARY, (rows, columns))
    tokens[:, 0] = 2
    for row, length in zip(tokens, rng.integers(columns // 2, columns, rows), strict=True):
        row[length], row[length + 1 :] = 3, 0
    return tokens


def corrupted(
    answer: Answer, tokens: np.ndarray, rate: float, seed: int, special: Sequence[int] = SPECIAL, hide: int = HIDE
) -> tuple[np.ndarray, np.ndarray]:
    """The learner's two arrays, after a look at their form."""
    value = answer.corrupt(tokens, VOCAB, list(special), hide, rate, np.random.default_rng(seed))
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise Broken(f"the result should be a pair, (read, labels); it is {kind_of(value)}")
    found = []
    for name, part in zip(("read", "labels"), value, strict=True):
        got = array(part, tokens.shape, what=name)
        require(got.dtype.kind in "iu" or not got.size, f"{name} should hold integers; it holds {got.dtype}", part)
        found.append(got.astype(np.int64))
    return found[0], found[1]


def expect_share(count: float, trials: int, share: float, what: str) -> None:
    """A count is within five standard deviations of what it should be."""
    spread = math.sqrt(max(trials * share * (1 - share), 1e-9))
    far = abs(count - trials * share) / spread
    text = f"{what}: {count:.0f} of {trials}, which is {count / max(trials, 1):.1%}; expected about {share:.1%}"
    require(far < SIGMAS, text)


@points(1, CORRUPT)
@teaches("Rate 1 asks for every word and for no special token; rate 0 asks for nothing and changes nothing.")
def test_all_or_nothing(answer: Answer) -> None:
    tokens = np.array([[2, 7, 9, 3, 0]])
    for seed in range(8):
        read, labels = corrupted(answer, tokens, 1.0, seed, [0, 1, 2, 3])
        close(labels, np.array([[IGNORE, 7, 9, IGNORE, IGNORE]]), "at rate 1, labels")
        close(read[:, [0, 3, 4]], tokens[:, [0, 3, 4]], "what is read at the special tokens")
        read, labels = corrupted(answer, tokens, 0.0, seed, [0, 1, 2, 3])
        close(labels, np.full((1, 5), IGNORE), "at rate 0, labels")
        close(read, tokens, "at rate 0, what is read")


@points(1, CORRUPT)
@teaches("Where nothing is asked, the text is read as it is and the label is -100. Special tokens are never asked.")
@given(examples=8, seed=SEEDS, rate=st.sampled_from([0.15, 0.5, 0.9]))
def test_what_is_not_chosen_stays(answer: Answer, seed: int, rate: float) -> None:
    tokens = batch(seed, 30, 20)
    tokens[:, 4] = HIDE  # masks that are there already are no words
    read, labels = corrupted(answer, tokens, rate, seed)
    word = np.isin(tokens, ORDINARY)
    require((labels[~word] == IGNORE).all(), "a special token, a mask or padding is asked for; only words may be")
    require((read[~word] == tokens[~word]).all(), "a special token, a mask or padding was replaced")
    asked = labels != IGNORE
    require(asked.any(), "at this rate some words must be asked for; none is")
    require((read[~asked] == tokens[~asked]).all(), "a word was changed that is not asked for: its label is -100")
    require((labels[asked] == tokens[asked]).all(), "a label should be the original word; one of them is not")
    require((read[asked] != tokens[asked]).any(), "nothing was hidden: the model would read all the answers")


@points(1, CORRUPT)
@teaches("The rate is a share of the words, each chosen on its own. Padding does not count.")
@given(examples=4, seed=SEEDS, rate=st.sampled_from([0.05, 0.15, 0.5, 0.8]))
def test_share_that_is_asked(answer: Answer, seed: int, rate: float) -> None:
    tokens = batch(seed)
    asked = corrupted(answer, tokens, rate, seed)[1] != IGNORE
    word = np.isin(tokens, ORDINARY)
    expect_share((asked & word).sum(), int(word.sum()), rate, f"words asked at rate {rate}")
    # Independent choices spread: the squared residuals of 400 rows, over their variance, have mean 1, sd < 0.1.
    counts = word.sum(1)
    spread = (((asked & word).sum(1) - counts * rate) ** 2 / (counts * rate * (1 - rate))).mean()
    text = f"the number of words asked differs between texts {spread:.2f} times as much as independent choices do"
    require(abs(spread - 1) < 0.6, text)


@points(1, CORRUPT)
@teaches("Of the asked words 80% are hidden, 10% exchanged, 10% left as they are, and all of them are asked.")
@given(examples=4, seed=SEEDS, rate=st.sampled_from([0.15, 0.5, 1.0]))
def test_eighty_ten_ten(answer: Answer, seed: int, rate: float) -> None:
    tokens = batch(seed)
    read, labels = corrupted(answer, tokens, rate, seed)
    asked = labels != IGNORE
    trials, lucky = int(asked.sum()), 0.1 / len(ORDINARY)  # an exchange may draw the same word
    require(trials > 0, "nothing is asked")
    expect_share((read == HIDE)[asked].sum(), trials, 0.8, "asked words that are hidden")
    expect_share((read == tokens)[asked].sum(), trials, 0.1 + lucky, "asked words that stay")
    expect_share(((read != tokens) & (read != HIDE))[asked].sum(), trials, 0.1 - lucky, "asked words exchanged")


@points(1, CORRUPT)
@teaches("The other word is drawn anew for each place, every word alike. Never padding, a special token or the mask.")
@given(examples=4, seed=SEEDS)
def test_other_words(answer: Answer, seed: int) -> None:
    tokens = np.full((400, 60), 4)
    tokens[:, ::2] = 5
    read, _ = corrupted(answer, tokens, 1.0, seed)
    exchanged = (read != tokens) & (read != HIDE)
    drawn = read[exchanged]
    require(np.isin(drawn, ORDINARY).all(), "a word was exchanged for what is no word, such as padding", drawn)
    for word in ORDINARY:
        trials = int(exchanged[tokens != word].sum())  # a word that draws itself is not seen
        expect_share((drawn == word).sum(), trials, 1 / (len(ORDINARY) - 1), f"exchanges for word {word}")
    right = (exchanged[:, 1:] & exchanged[:, :-1]).nonzero()
    pairs = len(right[0])
    expect_share(
        (read[:, 1:] == read[:, :-1])[right].sum(), pairs, 18 / 19**2, "neighbours exchanged for the same word"
    )


@points(1, CORRUPT)
@teaches("All chance comes from `rng`: the same state gives the same result, another state another.")
@given(examples=3, seed=SEEDS)
def test_chance_comes_from_rng(answer: Answer, seed: int) -> None:
    tokens = batch(seed, 40, 30)
    first, again, other = (np.stack(corrupted(answer, tokens, 0.5, each)) for each in (seed, seed, seed + 1))
    unchanged(answer)
    require((first == again).all(), "two generators of the same state gave different results")
    require((first != other).any(), "generators of different states gave the same result: is `rng` used?")
    differ = (first[1] != other[1]).mean() / np.isin(tokens, ORDINARY).mean()
    require(0.3 < differ < 0.7, f"between two states {differ:.0%} of the choices differ; about half should")


@points(0.5, CORRUPT)
@teaches("A probability lies from 0 to 1; anything else is refused with ValueError.")
def test_rates_that_are_none(answer: Answer) -> None:
    tokens = batch(1, 3, 8)
    for rate in (-0.01, 1.01, 15.0, math.nan):
        refuses(answer.corrupt, tokens, VOCAB, SPECIAL, HIDE, rate, np.random.default_rng(0), what=f"the rate {rate:g}")
    close(corrupted(answer, tokens, 0.0, 0)[0], tokens, "at rate 0, what is read")
    labels = corrupted(answer, tokens, 1.0, 0)[1]
    close(labels, np.where(np.isin(tokens, ORDINARY), tokens, IGNORE), "at rate 1, labels")


@points(1, CORRUPT)
@hidden
@teaches("Neither place nor word decides who is chosen and what becomes of it. Any shape, any mask id, no tokens.")
@given(examples=3, seed=SEEDS)
def test_neither_place_nor_word_decides(answer: Answer, seed: int) -> None:
    tokens = np.random.default_rng(seed).choice(ORDINARY, (300, 40))
    read, labels = corrupted(answer, tokens, 0.5, seed)
    parts = {"the first half": np.arange(40) < 20, "the last column": np.arange(40) == 39, "low ids": tokens < 14}
    parts |= {"the first texts": np.arange(300)[:, None] < 100, "even columns": np.arange(40) % 2 == 0}
    for name, part in parts.items():
        asked = (labels != IGNORE) & part
        expect_share(asked.sum(), int(np.broadcast_to(part, tokens.shape).sum()), 0.5, f"asked in {name}")
        expect_share((read == HIDE)[asked].sum(), int(asked.sum()), 0.8, f"hidden in {name}")
        still = (read == tokens)[asked].sum()
        expect_share(still, int(asked.sum()), 0.1 + 0.1 / len(ORDINARY), f"kept in {name}")
    flat = np.arange(VOCAB)  # the mask in the midst of the ids, one axis
    read, labels = corrupted(answer, flat, 1.0, seed, [5, 9], 12)
    close(labels, np.where(np.isin(flat, [5, 9, 12]), IGNORE, flat), "with other special ids, labels")
    require(not np.isin(read[read != flat], [5, 9]).any(), "a word was exchanged for a special one")
    for empty in corrupted(answer, tokens[:0], 0.5, seed):
        array(empty, (0, 40), what="for no texts, each array")
