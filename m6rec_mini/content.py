"""From items to what the encoders read: token ids, pictures, log-mel sounds, vectors.

Items come with words, pixels and samples in any amount; a network wants tensors of one shape.
A `ContentReader` learns from a catalog what it needs for that (a vocabulary, the scale of each
number) and from then on reads any item the same way, also one that arrives a year later. What is
missing becomes zeros and is not `present`, so that nobody can take it for silence or a grey picture.

Words: byte-pair encoding over bytes (Sennrich et al. 2016; Radford et al. 2019), so no text in any
script is unknown. Sound: logarithm of mel-band energies (Davis and Mermelstein 1980, HTK's formula).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from PIL import Image
from scipy.signal import resample_poly
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from m6rec_mini.catalog import RAW_MODALITIES, Catalog, Item, Sound

SPECIAL_TOKENS = ("[PAD]", "[MASK]", "[BOS]", "[EOS]")
PAD, MASK, BOS, EOS = range(4)
SMALLEST_VOCAB = len(SPECIAL_TOKENS) + 256  # one token for each byte, so that nothing is unknown
PIXEL_MEAN, PIXEL_DEVIATION = 0.45, 0.27  # of photographs in general, on a scale of 0 to 1
CHARACTERS_PER_TOKEN = 32  # far more than any: longer text is cut before it costs time
QUIET = 1e-6  # energy below hearing, so that silence has a logarithm
BATCH = 256  # items at a time, which bounds the memory of spectra
CLIP = 5.0  # standard deviations; one absurd measurement must not drown the rest

Rows: TypeAlias = Float32[np.ndarray, "items *shape"]  # one modality of many items


@dataclass(frozen=True)
class ContentConfig:
    """Sizes of what the encoders read; `modalities` names the ones to read (None: all there are)."""

    vocab: int = 4000  # at most; little text makes fewer tokens
    text_length: int = 32  # tokens, with [BOS] and [EOS]
    image_size: int = 32  # pixels a side
    rate: int = 8000  # Hz
    seconds: float = 1.0  # read from the start of each sound
    mels: int = 32  # bands
    window: int = 256  # samples a frame
    hop: int = 128  # samples from one frame to the next
    modalities: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.vocab < SMALLEST_VOCAB:
            raise ValueError(f"vocab is {self.vocab}; at least {SMALLEST_VOCAB}: every byte and the special tokens")
        if self.text_length < 3:
            raise ValueError(f"text_length is {self.text_length}; at least 3: [BOS], one token, [EOS]")
        if self.samples < self.window:
            raise ValueError(f"{self.seconds} s at {self.rate} Hz is less than one window of {self.window} samples")

    @property
    def samples(self) -> int:
        """Samples that are read of each sound."""
        return round(self.rate * self.seconds)

    @property
    def frames(self) -> int:
        """Columns of a log-mel picture."""
        return 1 + (self.samples - self.window) // self.hop


@dataclass(frozen=True)
class Shapes:
    """What must be known to build the encoders of a reader's content."""

    modalities: tuple[str, ...]  # text, image, audio (those that are read), then features by name
    vocab: int  # tokens that there are, special ones too
    text_length: int
    mels: int
    widths: Mapping[str, int]  # of each feature


@dataclass(frozen=True, eq=False)
class Content:
    """What the encoders read, one row an item. A missing modality is zeros, and not `present`."""

    text: Int64[Tensor, "items length"]  # token ids
    image: Float32[Tensor, "items 3 height width"]
    audio: Float32[Tensor, "items mels frames"]  # log-mel
    features: dict[str, Float32[Tensor, "items _"]]
    present: dict[str, Bool[Tensor, " items"]]  # the reader's modalities, in its order

    def __len__(self) -> int:
        return len(self.text)

    def of(self, modality: str) -> Tensor:
        """The tensor of one modality, items first."""
        raw = {"text": self.text, "image": self.image, "audio": self.audio}
        return raw[modality] if modality in raw else self.features[modality]

    def rows(self, index: Int64[Tensor, " rows"] | Bool[Tensor, " items"] | slice) -> Content:
        """The items at `index`, in that order; rows may repeat."""
        return self._each(lambda x: x[index])

    def to(self, device: torch.device | str) -> Content:
        """The same on another device."""
        return self._each(lambda x: x.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Content:
        features = {name: change(x) for name, x in self.features.items()}
        present = {name: change(x) for name, x in self.present.items()}
        return Content(change(self.text), change(self.image), change(self.audio), features, present)


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and standard deviation of each number of a vector, as measured on the fitted items."""

    mean: Float32[np.ndarray, " width"]
    deviation: Float32[np.ndarray, " width"]

    @classmethod
    def fit(cls, rows: Float32[np.ndarray, "*rows width"]) -> Scale:
        """Measure. A number that never changes gets deviation 1: it becomes 0, not magnified noise."""
        flat = rows.reshape(-1, rows.shape[-1]).astype(np.float64)
        mean, deviation = flat.mean(0), flat.std(0)
        constant = deviation <= 1e-6 * np.abs(mean)
        return cls(mean.astype(np.float32), np.where(constant, 1.0, deviation).astype(np.float32))

    def __call__(self, rows: Float32[np.ndarray, "*rows width"]) -> Float32[np.ndarray, "*rows width"]:
        """Mean 0, deviation 1, clipped at `CLIP`."""
        scaled: Float32[np.ndarray, "*rows width"] = np.clip((rows - self.mean) / self.deviation, -CLIP, CLIP)
        return scaled


class ContentReader:
    """Reads items as `Content`: fitted once on a catalog's items, then kept with the model."""

    def __init__(
        self, config: ContentConfig, modalities: Sequence[str], tokenizer: Tokenizer, scales: Mapping[str, Scale]
    ) -> None:
        self.config, self.modalities, self.tokenizer = config, tuple(modalities), tokenizer
        self.scales = dict(scales)  # of audio and of each feature
        tokenizer.encode_special_tokens = True  # an item that says "[MASK]" means six characters

    @classmethod
    def fit(cls, items: Sequence[Item], config: ContentConfig, extra_texts: Iterable[str] = ()) -> ContentReader:
        """Learn a vocabulary (from `extra_texts`, such as comments, as well) and the scales.

        Raises ValueError if `config.modalities` names one that no item has, if a feature is named
        like a raw modality, or if a feature's width differs between items.
        """
        modalities = _chosen(items, config)
        texts = [text for text in _values(items, "text") if text is not None] if "text" in modalities else []
        scales = {}
        for name in modalities:
            present = [value for value in _values(items, name) if value is not None]
            if name == "audio":  # one scale for each band, over all sounds and frames
                mels = _fill(present, (config.mels, config.frames), partial(_log_mels, config=config))
                scales[name] = Scale.fit(mels.swapaxes(1, 2))
            elif name not in RAW_MODALITIES:
                _check_widths(items, name, len(present[0]))
                scales[name] = Scale.fit(np.stack(present))
        return cls(config, modalities, train_tokenizer([*texts, *extra_texts], config.vocab), scales)

    @property
    def shapes(self) -> Shapes:
        """What the encoders have to know."""
        widths = {name: len(self.scales[name].mean) for name in self.modalities if name not in RAW_MODALITIES}
        vocab = self.tokenizer.get_vocab_size()
        return Shapes(self.modalities, vocab, self.config.text_length, self.config.mels, widths)

    def read(self, items: Sequence[Item]) -> Content:
        """Tensors of `items`. Modalities that this reader was not fitted on are left aside.

        Raises ValueError if a feature has another width than when the reader was fitted.
        """
        values = {name: _values(items, name) for name in self.modalities}
        nothing: list[Any] = [None] * len(items)
        features = {}
        for name, width in self.shapes.widths.items():
            _check_widths(items, name, width)
            features[name] = _fill(values[name], (width,), partial(self._standardise, name))
        size, mels = (self.config.image_size,) * 2, (self.config.mels, self.config.frames)
        return Content(
            self.encode([text or "" for text in values.get("text", nothing)]),
            torch.from_numpy(_fill(values.get("image", nothing), (3, *size), partial(_pixels, size=size))),
            torch.from_numpy(_fill(values.get("audio", nothing), mels, self._sounds)),
            {name: torch.from_numpy(rows) for name, rows in features.items()},
            {name: torch.tensor([value is not None for value in values[name]]).bool() for name in self.modalities},
        )

    def encode(self, texts: Sequence[str]) -> Int64[Tensor, "texts length"]:
        """Token ids: [BOS], the text's tokens, [EOS], padding. A blank text is padding only.

        A text that is too long is cut and has no [EOS], so that no model learns to stop there.
        """
        ids = torch.full((len(texts), self.config.text_length), PAD)
        cut = [_whole(text.strip()[: CHARACTERS_PER_TOKEN * self.config.text_length]) for text in texts]
        for row, encoding in zip(ids, self.tokenizer.encode_batch(cut, add_special_tokens=False), strict=True):
            if encoding.ids:
                tokens = torch.tensor([BOS, *encoding.ids, EOS])[: len(row)]
                row[: len(tokens)] = tokens
        return ids

    def decode(self, ids: Int64[Tensor, " length"]) -> str:
        """The text of token ids; special tokens are left out."""
        return str(self.tokenizer.decode(ids.tolist()))

    def to_json(self) -> str:
        """Everything that `from_json` needs to make the same reader."""
        scales = {name: [scale.mean.tolist(), scale.deviation.tolist()] for name, scale in self.scales.items()}
        state = {
            "config": asdict(self.config),
            "modalities": self.modalities,
            "scales": scales,
            "tokenizer": json.loads(self.tokenizer.to_str()),
        }
        return json.dumps(state, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ContentReader:
        """The reader that `to_json` wrote; raises ValueError if the text is something else."""
        try:
            state = json.loads(text)
            names = state["config"]["modalities"]
            config = ContentConfig(**{**state["config"], "modalities": None if names is None else tuple(names)})
            scales = {
                name: Scale(*(np.array(part, np.float32) for part in pair)) for name, pair in state["scales"].items()
            }
            tokenizer = Tokenizer.from_str(json.dumps(state["tokenizer"]))
            return cls(config, state["modalities"], tokenizer, scales)
        except Exception as error:  # tokenizers raises bare Exception
            raise ValueError(
                f"not a content reader as written by to_json ({type(error).__name__}: {error}); fit and save it again"
            ) from error

    def _standardise(self, name: str, vectors: Sequence[Float32[np.ndarray, " width"]]) -> Rows:
        return self.scales[name](np.stack(vectors))

    def _sounds(self, sounds: Sequence[Sound]) -> Rows:
        mels = _log_mels(sounds, self.config)
        return self.scales["audio"](mels.swapaxes(1, 2)).swapaxes(1, 2)  # the scale is of bands, so bands go last


def train_tokenizer(texts: Iterable[str], vocab: int) -> Tokenizer:
    """Byte-pair encoding of at most `vocab` tokens; the same texts give the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),  # first, so their ids are 0, 1, 2, 3
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(map(_whole, texts), trainer)
    return tokenizer


def first_seconds(sound: Sound, seconds: float, rate: int) -> Float32[np.ndarray, " samples"]:
    """The start of a sound at another sample rate, without what that rate cannot carry."""
    wave = sound.wave[: math.ceil(sound.rate * seconds)]
    if sound.rate == rate:
        return wave
    ratio = Fraction(rate, sound.rate)
    return np.asarray(resample_poly(wave, ratio.numerator, ratio.denominator), np.float32)


def log_mel(wave: Float[Tensor, "items samples"], config: ContentConfig) -> Float[Tensor, "items mels frames"]:
    """Logarithm of the energy in each mel band, frame by frame; frames do not reach over the ends."""
    n = torch.arange(config.window)
    hann = 0.5 - 0.5 * torch.cos(2 * torch.pi * n / config.window)  # fades each frame in and out
    frames = wave.unfold(-1, config.window, config.hop)  # items, frames, window: a view, no copy
    energy: Tensor = torch.fft.rfft(frames * hann).abs().square()  # items, frames, bins
    return (energy @ mel_filters(config) + QUIET).log().transpose(1, 2)


def mel_filters(config: ContentConfig) -> Float[Tensor, "bins mels"]:
    """How much each frequency bin counts for each band: triangles, evenly spaced in mel.

    The mel scale, 2595 log10(1 + f / 700), is about linear below 1 kHz and logarithmic above, as
    our hearing is. Raises ValueError if a band is so narrow that no bin falls into it.
    """
    hertz = torch.linspace(0, config.rate / 2, config.window // 2 + 1)
    mel = 2595 * torch.log10(1 + hertz / 700)
    centres = torch.linspace(0, float(mel[-1]), config.mels + 2)
    filters = (1 - (mel[:, None] - centres[1:-1]).abs() / centres[1]).clamp(min=0)
    if not filters.any(0).all():
        raise ValueError(
            f"{config.mels} mel bands are too many for a window of {config.window}; take fewer, or widen it"
        )
    return filters


def _chosen(items: Sequence[Item], config: ContentConfig) -> tuple[str, ...]:
    """The modalities to read, in the catalog's order."""
    there = Catalog("to fit", items).modalities
    wanted = there if config.modalities is None else config.modalities
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise ValueError(f"no item has the modality {unknown[0]!r}; there are {', '.join(there)}")
    clash = next((name for item in items for name in item.features if name in RAW_MODALITIES), None)
    if clash is not None:
        raise ValueError(f"a feature is named {clash!r}, which is a raw modality; give it another name")
    return tuple(name for name in there if name in wanted)


def _values(items: Sequence[Item], modality: str) -> list[Any]:
    """What each item has of a modality, None where it is missing (or blank text)."""
    if modality in RAW_MODALITIES:
        return [getattr(item, modality) if modality in item.modalities else None for item in items]
    return [item.features.get(modality) for item in items]


def _whole(text: str) -> str:
    """Text that has bytes: half a surrogate pair, left by a cut through an emoji, becomes "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _check_widths(items: Sequence[Item], feature: str, width: int) -> None:
    for item in items:
        found = len(item.features.get(feature, range(width)))
        if found != width:
            raise ValueError(f"item {item.id!r}: feature {feature!r} has {found} numbers; expected {width}, as before")


def _fill(values: Sequence[Any], shape: tuple[int, ...], read: Callable[[list[Any]], Rows]) -> Rows:
    """What `read` makes of the values that are there, zeros where there is none; in small batches."""
    rows = np.zeros((len(values), *shape), np.float32)
    present = [row for row, value in enumerate(values) if value is not None]
    for start in range(0, len(present), BATCH):
        batch = present[start : start + BATCH]
        rows[batch] = read([values[row] for row in batch])
    return rows


def _pixels(images: Sequence[UInt8[np.ndarray, "_ _ 3"]], size: tuple[int, int]) -> Rows:
    small = np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)) for image in images])
    scaled = (small.astype(np.float32) / 255 - PIXEL_MEAN) / PIXEL_DEVIATION
    return scaled.transpose(0, 3, 1, 2)  # items, height, width, colour -> items, colour, height, width


def _log_mels(sounds: Sequence[Sound], config: ContentConfig) -> Rows:
    waves = np.zeros((len(sounds), config.samples), np.float32)
    for row, sound in zip(waves, sounds, strict=True):
        wave = first_seconds(sound, config.seconds, config.rate)[: len(row)]
        row[: len(wave)] = wave  # silence after its end
    return log_mel(torch.from_numpy(waves), config).numpy()
