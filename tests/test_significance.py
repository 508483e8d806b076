"""Bootstrap intervals: coverage in a simulation, pairing, seeds, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from m6rec_mini.evaluation import Interval, bootstrap_mean, paired_bootstrap, per_user


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    samples = (rng.random(200) < 0.2 for _ in range(200))  # hit rates of a truth of 0.2
    intervals = [bootstrap_mean(sample.astype(np.float64), 200, seed) for seed, sample in enumerate(samples)]
    covered = np.mean([interval.low <= 0.2 <= interval.high for interval in intervals])
    assert 0.90 <= covered <= 0.98


def test_an_interval_is_as_wide_as_the_normal_distribution_says() -> None:
    values = np.random.default_rng(0).normal(size=400)
    interval = bootstrap_mean(values, 4000)
    assert interval.mean == values.mean()
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)


def test_pairing_sees_a_small_difference_under_large_variance() -> None:
    rng = np.random.default_rng(1)
    hard = rng.normal(size=300)
    a, b = hard + 0.05 + rng.normal(scale=0.1, size=300), hard
    paired = paired_bootstrap(a, b)
    assert paired.excludes_zero
    assert paired.low < 0.05 < paired.high
    assert paired.high - paired.low < (bootstrap_mean(a).high - bootstrap_mean(a).low) / 5


def test_bootstrap_is_seeded_antisymmetric_and_averages_seeds() -> None:
    a, b = np.random.default_rng(2).random((2, 3, 50))  # 3 seeds
    forward, backward = paired_bootstrap(a, b, 300), paired_bootstrap(b, a, 300)
    assert forward == paired_bootstrap(a.mean(axis=0), b, 300)
    assert (forward.mean, forward.low) == pytest.approx((-backward.mean, -backward.high))
    assert forward != paired_bootstrap(a, b, 300, seed=1)
    same = paired_bootstrap(a, a)
    assert same == Interval(0.0, 0.0, 0.0)
    assert not same.excludes_zero
    assert str(Interval(0.0594, 0.031, 0.0888)) == "+0.0594 [+0.0310, +0.0888]"


def test_bootstrap_needs_the_same_cases() -> None:
    with pytest.raises(ValueError, match="4 cases against 3"):
        paired_bootstrap(np.zeros(4), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="no cases"):
        bootstrap_mean(np.zeros(0))


def test_users_with_many_cases_count_once() -> None:
    assert per_user(np.array([1.0, 0.0, 0.0, 1.0]), np.array([7, 7, 7, 2])).tolist() == [1, pytest.approx(1 / 3)]
