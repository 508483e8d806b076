"""Data sets that are no catalogs: bandit logs and spoken digits, small ones written here and the real ones."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from m6rec_mini.catalog import DataError
from m6rec_mini.datasets import fsdd, open_bandit


def write_csv(path: Path, columns: list[str], rows: list[Mapping[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="0.5")
        writer.writeheader()
        writer.writerows(rows)


ROUND = {"timestamp": "2019-11-24 00:00:34.762830+00:00", "item_id": "1", "position": "3", "click": "0"}
ROUND |= {"propensity_score": "0.5"} | {f"user_feature_{n}": f"h{n}" for n in range(4)}
ROUND |= {"user-item_affinity_0": "0.0", "user-item_affinity_1": "2.0"}
LATER = ROUND | {"timestamp": "2019-11-24 00:01:00+00:00", "item_id": "0", "click": "1", "user_feature_0": "other"}


def bandit(folder: Path, *rounds: Mapping[str, str], salt: str = "", policy: str = "random") -> Path:
    place = folder / policy / "all"
    place.mkdir(parents=True)
    items = [{"item_id": str(n), "item_feature_0": f"-{n}.5"} for n in range(2)]
    for n in range(1, 4):
        items[0][f"item_feature_{n}"], items[1][f"item_feature_{n}"] = f"{salt}z{n}", f"{'' if salt else 'q'}a{n}"
    write_csv(place / "item_context.csv", list(items[0]), [*items])
    write_csv(place / "all.csv", list(ROUND), [*rounds] or [ROUND, LATER])
    return folder


def recordings(folder: Path, *names: str) -> Path:
    (folder / "recordings").mkdir()
    for n, name in enumerate(names):
        soundfile.write(folder / "recordings" / name, np.full(50, n / 10, np.float32), 8000)
    return folder


def reasons(read: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        read()
    return str(caught.value)


# ---------------------------------------------------------------- Open Bandit


def test_bandit_log_as_arrays(tmp_path: Path) -> None:
    log = open_bandit.load(bandit(tmp_path))
    assert (len(log), log.num_items, log.policy, log.campaign) == (2, 2, "random", "all")
    assert log.items.tolist() == [1, 0]
    assert log.positions.tolist() == [2, 2]
    assert log.rewards.tolist() == [0, 1]
    assert log.propensities.tolist() == [0.5, 0.5]
    assert log.timestamps[1] - log.timestamps[0] == pytest.approx(25.23717)
    assert log.affinities.tolist() == [[0, 2], [0, 2]]
    columns = ["user_feature_0=h0", "user_feature_0=other", "user_feature_1=h1", "user_feature_2=h2"]
    assert list(log.user_columns) == [*columns, "user_feature_3=h3"]
    assert log.user_features.tolist() == [[1, 0, 1, 1, 1], [0, 1, 1, 1, 1]]
    assert log.item_context.tolist() == [[-0.5, 1, 0, 1, 0, 1, 0], [-1.5, 0, 1, 0, 1, 0, 1]]


def test_item_columns_agree_though_categories_are_hashed_with_another_salt(tmp_path: Path) -> None:
    bandit(tmp_path)
    bandit(tmp_path, salt="0", policy="bts")  # in order of name, the columns would be swapped
    both = [open_bandit.load(tmp_path, "random"), open_bandit.load(tmp_path, "bts")]
    np.testing.assert_array_equal(both[0].item_context, both[1].item_context)


def test_gzip_is_unpacked_and_a_cut_one_is_told(tmp_path: Path) -> None:
    place = bandit(tmp_path) / "random" / "all"
    packed = gzip.compress((place / "all.csv").read_bytes())
    (place / "all.csv").unlink()
    (place / "all.csv.gz").write_bytes(packed)
    assert len(open_bandit.load(tmp_path)) == 2
    (place / "all.csv.gz").write_bytes(packed[:-20])
    assert "all.csv.gz is not a whole gzip file" in reasons(lambda: open_bandit.load(tmp_path))
    (place / "all.csv.gz").unlink()
    assert "all.csv.gz does not exist" in reasons(lambda: open_bandit.load(tmp_path))


BAD_ROUNDS = {
    "propensity_score: propensity_score is '0'; expected a probability": {"propensity_score": "0"},
    "propensity_score: propensity_score is '1.5'": {"propensity_score": "1.5"},
    "propensity_score: propensity_score is 'nan'": {"propensity_score": "nan"},
    "propensity_score: no propensity_score": {"propensity_score": ""},
    "click: click is '2'; expected a whole number from 0 to 1": {"click": "2"},
    "click: click is '0.5'": {"click": "0.5"},
    "item_id: item_id is '2'; expected a whole number from 0 to 1": {"item_id": "2"},
    "position: position is '0'": {"position": "0"},
    "timestamp: timestamp is '2019-11-24'; expected a time with its zone": {"timestamp": "2019-11-24"},
    "timestamp: timestamp is 'noon'": {"timestamp": "noon"},
    "user_feature_2: no user_feature_2": {"user_feature_2": ""},
    "user-item_affinity_1: user-item_affinity_1 is 'x'": {"user-item_affinity_1": "x"},
}


@pytest.mark.parametrize("message", BAD_ROUNDS)
def test_bad_rounds_are_named(tmp_path: Path, message: str) -> None:
    folder = bandit(tmp_path, ROUND, LATER | BAD_ROUNDS[message])
    file = folder / "random" / "all" / "all.csv"
    assert f"{file}, row 3, {message}" in reasons(lambda: open_bandit.load(folder))


def test_bandit_rounds_may_tie_and_may_not_be_none(tmp_path: Path) -> None:
    file = bandit(tmp_path, ROUND, ROUND) / "random" / "all" / "all.csv"
    assert open_bandit.load(tmp_path).items.tolist() == [1, 1]
    header, row, _ = file.read_text().splitlines()
    file.write_text(header + "\n")
    assert "all.csv has no records" in reasons(lambda: open_bandit.load(tmp_path))
    file.write_text(f"{header}\n{row},more\n")
    assert "every record was rejected" in reasons(lambda: open_bandit.load(tmp_path))


def test_bandit_rounds_must_be_in_order_and_items_counted(tmp_path: Path) -> None:
    assert "row 3, timestamp: timestamp is '2019-11-24 00:00:34.762830+00:00'; expected a time no earlier" in reasons(
        lambda: open_bandit.load(bandit(tmp_path, LATER, ROUND))
    )
    context = tmp_path / "random" / "all" / "item_context.csv"
    lines = context.read_text().splitlines()
    context.write_text("\n".join([lines[0], lines[2], lines[1]]) + "\n")
    assert "row 2, item_id: item_id is '1'; expected 0: the log names items by their row" in reasons(
        lambda: open_bandit.load(tmp_path)
    )


# ---------------------------------------------------------------- spoken digits


def test_digits_are_labelled_by_their_names(tmp_path: Path) -> None:
    folder = recordings(tmp_path, "7_jackson_12.wav", "7_jackson_4.wav", "0_yweweler_0.wav", "7_jackson_5.wav")
    spoken = fsdd.load(folder)
    assert spoken.digits.tolist() == [0, 7, 7, 7]
    assert spoken.speakers == ("yweweler", "jackson", "jackson", "jackson")
    assert spoken.takes.tolist() == [0, 4, 5, 12]
    assert spoken.test.tolist() == [True, True, False, False]
    assert [round(float(sound.wave[0]), 1) for sound in spoken.sounds] == [0.2, 0.1, 0.3, 0.0]
    assert spoken.sounds[0].rate == 8000
    assert fsdd.load(folder / "recordings").takes.tolist() == spoken.takes.tolist()


def test_bad_recordings_are_named(tmp_path: Path) -> None:
    folder = recordings(tmp_path, "7_jackson_1.wav", "seven.wav")
    (folder / "recordings" / "1_theo_0.wav").write_bytes(b"RIFF")
    message = reasons(lambda: fsdd.load(folder))
    assert "seven.wav, name: expected DIGIT_SPEAKER_TAKE.wav" in message
    assert "1_theo_0.wav, audio:" in message


# ---------------------------------------------------------------- the real ones


@pytest.mark.parametrize(("policy", "clicks"), [("random", (38, 46, 46)), ("bts", (42, 69, 46))])
def test_real_bandit_clicks(shared_data: Path, policy: open_bandit.Policy, clicks: tuple[int, int, int]) -> None:
    for campaign, expected, items in zip(("all", "men", "women"), clicks, (80, 34, 46), strict=True):
        log = open_bandit.load(shared_data / "open_bandit_small", policy, campaign)
        assert (len(log), log.rewards.sum(), log.num_items) == (10_000, expected, items)
        assert set(log.positions) == {0, 1, 2}
        assert (log.user_features.sum(axis=1) == 4).all()
        if policy == "random":
            assert log.propensities == pytest.approx(np.full(10_000, 1 / items))


def test_real_bandit_items_are_the_same_in_both_logs(shared_data: Path) -> None:
    both = [open_bandit.load(shared_data / "open_bandit_small", policy, "men") for policy in ("random", "bts")]
    np.testing.assert_array_equal(both[0].item_context, both[1].item_context)


def test_real_digits(shared_data: Path) -> None:
    spoken = fsdd.load(shared_data / "fsdd")
    assert (len(spoken), spoken.test.sum()) == (3_000, 300)
    assert set(Counter(zip(spoken.digits.tolist(), spoken.speakers, strict=True)).values()) == {50}
    assert {sound.rate for sound in spoken.sounds} == {8_000}
