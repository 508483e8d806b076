"""Reinforcement for the long tail: explore, learn from what was shown, judge a policy before it ships.

What is never shown is never learnt, so a recommender that always shows the best it knows keeps its
tail in the dark. Three answers stand here, from the simplest on. *Bandits* spend some rounds on what
they do not know. A *policy gradient* moves a softmax over items towards reward. *Off-policy
estimates* say what another policy would have earned, from a log of the old one.

The one idea: keep the probability with which each action was chosen. It makes exploration a choice
instead of an accident, the gradient unbiased, and an old log good for new questions.
ε-greedy and UCB1: Auer et al. 2002; Thompson sampling: Thompson 1933, Chapelle and Li 2011; LinUCB:
Li et al. 2010; REINFORCE: Williams 1992, with the baseline of Kool et al. 2019; SNIPS: Swaminathan
and Joachims 2015; doubly robust: Dudík et al. 2011.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isnan
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy.special import log_softmax, softmax

Z = 1.96  # of a normal distribution, 95% lies within so many standard deviations


# ---- bandits ------------------------------------------------------------------------------------


@runtime_checkable
class Bandit(Protocol):
    """Chooses among arms and learns from the one that it chose."""

    def choose(self, rng: np.random.Generator) -> int:
        """The arm to pull now."""

    def update(self, arm: int, reward: float) -> None:
        """Learn what this pull brought."""


class EpsilonGreedy:
    """The highest mean so far, or with probability `epsilon` any arm; arms never pulled go first.

    With `epsilon` 0 it is plain greed. Its regret grows in a straight line: it never stops exploring.
    """

    def __init__(self, arms: int, epsilon: float) -> None:
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon is {epsilon}; a probability lies between 0 and 1")
        self.epsilon, self.counts, self.sums = epsilon, np.zeros(arms), np.zeros(arms)

    def choose(self, rng: np.random.Generator) -> int:
        """Ties go to the lower arm."""
        if (self.counts > 0).all() and rng.random() < self.epsilon:
            return int(rng.integers(len(self.counts)))
        return int(self._index().argmax())

    def update(self, arm: int, reward: float) -> None:
        """Count the pull."""
        self.counts[arm] += 1
        self.sums[arm] += reward

    def _index(self) -> Float64[np.ndarray, " arms"]:
        return np.asarray(np.where(self.counts > 0, self.sums / np.maximum(self.counts, 1), inf))


class UCB(EpsilonGreedy):
    """Optimism: the highest mean + strength * sqrt(2 ln t / n). Regret grows with ln t; strength 1 is UCB1."""

    def __init__(self, arms: int, strength: float = 1.0) -> None:
        super().__init__(arms, epsilon=0.0)
        self.strength = strength

    def _index(self) -> Float64[np.ndarray, " arms"]:
        width = np.sqrt(2 * np.log(max(self.counts.sum(), 1)) / np.maximum(self.counts, 1))
        return np.asarray(super()._index() + self.strength * width)


class BetaThompson:
    """Thompson sampling for rewards of 0 and 1: one draw from each Beta posterior, and the highest wins.

    An arm is so chosen as often as it is believed to be the best. Chance does the exploring, so a
    batch of users may be served before any of their clicks has come in.
    """

    def __init__(self, arms: int, prior: tuple[float, float] = (1.0, 1.0)) -> None:
        if min(prior) <= 0:
            raise ValueError(f"the prior is {prior}; both numbers must be above 0")
        self.alpha, self.beta = np.full(arms, prior[0], np.float64), np.full(arms, prior[1], np.float64)

    def choose(self, rng: np.random.Generator) -> int:
        """One draw an arm."""
        return int(rng.beta(self.alpha, self.beta).argmax())

    def choose_batch(self, rounds: int, rng: np.random.Generator) -> Int64[np.ndarray, " rounds"]:
        """As `choose`, a fresh draw for each round, before any of them is learnt from."""
        return np.asarray(rng.beta(self.alpha, self.beta, (rounds, len(self.alpha))).argmax(axis=1))

    def update(self, arm: int, reward: float) -> None:
        """A click adds to alpha, none to beta."""
        if reward not in (0, 1):
            raise ValueError(f"the reward is {reward}; a Beta posterior counts zeros and ones")
        self.alpha[arm] += reward
        self.beta[arm] += 1 - reward


class LinUCB:
    """Disjoint LinUCB: a ridge regression of reward on context for each arm, and its confidence width.

    Upper bound: theta'x + alpha * sqrt(x'A^-1 x), where A = ridge * I + sum xx'. The systems are solved
    through Cholesky factors; a stored inverse would lose the width where features are nearly collinear.
    """

    def __init__(self, arms: int, width: int, alpha: float, ridge: float = 1.0) -> None:
        if ridge <= 0:
            raise ValueError(f"ridge is {ridge}; without one an arm that was never pulled has no solution")
        self.alpha, self.A, self.b = alpha, np.tile(ridge * np.eye(width), (arms, 1, 1)), np.zeros((arms, width))

    def bounds(self, contexts: Float[np.ndarray, "arms width"]) -> Float64[np.ndarray, " arms"]:
        """One row of context an arm; a context of the user alone is the same row for all."""
        factors = np.linalg.cholesky(self.A)
        sides = np.stack([contexts, self.b], axis=-1)  # arms, width, 2
        x, b = np.moveaxis(np.linalg.solve(factors, sides), -1, 0)
        return np.asarray((x * b).sum(axis=1) + self.alpha * np.sqrt((x**2).sum(axis=1)))

    def choose(self, contexts: Float[np.ndarray, "arms width"]) -> int:
        """The highest bound; ties go to the lower arm."""
        return int(self.bounds(contexts).argmax())

    def update(self, arm: int, context: Float[np.ndarray, " width"], reward: float) -> None:
        """Learn from the arm that was pulled."""
        self.A[arm] += np.outer(context, context)
        self.b[arm] += reward * context


def play(
    bandit: Bandit, rewards: Float[np.ndarray, "rounds arms"], rng: np.random.Generator
) -> Int64[np.ndarray, " rounds"]:
    """The arms that a bandit pulls on a table of what each would pay; it sees the entries that it pulls."""
    arms = np.zeros(len(rewards), np.int64)
    for t, row in enumerate(rewards):
        arms[t] = bandit.choose(rng)
        bandit.update(int(arms[t]), float(row[arms[t]]))
    return arms


def regret(means: Float[np.ndarray, " arms"], arms: Int64[np.ndarray, " rounds"]) -> Float64[np.ndarray, " rounds"]:
    """What the pulls so far have lost against the best arm, in true means: luck does not count."""
    return np.cumsum(means.max() - means[arms], dtype=np.float64)


# ---- policies and their gradient ----------------------------------------------------------------


def softmax_policy(
    scores: Float[np.ndarray, "rounds items"],
    tail: Bool[np.ndarray, " items"] | None = None,
    boost: float = 0.0,
    temperature: float = 1.0,
) -> Float64[np.ndarray, "rounds items"]:
    """Show items in proportion to exp((score + boost of the tail) / temperature); -inf is never shown.

    Scores are standardised row by row first, so that a boost of 1 means one standard deviation.
    """
    shown = np.isfinite(scores)
    wide = np.where(shown, scores, np.nan).astype(np.float64)
    spread = np.maximum(np.nanstd(wide, axis=1, keepdims=True), 1e-12)
    logits = (wide - np.nanmean(wide, axis=1, keepdims=True)) / spread
    logits += boost * (0.0 if tail is None else tail)
    return np.asarray(softmax(np.where(shown, logits, -inf) / temperature, axis=1))


def draw_actions(policy: Float[np.ndarray, "rounds arms"], rng: np.random.Generator) -> Int64[np.ndarray, " rounds"]:
    """One action a round, by its probability; an action of probability 0 is never drawn."""
    ladder = policy.cumsum(axis=1)
    dice = rng.random((len(policy), 1)) * ladder[:, -1:]
    return np.asarray((ladder <= dice).sum(axis=1))


def reinforce_gradient(
    weights: Float[np.ndarray, "width arms"],
    contexts: Float[np.ndarray, "rounds width"],
    actions: Int64[np.ndarray, " rounds"],
    rewards: Float[np.ndarray, " rounds"],
) -> Float64[np.ndarray, "width arms"]:
    """Mean of (reward - baseline) * gradient of log softmax(context' weights)[action]; climb along it.

    The baseline of a round is the mean reward of the others. The mean of the whole batch would hold the
    round's own reward, and shrink the gradient by 1 - 1/rounds.
    """
    rounds = len(actions)
    if rounds == 0:
        raise ValueError("a batch without rounds has no gradient")
    score = np.eye(weights.shape[1])[actions] - softmax(contexts @ weights, axis=1)  # of log policy by the logits
    baseline = (rewards.sum() - rewards) / max(rounds - 1, 1)
    return np.asarray(contexts.T @ ((rewards - baseline)[:, None] * score) / rounds)


def exact_gradient(
    weights: Float[np.ndarray, "width arms"],
    contexts: Float[np.ndarray, "rounds width"],
    means: Float[np.ndarray, "rounds arms"],
) -> Float64[np.ndarray, "width arms"]:
    """What REINFORCE estimates: the gradient of the policy's expected reward, where all means are known."""
    policy = np.exp(log_softmax(contexts @ weights, axis=1))
    expected = (policy * means).sum(axis=1, keepdims=True)
    return np.asarray(contexts.T @ (policy * (means - expected)) / len(contexts))


# ---- off-policy estimates -----------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A mean reward and its 95% interval, by the normal distribution. NaN: the log cannot say."""

    value: float
    low: float
    high: float

    def covers(self, truth: float) -> bool:
        """The truth lies within."""
        return self.low <= truth <= self.high

    def __str__(self) -> str:
        return "unknown" if isnan(self.value) else f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def importance_weights(
    actions: Int64[np.ndarray, " rounds"],
    propensities: Float[np.ndarray, " rounds"],
    target: Float[np.ndarray, "rounds arms"],
    clip: float = inf,
) -> Float64[np.ndarray, " rounds"]:
    """How much more the target likes each logged action than the policy that logged it, at most `clip`.

    Clipping trades variance for bias. Raises ValueError if a propensity is not above 0 and at most 1:
    such an action cannot be in the log, so the log is wrong, and no weight can mend it.
    """
    bad = ~((propensities > 0) & (propensities <= 1))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(f"round {row} has propensity {propensities[row]}; expected above 0 and at most 1")
    return np.asarray(np.minimum(target[np.arange(len(actions)), actions] / propensities, clip), np.float64)


def effective_rounds(weights: Float[np.ndarray, " rounds"]) -> float:
    """How many rounds of equal weight would say as much (Kish 1965); 0 if the policies never meet."""
    total = float((weights**2).sum())
    return float(weights.sum()) ** 2 / total if total else 0.0


def ips(rewards: Float[np.ndarray, " rounds"], weights: Float[np.ndarray, " rounds"]) -> Estimate:
    """Inverse propensity scores: the mean of weight * reward. Unbiased without clipping, and noisy."""
    return _mean(weights * rewards)


def snips(rewards: Float[np.ndarray, " rounds"], weights: Float[np.ndarray, " rounds"]) -> Estimate:
    """Self-normalised: sum of weight * reward over sum of weights. Never outside the rewards; a little biased.

    The interval is that of the ratio's linear part (delta method). NaN where no weight is above 0.
    """
    if not weights.any():
        return Estimate(np.nan, np.nan, np.nan)
    value = (weights * rewards).sum() / weights.sum()
    return _mean(value + weights * (rewards - value) / weights.mean())


def doubly_robust(
    rewards: Float[np.ndarray, " rounds"],
    weights: Float[np.ndarray, " rounds"],
    actions: Int64[np.ndarray, " rounds"],
    target: Float[np.ndarray, "rounds arms"],
    predicted: Float[np.ndarray, "rounds arms"],
) -> Estimate:
    """A model's value of the target, corrected by IPS of what the model got wrong.

    Right on average if the propensities are right or the model is; the better the model, the narrower.
    Fit the model on other rounds than these.
    """
    wrong = rewards - predicted[np.arange(len(actions)), actions]
    return _mean((target * predicted).sum(axis=1) + weights * wrong)


def _mean(terms: Float[np.ndarray, " rounds"]) -> Estimate:
    """Mean and interval of independent terms. Raises ValueError if there are none; one says nothing of spread."""
    if not len(terms):
        raise ValueError("the log is empty")
    value = float(terms.mean())
    half = Z * float(terms.std(ddof=1)) / len(terms) ** 0.5 if len(terms) > 1 else inf
    return Estimate(value, value - half, value + half)
