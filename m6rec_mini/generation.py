"""Writing with the decoder: beam search over semantic IDs, and words one by one.

A beam keeps the `width` likeliest beginnings and extends each by every code that the trie
allows. Probabilities are normalised over the allowed codes, so all valid IDs together have
probability one, and a beam as wide as the catalogue gives the exact ranking.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from m6rec_mini.decoder import GenerativeDecoder
from m6rec_mini.semantic_ids import Trie
from m6rec_mini.transformer import Caches


@dataclass(frozen=True, eq=False)
class TrieTensors:
    """The trie's tables where the decoder lives."""

    tables: tuple[Int64[Tensor, "_nodes _codes"], ...]

    @classmethod
    def of(cls, trie: Trie, device: torch.device | str = "cpu") -> TrieTensors:
        """Copy the tables to a device."""
        return cls(tuple(torch.from_numpy(table).to(device) for table in trie.tables))

    def log_probs(
        self, logits: Float[Tensor, "*batch codes"], nodes: Int64[Tensor, "*batch"], level: int
    ) -> Float[Tensor, "*batch codes"]:
        """Log-probabilities among the codes that may follow `nodes`; -inf for the others."""
        return logits.masked_fill(self.tables[level][nodes] < 0, -torch.inf).log_softmax(-1)


@torch.no_grad()
def beam_search(
    decoder: GenerativeDecoder, caches: Caches, trie: TrieTensors, width: int
) -> tuple[Int64[Tensor, "batch found"], Float[Tensor, "batch found"]]:
    """The likeliest items after the histories in `caches`, best first, with log-probabilities.

    Fewer than `width` are found only where the catalogue is smaller.
    """
    batch = len(caches.visible)
    device = trie.tables[0].device
    nodes = torch.zeros(batch, 1, dtype=torch.long, device=device)  # batch, beams
    scores = torch.zeros(batch, 1, device=device)
    codes = torch.zeros(batch, 1, 0, dtype=torch.long, device=device)
    rows = torch.arange(batch, device=device)
    for level, table in enumerate(trie.tables):
        token = decoder.embed_codes(codes.flatten(0, 1))[:, -1:]  # batch * beams, 1, dim
        caches = caches.pick(rows)
        logits = decoder.code_logits(decoder.write(token, caches=caches)[:, -1], level)
        beams = nodes.shape[1]
        steps = trie.log_probs(logits.view(batch, beams, -1), nodes, level)  # batch, beams, codes
        total = (scores[..., None] + steps).flatten(1)  # batch, beams * codes
        alive = int((total[0] > -torch.inf).sum())  # the same in every row, until a beam is full
        scores, flat = total.topk(min(width, alive), dim=1)
        parent, code = flat // table.shape[1], flat % table.shape[1]
        nodes = table[nodes.gather(1, parent), code]
        codes = torch.cat([codes.gather(1, parent[..., None].expand(-1, -1, level)), code[..., None]], dim=2)
        rows = (torch.arange(batch, device=device)[:, None] * beams + parent).flatten()
    return nodes, scores


@torch.no_grad()
def id_log_likelihood(
    decoder: GenerativeDecoder,
    states: Float[Tensor, "1 tokens dim"],
    ids: Int64[Tensor, "items levels"],
    trie: TrieTensors,
    batch: int = 64,
) -> Float[Tensor, " items"]:
    """log p(ID | history) of each item, without a cache: the definition that the beam approximates.

    `states` are what the decoder has read of one history.
    """
    end = torch.tensor([[states.shape[1] - 1]], device=states.device)
    scores = []
    for chunk in torch.split(ids, batch):
        branches = decoder.embed_codes(chunk[:, :-1])[:, None]  # items, 1 branch, levels, dim
        written = decoder.grow(states.expand(len(chunk), -1, -1), end.expand(len(chunk), -1), branches)
        scores.append(code_log_likelihood(decoder, written[:, 0], chunk, trie))
    return torch.cat(scores)


def code_log_likelihood(
    decoder: GenerativeDecoder,
    states: Float[Tensor, "rows levels dim"],
    ids: Int64[Tensor, "rows levels"],
    trie: TrieTensors,
) -> Float[Tensor, " rows"]:
    """Sum over levels of log p(code | history, codes before), for states that have read those codes."""
    node, total = torch.zeros_like(ids[:, 0]), states.new_zeros(len(ids))
    for level, table in enumerate(trie.tables):
        steps = trie.log_probs(decoder.code_logits(states[:, level], level), node, level)
        total = total + steps.gather(1, ids[:, level, None])[:, 0]
        node = table[node, ids[:, level]]
    return total


@torch.no_grad()
def write_words(
    decoder: GenerativeDecoder,
    caches: Caches,
    end: int,
    allowed: Bool[Tensor, "batch vocab"],
    about: Float[Tensor, "batch dim"] | None = None,
) -> Int64[Tensor, "batch written"]:
    """The likeliest words one by one, none twice: the topic of what comes next, or why the items `about` fit.

    Only `allowed` words are used, at least one if there is one; rows that have ended repeat `end`.
    `caches` stay as they are.
    """
    caches = caches.pick(torch.arange(len(allowed), device=allowed.device))
    allowed = allowed.clone()
    allowed[:, end] = False
    allowed[:, end] = ~allowed.any(1)
    words = torch.zeros(len(allowed), 0, dtype=torch.long, device=allowed.device)
    token = decoder.embed_words(words, about)
    for _ in range(decoder.config.words):
        logits = decoder.word_logits(decoder.write(token, caches=caches)[:, -1])
        word = logits.masked_fill(~allowed, -torch.inf).argmax(1, keepdim=True)
        words = torch.cat([words, word], dim=1)
        token = decoder.embed_words(words, about)[:, -1:]
        # A written word is spent; from now on the end is open, and once taken nothing else is.
        allowed.scatter_(1, word, False)
        allowed &= word != end
        allowed[:, end] = True
    return words
