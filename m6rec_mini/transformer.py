"""The one Transformer block that text, audio, fusion and decoder share.

Pre-norm blocks (Xiong et al. 2020) of multi-head attention (Vaswani et al. 2017, eq. 1) and a
GELU network. A mask says who may see whom: everything (BERT), the past (GPT), or any pattern
between, such as the branches on which the decoder trains its codes. With a `Cache` the keys and
values of earlier tokens are kept, so that each new token costs one step instead of a whole pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn


@dataclass
class Cache:
    """Keys and values of one attention layer for the tokens seen so far."""

    keys: Float[Tensor, "batch heads past width"] | None = None
    values: Float[Tensor, "batch heads past width"] | None = None

    def append(
        self, keys: Float[Tensor, "batch heads new width"], values: Float[Tensor, "batch heads new width"]
    ) -> tuple[Float[Tensor, "batch heads total width"], Float[Tensor, "batch heads total width"]]:
        """Add the new tokens; return those of all tokens."""
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


@dataclass
class Caches:
    """One `Cache` per layer, which past tokens are real, and how a beam search carries them along."""

    layers: list[Cache]
    visible: Bool[Tensor, "batch past"]  # False for padding between a short history and what follows

    @classmethod
    def empty(cls, layers: int, batch: int, device: torch.device | str | None = None) -> Caches:
        """Caches that have seen nothing."""
        return cls([Cache() for _ in range(layers)], torch.zeros(batch, 0, dtype=torch.bool, device=device))

    def see(self, real: Bool[Tensor, "batch new"]) -> Bool[Tensor, "batch 1 new total"]:
        """Take in new tokens, and say what each of them may look at: real tokens, none after itself."""
        past, new = self.visible.shape[1], real.shape[1]
        self.visible = torch.cat([self.visible, real], dim=1)
        order = F.pad(causal_mask(new, real.device), (past, 0), value=True)
        itself = F.pad(torch.eye(new, dtype=torch.bool, device=real.device), (past, 0))  # padding must see something
        return order & (self.visible[:, None, None] | itself)

    def pick(self, rows: Int64[Tensor, " picked"]) -> Caches:
        """The caches of the given batch rows, in that order; rows may repeat."""
        layers = [
            Cache(None if c.keys is None else c.keys[rows], None if c.values is None else c.values[rows])
            for c in self.layers
        ]
        return Caches(layers, self.visible[rows])


class Attention(nn.Module):
    """Multi-head attention of `query` over `context` (itself, unless given)."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"width {dim} cannot be split over {heads} heads; choose a multiple of {heads}")
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def split(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch heads tokens width"]:
        """Give each head its share of the width."""
        by_head = x.reshape(*x.shape[:2], self.heads, x.shape[2] // self.heads)  # batch, tokens, heads, width
        return by_head.transpose(1, 2)  # batch, heads, tokens, width

    def forward(
        self,
        query: Float[Tensor, "batch queries dim"],
        context: Float[Tensor, "batch keys dim"] | None = None,
        mask: Bool[Tensor, "#batch #heads #queries total"] | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch queries dim"]:
        """Attend where `mask` is true (everywhere if None); `cache` adds the tokens before these."""
        context = query if context is None else context
        q, k, v = self.split(self.query(query)), self.split(self.key(context)), self.split(self.value(context))
        if cache is not None:
            k, v = cache.append(k, v)
        mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=self.dropout if self.training else 0.0)
        return cast(Tensor, self.out(mixed.transpose(1, 2).flatten(2)))  # batch, queries, heads * width = dim


class Block(nn.Module):
    """Attention, then a two-layer network, each added to what came in."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0, widen: int = 4) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, dropout)
        self.mlp = nn.Sequential(nn.Linear(dim, widen * dim), nn.GELU(), nn.Linear(widen * dim, dim))
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        mask: Bool[Tensor, "#batch #heads #tokens total"] | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """The tokens, each informed by those that `mask` lets it see."""
        x = x + self.drop(self.attention(self.norm_attention(x), mask=mask, cache=cache))
        return cast(Tensor, x + self.drop(self.mlp(self.norm_mlp(x))))


def causal_mask(tokens: int, device: torch.device | str | None = None) -> Bool[Tensor, "1 1 tokens tokens"]:
    """True where a token may look: at itself and at what came before."""
    return torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()[None, None]
