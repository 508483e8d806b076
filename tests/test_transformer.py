"""Attention is the textbook's, masks hide, and a cache changes nothing but the time it takes."""

from __future__ import annotations

import pytest
import torch
from builders import CLOSE, lively, randn, seeded
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from m6rec_mini.transformer import Attention, Block, Cache, Caches, causal_mask


def as_torch(ours: Attention, dim: int, heads: int) -> nn.MultiheadAttention:
    """PyTorch's own attention with our weights."""
    theirs = nn.MultiheadAttention(dim, heads, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    return theirs


@given(
    batch=st.integers(1, 3),
    queries=st.integers(1, 4),
    keys=st.integers(1, 5),
    heads=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 1000),
)
def test_attention_agrees_with_pytorch(batch: int, queries: int, keys: int, heads: int, seed: int) -> None:
    ours = lively(Attention(8, heads), seed)
    query, context = randn(batch, queries, 8, seed=seed), randn(batch, keys, 8, seed=seed + 1)
    mask = torch.rand(batch, 1, queries, keys, generator=seeded(seed)) < 0.6
    mask[..., 0] = True  # a query that sees nothing has no answer
    theirs = as_torch(ours, 8, heads)
    expected, _ = theirs(query, context, context, attn_mask=~mask.repeat(1, heads, 1, 1).flatten(0, 1))
    torch.testing.assert_close(ours(query, context, mask), expected, **CLOSE)
    torch.testing.assert_close(ours(query, context), theirs(query, context, context)[0], **CLOSE)
    torch.testing.assert_close(ours(query), theirs(query, query, query)[0], **CLOSE)


def test_attention_worked_by_hand() -> None:
    """Scores 0 and ln 3 (after division by √1) give weights 1/4 and 3/4 of the values 4 and 8."""
    attention = Attention(1, 1).eval()
    with torch.no_grad():
        for layer in (attention.query, attention.key, attention.value, attention.out):
            layer.weight.fill_(1.0)
            layer.bias.zero_()
        attention.key.weight.fill_(float(torch.tensor(3.0).log()) / 4)
        attention.key.bias.fill_(-float(torch.tensor(3.0).log()))
    out = attention(torch.ones(1, 1, 1), torch.tensor([[[4.0], [8.0]]]))
    torch.testing.assert_close(out, torch.tensor([[[7.0]]]))


def test_what_is_masked_cannot_matter() -> None:
    attention, query, context = lively(Attention(8, 2)), randn(2, 3, 8), randn(2, 4, 8, seed=1)
    mask = torch.ones(2, 1, 1, 4, dtype=torch.bool)
    mask[1, ..., 2] = False
    changed = context.clone()
    changed[1, 2] = 1e4
    assert torch.equal(attention(query, changed, mask), attention(query, context, mask))
    torch.testing.assert_close(
        attention(query, context, mask)[1:], attention(query[1:], context[1:, [0, 1, 3]]), **CLOSE
    )
    assert not torch.allclose(attention(query, changed)[1], attention(query, context)[1])


def test_width_must_split_over_the_heads() -> None:
    with pytest.raises(ValueError, match=r"width 10 .* 4 heads"):
        Attention(10, 4)


def test_an_empty_batch_is_allowed() -> None:
    """A process may get no row of a small batch."""
    assert lively(Block(8, 2))(torch.zeros(0, 3, 8), causal_mask(3)).shape == (0, 3, 8)


def test_causal_mask_of_three() -> None:
    assert causal_mask(3).int().tolist() == [[[[1, 0, 0], [1, 1, 0], [1, 1, 1]]]]


def test_block_adds_to_what_came_in() -> None:
    block, x = lively(Block(8, 2)), randn(2, 3, 8)
    with torch.no_grad():
        for layer in (block.attention.out, block.mlp[-1]):
            layer.weight.zero_()
            layer.bias.zero_()
    assert torch.equal(block(x), x)


def test_block_worked_step_by_step() -> None:
    block, x = lively(Block(8, 2)), randn(2, 3, 8)

    def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
        scaled = (x - x.mean(-1, keepdim=True)) / x.std(-1, correction=0, keepdim=True)
        return scaled * layer.weight + layer.bias

    after = x + block.attention(norm(x, block.norm_attention))
    torch.testing.assert_close(block(x), after + block.mlp(norm(after, block.norm_mlp)), atol=1e-4, rtol=1e-3)


@given(tokens=st.integers(2, 6), changed=st.integers(0, 5), seed=st.integers(0, 100))
def test_changing_a_token_never_changes_earlier_states(tokens: int, changed: int, seed: int) -> None:
    changed = min(changed, tokens - 1)
    block, x = lively(Block(8, 2), seed), randn(1, tokens, 8, seed=seed)
    other = x.clone()
    other[:, changed] += 1 + randn(8, seed=seed + 1)
    before, after = block(x, causal_mask(tokens)), block(other, causal_mask(tokens))
    torch.testing.assert_close(after[:, :changed], before[:, :changed], **CLOSE)
    for later in range(changed, tokens):
        assert not torch.allclose(after[:, later], before[:, later], **CLOSE)


def test_dropout_works_in_training_only() -> None:
    block, x = lively(Block(8, 2, dropout=0.5)), randn(2, 3, 8)
    assert torch.equal(block(x), block(x))
    block.train()
    assert not torch.equal(block(x), block(x))
    block.drop.p = 0.0  # what is left is the dropout of attention weights
    assert not torch.equal(block(x), block(x))
    block.drop.p, block.attention.dropout = 0.5, 0.0  # and now that of what attention adds
    with torch.no_grad():
        block.mlp[-1].weight.zero_()
        block.mlp[-1].bias.zero_()
    assert not torch.equal(block(x), block(x))


def test_gradients_reach_every_parameter_but_the_bias_of_the_keys() -> None:
    """Every score of a query moves alike with the bias of the keys, and a softmax does not see that."""
    block = lively(Block(8, 2)).train()
    (block(randn(2, 5, 8), causal_mask(5)) * randn(2, 5, 8, seed=1)).sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        if name == "attention.key.bias":
            assert parameter.grad.abs().max() < 1e-4
        else:
            assert parameter.grad.abs().max() > 1e-4, name


# The cache


def run(blocks: list[Block], x: Tensor, caches: Caches | None = None, real: Tensor | None = None) -> Tensor:
    real = torch.ones(x.shape[:2], dtype=torch.bool) if real is None else real
    mask = causal_mask(x.shape[1]) if caches is None else caches.see(real)
    for number, block in enumerate(blocks):
        x = block(x, mask, None if caches is None else caches.layers[number])
    return x


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    return [lively(Block(8, 2), seed) for seed in range(2)]


@given(chunks=st.lists(st.integers(1, 3), min_size=1, max_size=5), seed=st.integers(0, 100))
def test_the_cache_changes_nothing(blocks: list[Block], chunks: list[int], seed: int) -> None:
    x, caches = randn(2, sum(chunks), 8, seed=seed), Caches.empty(2, 2)
    parts = [run(blocks, chunk, caches) for chunk in x.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), run(blocks, x), **CLOSE)


def test_padding_between_is_never_seen(blocks: list[Block]) -> None:
    """Row 1 has two tokens and one of padding; what follows goes on as if the padding were not there."""
    x, more = randn(2, 3, 8), randn(2, 2, 8, seed=1)
    real = torch.tensor([[True, True, True], [True, True, False]])
    caches = Caches.empty(2, 2)
    run(blocks, x, caches, real)
    after = run(blocks, more, caches)
    torch.testing.assert_close(after[:1], run(blocks, torch.cat([x, more], dim=1)[:1])[:, 3:], **CLOSE)
    torch.testing.assert_close(after[1:], run(blocks, torch.cat([x[1:, :2], more[1:]], dim=1))[:, 2:], **CLOSE)


def test_who_may_look_at_what() -> None:
    caches = Caches.empty(1, 1)
    first = caches.see(torch.tensor([[True, False]]))
    assert first.int().tolist() == [[[[1, 0], [1, 1]]]]  # padding sees itself, or its softmax would be empty
    second = caches.see(torch.tensor([[True, True]]))
    assert second.int().tolist() == [[[[1, 0, 1, 0], [1, 0, 1, 1]]]]
    assert caches.visible.int().tolist() == [[1, 0, 1, 1]]


def test_padding_from_the_start_gives_no_nan(blocks: list[Block]) -> None:
    out = run(blocks, randn(1, 2, 8), Caches.empty(2, 1), torch.tensor([[False, True]]))
    assert out.isfinite().all()


def test_picked_rows_go_on_alone(blocks: list[Block]) -> None:
    x, more = randn(2, 3, 8), randn(3, 1, 8, seed=1)
    caches = Caches.empty(2, 2)
    run(blocks, x, caches)
    picked = caches.pick(torch.tensor([1, 0, 1]))
    expected = run(blocks, torch.cat([x[[1, 0, 1]], more], dim=1))[:, 3:]
    torch.testing.assert_close(run(blocks, more, picked), expected, **CLOSE)
    assert picked.visible.shape == (3, 4)
    assert caches.visible.shape == (2, 3)
    assert caches.layers[0].keys is not None
    assert caches.layers[0].keys.shape == (2, 2, 3, 4)  # batch, heads, tokens, width: as before


def test_empty_caches_can_be_picked() -> None:
    picked = Caches.empty(2, 3).pick(torch.tensor([0, 2]))
    assert picked.visible.shape == (2, 0)
    assert [layer.keys for layer in picked.layers] == [None, None]


def test_a_cache_returns_all_tokens_in_order() -> None:
    cache, x = Cache(), randn(1, 1, 3, 2)
    cache.append(x[:, :, :2], -x[:, :, :2])
    keys, values = cache.append(x[:, :, 2:], -x[:, :, 2:])
    assert torch.equal(keys, x)
    assert torch.equal(values, -x)
