"""Laws of chapter 11: bandits, Thompson sampling, LinUCB, REINFORCE, off-policy estimates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import lgamma
from typing import Any

import numpy as np
from hypothesis import strategies as st

from m6rec_mini.course.answers import Answer, Object
from m6rec_mini.course.expect import array, close, number, refuses, require, same, unchanged
from m6rec_mini.course.grader import Law, Question, given, hidden, points, teaches

SIGMAS = 5.0  # a right answer, in whatever order it draws, is further off once in two million checks
SEEDS = st.integers(0, 2**16)


def sigmas(count: float, trials: int, share: float) -> float:
    """How many standard deviations a count is from what it should be."""
    return float(abs(count - trials * share) / np.sqrt(max(trials * share * (1 - share), 1e-9)))


def integers(value: Any, count: int, below: int, what: str) -> np.ndarray:
    """`count` whole numbers from 0 to below - 1."""
    found = array(value, (count,), what=what)
    require(found.dtype.kind in "iu" or not count, f"{what} should hold integers; it holds {found.dtype}", found)
    inside = (found >= 0) & (found < below)
    require(inside.all(), f"{what} should lie in 0 to {below - 1}; one of them does not", found)
    return found.astype(np.int64)


def made(value: Any, name: str) -> Object:
    """An object of the learner's class."""
    require(isinstance(value, Object), f"`{name}(…)` should make an object of your class", value)
    return value


# ---- 1. two bandits ---------------------------------------------------------------------------


def draw_pulls(answer: Answer, law: Law) -> str:
    """Rounds from left to right, arms from top to bottom: the learner's pulls above those of the rule."""
    table = (np.random.default_rng(4).random((44, 3)) < (0.3, 0.5, 0.8)).astype(float)
    strength, ruled = 0.0 if "greedy" in law.name else 0.5, np.arange(44)
    got, _ = answer.run_bandit(table, np.array([0.3, 0.5, 0.8]), "ucb", strength, np.random.default_rng(0))
    for t in range(3, 44):
        ruled[t] = indices(table, ruled, t, strength).argmax()
    svg = "<svg xmlns='http://www.w3.org/2000/svg' width='520' height='190' font-size='12' font-family='sans-serif'>"
    for top, title, arms in ((14, "your pulls", got), (104, "the rule's pulls", ruled)):
        svg += f"<text x='4' y='{top}'>{title}, UCB of strength {strength:g}; filled: it paid</text>"
        svg += "".join(f"<text x='4' y='{top + 20 * a + 24}'>arm {a}</text>" for a in range(3))
        for t, arm in enumerate(int(arm) for arm in arms):
            at, fill = f"cx='{56 + 10 * t}' cy='{top + 20 * arm + 20}'", "#0072B2" if table[t, arm] else "white"
            svg += f"<circle {at} r='4' fill='{fill}' stroke='#0072B2'/>"
    return svg + "</svg>"


BANDIT = Question(
    "run_bandit",
    "Two bandits and their regret",
    section="regret",
    hints=(
        "Keep two numbers for each arm: how often it was pulled, and what it paid in total.",
        "An arm's index is its mean so far, plus for UCB a width that falls with its own pulls and grows slowly with "
        "all rounds. Exploration draws among all arms. Regret looks at `means`, never at `rewards`.",
        "In round t: below the number of arms, pull arm t. Else one comparison of a uniform draw with the strength "
        "decides between a uniform integer and the argmax. Add the one reward that you saw. At the end, sum up the "
        "best true mean minus the true means of the arms that you pulled.",
    ),
    draw=draw_pulls,
)


@dataclass(frozen=True)
class Game:
    """A table of rewards, and true means that have nothing to do with it."""

    rewards: np.ndarray
    means: np.ndarray
    strength: float = 1.0


@st.composite
def games(draw: Any, min_rounds: int = 5) -> Game:
    """One to four arms; rewards may be whole numbers, and so tie."""
    arms, rounds, seed = draw(st.integers(1, 4)), draw(st.integers(min_rounds, 40)), draw(SEEDS)
    strength, whole = draw(st.sampled_from((1.0, 0.3, 2.0))), draw(st.booleans())
    rng = np.random.default_rng(seed)
    rewards = rng.integers(0, 3, (rounds, arms)) if whole else rng.normal(0.5, 1.0, (rounds, arms))
    return Game(rewards.astype(float), rng.random(arms), strength)


def played(answer: Answer, game: Game, rule: str, strength: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The arms and the regret, in good form, and the first pulls in order."""
    rounds, num_arms = game.rewards.shape
    result = answer.run_bandit(game.rewards, game.means, rule, strength, np.random.default_rng(seed))
    require(isinstance(result, list | tuple) and len(result) == 2, "the result should be (arms, regret)", result)
    arms, first = integers(result[0], rounds, num_arms, "`arms`"), np.arange(min(rounds, num_arms))
    text = f"the first {num_arms} rounds should pull arms 0 to {num_arms - 1} in order, once each"
    require((arms[: len(first)] == first).all(), text, arms, first)
    return arms, array(result[1], (rounds,), what="the regret")


def indices(rewards: np.ndarray, arms: np.ndarray, t: int, strength: float) -> np.ndarray:
    """What the rule thinks of every arm before round t, from the pulls so far."""
    seen = [rewards[:t, arm][arms[:t] == arm] for arm in range(rewards.shape[1])]
    return np.array([x.mean() + strength * np.sqrt(2 * np.log(t) / len(x)) for x in seen])


def follow_the_rule(rewards: np.ndarray, arms: np.ndarray, strength: float, name: str) -> None:
    """After its first pulls every choice has the highest index, given the learner's own pulls before it."""
    for t in range(rewards.shape[1], len(rewards)):
        index, arm = indices(rewards, arms, t, strength), int(arms[t])
        best = int(index.argmax())
        text = f"in round {t} arm {arm} was pulled, whose {name} is {index[arm]:.6g}; arm {best} has {index[best]:.6g}"
        require(index[arm] >= index[best] - 1e-9, text, arms)


@points(1, BANDIT)
@teaches("UCB plays the example of the contract: each arm once, then the highest mean plus width.")
def test_worked_example(answer: Any) -> None:
    arms, regret = played(answer, Game(np.array([[0.0, 1.0]] * 4), np.array([0.2, 0.8])), "ucb", 1.0)
    same(arms.tolist(), [0, 1, 1, 1], "the arms")
    close(regret, np.full(4, 0.6), "the regret")


@points(2, BANDIT)
@teaches("UCB adds to an arm's mean strength · sqrt(2 ln t / n): n its own pulls, t the rounds played so far.")
@given(examples=30, game=games())
def test_ucb_pulls_the_highest_bound(answer: Any, game: Game) -> None:
    arms, _ = played(answer, game, "ucb", game.strength)
    follow_the_rule(game.rewards, arms, game.strength, "upper bound")


@points(1, BANDIT)
@teaches("With ε = 0 it never explores: after the first pulls, it takes the highest mean of what it has seen.")
@given(examples=25, game=games())
def test_greedy_pulls_the_highest_mean(answer: Any, game: Game) -> None:
    follow_the_rule(game.rewards, played(answer, game, "epsilon-greedy", 0.0)[0], 0.0, "mean so far")


@points(1, BANDIT)
@teaches("In every round alike, with probability ε the arm is drawn by the given rng from all arms, the best included.")
def test_exploration_is_uniform_and_steady(answer: Any) -> None:
    table = np.tile([0.0, 1.0, 0.0], (2403, 1))
    arms, _ = played(answer, Game(table, table[0]), "epsilon-greedy", 0.6)
    short = Game(table[:303], table[0])
    always, again, other = (played(answer, short, "epsilon-greedy", 1.0, seed)[0] for seed in (0, 0, 1))
    some, every = (0.2, 0.6, 0.2), (1 / 3,) * 3
    parts = (("0.6", "first half", arms[3:1203], some), ("0.6", "second half", arms[1203:], some))
    for epsilon, name, part, shares in (*parts, ("1", "game", always[3:], every)):
        for arm, share in enumerate(shares):
            got = int(np.sum(part == arm))
            text = f"with ε = {epsilon} and three arms, of which arm 1 pays, arm {arm} got {got / len(part):.1%} "
            require(sigmas(got, len(part), share) < SIGMAS, text + f"of the {name}; expected about {share:.0%}")
    require((always == again).all(), "the same generator gave other pulls the second time: draw only from `rng`")
    require((always != other).any(), "two different generators gave the same pulls: draw from `rng`")


@points(1, BANDIT)
@teaches(
    "Regret adds up the best true mean minus the true mean of the pulled arm. Rewards are luck, and no part of it."
)
@given(examples=25, game=games(min_rounds=1), rule=st.sampled_from(("ucb", "epsilon-greedy")))
def test_regret_is_counted_in_true_means(answer: Any, game: Game, rule: str) -> None:
    arms, regret = played(answer, game, rule, 0.5)
    lost = [sum(max(game.means) - game.means[a] for a in arms[: t + 1]) for t in range(len(arms))]
    close(regret, np.array(lost), "the regret of these pulls")


@points(1, BANDIT)
@teaches("A bandit learns only from the arm that it pulled: what the other arms would have paid must change nothing.")
@given(examples=20, game=games(min_rounds=8), seed=st.integers(0, 99))
def test_only_pulled_rewards_teach(answer: Any, game: Game, seed: int) -> None:
    for rule, strength in (("ucb", game.strength), ("epsilon-greedy", 0.3)):
        arms, _ = played(answer, game, rule, strength, seed)
        rows, other = np.arange(len(arms)), np.random.default_rng(seed).normal(0.5, 3.0, game.rewards.shape)
        other[rows, arms] = game.rewards[rows, arms]
        again, _ = played(answer, Game(other, game.means), rule, strength, seed)
        text = f"{rule} changed its pulls when only rewards of unpulled arms changed"
        require((arms == again).all(), text, again, arms)
        if rule == "ucb":
            follow_the_rule(game.rewards, arms, strength, "upper bound")


@points(1, BANDIT)
@hidden
@teaches("Ties go to the lowest index, wrong settings are refused, no rounds are fine, and the table stays as it was.")
def test_ties_refusals_and_edges(answer: Any) -> None:
    equal = Game(np.full((12, 3), 0.5), np.full(3, 0.3))
    same(played(answer, equal, "ucb", 1.5)[0].tolist(), [0, 1, 2] * 4, "UCB's pulls of equal arms")
    unchanged(answer)
    same(played(answer, equal, "epsilon-greedy", 0.0)[0].tolist(), [0, 1, 2] + [0] * 9, "greedy pulls of equal arms")
    for rounds in (0, 2):
        played(answer, Game(np.ones((rounds, 3)), np.ones(3)), "ucb", 1.0)
    for rule, strength in (("softmax", 0.5), ("epsilon-greedy", -0.1), ("epsilon-greedy", 1.5), ("ucb", -0.1)):
        args, what = (np.eye(3), np.ones(3), rule, strength), f"the rule {rule!r} with strength {strength}"
        refuses(answer.run_bandit, *args, np.random.default_rng(0), what=what)


# ---- 2. Thompson sampling ---------------------------------------------------------------------

THOMPSON = Question(
    "BetaThompson",
    "Thompson sampling, in batches",
    section="thompson",
    hints=(
        "Two arrays are the whole state. Look at what a click and what a missing click add to them.",
        "Choosing is sampling: one draw from each arm's posterior in each round, and the highest draw wins. Updating "
        "is counting, and an index that occurs twice must be counted twice.",
        "`rng.beta` takes arrays and a size of [rounds, arms]; argmax along the arms. For the counts use np.add.at or "
        "np.bincount, since `alpha[arms] += rewards` keeps only one of equal indices. Check rewards and arms first.",
    ),
)


@dataclass(frozen=True)
class Clicks:
    """A batch of feedback, and the prior before it."""

    num_arms: int
    arms: np.ndarray
    rewards: np.ndarray
    prior: tuple[float, float] = (1.0, 1.0)

    def posterior(self) -> np.ndarray:
        """alpha and beta after it, by counting one pair at a time."""
        pairs = list(zip(self.arms.tolist(), self.rewards.tolist(), strict=True))
        return np.array([[self.prior[1 - r] + pairs.count((a, r)) for a in range(self.num_arms)] for r in (1, 0)])

    def best_shares(self) -> np.ndarray:
        """How probably each arm's draw is the highest: its density times the others' mass below, integrated."""
        x, ab = (np.arange(4000) + 0.5) / 4000, self.posterior()
        constants = np.array([lgamma(a + b) - lgamma(a) - lgamma(b) for a, b in ab.T])
        log = np.outer(ab[0] - 1, np.log(x)) + np.outer(ab[1] - 1, np.log1p(-x)) + constants[:, None]
        mass = np.exp(log) / 4000
        below = np.cumsum(mass, axis=1) - mass / 2
        return np.array([np.sum(mass[a] * np.delete(below, a, axis=0).prod(axis=0)) for a in range(self.num_arms)])

    def learnt(self, bandit: Object, how: str) -> None:
        """The learner's posterior is right."""
        for name, wanted in zip(("alpha", "beta"), self.posterior(), strict=True):
            close(array(getattr(bandit, name).value(), (self.num_arms,), what=name), wanted, f"`{name}` {how}")


@st.composite
def clicks(draw: Any, most: int = 12, prior: Any = st.just((1.0, 1.0))) -> Clicks:  # noqa: B008
    """Few arms and many rounds, so that arms repeat."""
    num_arms = draw(st.integers(2, 3))
    pairs = draw(st.lists(st.tuples(st.integers(0, num_arms - 1), st.integers(0, 1)), max_size=most))
    arms, rewards = np.array(pairs, np.int64).reshape(-1, 2).T.copy()
    return Clicks(num_arms, arms, rewards, draw(prior))


def chosen(bandit: Object, rounds: int, arms: int, seed: int = 0) -> np.ndarray:
    """Some rounds' arms, in good form."""
    return integers(bandit.choose(rounds, np.random.default_rng(seed)), rounds, arms, "`choose()`")


@points(1, THOMPSON)
@teaches("A click adds 1 to alpha, a round without one adds 1 to beta, and every arm starts from the prior (1, 1).")
def test_posterior_of_the_example(answer: Any) -> None:
    bandit, batch = made(answer.BetaThompson(3), "BetaThompson"), Clicks(3, np.array([0, 0, 2]), np.array([1, 0, 1]))
    bandit.update(batch.arms, batch.rewards)
    unchanged(answer)
    batch.learnt(bandit, "of the example")


@points(2, THOMPSON)
@teaches("From the prior on, every round counts, however often its arm occurs and however rounds are batched.")
@given(examples=25, batch=clicks(prior=st.tuples(*[st.sampled_from((0.25, 1.0, 3.0, 40.0))] * 2)), cut=SEEDS)
def test_every_round_of_a_batch_counts(answer: Any, batch: Clicks, cut: int) -> None:
    whole, parts = (made(answer.BetaThompson(batch.num_arms, batch.prior), "BetaThompson") for _ in range(2))
    whole.update(batch.arms, batch.rewards)
    batch.learnt(whole, f"after one batch, from the prior {batch.prior}")
    for rows in (slice(cut % 6, None), slice(0, cut % 6)):
        parts.update(batch.arms[rows], batch.rewards[rows])
    batch.learnt(parts, "after the same rounds in two batches")


@points(1, THOMPSON)
@teaches("Each round draws anew. One draw for a whole batch would send all its users to the same arm.")
def test_each_round_draws_anew(answer: Any) -> None:
    bandit, batch = made(answer.BetaThompson(4), "BetaThompson"), Clicks(4, np.array([1, 1]), np.array([1, 0]))
    bandit.update(batch.arms, batch.rewards)  # a sharper belief in arm 1, and the same mean
    for seed in range(3):
        counts, wanted = np.bincount(chosen(bandit, 600, 4, seed), minlength=4), 600 * batch.best_shares()
        text = f"all 600 rounds of a batch chose arm {counts.argmax()}, though next to nothing is known"
        require(counts.max() < 600, text)
        text = f"of 600 rounds the arms got {counts.tolist()}; expected about {np.round(wanted).astype(int).tolist()}"
        require(all(sigmas(counts[a], 600, wanted[a] / 600) < SIGMAS for a in range(4)), text)
    same(chosen(bandit, 0, 4).tolist(), [], "the choice for no rounds")


@points(2, THOMPSON)
@teaches("An arm is chosen as often as it is the best, by what is believed: its own draw is the highest of all draws.")
@given(examples=12, batch=clicks(most=30, prior=st.just((1.0, 2.0))), lead=st.integers(0, 40), doubt=st.integers(0, 40))
def test_arms_are_chosen_as_often_as_they_are_best(answer: Any, batch: Clicks, lead: int, doubt: int) -> None:
    more = np.array([1] * lead + [0] * doubt, np.int64)  # about arm 0
    both = np.concatenate([batch.arms, 0 * more]), np.concatenate([batch.rewards, more])
    skewed = Clicks(2, np.repeat([0, 1], [30, 3]), np.repeat([0, 1], [32, 1]), batch.prior)  # far from a normal curve
    for told in (replace(batch, arms=both[0], rewards=both[1]), skewed):
        bandit = made(answer.BetaThompson(told.num_arms, told.prior), "BetaThompson")
        bandit.update(told.arms, told.rewards)
        arms, (alpha, beta) = chosen(bandit, 2000, told.num_arms), told.posterior().tolist()
        for arm, share in enumerate(told.best_shares()):
            got = int(np.sum(arms == arm))
            off = sigmas(got, 2000, share) if share > 0.002 else got / 10  # a rare event has no normal curve
            text = f"with alpha {alpha} and beta {beta} arm {arm} is the best with probability {share:.3f}; "
            require(off < SIGMAS, text + f"it was chosen in {got / 2000:.3f} of the rounds")


@points(1, THOMPSON)
@teaches("All chance comes from the given rng, and choosing teaches nothing: only `update` changes the posterior.")
@given(examples=8, batch=clicks(), seed=SEEDS)
def test_choosing_uses_the_rng_and_changes_nothing(answer: Any, batch: Clicks, seed: int) -> None:
    bandit = made(answer.BetaThompson(batch.num_arms), "BetaThompson")
    bandit.update(batch.arms, batch.rewards)
    first, again, other = (chosen(bandit, 400, batch.num_arms, s) for s in (seed, seed, seed + 1))
    require((first == again).all(), "the same generator chose otherwise the second time: draw only from `rng`")
    unsure = batch.best_shares().max() < 0.95
    require((first != other).any() or not unsure, "two different generators chose alike: draw from `rng`")
    batch.learnt(bandit, "after choosing")


@points(1, THOMPSON)
@hidden
@teaches("What is no click and what is no arm is refused, before anything has changed.")
def test_bad_feedback_is_refused_whole(answer: Any) -> None:
    bandit, none = made(answer.BetaThompson(3), "BetaThompson"), Clicks(3, np.zeros(0, int), np.zeros(0, int))
    for arms, rewards in (([0, 1], [1, 2]), ([0, 1], [1, -1]), ([0], [0.5]), ([0, -1], [1, 1]), ([0, 3], [1, 1])):
        refuses(bandit.update, np.array(arms), np.array(rewards), what=f"update({arms}, {rewards}) of three arms")
        none.learnt(bandit, "after a refused batch")
    for prior in ((0.0, 1.0), (1.0, 0.0), (1.0, -2.0), (-2.0, 1.0)):
        refuses(answer.BetaThompson, 3, prior, what=f"the prior {prior}")


# ---- 3. LinUCB --------------------------------------------------------------------------------

LINUCB = Question(
    "LinUCB",
    "LinUCB, disjoint",
    section="linucb",
    hints=(
        "Each arm has a matrix and a vector of its own. Which of them does a round touch?",
        "An upper bound is a prediction plus a multiple of its standard error. The error is the square root of a "
        "quadratic form in the context. You need the matrix only to solve for something, never its inverse.",
        "Keep A as [arms, width, width] starting at ridge times the identity. np.linalg.solve works on stacks: solve "
        "A z = x for all arms, then the width is sqrt of the sum of x times z. The same for theta with b.",
    ),
    forbidden=("sklearn",),
)


@dataclass(frozen=True)
class Stream:
    """Rounds that were played, and contexts to judge next."""

    arms: np.ndarray
    contexts: np.ndarray
    rewards: np.ndarray
    ahead: np.ndarray  # arms, width
    alpha: float
    ridge: float

    def regression(self, arm: int) -> tuple[np.ndarray, np.ndarray]:
        """Design and response of one arm, the ridge as rows of its own."""
        own, width = self.arms == arm, self.ahead.shape[1]
        design = np.vstack([self.contexts[own], np.sqrt(self.ridge) * np.eye(width)])
        return design, np.concatenate([self.rewards[own], np.zeros(width)])

    def theta(self) -> np.ndarray:
        """By least squares on the extended data, without normal equations."""
        return np.array([np.linalg.lstsq(*self.regression(a), rcond=None)[0] for a in range(len(self.ahead))])

    def bounds(self) -> np.ndarray:
        """sqrt(x' A^-1 x) is the length of R'^-1 x, where the extended design is QR."""
        factors = [np.linalg.qr(self.regression(a)[0])[1] for a in range(len(self.ahead))]
        width = [np.linalg.norm(np.linalg.solve(r.T, x)) for r, x in zip(factors, self.ahead, strict=True)]
        return (self.theta() * self.ahead).sum(axis=1) + self.alpha * np.array(width)

    def taught(self, answer: Answer) -> Object:
        """The learner's bandit after all rounds."""
        bandit = made(answer.LinUCB(*self.ahead.shape, self.alpha, self.ridge), "LinUCB")
        for arm, context, reward in zip(self.arms, self.contexts, self.rewards, strict=True):
            bandit.update(int(arm), context, float(reward))
        return bandit


@st.composite
def streams(draw: Any, alphas: tuple[float, ...] = (1.0, 0.5, 2.5)) -> Stream:
    """Up to 12 rounds over up to three arms; contexts of width 1 to 3."""
    arms, width, rounds = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(0, 12))
    alpha, ridge, rng = draw(st.sampled_from(alphas)), draw(st.sampled_from((1.0, 0.25, 3.0))), draw(SEEDS)
    rng = np.random.default_rng(rng)
    played, ahead = rng.normal(size=(rounds, width)), rng.normal(size=(arms, width))
    return Stream(rng.integers(arms, size=rounds), played, rng.normal(size=rounds), ahead, alpha, ridge)


@points(1, LINUCB)
@teaches("The example of the contract: one round makes A = 2 and b = 1, so θ = 0.5 and the bound is 0.5 + sqrt(1/2).")
def test_example_of_one_feature(answer: Any) -> None:
    bandit = made(answer.LinUCB(2, 1, 1.0), "LinUCB")
    bandit.update(0, np.array([1.0]), 1.0)
    close(bandit.theta(), np.array([[0.5], [0.0]]), "theta()")
    close(bandit.bounds(np.array([[1.0], [1.0]])), np.array([0.5 + np.sqrt(0.5), 1.0]), "bounds()")
    unchanged(answer)


@points(2, LINUCB)
@teaches("θ of an arm is the ridge regression on the rounds in which this arm was pulled, and on no others.")
@given(examples=20, stream=streams())
def test_theta_is_each_arms_own_regression(answer: Any, stream: Stream) -> None:
    close(stream.taught(answer).theta(), stream.theta(), "theta()")


@points(2, LINUCB)
@teaches("A bound is θᵀx + alpha · sqrt(xᵀA⁻¹x), with θ, A and x of the same arm. An arm never pulled is the widest.")
@given(examples=25, stream=streams())
def test_bound_is_prediction_plus_width(answer: Any, stream: Stream) -> None:
    bandit = stream.taught(answer)
    for name in ("bounds()", "bounds() when asked again"):
        close(bandit.bounds(stream.ahead), stream.bounds(), name)


@points(1, LINUCB)
@teaches("The highest bound is chosen, the lowest index of equals; with alpha 0 that is the highest prediction.")
@given(examples=20, stream=streams(alphas=(0.0, 1.0, 2.5)))
def test_the_highest_bound_is_chosen(answer: Any, stream: Stream) -> None:
    wanted, got = stream.bounds(), number(stream.taught(answer).choose(stream.ahead), "choose()")
    require(got in range(len(wanted)), f"choose() should give an arm from 0 to {len(wanted) - 1}", got)
    text = f"choose() gave arm {got:g}, whose bound is {wanted[int(got)]:.6g}; the highest is {wanted.max():.6g}"
    require(wanted[int(got)] >= wanted.max() - 1e-9, text)
    fresh = made(answer.LinUCB(3, 2, 1.0), "LinUCB")
    tied = number(fresh.choose(np.array([[0.6, 0.8], [3.0, 4.0], [3.0, 4.0]])), "choose()")
    require(tied == 1, "two arms tie for the highest bound; the lower index should win", tied, 1)


@points(1, LINUCB)
@teaches("Large, nearly collinear features leave the width right to four digits, if you solve a system for it.")
def test_collinear_features_do_not_spoil_the_width(answer: Any) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        price = 1e4 * rng.uniform(0.5, 1.5, 20)
        contexts = np.stack([price, 1.3 * price * (1 + 1e-9 * rng.normal(size=20))], axis=1)
        stream = Stream(np.zeros(20, np.int64), contexts, np.zeros(20), np.array([[1e4, 1.3e4]]), 1.0, 1e-5)
        got, wanted = array(stream.taught(answer).bounds(stream.ahead), (1,), what="bounds()")[0], stream.bounds()[0]
        text = f"a price with and without tax, in cents: the width came out as {got:.6g}; it is {wanted:.6g}"
        require(abs(got / wanted - 1) < 1e-4, text)


@points(1, LINUCB)
@hidden
@teaches("Whole numbers are contexts too, rewards may be fractions, and an arm or ridge that cannot be is refused.")
def test_whole_numbers_and_refusals(answer: Any) -> None:
    bandit = made(answer.LinUCB(2, 2, 0.5, ridge=2), "LinUCB")
    bandit.update(1, np.array([1, 0]), 0.5)
    bandit.update(1, np.array([1, 2]), 0.25)
    unchanged(answer)
    for arm in (-1, 2):
        refuses(bandit.update, arm, np.array([1.0, 1.0]), 1.0, what=f"arm {arm} of two")
    # A = [[4, 2], [2, 6]], b = [0.75, 0.5], det 20: theta = [6 * 0.75 - 2 * 0.5, 4 * 0.5 - 2 * 0.75] / 20
    close(bandit.theta(), np.array([[0.0, 0.0], [0.175, 0.025]]), "theta() of whole-number contexts")
    # Arm 0: 0.5 * sqrt(4 / 2). Arm 1: 0.35 + 0.5 * sqrt(4 * 6 / 20).
    wanted = np.array([0.5 * np.sqrt(2), 0.35 + 0.5 * np.sqrt(1.2)])
    close(bandit.bounds(np.array([[0, 2], [2, 0]])), wanted, "bounds() of whole-number contexts")
    for ridge in (0.0, -1.0):
        refuses(answer.LinUCB, 2, 2, 1.0, ridge, what=f"a ridge of {ridge:g}")


# ---- 4. REINFORCE -----------------------------------------------------------------------------

REINFORCE = Question(
    "reinforce_gradient",
    "REINFORCE with an honest baseline",
    section="reinforce",
    hints=(
        "Write the gradient of log softmax by the logits for one round and one drawn arm, then by W.",
        "One-hot of the drawn arm minus the policy, times the context, times the advantage. The advantage compares a "
        "reward with what the other rounds brought, so that its own luck is not in its own yardstick.",
        "Subtract the row maximum before exp. The others' mean is (sum - own) / (n - 1), with a single round giving "
        "0. The result is contextsᵀ @ (advantage · (onehot - policy)) / n, in the type of the weights.",
    ),
    forbidden=("scipy.special.softmax", "scipy.special.log_softmax", "torch.autograd", ".backward"),
)


@dataclass(frozen=True)
class Batch:
    """Contexts, and what every action would pay in each round."""

    weights: np.ndarray
    contexts: np.ndarray
    table: np.ndarray  # rounds, arms

    def policy(self) -> np.ndarray:
        """Probability of each action in each round."""
        log = self.contexts @ self.weights
        return np.exp(log - np.logaddexp.reduce(log, axis=1, keepdims=True))

    def exact(self) -> np.ndarray:
        """The gradient of the mean expected reward: by logit a it is policy_a * (reward_a - expected)."""
        policy = self.policy()
        inner = policy * (self.table - (policy * self.table).sum(axis=1, keepdims=True))
        return sum(np.outer(x, row) for x, row in zip(self.contexts, inner, strict=True)) / len(inner)

    def all_draws(self) -> list[tuple[float, np.ndarray, np.ndarray]]:
        """Every combination of actions: its probability, the actions, their rewards."""
        rows, draws = np.arange(len(self.table)), product(range(self.table.shape[1]), repeat=len(self.table))
        return [(self.policy()[rows, d].prod(), np.array(d), self.table[rows, d]) for d in map(list, draws)]

    def estimate(self, draw: np.ndarray, rewards: np.ndarray, with_baseline: bool = True) -> np.ndarray:
        """The estimate of the contract, one number at a time."""
        found, policy, rounds = np.zeros(self.weights.shape), self.policy(), len(draw)
        for i, a in product(range(rounds), range(policy.shape[1])):
            others = [rewards[j] for j in range(rounds) if j != i]
            baseline = sum(others) / len(others) if others and with_baseline else 0.0
            found[:, a] += (rewards[i] - baseline) * ((a == draw[i]) - policy[i, a]) * self.contexts[i] / rounds
        return found

    def asked(self, answer: Answer, draw: np.ndarray, rewards: np.ndarray) -> np.ndarray:
        """The learner's estimate, in good form."""
        value = answer.reinforce_gradient(self.weights, self.contexts, draw, rewards)
        return array(value, self.weights.shape, what="the gradient")


@st.composite
def batches(draw: Any, least: int = 1, most: int = 5) -> Batch:
    """A few rounds; width 1 or 2, two or three arms."""
    width, arms, rounds = draw(st.integers(1, 2)), draw(st.integers(2, 3)), draw(st.integers(least, most))
    rng = np.random.default_rng(draw(SEEDS))
    return Batch(rng.normal(size=(width, arms)), rng.normal(size=(rounds, width)), rng.normal(1, 1, (rounds, arms)))


@points(1, REINFORCE)
@teaches("The example of the contract: two rounds, each the other's baseline.")
def test_gradient_of_the_example(answer: Any) -> None:
    batch = Batch(np.zeros((1, 2)), np.ones((2, 1)), np.eye(2))
    close(batch.asked(answer, np.array([0, 1]), np.array([1.0, 0.0])), np.array([[0.5, -0.5]]), "the gradient")
    unchanged(answer)


@points(2, REINFORCE)
@teaches(
    "The mean over rounds of (reward - the others' mean) · context · (one-hot - policy); one round alone keeps all."
)
@given(examples=25, batch=batches(), seed=SEEDS)
def test_every_round_against_the_others(answer: Any, batch: Batch, seed: int) -> None:
    rows, arms = np.arange(len(batch.table)), batch.table.shape[1]
    draw = np.random.default_rng(seed).integers(arms, size=len(rows))
    rewards = batch.table[rows, draw]
    what = f"the gradient of {len(rows)} rounds" if len(rows) > 1 else "the gradient of a single round"
    close(batch.asked(answer, draw, rewards), batch.estimate(draw, rewards), what)


@points(2, REINFORCE)
@teaches("Unbiased: the estimates of all possible draws, weighted by their probability, give the exact gradient.")
@given(examples=15, batch=batches(least=2, most=3))
def test_mean_over_all_draws_is_the_exact_gradient(answer: Any, batch: Batch) -> None:
    mean = sum(chance * batch.asked(answer, draw, rewards) for chance, draw, rewards in batch.all_draws())
    close(mean, batch.exact(), "the mean of the estimates over all draws")


@points(1, REINFORCE)
@teaches("The baseline is there to cut variance: where all rewards are large and alike, by a large factor.")
@given(examples=8, batch=batches(least=3, most=3))
def test_the_baseline_cuts_the_variance(answer: Any, batch: Batch) -> None:
    exact, spread, bare = batch.exact(), 0.0, 0.0
    for chance, draw, rewards in replace(batch, table=batch.table + 20).all_draws():
        spread += chance * float(np.sum((batch.asked(answer, draw, rewards) - exact) ** 2))
        bare += chance * float(np.sum((batch.estimate(draw, rewards, with_baseline=False) - exact) ** 2))
    text = f"rewards near 20: the squared error is {spread:.4g}, and without any baseline {bare:.4g}"
    require(spread < 0.25 * bare, text + "; expected less than a quarter of that")
    require(spread > 1e-12, "the estimate does not depend on what was drawn, so it cannot come from the log")


@points(1, REINFORCE)
@teaches("Logits of ±1000 are no reason for NaN: probabilities become 0 or 1, and the gradient stays what it is.")
def test_large_logits_stay_finite(answer: Any) -> None:
    batch = Batch(np.array([[1000.0, -1000.0, 999.0]]), np.array([[1.0], [-1.0], [0.001]]), np.zeros((3, 3)))
    for draw in np.array([[0, 1, 2], [1, 0, 0], [2, 2, 1]]):
        got, rewards = batch.asked(answer, draw, np.array([3.0, 1.0, 2.0])), np.array([3.0, 1.0, 2.0])
        require(np.isfinite(got).all(), "the gradient at logits of ±1000 is not finite", got)
        close(got, batch.estimate(draw, rewards), "the gradient at logits of ±1000")


@points(1, REINFORCE)
@hidden
@teaches("The gradient has the type of the weights, nothing that was given changes, and an empty batch is refused.")
def test_type_is_kept_and_an_empty_batch_refused(answer: Any) -> None:
    rng, draw = np.random.default_rng(3), np.array([2, 0, 0, 1])
    batch, rewards = Batch(rng.normal(size=(2, 3)), rng.normal(size=(4, 2)), np.eye(4)), np.array([0, 3, 1, 1])
    wanted = batch.estimate(draw, rewards)
    for kind in (np.float32, np.float64):
        given = batch.weights.astype(kind), batch.contexts.astype(kind), draw
        for paid in (rewards, rewards.astype(np.float64)):
            got = array(answer.reinforce_gradient(*given, paid), (2, 3), kind, "the gradient")
            unchanged(answer)
            close(got, wanted, "the gradient", like=np.float32(0))
    nothing = np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0)
    refuses(answer.reinforce_gradient, batch.weights, *nothing, what="a batch without rounds")


# ---- 5. off-policy estimates ------------------------------------------------------------------

OFF_POLICY = Question(
    "off_policy_values",
    "What would the new policy have earned?",
    section="off-policy",
    hints=(
        "Begin with the weights: one number a round, from both policies' probabilities of the logged action.",
        "Every estimate is a mean of one number a round, so one helper gives value and interval to all three. IPS "
        "weighs rewards, SNIPS divides by the weights' sum, DR weighs only what the model got wrong.",
        "weights = minimum(target of the logged action / propensity, clip). The DR term is the model's mean under the "
        "target plus weight · (reward - its prediction for the logged action). Half-width: 1.96 · std(ddof=1) / √n.",
    ),
)
NAMES = ("ips", "snips", "dr")


@dataclass(frozen=True)
class Log:
    """A log, and the policies behind it."""

    actions: np.ndarray
    rewards: np.ndarray
    logging: np.ndarray  # rounds, arms
    target: np.ndarray
    predicted: np.ndarray

    def given(self) -> tuple[np.ndarray, ...]:
        """What the learner gets: of the logging policy only the logged action's probability."""
        propensities = self.logging[np.arange(len(self.actions)), self.actions]
        return self.actions, self.rewards, propensities, self.target, self.predicted

    def terms(self, clip: float = np.inf) -> dict[str, np.ndarray]:
        """What each estimate is the mean of, one round at a time."""
        rounds = list(zip(*self.given(), strict=True))
        w = [min(pi[a] / p, clip) for a, _, p, pi, _ in rounds]
        value = sum(x * r for x, r in zip(w, self.rewards, strict=True)) / sum(w)
        of_model = [sum(pi * q) + x * (r - q[a]) for x, (a, r, _, pi, q) in zip(w, rounds, strict=True)]
        scaled = [value + x * (r - value) * len(w) / sum(w) for x, r in zip(w, self.rewards, strict=True)]
        return {"ips": np.array(w) * self.rewards, "snips": np.array(scaled), "dr": np.array(of_model)}

    def judged(self, answer: Answer, *clip: float) -> dict[str, np.ndarray]:
        """The learner's estimates, in good form: value, low, high."""
        found = answer.off_policy_values(*self.given(), *clip)
        require(isinstance(found, dict) and set(found) >= set(NAMES), f"the result should be a dict of {NAMES}", found)
        for name, triple in ((name, found[name]) for name in NAMES):
            good = isinstance(triple, list | tuple | np.ndarray) and len(triple) == 3
            require(good, f"the entry {name!r} should be (value, low, high)", triple)
        return {name: np.array([number(x, f"an entry of {name!r}") for x in found[name]]) for name in NAMES}


@st.composite
def logs(draw: Any, most: int = 10) -> Log:
    """A log of a few rounds over two or three arms."""
    arms, rounds = draw(st.integers(2, 3)), draw(st.integers(2, most))
    rng = np.random.default_rng(draw(SEEDS))
    logging, target = rng.dirichlet(np.ones(arms), (2, rounds)) * 0.9 + 0.1 / arms
    rewards, predicted = rng.normal(1, 1, rounds), rng.normal(1, 1, (rounds, arms))
    return Log(rng.integers(arms, size=rounds), rewards, logging, target, predicted)


@points(1, OFF_POLICY)
@teaches("The example of the contract: IPS 4/3, SNIPS 1, DR 7/6.")
def test_values_of_the_example(answer: Any) -> None:
    half = np.full((3, 2), 0.5)
    log = Log(np.array([0, 1, 0]), np.array([1.0, 0.0, 1.0]), half, np.array([[1.0, 0.0]] * 3), half)
    found = log.judged(answer)
    unchanged(answer)
    for name, value in zip(NAMES, (4 / 3, 1.0, 7 / 6), strict=True):
        close(found[name][0], value, f"the value of {name!r}")


@points(2, OFF_POLICY)
@teaches("IPS and DR are unbiased: over all actions that could have been logged, they give the target's true value.")
@given(examples=12, log=logs(most=3))
def test_mean_over_all_logs_is_the_truth(answer: Any, log: Log) -> None:
    table, rows = 0.7 * np.arange(log.target.size).reshape(log.target.shape) - 1, np.arange(len(log.actions))
    truth, mean = (log.target * table).sum(axis=1).mean(), dict.fromkeys(("ips", "dr"), 0.0)
    for draw in product(range(log.target.shape[1]), repeat=len(rows)):
        found = replace(log, actions=np.array(draw), rewards=table[rows, draw]).judged(answer)
        mean = {name: total + log.logging[rows, draw].prod() * found[name][0] for name, total in mean.items()}
    for name, value in mean.items():
        close(value, truth, f"the mean of {name!r} over all possible logs")


@points(1, OFF_POLICY)
@teaches("SNIPS moves exactly as all rewards move. DR with a perfect model is right whatever the propensities.")
@given(examples=15, log=logs(), shift=st.sampled_from((10.0, -4.0)))
def test_what_snips_and_dr_are_good_for(answer: Any, log: Log, shift: float) -> None:
    before, after = log.judged(answer), replace(log, rewards=log.rewards + shift).judged(answer)
    close(after["snips"][0], before["snips"][0] + shift, f"SNIPS with {shift:+g} on all rewards")
    sure = replace(log, rewards=log.predicted[np.arange(len(log.actions)), log.actions])
    close(sure.judged(answer)["dr"][0], (log.target * log.predicted).sum(axis=1).mean(), "DR with a perfect model")


@points(1, OFF_POLICY)
@teaches("A weight is target over propensity of the logged action, and never above the clip, in all three estimates.")
@given(examples=25, log=logs(), clip=st.sampled_from((np.inf, 0.5, 1.0, 1.5, 3.0)))
def test_weights_are_ratios_up_to_the_clip(answer: Any, log: Log, clip: float) -> None:
    found = log.judged(answer, *([clip] if clip < np.inf else []))
    for name, terms in log.terms(clip).items():
        close(found[name][0], terms.mean(), f"the value of {name!r} with weights up to {clip:g}")


@points(1, OFF_POLICY)
@teaches("Each interval is the mean of its terms, minus and plus 1.96 · s / √n, with n - 1 in the deviation s.")
@given(examples=20, log=logs(), clip=st.sampled_from((np.inf, 1.5)))
def test_intervals_come_from_the_spread_of_the_terms(answer: Any, log: Log, clip: float) -> None:
    found, n = log.judged(answer, clip), len(log.actions)
    for name, terms in log.terms(clip).items():
        half = 1.96 * np.sqrt(sum((x - terms.mean()) ** 2 for x in terms) / (n - 1) / n)
        for end, sign in ((1, -1), (2, 1)):
            close(found[name][end], terms.mean() + sign * half, f"the {('lower', 'upper')[end - 1]} end of {name!r}")


@points(1, OFF_POLICY)
@teaches("An action of propensity 0 cannot be in a log. Refuse such a log; do not patch the number or drop the round.")
@given(examples=12, log=logs(), bad=st.sampled_from((0.0, -0.25, 1.25, float("nan"))), place=SEEDS)
def test_impossible_propensities_are_refused(answer: Any, log: Log, bad: float, place: int) -> None:
    actions, rewards, propensities, target, predicted = log.given()
    propensities[place % len(propensities)] = bad
    what = f"a propensity of {bad:g}"
    refuses(answer.off_policy_values, actions, rewards, propensities, target, predicted, what=what)
    sure = replace(log, logging=np.ones(target.shape))  # 1 is allowed
    close(sure.judged(answer)["ips"][0], sure.terms()["ips"].mean(), "the value of 'ips' with propensities of 1")


@points(1, OFF_POLICY)
@hidden
@teaches("One round has an endless interval, no overlap leaves SNIPS undefined, and an empty log is refused.")
def test_edges_of_a_log(answer: Any) -> None:
    one = Log(np.array([1]), np.array([3.0]), np.array([[0.5, 0.5]]), np.array([[0.75, 0.25]]), np.array([[1.0, 2.0]]))
    # Weight 0.5: IPS 1.5, SNIPS 3, DR 0.75 * 1 + 0.25 * 2 + 0.5 * (3 - 2) = 1.75.
    for name, value in zip(NAMES, (1.5, 3.0, 1.75), strict=True):
        close(one.judged(answer)[name], np.array([value, -np.inf, np.inf]), f"{name!r} of a single round")
    half, model = np.full((2, 2), 0.5), np.array([[5.0, 1.0], [5.0, 3.0]])
    found = Log(np.array([0, 0]), np.array([1.0, 2.0]), half, np.array([[0.0, 1.0]] * 2), model).judged(answer)
    # Weights 0: the DR terms are the model's 1 and 3, s = sqrt(2), half-width 1.96 * sqrt(2) / sqrt(2).
    for name, wanted in zip(NAMES, (np.zeros(3), np.full(3, np.nan), np.array([2.0, 0.04, 3.96])), strict=True):
        close(found[name], wanted, f"{name!r} without overlap")
    none, wide = np.zeros(0), np.zeros((0, 2))
    refuses(answer.off_policy_values, none.astype(np.int64), none, none, wide, wide, what="an empty log")
