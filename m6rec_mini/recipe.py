"""From a catalog to a trained recommender, in the order in which things are learnt.

1. A reader is fitted, and the encoders are pretrained on the items (words; modalities together).
2. Frozen encoders give each item its tokens; fusion and decoder learn the next item.
3. The fused vectors are quantised to semantic IDs, and the decoder learns to write IDs and words.
4. The co-occurrence prior is fitted, and the parts of the score are weighed on validation.

Only `split.train` is learnt from, items without a training event are never looked at before the
end, and every choice is made on `split.validation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from m6rec_mini.catalog import ACTIONS, Catalog, DataError, History, Interactions
from m6rec_mini.content import Content, ContentConfig, ContentReader
from m6rec_mini.encoders import TextEncoder
from m6rec_mini.evaluation import Cases, Split
from m6rec_mini.generation import TrieTensors
from m6rec_mini.keywords import key_words
from m6rec_mini.model import Batch, M6RecMini, ModelConfig
from m6rec_mini.pretraining import (
    Catalogue,
    PretrainConfig,
    PretrainEncoders,
    TrainDecoder,
    TrainWriting,
    WritingConfig,
)
from m6rec_mini.prior import CooccurrencePrior
from m6rec_mini.recommender import Known, Recommender
from m6rec_mini.scoring import Scorer, closed_items, fit_weights, last_states
from m6rec_mini.semantic_ids import ResidualQuantiser, Trie, assign_ids
from m6rec_mini.training import Epoch, LoopConfig, Stage, seeded


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, but for the data."""

    content: ContentConfig = field(default_factory=lambda: ContentConfig(text_length=96))
    model: ModelConfig = field(default_factory=ModelConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    encoder_loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=6, batch=128, patience=3))
    decoder_loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=22, learning_rate=3e-3, patience=5))
    writing_loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=6, learning_rate=3e-3, patience=3))
    writing: WritingConfig = field(default_factory=WritingConfig)
    keywords: int = 3
    prior: bool = True
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves behind: the network, and the items as it sees them."""

    recipe: Recipe
    model: M6RecMini
    reader: ContentReader
    catalogue: Catalogue
    log: Sequence[Epoch]


def train_model(
    catalog: Catalog,
    split: Split,
    recipe: Recipe,
    folder: Path | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    device: torch.device | str = "cpu",
) -> Trained:
    """Steps 1 to 3. With a `folder`, a killed run goes on from its last epoch.

    A folder is for one run: whoever uses it for other data of the same sizes goes on with the wrong ones.
    Raises DataError if there is nothing to learn from or nothing to tune on.
    """
    seen = split.train.item_counts > 0
    if not seen[split.validation.targets].any():
        raise DataError(
            f"none of the {len(split.validation)} validation cases of {catalog.name} asks for an item of the "
            f"{len(split.train)} training events, so nothing can be tuned; add events"
        )
    known = [item for item, is_seen in zip(catalog.items, seen, strict=True) if is_seen]
    reader = ContentReader.fit(known, recipe.content, comments_in(catalog, split.train))
    decoder = replace(recipe.model.decoder, vocab=reader.shapes.vocab, words=recipe.keywords + 1)
    content = reader.read(catalog.items).to(device)
    learnt_from = content.rows(torch.from_numpy(seen))

    with seeded(recipe.seed):
        model = M6RecMini(replace(recipe.model, decoder=decoder), reader.shapes, len(catalog.items)).to(device)
        if "text" in reader.modalities:
            cast(TextEncoder, model.encoders.encoders["text"]).fit_words(learnt_from.text[learnt_from.present["text"]])
        log = pretrain_encoders(model, learnt_from, reader, recipe, folder, on_epoch)
        model.encoders.requires_grad_(False)
        model.calibrate(learnt_from)
        catalogue = Catalogue(*model.tokens(content), model.words(content), torch.from_numpy(seen).to(device))
        log += train_decoder(model, catalogue, split, recipe, folder, on_epoch)

        words = key_words(catalog.items, reader, split.train, recipe.keywords).to(device)
        catalogue = replace(catalogue, ids=semantic_ids(model, catalogue, recipe), keywords=words)
        log += train_writing(model, catalogue, split, recipe, folder, on_epoch)
    return Trained(recipe, model.eval(), reader, catalogue, log)


def train(
    catalog: Catalog,
    split: Split,
    recipe: Recipe,
    folder: Path | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    device: torch.device | str = "cpu",
) -> Recommender:
    """All four steps."""
    trained = train_model(catalog, split, recipe, folder, on_epoch, device)
    prior = CooccurrencePrior().fit(split) if recipe.prior else None
    scorer = Scorer(trained.model, trained.catalogue, prior, split.train.item_counts)
    scorer.weights = fit_weights(scorer, split.validation)
    return Recommender(catalog.name, [Known.of(item) for item in catalog.items], trained.reader, scorer)


def comments_in(catalog: Catalog, train: Interactions) -> list[str]:
    """The words of comments that are training events; later ones, and their words, are not known yet."""
    spoken = train.keep(train.actions == ACTIONS.index("comment"))
    kept = set(zip(spoken.users.tolist(), spoken.items.tolist(), spoken.times.tolist(), strict=True))
    users, items = catalog.user_index, catalog.item_index
    return [e.comment for e in catalog.events if e.comment and (users[e.user], items[e.item], e.timestamp) in kept]


def pretrain_encoders(
    model: M6RecMini,
    content: Content,
    reader: ContentReader,
    recipe: Recipe,
    folder: Path | None,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """Stage one; a twentieth of the items is kept back to see when to stop."""
    if recipe.encoder_loop.epochs == 0:
        return []
    order = np.random.default_rng(recipe.seed).permutation(len(content))
    held_out, rest = np.split(order, [max(len(content) // 20, 2)])
    stage = PretrainEncoders(model.encoders, reader.shapes.vocab, recipe.pretrain).to(content.text.device)
    judged = content.rows(torch.from_numpy(held_out))

    def batches(rng: np.random.Generator) -> list[Content]:
        shuffled = torch.from_numpy(rng.permutation(rest))
        return [content.rows(rows) for rows in shuffled.split(recipe.encoder_loop.batch) if len(rows) > 1]

    @torch.no_grad()
    def validate() -> float:
        return -float(stage(judged, recipe.seed))

    return Stage("encoders", stage, batches, validate, recipe.encoder_loop, recipe.seed, folder).run(on_epoch)


def train_decoder(
    model: M6RecMini,
    catalogue: Catalogue,
    split: Split,
    recipe: Recipe,
    folder: Path | None,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """Stage two: the next item alone. What writes is not yet trained."""
    what_writes(model).requires_grad_(False)

    def validate() -> float:
        return -mean_loss(model, catalogue, split.validation)

    stage = TrainDecoder(model, catalogue)
    batches = batches_of(split.train, recipe.model.decoder.events, recipe.decoder_loop.batch, catalogue.tokens.device)
    return Stage("decoder", stage, batches, validate, recipe.decoder_loop, recipe.seed, folder).run(on_epoch)


def semantic_ids(model: M6RecMini, catalogue: Catalogue, recipe: Recipe) -> Int64[Tensor, "items levels"]:
    """IDs of all items, from centroids that only the items of the training events have shaped.

    Those items come first, so that no other takes a number from them.
    """
    model.eval()
    with torch.no_grad():
        vectors = model.content_vectors(catalogue.tokens, catalogue.present).cpu().numpy()
    *sizes, spare = recipe.model.decoder.code_sizes
    rng = np.random.default_rng(recipe.seed)
    seen = catalogue.seen.cpu().numpy()
    quantiser = ResidualQuantiser.fit(vectors[seen], tuple(sizes), rng)
    order = np.argsort(~seen, kind="stable")
    ids = np.empty((len(vectors), len(sizes) + 1), np.int64)
    ids[order] = assign_ids(quantiser, vectors[order], spare)
    return torch.from_numpy(ids).to(catalogue.tokens.device)


def train_writing(
    model: M6RecMini,
    catalogue: Catalogue,
    split: Split,
    recipe: Recipe,
    folder: Path | None,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """Stage three: IDs and words on top. All that reads stays as it is, since IDs name its vectors.

    The trie is that of the items of training: no other ID is pushed away for not having been chosen.
    """
    assert catalogue.ids is not None
    device, events = catalogue.tokens.device, recipe.model.decoder.events
    model.requires_grad_(False)
    what_writes(model).requires_grad_(True)
    ids, cases = catalogue.ids[catalogue.seen].cpu().numpy(), split.validation
    trie = TrieTensors.of(Trie.build(ids, recipe.model.decoder.code_sizes), device)
    stage = TrainWriting(model, catalogue, recipe.writing, trie)
    pairs = zip(cases.histories, cases.targets.tolist(), strict=True)
    asked = [followed(history, target, events) for history, target in pairs if catalogue.seen[target]]
    judged = Batch.of(asked, device)

    @torch.no_grad()
    def validate() -> float:
        return -float(stage.loss(judged, judged.lengths[:, None] - 1)) / len(asked)

    batches = batches_of(split.train, events, recipe.writing_loop.batch, device)
    return Stage("writing", stage, batches, validate, recipe.writing_loop, recipe.seed, folder).run(on_epoch)


def what_writes(model: M6RecMini) -> nn.ModuleList:
    """The parts of the decoder that only writing needs."""
    decoder = model.decoder
    return nn.ModuleList([decoder.code, decoder.word, decoder.level, decoder.writer, decoder.norm_written])


def followed(history: History, target: int, events: int) -> History:
    """The last `events` of a history and the item that came next, as one history; its time is not told."""
    recent = history.last(events)
    now = recent.times[-1:] if len(recent) else np.zeros(1, np.int64)
    return History(np.append(recent.items, target), np.append(recent.actions, 0), np.concatenate([recent.times, now]))


def batches_of(
    train: Interactions, events: int, batch: int, device: torch.device | str
) -> Callable[[np.random.Generator], list[Batch]]:
    """The batches of an epoch: windows of `events`, and the one that comes next."""
    return lambda rng: [Batch.of(histories, device) for histories in windows(train, events + 1, batch, rng)]


def windows(train: Interactions, length: int, batch: int, rng: np.random.Generator) -> list[list[History]]:
    """Every user's events cut into windows at a random offset, in batches of about equal length.

    The newest window is always whole: it looks most like what will be asked. A user's first event is left
    out where it would be alone: only what follows something teaches what follows.
    """
    pieces = []
    for user in range(train.num_users):
        history = train.history(user)
        end = len(history)
        if end > length:
            pieces.append(history.last(length))
            end -= int(rng.integers(length))
        while end >= 2:
            start = max(end - length, 0)
            pieces.append(History(history.items[start:end], history.actions[start:end], history.times[start:end]))
            end = start
    order = rng.permutation(len(pieces))
    pool = 8 * batch  # sorted by length within pools, so that little is padding and batches still differ
    batches = []
    for start in range(0, len(order), pool):
        rows = sorted(order[start : start + pool], key=lambda row: len(pieces[row]))
        batches += [[pieces[row] for row in rows[i : i + batch]] for i in range(0, len(rows), batch)]
    return [batches[i] for i in rng.permutation(len(batches))]


@torch.no_grad()
def mean_loss(model: M6RecMini, catalogue: Catalogue, cases: Cases, batch: int = 256) -> float:
    """Mean -log p of what came next, among the items of training that the history does not hold.

    Smoother than a hit rate, so it needs fewer cases to tell one epoch from the next.
    """
    vectors = model.item_vectors(catalogue.tokens, catalogue.present, catalogue.seen)
    seen = catalogue.seen.cpu().numpy()
    kept = np.flatnonzero(seen[cases.targets])
    losses = []
    for start in range(0, len(kept), batch):
        part = cases.take(kept[start : start + batch])
        logits = model.vector_logits(last_states(model, vectors, part.histories), vectors)
        closed = torch.from_numpy(closed_items(part, seen)).to(logits.device)
        target = torch.from_numpy(part.targets).to(logits.device)
        losses.append(
            torch.nn.functional.cross_entropy(logits.masked_fill(closed, -torch.inf), target, reduction="none")
        )
    return float(torch.cat(losses).mean()) if losses else 0.0
