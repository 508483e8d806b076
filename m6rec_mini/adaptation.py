"""Cheap adaptation: a pretrained network learns a new task through few new numbers, its own kept.

`add_lora` lets chosen linear layers of any network move within a low rank (Hu et al. 2021). The rest
sorts items by their text with a pretrained encoder, in three ways set side by side:

* `FineTuning`: all weights move, and every task needs a network of its own.
* `PromptTuning`: the encoder is frozen; learned vectors stand after the text, and a linear layer
  reads the result (Lester et al. 2021, who put theirs in front).
* `OptionTuning` (M6-Rec, Cui et al. 2022, arXiv 2205.08084): one more such vector for each class, an
  *option*: it is read like a word, and is the class's weight in the softmax as well.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from m6rec_mini.content import PAD
from m6rec_mini.encoders import TextEncoder
from m6rec_mini.pretraining import ALONE, Share
from m6rec_mini.training import LoopConfig, Stage, seeded


class LoRALinear(nn.Linear):
    """A frozen linear layer and a low-rank change to it: h = W x + b + (alpha / rank) B A x (eq. 3).

    A (`down`) starts at random, B (`up`) at zero: nothing changes until B has learnt. `weight` and `bias`
    are those of `base`, names too, so its checkpoints still fit. Raises ValueError unless 1 <= rank < width.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        width = min(base.in_features, base.out_features)
        if not 1 <= rank < width:
            raise ValueError(f"rank {rank} is no low rank for a layer of width {width}; take 1 to {width - 1}")
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.requires_grad_(False)
        self.scale = alpha / rank  # so that another rank does not need another learning rate
        self.down = nn.Parameter(base.weight.new_empty(rank, base.in_features).normal_(std=base.in_features**-0.5))
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """The layer's output plus what two thin products add; their matrix is never built."""
        return super().forward(x) + self.scale * F.linear(F.linear(x, self.down), self.up)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain layer, frozen, that gives the same at no extra cost."""
        plain = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        plain.weight = nn.Parameter(self.weight + self.scale * self.up @ self.down, requires_grad=False)
        plain.bias = self.bias
        return plain


def add_lora(
    module: nn.Module, rank: int = 4, alpha: float = 8.0, targets: Sequence[str] = ("query", "value")
) -> list[LoRALinear]:
    """Freeze `module` and adapt the linear layers in it whose dotted name ends in one of `targets`.

    Only their low-rank factors then train. To adapt part of a network, freeze the whole first:
    `model.requires_grad_(False)`, then `add_lora(model.decoder)`. Returns the adapted layers. Raises
    ValueError if a target fits no linear layer, or only such as are adapted already.
    """
    plain = {name: layer for name, layer in module.named_modules() if type(layer) is nn.Linear and name}
    chosen: dict[str, nn.Linear] = {}
    for target in targets:
        fits = {name: layer for name, layer in plain.items() if f".{name}".endswith(f".{target}")}
        if not fits:
            raise ValueError(f"no plain linear layer's name ends in {target!r}; there are {', '.join(plain) or 'none'}")
        chosen |= fits
    adapted = {name: LoRALinear(layer, rank, alpha) for name, layer in chosen.items()}
    module.requires_grad_(False)
    for name, layer in adapted.items():
        module.set_submodule(name, layer)
    return list(adapted.values())


def merge_lora(module: nn.Module) -> None:
    """Put plain layers in place of the adapted ones, with what they learnt in their weights; all stay frozen."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, LoRALinear):
            module.set_submodule(name, layer.merged())


@dataclass(frozen=True, eq=False)
class Labelled:
    """Texts and the class of each."""

    ids: Int64[Tensor, "items length"]
    labels: Int64[Tensor, " items"]

    def rows(self, index: Int64[np.ndarray, " rows"]) -> Labelled:
        """The items at `index`, in that order."""
        return Labelled(self.ids[index], self.labels[index])


class Classifier(nn.Module):
    """Sorts items by their text. The encoder is adapted in place: hand over a copy to keep it as it was."""

    choose: Callable[[Tensor], Tensor]  # from what was read, "items dim", to how well each class fits it

    def __init__(self, encoder: TextEncoder, prompts: int) -> None:
        super().__init__()
        self.encoder, self.dim = encoder, encoder.embedding.embedding_dim
        self.prompts = nn.Parameter(torch.randn(prompts, self.dim) * self.dim**-0.5)  # as large as new words

    def logits(self, ids: Int64[Tensor, "items length"]) -> Float[Tensor, "items classes"]:
        """How well each class fits each text."""
        return self.choose(mean_state(self.encoder, ids, self.prompts))

    def forward(self, batch: Labelled, seed: int, share: Share = ALONE) -> Float[Tensor, ""]:  # noqa: ARG002
        """This process's share of the mean of -log p(class | text), as `training.Stage` wants it."""
        logits = self.logits(share(batch.ids))
        return F.cross_entropy(logits, share(batch.labels), reduction="sum") / len(batch.labels)

    @property
    def trainable_share(self) -> float:
        """Numbers that are learnt, as a share of all that the logits depend on."""
        used = [p for name, p in self.named_parameters() if not name.startswith("encoder.pool.")]
        return sum(p.numel() for p in used if p.requires_grad) / sum(p.numel() for p in used)


class PromptTuning(Classifier):
    """A frozen encoder, soft prompts and a linear layer; without prompts, a linear probe."""

    def __init__(self, encoder: TextEncoder, classes: int, prompts: int = 8) -> None:
        super().__init__(encoder.requires_grad_(False), prompts)
        self.choose = nn.Linear(self.dim, classes)


class FineTuning(PromptTuning):
    """A linear layer, and an encoder of which every weight trains."""

    def __init__(self, encoder: TextEncoder, classes: int) -> None:
        super().__init__(encoder, classes, prompts=0)
        encoder.requires_grad_(True)


class OptionTuning(Classifier):
    """A frozen encoder and soft prompts, of which the last, one a class, double as class weights.

    With a `rank`, the attention of its blocks gets low-rank adapters as well.
    """

    def __init__(self, encoder: TextEncoder, classes: int, prompts: int = 8, rank: int = 0, alpha: float = 8.0) -> None:
        super().__init__(encoder.requires_grad_(False), prompts + classes)
        self.classes = classes
        if rank:
            add_lora(encoder.blocks, rank, alpha)

    def choose(self, state: Float[Tensor, "items dim"]) -> Float[Tensor, "items classes"]:
        """Compared with each option, as words are with the embedding in pretraining."""
        return state @ self.prompts[-self.classes :].T


def mean_state(
    encoder: TextEncoder, ids: Int64[Tensor, "items length"], prompts: Float[Tensor, "prompts dim"]
) -> Float[Tensor, "items dim"]:
    """Mean of the states of a text's tokens, read in both directions, with `prompts` in everybody's sight.

    Prompts have no position: what they mean, they learn. A text without any token gives zeros. (The
    paper reads the last token; on our small encoders the mean was better.)
    """
    real, length = ids != PAD, ids.shape[1]
    text = encoder.embedding(ids) + encoder.position.weight[:length]
    x = torch.cat([text, prompts.expand(len(ids), -1, -1)], dim=1)  # items, length + prompts, dim
    itself = torch.eye(x.shape[1], dtype=torch.bool, device=ids.device)  # padding must see something
    mask = F.pad(real, (0, len(prompts)), value=True)[:, None, None] | itself
    for block in encoder.blocks:
        x = block(x, mask)
    states = encoder.norm(x)[:, :length] * real[..., None]  # items, length, dim
    return cast(Tensor, states.sum(1) / real.sum(1, keepdim=True).clamp(min=1))


@dataclass(frozen=True)
class AdaptationRow:
    """One line of the table."""

    way: str
    accuracy: float  # on items whose class was never looked at
    share: float  # of the parameters, that is trained
    rate: float  # of learning
    validation: float  # mean of log p(class), by which epoch and rate were chosen
    seconds: float  # of training at that rate


WAYS: dict[str, Callable[[TextEncoder, int], Classifier]] = {
    "fine-tuning": FineTuning,
    "linear probe": partial(PromptTuning, prompts=0),
    "prompt tuning": PromptTuning,
    "option tuning": OptionTuning,
    "option tuning + LoRA": partial(OptionTuning, rank=4),
}
LOOPS = tuple(LoopConfig(epochs=25, batch=32, learning_rate=rate) for rate in (3e-3, 2e-2))


def compare_adaptation(
    items: Labelled, encoder: TextEncoder, labelled: int = 400, loops: Sequence[LoopConfig] = LOOPS, seed: int = 0
) -> list[AdaptationRow]:
    """Adapt copies of `encoder` in each of the `WAYS` with the same budget; measure them on unseen items.

    Of the `labelled` items, drawn by `seed`, a fifth chooses epoch and loop. Classes are 0, 1, ...
    Raises ValueError if a label is negative, if too few items are labelled, or if none is left.
    """
    if not 5 <= labelled < len(items.labels):
        raise ValueError(f"{labelled} labelled of {len(items.labels)} items: take 5 or more, and leave some to measure")
    if int(items.labels.min()) < 0:
        raise ValueError(f"label {int(items.labels.min())}: classes count from 0; leave out items without a class")
    order, classes = np.random.default_rng(seed).permutation(len(items.labels)), int(items.labels.max()) + 1
    learn, judge, held_out = map(items.rows, np.split(order, [labelled - labelled // 5, labelled]))

    def attempt(name: str, loop: LoopConfig) -> AdaptationRow:
        with seeded(seed):
            way = WAYS[name](copy.deepcopy(encoder), classes).to(items.ids.device)
        value, seconds = adapt(way, learn, judge, loop, seed)
        return AdaptationRow(name, accuracy(way, held_out), way.trainable_share, loop.learning_rate, value, seconds)

    return [max((attempt(name, loop) for loop in loops), key=lambda row: row.validation) for name in WAYS]


def adapt(way: Classifier, learn: Labelled, judge: Labelled, loop: LoopConfig, seed: int) -> tuple[float, float]:
    """Train in place; returns the best mean of log p(class) on `judge`, and seconds."""

    def batches(rng: np.random.Generator) -> list[Labelled]:
        order = rng.permutation(len(learn.labels))
        return [learn.rows(order[start : start + loop.batch]) for start in range(0, len(order), loop.batch)]

    @torch.no_grad()
    def validate() -> float:
        return -float(way(judge, seed))

    log = Stage("adaptation", way, batches, validate, loop, seed).run()
    return max(epoch.validation for epoch in log), sum(epoch.seconds for epoch in log)


@torch.no_grad()
def accuracy(way: Classifier, items: Labelled) -> float:
    """Share of items whose best class is theirs."""
    parts = zip(items.ids.split(256), items.labels.split(256), strict=True)
    return sum(int((way.logits(ids).argmax(-1) == labels).sum()) for ids, labels in parts) / len(items.labels)
