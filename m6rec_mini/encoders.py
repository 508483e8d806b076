"""Encoders: from an item's text, picture, sound and vectors to a few tokens of one width.

Each modality has a network that suits its form and one interface: `forward(x)` gives `tokens`
vectors of width `dim`, so whatever comes after need not know where they came from. `ItemEncoder`
sets the tokens of all modalities side by side, with a mask for what an item does not have.

Text: Transformer, masked (BERT, Devlin et al. 2019) or causal (GPT, Radford et al. 2018). Image:
ResNet (He et al. 2016) or VGG (Simonyan and Zisserman 2015). Sound: WaveNet's gated dilated causal
convolutions (van den Oord et al. 2016, eq. 2), or a Transformer, over log-mel frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from scipy.sparse.linalg import svds
from torch import Tensor, nn

from m6rec_mini.catalog import RAW_MODALITIES
from m6rec_mini.content import EOS, PAD, Content, Shapes
from m6rec_mini.content import log_mel as log_mel  # what AudioEncoder reads
from m6rec_mini.transformer import Attention, Block, causal_mask

GROUPS = 4  # of channels that GroupNorm normalises together
STAGES = (16, 32, 64)  # channels of the image network; each stage halves the side
WORD_TOKENS = 2  # of a text's words regardless of order, beside those of its reading
EXACT = 500  # texts or tokens up to which all axes are computed: safe where few of them mean anything
KERNEL = 2  # frames that one of WaveNet's convolutions sees


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the encoders and the choice between two networks for image and audio."""

    dim: int = 64  # width of every token
    layers: int = 2  # of the text Transformer
    heads: int = 4
    tokens: int = 4  # for each of text, image and audio; a feature vector is one token
    image: Literal["resnet", "vgg"] = "resnet"
    audio: Literal["wavenet", "transformer"] = "wavenet"
    dropout: float = 0.0


class MaskedPool(nn.Module):
    """Some tokens that stand for a sequence: its plain mean, and what learned queries find in it.

    The mean is a good summary from the first step; the queries learn what else is worth keeping.
    """

    def __init__(self, dim: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(tokens - 1, dim)) if tokens > 1 else None
        self.attention = Attention(dim, heads) if tokens > 1 else None

    def forward(
        self, states: Float[Tensor, "items length dim"], real: Bool[Tensor, "items length"]
    ) -> Float[Tensor, "items tokens dim"]:
        """Pool where `real`; a row without any real state gives a mean of zero, not NaN."""
        weights = real.to(states.dtype).unsqueeze(-1)
        mean = (states * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp(min=1)
        if self.queries is None or self.attention is None:
            return mean
        visible = real | ~real.any(1, keepdim=True)  # softmax over nothing is NaN: let an empty row see its padding
        queries = self.queries.expand(len(states), -1, -1)  # items, tokens - 1, dim
        return torch.cat([mean, self.attention(queries, states, visible[:, None, None])], dim=1)


class TextEncoder(nn.Module):
    """A Transformer over token ids, which can read in both directions (BERT) or only back (GPT)."""

    word_mean: Tensor
    word_axes: Tensor

    def __init__(
        self, vocab: int, dim: int, layers: int, heads: int, length: int, tokens: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.tokens = tokens + WORD_TOKENS
        self.embedding, self.position = nn.Embedding(vocab, dim), nn.Embedding(length, dim)
        for table in (self.embedding, self.position):
            nn.init.normal_(table.weight, std=dim**-0.5)  # the first word logits are then about N(0, 1)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.pool = MaskedPool(dim, heads, tokens)
        self.register_buffer("word_mean", torch.zeros(vocab))
        self.register_buffer("word_axes", torch.zeros(vocab, WORD_TOKENS * dim))

    def fit_words(self, ids: Int64[Tensor, "items length"]) -> None:
        """Learn the axes of `words`: those along which these texts differ most.

        Latent semantic analysis (Deerwester et al. 1990). A Transformer that has read two thousand
        texts knows their order, but which words they share is told better by counting.
        """
        bags = bag_of_words(ids, len(self.word_mean))
        self.word_mean = bags.mean(0)
        centred = (bags - self.word_mean).cpu().double().numpy()
        rank = min(self.word_axes.shape[1], min(bags.shape) - 1)
        if min(bags.shape) <= EXACT:
            axes = np.linalg.svd(centred, full_matrices=False)[2][:rank]
        else:  # only the first axes, from a fixed start so that they are always the same
            axes = svds(centred, rank, v0=np.random.default_rng(0).normal(size=min(bags.shape)))[2]
        self.word_axes = F.pad(torch.from_numpy(axes.T.copy()).to(bags), (0, self.word_axes.shape[1] - rank))

    def words(self, ids: Int64[Tensor, "items length"]) -> Float[Tensor, "items width"]:
        """Which words a text has, whatever their order, as numbers along the axes of `fit_words`."""
        return (bag_of_words(ids, len(self.word_mean)) - self.word_mean) @ self.word_axes

    def states(self, ids: Int64[Tensor, "items length"], causal: bool) -> Float[Tensor, "items length dim"]:
        """One state a token. Padding is never looked at; if `causal`, neither is what comes later."""
        length = ids.shape[1]
        if length > self.position.num_embeddings:
            raise ValueError(f"text has {length} tokens; this encoder has positions for {self.position.num_embeddings}")
        # Each token sees itself, padding too: a row of a softmax that sees nothing would be NaN.
        mask = (ids != PAD)[:, None, None] | torch.eye(length, dtype=torch.bool, device=ids.device)
        if causal:
            mask = mask & causal_mask(length, ids.device)
        x = self.embedding(ids) + self.position.weight[:length]
        for block in self.blocks:
            x = block(x, mask)
        return cast(Tensor, self.norm(x))

    def word_logits(self, states: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocab"]:
        """Scores of every token of the vocabulary; the embedding serves as output layer as well."""
        return states @ self.embedding.weight.T

    def forward(self, ids: Int64[Tensor, "items length"]) -> Float[Tensor, "items tokens dim"]:
        """Tokens of a text that is read in both directions, then those of the words that it has."""
        read = without_padding(ids)
        pooled = self.pool(self.states(read, causal=False), read != PAD)
        return torch.cat([pooled, self.words(ids).unflatten(1, (WORD_TOKENS, -1))], dim=1)  # items, tokens, dim


def without_padding(ids: Int64[Tensor, "items length"]) -> Int64[Tensor, "items longest"]:
    """Only as many columns as the longest of these texts needs (at least one): what follows changes nothing."""
    used = (ids != PAD).any(0).nonzero()
    return ids[:, : int(used.max()) + 1 if len(used) else 1]


def bag_of_words(ids: Int64[Tensor, "items length"], vocab: int) -> Float[Tensor, "items vocab"]:
    """1 for each token that a text has at least once; special tokens do not count."""
    bags = torch.zeros(len(ids), vocab, device=ids.device).scatter_(1, ids, 1.0)
    bags[:, : EOS + 1] = 0
    return bags


class Residual(nn.Module):
    """Two convolutions added to their input, which halve the side when `stride` is 2.

    The shortcut hands the gradient down unchanged, so depth cannot make a network worse than the
    shallow one inside it. Pre-activation order, He et al. 2016b.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, inputs), nn.GroupNorm(GROUPS, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(
        self, x: Float[Tensor, "items inputs height width"]
    ) -> Float[Tensor, "items outputs new_height new_width"]:
        """Shortcut plus what the convolutions add."""
        y = self.conv1(F.relu(self.norm1(x)))
        return cast(Tensor, self.shortcut(x) + self.conv2(F.relu(self.norm2(y))))


class Vgg(nn.Sequential):
    """Two plain convolutions, then the maximum of each 2 x 2 pixels: what ResNet is compared with."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for width in (inputs, outputs):
            layers += [nn.Conv2d(width, outputs, 3, padding=1), nn.GroupNorm(GROUPS, outputs), nn.ReLU()]
        super().__init__(*layers, nn.MaxPool2d(2))


class ImageEncoder(nn.Module):
    """A small convolutional network; each token is one field of a grid, 2 x 2 for four tokens.

    GroupNorm, not BatchNorm: it has no running statistics, so a picture gives the same tokens in
    training and frozen, alone and in a batch, on one machine and on several.
    """

    def __init__(self, dim: int, arch: Literal["resnet", "vgg"] = "resnet", tokens: int = 4) -> None:
        super().__init__()
        side = math.isqrt(tokens)
        if side * side != tokens:
            raise ValueError(f"{tokens} image tokens do not make a square grid; take 1, 4, 9, ...")
        self.tokens = tokens
        pairs = list(pairwise(STAGES))
        if arch == "resnet":
            stages: list[nn.Module] = [Residual(a, b, stride=2) for a, b in pairs]
            stages = [Residual(STAGES[0], STAGES[0], stride=1), *stages, nn.GroupNorm(GROUPS, STAGES[-1]), nn.ReLU()]
        else:
            stages = [nn.ReLU(), *(Vgg(a, b) for a, b in pairs)]
        self.net = nn.Sequential(nn.Conv2d(3, STAGES[0], 3, padding=1), *stages, nn.AdaptiveAvgPool2d(side))
        self.project = nn.Linear(STAGES[-1], dim)

    def forward(self, image: Float[Tensor, "items 3 height width"]) -> Float[Tensor, "items tokens dim"]:
        """One token for each field of the grid, row by row."""
        fields = self.net(image).flatten(2).transpose(1, 2)  # items, channels, side, side -> items, tokens, channels
        return cast(Tensor, self.project(fields))


class GatedLayer(nn.Module):
    """WaveNet's layer: a frame and the one `dilation` before it, filtered and gated."""

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.past = (KERNEL - 1) * dilation  # frames of silence set before the start: nothing sees the future
        self.filter_gate = nn.Conv1d(dim, 2 * dim, KERNEL, dilation=dilation)
        self.residual_skip = nn.Conv1d(dim, 2 * dim, 1)

    def forward(
        self, x: Float[Tensor, "items dim frames"]
    ) -> tuple[Float[Tensor, "items dim frames"], Float[Tensor, "items dim frames"]]:
        """Input for the next layer, and this layer's share (skip) of the output."""
        filtered, gate = self.filter_gate(F.pad(x, (self.past, 0))).chunk(2, dim=1)
        residual, skip = self.residual_skip(filtered.tanh() * gate.sigmoid()).chunk(2, dim=1)
        return x + residual, skip


class WaveNet(nn.Module):
    """Dilations 1, 2, 4, ...: each layer doubles how far back a frame can hear, at the same cost."""

    def __init__(self, mels: int, dim: int, layers: int = 5) -> None:
        super().__init__()
        self.receptive_field = 1 + (KERNEL - 1) * (2**layers - 1)  # frames, the present one included
        self.entry = nn.Conv1d(mels, dim, 1)
        self.layers = nn.ModuleList(GatedLayer(dim, 2**n) for n in range(layers))
        self.exit = nn.Conv1d(dim, dim, 1)

    def forward(self, mel: Float[Tensor, "items mels frames"]) -> Float[Tensor, "items dim frames"]:
        """One state a frame, made from that frame and those before it."""
        x = self.entry(mel)
        total = torch.zeros_like(x)
        for layer in self.layers:
            x, skip = layer(x)
            total = total + skip
        return cast(Tensor, self.exit(F.relu(total)))


class SoundTransformer(nn.Module):
    """Frames as tokens: every frame hears every other, so the order has to be told to it."""

    def __init__(self, mels: int, dim: int, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.entry, self.norm = nn.Conv1d(mels, dim, 1), nn.LayerNorm(dim)
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(layers)))

    def forward(self, mel: Float[Tensor, "items mels frames"]) -> Float[Tensor, "items dim frames"]:
        """One state a frame."""
        x = self.entry(mel).transpose(1, 2)  # items, frames, dim
        x = self.blocks(x + sinusoids(x.shape[1], x.shape[2]).to(x))
        return cast(Tensor, self.norm(x).transpose(1, 2))


def sinusoids(length: int, dim: int) -> Float[Tensor, "length dim"]:
    """Positions as waves of falling frequency, for any length (Vaswani et al. 2017, section 3.5)."""
    angles = torch.arange(length)[:, None] * 10_000 ** (-torch.arange(0, dim, 2) / dim)
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :dim]


class AudioEncoder(nn.Module):
    """WaveNet or a Transformer over log-mel frames; each token is the mean of a stretch of time."""

    def __init__(
        self, mels: int, dim: int, arch: Literal["wavenet", "transformer"] = "wavenet", tokens: int = 4
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.net = WaveNet(mels, dim) if arch == "wavenet" else SoundTransformer(mels, dim)

    def forward(self, mel: Float[Tensor, "items mels frames"]) -> Float[Tensor, "items tokens dim"]:
        """Tokens in order of time."""
        return F.adaptive_avg_pool1d(self.net(mel), self.tokens).transpose(1, 2)


class VectorEncoder(nn.Module):
    """A vector that somebody else's encoder has made, cut into tokens; there is nothing left to encode."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.dim, self.tokens = dim, math.ceil(width / dim)

    def forward(self, vector: Float[Tensor, "items width"]) -> Float[Tensor, "items tokens dim"]:
        """As many tokens as it takes, the last one filled up with zeros."""
        padded = F.pad(vector, (0, self.tokens * self.dim - vector.shape[1]))
        return cast(Tensor, padded.unflatten(1, (self.tokens, self.dim)))  # items, tokens * dim -> items, tokens, dim


class ItemEncoder(nn.Module):
    """All modalities' tokens side by side, in the reader's order, with what is missing masked.

    `spans` says which tokens belong to which modality. To each token a learned vector is added
    that tells the fusion which modality it is from, and which of its tokens it is.
    """

    def __init__(self, config: EncoderConfig, shapes: Shapes) -> None:
        super().__init__()
        self.encoders, self.spans = nn.ModuleDict(), dict[str, slice]()
        end = 0
        for name in shapes.modalities:
            encoder = build_encoder(name, config, shapes)
            self.encoders[module_name(name)] = encoder
            self.spans[name] = slice(end, end := end + encoder.tokens)
        self.dim, self.tokens = config.dim, end
        self.place = nn.Parameter(torch.randn(end, config.dim) * config.dim**-0.5)

    def forward(self, content: Content) -> tuple[Float[Tensor, "items tokens dim"], Bool[Tensor, "items tokens"]]:
        """Tokens and which of them are present; the tokens of a missing modality are zeros.

        Only what is there is encoded, so nothing can leak from a missing modality, and none of
        its time is lost. Raises KeyError if the content was read without one of the modalities.
        """
        tokens = self.place.new_zeros(len(content), self.tokens, self.dim)
        present = torch.zeros(len(content), self.tokens, dtype=torch.bool, device=tokens.device)
        for name, span in self.spans.items():
            there = content.present[name]
            encoded = self.encoders[module_name(name)](content.of(name)[there])
            tokens[there, span] = encoded + self.place[span]
            present[:, span] = there[:, None]
        return tokens, present

    @torch.no_grad()
    def encode_all(
        self, content: Content, batch: int = 256
    ) -> tuple[Float[Tensor, "items tokens dim"], Bool[Tensor, "items tokens"]]:
        """The same for a whole catalog, frozen (no dropout, no gradient), `batch` items at a time."""
        was_training = self.training
        self.eval()
        starts = range(0, max(len(content), 1), batch)  # no items make one batch of none
        parts = [self(content.rows(slice(start, start + batch))) for start in starts]
        self.train(was_training)
        tokens, present = zip(*parts, strict=True)
        return torch.cat(tokens), torch.cat(present)


def build_encoder(
    modality: str, config: EncoderConfig, shapes: Shapes
) -> TextEncoder | ImageEncoder | AudioEncoder | VectorEncoder:
    """The encoder of one modality."""
    dim, tokens = config.dim, config.tokens
    if modality == "text":
        return TextEncoder(shapes.vocab, dim, config.layers, config.heads, shapes.text_length, tokens, config.dropout)
    if modality == "image":
        return ImageEncoder(dim, config.image, tokens)
    if modality == "audio":
        return AudioEncoder(shapes.mels, dim, config.audio, tokens)
    return VectorEncoder(shapes.widths[modality], dim)


def module_name(modality: str) -> str:
    """Key in `ItemEncoder.encoders`: a feature may be called "type" or "a.b", which modules may not."""
    return modality if modality in RAW_MODALITIES else "feature_" + modality.replace(".", "·")
