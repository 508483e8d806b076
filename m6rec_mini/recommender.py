"""The recommender: a user's events and candidate items in, a ranked list with scores and reasons out.

Reasons are measured, not told: an event counts as a reason by how much the score falls when it is
taken out of the history, a modality by how much it falls when it is hidden from the item. Words are
written by the decoder, but only words that the item and the history really share may be written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from m6rec_mini.catalog import ACTIONS, EMPTY_HISTORY, DataError, Event, History, Item
from m6rec_mini.content import EOS, PAD, ContentReader
from m6rec_mini.datasets.files import new_folder
from m6rec_mini.generation import write_words
from m6rec_mini.model import M6RecMini, ModelConfig, from_dict, to_dict
from m6rec_mini.pretraining import Catalogue
from m6rec_mini.prior import CooccurrencePrior
from m6rec_mini.scoring import Scorer, Weights, read
from m6rec_mini.training import CheckpointError, load_tensors, save_tensors

FORMAT = "m6rec-mini 1"
ABOUT, READER, TENSORS = "model.json", "reader.json", "model.safetensors"
DONE = {"view": "viewed", "like": "liked", "comment": "commented on"}
LOOK_BACK = 10  # events that are tried as reasons: the latest


@dataclass(frozen=True)
class Known:
    """What is kept of an item for showing it; its content is in the model's tensors."""

    id: str
    title: str
    domain: str = ""

    @classmethod
    def of(cls, item: Item) -> Known:
        """The item without its content."""
        return cls(item.id, item.label, item.domain)


@dataclass(frozen=True)
class Because:
    """An earlier event, and how much the item's log-probability falls without it."""

    item: Known
    action: str
    drop: float


@dataclass(frozen=True)
class Recommendation:
    """One place of the list."""

    rank: int
    item: Known
    score: float  # log p(next item | history) among all items; on one list, higher is better
    reason: str = ""
    words: tuple[str, ...] = ()  # what item and history have in common, in the decoder's words
    because: tuple[Because, ...] = ()  # strongest first
    modalities: dict[str, float] = field(default_factory=dict)  # how much the decoder's logit falls without each
    attention: dict[str, float] = field(default_factory=dict)  # share of the fusion's attention


class Recommender:
    """A trained model with the items that it knows."""

    def __init__(self, name: str, items: Sequence[Known], reader: ContentReader, scorer: Scorer) -> None:
        self.name, self.items, self.reader, self.scorer = name, tuple(items), reader, scorer
        self.index = {item.id: row for row, item in enumerate(self.items)}

    # ---- saving ---------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write everything into a new folder: it appears complete, or not at all."""
        scorer, kept = self.scorer, self.scorer.catalogue
        tensors = {"tokens": kept.tokens, "present": kept.present, "words": kept.words, "seen": kept.seen}
        tensors |= {k: v for k, v in (("ids", kept.ids), ("keywords", kept.keywords)) if v is not None}
        tensors |= {f"network/{name}": value for name, value in scorer.model.state_dict().items()}
        tensors |= {"counts": torch.from_numpy(scorer.counts)}
        if scorer.prior is not None:
            tensors |= {f"prior/{name}": torch.from_numpy(x) for name, x in scorer.prior.arrays().items()}
        about = {
            "format": FORMAT,
            "name": self.name,
            "model": to_dict(scorer.model.config),
            "weights": to_dict(scorer.weights),
            "items": [[item.id, item.title, item.domain] for item in self.items],
        }
        with new_folder(folder) as partial:
            save_tensors({name: x.contiguous() for name, x in tensors.items()}, partial / TENSORS, {"format": FORMAT})
            (partial / READER).write_text(self.reader.to_json(), encoding="utf-8")
            (partial / ABOUT).write_text(json.dumps(about, ensure_ascii=False, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str, device: torch.device | str = "cpu") -> Recommender:
        """What `save` wrote; raises CheckpointError, which says which file is missing, cut short or foreign."""
        folder = Path(folder)
        missing = [name for name in (ABOUT, READER, TENSORS) if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(f"{folder} is not a saved model: it has no {missing[0]}. `m6rec train` makes one")
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            form = about.get("format") if isinstance(about, dict) else None
            if form != FORMAT:
                raise CheckpointError(
                    f"{folder / ABOUT} has format {form!r}; this version reads {FORMAT!r}. Train or copy it again"
                )
            reader = ContentReader.from_json((folder / READER).read_text(encoding="utf-8"))
            tensors, _ = load_tensors(folder / TENSORS)
            items = [Known(*item) for item in about["items"]]
            if len(items) != len(tensors["tokens"]):
                raise ValueError(f"{ABOUT} lists {len(items)} items, {TENSORS} holds {len(tensors['tokens'])}")
            identities = len(tensors["network/identity.weight"])  # fewer than items, if some were added later
            model = M6RecMini(from_dict(ModelConfig, about["model"]), reader.shapes, identities)
            model.load_state_dict(_under("network/", tensors))
            prior = _under("prior/", tensors)
            scorer = Scorer(
                model.to(device).eval(),
                Catalogue(
                    *(tensors[name].to(device) for name in ("tokens", "present", "words", "seen")),
                    *(None if name not in tensors else tensors[name].to(device) for name in ("ids", "keywords")),
                ),
                CooccurrencePrior.from_arrays({name: x.numpy() for name, x in prior.items()}) if prior else None,
                tensors["counts"].numpy(),
                from_dict(Weights, about["weights"]),
            )
        except CheckpointError:
            raise
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            what = f"it has no {error}" if isinstance(error, KeyError) else error
            raise CheckpointError(
                f"{folder} is damaged or of another version: {what}. Train or copy it again"
            ) from error
        return cls(about["name"], items, reader, scorer)

    # ---- ranking --------------------------------------------------------------------------

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "cases items"]:
        """log p of every known item after each history."""
        return self.scorer.scores(histories)

    def recommend(
        self,
        history: Sequence[Event],
        candidates: Sequence[Item] | None = None,
        k: int = 10,
        *,
        seen_too: bool = False,
        explain: bool = True,
    ) -> list[Recommendation]:
        """The `k` best candidates (all known items, if None), best first; ties by order of candidates.

        Items of the history are left out unless `seen_too`. Candidates that the model has never seen
        are judged by their content. Raises DataError if an event is about an item that is neither
        known nor a candidate, if two candidates share an id, or if `k` is not positive.
        """
        if k < 1:
            raise DataError(f"k is {k}; ask for at least one item")
        here = self if candidates is None else self.with_items(candidates)
        past = here.history(history)
        wanted = here.items if candidates is None else candidates
        rows = np.array([here.index[item.id] for item in wanted], np.int64)
        if not seen_too:
            rows = rows[~np.isin(rows, past.items)]
        scores = here.scores([past])[0, rows]
        best = np.argsort(-scores, kind="stable")[:k]
        return here.describe(past, rows[best], scores[best], explain)

    def history(self, events: Sequence[Event]) -> History:
        """Events as arrays, in order of time; raises DataError for an item that is not known."""
        users = {event.user for event in events}
        if len(users) > 1:
            raise DataError(
                f"the history has events of {len(users)} users ({', '.join(sorted(users)[:3])} …); give one"
            )
        unknown = next((event for event in events if event.item not in self.index), None)
        if unknown is not None:
            raise DataError(
                f"the history names item {unknown.item!r}, which is neither in the model's catalog nor a candidate; "
                "add it to the candidates, or leave the event out"
            )
        return history_of(events, self.index)

    def with_items(self, items: Sequence[Item]) -> Recommender:
        """The same recommender that knows some items more, by their content; known ones stay as they are.

        Raises DataError if an id is given twice, or if a new item has nothing that this model reads.
        """
        ids = [item.id for item in items]
        if len(set(ids)) != len(ids):
            twice = next(i for n, i in enumerate(ids) if i in ids[:n])
            raise DataError(f"candidate {twice!r} is given twice")
        new = [item for item in items if item.id not in self.index]
        if not new:
            return self
        blank = next((item for item in new if not set(item.modalities) & set(self.reader.modalities)), None)
        if blank is not None:
            raise DataError(
                f"candidate {blank.id!r} has only {', '.join(blank.modalities)}; "
                f"this model reads {', '.join(self.reader.modalities)}: give it one of these, or leave it out"
            )
        scorer = self.scorer.with_items(self.reader.read(new))
        return Recommender(self.name, [*self.items, *map(Known.of, new)], self.reader, scorer)

    # ---- reasons --------------------------------------------------------------------------

    def describe(
        self,
        history: History,
        rows: Int64[np.ndarray, " picked"],
        scores: Float32[np.ndarray, " picked"],
        explain: bool = True,
    ) -> list[Recommendation]:
        """Places of a list, with reasons if asked for."""
        places = [
            Recommendation(rank, self.items[row], float(score))
            for rank, (row, score) in enumerate(zip(rows, scores, strict=True), start=1)
        ]
        if not explain or not places:
            return places
        because = self.because(history, rows)
        words = self.shared_words(history, rows)
        shares = self.scorer.modality_shares(history, rows)
        attention = self.scorer.attention(rows)
        return [
            replace(
                place,
                words=words[n],
                because=because[n],
                reason=in_words(words[n], because[n]),
                modalities={name: float(values[n]) for name, values in shares.items() if not np.isnan(values[n])},
                attention={name: float(values[n]) for name, values in attention.items()},
            )
            for n, place in enumerate(places)
        ]

    def because(self, history: History, rows: Int64[np.ndarray, " picked"], most: int = 2) -> list[tuple[Because, ...]]:
        """For each item the events without which it would score less, strongest first."""
        tried = range(max(len(history) - LOOK_BACK, 0), len(history))
        if not len(tried):
            return [()] * len(rows)
        scores = self.scores([history, *(without(history, n) for n in tried)])[:, rows]
        drops = scores[0] - scores[1:]  # events, picked
        found = []
        for column in drops.T:
            order = [n for n in np.argsort(-column, kind="stable")[:most] if column[n] > 0]
            found.append(tuple(self._because(history, tried[n], float(column[n])) for n in order))
        return found

    def _because(self, history: History, event: int, drop: float) -> Because:
        action = ACTIONS[int(history.actions[event])]
        return Because(self.items[int(history.items[event])], action, drop)

    @torch.no_grad()
    def shared_words(self, history: History, rows: Int64[np.ndarray, " picked"]) -> list[tuple[str, ...]]:
        """Words of each item that the history has too, in the decoder's order of weight."""
        keywords, model = self.scorer.catalogue.keywords, self.scorer.model
        if keywords is None or not len(history):
            return [()] * len(rows)
        picked = torch.from_numpy(rows).to(keywords.device)
        past = keywords[torch.from_numpy(np.unique(history.items)).to(keywords.device)].unique()
        shared = torch.where(torch.isin(keywords[picked], past), keywords[picked], PAD)
        allowed = torch.zeros(len(rows), model.config.decoder.vocab, dtype=torch.bool, device=keywords.device)
        allowed.scatter_(1, shared, True)[:, PAD] = False
        some = allowed.any(1)
        batch = read(model, [history] * int(some.sum()), keywords.device)
        written = iter(())
        if some.any():
            _, caches = model.decoder.prefill(model.embed(self.scorer.vectors, batch), batch.lengths)
            written = iter(write_words(model.decoder, caches, EOS, allowed[some], self.scorer.vectors[picked[some]]))
        return [self._spell(next(written)) if has else () for has in some.tolist()]

    @torch.no_grad()
    def topic(self, history: History) -> tuple[str, ...]:
        """What the user is likely to want next, in a few words."""
        keywords, model = self.scorer.catalogue.keywords, self.scorer.model
        if keywords is None:
            return ()
        batch = read(model, [history], keywords.device)
        _, caches = model.decoder.prefill(model.embed(self.scorer.vectors, batch), batch.lengths)
        allowed = torch.zeros(1, model.config.decoder.vocab, dtype=torch.bool, device=keywords.device)
        allowed[0, keywords.unique()] = True
        allowed[0, PAD] = False
        return self._spell(write_words(model.decoder, caches, EOS, allowed)[0]) if allowed.any() else ()

    def _spell(self, words: Int64[Tensor, " written"]) -> tuple[str, ...]:
        spelled = (self.reader.decode(word[None]).strip() for word in words if int(word) not in (PAD, EOS))
        return tuple(word for word in spelled if word)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


def history_of(events: Sequence[Event], index: dict[str, int]) -> History:
    """Events of known items as arrays, in order of time; equal times keep the order given."""
    if not events:
        return EMPTY_HISTORY
    ordered = sorted(events, key=lambda event: event.timestamp)
    columns = [(index[e.item], ACTIONS.index(e.action), e.timestamp) for e in ordered]
    return History(*np.array(columns, np.int64).T)


def without(history: History, event: int) -> History:
    """The history as if one event had not happened."""
    keep = np.arange(len(history)) != event
    return History(history.items[keep], history.actions[keep], history.times[keep])


def in_words(words: Sequence[str], because: Sequence[Because]) -> str:
    """A sentence for people; it says no more than what was measured."""
    parts = []
    if because:
        parts.append("you " + " and ".join(f"{DONE[b.action]} “{b.item.title}”" for b in because))
    if words:
        parts.append("in common: " + ", ".join(words))
    return "; ".join(parts) if parts else "nothing in the history speaks for it in particular"
