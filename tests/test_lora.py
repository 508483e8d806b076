"""Low-rank adapters: nothing changes at the start, only they learn, and merged they are gone."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from builders import SHAPES, lively, randn, random_catalogue, seeded, tiny_config
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from m6rec_mini.adaptation import LoRALinear, add_lora, merge_lora
from m6rec_mini.catalog import Interactions
from m6rec_mini.evaluation import Split, leave_one_out
from m6rec_mini.model import M6RecMini
from m6rec_mini.recipe import Recipe, mean_loss, train_decoder
from m6rec_mini.training import LoopConfig
from m6rec_mini.transformer import Block

EXACT = {"atol": 1e-12, "rtol": 1e-12}  # float64, and sums taken in another order


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
