"""BPR-MF: a vector for every user and item, trained so that what was touched outranks what was not.

The one idea: do not predict a rating, order a pair. For a user, an item that they touched and one
that they did not, the loss is -log sigmoid(score of the first - score of the second).
Rendle et al. 2009, with item biases and Adam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from m6rec_mini.baselines import history_weights, total_ndcg, user_items
from m6rec_mini.catalog import History, Interactions
from m6rec_mini.evaluation import Split


@dataclass(frozen=True)
class BPRConfig:
    """Size, schedule, and the grid of half-lives (in events) with which a history is folded in."""

    dim: int = 64
    learning_rate: float = 3e-3
    regularisation: float = 0.02
    batch: int = 512
    epochs: int = 60
    every: int = 5  # epochs between validations
    patience: int = 3  # validations without a better NDCG@10 before training stops
    half_lives: Sequence[float] = (inf, 5.0, 2.0)
    seed: int = 0


class Factors(nn.Module):
    """The vectors, and the loss of a batch of triples."""

    def __init__(self, num_users: int, num_items: int, config: BPRConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.regularisation = config.regularisation
        self.users, self.items = (
            nn.Parameter(torch.randn(n, config.dim, generator=generator) / config.dim**0.5)
            for n in (num_users, num_items)
        )
        self.biases = nn.Parameter(torch.zeros(num_items))

    def forward(
        self, user: Int64[Tensor, " batch"], touched: Int64[Tensor, " batch"], other: Int64[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """-log sigmoid of the difference in score, plus the squared lengths of what took part."""
        u, i, j = self.users[user], self.items[touched], self.items[other]
        difference = (u * (i - j)).sum(1) + self.biases[touched] - self.biases[other]
        lengths = (u.square() + i.square() + j.square()).sum(1)
        return (-F.logsigmoid(difference) + self.regularisation / 2 * lengths).mean()


@dataclass(frozen=True, eq=False)
class FoldIn:
    """Scores for users without a vector of their own: the weighted mean of their items' vectors.

    The mean is stretched to the mean `length` of trained users, for a mean of vectors is short and
    would leave all to the biases. Known users are ranked so no worse than by their own vectors.
    """

    items: Float32[np.ndarray, "items dim"]
    biases: Float32[np.ndarray, " items"]
    length: float
    half_life: float

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "cases items"]:
        """Biases alone for an empty history."""
        users = history_weights(histories, len(self.items), self.half_life) @ self.items  # cases, dim
        users *= self.length / np.maximum(np.linalg.norm(users, axis=1, keepdims=True), 1e-12)
        return np.asarray(users @ self.items.T + self.biases, np.float32)


class BPRMF:
    """Matrix factorisation by pairwise ranking; histories are folded in, since they come without a user."""

    name = "BPR-MF"

    def __init__(self, config: BPRConfig | None = None) -> None:
        self.config = config or BPRConfig()

    def fit(self, split: Split) -> BPRMF:
        """Train until validation stops improving; keep the best vectors and half-life."""
        config, train = self.config, split.train
        generator = torch.Generator().manual_seed(config.seed)
        factors = Factors(train.num_users, train.num_items, config, generator)
        optimizer = torch.optim.Adam(factors.parameters(), lr=config.learning_rate)
        seen = torch.from_numpy(user_items(train).toarray() > 0)  # users, items
        best, waited = -1.0, 0
        for epoch in range(1, config.epochs + 1):
            self._epoch(factors, optimizer, train, seen, generator)
            if epoch % config.every and epoch < config.epochs:
                continue
            waited += 1
            for fold_in in self._fold_ins(factors):
                value = total_ndcg(fold_in.scores(split.validation.histories), split)
                if value > best:
                    best, waited, self.fold_in = value, 0, fold_in
                    self.chosen = f"{epoch} epochs, half-life {fold_in.half_life:g}"
            if waited >= config.patience:
                break
        return self

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "cases items"]:
        """Inner products with the folded-in user, plus biases."""
        return self.fold_in.scores(histories)

    def _epoch(
        self,
        factors: Factors,
        optimizer: torch.optim.Optimizer,
        train: Interactions,
        seen: torch.Tensor,
        generator: torch.Generator,
    ) -> None:
        users, items = torch.from_numpy(train.users), torch.from_numpy(train.items)
        for rows in torch.split(torch.randperm(len(train), generator=generator), self.config.batch):
            other = torch.randint(train.num_items, rows.shape, generator=generator)
            unseen = ~seen[users[rows], other]  # a negative that was touched is none
            rows, other = rows[unseen], other[unseen]
            loss: Tensor = factors(users[rows], items[rows], other)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _fold_ins(self, factors: Factors) -> list[FoldIn]:
        items, biases = (x.detach().numpy().copy() for x in (factors.items, factors.biases))
        length = float(factors.users.detach().norm(dim=1).mean())
        return [FoldIn(items, biases, length, half_life) for half_life in self.config.half_lives]
