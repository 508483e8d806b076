"""Stages two and three: the next item, then codes and words, by the definition; targets say only what is true."""

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
from torch import Tensor, nn

from m6rec_mini.catalog import EMPTY_HISTORY, History
from m6rec_mini.content import EOS, PAD
from m6rec_mini.generation import TrieTensors, beam_search, id_log_likelihood, write_words
from m6rec_mini.model import Batch, M6RecMini
from m6rec_mini.pretraining import Catalogue, TrainDecoder, TrainWriting, WritingConfig, branch_ends, finish
from m6rec_mini.semantic_ids import Trie

ITEMS = 9
EVERYTHING = WritingConfig(codes=0.5, topics=0.3, reasons=0.2, branches=3)


def reading(unseen: tuple[int, ...] = ()) -> TrainDecoder:
    """Nothing is hidden and nothing dropped, so training mode makes no noise."""
    model = tiny_model(num_items=ITEMS, config=tiny_config(hide_identity=0.0))
    kept = random_catalogue(model, ITEMS, unseen)
    return TrainDecoder(model, replace(kept, tokens=kept.tokens.clone()))  # a test may want gradients there


def writing(config: WritingConfig = EVERYTHING) -> TrainWriting:
    stage = reading()
    assert stage.catalogue.ids is not None
    trie = TrieTensors.of(Trie.build(stage.catalogue.ids.numpy(), SIZES))
    return TrainWriting(stage.model, stage.catalogue, config, trie)


def vectors_of(stage: TrainDecoder | TrainWriting) -> Tensor:
    kept = stage.catalogue
    return stage.model.item_vectors(kept.tokens, kept.present, kept.seen)


def cut(history: History, end: int) -> History:
    """What came before event `end`."""
    return History(history.items[:end], history.actions[:end], history.times[:end])


# Reading


@pytest.mark.parametrize("unseen", [(), (2, 5)])
def test_next_item_loss_agrees_with_the_definition(unseen: tuple[int, ...]) -> None:
    """Event by event, each history cut before it: -log softmax over the items of training."""
    stage, histories = reading(unseen), random_histories([4, 1, 6], ITEMS)
    for history in histories:
        history.items[np.isin(history.items, unseen)] = 0  # in training, every event is on a seen item
    vectors, losses = vectors_of(stage), []
    for history in histories:
        for end, target in enumerate(history.items.tolist()):
            state = stage.model.decoder(stage.model.embed(vectors, Batch.of([cut(history, end)])))[0, end]
            logits = stage.model.vector_logits(state, vectors)[stage.catalogue.seen]
            losses.append(-logits.log_softmax(0)[int(stage.catalogue.seen[:target].sum())])
    torch.testing.assert_close(stage(Batch.of(histories), 0), torch.stack(losses).mean(), **CLOSE)


def test_neither_order_nor_empty_histories_matter() -> None:
    stage, histories = reading(), random_histories([4, 1, 6], ITEMS)
    expected = stage(Batch.of(histories), 0)
    torch.testing.assert_close(stage(Batch.of([*histories[::-1], EMPTY_HISTORY]), 0), expected, **CLOSE)


def test_items_unseen_in_training_are_not_pushed_away() -> None:
    stage = reading(unseen=(2, 5))
    tokens = stage.catalogue.tokens.requires_grad_()
    batch = Batch.of(random_histories([4, 6], ITEMS))
    batch.items[(batch.items == 2) | (batch.items == 5)] = 0
    stage(batch, 0).backward()
    assert tokens.grad is not None
    assert torch.equal((tokens.grad != 0).any(2).any(1), stage.catalogue.seen)
    identity = stage.model.identity.weight.grad
    assert identity is not None
    assert torch.equal((identity != 0).any(1), stage.catalogue.seen)


def without_gradient(module: nn.Module) -> set[str]:
    quiet = {name for name, p in module.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-7}
    return {name for name in quiet if not name.endswith("attention.key.bias")}  # which no softmax ever sees


WRITES = ("code.", "word.", "level.", "writer.", "norm_written.")


def test_reading_reaches_all_that_reads() -> None:
    stage = reading().train()
    stage(Batch.of(random_histories([10, 11, 11, 11], ITEMS)), 0).backward()
    assert without_gradient(stage.model.fusion) == set()
    assert stage.model.identity.weight.grad is not None
    assert {name for name in without_gradient(stage.model.decoder) if not name.startswith(WRITES)} == set()
    assert all(p.grad is None for p in stage.model.encoders.parameters())  # frozen: their tokens are given


# Writing


def test_writing_reaches_all_that_writes() -> None:
    stage = writing().train()
    stage(Batch.of(random_histories([10, 9, 8, 10], ITEMS)), 0).backward()
    assert {name for name in without_gradient(stage.model.decoder) if name.startswith(WRITES)} == set()
    reads = ("blocks.", "norm.", "position.", "action.", "gap.", "start")
    assert all(p.grad is None for name, p in stage.model.decoder.named_parameters() if name.startswith(reads))
    assert all(p.grad is None for p in stage.model.fusion.parameters())


def test_in_training_only_what_writes_is_noisy() -> None:
    model = tiny_model(num_items=ITEMS, config=tiny_config(dropout=0.5))
    kept = random_catalogue(model, ITEMS)
    assert kept.ids is not None
    stage = TrainWriting(model, kept, EVERYTHING, TrieTensors.of(Trie.build(kept.ids.numpy(), SIZES)))
    batch = Batch.of(random_histories([4, 6], ITEMS))
    x = model.embed(stage.vectors, batch)
    still = stage.eval()(batch, 0)
    assert torch.equal(stage(batch, 0), still)
    stage.train()
    assert torch.equal(model.decoder(model.embed(stage.vectors, batch)), model.decoder(x))
    assert not torch.equal(stage(batch, 0), still)
    assert torch.equal(stage.eval()(batch, 0), still)


def test_codes_of_unseen_items_are_not_pushed_away_if_the_trie_holds_the_seen_only() -> None:
    """With a trie of all items, the codes that only unseen ones have would be taught to be unlikely."""
    stage = writing(WritingConfig(codes=1.0))
    ids = torch.tensor([[n % 2, n // 2 % 2, n // 4 % 2] for n in range(8)] + [[3, 2, 1]])
    batch = Batch.of(random_histories([4, 6, 5], 8))
    for chosen, pushed in ((torch.arange(ITEMS) < 8, False), (torch.ones(ITEMS, dtype=torch.bool), True)):
        trie = TrieTensors.of(Trie.build(ids[chosen].numpy(), SIZES))
        other = TrainWriting(stage.model, replace(stage.catalogue, ids=ids), stage.config, trie)
        other.zero_grad()
        other(batch, 0).backward()
        slope = stage.model.decoder.code.weight.grad
        assert slope is not None
        assert (slope[3] != 0).any() == pushed


def each_branch(histories: list[History], seed: int) -> list[tuple[History, int]]:
    """(what came before, what came next) of every branch."""
    ends = branch_ends(torch.tensor([len(h) for h in histories]), EVERYTHING.branches, seed)
    return [
        (cut(history, end), int(history.items[end]))
        for history, row in zip(histories, ends.tolist(), strict=True)
        for end in row
    ]


def test_code_loss_agrees_with_the_exact_likelihood() -> None:
    stage, histories = writing(replace(EVERYTHING, topics=0.0, reasons=0.0)), random_histories([5, 2, 7], ITEMS)
    model, ids, losses = stage.model, stage.catalogue.ids, []
    assert ids is not None
    for before, target in each_branch(histories, 4):
        states = model.decoder(model.embed(vectors_of(stage), Batch.of([before])))
        losses.append(-id_log_likelihood(model.decoder, states, ids[[target]], stage.trie)[0])
    torch.testing.assert_close(stage(Batch.of(histories), 4).detach(), 0.5 * torch.stack(losses).mean(), **CLOSE)


@pytest.mark.parametrize("is_reason", [False, True])
def test_word_losses_agree_with_the_definition(is_reason: bool) -> None:
    """Word by word after each branch's history, of which an item has up to two and then the end: divided by three."""
    weights = {"topics": 0.0} if is_reason else {"reasons": 0.0}
    stage, histories = writing(replace(EVERYTHING, codes=0.0, **weights)), random_histories([5, 2, 7], ITEMS)
    keywords, decoder, vectors = stage.catalogue.keywords, stage.model.decoder, vectors_of(stage)
    assert keywords is not None
    losses = []
    for before, target in each_branch(histories, 4):
        known = set(keywords[before.items].flatten().tolist())
        words = [w for w in keywords[target].tolist() if w != PAD and (not is_reason or w in known)]
        states, loss = decoder(stage.model.embed(vectors, Batch.of([before]))), torch.tensor(0.0)
        for n, word in enumerate([*words, EOS] if words else []):
            branch = decoder.embed_words(torch.tensor([words[:n]]).long(), vectors[[target]] if is_reason else None)
            logits = decoder.word_logits(decoder.write(torch.cat([states, branch], dim=1))[0, -1])
            loss = loss - logits.log_softmax(0)[word]
        losses.append(loss / 3)
    assert any(loss > 0 for loss in losses)
    assert not is_reason or any(loss == 0 for loss in losses)
    weight = EVERYTHING.reasons if is_reason else EVERYTHING.topics
    torch.testing.assert_close(stage(Batch.of(histories), 4), weight * torch.stack(losses).mean(), **CLOSE)


def test_after_an_empty_history_alone_nothing_can_be_learnt_to_write() -> None:
    histories = [*random_histories([3], ITEMS), EMPTY_HISTORY]
    with pytest.raises(ValueError, match="row 1 of the batch has no events"):
        writing()(Batch.of(histories), 0)


# Targets


def test_finish_closes_gaps_and_writes_the_end() -> None:
    words = torch.tensor([[[7, 8], [PAD, 8]], [[7, PAD], [PAD, PAD]]])
    assert finish(words).tolist() == [[[7, 8, EOS], [8, EOS, PAD]], [[7, EOS, PAD], [PAD, PAD, PAD]]]
    many = torch.arange(200) % 3 * torch.arange(200)  # every third is PAD
    said = [word for word in many.tolist() if word != PAD]
    assert finish(many[None])[0].tolist() == [*said, EOS] + [PAD] * (200 - len(said))  # in the same order


def with_keywords(*rows: list[int]) -> TrainWriting:
    stage = writing()
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


@pytest.mark.parametrize("kind", [reading, writing])
@pytest.mark.parametrize("of", [2, 3, 5])
def test_shares_of_a_loss_add_up(of: int, kind: type[nn.Module]) -> None:
    """With five processes and four histories, one has nothing to do."""
    assert_shares_add_up(kind().train(), Batch.of(random_histories([5, 1, 3, 4], ITEMS)), of)


def test_what_always_follows_is_learnt_in_every_reading() -> None:
    """Users go round items 0 to 5 in a ring. After 3 comes 4: as a vector, as an ID, and in words."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = M6RecMini(tiny_config(), SHAPES)
    ids, words = torch.tensor([[n % 4, n // 4, 0] for n in range(6)]), torch.tensor([[10 + n, PAD] for n in range(6)])
    tokens, here = randn(6, model.encoders.tokens, 8), torch.ones(6, model.encoders.tokens, dtype=torch.bool)
    kept = Catalogue(tokens, here, torch.zeros(6, 0), torch.ones(6, dtype=torch.bool), ids, words)
    ring = Batch.of([past(*[(start + n) % 6 for n in range(8)]) for start in range(6)])
    reads = TrainDecoder(model, kept)
    before, after = descend(lambda seed: reads(ring, seed), model, 0.005, 60)
    assert after < 0.4 * before
    trie = TrieTensors.of(Trie.build(ids.numpy(), SIZES))
    writes = TrainWriting(model, kept, WritingConfig(codes=1.0, topics=3.0, reasons=0.0, branches=8), trie)
    before, after = descend(lambda seed: writes(ring, seed), model, 0.01, 200)
    assert after < 0.4 * before
    vectors, batch = vectors_of(writes.eval()), Batch.of([past(1, 2, 3), past(4, 5)])
    state, caches = model.decoder.prefill(model.embed(vectors, batch), batch.lengths)
    assert model.vector_logits(state, vectors).argmax(1).tolist() == [4, 0]
    assert beam_search(model.decoder, caches, trie, 3)[0][:, 0].tolist() == [4, 0]
    allowed = torch.ones(2, VOCAB, dtype=torch.bool)
    assert write_words(model.decoder, caches, EOS, allowed)[:, :2].tolist() == [[14, EOS], [10, EOS]]
