"""Encoders: masks hide what is not there, time runs one way, and they learn from real sound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import Tensor, nn

from m6rec_mini.catalog import Item, Sound
from m6rec_mini.content import EOS, PAD, Content, ContentConfig, ContentReader, Shapes
from m6rec_mini.encoders import (
    WORD_TOKENS,
    AudioEncoder,
    EncoderConfig,
    GatedLayer,
    ImageEncoder,
    ItemEncoder,
    MaskedPool,
    SoundTransformer,
    TextEncoder,
    VectorEncoder,
    WaveNet,
    sinusoids,
)

CONFIG = EncoderConfig(dim=16, layers=1, heads=2)
SHAPES = Shapes(
    ("text", "image", "audio", "a.b", "type"), vocab=30, text_length=8, mels=6, widths={"a.b": 3, "type": 5}
)
CLOSE = {"atol": 1e-5, "rtol": 1e-4}  # float32, and sums taken in another order


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_content(items: int = 6, seed: int = 0) -> Content:
    """Item 0 has everything; others miss a modality each, now and then more."""
    g = seeded(seed)
    present = {name: torch.rand(items, generator=g) < 0.6 for name in SHAPES.modalities}
    for mask in present.values():
        mask[0] = True
    text = torch.randint(4, 30, (items, 8), generator=g)
    text[:, 5:] = PAD
    return Content(
        text * present["text"][:, None],
        torch.randn(items, 3, 16, 16, generator=g) * present["image"][:, None, None, None],
        torch.randn(items, 6, 20, generator=g) * present["audio"][:, None, None],
        {
            name: torch.randn(items, width, generator=g) * present[name][:, None]
            for name, width in SHAPES.widths.items()
        },
        present,
    )


def make(kind: type[nn.Module], *args: Any, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    return kind(*args, **kwargs).eval()


@pytest.fixture
def text_encoder() -> TextEncoder:
    encoder: TextEncoder = make(TextEncoder, vocab=30, dim=16, layers=2, heads=2, length=8)
    return encoder


@pytest.fixture
def ids() -> Tensor:
    return torch.tensor([[2, 7, 8, 9, 3], [2, 11, 3, PAD, PAD], [PAD] * 5])


# One interface


@pytest.mark.parametrize("tokens", [1, 4, 9])
def test_every_encoder_gives_its_number_of_tokens(tokens: int) -> None:
    content = random_content()
    encoders = {
        "text": [make(TextEncoder, 30, 16, 1, 2, 8, tokens)],
        "image": [make(ImageEncoder, 16, arch, tokens) for arch in ("resnet", "vgg")],
        "audio": [make(AudioEncoder, 6, 16, arch, tokens) for arch in ("wavenet", "transformer")],
    }
    for modality, kinds in encoders.items():
        expected = tokens + WORD_TOKENS if modality == "text" else tokens
        for encoder in kinds:
            assert encoder.tokens == expected
            assert encoder(content.of(modality)).shape == (6, expected, 16)


def test_a_ready_made_vector_is_only_cut_into_tokens() -> None:
    encoder = VectorEncoder(5, 2)
    tokens = encoder(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]))
    assert encoder.tokens == 3
    assert tokens.tolist() == [[[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]]]
    assert VectorEncoder(2, 4)(torch.zeros(0, 2)).shape == (0, 1, 4)


def test_words_are_latent_semantic_analysis() -> None:
    """The axes are those of scikit-learn's PCA of the bags of words, up to order and sign."""
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(EOS + 1, 30, (40, 8)))
    encoder = make(TextEncoder, 30, 4, 1, 2, 8)  # eight axes
    encoder.fit_words(ids)
    bags = np.zeros((40, 30))
    for row, text in enumerate(ids.tolist()):
        bags[row, text] = 1
    expected = PCA(8, svd_solver="full").fit_transform(bags)
    found = encoder.words(ids).numpy().astype(np.float64)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-3)
    shuffled = ids[:, torch.randperm(8, generator=seeded())]
    torch.testing.assert_close(encoder.words(shuffled), encoder.words(ids))  # order does not matter
    padded = torch.cat([torch.full((40, 1), 2), ids, torch.zeros(40, 1, dtype=torch.long)], dim=1)
    torch.testing.assert_close(encoder.words(padded), encoder.words(ids))  # nor do special tokens


def test_words_of_very_few_texts() -> None:
    encoder = make(TextEncoder, 30, 16, 1, 2, 8)  # 32 axes for texts that can differ along one
    encoder.fit_words(torch.tensor([[5, 6, 7], [8, 9, 10]]))
    words = encoder.words(torch.tensor([[5, 6, 7], [8, 9, 10]]))
    assert words.isfinite().all()
    torch.testing.assert_close(words[0], -words[1], atol=1e-5, rtol=0)
    assert float(words[0].norm()) == pytest.approx(1.5**0.5, abs=1e-4)  # half of the distance, root of 6


@pytest.mark.parametrize("image", ["resnet", "vgg"])
@pytest.mark.parametrize("audio", ["wavenet", "transformer"])
def test_gradients_reach_every_parameter(image: Any, audio: Any) -> None:
    torch.manual_seed(0)
    encoder = ItemEncoder(replace(CONFIG, image=image, audio=audio), SHAPES)
    tokens, _ = encoder(random_content())
    (tokens * torch.randn(tokens.shape)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
        assert parameter.grad.isfinite().all(), name


def test_the_same_seed_makes_the_same_encoder() -> None:
    one, other = (make(ItemEncoder, CONFIG, SHAPES).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


# Text


@pytest.mark.parametrize("causal", [False, True])
def test_padding_changes_nothing(text_encoder: TextEncoder, ids: Tensor, causal: bool) -> None:
    padded = torch.nn.functional.pad(ids, (0, 3), value=PAD)
    states = text_encoder.states(padded, causal)[:, :5]
    torch.testing.assert_close(states[ids != PAD], text_encoder.states(ids, causal)[ids != PAD], **CLOSE)
    alone = text_encoder.states(ids[1:2, :3], causal)
    torch.testing.assert_close(states[1:2, :3], alone, **CLOSE)
    torch.testing.assert_close(text_encoder(padded)[:2], text_encoder(ids)[:2], **CLOSE)


@given(position=st.integers(1, 4))
def test_gpt_mode_never_sees_the_future_and_bert_mode_does(position: int) -> None:
    encoder = make(TextEncoder, 30, 16, 2, 2, 8)
    before = torch.tensor([[2, 7, 8, 9, 3]])
    after = before.clone()
    after[0, position] = 20
    changed = {
        causal: (encoder.states(after, causal) - encoder.states(before, causal)).abs().amax(-1)[0] > 1e-6
        for causal in (True, False)
    }
    assert changed[True].tolist() == [n >= position for n in range(5)]
    assert changed[False].all()


def test_a_row_of_padding_gives_numbers_and_gradients(text_encoder: TextEncoder, ids: Tensor) -> None:
    tokens = text_encoder(ids)
    tokens.sum().backward()
    assert tokens.isfinite().all()
    assert text_encoder.embedding.weight.grad is not None
    assert text_encoder.embedding.weight.grad.isfinite().all()
    assert not tokens[2, 0].any()  # the mean of nothing is zero


def test_the_order_of_words_matters(text_encoder: TextEncoder) -> None:
    there, back = text_encoder(torch.tensor([[2, 7, 8, 9, 3], [2, 9, 8, 7, 3]]))
    assert (there - back).abs().max() > 1e-3


def test_the_first_pooled_token_is_the_plain_mean() -> None:
    pool = make(MaskedPool, 4, 2, 3)
    states = torch.arange(24.0).reshape(2, 3, 4)
    real = torch.tensor([[True, True, False], [True, True, True]])
    pooled = pool(states, real)
    assert pooled.shape == (2, 3, 4)
    torch.testing.assert_close(pooled[:, 0], torch.tensor([[2.0, 3, 4, 5], [16, 17, 18, 19]]))
    hidden = states.clone()
    hidden[0, 2] = 1e4
    torch.testing.assert_close(pool(hidden, real), pooled)


def test_word_logits_are_tied_to_the_embedding(text_encoder: TextEncoder, ids: Tensor) -> None:
    states = text_encoder.states(ids, causal=True)
    logits = text_encoder.word_logits(states)
    assert logits.shape == (3, 5, 30)
    torch.testing.assert_close(logits[0, 1, 9], states[0, 1] @ text_encoder.embedding.weight[9])
    names = [name for name, p in text_encoder.named_parameters() if 30 in p.shape]
    assert names == ["embedding.weight"]  # no second table of the vocabulary's size


def test_a_text_that_is_too_long_is_refused(text_encoder: TextEncoder) -> None:
    with pytest.raises(ValueError, match="text has 9 tokens; this encoder has positions for 8"):
        text_encoder.states(torch.full((1, 9), 5), causal=False)


# Pictures


@pytest.mark.parametrize("arch", ["resnet", "vgg"])
def test_a_picture_means_the_same_alone_and_in_a_batch_training_or_not(arch: Any) -> None:
    encoder = make(ImageEncoder, 16, arch)
    images = torch.randn(5, 3, 16, 16, generator=seeded())
    together = encoder(images)
    torch.testing.assert_close(together[2:3], encoder(images[2:3]), **CLOSE)
    torch.testing.assert_close(together, encoder.train()(images), **CLOSE)


@pytest.mark.parametrize("arch", ["resnet", "vgg"])
@pytest.mark.parametrize("field", range(4))
def test_each_image_token_looks_at_its_field(arch: Any, field: int) -> None:
    encoder = make(ImageEncoder, 16, arch)
    grey = torch.randn(1, 3, 32, 32, generator=seeded()) * 0.1
    marked, row, column = grey.clone(), 16 * (field // 2), 16 * (field % 2)
    marked[:, :, row + 4 : row + 12, column + 4 : column + 12] += 2.0
    assert (encoder(marked) - encoder(grey)).norm(dim=-1)[0].argmax() == field


def test_image_tokens_must_make_a_square() -> None:
    with pytest.raises(ValueError, match="5 image tokens do not make a square grid"):
        ImageEncoder(16, tokens=5)


# Sounds


@settings(max_examples=15)
@given(layers=st.integers(1, 5), at=st.integers(0, 39))
def test_wavenet_hears_its_receptive_field_and_nothing_else(layers: int, at: int) -> None:
    """With kernel 2 and dilations 1, 2, 4, ... that is exactly 2^layers frames: the present one and those before."""
    net = make(WaveNet, 6, 8, layers)
    assert net.receptive_field == 2**layers
    mel = torch.randn(1, 6, 40, generator=seeded(), requires_grad=True)
    net(mel)[:, :, at].sum().backward()
    assert mel.grad is not None
    heard = mel.grad.abs().sum((0, 1)).nonzero()[:, 0].tolist()
    assert heard == list(range(max(at + 1 - net.receptive_field, 0), at + 1))


def test_a_gated_layer_frame_by_frame() -> None:
    """Equation 2: tanh of the filter times sigmoid of the gate, for a frame and the one three before it."""
    layer = make(GatedLayer, 2, dilation=3)
    x = torch.randn(1, 2, 8, generator=seeded())
    weight, bias = layer.filter_gate.weight, layer.filter_gate.bias  # 4, 2, kernel: filter first, then gate
    following, skip = layer(x)
    for t in range(8):
        before = x[0, :, t - 3] if t >= 3 else torch.zeros(2)
        both = weight[:, :, 0] @ before + weight[:, :, 1] @ x[0, :, t] + bias
        gated = torch.tanh(both[:2]) * torch.sigmoid(both[2:])
        out = layer.residual_skip.weight[:, :, 0] @ gated + layer.residual_skip.bias
        torch.testing.assert_close(following[0, :, t], x[0, :, t] + out[:2], **CLOSE)
        torch.testing.assert_close(skip[0, :, t], out[2:], **CLOSE)


def test_the_sound_transformer_hears_everything_and_knows_the_order() -> None:
    net = make(SoundTransformer, 6, 16)
    mel = torch.randn(1, 6, 20, generator=seeded(), requires_grad=True)
    states = net(mel)
    states[:, :, 3].sum().backward()
    assert mel.grad is not None
    assert mel.grad.abs().sum((0, 1)).all()
    assert (net(mel.flip(-1)).flip(-1) - states).abs().max() > 1e-3


def test_audio_tokens_are_in_order_of_time() -> None:
    encoder = make(AudioEncoder, 6, 16)
    mel = torch.randn(1, 6, 40, generator=seeded())
    later = mel.clone()
    later[:, :, 30:] = 0
    changed = (encoder(later) - encoder(mel)).abs().amax(-1)[0] > 1e-6
    assert changed.tolist() == [False, False, False, True]


def test_sinusoids_by_hand() -> None:
    """Width 4: frequencies 1 and 1/100; position 0 is sin 0, sin 0, cos 0, cos 0."""
    expected = torch.tensor([[0, 0, 1, 1], [np.sin(1), np.sin(0.01), np.cos(1), np.cos(0.01)]]).float()
    torch.testing.assert_close(sinusoids(2, 4), expected)
    assert sinusoids(3, 5).shape == (3, 5)


# Items


def test_tokens_stand_in_the_readers_order() -> None:
    encoder = make(ItemEncoder, CONFIG, SHAPES)
    assert encoder.spans == {
        "text": slice(0, 6),
        "image": slice(6, 10),
        "audio": slice(10, 14),
        "a.b": slice(14, 15),
        "type": slice(15, 16),
    }
    assert encoder.tokens == 16


def test_each_span_is_its_encoder_and_its_place() -> None:
    encoder, content = make(ItemEncoder, CONFIG, SHAPES), random_content()
    tokens, _ = encoder(content)
    image = encoder.encoders["image"](content.image[:1])
    torch.testing.assert_close(tokens[:1, 6:10], image + encoder.place[6:10], **CLOSE)


@given(st.permutations(range(6)))
@settings(max_examples=10)
def test_permuting_items_permutes_tokens(order: list[int]) -> None:
    encoder, content = make(ItemEncoder, CONFIG, SHAPES), random_content()
    tokens, present = encoder(content)
    moved, moved_present = encoder(content.rows(torch.tensor(order)))
    torch.testing.assert_close(moved, tokens[order], **CLOSE)
    assert torch.equal(moved_present, present[order])


def test_what_is_missing_is_masked_and_cannot_leak() -> None:
    encoder, content = make(ItemEncoder, CONFIG, SHAPES), random_content()
    tokens, present = encoder(content)
    for name, span in encoder.spans.items():
        assert torch.equal(present[:, span], content.present[name][:, None].expand_as(present[:, span]))
    assert not present.all()
    assert not tokens[~present].any()
    assert (tokens[present].norm(dim=-1) > 0).all()
    noise = torch.where(content.present["image"][:, None, None, None], content.image, torch.tensor(7.0))
    assert torch.equal(encoder(replace(content, image=noise))[0], tokens)


def test_nothing_at_all_is_no_error() -> None:
    encoder, content = make(ItemEncoder, CONFIG, SHAPES), random_content()
    for count in (0, 1):
        part = content.rows(slice(0, count))
        bare = replace(part, present={name: torch.zeros_like(mask) for name, mask in part.present.items()})
        tokens, present = encoder(bare)
        assert tokens.shape == (count, 16, 16)
        assert not present.any()
    tokens, _ = encoder(bare)
    tokens.sum().backward()  # a batch without any sound must still train in step with the other processes
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_frozen_encoding_is_the_same_in_batches_and_leaves_the_mode_alone() -> None:
    torch.manual_seed(0)
    encoder, content = ItemEncoder(replace(CONFIG, dropout=0.5), SHAPES), random_content()
    tokens, present = encoder.encode_all(content, batch=4)
    assert encoder.training
    assert not tokens.requires_grad
    expected, expected_present = encoder.eval()(content)
    torch.testing.assert_close(tokens, expected, **CLOSE)
    assert torch.equal(present, expected_present)
    assert encoder.encode_all(content.rows(slice(0, 0)))[0].shape == (0, 16, 16)
    assert not encoder.training


def test_dropout_is_only_for_training() -> None:
    torch.manual_seed(0)
    encoder, content = ItemEncoder(replace(CONFIG, dropout=0.5), SHAPES), random_content()
    one, other = encoder(content)[0], encoder(content)[0]
    differ = [name for name, span in encoder.spans.items() if not torch.equal(one[:, span], other[:, span])]
    assert differ == ["text"]
    encoder.eval()
    assert torch.equal(encoder(content)[0], encoder(content)[0])


def test_content_of_another_reader_is_refused() -> None:
    content = random_content()
    present = {name: mask for name, mask in content.present.items() if name != "image"}
    with pytest.raises(KeyError, match="image"):
        make(ItemEncoder, CONFIG, SHAPES)(replace(content, present=present))


def test_a_journey_from_items_to_tokens() -> None:
    items = [
        Item("film", text="A film about space. 关于太空的电影。", image=np.full((30, 20, 3), 90, np.uint8)),
        Item(
            "song",
            audio=Sound(np.sin(np.arange(9000) / 5).astype(np.float32), 8000),
            features={"mood": np.ones(2, np.float32)},
        ),
    ]
    reader = ContentReader.fit(items, ContentConfig())
    encoder = make(ItemEncoder, EncoderConfig(), reader.shapes)
    tokens, present = encoder.encode_all(reader.read(items))
    assert tokens.shape == (2, 15, 64)
    assert present.sum(1).tolist() == [10, 5]
