"""Spoken digits: proof that the audio encoder learns from real sound, not only from rendered tones.

The Free Spoken Digit Dataset has recordings of "zero" to "nine" by six speakers. Nobody is
recommended a recording, so this is no `Catalog`: it is sounds with labels. The test set is the
publisher's: takes 0 to 4 of each digit and speaker, never trained on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from m6rec_mini.catalog import DataError, Sound
from m6rec_mini.datasets.media import read_sound
from m6rec_mini.datasets.records import Report, RowError
from m6rec_mini.datasets.sources import Source

SOURCE = Source(
    name="fsdd",
    about="3,000 recordings of spoken digits by 6 speakers: sounds with labels, to test the audio encoder",
    publisher="Zohar Jackson and others, Free Spoken Digit Dataset",
    licence="CC BY-SA 4.0",
    is_catalog=False,
    layouts={"with folder": ("recordings/*.wav",), "bare": ("*.wav",)},
)
NAME = re.compile(r"(\d)_(.+)_(\d{1,6})", re.ASCII)  # 7_jackson_12.wav: digit, speaker, take
TEST_TAKES = range(5)


@dataclass(frozen=True, eq=False)
class DigitSounds:
    """Recordings and what was said, in order of digit, speaker and take."""

    sounds: tuple[Sound, ...]
    digits: Int64[np.ndarray, " sounds"]  # 0 to 9
    speakers: tuple[str, ...]  # of each sound
    takes: Int64[np.ndarray, " sounds"]  # 0, 1, ... of this digit by this speaker

    def __len__(self) -> int:
        return len(self.sounds)

    @property
    def test(self) -> Bool[np.ndarray, " sounds"]:
        """True for the publisher's test set; the rest is for training."""
        return np.isin(self.takes, TEST_TAKES)


def load(path: Path) -> DigitSounds:
    """Read every DIGIT_SPEAKER_TAKE.wav in the data set's folder, or in its folder `recordings`.

    Raises DataError if there is none, and, with every problem listed, if one is named otherwise
    or unreadable.
    """
    folder = path / "recordings" if SOURCE.layout(path) == "with folder" else path
    report = Report()
    rows: list[tuple[int, str, int, Sound]] = []
    for file in folder.glob("*.wav"):
        try:
            rows.append(_recording(file))
        except RowError as error:
            report.reject(file, None, error)
    report.enforce("strict")
    rows.sort(key=lambda row: row[:3])  # folders list their files in any order
    digits, speakers, takes, sounds = zip(*rows, strict=True)
    return DigitSounds(sounds, np.array(digits, np.int64), speakers, np.array(takes, np.int64))


def _recording(file: Path) -> tuple[int, str, int, Sound]:
    match = NAME.fullmatch(file.stem)
    if match is None:
        raise RowError("name", "other name", "expected DIGIT_SPEAKER_TAKE.wav, such as 7_jackson_12.wav; move it out")
    try:
        return int(match[1]), match[2], int(match[3]), read_sound(file)
    except DataError as error:
        raise RowError("audio", "unusable file", str(error)) from error
