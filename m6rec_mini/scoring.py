"""One score from several parts: what the network says, and what counting says.

Each part gives every item log-odds. They are joined as in a log-linear model: a weighted sum, made a
distribution again, the weights chosen by the likelihood of what came next in the validation cases.
So every part is named, can be looked at alone, and can be left out to see what it was worth. Items
that were in no training event have no counts: their counting parts are those of the items most like
them. All is measured on the items of training, so adding an item changes nothing between the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int64
from scipy.special import log_softmax
from torch import Tensor

from m6rec_mini.catalog import History
from m6rec_mini.content import PAD, Content
from m6rec_mini.evaluation import Cases
from m6rec_mini.fusion import CrossModalFusion
from m6rec_mini.generation import TrieTensors, beam_search
from m6rec_mini.model import Batch, M6RecMini
from m6rec_mini.pretraining import Catalogue
from m6rec_mini.prior import CooccurrencePrior
from m6rec_mini.semantic_ids import Trie

PARTS = ("decoder", "ease", "markov", "content")
FUSED_LIKENESS = 0.5  # weight of the fused vectors beside the words
NEIGHBOURS = 10  # items that lend their counts to one that has none
LEAST = 1e-12


@dataclass(frozen=True)
class Weights:
    """How much each part counts; `fresh` is the weight of `content` for items without training events."""

    decoder: float = 1.0
    ease: float = 0.0
    markov: float = 0.0
    content: float = 0.0
    fresh: float = 0.4
    popularity_penalty: float = 0.0  # times log(1 + training events), taken off: more for the tail, less for the head


class Scorer:
    """Scores of all items of a catalogue, seen and unseen, after any histories."""

    def __init__(
        self,
        model: M6RecMini,
        catalogue: Catalogue,
        prior: CooccurrencePrior | None,
        counts: Int64[np.ndarray, " items"],
        weights: Weights | None = None,
    ) -> None:
        self.model, self.catalogue, self.prior = model, catalogue, prior
        self.counts, self.weights = counts, weights or Weights()
        self.seen = catalogue.seen.cpu().numpy()
        with torch.no_grad():
            self.vectors = model.item_vectors(catalogue.tokens, catalogue.present, catalogue.seen)
        self.likeness = likeness(model, catalogue)
        self.lent = nearest(self.likeness, self.seen)

    @torch.no_grad()
    def decoder(self, histories: Sequence[History]) -> Float32[np.ndarray, "cases items"]:
        """log p of each item by the decoder's vectors: one softmax over all items."""
        states = last_states(self.model, self.vectors, histories)
        return np.asarray(self.model.vector_logits(states, self.vectors).log_softmax(-1).cpu().numpy())

    @cached_property
    def trie(self) -> TrieTensors:
        """The valid semantic IDs of these items."""
        if self.catalogue.ids is None:
            raise ValueError("these items have no semantic IDs; codes are read with the items of training alone")
        sizes = self.model.config.decoder.code_sizes
        return TrieTensors.of(Trie.build(self.catalogue.ids.cpu().numpy(), sizes), self.vectors.device)

    @torch.no_grad()
    def codes(self, histories: Sequence[History], width: int = 50) -> Float32[np.ndarray, "cases items"]:
        """log p of the items whose semantic IDs a beam of `width` finds; -inf for the others.

        Raises ValueError for a catalogue without IDs, such as one to which items were added.
        """
        batch = read(self.model, histories, self.vectors.device)
        _, caches = self.model.decoder.prefill(self.model.embed(self.vectors, batch), batch.lengths)
        found, scores = beam_search(self.model.decoder, caches, self.trie, width)
        out = torch.full((len(histories), len(self.vectors)), -torch.inf, device=self.vectors.device)
        return np.asarray(out.scatter_reduce(1, found, scores, "amax").cpu().numpy())

    def content(self, histories: Sequence[History], half_life: float = 5.0) -> Float32[np.ndarray, "cases items"]:
        """Standardised cosine between each item and the (fading) mean of the history; zeros without one."""
        rows = []
        for history in histories:
            fade = 0.5 ** (np.arange(len(history))[::-1] / half_life)
            cosine = self.likeness @ (fade @ self.likeness[history.items])
            usual = cosine[self.seen]
            rows.append((cosine - usual.mean()) / max(float(usual.std()), LEAST) if len(history) else cosine * 0)
        return np.asarray(rows, np.float32).reshape(len(histories), len(self.seen))

    def parts(self, histories: Sequence[History]) -> dict[str, Float32[np.ndarray, "cases items"]]:
        """Every part by name, for all items."""
        parts = {"decoder": self.decoder(histories), "content": self.content(histories)}
        if self.prior is not None:
            counted = [_among_first(history, len(self.prior.ease.matrix)) for history in histories]
            parts |= {name: self._lend(part) for name, part in self.prior.parts(counted).items()}
        return parts

    def _lend(self, part: Float32[np.ndarray, "cases known"]) -> Float32[np.ndarray, "cases items"]:
        """Give items without counts the mean probability of those most like them."""
        wide = np.full((len(part), len(self.seen)), np.log(LEAST), np.float32)
        wide[:, : part.shape[1]] = part
        like, share = self.lent
        borrowed = np.einsum("cun,un->cu", np.exp(wide[:, like]), share)  # cases, unseen, neighbours -> cases, unseen
        wide[:, ~self.seen] = np.log(np.maximum(borrowed, LEAST))
        return wide

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "cases items"]:
        """log p of each item by all parts together."""
        return self.join(self.parts(histories))

    def join(self, parts: Mapping[str, Float32[np.ndarray, "cases items"]]) -> Float32[np.ndarray, "cases items"]:
        """The weighted sum, as a log-distribution; a part that is not given counts for nothing."""
        weights = self.weights
        total = sum(np.float32(getattr(weights, name)) * part for name, part in parts.items())
        if "content" in parts:
            total = np.where(self.seen, total, total + np.float32(weights.fresh - weights.content) * parts["content"])
        total = total - np.float32(weights.popularity_penalty) * np.log1p(self.counts).astype(np.float32)
        return np.asarray(log_softmax(total, axis=1), np.float32)

    # ---- new items, and what a score is made of --------------------------------------------

    @torch.no_grad()
    def with_items(self, content: Content) -> Scorer:
        """The same scorer with items added that it judges by content alone."""
        old = self.catalogue
        content = content.to(old.tokens.device)
        tokens, present = self.model.tokens(content)
        new = len(content)
        catalogue = Catalogue(
            torch.cat([old.tokens, tokens]),
            torch.cat([old.present, present]),
            torch.cat([old.words, self.model.words(content)]),
            F.pad(old.seen, (0, new)),
            None,  # IDs name places in a trie; new ones are given when the catalogue is built again
            None if old.keywords is None else F.pad(old.keywords, (0, 0, 0, new), value=PAD),
        )
        return Scorer(self.model, catalogue, self.prior, np.pad(self.counts, (0, new)), self.weights)

    @torch.no_grad()
    def modality_shares(
        self, history: History, rows: Int64[np.ndarray, " picked"]
    ) -> dict[str, Float32[np.ndarray, " picked"]]:
        """By how much the decoder's logit of each item falls when a modality is hidden; NaN where it has none.

        An item's only modality is compared with the mean item: nothing else is left to hide it behind.
        """
        state = last_states(self.model, self.vectors, [history])[0] * self.model.logit_scale
        picked = torch.from_numpy(rows).to(state.device)
        tokens, present = self.catalogue.tokens[picked], self.catalogue.present[picked]
        identity = self.vectors[picked] - self.model.content_vectors(tokens, present)
        full = self.vectors[picked] @ state
        shares = {}
        for name, span in self.model.encoders.spans.items():
            hidden = present.clone()
            hidden[:, span] = False
            left = hidden.any(1)
            fall = full - self.vectors.mean(0) @ state
            fall[left] = full[left] - (self.model.content_vectors(tokens[left], hidden[left]) + identity[left]) @ state
            shares[name] = torch.where(present[:, span].any(1), fall, torch.nan).cpu().numpy()
        return shares

    @torch.no_grad()
    def attention(self, rows: Int64[np.ndarray, " picked"]) -> dict[str, Float32[np.ndarray, " picked"]]:
        """The share of the fusion's attention that falls on each modality; nothing for plain concatenation."""
        fusion = self.model.fusion
        if not isinstance(fusion, CrossModalFusion):
            return {}
        picked = torch.from_numpy(rows).to(self.vectors.device)
        weights = fusion.weights(self.catalogue.tokens[picked], self.catalogue.present[picked])
        return {name: weights[:, span].sum(1).cpu().numpy() for name, span in self.model.encoders.spans.items()}


@torch.no_grad()
def likeness(model: M6RecMini, catalogue: Catalogue) -> Float32[np.ndarray, "items width"]:
    """Item contents as vectors whose products say how alike two items are.

    The words of their texts and the fused content: words are the more precise where there are any,
    the fused vectors also know pictures and sounds. Both are centred on the items of training, since
    what all items share says nothing about which are alike, and divided by the square root of their
    length: half way to the cosine, for a text of which there is much to say interests more people.
    """
    fused = model.content_vectors(catalogue.tokens, catalogue.present)
    fused = fused - fused[catalogue.seen].mean(0)
    both = [half_normalised(catalogue.words), FUSED_LIKENESS * F.normalize(fused, dim=-1)]
    return np.asarray(torch.cat(both, dim=1).cpu().numpy())


def half_normalised(vectors: Float[Tensor, "items width"]) -> Float[Tensor, "items width"]:
    """Each row over the square root of its length; a row of zeros stays."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths.clamp(min=LEAST).sqrt()


def nearest(
    likeness: Float32[np.ndarray, "items width"], seen: Bool[np.ndarray, " items"], count: int = NEIGHBOURS
) -> tuple[Int64[np.ndarray, "unseen neighbours"], Float32[np.ndarray, "unseen neighbours"]]:
    """For each unseen item the seen ones most like it, and their shares (positive cosines, adding up to 1)."""
    cosine = likeness[~seen] @ likeness[seen].T  # unseen, seen
    rows = np.argsort(-cosine, axis=1, kind="stable")[:, :count]
    weight = np.maximum(np.take_along_axis(cosine, rows, axis=1), LEAST)
    return np.flatnonzero(seen)[rows].astype(np.int64), (weight / weight.sum(1, keepdims=True)).astype(np.float32)


def _among_first(history: History, count: int) -> History:
    """Without events on items that were added later: the prior has no row for them."""
    keep = history.items < count
    return history if keep.all() else History(history.items[keep], history.actions[keep], history.times[keep])


def read(model: M6RecMini, histories: Sequence[History], device: torch.device | str) -> Batch:
    """The last events of each history, as many as the decoder reads."""
    return Batch.of([history.last(model.config.decoder.events) for history in histories], device)


@torch.no_grad()
def last_states(
    model: M6RecMini, vectors: Float[Tensor, "items dim"], histories: Sequence[History]
) -> Float[Tensor, "cases dim"]:
    """The decoder's state after each history."""
    batch = read(model, histories, vectors.device)
    states = model.decoder(model.embed(vectors, batch))
    last: Tensor = states[torch.arange(len(histories), device=states.device), batch.lengths]
    return last


def closed_items(cases: Cases, seen: Bool[np.ndarray, " items"]) -> Bool[np.ndarray, "cases items"]:
    """True for items that cannot be the answer: unseen in training, or in the history; never the target."""
    closed = np.tile(~seen, (len(cases), 1))
    for row, history in enumerate(cases.histories):
        closed[row, history.items] = True
    closed[np.arange(len(cases)), cases.targets] = False
    return closed


def fit_weights(scorer: Scorer, cases: Cases) -> Weights:
    """Weights of the parts that make the targets of `cases` likeliest among open items; none is negative.

    Likelihood rather than a hit rate: it is smooth and convex in the weights, so a few hundred cases
    suffice and no grid is needed. Targets that are in no training event do not count; without any
    other the weights stay as they are.
    """
    cases = cases.take(np.flatnonzero(scorer.seen[cases.targets]))
    if not len(cases):
        return scorer.weights
    parts = scorer.parts(cases.histories)
    stack = torch.from_numpy(np.stack(list(parts.values()), axis=-1)).double()  # cases, items, parts
    closed = torch.from_numpy(closed_items(cases, scorer.seen))
    targets = torch.from_numpy(cases.targets)
    free = torch.zeros(len(parts), dtype=torch.float64, requires_grad=True)  # softplus of it is the weight
    optimizer = torch.optim.LBFGS(
        [free], max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-13, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy((stack @ F.softplus(free)).masked_fill(closed, -torch.inf), targets)
        value.backward()
        return value

    optimizer.step(loss)
    found = dict(zip(parts, F.softplus(free).tolist(), strict=True))
    return replace(scorer.weights, **found)
