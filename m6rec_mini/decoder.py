"""The generative decoder: it reads a history and is read out in three ways.

A causal Transformer reads one token per event: the item's fused vector, the action and the time
since the event before. After any event its state can be read as

* *vectors*: compared with every item's vector, one full softmax over the catalogue;
* *codes*: the next item's semantic ID, written level by level (TIGER, Rajput et al. 2023);
* *words*: what the next item will be about, or why a given item fits, written word by word.

The lower blocks read, and vectors are compared with what they say. The upper blocks write: codes
and words continue the sequence there, so learning to write cannot spoil what was learnt by reading.
In training, many positions of a history each grow such a *branch*: a branch sees the states up to
its position and itself, never its siblings, so one pass trains what generation with a KV cache will
later do, token for token.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from m6rec_mini.catalog import ACTIONS
from m6rec_mini.transformer import Block, Caches, causal_mask

GAPS = 16  # buckets of the time since the event before: powers of four seconds


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of the decoder."""

    dim: int = 64
    layers: int = 2  # that read
    writing_layers: int = 1  # on top of them
    heads: int = 2
    dropout: float = 0.2
    events: int = 50  # how much of a history is read
    code_sizes: tuple[int, ...] = (64, 64, 64, 16)  # the last level tells items apart that share the others
    vocab: int = 4000
    words: int = 4  # most words in a topic or a reason


def gap_buckets(times: Int64[Tensor, "batch events"]) -> Int64[Tensor, "batch events"]:
    """Seconds since the event before, on a log scale; the first event of a row is in the last bucket."""
    gaps = times.diff(dim=1).clamp(min=0) + 1
    buckets = (gaps.double().log2() / 2).long().clamp(max=GAPS - 2)
    return F.pad(buckets, (1, 0), value=GAPS - 1)[:, : times.shape[1]]  # without events there is no first one


class GenerativeDecoder(nn.Module):
    """A causal Transformer over events, and the embeddings with which it writes codes and words."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.item_norm, self.project = nn.LayerNorm(dim), nn.Linear(dim, dim)
        self.action, self.gap = nn.Embedding(len(ACTIONS), dim), nn.Embedding(GAPS, dim)
        self.start = nn.Parameter(torch.zeros(dim))  # an empty history is read as this token alone
        self.position = nn.Embedding(config.events + 1, dim)
        # One table for all codes of all levels, and one row more: "now write codes".
        self.starts = (0, *accumulate(config.code_sizes))  # where each level begins in it, and where the codes end
        self.code = nn.Embedding(self.starts[-1] + 1, dim)
        # Words, and two rows more: "now write the topic", "now write the reason".
        self.word = nn.Embedding(config.vocab + 2, dim)
        self.level = nn.Embedding(max(len(config.code_sizes), config.words + 2), dim)  # place within a branch
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(dim, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(dim)
        self.writer = nn.ModuleList(Block(dim, config.heads, config.dropout) for _ in range(config.writing_layers))
        self.norm_written = nn.LayerNorm(dim)
        for table in (self.action, self.gap, self.position, self.code, self.word, self.level):
            nn.init.normal_(table.weight, std=0.02)

    # ---- reading events -------------------------------------------------------------------

    def embed_events(
        self,
        vectors: Float[Tensor, "batch events dim"],
        actions: Int64[Tensor, "batch events"],
        gaps: Int64[Tensor, "batch events"],
        seen: int = 0,
    ) -> Float[Tensor, "batch tokens dim"]:
        """One token per event, after the start token; without it if `seen` tokens of each row were read before.

        Raises ValueError if a history is longer than `config.events`.
        """
        item = self.project(self.item_norm(vectors)) + self.action(actions) + self.gap(gaps)
        if seen == 0:
            item = torch.cat([self.start.expand(len(item), 1, -1), item], dim=1)
        end = seen + item.shape[1]
        if end > self.config.events + 1:
            raise ValueError(f"{end - 1} events; this decoder reads {self.config.events}: take History.last of them")
        return cast(Tensor, self.drop(item + self.position.weight[seen:end]))

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        mask: Bool[Tensor, "#batch 1 tokens total"] | None = None,
        caches: Caches | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """States after each token. Causal unless a mask says otherwise; caches supply the tokens before."""
        return cast(Tensor, self.norm(pass_through(self.blocks, x, mask, caches)))

    def write(
        self,
        x: Float[Tensor, "batch tokens dim"],
        mask: Bool[Tensor, "#batch 1 tokens total"] | None = None,
        caches: Caches | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """The same by the blocks that write, for states that were read and the tokens that follow them."""
        return cast(Tensor, self.norm_written(pass_through(self.writer, x, mask, caches)))

    def prefill(
        self, events: Float[Tensor, "batch tokens dim"], lengths: Int64[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch dim"], Caches]:
        """Read whole histories of `lengths` events at once: the last states, and caches from which to write."""
        caches = Caches.empty(len(self.writer), len(events), events.device)
        real = torch.arange(events.shape[1], device=events.device) <= lengths[:, None]  # the start token is always real
        states = self(events)  # padding comes last, so no real token sees it
        self.write(states, caches.see(real), caches)
        return states[torch.arange(len(events), device=events.device), lengths], caches

    def grow(
        self,
        states: Float[Tensor, "batch tokens dim"],
        ends: Int64[Tensor, "batch branches"],
        branches: Float[Tensor, "batch branches length dim"],
    ) -> Float[Tensor, "batch branches length dim"]:
        """States of branches that continue a history, of which `states` were read, after token `ends`."""
        count, length = branches.shape[1:3]
        x = torch.cat([states, branches.flatten(1, 2)], dim=1)  # batch, tokens + branches * length, dim
        written = self.write(x, branch_mask(states.shape[1], ends, length))
        return cast(Tensor, written[:, states.shape[1] :].unflatten(1, (count, length)))

    # ---- codes ----------------------------------------------------------------------------

    def embed_codes(self, codes: Int64[Tensor, "*batch written"]) -> Float[Tensor, "*batch tokens dim"]:
        """The tokens [write codes, c1, c2 ...]: one more than the codes written so far."""
        offsets = torch.tensor(self.starts[: codes.shape[-1]], dtype=torch.long, device=codes.device)
        ids = F.pad(codes + offsets, (1, 0), value=self.starts[-1])
        return cast(Tensor, self.code(ids) + self.level.weight[: ids.shape[-1]])

    def code_logits(self, states: Float[Tensor, "*batch dim"], level: int) -> Float[Tensor, "*batch codes"]:
        """Scores of every code of one level."""
        return states @ self.code.weight[self.starts[level] : self.starts[level + 1]].T

    # ---- words ----------------------------------------------------------------------------

    def embed_words(
        self, words: Int64[Tensor, "*batch written"], about: Float[Tensor, "*batch dim"] | None = None
    ) -> Float[Tensor, "*batch tokens dim"]:
        """[write topic, w1 ...], or, `about` an item's vector, [that item, write reason, w1 ...]."""
        x = self.word(F.pad(words, (1, 0), value=self.config.vocab + (about is not None)))
        if about is not None:
            x = torch.cat([self.project(self.item_norm(about)).unsqueeze(-2), x], dim=-2)
        return cast(Tensor, x + self.level.weight[: x.shape[-2]])

    def word_logits(self, states: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocab"]:
        """Scores of every word."""
        return states @ self.word.weight[: self.config.vocab].T


def pass_through(
    blocks: nn.ModuleList,
    x: Float[Tensor, "batch tokens dim"],
    mask: Bool[Tensor, "#batch 1 tokens total"] | None,
    caches: Caches | None,
) -> Float[Tensor, "batch tokens dim"]:
    """Block after block; without a mask every token sees the past, in the caches and before itself."""
    if mask is None and caches is None:
        mask = causal_mask(x.shape[1], x.device)
    elif mask is None and caches is not None:
        mask = caches.see(torch.ones(x.shape[:2], dtype=torch.bool, device=x.device))
    for number, block in enumerate(blocks):
        x = block(x, mask, caches.layers[number] if caches is not None else None)
    return x


def branch_mask(
    events: int, ends: Int64[Tensor, "batch branches"], length: int
) -> Bool[Tensor, "batch 1 tokens tokens"]:
    """Who sees whom when branches of `length` tokens continue a history after their `ends`."""
    batch, count = ends.shape
    device = ends.device
    branch = torch.arange(count, device=device).repeat_interleave(length)  # which branch a token is of
    step = torch.arange(length, device=device).repeat(count)
    mask = torch.zeros(batch, events + len(branch), events + len(branch), dtype=torch.bool, device=device)
    mask[:, :events, :events] = causal_mask(events, device)[0, 0]
    mask[:, events:, :events] = torch.arange(events, device=device) <= ends.repeat_interleave(length, dim=1)[..., None]
    mask[:, events:, events:] = (branch[:, None] == branch) & (step[:, None] >= step)
    return mask[:, None]
