"""Cheap adaptation: a pretrained network learns a new task through few new numbers, its own kept.

`add_lora` lets chosen linear layers of any network move within a low rank (LoRA, Hu et al. 2021).
The rest is about sorting items by their text with a pretrained encoder, in three ways that share one
interface, `Classifier`, so that `compare_adaptation` can set them side by side:

* `FineTuning`: all weights move, for each task a whole network to keep.
* `PromptTuning`: the encoder is frozen; learned vectors stand after the text's tokens, and a linear
  layer reads the result (Lester et al. 2021, who put theirs in front).
* `OptionTuning` (M6-Rec, Cui et al. 2022, arXiv 2205.08084): one more such vector for each class, an
  *option*, which is read like a word and is at once the class's weight in the softmax. It is tied as
  the word embedding is in pretraining, and the encoder sees what it may choose from.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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

# ---- low-rank adapters ----------------------------------------------------------------------------


class LoRALinear(nn.Linear):
    """A frozen linear layer and a low-rank change to it: h = W x + b + (alpha / rank) B A x.

    A (`down`) starts at random and B (`up`) at zero, so that nothing changes until B has learnt.
    `weight` and `bias` are those of `base` and keep their names: its checkpoints still fit.
    Raises ValueError if `rank` is below 1, or no lower than what the layer has anyway.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        smaller = min(base.in_features, base.out_features)
        if not 1 <= rank < smaller:
            raise ValueError(f"rank {rank} of an adapter for {tuple(base.weight.shape)}; take 1 to {smaller - 1}")
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.requires_grad_(False)
        self.scale = alpha / rank  # so that the rank can be changed without a new learning rate
        down = base.weight.new_empty(rank, base.in_features).normal_(std=base.in_features**-0.5)
        self.down, self.up = nn.Parameter(down), nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Two thin products beside the thick one, cheaper than to build their matrix."""
        return super().forward(x) + self.scale * F.linear(F.linear(x, self.down), self.up)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One frozen plain layer that does the same, at no extra cost."""
        plain = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        plain.weight = nn.Parameter(self.weight + self.scale * self.up @ self.down, requires_grad=False)
        plain.bias = self.bias
        return plain


def add_lora(
    module: nn.Module, rank: int = 4, alpha: float = 8.0, targets: Sequence[str] = ("query", "value")
) -> list[LoRALinear]:
    """Freeze `module` and adapt the linear layers in it whose dotted name ends in one of `targets`.

    Only the low-rank factors then train. To adapt a part of a network, freeze the whole of it first:
    `model.requires_grad_(False); add_lora(model.decoder)`. Returns the adapted layers. Raises
    ValueError if a target fits no linear layer, or one that has an adapter already.
    """
    linear = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    chosen = {target: [name for name in linear if f".{name}".endswith(f".{target}")] for target in targets}
    for target, names in chosen.items():
        if not names:
            raise ValueError(f"no linear layer is called {target!r}; there are {', '.join(linear) or 'none'}")
        if any(isinstance(linear[name], LoRALinear) for name in names):
            raise ValueError(f"{names[0]!r} has an adapter already; train that one, or merge_lora first")
    module.requires_grad_(False)
    adapted = {name: LoRALinear(linear[name], rank, alpha) for names in chosen.values() for name in names}
    for name, layer in adapted.items():
        module.set_submodule(name, layer)
    return list(adapted.values())


def merge_lora(module: nn.Module) -> None:
    """Put plain layers in place of the adapted ones; what they learnt is in the weights, which stay frozen."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, LoRALinear):
            module.set_submodule(name, layer.merged())


# ---- ways to sort items by their text -------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Labelled:
    """Texts and the class of each."""

    ids: Int64[Tensor, "items length"]
    labels: Int64[Tensor, " items"]

    def rows(self, index: Int64[np.ndarray, " rows"]) -> Labelled:
        """The items at `index`, in that order."""
        return Labelled(self.ids[index], self.labels[index])


class Classifier(nn.Module, ABC):
    """Sorts items by what `encoder` makes of their text. The encoder is changed in place: hand over a copy."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    @abstractmethod
    def logits(self, ids: Int64[Tensor, "items length"]) -> Float[Tensor, "items classes"]:
        """How well each class fits each text."""

    def forward(self, batch: Labelled, seed: int, share: Share = ALONE) -> Float[Tensor, ""]:  # noqa: ARG002
        """This process's share of the mean of -log p(class | text), as `training.Stage` wants it."""
        logits = self.logits(share(batch.ids))
        return F.cross_entropy(logits, share(batch.labels), reduction="sum") / len(batch.labels)

    @property
    def trained(self) -> int:
        """How many numbers are learnt."""
        return sum(p.numel() for p in self._used if p.requires_grad)

    @property
    def trainable_share(self) -> float:
        """The same as a share of all numbers that the logits depend on."""
        return self.trained / sum(p.numel() for p in self._used)

    @property
    def _used(self) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters() if not name.startswith("encoder.pool.")]


class FineTuning(Classifier):
    """Every weight of the encoder trains, and a linear layer over the mean of its states."""

    def __init__(self, encoder: TextEncoder, classes: int) -> None:
        super().__init__(encoder.requires_grad_(True))
        self.head = nn.Linear(encoder.embedding.embedding_dim, classes)

    def logits(self, ids: Int64[Tensor, "items length"]) -> Float[Tensor, "items classes"]:
        """How well each class fits each text."""
        return cast(Tensor, self.head(mean_state(self.encoder, ids)))


class PromptTuning(Classifier):
    """A frozen encoder, `prompts` soft prompts and a linear layer; with no prompts, a linear probe."""

    def __init__(self, encoder: TextEncoder, classes: int, prompts: int = 8) -> None:
        super().__init__(encoder.requires_grad_(False))
        self.prompts, self.head = _prompts(encoder, prompts), nn.Linear(encoder.embedding.embedding_dim, classes)

    def logits(self, ids: Int64[Tensor, "items length"]) -> Float[Tensor, "items classes"]:
        """How well each class fits each text."""
        return cast(Tensor, self.head(mean_state(self.encoder, ids, self.prompts)))


class OptionTuning(Classifier):
    """A frozen encoder and `prompts` + `classes` soft prompts, of which the last double as class weights."""

    def __init__(self, encoder: TextEncoder, classes: int, prompts: int = 8) -> None:
        super().__init__(encoder.requires_grad_(False))
        self.classes, self.prompts = classes, _prompts(encoder, prompts + classes)

    @property
    def options(self) -> Float[Tensor, "classes dim"]:
        """The soft prompts that stand for the classes, both where they are read and where they are chosen."""
        return self.prompts[-self.classes :]

    def logits(self, ids: Int64[Tensor, "items length"]) -> Float[Tensor, "items classes"]:
        """How well each class fits each text."""
        return mean_state(self.encoder, ids, self.prompts) @ self.options.T


def mean_state(
    encoder: TextEncoder, ids: Int64[Tensor, "items length"], prompts: Float[Tensor, "prompts dim"] | None = None
) -> Float[Tensor, "items dim"]:
    """Mean of the states of a text's tokens, read in both directions, with `prompts` in everybody's sight.

    Prompts come after the text and have no position: what they mean, they learn. A text without any
    token gives zeros.
    """
    real = ids != PAD
    x = encoder.embedding(ids) + encoder.position.weight[: ids.shape[1]]
    visible = real
    if prompts is not None:
        x = torch.cat([x, prompts.expand(len(ids), -1, -1)], dim=1)  # items, length + prompts, dim
        visible = F.pad(real, (0, len(prompts)), value=True)
    mask = visible[:, None, None] | torch.eye(x.shape[1], dtype=torch.bool, device=ids.device)  # padding sees itself
    for block in encoder.blocks:
        x = block(x, mask)
    states = encoder.norm(x)[:, : ids.shape[1]]  # items, length, dim
    return (states * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)


def _prompts(encoder: TextEncoder, count: int) -> nn.Parameter:
    dim = encoder.embedding.embedding_dim
    return nn.Parameter(torch.randn(count, dim, device=encoder.embedding.weight.device) * dim**-0.5)  # like new words


# ---- side by side ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class AdaptationConfig:
    """What every way is given: the same items, epochs and learning rates to try."""

    labelled: int = 400  # items whose class may be looked at; every fifth chooses the epoch and the rate
    prompts: int = 8
    rank: int = 4
    alpha: float = 8.0
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    loop: LoopConfig = LoopConfig(epochs=20, batch=32, patience=5)


@dataclass(frozen=True)
class AdaptationRow:
    """One line of the table."""

    way: str
    accuracy: float  # on held-out items
    trained: int  # numbers that are learnt, and have to be kept for each task
    share: float  # of all the numbers that are used
    rate: float  # learning rate, chosen on validation
    seconds: float  # of training at that rate


def with_adapters(way: Classifier, config: AdaptationConfig) -> Classifier:
    """The same, and low-rank adapters in the blocks of its encoder."""
    add_lora(way.encoder.blocks, config.rank, config.alpha)
    return way


WAYS: dict[str, Callable[[TextEncoder, int, AdaptationConfig], Classifier]] = {
    "fine-tuning": lambda encoder, classes, _: FineTuning(encoder, classes),
    "linear probe": lambda encoder, classes, _: PromptTuning(encoder, classes, prompts=0),
    "prompt tuning": lambda encoder, classes, config: PromptTuning(encoder, classes, config.prompts),
    "option tuning": lambda encoder, classes, config: OptionTuning(encoder, classes, config.prompts),
    "option tuning + LoRA": lambda encoder, classes, config: with_adapters(
        OptionTuning(encoder, classes, config.prompts), config
    ),
}


def compare_adaptation(
    ids: Int64[Tensor, "items length"],
    labels: Int64[Tensor, " items"],
    encoder: TextEncoder,
    config: AdaptationConfig | None = None,
    seed: int = 0,
) -> list[AdaptationRow]:
    """Adapt copies of `encoder` in each of the `WAYS` and measure them on the items that none has seen.

    `labels` are 0, 1, ...; `seed` draws which items are labelled. Raises ValueError if a label is
    negative or no item is left to measure on.
    """
    config = config or AdaptationConfig()
    if len(labels) and int(labels.min()) < 0:
        raise ValueError(f"label {int(labels.min())}: classes count from 0; leave items without a class out")
    learn, judge, held_out = (Labelled(ids, labels).rows(part) for part in draw_items(len(ids), config.labelled, seed))
    rows = []
    for name, build in WAYS.items():
        tries = []
        for rate in config.rates:
            with seeded(seed):
                way = build(copy.deepcopy(encoder), int(labels.max()) + 1, config)
            loop = replace(config.loop, learning_rate=rate)
            value, seconds = adapt(way, learn, judge, loop, seed)
            tries.append((value, AdaptationRow(name, accuracy(way, held_out), way.trained, way.trainable_share, rate, seconds)))
        rows.append(max(tries, key=lambda pair: pair[0])[1])
    return rows


def draw_items(count: int, labelled: int, seed: int) -> tuple[Int64[np.ndarray, " _"], ...]:
    """Rows of the items to learn from, to choose on (a fifth of the labelled) and to measure on (all others)."""
    if not 5 <= labelled < count:
        raise ValueError(f"{labelled} labelled items of {count}: take at least 5, and leave some to measure on")
    order = np.random.default_rng(seed).permutation(count)
    return tuple(np.split(order, [labelled - labelled // 5, labelled]))


def adapt(way: Classifier, learn: Labelled, judge: Labelled, loop: LoopConfig, seed: int) -> tuple[float, float]:
    """Train in place; returns the best mean of log p(class) on `judge`, and seconds."""

    def batches(rng: np.random.Generator) -> list[Labelled]:
        order = rng.permutation(len(learn.labels))
        return [learn.rows(order[start : start + loop.batch]) for start in range(0, len(order), loop.batch)]

    @torch.no_grad()
    def validate() -> float:
        return -float(way(judge, seed))

    log = Stage("adaptation", way, batches, validate, loop, seed).run()
    way.eval()
    return max(epoch.validation for epoch in log), sum(epoch.seconds for epoch in log)


@torch.no_grad()
def accuracy(way: Classifier, items: Labelled) -> float:
    """Share of items whose best class is theirs."""
    parts = zip(items.ids.split(256), items.labels.split(256), strict=True)
    return sum(int((way.logits(ids).argmax(-1) == labels).sum()) for ids, labels in parts) / len(items.labels)
