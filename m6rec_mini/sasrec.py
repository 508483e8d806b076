"""SASRec: a causal Transformer over item ids, the opponent that a new sequence model must beat.

The one idea: read a history as a language model reads a sentence, and after each event predict the
next item by a softmax over the whole catalogue. The original's single sampled negative is what made
it look weak; with the full softmax it is the strongest id model of its size (Klenitskiy and Vasilev
2023). Architecture: Kang and McAuley 2018, with the pre-norm block that all our networks share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from m6rec_mini.baselines import total_ndcg
from m6rec_mini.catalog import History, Interactions
from m6rec_mini.evaluation import Split
from m6rec_mini.transformer import Block, causal_mask


@dataclass(frozen=True)
class SASRecConfig:
    """Sizes and schedule; the learning rate falls along a half cosine over the epochs."""

    dim: int = 64
    layers: int = 2
    heads: int = 2
    events: int = 50  # the longest history that is read, and the longest training window
    dropout: float = 0.2
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    batch: int = 16  # windows; small batches, since many steps matter more than smooth ones
    epochs: int = 60
    every: int = 3  # epochs between validations
    patience: int = 6  # validations without a better NDCG@10 before training stops
    seed: int = 0


class SASRecNet(nn.Module):
    """Item ids in; after each event, a score for every item out. Index `num_items` is padding."""

    def __init__(self, num_items: int, config: SASRecConfig) -> None:
        super().__init__()
        self.items = nn.Embedding(num_items + 1, config.dim, padding_idx=num_items)
        self.positions = nn.Embedding(config.events, config.dim)
        self.blocks = nn.ModuleList(Block(config.dim, config.heads, config.dropout) for _ in range(config.layers))
        self.norm, self.drop = nn.LayerNorm(config.dim), nn.Dropout(config.dropout)
        nn.init.normal_(self.items.weight[:num_items], std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, items: Int64[Tensor, "batch events"]) -> Float[Tensor, "batch events dim"]:
        """What is known after each event; padding stands at the end, where no event can see it."""
        x = self.drop(self.items(items) + self.positions.weight[: items.shape[1]])
        mask = causal_mask(items.shape[1])
        for block in self.blocks:
            x = block(x, mask)
        out: Tensor = self.norm(x)
        return out

    def logits(self, states: Float[Tensor, "states dim"]) -> Float[Tensor, "states items"]:
        """Inner products with every item: input and output share one table."""
        return states @ self.items.weight[:-1].T


class SASRec:
    """The ranker; an empty history gets popularity."""

    name = "SASRec"

    def __init__(self, config: SASRecConfig | None = None) -> None:
        self.config = config or SASRecConfig()

    def fit(self, split: Split) -> SASRec:
        """Train until validation NDCG@10 stops improving; keep the best weights. Leaves torch's seed as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            self._fit(split)
        return self

    def _fit(self, split: Split) -> None:
        config, rng = self.config, np.random.default_rng(self.config.seed)
        self.net = SASRecNet(split.train.num_items, config)
        self.fallback = split.train.item_counts.astype(np.float32)
        optimizer = torch.optim.AdamW(
            self.net.parameters(), config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
        best, waited = -1.0, 0
        for epoch in range(1, config.epochs + 1):
            self._epoch(batches(windows(split.train, config.events, rng), config.batch, rng), optimizer)
            schedule.step()
            if epoch % config.every and epoch < config.epochs:
                continue
            value = total_ndcg(self.scores(split.validation.histories), split)
            waited += 1
            if value > best:
                best, waited, kept, self.chosen = value, 0, deepcopy(self.net.state_dict()), f"{epoch} epochs"
            if waited >= config.patience:
                break
        self.net.load_state_dict(kept)

    def _epoch(self, rows: Iterator[list[np.ndarray]], optimizer: torch.optim.Optimizer) -> None:
        self.net.train()
        padding = len(self.fallback)
        for batch in rows:
            events = pad(batch, padding)
            seen, following = events[:, :-1], events[:, 1:]
            real = following != padding
            loss = F.cross_entropy(self.net.logits(self.net(seen)[real]), following[real])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            optimizer.step()

    @torch.no_grad()
    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "cases items"]:
        """Logits of the next item after the last event."""
        self.net.eval()
        result = np.tile(self.fallback, (len(histories), 1))
        known = [row for row, history in enumerate(histories) if len(history)]
        if known:
            rows = [histories[row].last(self.config.events).items for row in known]
            states = self.net(pad(rows, len(self.fallback)))
            last = torch.tensor([len(row) - 1 for row in rows])
            result[known] = self.net.logits(states[torch.arange(len(rows)), last]).numpy()
        return result


def windows(train: Interactions, events: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Runs of at most events + 1 items of one user, cut at random places, the last one always.

    All but the first of a user's windows are full, so that a prediction rarely lacks its past.
    """
    result = []
    for start, end in zip(train.bounds[:-1], train.bounds[1:], strict=True):
        items = train.items[start:end]
        if len(items) < 2:
            continue
        first = int(rng.integers(1, events + 1)) if len(items) > events + 1 else len(items) - 1
        targets = [*range(first, len(items) - 1, events), len(items) - 1]  # the last item of each window
        result += [items[max(target - events, 0) : target + 1] for target in targets]
    return result


def batches(rows: list[np.ndarray], size: int, rng: np.random.Generator) -> Iterator[list[np.ndarray]]:
    """Rows of about equal length together, so that little is padded; batches in random order."""
    order = np.argsort([len(row) + rng.uniform(0, 8) for row in rows])
    for start in rng.permutation(np.arange(0, len(rows), size)):
        yield [rows[i] for i in order[start : start + size]]


def pad(rows: Sequence[Int64[np.ndarray, " _"]], padding: int) -> Int64[Tensor, "batch events"]:
    """Rows of different length as one matrix, filled up at the end."""
    return nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], True, padding)
