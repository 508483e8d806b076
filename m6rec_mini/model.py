"""M6RecMini: encoders, fusion and decoder as one module, and how it reads histories.

The path of the data: `Content` → tokens per modality (encoders) → one vector per item (fusion) →
states of a history (decoder) → scores. Encoders are pretrained and then frozen, so their tokens
are computed once per catalogue; fusion runs again at every training step, since its vectors are
at once what the decoder reads and what the softmax compares with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from m6rec_mini.catalog import History
from m6rec_mini.content import Content, Shapes
from m6rec_mini.decoder import DecoderConfig, GenerativeDecoder, gap_buckets
from m6rec_mini.encoders import EncoderConfig, ItemEncoder, TextEncoder
from m6rec_mini.fusion import Concatenation, CrossModalFusion, FusionConfig, hide_modalities


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of all parts; the decoder's width is the fusion's."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    identities: bool = True  # add a learned vector per item of the training events (the paper has none)
    # Start as one that recommends what resembles the history: what is read and what is compared share a
    # space, and logits are small. Saves epochs, and items without events are ranked far better.
    echo: bool = True
    hide_identity: float = 0.5  # in training: how often it is hidden, so that content must do without it

    def __post_init__(self) -> None:
        if self.fusion.dim != self.decoder.dim:
            raise ValueError(
                f"fusion makes vectors of width {self.fusion.dim}, the decoder reads width {self.decoder.dim}: "
                "set both to the same"
            )


@dataclass(frozen=True, eq=False)
class Batch:
    """Histories side by side, oldest event first, padded at the end; `lengths` says how long each is."""

    items: Int64[Tensor, "batch events"]
    actions: Int64[Tensor, "batch events"]
    gaps: Int64[Tensor, "batch events"]
    lengths: Int64[Tensor, " batch"]

    @classmethod
    def of(cls, histories: Sequence[History], device: torch.device | str = "cpu") -> Batch:
        """Pad histories to the longest."""
        lengths = torch.tensor([len(h) for h in histories], dtype=torch.long)
        width = int(lengths.max()) if len(histories) else 0
        columns = np.zeros((3, len(histories), width), np.int64)
        for row, history in enumerate(histories):
            columns[:, row, : len(history)] = history.items, history.actions, history.times
        items, actions, times = torch.from_numpy(columns).to(device)
        return cls(items, actions, gap_buckets(times), lengths.to(device))

    @property
    def real(self) -> Bool[Tensor, "batch events"]:
        """True where there is an event, False where there is padding."""
        return torch.arange(self.items.shape[1], device=self.items.device) < self.lengths[:, None]

    @property
    def but_last(self) -> Batch:
        """Without the last column: what is read when every event is to be predicted."""
        return Batch(self.items[:, :-1], self.actions[:, :-1], self.gaps[:, :-1], (self.lengths - 1).clamp(min=0))

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same change to every tensor, such as a choice of rows or a move to a device."""
        return Batch(change(self.items), change(self.actions), change(self.gaps), change(self.lengths))


class M6RecMini(nn.Module):
    """The whole network. What it knows about a particular catalogue is in the tensors it is given."""

    token_mean: Tensor
    token_deviation: Tensor

    def __init__(self, config: ModelConfig, shapes: Shapes, num_items: int = 0) -> None:
        super().__init__()
        self.config = config
        self.identity = nn.Embedding(num_items if config.identities else 0, config.decoder.dim)
        nn.init.normal_(self.identity.weight, std=0.02)
        self.encoders = ItemEncoder(config.encoder, shapes)
        self.fusion = (
            CrossModalFusion(config.fusion, self.encoders.dim, self.encoders.tokens)
            if config.fusion.kind == "attention"
            else Concatenation(config.fusion, self.encoders.dim, self.encoders.tokens)
        )
        self.decoder = GenerativeDecoder(config.decoder)
        self.logit_scale = config.decoder.dim**-0.5 if config.echo else 1.0
        if config.echo:
            nn.init.eye_(self.decoder.project.weight)
            nn.init.zeros_(self.decoder.project.bias)
        scale = torch.zeros(self.encoders.tokens, self.encoders.dim)
        self.register_buffer("token_mean", scale)
        self.register_buffer("token_deviation", scale + 1)

    @torch.no_grad()
    def calibrate(self, content: Content) -> None:
        """Measure the frozen encoders' tokens on the items of training, so that `tokens` can standardise them.

        Most of a token is what all items share. Taken off here once, it need not be unlearnt by
        fusion, which then trains in half the steps.
        """
        tokens, present = self.encoders.encode_all(content)
        count = present.sum(0).clamp(min=1)[:, None]
        self.token_mean = (tokens * present[..., None]).sum(0) / count
        variance = ((tokens - self.token_mean).square() * present[..., None]).sum(0) / count
        deviation = variance.sqrt()  # of a modality that one item of training has, or none: 0, and no measure of others
        self.token_deviation = torch.where(deviation > 1e-4, deviation, 1.0)

    @torch.no_grad()
    def words(self, content: Content) -> Float[Tensor, "items width"]:
        """Which words the items' texts have; zeros for an item without text, no columns without any texts."""
        if "text" not in self.encoders.spans:
            return content.text.new_zeros((len(content), 0), dtype=torch.float32)
        text = cast(TextEncoder, self.encoders.encoders["text"])
        return text.words(content.text) * content.present["text"][:, None]

    @torch.no_grad()
    def tokens(self, content: Content) -> tuple[Float[Tensor, "items tokens token_dim"], Bool[Tensor, "items tokens"]]:
        """Standardised tokens of the frozen encoders, zeros where a modality is missing."""
        tokens, present = self.encoders.encode_all(content)
        return (tokens - self.token_mean) / self.token_deviation * present[..., None], present

    def content_vectors(
        self, tokens: Float[Tensor, "items tokens token_dim"], present: Bool[Tensor, "items tokens"]
    ) -> Float[Tensor, "items dim"]:
        """What the items' content says; in training, modalities are hidden at random."""
        if self.training:
            present = hide_modalities(present, self.encoders.spans, self.config.fusion.drop_modality)
        vectors: Tensor = self.fusion(tokens, present)
        return vectors

    def item_vectors(
        self,
        tokens: Float[Tensor, "items tokens token_dim"],
        present: Bool[Tensor, "items tokens"],
        known: Bool[Tensor, " items"],
    ) -> Float[Tensor, "items dim"]:
        """Content, and for the `known` of the first `num_items` also what behaviour has taught about each.

        An item that was in no training event has its content alone, and is ranked by it.
        """
        vectors = self.content_vectors(tokens, present)
        count = self.identity.num_embeddings
        if count == 0:
            return vectors
        identity = self.identity.weight * known[:count, None]
        if self.training:
            shown = torch.rand(count, 1, device=identity.device) >= self.config.hide_identity
            identity = identity * shown / (1 - self.config.hide_identity)
        return vectors + F.pad(identity, (0, 0, 0, len(vectors) - count))

    def embed(self, vectors: Float[Tensor, "items dim"], batch: Batch) -> Float[Tensor, "batch tokens dim"]:
        """The decoder's tokens for a batch of histories: the start token, then one per event."""
        return self.decoder.embed_events(F.embedding(batch.items, vectors), batch.actions, batch.gaps)

    def vector_logits(
        self, states: Float[Tensor, "*batch dim"], vectors: Float[Tensor, "items dim"]
    ) -> Float[Tensor, "*batch items"]:
        """How well each item would come next: the state against its vector."""
        return states @ vectors.T * self.logit_scale


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain data for JSON."""
    return asdict(config)


C = TypeVar("C")


def from_dict(kind: type[C], values: Any) -> C:
    """The config dataclass that `to_dict` wrote; raises ValueError for an unknown field or choice."""
    if not isinstance(values, dict):
        raise ValueError(f"{kind.__name__} has fields, as a JSON object; got {values!r}")
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {unknown[0]!r}; it has {', '.join(sorted(known))}")

    def convert(name: str, value: Any) -> Any:
        if is_dataclass(hints[name]):
            return from_dict(hints[name], value)
        if get_origin(hints[name]) is Literal and value not in get_args(hints[name]):
            raise ValueError(f"{kind.__name__}.{name} is {value!r}; expected one of {get_args(hints[name])}")
        return tuple(value) if isinstance(value, list) else value

    return kind(**{name: convert(name, value) for name, value in values.items()})
