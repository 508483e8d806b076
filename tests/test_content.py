"""From items to tensors: nothing is lost that can be kept, and nothing missing is made up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from m6rec_mini import content as content_module
from m6rec_mini.catalog import Item, Sound
from m6rec_mini.content import (
    BOS,
    CLIP,
    EOS,
    PAD,
    QUIET,
    SPECIAL_TOKENS,
    Content,
    ContentConfig,
    ContentReader,
    Scale,
    first_seconds,
    log_mel,
    mel_filters,
    train_tokenizer,
)

SMALL = ContentConfig(vocab=400, text_length=12, image_size=8, seconds=0.25, mels=16)


def tone(hertz: float, rate: int = 8000, seconds: float = 1.0, loud: float = 0.5) -> Sound:
    time = np.arange(round(rate * seconds)) / rate
    return Sound((loud * np.sin(2 * np.pi * hertz * time)).astype(np.float32), rate)


def make_items(count: int = 9, seed: int = 0) -> list[Item]:
    """Every item misses something else; number 0 has everything."""
    rng = np.random.default_rng(seed)
    items = []
    for n in range(count):
        text = f"the film number {n} about space 关于太空的电影 🚀" if n % 2 == 0 else None
        image = rng.integers(0, 256, (20 + n, 10, 3), dtype=np.uint8) if n % 3 == 0 else None
        audio = Sound(rng.normal(scale=0.1, size=3000).astype(np.float32), 16_000) if n % 4 == 0 else None
        look = {"look": rng.normal(size=3).astype(np.float32)} if n % 5 == 0 or n % 2 else {}
        items.append(Item(f"item{n}", text=text, image=image, audio=audio, features=look))
    return items


def vector_item(name: str, *numbers: float) -> Item:
    return Item(name, features={"look": np.array(numbers, np.float32)})


def assert_same(one: Content, other: Content) -> None:
    assert list(one.present) == list(other.present)
    for name, mask in one.present.items():
        assert torch.equal(mask, other.present[name]), name
        assert torch.equal(one.of(name), other.of(name)), name


@pytest.fixture(scope="module")
def reader() -> ContentReader:
    return ContentReader.fit(make_items(), SMALL, extra_texts=["很好看", "what a film"])


# Words


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_text_survives_encoding(text: str) -> None:
    reader = ContentReader(ContentConfig(text_length=100), ["text"], TOKENIZER, {})
    assert reader.decode(reader.encode([text])[0]) == text.strip()


TOKENIZER = train_tokenizer(["太空电影 space film"] * 3, 300)


@pytest.mark.parametrize("text", ["你好，世界！这部电影很好看。", "héllo 🚀🎵", "[MASK] and [PAD] are words here"])
def test_chinese_emoji_and_the_names_of_special_tokens_are_text(text: str, reader: ContentReader) -> None:
    long = ContentReader(replace(SMALL, text_length=60), ["text"], reader.tokenizer, {})
    ids = long.encode([text])[0]
    assert long.decode(ids) == text
    assert not torch.isin(ids[ids != PAD][1:-1], torch.arange(len(SPECIAL_TOKENS))).any()


def test_special_tokens_have_the_ids_that_models_rely_on() -> None:
    assert [TOKENIZER.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3]


def test_a_text_is_framed_and_padded(reader: ContentReader) -> None:
    ids = reader.encode(["space"])[0].tolist()
    end = ids.index(EOS)
    assert ids[0] == BOS
    assert set(ids[end + 1 :]) == {PAD}
    assert PAD not in ids[:end]


def test_a_text_that_is_cut_has_no_end(reader: ContentReader) -> None:
    ids = reader.encode(["space film about " * 1000])[0].tolist()
    assert ids[0] == BOS
    assert EOS not in ids
    assert PAD not in ids


def test_cutting_long_text_early_changes_no_token(monkeypatch: pytest.MonkeyPatch, reader: ContentReader) -> None:
    text = ["关于太空 the film number 7 " * 100]
    early = reader.encode(text)
    monkeypatch.setattr(content_module, "CHARACTERS_PER_TOKEN", 10_000)
    assert torch.equal(early, reader.encode(text))


def test_blank_text_is_padding_only(reader: ContentReader) -> None:
    assert reader.encode(["", "  \n"]).tolist() == [[PAD] * SMALL.text_length] * 2


def test_half_an_emoji_is_read_as_a_question_mark() -> None:
    reader = ContentReader.fit([Item("a", text="cut \ud83d")], SMALL)
    assert reader.decode(reader.encode(["cut \ud83d"])[0]) == "cut ?"


def test_frequent_words_become_one_token_also_from_extra_texts() -> None:
    items = [Item("a", text="no such word")]
    reader = ContentReader.fit(items, SMALL, extra_texts=["推荐系统", "推荐系统"])
    assert reader.encode(["推荐系统"])[0].tolist()[2] == EOS


def test_training_the_tokenizer_is_deterministic() -> None:
    texts = [item.text or "" for item in make_items(60)]
    assert len({train_tokenizer(texts, 500).to_str() for _ in range(5)}) == 1


# Pictures


def test_a_white_and_a_red_picture_by_hand() -> None:
    white = np.full((50, 20, 3), 255, np.uint8)
    red = white * np.array([1, 0, 0], np.uint8)
    image = (
        ContentReader.fit([Item("w", image=white)], SMALL).read([Item("w", image=white), Item("r", image=red)]).image
    )
    high, low = (1 - 0.45) / 0.27, -0.45 / 0.27
    assert image.shape == (2, 3, 8, 8)
    torch.testing.assert_close(image[0], torch.full((3, 8, 8), high))
    torch.testing.assert_close(image[1, :, 3, 3], torch.tensor([high, low, low]))


def test_pictures_stay_upright() -> None:
    top = np.zeros((40, 40, 3), np.uint8)
    top[:20] = 255
    image = ContentReader.fit([Item("t", image=top)], SMALL).read([Item("t", image=top)]).image
    assert image[0, :, :3].min() > 0 > image[0, :, 5:].max()


# Sounds


def test_log_mel_agrees_with_scipy() -> None:
    config = ContentConfig()
    waves = np.random.default_rng(0).normal(size=(2, config.samples)).astype(np.float32)
    window = signal.windows.hann(config.window, sym=False)
    overlap = config.window - config.hop
    _, _, spectrum = signal.spectrogram(
        waves, window=window, nperseg=config.window, noverlap=overlap, detrend=False, scaling="spectrum", mode="complex"
    )
    energy = np.abs(spectrum * window.sum()).swapaxes(1, 2) ** 2  # scipy divides by the window's sum
    expected = np.log(energy @ mel_filters(config).numpy() + QUIET).swapaxes(1, 2)
    assert expected.shape == (2, config.mels, config.frames)
    np.testing.assert_allclose(log_mel(torch.from_numpy(waves), config).numpy(), expected, atol=1e-4)


def test_a_tone_of_1000_hertz_is_1000_mel() -> None:
    """4 kHz are 2146.06 mel, so 32 bands stand 65.03 mel apart; 1000 / 65.03 = 15.4: the fifteenth."""
    mel = log_mel(torch.from_numpy(tone(1000).wave)[None], ContentConfig())
    assert (mel[0].argmax(0) == 14).all()


def test_bands_share_each_frequency_out_completely() -> None:
    config = ContentConfig()
    filters = mel_filters(config)
    mel = 2595 * torch.log10(1 + torch.linspace(0, 4000, 129) / 700)
    inner = (mel >= mel[-1] / 33) & (mel <= mel[-1] * 32 / 33)  # between the first band's centre and the last one's
    torch.testing.assert_close(filters[inner].sum(1), torch.ones(int(inner.sum())))
    assert filters[0].sum() < 1e-6


def test_silence_is_finite_and_louder_is_more() -> None:
    config = ContentConfig()
    quiet, loud = (log_mel(torch.from_numpy(tone(500, loud=level).wave)[None], config) for level in (0.1, 0.2))
    silence = log_mel(torch.zeros(1, config.samples), config)
    torch.testing.assert_close(silence, torch.full_like(silence, np.log(QUIET)))
    band = int(quiet[0, :, 0].argmax())  # twice the amplitude, four times the energy
    torch.testing.assert_close(loud[0, band] - quiet[0, band], torch.full((config.frames,), np.log(4.0)))


@pytest.mark.parametrize("rate", [4_000, 11_025, 44_100])
def test_the_sample_rate_does_not_matter(rate: int) -> None:
    config = ContentConfig()
    here, there = (
        log_mel(torch.from_numpy(first_seconds(tone(700, r), 1.0, 8000))[None], config) for r in (8000, rate)
    )
    loud = here > here.max() - 5  # what is heard; far below it, filters differ
    assert (here - there)[loud].abs().max() < 0.2


def test_what_a_lower_rate_cannot_carry_is_taken_out() -> None:
    """6 kHz sampled at 8 kHz without a filter would sound as 2 kHz."""
    wave = first_seconds(tone(6000, 16_000, loud=0.5), 1.0, 8000)
    assert np.abs(wave[100:-100]).max() < 0.01  # the ends, where the tone is cut, click
    assert np.abs(first_seconds(tone(2000, 16_000, loud=0.5), 1.0, 8000)).max() > 0.45


def test_only_the_first_seconds_are_resampled() -> None:
    assert [len(first_seconds(tone(500, rate, seconds=3), 1.5, 8000)) for rate in (8000, 44_100)] == [12_000, 12_000]


def test_short_sounds_end_in_silence_and_long_ones_are_cut() -> None:
    sounds = [tone(500, seconds=s) for s in (0.1, 0.25, 3.0)]
    items = [Item(str(n), audio=sound) for n, sound in enumerate(sounds)]
    reader = ContentReader.fit([*items, Item("quiet", audio=tone(500, loud=0.0))], SMALL)
    audio = reader.read([*items, Item("quiet", audio=tone(500, loud=0.0))]).audio
    assert torch.equal(audio[1], audio[2])
    assert torch.equal(audio[0, :, -1], audio[3, :, -1])
    assert torch.equal(audio[0, :, 0], audio[1, :, 0])


def test_bands_are_standardised_over_all_sounds(reader: ContentReader) -> None:
    audio = reader.read(make_items()).audio[[0, 4, 8]]
    torch.testing.assert_close(audio.mean((0, 2)), torch.zeros(16), atol=1e-4, rtol=0)
    assert (audio.std((0, 2)) < 1.05).all()


def test_more_bands_than_the_window_can_tell_apart() -> None:
    with pytest.raises(ValueError, match="200 mel bands are too many for a window of 256"):
        mel_filters(ContentConfig(mels=200))


# Features


def test_features_are_standardised_by_hand() -> None:
    """1, 3, 5: mean 3, deviation sqrt(8/3). A column that never changes becomes 0."""
    items = [vector_item("a", 1, 7e6), vector_item("b", 3, 7e6), vector_item("c", 5, 7e6), Item("d", text="no vector")]
    content = ContentReader.fit(items, SMALL).read(items)
    step = 2 / (8 / 3) ** 0.5
    torch.testing.assert_close(content.features["look"], torch.tensor([[-step, 0], [0, 0], [step, 0], [0, 0]]))
    assert content.present["look"].tolist() == [True, True, True, False]


def test_an_absurd_measurement_is_clipped() -> None:
    reader = ContentReader.fit([vector_item("a", 1, 2), vector_item("b", 2, 3)], SMALL)
    assert reader.read([vector_item("c", 1e30, -1e30)]).features["look"].tolist() == [[CLIP, -CLIP]]


def test_a_constant_zero_is_no_division_by_zero() -> None:
    scale = Scale.fit(np.zeros((4, 2), np.float32))
    assert scale(np.zeros((1, 2), np.float32)).tolist() == [[0.0, 0.0]]


# The whole


def test_presence_is_what_the_items_have(reader: ContentReader) -> None:
    items = make_items()
    content = reader.read(items)
    assert list(content.present) == ["text", "image", "audio", "look"] == list(reader.shapes.modalities)
    for name, mask in content.present.items():
        assert mask.tolist() == [name in item.modalities for item in items]
        assert not content.of(name)[~mask].any()


def test_reading_one_by_one_is_reading_together(reader: ContentReader, monkeypatch: pytest.MonkeyPatch) -> None:
    items = make_items()
    together = reader.read(items)
    for n, item in enumerate(items):
        assert_same(reader.read([item]), together.rows(slice(n, n + 1)))
    monkeypatch.setattr(content_module, "BATCH", 2)
    assert_same(reader.read(items), together)


def test_rows_reorder_repeat_and_mask(reader: ContentReader) -> None:
    items = make_items()
    content = reader.read(items)
    assert_same(content.rows(torch.tensor([4, 0, 4])), reader.read([items[4], items[0], items[4]]))
    assert_same(content.rows(content.present["text"]), reader.read(items[::2]))
    assert len(content.rows(slice(2, 5))) == 3
    assert_same(content.to("cpu"), content)
    assert len(reader.read([])) == 0


def test_a_reader_survives_json(reader: ContentReader) -> None:
    again = ContentReader.from_json(reader.to_json())
    assert_same(again.read(make_items(seed=1)), reader.read(make_items(seed=1)))
    assert again.config == reader.config
    assert again.shapes == reader.shapes
    assert again.to_json() == reader.to_json()
    text = ["[BOS] 电影"]
    assert torch.equal(again.encode(text), reader.encode(text))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"config": {"modalities": null, "colour": 1}}'])
def test_json_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a content reader"):
        ContentReader.from_json(text)


def test_damaged_json_is_refused(reader: ContentReader) -> None:
    with pytest.raises(ValueError, match="not a content reader"):
        ContentReader.from_json(reader.to_json().replace('"merges"', '"mergers"'))


def test_an_ablation_reads_only_what_it_names() -> None:
    reader = ContentReader.fit(make_items(), replace(SMALL, modalities=("look", "image")))
    content = reader.read(make_items())
    assert list(content.present) == ["image", "look"]
    assert not content.text.any()
    assert not content.audio.any()
    assert content.image.any()
    assert reader.shapes.vocab < ContentReader.fit(make_items(), SMALL).shapes.vocab  # learned no words
    assert ContentReader.from_json(reader.to_json()).config == reader.config


def test_a_new_item_may_have_more_and_less_than_was_fitted() -> None:
    reader = ContentReader.fit([vector_item("a", 1, 2), vector_item("b", 2, 3)], SMALL)
    new = Item("new", text="words", features={"smell": np.ones(4, np.float32)})
    content = reader.read([new])
    assert list(content.present) == ["look"]
    assert not content.present["look"].any()


def test_errors_teach() -> None:
    a, b = vector_item("a", 1, 2), vector_item("b", 1, 2, 3)
    with pytest.raises(ValueError, match=r"item 'b': feature 'look' has 3 numbers; expected 2"):
        ContentReader.fit([a, b], SMALL)
    with pytest.raises(ValueError, match=r"item 'b': feature 'look' has 3 numbers; expected 2"):
        ContentReader.fit([a], SMALL).read([a, b])
    with pytest.raises(ValueError, match="no item has the modality 'image'; there are look"):
        ContentReader.fit([a], replace(SMALL, modalities=("image",)))
    with pytest.raises(ValueError, match="feature is named 'audio'"):
        ContentReader.fit([Item("c", features={"audio": np.ones(2, np.float32)})], SMALL)


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"vocab": 100}, "at least 260"), ({"text_length": 2}, "at least 3"), ({"seconds": 0.01}, "one window of 256")],
)
def test_settings_that_cannot_work(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContentConfig(**setting)  # type: ignore[arg-type]
