"""The solutions of chapter 7 beside PyTorch: the same numbers from somebody else's code."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from m6rec_mini.course.cells import read_cells
from m6rec_mini.course.namespace import run_cells
from m6rec_mini.fusion import CrossModalFusion, FusionConfig
from m6rec_mini.pretraining import info_nce

NAME = "07_multimodal_fusion"
SOLUTION = Path(__file__).parents[1] / "solutions" / NAME / f"{NAME}.py"
SEEDS, TYPES = st.integers(0, 500), st.sampled_from([np.float32, np.float64])


@pytest.fixture(scope="module")
def solution() -> SimpleNamespace:
    """The answers alone: checks and demos do not run."""
    return SimpleNamespace(**run_cells(read_cells(SOLUTION)))


def noise(rng: np.random.Generator, *shape: int, kind: type = np.float64) -> np.ndarray:
    return rng.normal(size=shape).astype(kind)


def close(ours: np.ndarray, theirs: torch.Tensor) -> None:
    wide = ours.dtype == np.float64
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-9 if wide else 1e-4, atol=1e-10 if wide else 1e-5)


@settings(max_examples=25)
@given(seed=SEEDS, kind=TYPES)
def test_weights_are_those_of_scaled_dot_product_attention(solution: SimpleNamespace, seed: int, kind: type) -> None:
    rng = np.random.default_rng(seed)
    query, key = noise(rng, 2, 3, 4, 5, kind=kind), noise(rng, 2, 1, 6, 5, kind=kind)
    mask = rng.random((2, 3, 4, 6)) < 0.7
    mask[..., 0] |= ~mask.any(-1)  # PyTorch has no answer where nothing is visible
    ours = solution.attention_weights(query, key, mask)
    wide_key = torch.from_numpy(key).expand(2, 3, 6, 5)
    eye = torch.eye(6, dtype=wide_key.dtype).expand(2, 3, 6, 6)  # values that give the weights back
    theirs = F.scaled_dot_product_attention(torch.from_numpy(query), wide_key, eye, torch.from_numpy(mask))
    close(ours, theirs)
    assert ours.dtype == kind


@settings(max_examples=25)
@given(seed=SEEDS, heads=st.sampled_from([1, 2, 4]), kind=TYPES)
def test_cross_attention_is_that_of_multihead_attention(
    solution: SimpleNamespace, seed: int, heads: int, kind: type
) -> None:
    rng = np.random.default_rng(seed)
    layer = torch.nn.MultiheadAttention(8, heads, bias=False, kdim=5, vdim=3, batch_first=True)
    layer = layer.to(torch.float32 if kind is np.float32 else torch.float64)
    query, key, value = noise(rng, 3, 4, 8, kind=kind), noise(rng, 3, 6, 5, kind=kind), noise(rng, 3, 6, 3, kind=kind)
    seen = rng.random((3, 6)) < 0.7
    seen[:, 0] |= ~seen.any(-1)
    given_ = [torch.from_numpy(x) for x in (query, key, value)]
    theirs, _ = layer(*given_, key_padding_mask=~torch.from_numpy(seen))
    parts = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight, layer.out_proj.weight)
    matrices = [w.detach().numpy().T for w in parts]
    close(solution.cross_attention(query, key, value, *matrices, heads, seen[:, None]), theirs)


def test_cross_attention_is_the_one_in_the_recommender(solution: SimpleNamespace) -> None:
    torch.manual_seed(0)
    fusion = CrossModalFusion(FusionConfig(dim=8, heads=2, queries=3), token_dim=5, tokens=7)
    tokens, present = torch.randn(4, 7, 5), torch.rand(4, 7) < 0.6
    present[:, 0] |= ~present.any(1)
    context, layer = fusion.norm(fusion.widen(tokens)), fusion.attention
    for part in (layer.query, layer.key, layer.value, layer.out):
        torch.nn.init.zeros_(part.bias)
    queries = fusion.queries.detach().numpy()
    matrices = [part.weight.detach().numpy().T for part in (layer.query, layer.key, layer.value, layer.out)]
    seen = context.detach().numpy()
    ours = solution.cross_attention(queries, seen, seen, *matrices, 2, present[:, None].numpy())
    close(ours, layer(fusion.queries.expand(4, -1, -1), context, present[:, None, None]))


@settings(max_examples=25)
@given(seed=SEEDS, kind=TYPES)
def test_fusion_is_attention_over_what_is_there(solution: SimpleNamespace, seed: int, kind: type) -> None:
    rng = np.random.default_rng(seed)
    sizes = {"text": 3, "image": 1, "audio": 2}
    tokens = {name: noise(rng, 5, size, 4, kind=kind) for name, size in sizes.items()}
    present = {name: rng.random(5) < 0.6 for name in sizes}
    present["text"] |= ~np.any(list(present.values()), axis=0)
    query = noise(rng, 2, 4, kind=kind)
    mask = np.hstack([np.repeat(present[name][:, None], size, 1) for name, size in sizes.items()])
    context = torch.from_numpy(np.hstack(list(tokens.values())))
    wide_query, wide_mask = torch.from_numpy(query).expand(5, 2, 4), torch.from_numpy(mask)[:, None].expand(5, 2, 6)
    theirs = F.scaled_dot_product_attention(wide_query, context, context, wide_mask)
    close(solution.fuse_modalities(query, tokens, present), theirs)


@settings(max_examples=25)
@given(seed=SEEDS, pairs=st.integers(1, 6), temperature=st.sampled_from([0.01, 0.07, 0.5, 2.0]), kind=TYPES)
def test_contrastive_loss_and_gradient_are_those_of_autograd(
    solution: SimpleNamespace, seed: int, pairs: int, temperature: float, kind: type
) -> None:
    rng = np.random.default_rng(seed)
    a, b = noise(rng, pairs, 4, kind=kind), noise(rng, pairs, 4, kind=kind)
    if seed % 3 == 0:
        a[0] = 0
    loss, gradient = solution.info_nce(a, b, temperature)
    cosines = F.normalize(torch.from_numpy(a), dim=1) @ F.normalize(torch.from_numpy(b), dim=1).T
    logits, own = (cosines / temperature).requires_grad_(), torch.arange(pairs)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    expected.backward()
    close(np.array(loss, kind), expected)
    close(gradient, logits.grad)
    one, other = info_nce(torch.from_numpy(a), torch.from_numpy(b), temperature)  # that of the recommender
    close(np.array(loss, kind), (one.mean() + other.mean()) / 2)


@settings(max_examples=25)
@given(seed=SEEDS, modalities=st.integers(1, 4))
def test_credit_obeys_shapleys_axioms(solution: SimpleNamespace, seed: int, modalities: int) -> None:
    rng = np.random.default_rng(seed)
    present = rng.random((6, modalities)) < 0.7
    scores, more = rng.normal(size=(2, 2**modalities, 6))
    credit = solution.modality_credit(scores, present)
    assert (np.isnan(credit) == ~present).all()
    own = (present * 2 ** np.arange(modalities)).sum(1)
    gain = scores[own, np.arange(6)] - scores[0]
    np.testing.assert_allclose(np.nansum(credit, 1), np.where(present.any(1), gain, 0), atol=1e-12)
    both = solution.modality_credit(scores + 2 * more, present)
    np.testing.assert_allclose(both, credit + 2 * solution.modality_credit(more, present), atol=1e-12)
    for order in itertools.islice(itertools.permutations(range(modalities)), 6):  # names do not matter
        renamed = [sum(1 << order[m] for m in range(modalities) if s >> m & 1) for s in range(2**modalities)]
        again = solution.modality_credit(scores[renamed], present[:, list(order)])
        np.testing.assert_allclose(again, credit[:, list(order)], atol=1e-12)
