"""Adaptation: nothing changes at the start, only what is meant to learns, and pretraining pays off."""

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
from builders import CLOSE, SHAPES, lively, randn, random_catalogue, seeded, tiny_config
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
    add_lora,
    compare_adaptation,
    mean_state,
    merge_lora,
)
from m6rec_mini.catalog import Interactions
from m6rec_mini.content import BOS, EOS, PAD, Content, Shapes
from m6rec_mini.encoders import EncoderConfig, ItemEncoder, TextEncoder
from m6rec_mini.evaluation import Split, leave_one_out
from m6rec_mini.model import M6RecMini
from m6rec_mini.pretraining import PretrainConfig, PretrainEncoders, Share
from m6rec_mini.recipe import Recipe, mean_loss, train_decoder
from m6rec_mini.training import Epoch, LoopConfig, Stage
from m6rec_mini.transformer import Block

EXACT = {"atol": 1e-12, "rtol": 1e-12}  # float64, and sums taken in another order
CLASSES, WORDS, LENGTH = 4, 12, 6  # of each class, its own words
VOCAB = EOS + 1 + CLASSES * WORDS
Build = Callable[[TextEncoder, int], Classifier]


# ---- low-rank adapters ----------------------------------------------------------------------------


@torch.no_grad()
def learnt(layer: LoRALinear, seed: int = 0) -> LoRALinear:
    """As after training: B is not zero any more."""
    layer.up.copy_(torch.randn(layer.up.shape, generator=seeded(seed), dtype=layer.up.dtype))
    return layer


def test_eq_3_worked_by_hand() -> None:
    """W x = (1, 2), A x = 1 + 1 = 2, B A x = (2, -2), times alpha / rank = 3: (1 + 6, 2 - 6), plus b."""
    base = nn.Linear(2, 2)
    with torch.no_grad():
        base.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        base.bias.copy_(torch.tensor([10.0, 20.0]))
        layer = LoRALinear(base, rank=1, alpha=3.0)
        layer.down.copy_(torch.tensor([[1.0, 1.0]]))
        layer.up.copy_(torch.tensor([[1.0], [-1.0]]))
    assert layer(torch.tensor([1.0, 1.0])).tolist() == [17.0, 16.0]


sizes = st.tuples(st.integers(2, 7), st.integers(2, 7)).flatmap(
    lambda s: st.tuples(st.just(s[0]), st.just(s[1]), st.integers(1, min(s) - 1))
)


@settings(max_examples=30)
@given(sizes, st.booleans(), st.floats(0.5, 20), st.integers(0, 99))
def test_nothing_changes_at_the_start_and_merged_equals_unmerged(
    size: tuple[int, int, int], bias: bool, alpha: float, seed: int
) -> None:
    inputs, outputs, rank = size
    base, x = nn.Linear(inputs, outputs, bias).double(), randn(3, 5, inputs, seed=seed).double()
    layer = LoRALinear(base, rank, alpha)
    assert torch.equal(layer(x), base(x))
    change = learnt(layer, seed)(x) - base(x)
    dense = F.linear(x, layer.up @ layer.down) * alpha / rank
    torch.testing.assert_close(change, dense, **EXACT)
    assert change.abs().max() > 1e-6
    torch.testing.assert_close(layer.merged()(x), layer(x), **EXACT)
    assert torch.linalg.matrix_rank(layer.merged().weight - base.weight, rtol=1e-9) <= rank
    assert (layer.merged().bias is None) == (not bias)


def test_only_the_factors_get_a_gradient_and_b_learns_first() -> None:
    """While B is zero, A cannot matter: were both zero, neither would ever learn."""
    layer = LoRALinear(nn.Linear(5, 4), rank=2, alpha=2.0)
    layer(randn(3, 5)).square().sum().backward()
    assert {name for name, p in layer.named_parameters() if p.requires_grad} == {"down", "up"}
    assert layer.weight.grad is None
    assert layer.bias.grad is None
    assert layer.up.grad is not None
    assert layer.down.grad is not None
    assert layer.up.grad.abs().min() > 0
    assert layer.down.grad.abs().max() == 0


@pytest.mark.parametrize("rank", [0, -1, 4, 9])
def test_a_rank_that_is_not_low_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank {rank} is no low rank for a layer of width 4; take 1 to 3"):
        LoRALinear(nn.Linear(5, 4), rank, 1.0)


def two_blocks(seed: int = 0) -> nn.Sequential:
    return lively(nn.Sequential(Block(16, heads=2), Block(16, heads=2)), seed)


def test_targets_are_endings_of_dotted_names() -> None:
    network = two_blocks()
    layers = add_lora(network, 2, 4.0, targets=("query", "mlp.2"))
    names = {name for name, layer in network.named_modules() if isinstance(layer, LoRALinear)}
    assert names == {f"{n}.{part}" for n in range(2) for part in ("attention.query", "mlp.2")}
    assert {network.get_submodule(name) for name in names} == set(layers)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained == {f"{name}.{factor}" for name in names for factor in ("down", "up")}


@pytest.mark.parametrize("target", ["uery", "attention", "0.attention.query.weight", ""])
def test_a_target_that_fits_nothing_is_told_what_there_is(target: str) -> None:
    network = two_blocks()
    with pytest.raises(ValueError, match=r"name ends in .*; there are 0\.attention\.query, 0\.attention\.key"):
        add_lora(network, targets=("query", target))
    assert all(p.requires_grad for p in network.parameters())
    assert not any(isinstance(layer, LoRALinear) for layer in network.modules())


def test_nothing_is_adapted_twice_unless_merged_in_between() -> None:
    network = two_blocks()
    add_lora(network, 2)
    with pytest.raises(ValueError, match="no plain linear layer's name ends in 'query'"):
        add_lora(network, 2)
    merge_lora(network)
    assert len(add_lora(network, 2)) == 4


def test_a_merged_network_is_a_plain_one_that_does_the_same() -> None:
    network, x = two_blocks().double(), randn(3, 7, 16).double()
    names, before = list(network.state_dict()), network(x)
    for seed, layer in enumerate(add_lora(network, 2, 4.0)):
        learnt(layer, seed)
    adapted = network(x)
    assert not torch.allclose(adapted, before)
    merge_lora(network)
    torch.testing.assert_close(network(x), adapted, **EXACT)
    assert sorted(network.state_dict()) == sorted(names)
    assert not any(isinstance(layer, LoRALinear) for layer in network.modules())
    assert not any(p.requires_grad for p in network.parameters())


def test_state_survives_and_plain_checkpoints_fit() -> None:
    plain, x = two_blocks(seed=1), randn(2, 5, 16)
    adapted = copy.deepcopy(plain)
    for seed, layer in enumerate(add_lora(adapted, 2)):
        learnt(layer, seed)
    other = two_blocks(seed=2)
    add_lora(other, 2)
    missing, unexpected = other.load_state_dict(plain.state_dict(), strict=False)
    assert {name.rsplit(".", 1)[1] for name in missing} == {"down", "up"}
    assert not unexpected
    assert torch.equal(other(x), plain(x))
    other.load_state_dict(adapted.state_dict())
    assert torch.equal(other(x), adapted(x))


# ---- the recommender's decoder learns a new domain ------------------------------------------------


def walks(step: int, users: int = 24, events: int = 8, items: int = 12) -> Split:
    """A domain of a simple taste: after item i comes item i + step."""
    user, place = (grid.ravel() for grid in np.meshgrid(np.arange(users), np.arange(events), indexing="ij"))
    chosen = (user + place * step) % items
    return leave_one_out(Interactions.sort(user, chosen, np.zeros_like(user), place * 60, users, items))


def test_adapters_teach_a_trained_decoder_a_new_domain_and_leave_its_weights_alone() -> None:
    torch.manual_seed(0)
    model = M6RecMini(tiny_config(), SHAPES)
    catalogue = random_catalogue(model, 12)
    catalogue = replace(catalogue, tokens=randn(*catalogue.tokens.shape), present=torch.ones_like(catalogue.present))
    model.encoders.requires_grad_(False)
    recipe = Recipe(decoder_loop=LoopConfig(epochs=40, batch=12, learning_rate=1e-2, warm_up=1, average=0.5))
    old, new = walks(step=1), walks(step=5)
    train_decoder(model, catalogue, old, recipe, None, lambda _: None)
    before = copy.deepcopy(model)
    start = mean_loss(model, catalogue, new.validation)
    assert mean_loss(model, catalogue, old.validation) < 0.5 < 2 < start  # guessing among the six left gives 1.8

    model.requires_grad_(False)
    add_lora(model.decoder, rank=4, alpha=16.0, targets=("query", "value", "out", "mlp.2"))
    assert mean_loss(model, catalogue, new.validation) == start
    log = train_decoder(model, catalogue, new, recipe, None, lambda _: None)
    end = mean_loss(model, catalogue, new.validation)
    assert end < 0.5
    assert log[-1].loss < log[0].loss / 2

    weights = model.state_dict()
    for name, weight in before.state_dict().items():
        assert torch.equal(weights[name], weight), name
    assert all(layer.up.any() for layer in model.decoder.blocks.modules() if isinstance(layer, LoRALinear))
    merge_lora(model)
    assert mean_loss(model, catalogue, new.validation) == pytest.approx(end, abs=1e-3)


# ---- ways to sort items by their text -------------------------------------------------------------


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
    learnt(layers[-1])
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


def test_each_item_either_teaches_or_chooses_or_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = torch.arange(63)
    ids = torch.stack([EOS + 1 + numbers // 48, EOS + 1 + numbers % 48], dim=1)  # so that a text tells its row
    parts: list[set[int]] = []

    def note(*items: Labelled) -> None:
        parts.extend(set(((x.ids[:, 0] - EOS - 1) * 48 + x.ids[:, 1] - EOS - 1).tolist()) for x in items)

    monkeypatch.setattr(adaptation, "adapt", lambda _, learn, judge, *_rest: note(learn, judge) or (-1.0, 1.0))
    monkeypatch.setattr(adaptation, "accuracy", lambda _, held_out: note(held_out) or 0.5)
    compare_adaptation(Labelled(ids, numbers % CLASSES), tiny_encoder(), labelled=40, loops=LOOPS[:1])
    assert [len(part) for part in parts] == [32, 8, 23] * len(WAYS)
    assert set.union(*parts[:3]) == set(range(63))
    assert parts[3:] == parts[:-3]  # the same for every way


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
