"""What the items of the embedded world say: each modality its own part of the truth, in two languages."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from jaxtyping import Int64
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB

from m6rec_mini.catalog import RAW_MODALITIES
from m6rec_mini.datasets.world import World, WorldConfig, make_world
from m6rec_mini.datasets.world_media import LOOKS, MOODS, RATE, SIDE, paint, play, write_comment, write_text
from m6rec_mini.datasets.world_words import CHINESE_TITLES, DOMAINS, ENGLISH_TITLES, TOPICS

SMALL = WorldConfig(items=200, users=20)
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def world() -> World:
    """All items of the default world, and few of its users: only the items matter here."""
    return make_world(WorldConfig(users=20))


def test_modalities_are_missing_at_their_rates_and_never_all(world: World) -> None:
    items = world.catalog.items
    for name, rate in zip(RAW_MODALITIES, world.truth.config.missing, strict=True):
        assert np.mean([name not in item.modalities for item in items]) == pytest.approx(rate, abs=0.03)
    assert min(len(item.modalities) for item in items) == 1
    bare = make_world(replace(SMALL, missing=(0.9, 0.9, 0.9)))
    assert min(len(item.modalities) for item in bare.catalog.items) == 1
    assert all(item.title for item in bare.catalog.items)


def test_media_have_the_promised_form(world: World) -> None:
    for item in world.catalog.items[:300]:
        if item.image is not None:
            assert (item.image.shape, item.image.dtype) == ((SIDE, SIDE, 3), np.uint8)
            assert item.image.std() > 8  # there is something to see
        if item.audio is not None:
            assert (item.audio.wave.shape, item.audio.wave.dtype, item.audio.rate) == ((RATE,), np.float32, RATE)
            assert 0.3 < abs(item.audio.wave).max() <= 1
        if item.text is not None:
            assert item.text.startswith(item.title)
            assert not re.search(r"[{}]", item.text)


def test_three_texts_in_ten_are_chinese_and_both_languages_tell_every_topic(world: World) -> None:
    truth = world.truth.items
    is_chinese = np.array([bool(CHINESE.search(item.title)) for item in world.catalog.items])
    np.testing.assert_array_equal(is_chinese, truth.chinese)
    assert is_chinese.mean() == pytest.approx(0.3, abs=0.03)
    assert set(truth.topic[is_chinese]) == set(truth.topic[~is_chinese]) == set(range(len(TOPICS)))


def test_vocabulary_is_rich_and_clean() -> None:
    assert len({topic.name for topic in TOPICS}) == len(TOPICS) == 24
    assert len(DOMAINS) >= 4
    assert set(ENGLISH_TITLES) == set(CHINESE_TITLES) == set(DOMAINS)
    for topic in TOPICS:
        assert len(set(topic.english)) == len(topic.english) >= 8
        assert len(set(topic.chinese)) == len(topic.chinese) >= 8
        assert all(word.isascii() and word == word.strip() for word in topic.english)
        assert all(CHINESE.match(word) for word in topic.chinese)
    for word in {word for topic in TOPICS for word in topic.english}:  # a word of two topics is the exception
        assert sum(word in topic.english for topic in TOPICS) <= 2


def test_text_is_pure_in_its_language() -> None:
    rng = np.random.default_rng(0)
    for topic in range(len(TOPICS)):
        title, text = write_text(topic, 3, topic % 5, True, rng)
        assert not re.search("[a-zA-Z]", title + text + write_comment(topic, True, False, rng))
        title, text = write_text(topic, 3, topic % 5, False, rng)
        assert (title + text + write_comment(topic, False, True, rng)).isascii()
        assert title[0].isupper()


def test_text_mentions_the_minor_topic_more_often_than_any_other(world: World) -> None:
    truth, mentions = world.truth.items, np.zeros(len(TOPICS))
    for n, item in enumerate(world.catalog.items):
        for step in range(len(TOPICS)):  # how far the topic lies from the minor one
            topic = TOPICS[(truth.minor[n] + step) % len(TOPICS)]
            words = topic.chinese if truth.chinese[n] else topic.english
            mentions[step] += any(word in (item.text or "") for word in words)
    assert mentions[0] > 4 * mentions[1:].max()


def accuracy(model: object, inputs: np.ndarray, labels: np.ndarray) -> float:
    """Held-out accuracy: trained on two items of three, asked about the third."""
    test = np.arange(len(labels)) % 3 == 0
    return float(model.fit(inputs[~test], labels[~test]).score(inputs[test], labels[test]))  # type: ignore[attr-defined]


def summaries(world: World) -> dict[str, tuple[object, Int64[np.ndarray, " present"], np.ndarray]]:
    """For each modality: a plain classifier, the items that have it, and simple features of them."""
    items = world.catalog.items
    rows = {
        m: np.array([n for n, item in enumerate(items) if m in item.modalities]) for m in ("text", "image", "audio")
    }
    words = TfidfVectorizer(token_pattern=r"[a-z]+|[\u4e00-\u9fff]", ngram_range=(1, 2))
    counts = words.fit_transform([items[n].text for n in rows["text"]]).toarray()
    pixels = np.stack([items[n].image for n in rows["image"]]).reshape(-1, 4, 8, 4, 8, 3).mean((2, 4))
    waves = np.stack([items[n].audio.wave for n in rows["audio"]])  # type: ignore[union-attr]
    spectra = np.log(1e-3 + abs(np.fft.rfft(waves)[:, :2000]).reshape(len(waves), 40, 50).mean(2))
    return {
        "text": (MultinomialNB(alpha=0.01), rows["text"], counts),
        "image": (LinearDiscriminantAnalysis(), rows["image"], pixels.reshape(len(pixels), -1)),
        "audio": (LinearDiscriminantAnalysis(), rows["audio"], spectra),
    }


def test_each_modality_tells_its_own_factor_and_little_of_the_others(world: World) -> None:
    truth = world.truth.items
    factors = {"topic": (truth.topic, 24), "look": (truth.look, 8), "mood": (truth.mood, 6)}
    own = {"text": "topic", "image": "look", "audio": "mood"}
    for modality, (model, rows, features) in summaries(world).items():
        for factor, (labels, choices) in factors.items():
            right = accuracy(model, features, labels[rows])
            if own[modality] == factor:
                assert right > 0.8, (modality, factor)
            else:
                assert right < 2.5 / choices, (modality, factor)


def test_picture_hints_at_the_topic_by_one_small_disc() -> None:
    for look in range(len(LOOKS)):
        one, other = (paint(look, topic, np.random.default_rng(look)).astype(int) for topic in (0, 12))
        changed = (abs(one - other).max(2) > 8).mean()
        assert 0 < changed < 0.06


def test_sound_hints_at_the_domain_by_a_soft_hiss() -> None:
    for mood in range(len(MOODS)):
        one, other = (play(mood, domain, np.random.default_rng(mood)) for domain in (0, 3))
        assert 0 < np.sqrt(np.mean((one - other) ** 2)) < 0.2 * np.sqrt(np.mean(one**2))
