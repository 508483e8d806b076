"""Fusion: the order of items and modalities means nothing, and what is missing cannot be heard."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from builders import CLOSE, lively, randn, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from m6rec_mini.fusion import Concatenation, CrossModalFusion, FusionConfig, hide_modalities

CONFIG = FusionConfig(dim=16, heads=4, queries=3, dropout=0.0)
TOKENS, WIDTH = 6, 8
SPANS = {"text": slice(0, 3), "image": slice(3, 5), "look": slice(5, 6)}


def attend(seed: int = 0) -> CrossModalFusion:
    return lively(CrossModalFusion(CONFIG, WIDTH, TOKENS), seed)


def concatenate(seed: int = 0) -> Concatenation:
    return lively(Concatenation(CONFIG, WIDTH, TOKENS), seed)


def random_present(items: int, seed: int = 0) -> Tensor:
    """Whole modalities missing; at least one there."""
    g = seeded(seed)
    present = torch.zeros(items, TOKENS, dtype=torch.bool)
    for span in SPANS.values():
        present[:, span] = torch.rand(items, 1, generator=g) < 0.6
    present[~present.any(1), SPANS["look"]] = True
    return present


both_kinds = pytest.mark.parametrize("make", [attend, concatenate])


def with_places(fusion: CrossModalFusion, order: Sequence[int]) -> CrossModalFusion:
    """The same fusion for tokens in another order, or for some of them: each keeps the matrix of its place."""
    moved = deepcopy(fusion)
    for name in ("weight", "bias"):
        setattr(moved.widen, name, nn.Parameter(getattr(fusion.widen, name)[list(order)]))
    return moved


@settings(max_examples=40)
@given(order=st.permutations(range(TOKENS)), seed=st.integers(0, 100))
def test_the_order_of_modalities_means_nothing(order: list[int], seed: int) -> None:
    """Each place has a matrix of its own; once it is applied, where a token stands in the row is no matter."""
    fusion, tokens, present = attend(seed), randn(5, TOKENS, WIDTH, seed=seed), random_present(5, seed)
    moved = with_places(fusion, order)
    torch.testing.assert_close(moved(tokens[:, order], present[:, order]), fusion(tokens, present), **CLOSE)
    torch.testing.assert_close(
        moved.weights(tokens[:, order], present[:, order]), fusion.weights(tokens, present)[:, order], **CLOSE
    )


def test_every_place_has_a_matrix_of_its_own() -> None:
    fusion, tokens = attend(), randn(2, TOKENS, WIDTH)
    expected = [tokens[:, place] @ fusion.widen.weight[place] + fusion.widen.bias[place] for place in range(TOKENS)]
    torch.testing.assert_close(fusion.widen(tokens), torch.stack(expected, dim=1), **CLOSE)


def test_concatenation_does_depend_on_the_order() -> None:
    fusion, tokens, present = concatenate(), randn(2, TOKENS, WIDTH), torch.ones(2, TOKENS, dtype=torch.bool)
    assert not torch.allclose(fusion(tokens.flip(1), present), fusion(tokens, present), **CLOSE)


@both_kinds
@given(order=st.permutations(range(5)))
def test_permuting_items_permutes_the_vectors(make: Any, order: list[int]) -> None:
    fusion, tokens, present = make(), randn(5, TOKENS, WIDTH), random_present(5)
    torch.testing.assert_close(fusion(tokens[order], present[order]), fusion(tokens, present)[order], **CLOSE)


@both_kinds
@given(seed=st.integers(0, 100), noise=st.sampled_from([1.0, 1e3, 1e6]))
def test_a_missing_modality_cannot_matter(make: Any, seed: int, noise: float) -> None:
    fusion, tokens, present = make(seed), randn(5, TOKENS, WIDTH, seed=seed), random_present(5, seed)
    changed = torch.where(present[..., None], tokens, noise * randn(5, TOKENS, WIDTH, seed=seed + 1))
    assert torch.equal(fusion(changed, present), fusion(tokens, present))


@both_kinds
def test_a_present_modality_does_matter(make: Any) -> None:
    fusion, tokens, present = make(), randn(5, TOKENS, WIDTH), random_present(5)
    for token in range(TOKENS):
        changed = tokens.clone()
        changed[:, token] += 1.0 + randn(WIDTH)
        moved = ~torch.isclose(fusion(changed, present), fusion(tokens, present), **CLOSE).all(1)
        assert torch.equal(moved, present[:, token])


def test_a_masked_token_is_as_good_as_none() -> None:
    fusion, tokens = attend(), randn(3, TOKENS, WIDTH)
    present = torch.tensor([True, True, True, False, False, True]).expand(3, -1)
    fewer = with_places(fusion, [0, 1, 2, 5])(tokens[:, [0, 1, 2, 5]], torch.ones(3, 4, dtype=torch.bool))
    torch.testing.assert_close(fusion(tokens, present), fewer, **CLOSE)


def test_concatenation_reads_zeros_for_what_is_missing() -> None:
    fusion, tokens, present = concatenate(), randn(2, TOKENS, WIDTH), random_present(2)
    gathered = nn.functional.layer_norm(tokens, (WIDTH,), fusion.norm.weight, fusion.norm.bias)
    gathered[~present] = 0
    torch.testing.assert_close(fusion(tokens, present), fusion.head(gathered.flatten(1)), **CLOSE)


@both_kinds
def test_an_item_with_nothing_is_named(make: Any) -> None:
    present = torch.ones(4, TOKENS, dtype=torch.bool)
    present[[1, 3]] = False
    with pytest.raises(ValueError, match=r"items \[1, 3\] have no modality"):
        make()(randn(4, TOKENS, WIDTH), present)


def test_weights_of_an_item_with_nothing_are_refused_too() -> None:
    with pytest.raises(ValueError, match=r"items \[0\] have no modality"):
        attend().weights(randn(1, TOKENS, WIDTH), torch.zeros(1, TOKENS, dtype=torch.bool))


@both_kinds
def test_the_head_refines_what_it_projects(make: Any) -> None:
    head = make().head
    x = randn(3, head.project.in_features)
    y = head.project(x)
    torch.testing.assert_close(head(x) - y, head.mlp(y), atol=1e-4, rtol=1e-3)
    assert not torch.allclose(head(x), y)


# What the attention looks at


def test_fusion_and_its_weights_are_those_of_pytorch() -> None:
    fusion, tokens, present = attend(), randn(4, TOKENS, WIDTH), random_present(4)
    ours, theirs = fusion.attention, nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
    context = fusion.norm(fusion.widen(tokens))
    with torch.no_grad():
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    found, expected = theirs(fusion.queries.expand(4, -1, -1), context, context, key_padding_mask=~present)
    torch.testing.assert_close(fusion(tokens, present), fusion.head(found.flatten(1)), **CLOSE)
    torch.testing.assert_close(fusion.weights(tokens, present), expected.mean(1), **CLOSE)  # mean over queries


@given(seed=st.integers(0, 1000))
def test_weights_are_shares_of_what_is_there(seed: int) -> None:
    present = random_present(6, seed)
    weights = attend(seed).weights(randn(6, TOKENS, WIDTH, seed=seed), present)
    torch.testing.assert_close(weights.sum(1), torch.ones(6))
    assert (weights[~present] == 0).all()
    assert (weights[present] > 0).all()
    assert not weights.requires_grad


# Training


@both_kinds
def test_gradients_reach_every_parameter(make: Any) -> None:
    fusion = make().train()
    (fusion(randn(5, TOKENS, WIDTH), random_present(5)) * randn(5, 16, seed=1)).sum().backward()
    for name, parameter in fusion.named_parameters():
        assert parameter.grad is not None, name
        if name != "attention.key.bias":  # which moves all scores alike, and a softmax does not see that
            assert parameter.grad.abs().max() > 1e-5, name


@both_kinds
def test_dropout_works_in_training_only(make: Any) -> None:
    fusion, tokens, present = make(), randn(2, TOKENS, WIDTH), random_present(2)
    fusion.head.mlp[3].p = 0.5
    assert torch.equal(fusion(tokens, present), fusion(tokens, present))
    fusion.train()
    assert not torch.equal(fusion(tokens, present), fusion(tokens, present))


@given(rate=st.floats(0, 1), seed=st.integers(0, 1000))
def test_hiding_never_hides_everything(rate: float, seed: int) -> None:
    present = random_present(20, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        kept = hide_modalities(present, SPANS, rate)
    assert kept.any(1).all()
    assert (kept <= present).all()
    for span in SPANS.values():  # whole modalities go, not single tokens
        assert (kept[:, span] == kept[:, span][:, :1]).all()


def test_hiding_at_the_ends_of_the_scale() -> None:
    present, full = random_present(20), torch.ones(2000, TOKENS, dtype=torch.bool)
    before = present.clone()
    assert torch.equal(hide_modalities(present, SPANS, 0.0), present)
    assert torch.equal(hide_modalities(present, SPANS, 1.0), present)  # it would leave nothing, so it hides nothing
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kept = hide_modalities(full, SPANS, 0.3)
        hide_modalities(present, SPANS, 0.3)
    assert torch.equal(present, before)  # the caller's mask stays as it was
    for span in SPANS.values():  # .3 less the draws (.3³) that would have hidden all
        assert 0.23 < 1 - kept[:, span].float().mean() < 0.32


def test_the_same_seed_hides_the_same() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        one = hide_modalities(random_present(50), SPANS, 0.5)
        torch.manual_seed(3)
        assert torch.equal(hide_modalities(random_present(50), SPANS, 0.5), one)
