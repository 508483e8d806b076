"""Cross-modal fusion: what an item is, from what its text, image and audio say.

Each modality arrives as a few tokens. Learned queries attend over all of them at once, so that
a missing modality is only a mask, never a zero vector that votes. The queries' answers become
the item's vector: the decoder reads it, the softmax compares with it, and the quantiser turns
it into a semantic ID. Vaswani et al. 2017, eq. 1, with keys from several encoders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from m6rec_mini.transformer import Attention


@dataclass(frozen=True)
class FusionConfig:
    """How the modalities of an item are joined."""

    kind: Literal["attention", "concatenation"] = "attention"
    dim: int = 64  # width of the item vector
    heads: int = 4
    queries: int = 4  # how many questions are asked of an item's tokens
    dropout: float = 0.0
    drop_modality: float = 0.05  # in training: how often a modality is hidden, so that none is leaned on


def check_present(present: Bool[Tensor, "items tokens"]) -> None:
    """Raise ValueError if an item has no token at all: averaging nothing gives NaN three layers later."""
    empty = (~present.any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"items {empty[:5]} have no modality present; leave them out before fusion")


class CrossModalFusion(nn.Module):
    """Fuse an item's modality tokens into one vector, by attention of learned queries."""

    def __init__(self, config: FusionConfig, token_dim: int, tokens: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(config.queries, config.dim) * config.dim**-0.5)
        self.widen = PlaceWise(tokens, token_dim, config.dim)
        self.norm = nn.LayerNorm(config.dim)
        self.attention = Attention(config.dim, config.heads)
        self.head = VectorHead(config.queries * config.dim, config)

    def forward(
        self, tokens: Float[Tensor, "items tokens token_dim"], present: Bool[Tensor, "items tokens"]
    ) -> Float[Tensor, "items dim"]:
        """One vector per item; raises ValueError for an item with nothing present."""
        check_present(present)
        context = self.norm(self.widen(tokens))
        queries = self.queries.expand(len(tokens), -1, -1)  # items, queries, dim
        fused = self.attention(queries, context, present[:, None, None])  # items, queries, dim
        return cast(Tensor, self.head(fused.flatten(1)))  # items, queries * dim -> items, dim

    @torch.no_grad()
    def weights(
        self, tokens: Float[Tensor, "items tokens token_dim"], present: Bool[Tensor, "items tokens"]
    ) -> Float[Tensor, "items tokens"]:
        """How much attention each token gets, averaged over queries and heads; rows sum to 1."""
        check_present(present)
        query = self.attention.split(self.attention.query(self.queries[None]))
        key = self.attention.split(self.attention.key(self.norm(self.widen(tokens))))
        scores = query @ key.transpose(2, 3) / key.shape[-1] ** 0.5  # items, heads, queries, tokens
        weights: Tensor = scores.masked_fill(~present[:, None, None], -torch.inf).softmax(-1)
        return weights.mean((1, 2))


class PlaceWise(nn.Module):
    """A linear layer of its own for each place: the third number of a picture is not that of a sound."""

    def __init__(self, places: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(places, inputs, outputs) * inputs**-0.5)
        self.bias = nn.Parameter(torch.zeros(places, outputs))

    def forward(self, x: Float[Tensor, "items places inputs"]) -> Float[Tensor, "items places outputs"]:
        """Multiply each token by the matrix of its place."""
        return torch.einsum("npi,pio->npo", x, self.weight) + self.bias


class Concatenation(nn.Module):
    """The ablation: modality tokens side by side, zeros where one is missing."""

    def __init__(self, config: FusionConfig, token_dim: int, tokens: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(token_dim)
        self.head = VectorHead(tokens * token_dim, config)

    def forward(
        self, tokens: Float[Tensor, "items tokens token_dim"], present: Bool[Tensor, "items tokens"]
    ) -> Float[Tensor, "items dim"]:
        """One vector per item; raises ValueError for an item with nothing present."""
        check_present(present)
        there = self.norm(tokens) * present[..., None]
        return cast(Tensor, self.head(there.flatten(1)))  # items, tokens * token_dim -> items, dim


class VectorHead(nn.Module):
    """From what was gathered to the item's vector."""

    def __init__(self, width: int, config: FusionConfig) -> None:
        super().__init__()
        self.project = nn.Linear(width, config.dim)
        self.mlp = nn.Sequential(
            nn.LayerNorm(config.dim),
            nn.Linear(config.dim, 2 * config.dim),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(2 * config.dim, config.dim),
        )

    def forward(self, x: Float[Tensor, "items width"]) -> Float[Tensor, "items dim"]:
        """Project, then refine."""
        x = self.project(x)
        return cast(Tensor, x + self.mlp(x))


def hide_modalities(
    present: Bool[Tensor, "items tokens"], spans: dict[str, slice], rate: float
) -> Bool[Tensor, "items tokens"]:
    """Training noise: hide each modality with probability `rate`; an item that would have none left keeps all."""
    kept = present.clone()
    for span in spans.values():
        kept[:, span] &= torch.rand(len(present), 1, device=present.device) >= rate
    return torch.where(kept.any(dim=1, keepdim=True), kept, present)
