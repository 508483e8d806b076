# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11 · Reinforcement for the long tail
#
# *"Your recommender shows what it already knows to be good, so the tail is never shown and never learnt.
# How would you explore? What does that cost? And how do you know, before you ship a new policy, what it
# would have earned?"*
#
# The lesson `11_long_tail_reinforcement` has the pictures and the measurements. Here you write the five
# pieces yourself, in NumPy. Write an answer, run its check, read what it says. The cell after each check
# uses your code.

# %%
import numpy as np

from m6rec_mini.course import check, demo

# %% [markdown]
# ## 1. Two bandits and their regret
#
# `rewards` is a table: what *each* arm would have paid in *each* round. A player sees one entry of a row,
# that of the arm it pulls. `means` are the true mean rewards. Only the regret may use them.
#
# Play all rounds by one of two rules and return `(arms, regret)`.
#
# - First every arm is pulled once, in order: arm 0 in round 0, arm 1 in round 1, and so on, without chance.
# - Then `"epsilon-greedy"`: with probability `strength` pull an arm drawn uniformly from *all* arms,
#   otherwise the one with the highest mean of the rewards seen so far.
# - Or `"ucb"`: pull the arm with the highest `mean + strength * sqrt(2 ln t / n)`. Here `n` is how often
#   this arm was pulled, and `t` how many rounds have been played before this one. Strength 1 is UCB1.
# - Between equals the lowest index wins.
# - `arms` has one integer per round. `regret[t]` is what the pulls up to and including round `t` lose
#   against always pulling the arm with the highest *true mean*, counted in true means: luck is not regret.
# - Raise `ValueError` for another rule, for a negative strength, and for an ε above 1.
#   A UCB strength above 1 is fine. There may be fewer rounds than arms, or none.
#
# By hand: two arms pay `[0, 1]` in every round, and the true means are `[0.2, 0.8]`. UCB of strength 1
# pulls arm 0, then arm 1. Before round 2, `2 ln 2 = 1.386`: arm 0 has `0 + 1.177`, arm 1 has `1 + 1.177`,
# so arm 1. Before round 3, `2 ln 3 = 2.197`: `0 + 1.482` against `1 + 1.048`, arm 1 again. The arms are
# `[0, 1, 1, 1]`, and the regret is `[0.6, 0.6, 0.6, 0.6]`.


# %% answer="run_bandit"
def run_bandit(
    rewards: np.ndarray, means: np.ndarray, rule: str, strength: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Play a table of potential rewards by "epsilon-greedy" or "ucb".

    rewards: [rounds, arms], means: [arms], strength: ε, or the factor of the UCB width.
    Returns (arms [rounds] of integers, cumulative regret [rounds]).
    """
    ### BEGIN SOLUTION
    rounds, num_arms = rewards.shape
    if rule not in ("epsilon-greedy", "ucb"):
        raise ValueError(f"rule is {rule!r}; expected 'epsilon-greedy' or 'ucb'")
    if strength < 0 or (rule == "epsilon-greedy" and strength > 1):
        raise ValueError(f"strength is {strength}; expected 0 or more, and as a probability at most 1")
    counts, sums, arms = np.zeros(num_arms), np.zeros(num_arms), np.empty(rounds, dtype=np.int64)
    for t in range(rounds):
        if t < num_arms:
            arm = t
        elif rule == "ucb":
            arm = np.argmax(sums / counts + strength * np.sqrt(2 * np.log(t) / counts))
        elif rng.random() < strength:
            arm = rng.integers(num_arms)
        else:
            arm = np.argmax(sums / counts)
        counts[arm] += 1
        sums[arm] += rewards[t, arm]
        arms[t] = arm
    return arms, np.cumsum(np.max(means) - means[arms])
    ### END SOLUTION


# %% check="run_bandit"
check("11_long_tail_reinforcement.run_bandit")

# %% demo="run_bandit"
with demo("run_bandit"):
    import matplotlib.pyplot as plt

    _means = np.array([0.30, 0.35, 0.40, 0.45, 0.55])
    for _rule, _strength in (("epsilon-greedy", 0.0), ("epsilon-greedy", 0.1), ("ucb", 1.0), ("ucb", 0.3)):
        _curves = []
        for _seed in range(20):
            _rng = np.random.default_rng(_seed)
            _table = (_rng.random((1000, 5)) < _means).astype(float)
            _curves.append(run_bandit(_table, _means, _rule, _strength, _rng)[1])
        plt.plot(np.mean(_curves, axis=0), label=f"{_rule}, strength {_strength:g}")
    plt.xlabel("round")
    plt.ylabel("regret, mean of 20 runs")
    plt.legend()
    plt.show()

# %% [markdown]
# ## 2. Thompson sampling, in batches
#
# A shop does not learn after every click. It serves a batch, then the clicks come in. Write a class for
# Bernoulli arms (a click or none) that keeps a Beta posterior for each arm.
#
# - `BetaThompson(num_arms, prior=(1.0, 1.0))`: attributes `alpha` and `beta`, arrays of shape `[arms]`.
#   Every arm starts from the prior `(alpha, beta)`. `ValueError` unless both are above 0.
# - `update(arms, rewards)`: integer arrays of the same length, perhaps empty. A 1 adds to `alpha` of its
#   arm, a 0 to `beta`. The same arm may occur many times in a batch; every occurrence counts.
#   `ValueError` for a reward that is neither 0 nor 1, and for an arm outside `0 … arms - 1` (so -1 too).
#   After a refusal nothing has changed.
# - `choose(rounds, rng)`: integers of shape `[rounds]`, each the arm whose *own fresh draw* from the
#   posteriors is the highest. Draw only from `rng`. Choosing changes nothing.
#
# By hand: three arms and the prior (1, 1). After `update([0, 0, 2], [1, 0, 1])`, `alpha` is `[2, 1, 2]`
# and `beta` is `[2, 1, 1]`. Of `choose(3000, rng)` about half are arm 2 then, not all.


# %% answer="BetaThompson"
class BetaThompson:
    """Thompson sampling over Bernoulli arms, `alpha` and `beta` of shape [arms]."""

    def __init__(self, num_arms: int, prior: tuple[float, float] = (1.0, 1.0)) -> None:
        """Start every arm from the Beta distribution `prior`."""
        ### BEGIN SOLUTION
        if not (prior[0] > 0 and prior[1] > 0):
            raise ValueError(f"the prior is {prior}; both numbers must be above 0")
        self.alpha = np.full(num_arms, prior[0], dtype=np.float64)
        self.beta = np.full(num_arms, prior[1], dtype=np.float64)
        ### END SOLUTION

    def update(self, arms: np.ndarray, rewards: np.ndarray) -> None:
        """Learn from a batch: which arms were shown, and whether each was clicked (0 or 1)."""
        ### BEGIN SOLUTION
        if not np.isin(rewards, (0, 1)).all():
            raise ValueError("a reward is neither 0 nor 1: a Beta posterior counts clicks")
        if not ((arms >= 0) & (arms < len(self.alpha))).all():
            raise ValueError(f"an arm is outside 0 to {len(self.alpha) - 1}")
        np.add.at(self.alpha, arms, rewards)
        np.add.at(self.beta, arms, 1 - rewards)
        ### END SOLUTION

    def choose(self, rounds: int, rng: np.random.Generator) -> np.ndarray:
        """An arm for each of the next rounds, [rounds]."""
        ### BEGIN SOLUTION
        return rng.beta(self.alpha, self.beta, size=(rounds, len(self.alpha))).argmax(axis=1)
        ### END SOLUTION


# %% check="BetaThompson"
check("11_long_tail_reinforcement.BetaThompson")

# %% demo="BetaThompson"
with demo("BetaThompson"):
    _means = np.array([0.05, 0.04, 0.03, 0.08])
    _rng, _bandit = np.random.default_rng(0), BetaThompson(4)
    for _batch in range(10):
        _arms = _bandit.choose(400, _rng)
        _bandit.update(_arms, (_rng.random(400) < _means[_arms]).astype(int))
        print(f"batch {_batch}: share of each arm {np.round(np.bincount(_arms, minlength=4) / 400, 2)}")
    print(f"believed {np.round(_bandit.alpha / (_bandit.alpha + _bandit.beta), 3)}, true {_means}")

# %% [markdown]
# ## 3. LinUCB, disjoint
#
# The news-page bandit of Li et al. 2010, algorithm 1. Every arm `a` has its own ridge regression of
# reward on context: `A_a = ridge · I + Σ x xᵀ`, `b_a = Σ r x`, `θ_a = A_a⁻¹ b_a`, over the rounds in
# which this arm was pulled. Its upper bound at context `x` is `θ_aᵀ x + alpha · sqrt(xᵀ A_a⁻¹ x)`.
#
# - `LinUCB(num_arms, width, alpha, ridge=1.0)`; `ValueError` unless `ridge` is above 0.
# - `update(arm, context, reward)`: one observed round; `context` is `[width]`, of integers or floats.
#   `ValueError` for an arm outside `0 … arms - 1`, and then nothing has changed.
# - `theta()`: all coefficients, `[arms, width]`.
# - `bounds(contexts)`: `[arms]`, where row `a` of `contexts` `[arms, width]` is the context of arm `a`.
# - `choose(contexts)`: the arm with the highest bound, the lowest index of equals.
# - Contexts may be large and nearly collinear (a price before and after tax, in cents) and the ridge tiny.
#   Bounds must stay right to four digits then, which an explicit inverse does not give you: solve.
#
# By hand: two arms, width 1, `alpha = 1`, `ridge = 1`. After `update(0, [1.0], 1.0)` arm 0 has `A = 2`,
# `b = 1`, `θ = 0.5`. At `[[1.0], [1.0]]` the bounds are `0.5 + sqrt(1/2) = 1.207` and `0 + 1`.


# %% answer="LinUCB"
class LinUCB:
    """Disjoint LinUCB: a ridge regression and a confidence width for each arm."""

    def __init__(self, num_arms: int, width: int, alpha: float, ridge: float = 1.0) -> None:
        """`width` numbers make a context; `alpha` scales the confidence width."""
        ### BEGIN SOLUTION
        if not ridge > 0:
            raise ValueError(f"ridge is {ridge}; it must be above 0, or an unseen arm has no inverse")
        self.alpha = alpha
        self.A = np.tile(ridge * np.eye(width), (num_arms, 1, 1))  # arms, width, width
        self.b = np.zeros((num_arms, width))
        ### END SOLUTION

    def update(self, arm: int, context: np.ndarray, reward: float) -> None:
        """Learn from one round: context [width], and the reward of the arm that was pulled."""
        ### BEGIN SOLUTION
        if not 0 <= arm < len(self.b):
            raise ValueError(f"arm {arm} is outside 0 to {len(self.b) - 1}")
        self.A[arm] += np.outer(context, context)
        self.b[arm] += reward * context
        ### END SOLUTION

    def theta(self) -> np.ndarray:
        """The coefficients of every arm, [arms, width]."""
        ### BEGIN SOLUTION
        return np.linalg.solve(self.A, self.b[:, :, None])[:, :, 0]
        ### END SOLUTION

    def bounds(self, contexts: np.ndarray) -> np.ndarray:
        """Upper confidence bounds [arms]; row a of contexts [arms, width] belongs to arm a."""
        ### BEGIN SOLUTION
        solved = np.linalg.solve(self.A, contexts[:, :, None])[:, :, 0]  # A⁻¹ x
        spread = np.einsum("aw,aw->a", contexts, solved)
        return np.einsum("aw,aw->a", contexts, self.theta()) + self.alpha * np.sqrt(spread)
        ### END SOLUTION

    def choose(self, contexts: np.ndarray) -> int:
        """The arm to pull."""
        ### BEGIN SOLUTION
        return int(np.argmax(self.bounds(contexts)))
        ### END SOLUTION


# %% check="LinUCB"
check("11_long_tail_reinforcement.LinUCB")

# %% demo="LinUCB"
with demo("LinUCB"):
    import matplotlib.pyplot as plt

    _true = np.random.default_rng(1).normal(size=(6, 4)) / 2  # what each arm is to each kind of user
    for _alpha in (0.0, 0.5, 2.0):
        _curves = []
        for _seed in range(5):
            _rng, _bandit, _lost = np.random.default_rng(_seed), LinUCB(6, 4, _alpha), []
            for _round in range(400):
                _x = np.tile(_rng.normal(size=4), (6, 1))
                _value, _arm = (_true * _x).sum(axis=1), _bandit.choose(_x)
                _bandit.update(_arm, _x[_arm], _value[_arm] + _rng.normal())
                _lost.append(_value.max() - _value[_arm])
            _curves.append(np.cumsum(_lost))
        plt.plot(np.mean(_curves, axis=0), label=f"alpha {_alpha:g}")
    plt.xlabel("round")
    plt.ylabel("regret, mean of 5 runs")
    plt.legend()
    plt.show()

# %% [markdown]
# ## 4. REINFORCE with an honest baseline
#
# A policy shows arm `a` in context `x` with probability `π(a|x) = softmax(xᵀW)_a`. You have a batch of
# rounds: contexts, the actions that *this* policy drew, and their rewards. Estimate the gradient of the
# expected reward by `W` (the direction to climb), as the mean over rounds of
# `(reward - baseline) · ∇ log π(action|context)`.
#
# - `weights` is `[width, arms]`, `contexts` `[rounds, width]`, `actions` and `rewards` `[rounds]`.
# - The baseline of a round is the mean reward of the *other* rounds of the batch. (The mean of the whole
#   batch contains the round's own reward, which biases the gradient.) A single round has baseline 0.
# - The result has the shape and the floating type of `weights`. Logits may be as large as ±1000.
# - `ValueError` for a batch without rounds.
#
# By hand: one feature, two arms, `W = [[0, 0]]`, so `π = (½, ½)`. Two rounds with context `[1]`:
# arm 0 paid 1, arm 1 paid 0. Advantages are `1 - 0 = 1` and `0 - 1 = -1`; the gradients of `log π` are
# `(½, -½)` and `(-½, ½)`. The mean of `1·(½, -½)` and `-1·(-½, ½)` is `[[0.5, -0.5]]`.


# %% answer="reinforce_gradient"
def reinforce_gradient(
    weights: np.ndarray, contexts: np.ndarray, actions: np.ndarray, rewards: np.ndarray
) -> np.ndarray:
    """Estimate the gradient of the expected reward of a softmax policy.

    weights: [width, arms], contexts: [rounds, width], actions: [rounds] of integers, rewards: [rounds].
    Returns [width, arms].
    """
    ### BEGIN SOLUTION
    rounds = len(actions)
    if rounds == 0:
        raise ValueError("a batch without rounds has no gradient; give at least one")
    logits = contexts @ weights
    odds = np.exp(logits - np.max(logits, axis=1, keepdims=True))
    score = -odds / np.sum(odds, axis=1, keepdims=True)  # of log π by the logits, but for the arm that was drawn
    score[np.arange(rounds), actions] += 1
    others = (np.sum(rewards) - rewards) / max(rounds - 1, 1)
    gradient = contexts.T @ ((rewards - others)[:, None] * score) / rounds
    return gradient.astype(weights.dtype)
    ### END SOLUTION


# %% check="reinforce_gradient"
check("11_long_tail_reinforcement.reinforce_gradient")

# %% demo="reinforce_gradient"
with demo("reinforce_gradient"):
    _rng = np.random.default_rng(0)
    _pay = np.array([[0.9, 0.2, 0.1], [0.1, 0.3, 0.8]])  # two kinds of users, three arms
    _weights = np.zeros((2, 3))
    for _step in range(151):
        _odds = np.exp(_weights)
        _policy = _odds / _odds.sum(axis=1, keepdims=True)
        _kind = _rng.integers(2, size=64)
        _drawn = (_policy[_kind].cumsum(axis=1) < _rng.random((64, 1))).sum(axis=1).clip(max=2)
        _clicks = (_rng.random(64) < _pay[_kind, _drawn]).astype(float)
        _weights += 2.0 * reinforce_gradient(_weights, np.eye(2)[_kind], _drawn, _clicks)
        if _step % 50 == 0:
            print(f"step {_step}: expected reward {(_policy * _pay).sum(axis=1).mean():.3f}, the best is 0.85")

# %% [markdown]
# ## 5. What would the new policy have earned?
#
# A log holds what an old policy showed (`actions`), what came of it (`rewards`), and with what
# probability the old policy chose *that* action (`propensities`). Estimate the mean reward of a target
# policy, which plays arm `a` in round `i` with probability `target[i, a]`. `predicted[i, a]` is some
# model's guess of the reward, perhaps a bad one.
#
# With weights `w = min(target[i, action] / propensity, clip)`, each estimate is the mean of `n` terms:
#
# - `"ips"`: `w r`
# - `"snips"`: its value is `v = Σ w r / Σ w`; its terms are `v + w (r - v) / mean(w)`
# - `"dr"`: `Σ_a target[i, a] predicted[i, a]  +  w (r - predicted[i, action])`
#
# Return a dict from these names to `(value, low, high)`, with `low` and `high` the mean of the terms
# ∓ 1.96 · s / √n, where `s` is their standard deviation with n - 1 in the denominator.
#
# - `ValueError` unless every propensity is above 0 and at most 1 (NaN too), and for an empty log:
#   an action that could not be shown cannot be in the log, so the log is wrong.
# - One round says nothing of spread: `low` is `-inf` and `high` is `inf`.
# - If every weight is 0, the target never plays what was logged. Then `"snips"` is `(nan, nan, nan)`.
#   (IPS says 0 with an interval of no width. That is a warning, not a finding.)
#
# By hand, two arms, three rounds: actions `[0, 1, 0]`, rewards `[1, 0, 1]`, propensities `[½, ½, ½]`,
# and a target that always plays arm 0. Weights are `[2, 0, 2]`. IPS is `4/3`, more than any reward!
# SNIPS is `4/4 = 1`. With `predicted` ½ everywhere the DR terms are
# `½ + 2·½, ½ + 0, ½ + 2·½ = 1.5, 0.5, 1.5`, mean `7/6`.


# %% answer="off_policy_values"
def off_policy_values(
    actions: np.ndarray,
    rewards: np.ndarray,
    propensities: np.ndarray,
    target: np.ndarray,
    predicted: np.ndarray,
    clip: float = np.inf,
) -> dict[str, tuple[float, float, float]]:
    """IPS, SNIPS and doubly robust estimates of a target policy's mean reward, with 95% intervals.

    actions, rewards, propensities: [rounds], target and predicted: [rounds, arms], clip: the largest weight.
    Returns {"ips": (value, low, high), "snips": …, "dr": …}.
    """
    ### BEGIN SOLUTION
    n = len(actions)
    if n == 0:
        raise ValueError("the log is empty")
    if not np.all((propensities > 0) & (propensities <= 1)):
        raise ValueError("a propensity is not above 0 and at most 1: such an action cannot be in the log")

    def interval(terms: np.ndarray) -> tuple[float, float, float]:
        value = np.mean(terms)
        half = 1.96 * np.std(terms, ddof=1) / np.sqrt(n) if n > 1 else np.inf
        return value, value - half, value + half

    rows = np.arange(n)
    weights = np.minimum(target[rows, actions] / propensities, clip)
    model = np.sum(target * predicted, axis=1)
    snips = (np.nan, np.nan, np.nan)
    if np.any(weights):
        value = np.sum(weights * rewards) / np.sum(weights)
        snips = interval(value + weights * (rewards - value) / np.mean(weights))
    return {
        "ips": interval(weights * rewards),
        "snips": snips,
        "dr": interval(model + weights * (rewards - predicted[rows, actions])),
    }
    ### END SOLUTION


# %% check="off_policy_values"
check("11_long_tail_reinforcement.off_policy_values")

# %% [markdown]
# Now your estimator judges a change of the reference recommender. In the embedded world, recency-EASE
# ranks for every user; a softmax over its scores is the *logging* policy. The *target* adds a boost to
# the scores of tail items (at most 10 training events). The world knows how much every user likes every
# item, so the last column is the truth that a log never has.

# %% demo="off_policy_values"
with demo("off_policy_values"):
    from m6rec_mini.baselines import EASEConfig, RecencyEASE
    from m6rec_mini.datasets.world import WorldConfig, make_world, taste
    from m6rec_mini.evaluation import TAIL, leave_one_out

    _world = make_world(WorldConfig(items=300, users=200))
    _split, _truth = leave_one_out(_world.catalog.interactions), _world.truth
    _ranker = RecencyEASE(EASEConfig(ridge=(100.0,), half_lives=(10.0,))).fit(_split)
    _cases, _tail = _split.test, _split.train.item_counts <= TAIL
    _scores = _ranker.scores(_cases.histories).astype(float)
    _logits = (_scores - _scores.mean(axis=1, keepdims=True)) / _scores.std(axis=1, keepdims=True)
    for _row, _history in enumerate(_cases.histories):
        _logits[_row, _history.items] = -np.inf  # nothing is shown twice

    def _softmax(logits: np.ndarray) -> np.ndarray:
        _odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return _odds / _odds.sum(axis=1, keepdims=True)

    _when = np.array([_history.times[-1] for _history in _cases.histories])
    _liking = taste(_truth.config, _truth.users, _cases.users, _when) @ _truth.items.factors.T
    _pleasure = (_liking - _truth.affinity.mean()) / _truth.affinity.std() + 0.5 * _truth.items.quality
    _chance = 0.5 / (1 + np.exp(1 - 1.5 * _pleasure))  # of a like, as the world itself draws it

    _rng, _old = np.random.default_rng(0), _softmax(_logits)
    _visits = np.repeat(np.arange(len(_cases)), 20)
    _draws = _rng.random((len(_visits), 1)) * (1 - 1e-12)
    _shown = (_old[_visits].cumsum(axis=1) < _draws).sum(axis=1)
    _likes = (_rng.random(len(_visits)) < _chance[_visits, _shown]).astype(float)
    _guess = np.full(_old.shape, _likes.mean())[_visits]  # the simplest model of the reward
    _lines = [f"boost  tail shown  {'IPS':22}{'SNIPS':22}{'DR':22}truth"]
    for _boost in (0.0, 1.0, 2.0, 4.0):
        _new = _softmax(_logits + _boost * _tail)
        _values = off_policy_values(_shown, _likes, _old[_visits, _shown], _new[_visits], _guess)
        _columns = "".join("{:.3f} [{:.3f}, {:.3f}]  ".format(*_values[_name]) for _name in ("ips", "snips", "dr"))
        _lines.append(
            f"{_boost:5.1f}{_new[:, _tail].sum(1).mean():12.1%}  {_columns}{(_new * _chance).sum(1).mean():.3f}"
        )
    print("\n".join(_lines))
