"""How an item of the embedded world reads, looks and sounds.

Each modality is written from its own latent factor, so that each tells only part of the truth:
text the topic, the picture the *look* (and faintly the topic, by the colour of one small disc),
the sound the *mood* (and faintly the domain, by the pulse of a soft hiss). Everything else about
them, from the phrase to the phase of a wave, is chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, UInt8

from m6rec_mini.datasets.world_words import (
    CHINESE_ASIDES,
    CHINESE_BLURBS,
    CHINESE_DOUBT,
    CHINESE_FILLERS,
    CHINESE_PRAISE,
    CHINESE_TITLES,
    DOMAINS,
    ENGLISH_ASIDES,
    ENGLISH_BLURBS,
    ENGLISH_DOUBT,
    ENGLISH_FILLERS,
    ENGLISH_PRAISE,
    ENGLISH_TITLES,
    TOPICS,
)

SIDE = 32  # pixels of a picture, both ways
RATE = 8000  # samples of a sound, which lasts one second

Canvas = Float32[np.ndarray, "height width"]
Picture = UInt8[np.ndarray, "height width 3"]
Wave = Float32[np.ndarray, " samples"]


# ---- text ---------------------------------------------------------------------------------------


def write_text(topic: int, minor: int, domain: int, chinese: bool, rng: np.random.Generator) -> tuple[str, str]:
    """A title, and the text that the model reads: the title and two or three sentences."""
    titles, blurbs, asides, fillers, gap = (
        (CHINESE_TITLES, CHINESE_BLURBS, CHINESE_ASIDES, CHINESE_FILLERS, "")
        if chinese
        else (ENGLISH_TITLES, ENGLISH_BLURBS, ENGLISH_ASIDES, ENGLISH_FILLERS, " ")
    )
    a, b, c, d = rng.choice(_words(topic, chinese), 4, replace=False)
    aside_topic = minor if rng.random() < 0.7 else rng.integers(len(TOPICS))  # noise: an aside about anything
    m = _pick(_words(int(aside_topic), chinese), rng)
    title = _phrase(_pick(titles[DOMAINS[domain]], rng), a, b)
    sentences = [_phrase(_pick(blurbs, rng), c, d), _phrase(_pick(asides, rng), c, d, m), _pick(fillers, rng)]
    stop = "。" if chinese else "."
    return title, gap.join([title + stop, *filter(None, sentences)])


def write_comment(topic: int, chinese: bool, pleased: bool, rng: np.random.Generator) -> str:
    """A few words about an item of this topic."""
    praise, doubt = (CHINESE_PRAISE, CHINESE_DOUBT) if chinese else (ENGLISH_PRAISE, ENGLISH_DOUBT)
    word = _pick(_words(topic, chinese), rng)
    return _phrase(_pick(praise if pleased else doubt, rng), word, word)


def _words(topic: int, chinese: bool) -> tuple[str, ...]:
    return TOPICS[topic].chinese if chinese else TOPICS[topic].english


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _phrase(template: str, a: str, b: str, m: str = "") -> str:
    return template.format(a=a, b=b, m=m, A=a[0].upper() + a[1:], B=b[0].upper() + b[1:])


# ---- pictures -----------------------------------------------------------------------------------

_ROWS, _COLUMNS = np.indices((SIDE, SIDE)).astype(np.float32) / SIDE  # in widths of a picture; down and right


class Look(NamedTuple):
    """A style: a ground that fades from `top` to `bottom`, and shapes drawn on it in two inks."""

    name: str
    top: str
    bottom: str
    inks: tuple[str, str]
    shapes: Callable[[np.random.Generator], tuple[Canvas, Canvas]]  # how much of each ink, 0 to 1


def _cover(inside: Float[np.ndarray, "height width"]) -> Canvas:
    """Opacity of a shape from the distance inside its edge, smooth over one pixel."""
    return np.asarray(np.clip(inside * SIDE + 0.5, 0, 1), np.float32)


def _distance(row: float, column: float) -> Canvas:
    return np.asarray(np.hypot(_ROWS - row, _COLUMNS - column), np.float32)


def _sun_and_sea(rng: np.random.Generator) -> tuple[Canvas, Canvas]:
    horizon = rng.uniform(0.55, 0.75)
    sun = _cover(rng.uniform(0.15, 0.25) - _distance(horizon - rng.uniform(-0.02, 0.2), rng.uniform(0.3, 0.7)))
    ripples = np.sin((_ROWS - horizon) * rng.uniform(35, 50)) * 0.3 + 0.7
    return sun, _cover(_ROWS - horizon) * ripples.astype(np.float32)


def _waves(rng: np.random.Generator) -> tuple[Canvas, Canvas]:
    (back, front), (speed, other) = rng.uniform((0.3, 0.6), (0.5, 0.75)), rng.uniform(6, 11, 2)
    size, shift = rng.uniform(0.04, 0.08), rng.uniform(0, 6.3)
    return (
        _cover(_ROWS - back - size * np.sin(_COLUMNS * speed + shift)),
        _cover(_ROWS - front - size * np.sin(_COLUMNS * other - shift)),
    )


def _hills(rng: np.random.Generator) -> tuple[Canvas, Canvas]:
    far = _cover(rng.uniform(0.6, 0.8) - _distance(1.1, rng.uniform(0.0, 0.4)))
    near = _cover(rng.uniform(0.5, 0.7) - _distance(1.2, rng.uniform(0.6, 1.0)))
    return far, near


def _rings(rng: np.random.Generator) -> tuple[Canvas, Canvas]:
    wave = np.sin(_distance(rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8)) * rng.uniform(22, 32)).astype(np.float32)
    return np.clip(wave, 0, 1) ** 3, np.clip(-wave, 0, 1) ** 3


def _dots(rng: np.random.Generator) -> tuple[Canvas, Canvas]:
    pitch, shift = rng.uniform(3, 4.5), rng.uniform(0, 1)
    rows, columns = (_ROWS + shift) * pitch, _COLUMNS * pitch
    on = np.hypot(rows % 1 - 0.5, columns % 1 - 0.5)
    between = np.hypot((rows + 0.5) % 1 - 0.5, (columns + 0.5) % 1 - 0.5)
    return _cover((0.27 - on) / pitch), _cover((0.27 - between) / pitch)


def _stripes(rng: np.random.Generator) -> tuple[Canvas, Canvas]:
    slope = rng.choice([-1, 1]) * rng.uniform(0.6, 1.4)
    along = ((_COLUMNS + slope * _ROWS) * rng.uniform(1.8, 2.8) + rng.uniform(0, 1)) % 1
    return _cover((0.14 - abs(along - 0.3)) / 3), _cover((0.06 - abs(along - 0.7)) / 3)


def _peaks(rng: np.random.Generator) -> tuple[Canvas, Canvas]:
    (left, right), steep = rng.uniform((0.15, 0.55), (0.45, 0.85)), rng.uniform(0.9, 1.3, 2)
    high, low = rng.uniform((0.2, 0.4), (0.4, 0.6))
    return (
        _cover((_ROWS - high - steep[0] * abs(_COLUMNS - left)) * 0.7),
        _cover((_ROWS - low - steep[1] * abs(_COLUMNS - right)) * 0.7),
    )


def _arcs(rng: np.random.Generator) -> tuple[Canvas, Canvas]:
    corner = _distance(*rng.choice([0.0, 1.0], 2))
    radius, width = rng.uniform(0.75, 0.9), rng.uniform(0.07, 0.1)
    outer, inner = (_cover(width - abs(corner - radius * k)) for k in (1.0, 0.62))
    return outer, inner


LOOKS: tuple[Look, ...] = (
    Look("sunrise", "#ffc3a0", "#ff9a8b", ("#fff1c1", "#c86b85"), _sun_and_sea),
    Look("ocean", "#bfe9ff", "#8fd3e8", ("#3a9bbf", "#16537e"), _waves),
    Look("meadow", "#e8f6d4", "#c9e8a8", ("#8fbf6a", "#4d8b4a"), _hills),
    Look("neon", "#1b1035", "#2d0b4e", ("#ff3cac", "#2de2e6"), _rings),
    Look("confetti", "#f6e6ff", "#fde2ef", ("#f4a7c3", "#b49be0"), _dots),
    Look("paper", "#f8f3e6", "#efe6d0", ("#3b3a3f", "#c8553d"), _stripes),
    Look("dusk", "#3d3a6b", "#d48fb0", ("#2a2748", "#574b82"), _peaks),
    Look("retro", "#5b3a29", "#8a4f2b", ("#f2a541", "#f5e6c8"), _arcs),
)


def paint(look: int, topic: int, rng: np.random.Generator) -> Picture:
    """A picture in the style `look`, with one small disc whose hue hints at the topic."""
    style = LOOKS[look]
    colours = (style.top, style.bottom, *style.inks)
    top, bottom, *inks = (_rgb(colour) + rng.normal(0, 0.035, 3).astype(np.float32) for colour in colours)
    picture = top + (bottom - top) * _ROWS[..., None]  # height width 3
    layers = [*zip(style.shapes(rng), inks, strict=True)]
    disc = _cover(rng.uniform(0.06, 0.1) - _distance(*rng.uniform(0.15, 0.85, 2)))
    layers.append((disc, _hue(topic / len(TOPICS) + rng.normal(0, 0.06))))
    for cover, ink in layers:
        picture += cover[..., None] * (ink - picture)
    picture += rng.normal(0, 0.015, (SIDE, SIDE, 1)).astype(np.float32)  # grain
    return np.asarray(np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _rgb(colour: str) -> Float32[np.ndarray, " rgb"]:
    return np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)], np.float32)


def _hue(hue: float) -> Float32[np.ndarray, " rgb"]:
    """A bright colour of this hue; 0 and 1 are both red."""
    return (0.62 + 0.38 * np.cos(2 * np.pi * (hue - np.arange(3) / 3))).astype(np.float32)


# ---- sounds -------------------------------------------------------------------------------------

_TIME = np.arange(RATE, dtype=np.float32) / RATE
_FADE = np.minimum((1 - _TIME) * 20, 1)  # the last 50 ms, so that the end does not click


@dataclass(frozen=True)
class Mood:
    """How a mood sounds: its chord, its register, its timbre, its rhythm."""

    name: str
    chord: tuple[int, ...]  # semitones over the root
    root: int  # lowest root, as a MIDI note; roots lie up to an octave higher
    partials: tuple[tuple[float, float], ...]  # multiple of the pitch, loudness
    pulses: float  # beats per second
    attack: float  # seconds
    decay: float  # seconds
    arpeggio: bool = False  # the notes of the chord one after the other


MOODS: tuple[Mood, ...] = (
    Mood("calm", (0, 7, 16), 48, ((1.0, 1.0), (2.0, 0.3)), 1.0, 0.25, 0.9),
    Mood("happy", (0, 4, 7, 12), 60, ((1.0, 1.0), (2.0, 0.5), (3.0, 0.25)), 5.0, 0.01, 0.25, arpeggio=True),
    Mood("dark", (0, 3, 7), 36, tuple((float(k), 1 / k) for k in range(1, 10)), 2.0, 0.02, 0.5),
    Mood("energetic", (0, 7, 12), 45, tuple((float(k), 1 / k) for k in (1, 3, 5, 7)), 8.0, 0.005, 0.06),
    Mood("dreamy", (0, 5, 7, 14), 64, ((1.0, 1.0), (2.76, 0.4), (5.4, 0.2)), 2.0, 0.005, 0.7),
    Mood("tense", (0, 1, 6), 55, ((1.0, 1.0), (2.0, 0.8), (3.0, 0.6), (4.0, 0.4)), 12.0, 0.02, 0.05),
)


def play(mood: int, domain: int, rng: np.random.Generator) -> Wave:
    """One second of a mood in a random key and tempo, over a hiss whose pulse hints at the domain."""
    voice = MOODS[mood]
    root, tempo, late = voice.root + int(rng.integers(12)), voice.pulses * rng.uniform(0.85, 1.15), rng.uniform(0, 0.1)
    tones = [_tone(mood, root + step) for step in voice.chord]
    beat = np.maximum(_TIME - np.float32(late), 0) * np.float32(tempo)  # beats since the first
    since = (beat % 1) / np.float32(tempo)  # seconds since the last beat
    envelope = np.minimum(since / np.float32(voice.attack), 1) * np.exp(-since / np.float32(voice.decay))
    if voice.arpeggio:
        wave = np.choose(beat.astype(np.int64) % len(tones), tones) * envelope
    else:
        wave = sum(tones) / np.float32(len(tones)) * envelope
    swish = 0.5 + 0.5 * np.cos(2 * np.pi * (domain + 1) * _TIME + np.float32(rng.uniform(0, 6.3)))
    hiss = rng.standard_normal(RATE, np.float32) * swish
    wave = (wave / max(float(abs(wave).max()), 1e-6) + np.float32(0.06) * hiss) * _FADE
    return np.asarray(np.clip(wave * rng.uniform(0.5, 0.8), -1, 1), np.float32)


@cache  # few tones serve many items; sines are the costly part
def _tone(mood: int, note: int) -> Wave:
    pitch = 440 * 2 ** ((note - 69) / 12)
    heard = [(k, loud) for k, loud in MOODS[mood].partials if k * pitch < 0.45 * RATE]  # below the Nyquist limit
    waves = [np.float32(loud) * np.sin(2 * np.pi * k * pitch * _TIME) for k, loud in heard]
    return np.asarray(np.sum(waves, axis=0) / sum(loud for _, loud in heard), np.float32)
