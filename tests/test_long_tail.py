"""Bandits, REINFORCE and off-policy estimates: laws, numbers worked by hand, and exhaustive enumeration."""

from __future__ import annotations

from itertools import product
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from m6rec_mini.long_tail import (
    UCB,
    BetaThompson,
    EpsilonGreedy,
    Estimate,
    LinUCB,
    doubly_robust,
    draw_actions,
    effective_rounds,
    exact_gradient,
    importance_weights,
    ips,
    play,
    regret,
    reinforce_gradient,
    snips,
    softmax_policy,
)

SEEDS = st.integers(0, 2**16)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- bandits


def test_ucb_by_hand() -> None:
    # After one pull each: 0 + 1.18 against 1 + 1.18; then 0 + 1.48 against 1 + 1.05.
    assert play(UCB(2), np.array([[0.0, 1.0]] * 4), rng()).tolist() == [0, 1, 1, 1]
    assert regret(np.array([0.2, 0.8]), np.array([0, 1, 1, 0])) == pytest.approx([0.6, 0.6, 0.6, 1.2])


def test_ucb_comes_back_to_an_arm_with_bad_luck_and_greed_does_not() -> None:
    table = np.tile([0.0, 0.4], (200, 1))
    table[1:, 0] = 1.0  # the better arm, but for its first pull
    assert (play(UCB(2), table, rng()) == 0).sum() > 150
    assert (play(EpsilonGreedy(2, 0.0), table, rng()) == 0).sum() == 1


@given(seed=SEEDS, epsilon=st.sampled_from((0.0, 0.3, 1.0)))
def test_every_arm_is_pulled_once_before_any_is_pulled_twice(seed: int, epsilon: float) -> None:
    table = rng(seed).random((30, 4))
    for bandit in (EpsilonGreedy(4, epsilon), UCB(4, 0.5)):
        arms = play(bandit, table, rng(seed))
        assert arms[:4].tolist() == [0, 1, 2, 3]
        assert bandit.counts.tolist() == np.bincount(arms, minlength=4).tolist()
        assert bandit.sums == pytest.approx([table[arms == a, a].sum() for a in range(4)])


def test_epsilon_is_the_share_of_rounds_that_explore() -> None:
    arms = play(EpsilonGreedy(4, 0.4), np.tile([0.0, 1.0, 0.0, 0.0], (4000, 1)), rng())
    counts = np.bincount(arms, minlength=4)
    assert stats.chisquare(counts, 4000 * np.array([0.1, 0.7, 0.1, 0.1])).pvalue > 1e-3


def test_thompson_chooses_as_often_as_an_arm_is_the_best() -> None:
    bandit = BetaThompson(2, (1.0, 2.0))
    for arm, reward in ((0, 1.0), (0, 0.0), (1, 1.0), (1, 1.0)):
        bandit.update(arm, reward)
    assert (bandit.alpha.tolist(), bandit.beta.tolist()) == ([2, 3], [3, 2])
    first, second = stats.beta(2, 3), stats.beta(3, 2)
    share = integrate.quad(lambda x: second.pdf(x) * first.cdf(x), 0, 1)[0]
    chosen = bandit.choose_batch(4000, rng())
    assert stats.binomtest(int((chosen == 1).sum()), 4000, share).pvalue > 1e-3
    one_by_one = [bandit.choose(generator) for generator in [rng(1)] for _ in range(2000)]
    assert stats.binomtest(sum(one_by_one), 2000, share).pvalue > 1e-3


def test_lin_ucb_by_hand() -> None:
    bandit = LinUCB(2, 1, alpha=1.0)
    bandit.update(0, np.array([1.0]), 1.0)  # A = 2, b = 1
    contexts = np.ones((2, 1))
    assert bandit.bounds(contexts) == pytest.approx([0.5 + 0.5**0.5, 1.0])
    assert bandit.choose(contexts) == 0
    assert LinUCB(3, 1, alpha=1.0).choose(np.ones((3, 1))) == 0


@given(seed=SEEDS)
def test_lin_ucb_is_ridge_regression_and_its_standard_error(seed: int) -> None:
    generator = rng(seed)
    contexts, rewards, x = generator.normal(size=(9, 3)), generator.normal(size=9), generator.normal(size=(1, 3))
    bandit = LinUCB(1, 3, alpha=0.7, ridge=2.0)
    for context, reward in zip(contexts, rewards, strict=True):
        bandit.update(0, context, float(reward))
    inverse = np.linalg.inv(2 * np.eye(3) + contexts.T @ contexts)
    wanted = x @ inverse @ contexts.T @ rewards + 0.7 * np.sqrt(x @ inverse @ x.T)[0]
    assert bandit.bounds(x) == pytest.approx(wanted)


def test_bandits_refuse_what_they_cannot_be() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        EpsilonGreedy(2, 1.1)
    with pytest.raises(ValueError, match="above 0"):
        BetaThompson(2, (0.0, 1.0))
    with pytest.raises(ValueError, match="zeros and ones"):
        BetaThompson(2).update(0, 0.5)
    with pytest.raises(ValueError, match="ridge"):
        LinUCB(2, 2, 1.0, ridge=0.0)


# ---- policies


def test_a_boost_lifts_the_tail_by_its_odds() -> None:
    scores, tail = np.array([[3.0, 1.0, 2.0, -inf]]), np.array([False, True, False, True])
    plain, lifted = softmax_policy(scores), softmax_policy(scores, tail, boost=2.0)
    assert plain.sum() == pytest.approx(1)
    assert plain[0, 3] == lifted[0, 3] == 0
    assert np.log(lifted[0, 1] / lifted[0, 0]) - np.log(plain[0, 1] / plain[0, 0]) == pytest.approx(2)
    assert softmax_policy(10 * scores + 5) == pytest.approx(plain)
    assert softmax_policy(scores, temperature=0.1)[0].max() > plain.max()


def test_actions_are_drawn_by_their_probability() -> None:
    actions = draw_actions(np.tile([0.0, 0.25, 0.75, 0.0], (4000, 1)), rng())
    counts = np.bincount(actions, minlength=4)
    assert counts[[0, 3]].tolist() == [0, 0]
    assert stats.binomtest(int(counts[1]), 4000, 0.25).pvalue > 1e-3


@given(seed=SEEDS, rounds=st.integers(1, 3))
@settings(max_examples=20)
def test_reinforce_is_unbiased_over_all_draws(seed: int, rounds: int) -> None:
    generator = rng(seed)
    weights, contexts = generator.normal(size=(2, 3)), generator.normal(size=(rounds, 2))
    means, rows = generator.normal(size=(rounds, 3)), np.arange(rounds)
    odds = np.exp(contexts @ weights)
    policy, mean = odds / odds.sum(axis=1, keepdims=True), np.zeros((2, 3))
    for draw in product(range(3), repeat=rounds):
        mean += policy[rows, draw].prod() * reinforce_gradient(weights, contexts, np.array(draw), means[rows, draw])
    assert mean == pytest.approx(exact_gradient(weights, contexts, means))


@given(seed=SEEDS)
@settings(max_examples=20)
def test_the_exact_gradient_is_a_slope(seed: int) -> None:
    generator = rng(seed)
    weights, contexts, means = (generator.normal(size=shape) for shape in ((2, 3), (4, 2), (4, 3)))

    def value(w: np.ndarray) -> float:
        odds = np.exp(contexts @ w)
        return float((odds / odds.sum(axis=1, keepdims=True) * means).sum(axis=1).mean())

    step = 1e-6 * np.eye(6).reshape(6, 2, 3)
    slope = [(value(weights + h) - value(weights - h)) / 2e-6 for h in step]
    assert exact_gradient(weights, contexts, means).ravel() == pytest.approx(slope, abs=1e-8)


def test_the_baseline_takes_away_what_all_rewards_share() -> None:
    weights, contexts, actions = np.zeros((1, 2)), np.ones((2, 1)), np.array([0, 1])
    for shift in (0.0, 100.0):
        gradient = reinforce_gradient(weights, contexts, actions, np.array([1.0, 0.0]) + shift)
        assert gradient == pytest.approx(np.array([[0.5, -0.5]]))
    with pytest.raises(ValueError, match="without rounds"):
        reinforce_gradient(weights, np.zeros((0, 1)), np.zeros(0, np.int64), np.zeros(0))


# ---- off-policy estimates


def test_estimates_by_hand() -> None:
    actions, rewards, target = np.array([0, 1, 0]), np.array([1.0, 0.0, 1.0]), np.array([[1.0, 0.0]] * 3)
    weights = importance_weights(actions, np.full(3, 0.5), target)
    assert weights.tolist() == [2, 0, 2]
    assert ips(rewards, weights).value == pytest.approx(4 / 3)  # more than any reward
    assert snips(rewards, weights) == Estimate(1.0, 1.0, 1.0)
    # Terms 1.5, 0.5, 1.5: s = sqrt(1/3), and the half-width 1.96 * s / sqrt(3) = 1.96 / 3.
    robust = doubly_robust(rewards, weights, actions, target, np.full((3, 2), 0.5))
    assert (robust.value, robust.low) == pytest.approx((7 / 6, 7 / 6 - 1.96 / 3))
    assert importance_weights(actions, np.full(3, 0.5), target, clip=1.5).tolist() == [1.5, 0, 1.5]
    assert effective_rounds(weights) == pytest.approx(2)
    assert str(robust) == "1.1667 [0.5133, 1.8200]"


@given(seed=SEEDS, rounds=st.integers(1, 3))
@settings(max_examples=20)
def test_ips_and_doubly_robust_are_unbiased_over_all_logs(seed: int, rounds: int) -> None:
    generator = rng(seed)
    logging, target = generator.dirichlet(np.ones(3), (2, rounds))
    table, predicted, rows = generator.normal(size=(rounds, 3)), generator.normal(size=(rounds, 3)), np.arange(rounds)
    mean = np.zeros(2)
    for draw in product(range(3), repeat=rounds):
        actions, rewards = np.array(draw), table[rows, draw]
        weights = importance_weights(actions, logging[rows, draw], target)
        both = ips(rewards, weights), doubly_robust(rewards, weights, actions, target, predicted)
        mean += logging[rows, draw].prod() * np.array([estimate.value for estimate in both])
    assert mean == pytest.approx((target * table).sum(axis=1).mean())


@given(seed=SEEDS, shift=st.floats(-5, 5))
def test_snips_stays_within_rewards_and_moves_with_them(seed: int, shift: float) -> None:
    generator = rng(seed)
    rewards, weights = generator.normal(size=12), generator.exponential(size=12)
    value = snips(rewards, weights).value
    assert rewards.min() <= value <= rewards.max()
    assert snips(rewards + shift, weights).value == pytest.approx(value + shift)
    assert snips(rewards, 3 * weights).low == pytest.approx(snips(rewards, weights).low)


def test_a_perfect_model_needs_no_propensities() -> None:
    generator = rng(3)
    target, predicted, actions = generator.dirichlet(np.ones(4), 20), generator.normal(size=(20, 4)), np.arange(20) % 4
    rewards, weights = predicted[np.arange(20), actions], generator.exponential(size=20)
    value = doubly_robust(rewards, weights, actions, target, predicted).value
    assert value == pytest.approx((target * predicted).sum(axis=1).mean())


@pytest.mark.parametrize("name", ["ips", "snips", "dr"])
def test_intervals_cover_the_truth_about_as_often_as_they_say(name: str) -> None:
    generator, covered = rng(7), 0
    logging, target, means = np.array([[0.5, 0.3, 0.2]]), np.array([[0.2, 0.3, 0.5]]), np.array([0.2, 0.5, 0.6])
    wide, truth = np.tile(target, (300, 1)), float((target @ means)[0])
    for _ in range(300):
        actions = draw_actions(np.tile(logging, (300, 1)), generator)
        rewards = (generator.random(300) < means[actions]).astype(np.float64)
        weights = importance_weights(actions, logging[0, actions], wide)
        guess = np.tile([0.3, 0.4, 0.5], (300, 1))
        estimates = {"ips": lambda r, w: ips(r, w), "snips": lambda r, w: snips(r, w)}
        made = estimates.get(name, lambda r, w, a=actions, g=guess: doubly_robust(r, w, a, wide, g))(rewards, weights)
        covered += made.covers(truth)
    assert 0.91 <= covered / 300 <= 0.985


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.2, float("nan")])
def test_impossible_propensities_are_refused_by_their_round(bad: float) -> None:
    with pytest.raises(ValueError, match="round 1 has propensity"):
        importance_weights(np.array([0, 1]), np.array([0.5, bad]), np.full((2, 2), 0.5))


def test_what_a_log_cannot_say() -> None:
    nothing = np.zeros(2)
    assert str(snips(np.ones(2), nothing)) == "unknown"
    assert not snips(np.ones(2), nothing).covers(0.5)
    assert effective_rounds(nothing) == 0
    assert ips(np.array([3.0]), np.array([0.5])) == Estimate(1.5, -inf, inf)
    with pytest.raises(ValueError, match="empty"):
        ips(np.zeros(0), np.zeros(0))
