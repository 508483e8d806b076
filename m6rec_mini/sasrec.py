"""SASRec: a causal Transformer over item ids, the opponent that a new sequence model must beat.

The one idea: read a history as a language model reads a sentence, and at each event predict the
next item by a softmax over the whole catalogue. The original's one sampled negative is what made it
look weak; with the full softmax it is the strongest id model of its size (Klenitskiy and Vasilev
2023). Architecture: Kang and McAuley 2018, with the pre-norm block that all our networks share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from m6rec_mini.catalog import History, Interactions
from m6rec_mini.evaluation import Split, ndcg, target_ranks
from m6rec_mini.transformer import Block, causal_mask


@dataclass(frozen=True)
class SASRecConfig:
    """Sizes and the training schedule."""

    dim: int = 64
    layers: int = 2
    heads: int = 2
    events: int = 50  # the longest history that is read, and the length of a training window
    dropout: float = 0.3
    embedding_dropout: float = 0.3
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    batch: int = 64
    epochs: int = 200
    every: int = 5
    patience: int = 5  # validations without a better NDCG@10 before training stops
    seed: int = 0


class SASRecNet(nn.Module):
    """Item ids in, a score for every item after every event out."""

    def __init__(self, num_items: int, config: SASRecConfig) -> None:
        super().__init__()
        self.pad = num_items
        self.items = nn.Embedding(num_items + 1, config.dim, padding_idx=num_items)
        self.positions = nn.Embedding(config.events, config.dim)
        self.blocks = nn.ModuleList(Block(config.dim, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.drop = nn.Dropout(config.embedding_dropout)
        for table in (self.items, self.positions):
            nn.init.normal_(table.weight, std=0.02)

    def states(self, items: Int64[Tensor, "batch events"]) -> Float[Tensor, "batch events dim"]:
        """What is known after each event."""
        x = self.drop(self.items(items) + self.positions.weight[: items.shape[1]])
        mask = causal_mask(items.shape[1])
        for block in self.blocks:
            x = block(x, mask)
        out: Tensor = self.norm(x)
        return out

    def logits(self, states: Float[Tensor, "*any dim"]) -> Float[Tensor, "*any items"]:
        """Inner product with every item; input and output share the table."""
        return states @ self.items.weight[:-1].T
