# %% [markdown]
# # 2 · Measuring
# *"You changed the recommender. How do you know that it is better?"* You will write the numbers that
# answer this, with the corners that interviewers probe: ties, users without a click, truncated ideals,
# equal timestamps, sampled candidates. The lesson is [`lessons/02_measuring.md`](../../lessons/02_measuring.md).
#
# Write an answer in place of `raise NotImplementedError()`, run its cell, then the check below it: it shows the
# smallest call that breaks a law. The cell after that measures something with your own code. Inputs are NumPy
# arrays; leave them as they are.

# %%
import math
import time

import numpy as np

from m6rec_mini.course import check, demo

# %% [markdown]
# ## 1. AUC with ties, fast
# AUC is the probability that a random clicked row gets a higher score than a random row without a click.
# A pair with equal scores counts one half.
#
# - `labels (rows,)`: 1 for a click, 0 for none; integers, floats or booleans. `scores (rows,)`: any numbers,
#   infinities too. Two scores tie when they are exactly equal, and only then.
# - Returns one number. `nan` where there is no row with a click, or none without: there are no pairs to count.
# - Raises `ValueError` if the lengths differ or a score is NaN, which has no place in an order.
# - Comparing all pairs takes time that grows with the square. Yours must grow like a sort: n log n.
#
# By hand: labels `[1, 0, 1, 0]`, scores `[0.9, 0.9, 0.4, 0.1]`. The four pairs of a click with a row without are
# .9 against .9 (a tie, ½), .9 against .1 (won, 1), .4 against .9 (lost, 0), .4 against .1 (won, 1).
# AUC = 2.5 / 4 = 0.625.


# %% answer="auc"
def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Probability that a clicked row outranks one without a click; a tie counts one half.

    labels: (rows,), 1 or 0. scores: (rows,). NaN if a class is missing. Raises ValueError for unequal lengths
    and for scores that are NaN.
    """
    ### BEGIN SOLUTION
    if labels.shape != scores.shape:
        raise ValueError(f"{len(labels)} labels for {len(scores)} scores; expected one score a label")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN, which has no place in an order")
    clicked = labels == 1
    clicks = np.count_nonzero(clicked)
    pairs = clicks * (len(clicked) - clicks)
    if not pairs:
        return math.nan
    _, level, size = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(size) - (size - 1) / 2)[level]  # of a tied row: the mean of the places that its level fills
    return (rank[clicked].sum() - clicks * (clicks + 1) / 2) / pairs  # a click at rank r beats r - 1, clicks too
    ### END SOLUTION


# %% check="auc"
check("02_measuring.auc")


# %% demo="auc"
def time_auc() -> None:
    """AUC of more and more rows, and of rounded scores."""
    rng = np.random.default_rng(0)
    for rows in (1_000, 10_000, 100_000):
        clicks = rng.random(rows) < 0.1
        scores = rng.normal(size=rows) + clicks
        start = time.perf_counter()
        fine, coarse = auc(clicks, scores), auc(clicks, np.round(scores))  # as from a model of few leaves, or of 8 bits
        spent = 1000 * (time.perf_counter() - start)
        print(f"{rows:7,} rows: {fine:.4f}, rounded {coarse:.4f}; {spent:.1f} ms for both")


with demo("auc"):
    time_auc()

# %% [markdown]
# ## 2. Grouped AUC
# A list is shown to one user, so only pairs within a user matter. Grouped AUC is the mean of the users' AUCs,
# each weighted by the user's number of impressions (rows). Users whose rows are all clicks, or all without,
# are left out, with their weight.
#
# - `users (rows,)`: integers, any, in any order. `labels`, `scores (rows,)`: as in question 1.
# - Returns one number. `nan` where no user is left.
# - Raises `ValueError` if the lengths differ or a score is NaN. You may call your `auc`.
#
# By hand: user 7 has labels `[1, 0]`, scores `[2, 1]`: AUC 1, two rows. User 3 has labels `[0, 1, 0]`, scores
# `[8, 8, 9]`: a tie and a loss, AUC ¼, three rows. User 5 has one click and nothing else: left out.
# (2 · 1 + 3 · ¼) / 5 = 0.55.


# %% answer="grouped_auc"
def grouped_auc(users: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean of the users' AUCs, weighted by their numbers of rows, over users with both kinds of rows.

    users, labels, scores: (rows,). NaN if there is no such user. Raises ValueError for unequal lengths and NaN scores.
    """
    ### BEGIN SOLUTION
    if not users.shape == labels.shape == scores.shape:
        raise ValueError(f"{len(users)} users, {len(labels)} labels, {len(scores)} scores; expected as many of each")
    order = np.argsort(users)
    starts = np.flatnonzero(np.diff(users[order])) + 1  # where the next user begins
    total, weight = 0.0, 0
    for rows in np.split(order, starts):
        value = auc(labels[rows], scores[rows])  # refuses NaN
        if not math.isnan(value):
            total, weight = total + len(rows) * value, weight + len(rows)
    return total / weight if weight else math.nan
    ### END SOLUTION


# %% check="grouped_auc"
check("02_measuring.grouped_auc")


# %% demo="grouped_auc"
def compare_aucs() -> None:
    """Two models that AUC and grouped AUC order differently."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(400), 25)
    eager = rng.normal(0, 1.5, 400)[users]  # some people click on much, others on little
    taste = rng.normal(0, 1, len(users))  # how well this item suits this user
    labels = rng.random(len(users)) < 1 / (1 + np.exp(1 - eager - taste))
    guess = eager + 0.4 * taste + rng.normal(0, 0.6, len(users))
    for name, scores in {"knows who clicks": guess, "knows what they like": taste}.items():
        print(f"{name:21s} AUC {auc(labels, scores):.3f}, grouped AUC {grouped_auc(users, labels, scores):.3f}")


with demo("auc", "grouped_auc"):
    compare_aucs()

# %% [markdown]
# ## 3. Hit rate, MRR and NDCG, with no mercy for ties
# Each row is a case: one user, all items scored, some of them relevant, in grades. Look at the best `k` only.
#
# - `scores (cases, items)`: floats, -inf allowed. `relevance (cases, items)`: 0 for not relevant, else a grade
#   above 0. `k`: at least 1; it may be larger than the number of items.
# - **Ties go against you.** Among equal scores the less relevant items stand first, so a constant scorer gets
#   the worst that its ties allow.
# - `hit_rate`: 1 if any relevant item is among the first k. `mrr`: 1 / place of the first relevant item among the
#   first k, else 0. `ndcg`: DCG at k over the DCG at k of the best possible order, with gain 2^grade − 1
#   and discount log2(1 + place). The ideal stops at k too.
# - Returns a dict with these three keys: means over the cases that have a relevant item. Cases that have none
#   cannot be won or lost and are left out. All three are `nan` if no case is left.
# - Raises `ValueError` if `k < 1`, if the shapes differ, or if a score is NaN.
#
# By hand, one case, k = 2: scores `[5, 3, 3, 1]`, grades `[0, 2, 0, 1]`. Items 1 and 2 tie; the irrelevant one goes
# first: 0, 2, 1, 3. No relevant item is among the first two: all three are 0. With k = 3: hit rate 1, MRR ⅓,
# DCG = 3 / log2(4) = 1.5, ideal = 3 / log2(2) + 1 / log2(3) = 3.631, NDCG = 0.413.


# %% answer="ranking_metrics"
def ranking_metrics(scores: np.ndarray, relevance: np.ndarray, k: int) -> dict[str, float]:
    """Means of hit_rate, mrr and ndcg at k over the cases with a relevant item; ties go against the relevant.

    scores, relevance: (cases, items). NaN if no case is left. Raises ValueError for k < 1, unequal shapes, NaN scores.
    """
    ### BEGIN SOLUTION
    if k < 1 or scores.shape != relevance.shape:
        raise ValueError(
            f"k is {k}, shapes are {scores.shape} and {relevance.shape}; expected k of 1 or more, same shapes"
        )
    if np.isnan(scores).any():
        raise ValueError("a score is NaN, which has no place in an order")
    asked = (relevance > 0).any(axis=1)
    if not asked.any():
        return {"hit_rate": math.nan, "mrr": math.nan, "ndcg": math.nan}
    scores, relevance = scores[asked], relevance[asked].astype(float)
    order = np.lexsort((relevance, -scores))  # by score, best first; in a tie, the least relevant first
    ranked = np.take_along_axis(relevance, order, 1)[:, :k]
    ideal = -np.sort(-relevance)[:, :k]
    discount = np.log2(2 + np.arange(ranked.shape[1]))
    gained, best = (((2**grades - 1) / discount).sum(axis=1) for grades in (ranked, ideal))
    hit = (ranked > 0).any(axis=1)
    first = 1 + (ranked > 0).argmax(axis=1)
    return {"hit_rate": hit.mean(), "mrr": (hit / first).mean(), "ndcg": (gained / best).mean()}
    ### END SOLUTION


# %% check="ranking_metrics"
check("02_measuring.ranking_metrics")


# %% demo="ranking_metrics"
def rank_with_ties() -> None:
    """A constant scorer earns nothing, and rounding costs a useful one."""
    rng = np.random.default_rng(0)
    relevance = np.eye(200)[rng.integers(200, size=500)]  # one relevant item a case
    useful = rng.normal(size=relevance.shape) + 2.5 * relevance
    for name, scores in (("constant", 0 * useful), ("useful", useful), ("useful, rounded", np.round(useful))):
        print(f"{name:17s}" + "  ".join(f"{key} {v:.3f}" for key, v in ranking_metrics(scores, relevance, 10).items()))


with demo("ranking_metrics"):
    rank_with_ties()

# %% [markdown]
# ## 4. Beyond accuracy: coverage, Gini, tail recall
# Who gets shown, and do the rare items ever reach those who want them?
#
# - `lists (cases, k)`: the items recommended in each case, best first; -1 is an empty place. `targets (cases,)`: the
#   item that the user took next. `item_counts (items,)`: training events of each item. An item with **at most**
#   `tail` of them belongs to the tail.
# - `coverage`: the share of all items that stand in at least one list.
# - `gini`: how unequally the places fall on **all** items, those never shown included. Half the mean absolute
#   difference of two items' numbers of places, over the mean number; for n items Σᵢ Σⱼ |xᵢ − xⱼ| / (2 n² mean(x)).
#   0 if all items have as many; (n − 1) / n if one has all. `nan` if nothing is shown.
# - `tail_recall`: among the cases whose target is a tail item, the share whose list holds it. `nan` without such cases.
# - Returns a dict with these three keys. There is at least one item; there may be no case.
#
# By hand: four items, `lists = [[0, 1], [0, -1], [0, 1]]`, `targets = [1, 2, 3]`, `item_counts = [9, 2, 2, 9]`,
# `tail = 2`. Places: 3, 2, 0, 0. Coverage 2/4. The 16 differences add up to 2 · (1 + 3 + 3 + 2 + 2 + 0) = 22; Gini =
# 22 / (2 · 16 · 1.25) = 0.55. Targets 1 and 2 are in the tail, one was found: tail recall ½.


# %% answer="beyond_accuracy"
def beyond_accuracy(
    lists: np.ndarray, targets: np.ndarray, item_counts: np.ndarray, tail: int = 10
) -> dict[str, float]:
    """Coverage and Gini of what is shown, and the recall of tail targets.

    lists: (cases, k), -1 for an empty place. targets: (cases,). item_counts: (items,). NaN where nothing can be judged.
    """
    ### BEGIN SOLUTION
    items = len(item_counts)
    places = np.sort(np.bincount(lists[lists >= 0], minlength=items))
    signs = 2 * np.arange(items) - items + 1  # how often a count is the larger of a pair, less how often the smaller
    gini = (signs * places).sum() / (items * places.sum()) if places.any() else math.nan
    wanted = item_counts[targets] <= tail
    found = (lists == targets[:, None]).any(axis=1)[wanted]
    recall = found.mean() if len(found) else math.nan
    return {"coverage": (places > 0).mean(), "gini": gini, "tail_recall": recall}
    ### END SOLUTION


# %% check="beyond_accuracy"
check("02_measuring.beyond_accuracy")


# %% demo="beyond_accuracy"
def show_exposure() -> None:
    """Three ways to fill the same lists."""
    rng = np.random.default_rng(0)
    zipf = 1 / np.arange(1, 301)
    zipf /= zipf.sum()
    counts, targets = rng.multinomial(6_000, zipf), rng.choice(300, 400, p=zipf)
    shown = {
        "the same ten": np.tile(np.arange(10), (400, 1)),
        "by popularity": np.array([rng.choice(300, 10, replace=False, p=zipf) for _ in range(400)]),
        "evenly": np.array([rng.choice(300, 10, replace=False) for _ in range(400)]),
    }
    for name, lists in shown.items():
        values = beyond_accuracy(lists, targets, counts)
        print(f"{name:14s}" + "  ".join(f"{key} {value:.3f}" for key, value in values.items()))


with demo("beyond_accuracy"):
    show_exposure()

# %% [markdown]
# ## 5. Leave one out, without a leak
# Every user's last event is the test, the rest is for training. It sounds like one line. Then many events of a
# user carry the same timestamp, the sort is not stable, and the "last" event is whatever the sort made of it.
#
# - `users (events,)`, `times (events,)`: the log, row by row as it was written. Users are any integers, mixed; times
#   are whole seconds since 1970. Rows need not be in order of time.
# - An event is later than another of the same user if its time is larger or, **at equal times, if its row comes
#   later in the log**.
# - Returns a tuple of three arrays. `train`: row numbers, users in ascending order, the events of each from oldest to
#   latest. `test`: row number of the last event of each user who has **at least two**, users ascending. `tied`: for
#   each row of `test`, whether the event before it has the same time, so that the log does not prove the order.
# - Who has a single event only trains. Every row is in `train` or in `test`, never in both. An empty log gives three
#   empty arrays.
#
# By hand: users `[4, 2, 4, 2, 4, 9]`, times `[50, 10, 70, 30, 70, 5]`. User 2 did rows 1, 3; user 4 did rows 0, 2, 4,
# of which 2 and 4 at the same time, so 4 is the last; user 9 did row 5 only. `train = [1, 0, 2, 5]`, `test = [3, 4]`,
# `tied = [False, True]`.


# %% answer="leave_one_out"
def leave_one_out(users: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split a log into rows to train on and each user's last row, and say which of those are tied with the row before.

    users, times: (events,). Returns train (rest,), test (cases,), tied (cases,).
    """
    ### BEGIN SOLUTION
    order = np.lexsort((times, users))  # stable: rows that agree in both keep the order of the log
    by_user, by_time = users[order], times[order]
    is_last = np.ones(len(order), bool)
    is_last[:-1] = by_user[1:] != by_user[:-1]
    has_past = np.zeros(len(order), bool)
    has_past[1:] = ~is_last[:-1]
    held_out = np.flatnonzero(is_last & has_past)
    tied = by_time[held_out] == by_time[held_out - 1]
    return np.delete(order, held_out), order[held_out], tied
    ### END SOLUTION


# %% check="leave_one_out"
check("02_measuring.leave_one_out")


# %% [markdown]
# ## 6. What a sampled metric expects
# To save time, people rank the target among a few `negatives` drawn at random instead of all items. You can say
# exactly what that shows, without drawing anything: it is a function of the full rank.
#
# - `ranks (cases,)`: the target's full rank among `num_items` items, 1 is best. So rank − 1 of the other
#   `num_items` − 1 items stand before it.
# - `negatives` different items are drawn from those others, every set as likely as any other (**without**
#   replacement). The target is then ranked among them. It is a hit if its place is at most `k`.
# - Returns the probability of a hit for each rank, `(cases,)`, float64. Their mean is the hit rate that a sampled
#   evaluation reports on average.
# - Must be right for a million items and a hundred negatives, where factorials overflow. From scratch: without
#   `scipy.stats`.
# - Raises `ValueError` if `k < 1`, if a rank is outside 1 … `num_items`, or if `negatives` is outside
#   0 … `num_items` − 1.
#
# By hand: 5 items, rank 3, 2 negatives, k = 1. Two of the four others stand before the target. It is a hit if neither
# is drawn: of the 6 pairs that is 1. So ⅙. With k = 2 one of them may be drawn: 1 − ⅙ = ⅚.


# %% answer="sampled_hit_rate"
def sampled_hit_rate(ranks: np.ndarray, num_items: int, negatives: int, k: int) -> np.ndarray:
    """Probability that a target of this full rank is among the first k of itself and `negatives` random others.

    ranks: (cases,), from 1 to num_items. Returns (cases,), float64. Raises ValueError for what cannot be.
    """
    ### BEGIN SOLUTION
    if k < 1 or not 0 <= negatives < num_items:
        raise ValueError(f"k is {k} with {negatives} negatives of {num_items} items; expected k >= 1, fewer negatives")
    if ((ranks < 1) | (ranks > num_items)).any():
        raise ValueError(f"ranks must lie between 1 and {num_items}")
    log_factorial = np.cumsum(np.log(np.maximum(np.arange(num_items), 1)))

    def log_choose(n: np.ndarray | int, chosen: int) -> np.ndarray:
        ways = log_factorial[n] - log_factorial[chosen] - log_factorial[n - chosen]
        return np.where(n >= chosen, ways, -np.inf)

    chance = np.zeros(ranks.shape)
    for drawn in range(min(k, negatives + 1)):  # of those that stand before the target
        before, behind = log_choose(ranks - 1, drawn), log_choose(num_items - ranks, negatives - drawn)
        chance += np.exp(before + behind - log_choose(num_items - 1, negatives))
    return chance
    ### END SOLUTION


# %% check="sampled_hit_rate"
check("02_measuring.sampled_hit_rate")

# %% [markdown]
# ### All of it together
# Now judge the reference recommender's opponents with your own code: your split, your metrics, your sampled
# hit rate (at 10, full and sampled), on the embedded world. Look for two rankers that change places.


# %% demo="sampled_hit_rate"
def judge_rankers() -> None:
    """The baselines on the embedded world, by your split and your metrics."""
    from m6rec_mini.baselines import EASE, ItemKNN, Markov, Popularity, RecencyEASE
    from m6rec_mini.catalog import Interactions
    from m6rec_mini.datasets.world import WorldConfig, make_world
    from m6rec_mini.evaluation import Cases, Split, top_items

    log = make_world(WorldConfig(items=600, users=400)).catalog.interactions

    def cut(events: Interactions) -> tuple[Interactions, Cases]:
        """Your split, as the baselines want it: events to train on, and cases."""
        train, test, tied = leave_one_out(events.users, events.times)
        histories = [events.history(int(events.users[row]), int(row)) for row in test]
        columns = (events.users, events.items, events.actions, events.times)
        rest = Interactions.sort(*(column[train] for column in columns), events.num_users, events.num_items)
        return rest, Cases(events.users[test], events.items[test], histories, tied)

    rest, test_cases = cut(log)
    split = Split(*cut(rest), test_cases)
    relevance = np.eye(log.num_items)[test_cases.targets]
    rows = np.arange(len(test_cases))

    table = {}
    for ranker in (Popularity(), ItemKNN(), EASE(), RecencyEASE(), Markov()):
        scores = ranker.fit(split).scores(test_cases.histories).astype(float)
        for row, history in enumerate(test_cases.histories):
            scores[row, history.items] = -np.inf  # nobody meets an item twice
        ranks = (scores >= scores[rows, test_cases.targets][:, None]).sum(axis=1)  # ties go against the target
        lists = top_items(scores, test_cases.histories, 10)
        table[ranker.name] = {
            **ranking_metrics(scores, relevance, 10),
            **beyond_accuracy(lists, test_cases.targets, split.train.item_counts),
            **{f"sampled {n}": sampled_hit_rate(ranks, log.num_items, n, 10).mean() for n in (20, 100)},
        }
    for ranker_name, values in table.items():
        print(f"{ranker_name:15s}" + "  ".join(f"{name} {value:.3f}" for name, value in values.items()))
    for metric in ("hit_rate", "sampled 100", "sampled 20"):
        print(f"best by {metric:12s} {max(table, key=lambda name: table[name][metric])}")


with demo("leave_one_out", "ranking_metrics", "beyond_accuracy", "sampled_hit_rate"):
    judge_rankers()
