"""Stage two: the next item as vector, code and words, by the definition; targets say only what is true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import (
    CLOSE,
    SHAPES,
    SIZES,
    VOCAB,
    assert_shares_add_up,
    descend,
    randn,
    random_catalogue,
    random_histories,
    tiny_config,
    tiny_model,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from m6rec_mini.catalog import EMPTY_HISTORY, History
from m6rec_mini.content import EOS, PAD
from m6rec_mini.generation import TrieTensors, beam_search, id_log_likelihood, write_words
from m6rec_mini.model import Batch, M6RecMini
from m6rec_mini.pretraining import (
    Catalogue,
    DecoderObjectives,
    TrainDecoder,
    branch_ends,
    finish,
)
from m6rec_mini.semantic_ids import Trie

ITEMS = 9
EVERYTHING = DecoderObjectives(next_item=1.0, codes=0.5, topics=0.3, reasons=0.2, branches=2)


def stage_two(goal: DecoderObjectives, unseen: tuple[int, ...] = (), num_items: int = ITEMS) -> TrainDecoder:
    """Nothing is hidden and nothing dropped, so training mode makes no noise."""
    model = tiny_model(num_items=num_items, config=tiny_config(hide_identity=0.0))
    kept = random_catalogue(model, ITEMS, unseen)
    kept = replace(kept, tokens=kept.tokens.clone())  # made without gradient, but a test may want one
    assert kept.ids is not None
    return TrainDecoder(model, kept, goal, TrieTensors.of(Trie.build(kept.ids.numpy(), SIZES)))


def vectors_of(stage: TrainDecoder) -> Tensor:
    kept = stage.catalogue
    return stage.model.item_vectors(kept.tokens, kept.present, kept.seen)


def each_event(histories: list[History]) -> list[tuple[History, int, int]]:
    """(what came before, its length, what came next) of every event."""
    return [
        (History(h.items[:n], h.actions[:n], h.times[:n]), n, int(h.items[n])) for h in histories for n in range(len(h))
    ]


@pytest.mark.parametrize("unseen", [(), (2, 5)])
def test_next_item_loss_agrees_with_the_definition(unseen: tuple[int, ...]) -> None:
    """Event by event, each history cut before it: -log softmax over the items of training."""
    stage = stage_two(DecoderObjectives(next_item=0.7), unseen)
    histories = random_histories([4, 1, 6], ITEMS)
    for history in histories:
        history.items[np.isin(history.items, unseen)] = 0  # in training, every event is on a seen item
    vectors, losses = vectors_of(stage), []
    for before, length, target in each_event(histories):
        state = stage.model.decoder(stage.model.embed(vectors, Batch.of([before])))[0, length]
        logits = (vectors @ state)[stage.catalogue.seen]
        losses.append(-logits.log_softmax(0)[int(stage.catalogue.seen[:target].sum())])
    torch.testing.assert_close(stage(Batch.of(histories), 0), 0.7 * torch.stack(losses).mean(), **CLOSE)


def test_the_order_of_histories_does_not_matter() -> None:
    stage, histories = stage_two(DecoderObjectives()), random_histories([4, 1, 6], ITEMS)
    torch.testing.assert_close(stage(Batch.of(histories[::-1]), 0), stage(Batch.of(histories), 0), **CLOSE)


def test_items_unseen_in_training_are_not_pushed_away() -> None:
    stage = stage_two(DecoderObjectives(), unseen=(2, 5))
    tokens = stage.catalogue.tokens.requires_grad_()
    batch = Batch.of(random_histories([4, 6], ITEMS))
    batch.items[(batch.items == 2) | (batch.items == 5)] = 0
    stage(batch, 0).backward()
    assert tokens.grad is not None
    moved = (tokens.grad != 0).any(2).any(1)
    assert torch.equal(moved, stage.catalogue.seen)
    identity = stage.model.identity.weight.grad
    assert identity is not None
    assert torch.equal((identity != 0).any(1), stage.catalogue.seen)


def test_nor_are_their_codes_if_the_trie_holds_the_seen_only() -> None:
    """With a trie of all items, the codes that only unseen ones have would be taught to be unlikely."""
    stage = stage_two(DecoderObjectives(next_item=0.0, codes=1.0))
    ids = torch.tensor([[n % 2, n // 2 % 2, n // 4 % 2] for n in range(8)] + [[3, 2, 1]])
    seen = torch.arange(ITEMS) < 8
    kept = replace(stage.catalogue, ids=ids, seen=seen)
    batch = Batch.of(random_histories([4, 6, 5], 8))
    for chosen, pushed in ((seen, False), (torch.ones(ITEMS, dtype=torch.bool), True)):
        trie = TrieTensors.of(Trie.build(ids[chosen].numpy(), SIZES))
        other = TrainDecoder(stage.model, kept, stage.objectives, trie)
        other.zero_grad()
        other(batch, 0).backward()
        slope = stage.model.decoder.code.weight.grad
        assert slope is not None
        assert (slope[3] != 0).any() == pushed


def only(**weights: float) -> DecoderObjectives:
    return DecoderObjectives(next_item=0.0, branches=3, **weights)  # type: ignore[arg-type]


def each_branch(histories: list[History], seed: int) -> list[tuple[History, int]]:
    """(what came before, what came next) of every branch."""
    ends = branch_ends(torch.tensor([len(h) for h in histories]), 3, seed)
    return [
        (History(h.items[:end], h.actions[:end], h.times[:end]), int(h.items[end]))
        for h, row in zip(histories, ends.tolist(), strict=True)
        for end in row
    ]


def test_code_loss_agrees_with_the_exact_likelihood() -> None:
    stage, histories = stage_two(only(codes=0.6)), random_histories([5, 2, 7], ITEMS)
    assert stage.trie is not None
    assert stage.catalogue.ids is not None
    vectors, losses = vectors_of(stage), []
    for before, target in each_branch(histories, 4):
        events = stage.model.embed(vectors, Batch.of([before]))
        losses.append(-id_log_likelihood(stage.model.decoder, events, stage.catalogue.ids[[target]], stage.trie)[0])
    torch.testing.assert_close(stage(Batch.of(histories), 4).detach(), 0.6 * torch.stack(losses).mean(), **CLOSE)


@pytest.mark.parametrize("is_reason", [False, True])
def test_word_losses_agree_with_the_definition(is_reason: bool) -> None:
    """Word by word after each branch's history, of which an item has up to two and then the end: divided by three."""
    stage = stage_two(only(reasons=0.6) if is_reason else only(topics=0.6))
    histories = random_histories([5, 2, 7], ITEMS)
    keywords, decoder = stage.catalogue.keywords, stage.model.decoder
    assert keywords is not None
    vectors, losses = vectors_of(stage), []
    for before, target in each_branch(histories, 4):
        known = set(keywords[before.items].flatten().tolist())
        words = [w for w in keywords[target].tolist() if w != PAD and (not is_reason or w in known)]
        events, loss = stage.model.embed(vectors, Batch.of([before])), torch.tensor(0.0)
        for n, word in enumerate([*words, EOS] if words else []):
            said = torch.tensor([words[:n]]).long()
            branch = decoder.embed_words(said, vectors[[target]] if is_reason else None)
            logits = decoder.word_logits(decoder(torch.cat([events, branch], dim=1))[0, -1])
            loss = loss - logits.log_softmax(0)[word]
        losses.append(loss / 3)
    assert any(loss > 0 for loss in losses)
    assert not is_reason or any(loss == 0 for loss in losses)
    torch.testing.assert_close(stage(Batch.of(histories), 4), 0.6 * torch.stack(losses).mean(), **CLOSE)


def test_stage_two_reaches_every_parameter_of_fusion_and_decoder() -> None:
    stage = stage_two(replace(EVERYTHING, branches=4)).train()
    stage(Batch.of(random_histories([10, 9, 8, 10], ITEMS)), 0).backward()
    parts = [*stage.model.fusion.named_parameters(), *stage.model.decoder.named_parameters()]
    quiet = [name for name, p in parts if p.grad is None or p.grad.abs().max() < 1e-7]
    assert [name for name in quiet if not name.endswith("attention.key.bias")] == []
    assert stage.model.identity.weight.grad is not None
    assert all(p.grad is None for p in stage.model.encoders.parameters())  # frozen: their tokens are given


@pytest.mark.parametrize("goal", [DecoderObjectives(), EVERYTHING])
def test_an_empty_history_has_no_next_item(goal: DecoderObjectives) -> None:
    histories = [*random_histories([3], ITEMS), EMPTY_HISTORY]
    with pytest.raises(ValueError, match="row 1 of the batch has no events"):
        stage_two(goal)(Batch.of(histories), 0)


# Targets


def test_finish_closes_gaps_and_writes_the_end() -> None:
    words = torch.tensor([[[7, 8], [PAD, 8]], [[7, PAD], [PAD, PAD]]])
    assert finish(words).tolist() == [[[7, 8, EOS], [8, EOS, PAD]], [[7, EOS, PAD], [PAD, PAD, PAD]]]


def with_keywords(*rows: list[int]) -> TrainDecoder:
    stage = stage_two(DecoderObjectives())
    words = torch.full((ITEMS, 3), PAD)
    words[: len(rows)] = torch.tensor(rows)
    stage.catalogue = replace(stage.catalogue, keywords=words)
    return stage


def past(*items: int) -> History:
    return History(*(np.array(column, np.int64) for column in (items, [0] * len(items), range(len(items)))))


JAZZ, LIVE, CHESS, NEW = 10, 11, 12, 13


def test_topic_and_reason_worked_by_hand() -> None:
    """Items: 0 live jazz, 1 chess, 2 new live jazz, 3 without words."""
    stage = with_keywords([JAZZ, LIVE, PAD], [CHESS, PAD, PAD], [NEW, JAZZ, LIVE], [PAD, PAD, PAD])
    batch = Batch.of([past(0, 2, 1, 3), past(1, 0)])
    ends = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1]])
    following = batch.items.gather(1, ends)
    assert stage.topic(following).tolist() == [
        [[JAZZ, LIVE, EOS, PAD], [NEW, JAZZ, LIVE, EOS], [CHESS, EOS, PAD, PAD], [PAD] * 4],
        [[CHESS, EOS, PAD, PAD], [CHESS, EOS, PAD, PAD], [JAZZ, LIVE, EOS, PAD], [JAZZ, LIVE, EOS, PAD]],
    ]
    assert stage.reason(batch, ends).tolist() == [
        # Nothing before the first; 2 shares jazz and live with 0, in the order of 2; nobody shared chess; no words.
        [[PAD] * 4, [JAZZ, LIVE, EOS, PAD], [PAD] * 4, [PAD] * 4],
        [[PAD] * 4] * 4,
    ]


@settings(max_examples=40)
@given(data=st.data())
def test_a_reason_holds_what_earlier_events_share_and_no_more(data: st.DataObject) -> None:
    words = data.draw(st.lists(st.permutations([10, 11, 12, 13, PAD, PAD, PAD]), min_size=4, max_size=4))
    rows = [sorted(w[:3], key=lambda x: x == PAD) for w in words]  # words first, as key_words gives them
    items = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=5))
    stage, batch = with_keywords(*rows), Batch.of([past(*items), past(0)])
    for end in range(len(items)):
        earlier = {word for item in items[:end] for word in rows[item]}
        shared = [word for word in rows[items[end]] if word in earlier and word != PAD]
        got = stage.reason(batch, torch.tensor([[end], [0]]))[0, 0].tolist()
        assert got == ([*shared, EOS] if shared else []) + [PAD] * (4 - len(shared) - bool(shared))


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_branches_end_before_the_last_event(lengths: list[int], seed: int) -> None:
    ends = branch_ends(torch.tensor(lengths), 8, seed)
    assert ends.shape == (len(lengths), 8)
    assert (ends >= 0).all()
    assert (ends < torch.tensor(lengths)[:, None]).all()
    assert torch.equal(ends, branch_ends(torch.tensor(lengths), 8, seed))


def test_branches_grow_anywhere_in_a_history() -> None:
    counts = branch_ends(torch.tensor([5]), 5000, 0).flatten().bincount(minlength=5)
    assert (counts > 850).all()


# Several processes, and all of it together


@pytest.mark.parametrize("goal", [DecoderObjectives(), EVERYTHING])
@pytest.mark.parametrize("of", [2, 3, 5])
def test_shares_of_stage_two_add_up(of: int, goal: DecoderObjectives) -> None:
    """With five processes and four histories, one has nothing to do."""
    stage = stage_two(goal).train()
    assert_shares_add_up(stage, Batch.of(random_histories([5, 1, 3, 4], ITEMS)), of)


def test_what_always_follows_is_learnt_in_every_reading() -> None:
    """Users go round items 0 to 5 in a ring. After 3 comes 4: as a vector, as an ID, and in words."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = M6RecMini(tiny_config(), SHAPES)
    ids, words = torch.tensor([[n % 4, n // 4, 0] for n in range(6)]), torch.tensor([[10 + n, PAD] for n in range(6)])
    tokens, here = randn(6, model.encoders.tokens, 8), torch.ones(6, model.encoders.tokens, dtype=torch.bool)
    kept = Catalogue(tokens, here, torch.ones(6, dtype=torch.bool), ids, words)
    trie = TrieTensors.of(Trie.build(ids.numpy(), SIZES))
    stage = TrainDecoder(model, kept, DecoderObjectives(codes=1.0, topics=3.0), trie)
    ring = Batch.of([past(*[(start + n) % 6 for n in range(8)]) for start in range(6)])
    before, after = descend(lambda seed: stage(ring, seed), model, 0.004, 140)
    assert after < 0.3 * before
    vectors, batch = vectors_of(stage.eval()), Batch.of([past(1, 2, 3), past(4, 5)])
    state, caches = model.decoder.prefill(model.embed(vectors, batch), batch.lengths)
    assert model.vector_logits(state, vectors).argmax(1).tolist() == [4, 0]
    assert beam_search(model.decoder, caches, trie, 3)[0][:, 0].tolist() == [4, 0]
    allowed = torch.ones(2, VOCAB, dtype=torch.bool)
    assert write_words(model.decoder, caches, EOS, allowed)[:, :2].tolist() == [[14, EOS], [10, EOS]]
