"""Pictures and sounds: what is written comes back, and no file, however hostile, gets past the door."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from m6rec_mini.catalog import DataError, Sound
from m6rec_mini.datasets import media
from m6rec_mini.datasets.media import read_image, read_sound, sound_suffix, write_image, write_sound

NOISE = np.random.default_rng(0).integers(0, 256, (60, 40, 3), dtype=np.uint8)
few = settings(max_examples=40)


def png_that_declares(width: int, height: int) -> bytes:
    """A few dozen bytes that say they are a picture of any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def encoded(image: np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format=kind, **options)
    return file.getvalue()


@few
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))))
def test_a_picture_written_is_the_picture_read(tmp_path_factory: pytest.TempPathFactory, image: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("png") / "a.png"
    write_image(path, image)
    np.testing.assert_array_equal(read_image(path), image)


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [(100, 50, (40, 20, 3)), (50, 100, (20, 40, 3)), (1, 400, (1, 40, 3)), (9, 7, (9, 7, 3))],
)
def test_the_longer_side_is_bounded_and_small_pictures_stay(
    tmp_path: Path, height: int, width: int, shape: tuple[int, ...]
) -> None:
    write_image(tmp_path / "a.png", np.full((height, width, 3), (10, 200, 30), np.uint8))
    image = read_image(tmp_path / "a.png", max_side=40)
    assert image.shape == shape
    assert (image == (10, 200, 30)).all()


def test_jpeg_is_decoded_as_pillow_does_and_turned_upright(tmp_path: Path) -> None:
    smooth = np.stack(np.broadcast_arrays(*np.ogrid[0:120:2, 0:160:4], 90), axis=-1).astype(np.uint8)  # 60 x 40
    turned = Image.Exif()
    turned[0x0112] = 6  # "turn by 90 degrees clockwise to see it upright"
    (tmp_path / "plain.jpg").write_bytes(encoded(smooth, "JPEG", quality=95))
    (tmp_path / "turned.jpg").write_bytes(encoded(smooth, "JPEG", quality=95, exif=turned))
    plain = read_image(tmp_path / "plain.jpg")
    np.testing.assert_array_equal(plain, np.asarray(Image.open(tmp_path / "plain.jpg")))
    np.testing.assert_array_equal(read_image(tmp_path / "turned.jpg"), np.rot90(plain, k=-1))


def test_grey_of_16_bits_keeps_its_shades_and_transparency_is_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 25_600, 65_535]], np.uint16)).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png")[0, :, 0].tolist() == [0, 100, 255]
    Image.fromarray(np.array([[[9, 9, 9, 0], [9, 9, 9, 255]]], np.uint8), "RGBA").save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png")[0].tolist() == [[255, 255, 255], [9, 9, 9]]


@pytest.mark.parametrize("side", [10_000, 60_000])  # Pillow warns of the first and refuses the second
def test_a_zip_bomb_is_refused_by_its_declared_size_without_warning(
    tmp_path: Path, side: int, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "bomb.png").write_bytes(png_that_declares(side, side))
    with pytest.raises(DataError, match=r"bomb\.png declares .* pixels; at most 40,000,000 are decoded"):
        read_image(tmp_path / "bomb.png")
    assert not recwarn.list


def test_max_pixels_is_inclusive(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", NOISE)
    assert read_image(tmp_path / "a.png", max_pixels=60 * 40).shape == (60, 40, 3)
    with pytest.raises(DataError, match="declares 40 x 60 pixels"):
        read_image(tmp_path / "a.png", max_pixels=60 * 40 - 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@given(data=st.data())
@few
def test_a_cut_or_flipped_picture_is_refused_or_read_never_worse(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    whole = bytearray(encoded(NOISE, kind))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("cut") / "a"
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole)))])
    with suppress(DataError):
        assert max(read_image(path, max_pixels=10**6).shape[:2]) <= media.MAX_SIDE


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_half_a_picture_is_refused(tmp_path: Path, kind: str) -> None:
    whole = encoded(NOISE, kind)
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="half is not a whole PNG or JPEG picture"):
        read_image(tmp_path / "half")


def test_other_kinds_of_picture_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(NOISE, "GIF"))
    with pytest.raises(DataError, match="not a whole PNG or JPEG"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("read", [read_image, read_sound])
def test_what_is_no_file_of_a_sane_size_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(media.MAX_BYTES + 1)  # sparse: takes no room
    (tmp_path / "text").write_text("no picture, no sound")
    for name, reason in {
        ".": "is a folder; expected a file",
        "nowhere": "does not exist",
        "empty": r"is empty \(0 bytes\)",
        "huge": "has 268,435,457 bytes; at most 268,435,456",
        "text": "is not a whole",
        "/dev/null": "no regular file",
    }.items():
        with pytest.raises(DataError, match=reason):
            read(tmp_path / name)


def test_a_picture_without_pixels_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no pixels"):
        write_image(tmp_path / "a.png", np.zeros((0, 5, 3), np.uint8))


def write_wav(path: Path, samples: list[int], rate: int = 8000, channels: int = 1) -> None:
    with wave.open(str(path), "wb") as file:  # the standard library as an independent writer
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.array(samples, "<i2").tobytes())


def test_sixteen_bits_are_divided_by_32768_and_channels_averaged(tmp_path: Path) -> None:
    write_wav(tmp_path / "mono.wav", [0, 16384, -32768], rate=11025)
    sound = read_sound(tmp_path / "mono.wav")
    assert sound.wave.tolist() == [0.0, 0.5, -1.0]
    assert sound.rate == 11025
    write_wav(tmp_path / "stereo.wav", [16384, 0, -16384, 16384], channels=2)
    assert read_sound(tmp_path / "stereo.wav").wave.tolist() == [0.25, 0.0]


@few
@given(
    samples=arrays.arrays(np.float32, st.integers(1, 50), elements=st.floats(-1, 1, width=32)),
    rate=st.sampled_from([1000, 8000, 44100, 65_535, 65_537, 96_001, 192_000]),
)
def test_a_sound_comes_back_within_16_bits_and_then_never_changes(
    tmp_path_factory: pytest.TempPathFactory, samples: np.ndarray, rate: int
) -> None:
    folder = tmp_path_factory.mktemp("sound")
    for suffix in {".wav", sound_suffix(Sound(samples, rate))}:
        write_sound(folder / f"a{suffix}", Sound(samples, rate))
        once = read_sound(folder / f"a{suffix}")
        assert once.rate == rate
        np.testing.assert_allclose(once.wave, samples, rtol=0, atol=1 / 32768)
        write_sound(folder / f"b{suffix}", once)
        np.testing.assert_array_equal(read_sound(folder / f"b{suffix}").wave, once.wave)


def test_only_the_first_seconds_are_kept(tmp_path: Path) -> None:
    write_wav(tmp_path / "long.wav", list(range(8000 * 3)))
    sound = read_sound(tmp_path / "long.wav", max_seconds=1.5)
    np.testing.assert_array_equal(sound.wave * 32768, np.arange(12_000))


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([0.0, np.nan], "NaN or infinite"),
        ([np.inf, 0.0], "NaN or infinite"),
        ([0.0, 30_000.0], "a sample of 3e[+]04; expected -1 to 1"),
        ([], "an empty sound"),
    ],
)
def test_sounds_that_are_no_sounds_are_refused(tmp_path: Path, samples: list[float], reason: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.array(samples, np.float32), 8000, subtype="FLOAT")
    with pytest.raises(DataError, match=reason):
        read_sound(tmp_path / "a.wav")
    with pytest.raises(DataError, match=reason):
        write_sound(tmp_path / "b.wav", Sound(np.array(samples, np.float32), 8000))


def test_a_small_overshoot_is_clipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([1.25, -1.5, 0.5], np.float32), 8000, subtype="FLOAT")
    assert read_sound(tmp_path / "a.wav").wave.tolist() == [1.0, -1.0, 0.5]


def test_odd_headers_are_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "slow.wav", [1, 2], rate=500)
    with pytest.raises(DataError, match="500 samples a second; expected 1,000 to 192,000"):
        read_sound(tmp_path / "slow.wav")
    write_wav(tmp_path / "many.wav", [1] * 17, channels=17)
    with pytest.raises(DataError, match="17 channels"):
        read_sound(tmp_path / "many.wav")
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 8000, format="OGG")
    with pytest.raises(DataError, match="kind OGG; expected WAV or FLAC"):
        read_sound(tmp_path / "a.wav")
    with pytest.raises(DataError, match=r"written as \.wav or \.flac"):
        write_sound(tmp_path / "a.mp3", Sound(np.zeros(3, np.float32), 8000))
    with pytest.raises(DataError, match="cannot hold a rate of 96001"):
        write_sound(tmp_path / "a.flac", Sound(np.zeros(3, np.float32), 96_001))


def test_half_a_flac_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, 20_000).astype(np.float32)
    write_sound(tmp_path / "a.flac", Sound(noise, 8000))
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.flac is not a whole WAV or FLAC"):
        read_sound(tmp_path / "a.flac")


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@given(data=st.data())
@few
def test_a_cut_or_flipped_sound_is_refused_or_read_never_worse(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / f"a{suffix}"
    write_sound(path, Sound(np.sin(np.arange(500, dtype=np.float32)), 8000))
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole)))])
    with suppress(DataError):
        assert np.abs(read_sound(path).wave).max() <= 1


def test_real_sounds_are_read_as_the_standard_library_reads_them(shared_data: Path) -> None:
    for path in sorted((shared_data / "fsdd" / "recordings").glob("7_*_1*.wav")):
        with wave.open(str(path)) as file:
            expected = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        np.testing.assert_array_equal(read_sound(path).wave * 32768, expected)


def test_real_posters_are_read_as_pillow_reads_them(shared_data: Path) -> None:
    for path in sorted((shared_data / "movielens_trimodal" / "posters").iterdir())[::100]:
        plain = np.asarray(Image.open(path).convert("RGB"))
        np.testing.assert_array_equal(read_image(path, max_side=1000), plain)
        assert max(read_image(path, max_side=64).shape) == 64
