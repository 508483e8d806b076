"""Generation: the beam approximates one exact definition, and nothing outside the trie is ever written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import pytest
import torch
from builders import CLOSE, DIM, SIZES, VOCAB, rand_long, randn, random_ids, tiny_decoder
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from m6rec_mini.decoder import GAPS, GenerativeDecoder
from m6rec_mini.generation import TrieTensors, beam_search, code_log_likelihood, id_log_likelihood, write_words
from m6rec_mini.semantic_ids import Trie
from m6rec_mini.transformer import Caches

END = 3
seeds = st.integers(0, 1000)


def trie_of(ids: Tensor, sizes: tuple[int, ...] = SIZES) -> TrieTensors:
    return TrieTensors.of(Trie.build(ids.numpy(), sizes))


def history(decoder: GenerativeDecoder, events: int = 4, batch: int = 1, seed: int = 0) -> Tensor:
    vectors = randn(batch, events, DIM, seed=seed)
    actions, gaps = rand_long(3, batch, events, seed=seed), rand_long(GAPS, batch, events, seed=seed)
    return decoder.embed_events(vectors, actions, gaps)


def prefilled(decoder: GenerativeDecoder, events: Tensor) -> Caches:
    return decoder.prefill(events, torch.full((len(events),), events.shape[1] - 1))[1]


def write_after(decoder: GenerativeDecoder, events: Tensor, branch: Tensor) -> Tensor:
    """The last state of a branch."""
    return decoder.write(torch.cat([decoder(events), branch], dim=1))[0, -1]


# Codes


def test_probabilities_are_shared_among_the_allowed_codes() -> None:
    trie = trie_of(torch.tensor([[0, 2], [0, 0], [1, 1]]), (2, 3))
    logits = torch.tensor([[0.0, 5.0, math.log(3)], [0.0, 5.0, 0.0]])
    got = trie.log_probs(logits, torch.tensor([0, 1]), level=1).exp()
    torch.testing.assert_close(got, torch.tensor([[0.25, 0.0, 0.75], [0.0, 1.0, 0.0]]))


def naive_log_likelihood(decoder: GenerativeDecoder, events: Tensor, ids: Tensor) -> Tensor:
    """By the definition, item by item, with no trie and no cache: softmax over the codes that some ID goes on with."""
    scores = []
    for item in ids.tolist():
        total = 0.0
        for level in range(len(item)):
            branch = decoder.embed_codes(torch.tensor([item[:level]]).long())
            logits = decoder.code_logits(write_after(decoder, events, branch), level)
            open_codes = sorted({other[level] for other in ids.tolist() if other[:level] == item[:level]})
            total += float(logits.detach()[open_codes].log_softmax(0)[open_codes.index(item[level])])
        scores.append(total)
    return torch.tensor(scores)


@settings(max_examples=15)
@given(seed=seeds, items=st.integers(1, 24), events=st.integers(0, 4))
def test_likelihood_agrees_with_the_definition(seed: int, items: int, events: int) -> None:
    decoder, ids = tiny_decoder(seed), random_ids(items, seed=seed)
    x = history(decoder, events, seed=seed)
    got = id_log_likelihood(decoder, decoder(x), ids, trie_of(ids), batch=7)
    torch.testing.assert_close(got, naive_log_likelihood(decoder, x, ids), **CLOSE)


@settings(max_examples=25)
@given(seed=seeds, items=st.integers(1, 24), events=st.integers(0, 4))
def test_a_beam_as_wide_as_the_catalogue_is_exact(seed: int, items: int, events: int) -> None:
    decoder, ids = tiny_decoder(seed), random_ids(items, seed=seed)
    trie, x = trie_of(ids), history(decoder, events, seed=seed)
    exact = id_log_likelihood(decoder, decoder(x), ids, trie)
    torch.testing.assert_close(exact.exp().sum(), torch.tensor(1.0))
    found, scores = beam_search(decoder, prefilled(decoder, x), trie, width=items)
    assert sorted(found[0].tolist()) == list(range(items))
    torch.testing.assert_close(scores[0], exact[found[0]], **CLOSE)
    torch.testing.assert_close(scores[0], exact.sort(descending=True).values, **CLOSE)


@settings(max_examples=25)
@given(seed=seeds, items=st.integers(1, 24), width=st.integers(1, 30))
def test_a_beam_never_claims_too_much(seed: int, items: int, width: int) -> None:
    """What it finds are different items with their true scores, best first; none can beat the true list."""
    decoder, ids = tiny_decoder(seed), random_ids(items, seed=seed)
    trie, x = trie_of(ids), history(decoder, seed=seed)
    exact = id_log_likelihood(decoder, decoder(x), ids, trie)
    found, scores = beam_search(decoder, prefilled(decoder, x), trie, width)
    assert found.shape == scores.shape == (1, min(width, items))
    assert found[0].unique().numel() == min(width, items)
    torch.testing.assert_close(scores[0], exact[found[0]], **CLOSE)
    assert (scores[0].diff() <= 0).all()
    assert (scores[0] <= exact.sort(descending=True).values[: len(scores[0])] + 1e-5).all()


def best_by_width(sizes: tuple[int, ...], seed: int, widths: Iterable[int]) -> list[float]:
    decoder, ids = tiny_decoder(seed, sizes=sizes), random_ids(math.prod(sizes), sizes, seed)
    trie, caches = trie_of(ids, sizes), prefilled(decoder, history(decoder, seed=seed))
    return [float(beam_search(decoder, caches, trie, width)[1][0, 0]) for width in widths]


@settings(max_examples=20)
@given(seed=seeds)
def test_with_two_levels_a_wider_beam_is_never_worse(seed: int) -> None:
    """The first codes of a narrow beam are among those of a wider one, so all it sees is seen again."""
    best = best_by_width((5, 5), seed, range(1, 6))
    assert all(after >= before - 1e-5 for before, after in pairwise(best))


@torch.no_grad()
def with_fixed_odds(sizes: tuple[int, ...], *odds: list[float]) -> GenerativeDecoder:
    """A decoder whose codes have the same odds whatever came before: every state is (1, 0, 0 ...)."""
    decoder = tiny_decoder(sizes=sizes)
    decoder.norm_written.weight.zero_()
    decoder.norm_written.bias.copy_(torch.eye(DIM)[0])
    decoder.code.weight[:-1, 0] = torch.tensor([odd for level in odds for odd in level]).log()
    return decoder


# Odds 5 : 4 for the first code. After 0 there are three ways to go on, each with one end; after 1
# there are two, each with four ends. Within a level all other odds are even.
FORKED = torch.tensor([[0, n, 0] for n in range(3)] + [[1, n, m] for n in range(2) for m in range(4)])


@pytest.mark.parametrize(
    ("width", "best"),
    [
        (1, 5 / 9 * 1 / 3),  # begins with 0 and stays there
        (2, 4 / 9 * 1 / 2 * 1 / 4),  # 4/18 twice beats 5/27: both places go to code 1, which then splits in four
        (3, 5 / 9 * 1 / 3),
        (11, 5 / 9 * 1 / 3),
    ],
)
def test_with_three_levels_a_wider_beam_can_be_worse(width: int, best: float) -> None:
    decoder = with_fixed_odds((2, 3, 4), [5.0, 4.0], [1.0] * 3, [1.0] * 4)
    found, scores = beam_search(decoder, prefilled(decoder, history(decoder)), trie_of(FORKED, (2, 3, 4)), width)
    assert float(scores[0, 0].exp()) == pytest.approx(best, rel=1e-5)
    assert (found[0, 0] < 3) == (width != 2)


def test_a_beam_worked_by_hand() -> None:
    """p = 3/4 · 1/5, 3/4 · 4/5 and 1/4: only code 1 can follow code 1, so its odds of 4 count for nothing there."""
    decoder, ids = with_fixed_odds((2, 2), [3.0, 1.0], [1.0, 4.0]), torch.tensor([[0, 0], [0, 1], [1, 1]])
    x = history(decoder)
    found, scores = beam_search(decoder, prefilled(decoder, x), trie_of(ids, (2, 2)), width=3)
    assert found.tolist() == [[1, 2, 0]]
    torch.testing.assert_close(scores.exp(), torch.tensor([[0.6, 0.25, 0.15]]))
    torch.testing.assert_close(
        id_log_likelihood(decoder, decoder(x), ids, trie_of(ids, (2, 2))).exp(), torch.tensor([0.15, 0.6, 0.25])
    )


@settings(max_examples=15)
@given(seed=seeds)
def test_a_beam_wide_enough_for_all_beginnings_finds_the_true_best(seed: int) -> None:
    """4 x 3 beginnings before the last code: from width 12 on nothing that matters is ever dropped."""
    decoder, ids = tiny_decoder(seed), random_ids(24, seed=seed)
    trie, x = trie_of(ids), history(decoder, seed=seed)
    _, scores = beam_search(decoder, prefilled(decoder, x), trie, width=12)
    best = id_log_likelihood(decoder, decoder(x), ids, trie).sort(descending=True)
    torch.testing.assert_close(scores[0], best.values[:12], **CLOSE)


@pytest.mark.parametrize("width", [1, 3, 24])
def test_histories_side_by_side_are_histories_alone(width: int) -> None:
    decoder, ids = tiny_decoder(), random_ids(20)
    trie, x = trie_of(ids), history(decoder, 5, batch=3)
    lengths = torch.tensor([5, 0, 2])
    found, scores = beam_search(decoder, decoder.prefill(x, lengths)[1], trie, width)
    for row, length in enumerate(lengths.tolist()):
        alone = beam_search(decoder, prefilled(decoder, x[row : row + 1, : length + 1]), trie, width)
        assert torch.equal(found[row], alone[0][0])
        torch.testing.assert_close(scores[row], alone[1][0], **CLOSE)


def test_an_id_that_nobody_has_is_impossible() -> None:
    ids = torch.tensor([[0, 2, 1], [0, 0, 0], [1, 1, 1]])
    wrong = torch.tensor([[0, 2, 0], [0, 1, 1], [3, 0, 0]])
    got = code_log_likelihood(tiny_decoder(), randn(3, 3, DIM), wrong, trie_of(ids))
    assert got.tolist() == [-torch.inf] * 3


# Words


def written(decoder: GenerativeDecoder, x: Tensor, allowed: Tensor, about: Tensor | None = None) -> list[list[int]]:
    return write_words(decoder, prefilled(decoder, x), END, allowed, about).tolist()


def some_words(rows: int, rate: float, seed: int) -> Tensor:
    return torch.rand(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) < rate


@settings(max_examples=40)
@given(seed=seeds, rate=st.sampled_from([0.0, 0.05, 0.3, 1.0]), is_reason=st.booleans())
def test_words_are_allowed_ones_none_twice_and_then_the_end(seed: int, rate: float, is_reason: bool) -> None:
    decoder = tiny_decoder(seed, words=5)
    allowed = some_words(3, rate, seed)
    before = allowed.clone()
    lines = written(decoder, history(decoder, batch=3, seed=seed), allowed, randn(3, DIM) if is_reason else None)
    assert torch.equal(allowed, before)
    for line, may in zip(lines, allowed, strict=True):
        said = line[: line.index(END)] if END in line else line
        assert len(line) == 5
        assert line[len(said) :] == [END] * (5 - len(said))  # nothing after the end
        assert len(set(said)) == len(said)
        assert all(may[word] for word in said)
        may[END] = False
        assert bool(said) == bool(may.any())  # at least one word where there is one


@settings(max_examples=20)
@given(seed=seeds, is_reason=st.booleans())
def test_words_are_the_likeliest_by_the_uncached_pass(seed: int, is_reason: bool) -> None:
    decoder = tiny_decoder(seed, words=4)
    x, allowed = history(decoder, seed=seed), some_words(1, 0.6, seed)
    about = randn(1, DIM, seed=seed) if is_reason else None
    allowed[:, [7, END]] = torch.tensor([True, False])
    said: list[int] = []
    while len(said) < 4 and END not in said:
        branch = decoder.embed_words(torch.tensor([said]).long(), about)
        logits = decoder.word_logits(write_after(decoder, x, branch))
        open_words = [word for word in range(VOCAB) if allowed[0, word] and word not in said] + [END] * bool(said)
        said.append(max(open_words, key=lambda word: float(logits.detach()[word])))
    assert written(decoder, x, allowed, about) == [said + [END] * (4 - len(said))]


def test_writing_leaves_the_caches_as_they_were() -> None:
    decoder, ids = tiny_decoder(), random_ids(20)
    caches, allowed = prefilled(decoder, history(decoder)), some_words(1, 0.5, 0)
    first = write_words(decoder, caches, END, allowed), *beam_search(decoder, caches, trie_of(ids), 5)
    again = write_words(decoder, caches, END, allowed), *beam_search(decoder, caches, trie_of(ids), 5)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert caches.visible.shape == (1, 5)


def test_a_reason_is_about_its_item() -> None:
    decoder, allowed = tiny_decoder(seed=3, words=4), torch.ones(1, VOCAB, dtype=torch.bool)
    x = history(decoder)
    lines = {tuple(written(decoder, x, allowed, randn(1, DIM, seed=seed))[0]) for seed in range(5)}
    assert len(lines) > 1
