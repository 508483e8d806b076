"""Pictures and sounds, from files to arrays and back.

The one idea: a file says how big it is before it is decoded, so its size is judged first. Ten
kilobytes may unpack to ten gigabytes ("decompression bomb"); such a file costs one message here,
not the machine. What is read is bounded too: pictures are shrunk, of sounds the start is kept.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float32, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from m6rec_mini.catalog import DataError, Sound
from m6rec_mini.datasets.files import check_file

PICTURES = ("PNG", "JPEG")
SOUNDS = ("WAV", "WAVEX", "FLAC")
MAX_BYTES = 256 * 2**20  # of one file
MAX_PIXELS = 40_000_000  # a large camera's picture; 120 MB when decoded
MAX_SIDE = 256  # of a picture once read
MAX_SECONDS = 30.0  # of a sound once read
MIN_RATE, MAX_RATE = 1_000, 192_000  # Hz
MAX_CHANNELS = 16
FLAC_RATE = 65_535  # Hz; above, FLAC holds only some rates


def read_image(
    path: Path, max_pixels: int = MAX_PIXELS, max_side: int = MAX_SIDE
) -> UInt8[np.ndarray, "height width 3"]:
    """Read a PNG or JPEG as RGB, upright, its longer side at most `max_side`; transparency turns white.

    Raises DataError if there is no such file, if it is damaged, or if it declares over `max_pixels`.
    """
    check_file(path, MAX_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow only warns of a bomb; we measure it and raise
            with Image.open(path, formats=PICTURES) as picture:
                width, height = picture.size
                if width * height <= max_pixels:
                    return _decode(picture, max_side)
        size = f"{width:,} x {height:,} pixels"
    except Image.DecompressionBombError:
        size = f"more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    except Exception as error:  # on hostile bytes Pillow raises nearly anything: SyntaxError, zlib.error, ...
        unknown = isinstance(error, UnidentifiedImageError)  # its own message is only the path again
        reason = "of another kind, or broken at its head" if unknown else str(error) or type(error).__name__
        raise DataError(f"{path} is not a whole PNG or JPEG picture ({reason}); export it again") from error
    raise DataError(f"{path} declares {size}; at most {max_pixels:,} are decoded: shrink it (or is it a zip bomb?)")


def _decode(picture: Image.Image, max_side: int) -> UInt8[np.ndarray, "height width 3"]:
    picture.draft("RGB", (max_side, max_side))  # lets the JPEG decoder skip detail that shrinking loses anyway
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion clips to white
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    rgb = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    rgb.thumbnail((max_side, max_side))
    if rgb.mode == "RGBA":
        rgb = Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")
    return np.array(rgb)


def write_image(path: Path, image: UInt8[np.ndarray, "height width 3"]) -> None:
    """Write a PNG, which keeps every value. Raises DataError for a picture without pixels."""
    if image.size == 0:
        raise DataError(f"{path}: a picture of shape {image.shape} has no pixels; leave the image out instead")
    Image.fromarray(image).save(path, format="PNG")


def read_sound(path: Path, max_seconds: float = MAX_SECONDS) -> Sound:
    """Read the first `max_seconds` of a WAV or FLAC, its channels averaged.

    Raises DataError if there is no such file, if it is damaged or empty, or if its samples are not
    numbers between -1 and 1 (a mixer's small overshoot, up to 2, is clipped).
    """
    check_file(path, MAX_BYTES)
    try:
        with soundfile.SoundFile(path) as file:
            _check_header(path, file.format, file.frames, file.samplerate, file.channels)
            frames = min(file.frames, math.ceil(max_seconds * file.samplerate))
            samples = file.read(frames, dtype="float32", always_2d=True)  # frames x channels
            rate = file.samplerate
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:
        reason = getattr(error, "error_string", "") or "damaged or cut short"
        raise DataError(f"{path} is not a whole WAV or FLAC sound ({reason}); export it again") from error
    _check_samples(path, samples, 2.0)
    return Sound(np.clip(samples.mean(axis=1, dtype=np.float32), -1.0, 1.0), rate)


def write_sound(path: Path, sound: Sound) -> None:
    """Write 16 bits a sample, WAV or FLAC by the suffix; a sound that was read from 16 bits stays the same.

    Raises DataError if the sound is empty, is not in [-1, 1], or has a rate that the format cannot hold.
    """
    if path.suffix not in (".wav", ".flac"):
        raise DataError(f"{path}: sounds are written as .wav or .flac, not {path.suffix or 'without a suffix'}")
    _check_header(path, "WAV", len(sound.wave), sound.rate, 1)
    _check_samples(path, sound.wave, 1.0)
    # Readers divide by 32768, so multiply by the same: the usual 32767 would fade at every round trip.
    samples = np.clip(np.rint(sound.wave * 32768.0), -32768, 32767).astype(np.int16)
    try:
        soundfile.write(path, samples, sound.rate, subtype="PCM_16")
    except soundfile.SoundFileError as error:
        raise DataError(f"{path} cannot hold a rate of {sound.rate} Hz; write a .wav instead") from error


def sound_suffix(sound: Sound) -> str:
    """The more compact of the formats that can hold this rate."""
    return ".flac" if sound.rate <= FLAC_RATE else ".wav"


def _check_header(path: Path, kind: str, frames: int, rate: int, channels: int) -> None:
    if kind not in SOUNDS:
        raise DataError(f"{path} is a sound of kind {kind}; expected WAV or FLAC: convert it")
    if frames == 0:
        raise DataError(f"{path}: an empty sound, with no samples; leave the audio out instead")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise DataError(f"{path}: {rate:,} samples a second; expected {MIN_RATE:,} to {MAX_RATE:,}: resample it")
    if channels > MAX_CHANNELS:
        raise DataError(f"{path}: {channels} channels; expected at most {MAX_CHANNELS}: mix it down to one")


def _check_samples(path: Path, samples: Float32[np.ndarray, "*samples"], peak: float) -> None:
    if not np.isfinite(samples).all():
        raise DataError(f"{path}: samples that are NaN or infinite; repair or drop the sound")
    loudest = float(np.abs(samples).max())
    if loudest > peak:
        raise DataError(f"{path}: a sample of {loudest:.4g}; expected -1 to 1: divide by the largest of the format")
