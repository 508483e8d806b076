"""Adaptation of a text encoder: only what is meant to learns, and pretraining pays off."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from builders import CLOSE, lively, randn
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from m6rec_mini import adaptation
from m6rec_mini.adaptation import (
    LOOPS,
    WAYS,
    Classifier,
    FineTuning,
    Labelled,
    LoRALinear,
    OptionTuning,
    PromptTuning,
    accuracy,
    adapt,
    compare_adaptation,
    mean_state,
)
from m6rec_mini.content import BOS, EOS, PAD, Content, Shapes
from m6rec_mini.encoders import EncoderConfig, ItemEncoder, TextEncoder
from m6rec_mini.pretraining import PretrainConfig, PretrainEncoders, Share
from m6rec_mini.training import Epoch, LoopConfig, Stage

CLASSES, WORDS, LENGTH = 4, 12, 6  # of each class, its own words
VOCAB = EOS + 1 + CLASSES * WORDS
Build = Callable[[TextEncoder, int], Classifier]


def texts(count: int, seed: int = 0) -> Labelled:
    """Three or four words of the class's own twelve, so most words of a text are new to few labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=count)
    words = EOS + 1 + labels[:, None] * WORDS + rng.integers(WORDS, size=(count, LENGTH - 2))
    ids = np.concatenate([np.full((count, 1), BOS), words, np.full((count, 1), EOS)], axis=1)
    short = rng.random(count) < 0.5
    ids[short, -2:] = EOS, PAD
    return Labelled(torch.from_numpy(ids), torch.from_numpy(labels))


def tiny_encoder(seed: int = 0) -> TextEncoder:
    return lively(TextEncoder(VOCAB, dim=8, layers=2, heads=2, length=LENGTH + 2, tokens=2), seed)


def tiny_way(build: Build, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    way = build(tiny_encoder(), CLASSES)
    with torch.no_grad():
        way.prompts.copy_(torch.randn(way.prompts.shape))  # large, so that whatever is mixed up shows
    return way


every_way = pytest.mark.parametrize("build", WAYS.values(), ids=WAYS)


def test_without_prompts_the_encoder_reads_as_ever() -> None:
    encoder, ids = tiny_encoder(), texts(20).ids
    ids[3] = PAD
    ids[4, 1:] = PAD
    states, real = encoder.states(ids, causal=False), (ids != PAD).float()[..., None]
    mean = (states * real).sum(1) / real.sum(1).clamp(min=1)
    torch.testing.assert_close(mean_state(encoder, ids, torch.zeros(0, 8)), mean, **CLOSE)
    assert mean_state(encoder, ids, randn(3, 8))[3].abs().max() == 0


@every_way
def test_padding_and_neighbours_change_nothing(build: Build) -> None:
    way, ids = tiny_way(build), texts(10).ids
    logits = way.logits(ids)
    assert logits.shape == (10, CLASSES)
    assert logits.std(0).min() > 1e-3
    torch.testing.assert_close(way.logits(F.pad(ids, (0, 2), value=PAD)), logits, **CLOSE)
    torch.testing.assert_close(way.logits(ids[6:7]), logits[6:7], **CLOSE)


@every_way
def test_shares_add_up_to_the_mean_log_loss(build: Build) -> None:
    way, batch = tiny_way(build), texts(7)
    whole = F.cross_entropy(way.logits(batch.ids), batch.labels)
    torch.testing.assert_close(way(batch, 0), whole, **CLOSE)
    torch.testing.assert_close(way(batch, 0, Share(0, 2)) + way(batch, 0, Share(1, 2)), whole, **CLOSE)


def test_soft_prompts_are_read_in_no_order() -> None:
    way, ids = tiny_way(PromptTuning), texts(5).ids
    logits = way.logits(ids)
    with torch.no_grad():
        way.prompts.copy_(way.prompts[torch.randperm(8)])
        torch.testing.assert_close(way.logits(ids), logits, **CLOSE)
        way.prompts[0] *= -1
    assert ((way.logits(ids) - logits).abs().amax(1) > 1e-3).all()


@settings(max_examples=10)
@given(st.permutations(range(CLASSES)))
def test_options_in_another_order_give_the_same_logits_in_that_order(order: list[int]) -> None:
    way, ids = tiny_way(OptionTuning), texts(5).ids
    logits = way.logits(ids)
    with torch.no_grad():
        way.prompts[-CLASSES:] = way.prompts[-CLASSES:][order]
    torch.testing.assert_close(way.logits(ids), logits[:, order], **CLOSE)


def test_an_option_is_both_a_weight_and_read() -> None:
    """It scales its own logit as a weight; and as it is read, it moves the logits of the others too."""
    way, ids = tiny_way(OptionTuning), texts(5).ids
    state, logits = mean_state(way.encoder, ids, way.prompts), way.logits(ids)
    torch.testing.assert_close(logits, F.linear(state, way.prompts[8:]), **CLOSE)
    with torch.no_grad():
        way.prompts[-1] *= -1  # not += 1: the encoder's LayerNorm would not see it
    others = (way.logits(ids) - logits)[:, :-1]
    assert (others.abs().amax(1) > 1e-3).all()


def test_adapters_change_an_option_tuner_only_once_they_have_learnt() -> None:
    ids = texts(5).ids
    plain = tiny_way(OptionTuning)
    adapted = tiny_way(lambda encoder, classes: OptionTuning(encoder, classes, rank=3))
    adapted.prompts = plain.prompts
    assert torch.equal(adapted.logits(ids), plain.logits(ids))
    layers = [layer for layer in adapted.modules() if isinstance(layer, LoRALinear)]
    assert len(layers) == 4  # queries and values of two blocks; the pool, which nobody reads here, has none
    torch.nn.init.normal_(layers[-1].up)
    assert not torch.allclose(adapted.logits(ids), plain.logits(ids))


def test_the_share_that_trains_counted_by_hand() -> None:
    """Width 8, 52 words, 8 positions; a block has 4 * 72 attention, 288 + 264 network, 32 norms = 872."""
    encoder = 8 * 52 + 8 * 8 + 2 * 872 + 16
    head, prompts, options, factors = 9 * CLASSES, 8 * 8, 8 * CLASSES, 2 * 2 * (4 * 8 + 8 * 4)
    expected = {
        "fine-tuning": 1.0,
        "linear probe": head / (encoder + head),
        "prompt tuning": (head + prompts) / (encoder + head + prompts),
        "option tuning": (prompts + options) / (encoder + prompts + options),
        "option tuning + LoRA": (prompts + options + factors) / (encoder + prompts + options + factors),
    }
    assert {name: tiny_way(build).trainable_share for name, build in WAYS.items()} == pytest.approx(expected)


@every_way
def test_what_trains_moves_and_nothing_else_does(build: Build) -> None:
    way = tiny_way(build)
    before = copy.deepcopy(way.state_dict())
    loop = LoopConfig(epochs=2, batch=8, learning_rate=1e-2, warm_up=1, average=0.0)
    value, seconds = adapt(way, texts(30), texts(10, seed=1), loop, seed=0)
    assert value < 0 < seconds
    moved = {name for name, weight in way.state_dict().items() if not torch.equal(weight, before[name])}
    if isinstance(way, FineTuning):
        weights = {name for name, _ in way.named_parameters() if not name.startswith(("encoder.pool", "prompts"))}
        weights -= {name for name in weights if name.endswith("key.bias")}  # it shifts all scores alike: no gradient
        assert weights <= moved
    else:
        learning = {name for name, p in way.named_parameters() if p.requires_grad and p.numel()}
        assert moved == learning
        assert not any(name.startswith("encoder") and not name.endswith(("down", "up")) for name in moved)


@pytest.mark.parametrize("name", ["fine-tuning", "option tuning + LoRA"])
def test_a_killed_stage_goes_on_to_the_same_result(name: str, tmp_path: Path) -> None:
    learn, judge = texts(30), texts(10, seed=1)

    def run(folder: Path | None, kill_at: int | None = None) -> dict[str, Tensor]:
        def on_epoch(epoch: Epoch) -> None:
            if epoch.epoch == kill_at:
                raise KeyboardInterrupt

        way = tiny_way(WAYS[name])
        loop = LoopConfig(epochs=4, batch=10, patience=9)
        Stage("s", way, lambda _: [learn], lambda: -float(way(judge, 0).detach()), loop, 0, folder).run(on_epoch)
        return way.state_dict()

    unbroken = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, kill_at=2)
    resumed = run(tmp_path)
    assert all(torch.equal(resumed[part], weight) for part, weight in unbroken.items())


# ---- side by side ---------------------------------------------------------------------------------


@cache
def pretrained() -> tuple[TextEncoder, TextEncoder]:
    """The same encoder, fresh, and after it has read 400 texts without labels."""
    ids = texts(400, seed=9).ids
    torch.manual_seed(0)
    encoders = ItemEncoder(EncoderConfig(dim=16, layers=1, heads=2), Shapes(("text",), VOCAB, LENGTH, 1, {}))
    fresh = copy.deepcopy(encoders.encoders["text"])
    none = torch.zeros(len(ids), 3, 1, 1), torch.zeros(len(ids), 1, 1)
    content = Content(ids, *none, {}, {"text": torch.ones(len(ids), dtype=torch.bool)})
    stage = PretrainEncoders(encoders, VOCAB, PretrainConfig(causal_text=0.0, mask_rate=0.3))
    loop = LoopConfig(epochs=20, learning_rate=1e-2, average=0.0)

    def batches(rng: np.random.Generator) -> list[Content]:
        return [content.rows(rows) for rows in torch.from_numpy(rng.permutation(len(ids))).split(50)]

    Stage("encoders", stage, batches, lambda: -float(stage(content, 0).detach()), loop).run()
    trained = encoders.encoders["text"]
    assert isinstance(fresh, TextEncoder)
    assert isinstance(trained, TextEncoder)
    return fresh, trained


QUICK = (replace(LOOPS[-1], epochs=15, batch=8, patience=15, average=0.5, learning_rate=2e-2),)


def test_pretraining_lets_few_labels_and_few_numbers_go_far() -> None:
    fresh, trained = pretrained()
    items = texts(400, seed=1)
    without = {row.way: row for row in compare_adaptation(items, fresh, 30, QUICK)}
    with_it = {row.way: row for row in compare_adaptation(items, trained, 30, QUICK)}
    assert list(with_it) == list(WAYS)
    for name in set(WAYS) - {"fine-tuning"}:
        assert with_it[name].accuracy > without[name].accuracy + 0.1, name
        assert with_it[name].accuracy > 0.8, name


def test_a_comparison_repeats_itself_and_leaves_the_encoder_as_it_was() -> None:
    encoder, items = tiny_encoder(), texts(60)
    before = copy.deepcopy(encoder.state_dict())
    loops = tuple(LoopConfig(epochs=2, batch=16, learning_rate=rate) for rate in (1e-4, 3e-2))
    rows = compare_adaptation(items, encoder, 40, loops, seed=3)
    torch.rand(1)  # as if something else had gone on in between
    again = compare_adaptation(items, encoder, 40, loops, seed=3)
    assert [replace(row, seconds=0.0) for row in again] == [replace(row, seconds=0.0) for row in rows]
    assert compare_adaptation(items, encoder, 40, loops, seed=4) != rows
    alone = zip(*(compare_adaptation(items, encoder, 40, (loop,), seed=3) for loop in loops), strict=True)
    assert [row.validation for row in rows] == [max(one.validation, other.validation) for one, other in alone]
    assert all(torch.equal(encoder.state_dict()[name], weight) for name, weight in before.items())
    assert all(p.requires_grad for p in encoder.parameters())


def numbered(count: int) -> Labelled:
    """Every text is another: two words that tell its row."""
    rows = torch.arange(count)
    words = CLASSES * WORDS
    return Labelled(EOS + 1 + torch.stack([rows // words, rows % words], dim=1), rows % CLASSES)


def rows_of(items: Labelled) -> list[int]:
    high, low = (items.ids - EOS - 1).T
    return (high * CLASSES * WORDS + low).tolist()


def test_each_item_is_for_learning_or_for_choosing_or_for_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    def parts(seed: int) -> list[list[int]]:
        found: list[list[int]] = []
        note = lambda *items: found.extend(rows_of(part) for part in items)  # noqa: E731
        monkeypatch.setattr(adaptation, "adapt", lambda _, learn, judge, *_rest: note(learn, judge) or (-1.0, 1.0))
        monkeypatch.setattr(adaptation, "accuracy", lambda _, held_out: note(held_out) or 0.5)
        compare_adaptation(numbered(63), tiny_encoder(), labelled=40, loops=LOOPS[:1], seed=seed)
        return found

    one, other = parts(seed=1), parts(seed=2)
    assert [len(part) for part in one] == [32, 8, 23] * len(WAYS)
    assert sorted(one[0] + one[1] + one[2]) == list(range(63))
    assert one[3:] == one[:-3]  # the same for every way
    assert one[0] != other[0]


def test_every_epoch_reads_every_item_and_the_best_one_is_kept() -> None:
    way, learn, judge = tiny_way(PromptTuning), numbered(30), texts(10)
    read: list[list[int]] = []
    judged: list[float] = []

    def note(_: nn.Module, inputs: tuple[Labelled, int], loss: Tensor) -> None:
        if way.training:
            read.append(rows_of(inputs[0]))
        else:
            judged.append(-float(loss.detach()))

    way.register_forward_hook(note)
    loop = LoopConfig(epochs=3, batch=8, learning_rate=0.1, warm_up=1, average=0.0)  # the first is the best
    value, _ = adapt(way, learn, judge, loop, seed=0)
    assert [len(batch) for batch in read] == [8, 8, 8, 6] * 3
    for epoch in range(3):
        assert sorted(row for batch in read[4 * epoch : 4 * epoch + 4] for row in batch) == list(range(30))
    assert read[:4] != read[4:8]
    assert value == max(judged) > judged[-1]
    assert -float(way(judge, 0).detach()) == value


def test_accuracy_worked_by_hand() -> None:
    way, items = tiny_way(OptionTuning), texts(300)  # more than one batch
    best = way.logits(items.ids).argmax(1)
    assert accuracy(way, Labelled(items.ids, best)) == 1.0
    best[:75] = (best[:75] + 1) % CLASSES
    assert accuracy(way, Labelled(items.ids, best)) == 0.75


@pytest.mark.parametrize(
    ("labelled", "label", "message"),
    [
        (4, 0, "4 labelled of 20 items: take 5"),
        (20, 0, "20 labelled of 20"),
        (10, -1, "label -1: classes count from 0"),
    ],
)
def test_what_cannot_be_compared_is_refused(labelled: int, label: int, message: str) -> None:
    items = texts(20)
    items.labels[7] = label
    with pytest.raises(ValueError, match=message):
        compare_adaptation(items, tiny_encoder(), labelled)
