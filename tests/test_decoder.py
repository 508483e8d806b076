"""The decoder: the past only, the same with and without a cache, and branches that are alone."""

from __future__ import annotations

import pytest
import torch
from builders import CLOSE, DIM, SIZES, VOCAB, lively, rand_long, randn, tiny_decoder
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from m6rec_mini.decoder import GAPS, DecoderConfig, GenerativeDecoder, branch_mask, gap_buckets
from m6rec_mini.transformer import Caches

DECODER = tiny_decoder()


def random_events(batch: int, events: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    return (
        randn(batch, events, DIM, seed=seed),
        rand_long(3, batch, events, seed=seed),
        rand_long(GAPS, batch, events, seed=seed),
    )


def tokens(batch: int, events: int, seed: int = 0) -> Tensor:
    return DECODER.embed_events(*random_events(batch, events, seed))


def write_alone(states: Tensor, branch: Tensor) -> Tensor:
    """What is written after the states of one history, without a cache and without padding or siblings."""
    return DECODER.write(torch.cat([states, branch])[None])[0, len(states) :]


# Reading events


def test_gap_buckets_worked_by_hand() -> None:
    """Gaps 0, 2, 3, 15, an hour, 20 years: buckets are floor(log4(gap + 1)), the last but one at most."""
    times = torch.tensor([0, 0, 2, 5, 20, 3620, 3620 + 630_720_000])[None] + 1_600_000_000
    assert gap_buckets(times).tolist() == [[15, 0, 0, 1, 2, 5, 14]]


def test_time_that_runs_backwards_is_no_time_at_all() -> None:
    """Padding has time 0, after events of 2026."""
    assert gap_buckets(torch.tensor([[1_800_000_000, 0, 0]])).tolist() == [[GAPS - 1, 0, 0]]


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_no_events_have_no_gaps(rows: int) -> None:
    assert gap_buckets(torch.zeros(rows, 0, dtype=torch.long)).shape == (rows, 0)


@given(times=st.lists(st.integers(0, 2_000_000_000), min_size=1, max_size=6), shift=st.integers(0, 1_000_000_000))
def test_only_differences_of_time_count(times: list[int], shift: int) -> None:
    ordered = torch.tensor([sorted(times)])
    assert torch.equal(gap_buckets(ordered + shift), gap_buckets(ordered))


def test_an_empty_history_is_the_start_token() -> None:
    empty = DECODER.embed_events(*random_events(2, 0))
    torch.testing.assert_close(empty, (DECODER.start + DECODER.position.weight[0]).expand(2, 1, -1))


def test_an_event_is_its_item_action_gap_and_place() -> None:
    vectors, actions, gaps = random_events(1, 2)
    item = DECODER.project(DECODER.item_norm(vectors))[0, 1]
    expected = item + DECODER.action.weight[actions[0, 1]] + DECODER.gap.weight[gaps[0, 1]] + DECODER.position.weight[2]
    torch.testing.assert_close(DECODER.embed_events(vectors, actions, gaps)[0, 2], expected)


@pytest.mark.parametrize(("events", "seen"), [(11, 0), (5, 7)])
def test_a_history_that_is_too_long_is_refused(events: int, seen: int) -> None:
    assert DECODER.embed_events(*random_events(1, 10)).shape == (1, 11, DIM)
    with pytest.raises(ValueError, match=r"11 events; this decoder reads 10: take History\.last"):
        DECODER.embed_events(*random_events(1, events), seen=seen)


@settings(max_examples=40)
@given(changed=st.integers(0, 5), seed=st.integers(0, 100))
def test_changing_an_event_never_changes_earlier_states(changed: int, seed: int) -> None:
    vectors, actions, gaps = random_events(1, 6, seed)
    before = DECODER(DECODER.embed_events(vectors, actions, gaps))
    for part in (vectors, actions, gaps):
        part[:, changed] = (part[:, changed] + 1) % 3
    after = DECODER(DECODER.embed_events(vectors, actions, gaps))
    torch.testing.assert_close(after[:, : changed + 1], before[:, : changed + 1], **CLOSE)  # the start is token 0
    for later in range(changed + 1, 7):
        assert not torch.allclose(after[:, later], before[:, later], **CLOSE)


# The cache


@settings(max_examples=40)
@given(chunks=st.lists(st.integers(1, 3), min_size=1, max_size=4).filter(lambda c: sum(c) <= 10))
def test_reading_in_chunks_is_reading_at_once(chunks: list[int]) -> None:
    vectors, actions, gaps = random_events(2, sum(chunks))
    caches, start, states = Caches.empty(2, 2), 0, []
    for chunk in chunks:
        part = slice(start, start + chunk)
        x = DECODER.embed_events(vectors[:, part], actions[:, part], gaps[:, part], seen=start + 1 if start else 0)
        states.append(DECODER(x, caches=caches))
        start += chunk
    whole = DECODER(DECODER.embed_events(vectors, actions, gaps))
    torch.testing.assert_close(torch.cat(states, dim=1), whole, **CLOSE)


def test_reading_event_by_event_from_an_empty_history() -> None:
    vectors, actions, gaps = random_events(1, 6)
    caches = Caches.empty(2, 1)
    states = [DECODER(tokens(1, 0), caches=caches)[:, 0]]
    for n in range(6):
        x = DECODER.embed_events(vectors[:, [n]], actions[:, [n]], gaps[:, [n]], seen=n + 1)
        states.append(DECODER(x, caches=caches)[:, 0])
    torch.testing.assert_close(
        torch.stack(states, dim=1), DECODER(DECODER.embed_events(vectors, actions, gaps)), **CLOSE
    )


@settings(max_examples=30)
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), more=st.integers(1, 3))
def test_prefill_of_different_lengths_is_each_history_alone(lengths: list[int], more: int) -> None:
    """Rows are padded to the longest; neither the state after a row nor what is written next may feel it."""
    x = tokens(len(lengths), max(lengths))
    branch = randn(len(lengths), more, DIM, seed=1)
    state, caches = DECODER.prefill(x, torch.tensor(lengths))
    written = DECODER.write(branch, caches=caches)
    for row, length in enumerate(lengths):
        states = DECODER(x[row : row + 1, : length + 1])
        torch.testing.assert_close(state[row], states[0, length], **CLOSE)
        torch.testing.assert_close(written[row], write_alone(states[0], branch[row]), **CLOSE)


# Branches


def test_branch_mask_worked_by_hand() -> None:
    """Two events (and no start), branches of two tokens after event 0 and after event 1."""
    assert branch_mask(2, torch.tensor([[0, 1]]), 2).int().tolist() == [
        [
            [
                [1, 0, 0, 0, 0, 0],
                [1, 1, 0, 0, 0, 0],
                [1, 0, 1, 0, 0, 0],
                [1, 0, 1, 1, 0, 0],
                [1, 1, 0, 0, 1, 0],
                [1, 1, 0, 0, 1, 1],
            ]
        ]
    ]


@settings(max_examples=20)
@given(changed=st.integers(0, 6), seed=st.integers(0, 100))
def test_writing_looks_back_only(changed: int, seed: int) -> None:
    x = randn(1, 7, DIM, seed=seed)
    other = x.clone()
    other[:, changed] += 1 + randn(DIM, seed=seed + 1)
    before, after = DECODER.write(x), DECODER.write(other)
    torch.testing.assert_close(after[:, :changed], before[:, :changed], **CLOSE)
    assert not torch.allclose(after[:, changed:], before[:, changed:], **CLOSE)


def test_what_is_written_cannot_change_what_is_read() -> None:
    decoder, x = tiny_decoder(), tokens(1, 3)
    before = decoder(x)
    lively(decoder.writer, seed=1)
    lively(decoder.code, seed=1)
    assert torch.equal(decoder(x), before)


@settings(max_examples=30)
@given(ends=st.lists(st.integers(0, 5), min_size=1, max_size=3), length=st.integers(1, 3), seed=st.integers(0, 100))
def test_a_branch_is_the_history_up_to_it_and_then_itself(ends: list[int], length: int, seed: int) -> None:
    """However many siblings there are, whatever comes later: as if it were alone, with a cache or without."""
    x, branches = tokens(2, 5, seed), randn(2, len(ends), length, DIM, seed=seed + 1)
    grown = DECODER.grow(DECODER(x), torch.tensor([ends, ends[::-1]]), branches)
    for row, row_ends in enumerate([ends, ends[::-1]]):
        for n, end in enumerate(row_ends):
            read, branch = x[row : row + 1, : end + 1], branches[row, n]
            torch.testing.assert_close(grown[row, n], write_alone(DECODER(read)[0], branch), **CLOSE)
            _, caches = DECODER.prefill(read, torch.tensor([end]))
            cached = [DECODER.write(branch[None, [step]], caches=caches)[0, 0] for step in range(length)]
            torch.testing.assert_close(grown[row, n], torch.stack(cached), **CLOSE)


@pytest.mark.parametrize("kind", ["codes", "topic", "reason"])
def test_what_training_grows_is_what_generation_writes(kind: str) -> None:
    """Token for token: the same embeddings, the same states, with `grow` and one by one with a cache."""
    x, about = tokens(1, 4), randn(1, DIM, seed=3)
    written = rand_long(min(SIZES), 1, 2, seed=4) if kind == "codes" else rand_long(VOCAB, 1, 2, seed=4)

    def embed(part: Tensor) -> Tensor:
        if kind == "codes":
            return DECODER.embed_codes(part)
        return DECODER.embed_words(part, about if kind == "reason" else None)

    grown = DECODER.grow(DECODER(x), torch.tensor([[3]]), embed(written)[:, None])
    _, caches = DECODER.prefill(x[:, :4], torch.tensor([3]))
    first = embed(written[:, :0])  # one token; two for a reason, whose first is the item
    states = [DECODER.write(first, caches=caches)]
    states += [DECODER.write(embed(written[:, :n])[:, -1:], caches=caches) for n in (1, 2)]
    torch.testing.assert_close(grown[:, 0], torch.cat(states, dim=1), **CLOSE)


# Codes and words


def test_codes_of_different_levels_are_different_tokens() -> None:
    """Level 0 has rows 0-3 of the table, level 1 rows 4-6, level 2 rows 7-8; row 9 says: now write codes."""
    x = DECODER.embed_codes(torch.tensor([[2, 2, 1]]))
    torch.testing.assert_close(x, DECODER.code.weight[[9, 2, 6, 8]][None] + DECODER.level.weight[:4])
    assert torch.equal(DECODER.embed_codes(torch.zeros(1, 0, dtype=torch.long)), x[:, :1])


def test_code_logits_compare_with_the_codes_of_one_level() -> None:
    state = randn(2, 5, DIM)
    for level, (start, end) in enumerate([(0, 4), (4, 7), (7, 9)]):
        torch.testing.assert_close(DECODER.code_logits(state, level), state @ DECODER.code.weight[start:end].T)


def test_words_start_with_what_is_to_be_written() -> None:
    words, about = torch.tensor([[5, 6]]), randn(1, DIM)
    topic, reason = DECODER.embed_words(words), DECODER.embed_words(words, about)
    torch.testing.assert_close(topic, DECODER.word.weight[[VOCAB, 5, 6]][None] + DECODER.level.weight[:3])
    torch.testing.assert_close(reason[:, 1:], DECODER.word.weight[[VOCAB + 1, 5, 6]][None] + DECODER.level.weight[1:4])
    torch.testing.assert_close(reason[:, 0], DECODER.project(DECODER.item_norm(about)) + DECODER.level.weight[0])


def test_word_logits_leave_out_the_signs_that_start_a_branch() -> None:
    assert DECODER.word_logits(randn(2, 3, DIM)).shape == (2, 3, VOCAB)


def test_gradients_reach_every_parameter() -> None:
    decoder = lively(GenerativeDecoder(DecoderConfig(DIM, 1, 1, 2, 0.0, 10, SIZES, VOCAB, 2)), scale=0.3).train()
    x = decoder.embed_events(*random_events(3, 10))
    codes, topic = decoder.embed_codes(rand_long(2, 3, 3)), decoder.embed_words(rand_long(VOCAB, 3, 3))
    reason = decoder.embed_words(rand_long(VOCAB, 3, 2), randn(3, DIM))
    states = decoder(x)
    branches = decoder.grow(states, torch.tensor([[10, 9, 0]] * 3), torch.stack([codes, topic, reason], dim=1))
    loss = (states * randn(*states.shape)).sum() + decoder.word_logits(branches).square().sum()
    loss = loss + sum(decoder.code_logits(branches[:, 0], level).square().sum() for level in range(3))
    loss.backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("attention.key.bias"):
            assert parameter.grad.abs().max() > 1e-5, name


def test_dropout_works_in_training_only() -> None:
    decoder = GenerativeDecoder(DecoderConfig(DIM, 1, 1, 2, 0.5, 10, SIZES, VOCAB, 2)).eval()
    events = random_events(1, 3)
    assert torch.equal(decoder.embed_events(*events), decoder.embed_events(*events))
    decoder.train()
    assert not torch.equal(decoder.embed_events(*events), decoder.embed_events(*events))
