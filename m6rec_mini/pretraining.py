"""Generative pretraining: the objectives, from one item's words to the next item of a history.

Two stages, each a module whose `forward` is its loss. `PretrainEncoders` teaches the encoders what
items say: hidden words (BERT), next words (GPT), and which picture and sound belong to which text
(CLIP, Radford et al. 2021). `TrainDecoder` teaches fusion and decoder what comes next in a history:
the item by full softmax at every position, then its semantic ID, its topic and the reason in words.

For data-parallel training a stage is given the whole batch, and computes its `share` of the rows;
the shares of all processes add up to the loss of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from m6rec_mini.content import BOS, EOS, MASK, PAD, Content
from m6rec_mini.encoders import ItemEncoder, TextEncoder, module_name, without_padding
from m6rec_mini.generation import TrieTensors, code_log_likelihood
from m6rec_mini.model import Batch, M6RecMini

IGNORE = -100  # a target that F.cross_entropy leaves out


@dataclass(frozen=True)
class Share:
    """Which rows of a batch this process computes: every `of`-th, from `rank`."""

    rank: int = 0
    of: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """Its rows."""
        return x[self.rank :: self.of]


ALONE = Share()


def mask_tokens(
    ids: Int64[Tensor, "items length"], vocab: int, generator: torch.Generator, rate: float = 0.15
) -> tuple[Int64[Tensor, "items length"], Int64[Tensor, "items length"]]:
    """BERT's corruption: of `rate` of the tokens, 80% become [MASK], 10% another word, 10% stay.

    Returns what the encoder reads and what it must say (IGNORE where nothing is asked). The 10%
    that stay are asked too: the encoder cannot know which words it may trust (Devlin et al. 2019, 3.1).
    """
    draw = torch.rand(ids.shape, generator=generator)
    special = (ids == PAD) | (ids == BOS) | (ids == EOS)
    asked = (draw < rate) & ~special
    kind = torch.rand(ids.shape, generator=generator)
    words = torch.randint(EOS + 1, vocab, ids.shape, generator=generator)
    read = torch.where(asked & (kind < 0.8), MASK, torch.where(asked & (kind >= 0.9), words, ids))
    return read, ids.masked_fill(~asked, IGNORE)


def masked_text_loss(
    encoder: TextEncoder, read: Int64[Tensor, "items length"], asked: Int64[Tensor, "items length"]
) -> Float[Tensor, ""]:
    """Sum over the asked tokens of -log p(word | words on both sides)."""
    where = asked != IGNORE
    logits = encoder.word_logits(encoder.states(read, causal=False)[where])
    return F.cross_entropy(logits, asked[where], reduction="sum")


def causal_text_loss(encoder: TextEncoder, ids: Int64[Tensor, "items length"]) -> Float[Tensor, ""]:
    """Sum over all tokens but the first of -log p(word | words before)."""
    target = ids[:, 1:]
    where = target != PAD
    logits = encoder.word_logits(encoder.states(ids, causal=True)[:, :-1][where])
    return F.cross_entropy(logits, target[where], reduction="sum")


def info_nce(
    a: Float[Tensor, "pairs dim"], b: Float[Tensor, "pairs dim"], temperature: float
) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
    """InfoNCE both ways: -log softmax of each pair's cosine among all partners (van den Oord et al. 2018)."""
    logits = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / temperature
    own = torch.arange(len(a), device=a.device)
    return F.cross_entropy(logits, own, reduction="none"), F.cross_entropy(logits.T, own, reduction="none")


@dataclass(frozen=True)
class PretrainConfig:
    """Weights of the objectives for the encoders."""

    masked_text: float = 1.0
    causal_text: float = 1.0
    alignment: float = 1.0
    temperature: float = 0.07
    mask_rate: float = 0.15


class PretrainEncoders(nn.Module):
    """Stage one: words within a text, and modalities of the same item."""

    def __init__(self, encoders: ItemEncoder, vocab: int, config: PretrainConfig) -> None:
        super().__init__()
        self.encoders, self.vocab, self.config = encoders, vocab, config
        # Aligned is a projection of the tokens, not the tokens: each modality keeps what the others lack.
        self.heads = nn.ModuleDict({module_name(m): nn.Linear(encoders.dim, encoders.dim) for m in encoders.spans})

    def forward(self, content: Content, seed: int, share: Share = ALONE) -> Float[Tensor, ""]:
        """This process's share of the loss of one batch of items; `seed` draws the hidden words."""
        loss = self.encoders.place.sum() * 0  # a lone picture asks for nothing, but backward() needs a graph
        if "text" in self.encoders.spans:
            loss = loss + self.text_loss(content.text[content.present["text"]], seed, share)
        if self.config.alignment > 0 and len(self.encoders.spans) > 1:
            loss = loss + self.config.alignment * self.alignment_loss(content, share)
        return loss

    def text_loss(self, ids: Int64[Tensor, "items length"], seed: int, share: Share) -> Float[Tensor, ""]:
        """Mean loss per asked word of both directions of reading."""
        encoder = self.encoders.encoders["text"]
        assert isinstance(encoder, TextEncoder)
        ids = without_padding(ids)
        read, asked = mask_tokens(ids.cpu(), self.vocab, torch.Generator().manual_seed(seed), self.config.mask_rate)
        masked_total = (asked != IGNORE).sum().clamp(min=1).item()
        causal_total = (ids[:, 1:] != PAD).sum().clamp(min=1).item()
        masked = masked_text_loss(encoder, share(read).to(ids.device), share(asked).to(ids.device)) / masked_total
        causal = causal_text_loss(encoder, share(ids)) / causal_total
        return self.config.masked_text * masked + self.config.causal_text * causal

    def alignment_loss(self, content: Content, share: Share) -> Float[Tensor, ""]:
        """Mean over pairs of modalities of InfoNCE among the items that have both.

        Each process encodes the whole batch, since every item is every other's negative.
        """
        tokens, _ = self.encoders(content)
        summary = {
            name: self.heads[module_name(name)](tokens[:, span].mean(1)) for name, span in self.encoders.spans.items()
        }
        losses = []
        for a, b in combinations(self.encoders.spans, 2):
            both = content.present[a] & content.present[b]
            if int(both.sum()) > 1:
                one, other = info_nce(summary[a][both], summary[b][both], self.config.temperature)
                losses.append((share(one).sum() + share(other).sum()) / (2 * int(both.sum())))
        return torch.stack(losses).mean() if losses else tokens.sum() * 0


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items as the decoder's training needs them, one row an item."""

    tokens: Float[Tensor, "items tokens token_dim"]  # from the frozen encoders
    present: Bool[Tensor, "items tokens"]
    words: Float[Tensor, "items width"]  # of their texts, for telling which items are alike
    seen: Bool[Tensor, " items"]  # in training; the others are no candidates, or they would be pushed away
    ids: Int64[Tensor, "items levels"] | None = None  # semantic IDs, once there are any
    keywords: Int64[Tensor, "items words"] | None = None  # PAD where an item has fewer


class TrainDecoder(nn.Module):
    """Stage two: which item comes next in a history."""

    def __init__(self, model: M6RecMini, catalogue: Catalogue) -> None:
        super().__init__()
        self.model, self.catalogue = model, catalogue

    def forward(self, batch: Batch, seed: int, share: Share = ALONE) -> Float[Tensor, ""]:  # noqa: ARG002
        """This process's share of the mean of -log p over all events, the first from the start token alone."""
        total, batch = int(batch.lengths.sum()), batch.map(share)
        vectors = self.model.item_vectors(self.catalogue.tokens, self.catalogue.present, self.catalogue.seen)
        states = self.model.decoder(self.model.embed(vectors, batch.but_last))  # the last event is only asked for
        logits = self.model.vector_logits(states[batch.real], vectors).masked_fill(~self.catalogue.seen, -torch.inf)
        return F.cross_entropy(logits, batch.items[batch.real], reduction="sum") / total


@dataclass(frozen=True)
class WritingConfig:
    """Weights of what is written, and how many branches of each kind a history grows per step."""

    codes: float = 1.0
    topics: float = 0.3
    reasons: float = 0.3
    branches: int = 8


@dataclass(frozen=True, eq=False)
class Written:
    """What is to be written after each branch's end."""

    ids: Int64[Tensor, "batch branches levels"]
    topic: Int64[Tensor, "batch branches words_and_end"]
    reason: Int64[Tensor, "batch branches words_and_end"]


class TrainWriting(nn.Module):
    """Stage three: semantic IDs, topics and reasons, on top of a decoder that already reads."""

    def __init__(self, model: M6RecMini, catalogue: Catalogue, config: WritingConfig, trie: TrieTensors) -> None:
        super().__init__()
        self.model, self.catalogue, self.config, self.trie = model, catalogue, config, trie
        with torch.no_grad():
            self.vectors = model.eval().item_vectors(catalogue.tokens, catalogue.present, catalogue.seen)

    def train(self, mode: bool = True) -> TrainWriting:
        """Only what writes is ever in training; what reads stays as it is."""
        super().train(False)
        self.model.decoder.writer.train(mode)
        return self

    def forward(self, batch: Batch, seed: int, share: Share = ALONE) -> Float[Tensor, ""]:
        """This process's share of the loss of one batch; `seed` draws after which events something is written."""
        ends = branch_ends(batch.lengths, self.config.branches, seed)  # before sharing: all processes draw the same
        return self.loss(batch.map(share), share(ends)) / ends.numel()

    def loss(self, batch: Batch, ends: Int64[Tensor, "batch branches"]) -> Float[Tensor, ""]:
        """Sum over all branches."""
        assert self.catalogue.ids is not None
        with torch.no_grad():
            states = self.model.decoder(self.model.embed(self.vectors, batch.but_last))
        following = batch.items.gather(1, ends)
        target = Written(self.catalogue.ids[following], self.topic(following), self.reason(batch, ends))
        branches = self.model.decoder.grow(states, ends.repeat(1, 3), self.branches(following, target))
        return self.writing_loss(target, branches)

    def branches(
        self, following: Int64[Tensor, "batch branches"], target: Written
    ) -> Float[Tensor, "batch three_times_branches length dim"]:
        """What is written about the `following` items, as the decoder reads it: codes, topic, reason, side by side."""
        decoder = self.model.decoder
        codes = decoder.embed_codes(target.ids[..., :-1])
        topic = decoder.embed_words(target.topic[..., :-1])
        reason = decoder.embed_words(target.reason[..., :-1], about=F.embedding(following, self.vectors))
        length = max(x.shape[2] for x in (codes, topic, reason))
        return torch.cat([F.pad(x, (0, 0, 0, length - x.shape[2])) for x in (codes, topic, reason)], dim=1)

    def writing_loss(
        self, target: Written, states: Float[Tensor, "batch three_times_branches length dim"]
    ) -> Float[Tensor, ""]:
        """Weighted sum over branches of -log p of the codes, per word of the topics and of the reasons."""
        goal, decoder = self.config, self.model.decoder
        codes, topic, reason = (x.flatten(0, 1) for x in states.chunk(3, dim=1))  # batch * branches, length, dim
        ids = target.ids.flatten(0, 1)
        loss = -goal.codes * code_log_likelihood(decoder, codes[:, : ids.shape[1]], ids, self.trie).sum()
        for weight, written, asked, skip in (
            (goal.topics, topic, target.topic, 0),
            (goal.reasons, reason, target.reason, 1),  # its first token is the item that it is about
        ):
            words = asked.flatten(0, 1)
            logits = decoder.word_logits(written[:, skip : skip + words.shape[1]])
            nll = F.cross_entropy(logits.flatten(0, 1), words.flatten(), reduction="sum", ignore_index=PAD)
            loss = loss + weight * nll / words.shape[1]
        return loss

    def topic(self, following: Int64[Tensor, "batch branches"]) -> Int64[Tensor, "batch branches words_and_end"]:
        """The item's key words, then the end; only padding for an item without any."""
        assert self.catalogue.keywords is not None
        return finish(self.catalogue.keywords[following])

    def reason(
        self, batch: Batch, ends: Int64[Tensor, "batch branches"]
    ) -> Int64[Tensor, "batch branches words_and_end"]:
        """Those key words of the next item that some earlier event shares."""
        keywords = self.catalogue.keywords
        assert keywords is not None
        words = keywords[batch.items.gather(1, ends)]  # batch, branches, words
        earlier = torch.arange(batch.items.shape[1], device=ends.device) < ends[..., None]  # batch, branches, events
        known = torch.zeros(*ends.shape, self.model.config.decoder.vocab, dtype=torch.bool, device=ends.device)
        history = keywords[batch.items].flatten(1)  # batch, events * words
        seen = earlier.repeat_interleave(keywords.shape[1], dim=2)  # batch, branches, events * words
        known.scatter_(2, torch.where(seen, history[:, None], PAD), True)
        return finish(words.masked_fill(~known.gather(2, words), PAD))


def branch_ends(lengths: Int64[Tensor, " batch"], branches: int, seed: int) -> Int64[Tensor, "batch branches"]:
    """After how many events each branch grows; it writes about the event that comes next.

    Raises ValueError for a row without events, since nothing comes next there.
    """
    if not lengths.all():
        raise ValueError(f"row {int(lengths.argmin())} of the batch has no events, so nothing comes next in it")
    draw = torch.rand(len(lengths), branches, generator=torch.Generator().manual_seed(seed)).to(lengths.device)
    return (draw * lengths[:, None]).long()


def finish(words: Int64[Tensor, "*batch words"]) -> Int64[Tensor, "*batch words_and_end"]:
    """Close the gaps (PAD) between words and write the end; nothing at all stays nothing."""
    order = (words == PAD).long().argsort(dim=-1, stable=True)
    closed = F.pad(words.gather(-1, order), (0, 1), value=PAD)
    count = (closed != PAD).sum(-1, keepdim=True)
    return closed.scatter(-1, count, torch.where(count > 0, EOS, PAD))
