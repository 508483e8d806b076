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
# # 3 · Classic recommenders
#
# *"Take me through the models that a recommender team used before language models: item-kNN, factorisation
# machines, DCN, DIN, MMoE, two towers. Write the part of each that matters, and tell me what it costs."*
#
# The lesson `03_classic_recommenders` has the pictures and the measurements. Here you write the six pieces
# yourself, in NumPy. Write an answer, run its check, read what it says. The cell after a check uses your code.

# %%
import numpy as np

from m6rec_mini.course import check, demo

# %% [markdown]
# ## 1. Item-kNN: which items are alike?
#
# `interactions[u, i]` says how much user `u` did with item `i`: 0 for nothing, 1 for a touch, more for
# repeated ones, less for one that faded. Two items are alike if the same users touched them:
#
# `similarity(i, j) = (x_i · x_j) / (|x_i| |x_j| + shrinkage)`, where `x_i` is column `i`.
#
# - The result is `[items, items]`, of floats, whatever the type of the matrix: it may hold booleans or
#   8-bit counts.
# - The diagonal is 0. An item must not recommend itself.
# - An item that nobody touched has similarity 0 with all. There is never a NaN.
# - Counts count as they are: do not turn them into 0 and 1.
# - `ValueError` for a negative shrinkage. There may be no users, or no items.
#
# By hand: four users touched item 0, one of them also item 1, nobody item 2. The lengths are `2, 1, 0`.
# `similarity(0, 1) = 1 / (2 · 1) = 0.5`. With shrinkage 2 it is `1 / (2 + 2) = 0.25`.


# %% answer="item_similarities"
def item_similarities(interactions: np.ndarray, shrinkage: float = 0.0) -> np.ndarray:
    """Shrunk cosine between the columns of a matrix, with a zero diagonal.

    interactions: [users, items], 0 or more. Returns [items, items].
    """
    ### BEGIN SOLUTION
    if shrinkage < 0:
        raise ValueError(f"shrinkage is {shrinkage}; it must be 0 or more")
    touched = np.asarray(interactions, dtype=np.float64)
    common = touched.T @ touched
    lengths = np.sqrt(np.diag(common))
    scale = np.outer(lengths, lengths) + shrinkage
    similarities = common / np.where(scale > 0, scale, 1)
    np.fill_diagonal(similarities, 0)
    return similarities
    ### END SOLUTION


# %% check="item_similarities"
check("03_classic_recommenders.item_similarities")

# %% demo="item_similarities"
with demo("item_similarities"):
    from m6rec_mini.baselines import user_items
    from m6rec_mini.datasets.world import WorldConfig, make_world

    _world = make_world(WorldConfig(items=300, users=200))
    _touched = user_items(_world.catalog.interactions).toarray()
    for _shrinkage in (0.0, 2.0, 20.0):
        _similar = item_similarities(_touched, _shrinkage)
        _nearest = _similar.argmax(axis=1)
        _known = _touched.sum(axis=0)
        _topic = (_world.truth.items.topic == _world.truth.items.topic[_nearest])[_known > 0].mean()
        print(
            f"shrinkage {_shrinkage:4g}: the nearest neighbour has {np.median(_known[_nearest]):.0f} users "
            f"(median), and the item's own topic in {_topic:.0%} of cases"
        )

# %% [markdown]
# ## 2. A factorisation machine in linear time
#
# A factorisation machine scores a row of `n` features with all pairs:
#
# `w0 + Σ_i w_i x_i + Σ_{i<j} (v_i · v_j) x_i x_j`, where `v_i` is row `i` of `v`.
#
# The double sum costs O(n² k). Rewrite it so that a row costs O(n k) in time *and* memory. The check has a
# row of a million features.
#
# - `x` is `[batch, n]`: any numbers, not only 0 and 1, of floats or integers (8-bit ones too). The result is `[batch]`.
# - A feature does not pair with itself.
# - The batch may be empty, `n` and `k` may be 0.
#
# By hand: `x = [1, 2, 3]`, `w0 = 0.5`, `w = [1, 0, -1]`, `v = [[1], [2], [-1]]`. The linear part is `1 - 3 = -2`.
# The pairs give `2·1·2 = 4`, `-1·1·3 = -3` and `-2·2·3 = -12`, together `-11`. The score is `-12.5`.


# %% answer="fm_score"
def fm_score(x: np.ndarray, w0: float, w: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Score rows by a factorisation machine of order 2.

    x: [batch, n], w: [n], v: [n, k]. Returns [batch].
    """
    ### BEGIN SOLUTION
    x = np.asarray(x, dtype=np.float64)
    total = x @ v  # batch, k
    alone = np.square(x) @ np.square(v)
    return w0 + x @ w + np.sum(np.square(total) - alone, axis=1) / 2
    ### END SOLUTION


# %% check="fm_score"
check("03_classic_recommenders.fm_score")

# %% demo="fm_score"
with demo("fm_score"):
    import time

    _rng = np.random.default_rng(0)
    for _n in (200, 400, 800, 1600):
        _x, _w, _v = _rng.normal(size=(1, _n)), _rng.normal(size=_n), _rng.normal(size=(_n, 8))
        _start = time.perf_counter()
        _yours = fm_score(_x, 0.0, _w, _v)[0]
        _middle = time.perf_counter()
        _pairs = np.triu(np.outer(_x[0], _x[0]) * (_v @ _v.T), 1).sum() + _w @ _x[0]
        _end = time.perf_counter()
        print(
            f"{_n:5} features: yours {1e3 * (_middle - _start):6.2f} ms, all pairs {1e3 * (_end - _middle):6.2f} ms, "
            f"difference {_yours - _pairs:+.0e}"
        )

# %% [markdown]
# ## 3. The cross layer of DCN
#
# A deep and cross network multiplies with the *first* input `x0` again in every layer, so layer `l` has
# products of up to `l + 1` features. There are two versions. The shape of `w` says which one is meant:
#
# - `w` of shape `[n]` (DCN, 2017): `x0 · (x · w) + b + x`, where `x · w` is one number a row.
# - `w` of shape `[n, n]` (DCN-V2, 2020): `x0 ⊙ (W x + b) + x`. The bias is *inside* the product now, and
#   `(W x)_i = Σ_j W_ij x_j`.
#
# `x0` and `x` are `[batch, n]`, `b` is `[n]`, and so is every row of the result. In the first version do not build
# a matrix of `n · n` numbers: the check has `n = 1,000,000`. `ValueError` for any other shape of `w`. The batch may
# be empty.
#
# By hand: `x0 = [1, 2]`, `x = [3, -1]`, `b = [10, 20]`. With `w = [2, 1]`: `x · w = 5`, so
# `[5, 10] + [10, 20] + [3, -1] = [18, 29]`. With `W = [[1, 0], [2, 1]]`: `W x = [3, 5]`, plus `b` is `[13, 25]`,
# times `x0` is `[13, 50]`, plus `x` is `[16, 49]`.


# %% answer="cross_layer"
def cross_layer(x0: np.ndarray, x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One cross layer, of DCN if `w` is a vector, of DCN-V2 if it is a square matrix.

    x0, x: [batch, n], w: [n] or [n, n], b: [n]. Returns [batch, n].
    """
    ### BEGIN SOLUTION
    n = x0.shape[1]
    if w.shape == (n,):
        return x0 * (x @ w)[:, None] + b + x
    if w.shape == (n, n):
        return x0 * (x @ w.T + b) + x
    raise ValueError(f"w has shape {w.shape}; expected {(n,)} or {(n, n)}")
    ### END SOLUTION


# %% check="cross_layer"
check("03_classic_recommenders.cross_layer")

# %% demo="cross_layer"
with demo("cross_layer"):
    _rng = np.random.default_rng(0)
    _x0, _w, _b = np.ones((1, 3)), _rng.normal(size=(3, 3)), np.zeros(3)
    print("If the input grows by a factor t, layer l grows like t ** (l + 1):")
    for _depth in (1, 2, 3):
        _sizes = []
        for _t in (1e3, 1e4):
            _x = _t * _x0
            for _ in range(_depth):
                _x = cross_layer(_t * _x0, _x, _w, _b)
            _sizes.append(np.abs(_x).max())
        print(f"  {_depth} layers: degree {np.log10(_sizes[1] / _sizes[0]):.2f}")

# %% [markdown]
# ## 4. DIN's target attention
#
# What matters in a history depends on the candidate. For each event `e` of the history and candidate `c`,
# both of width `d`, DIN's activation unit computes one number:
#
# `score = w2 · relu(w1ᵀ [e, c, e - c, e ⊙ c] + b1) + b2`. The four parts stand side by side in this order.
#
# - `candidate` is `[batch, d]`, `history` `[batch, events, d]`, `present` `[batch, events]`, true for real events,
#   false for padding. `w1` is `[4 d, hidden]`, `b1` and `w2` are `[hidden]`, `b2` is a number.
# - Return `(pooled, weights)`, of shapes `[batch, d]` and `[batch, events]`. `pooled` is the sum of weight times event.
# - With `normalise=False`, as in the paper, the weights *are* the scores, negative ones too. Their sum then
#   says how strong the interest is. With `normalise=True` they are the softmax of the scores over the real events.
# - Padding has weight exactly 0, whatever stands there; it may even be NaN. A history without real
#   events has `pooled` and weights 0, in both modes.
# - Scores may be as large as ±10,000. Inputs of float32 give results of float32.
#
# By hand, `d = 1` and one hidden unit: `w1 = [[0], [0], [0], [1]]`, `b1 = [0]`, `w2 = [1]`, `b2 = 0`. So a score is
# `relu(e · c)`. The candidate is `ln 3`, the history `[1, -1, 5]`, and the last is padding. Scores are
# `ln 3, 0`. As they are: weights `[1.0986, 0, 0]`, pooled `1.0986`. Normalised: `[0.75, 0.25, 0]`, pooled `0.5`.


# %% answer="target_attention"
def target_attention(
    candidate: np.ndarray,
    history: np.ndarray,
    present: np.ndarray,
    w1: np.ndarray,
    b1: np.ndarray,
    w2: np.ndarray,
    b2: float,
    normalise: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum up a history as this candidate sees it.

    candidate: [batch, d], history: [batch, events, d], present: [batch, events] of booleans,
    w1: [4 d, hidden], b1, w2: [hidden]. Returns (pooled [batch, d], weights [batch, events]).
    """
    ### BEGIN SOLUTION
    events = np.where(present[:, :, None], history, 0)
    wanted = np.broadcast_to(candidate[:, None], events.shape)
    features = np.concatenate([events, wanted, events - wanted, events * wanted], axis=2)
    scores = np.maximum(features @ w1 + b1, 0) @ w2 + b2  # batch, events
    if normalise:
        top = np.max(scores, axis=1, keepdims=True, where=present, initial=-np.inf)
        odds = np.exp(np.where(present, scores, -np.inf) - np.where(np.isfinite(top), top, 0))
        weights = odds / np.maximum(np.sum(odds, axis=1, keepdims=True), 1)  # the largest of the odds is 1
    else:
        weights = np.where(present, scores, 0)
    weights = weights.astype(history.dtype)
    return np.einsum("be,bed->bd", weights, events), weights
    ### END SOLUTION


# %% check="target_attention"
check("03_classic_recommenders.target_attention")

# %% demo="target_attention"
with demo("target_attention"):
    import matplotlib.pyplot as plt

    _rng = np.random.default_rng(0)
    _interests = np.eye(3)[[0, 0, 1, 0, 2, 1, 0]]  # a history of three interests
    _history = np.tile(_interests + 0.1 * _rng.normal(size=_interests.shape), (3, 1, 1))
    _w1 = np.concatenate([np.zeros((9, 1)), np.ones((3, 1))])  # the unit sees event times candidate only
    _, _weights = target_attention(np.eye(3), _history, np.ones((3, 7), bool), _w1, np.zeros(1), np.ones(1), 0.0)
    plt.imshow(_weights, cmap="cividis")
    plt.colorbar(label="weight")
    plt.xlabel("event of the history")
    plt.ylabel("interest of the candidate")
    plt.show()

# %% [markdown]
# ## 5. MMoE: experts shared, gates apart
#
# A page wants clicks *and* likes. Multi-gate mixture of experts: all tasks share the experts, and each task has
# a gate that mixes them anew for each example.
#
# - `x` is `[batch, d]`. Expert `e` gives `relu(x @ experts[e])`; `experts` is `[num_experts, d, width]`.
# - Task `t` weighs them by the softmax, over experts, of `x @ gates[t]`; `gates` is `[tasks, d, num_experts]`.
# - The result is `[tasks, batch, width]`, of the floating type of `x`. Gate scores may be as large as ±10,000.
#   The batch may be empty.
#
# By hand, `d = 1`, `width = 1`: `x = [[1], [2]]`. Two experts with weights 1 and 3 give `[1, 2]` and `[3, 6]`.
# Task 0 has the gate `[[0, 0]]`, so it takes halves: `[2, 4]`. Task 1 has `[[ln 3, 0]]`: for the first example
# the odds are 3 to 1, `0.75·1 + 0.25·3 = 1.5`; for the second 9 to 1, `0.9·2 + 0.1·6 = 2.4`.


# %% answer="mmoe"
def mmoe(x: np.ndarray, experts: np.ndarray, gates: np.ndarray) -> np.ndarray:
    """Mix shared experts by one gate for each task.

    x: [batch, d], experts: [num_experts, d, width], gates: [tasks, d, num_experts].
    Returns [tasks, batch, width].
    """
    ### BEGIN SOLUTION
    outputs = np.maximum(x @ experts, 0)  # experts, batch, width
    scores = x @ gates  # tasks, batch, experts
    odds = np.exp(scores - np.max(scores, axis=2, keepdims=True))
    shares = odds / np.sum(odds, axis=2, keepdims=True)
    return np.einsum("tbe,ebw->tbw", shares, outputs)
    ### END SOLUTION


# %% check="mmoe"
check("03_classic_recommenders.mmoe")

# %% demo="mmoe"
with demo("mmoe"):
    _rng = np.random.default_rng(0)
    _x, _gate = _rng.normal(size=(500, 6)), _rng.normal(size=(2, 6, 3))
    for _scale in (0.0, 0.5, 5.0):  # which expert speaks: an expert that gives 1 and others that give 0
        _experts = np.zeros((3, 7, 3))
        _experts[[0, 1, 2], 6, [0, 1, 2]] = 1  # the seventh feature is always 1
        _bias = np.zeros((2, 1, 3))
        _inputs = np.concatenate([_x, np.ones((500, 1))], axis=1)
        _shares = mmoe(_inputs, _experts, np.concatenate([_scale * _gate, _bias], axis=1))
        print(f"gates times {_scale:g}: largest share of an expert, mean over examples {_shares.max(2).mean():.2f}")

# %% [markdown]
# ## 6. Two towers: in-batch softmax with logQ
#
# A batch has `B` pairs: row `i` of `users` and row `i` of `items` belong together. Each user must pick the
# own item from all items of the batch. But the batch shows popular items more often, so they are negatives more
# often, and are pushed down too far. The correction takes `log q` off each logit, where `q` is the probability
# with which this item comes into a batch:
#
# `logits[i, j] = users[i] · items[j] / temperature - log_q[j]`, and the loss is the mean over `i` of
# `-log softmax(logits[i])[i]`.
#
# - `users` and `items` are `[B, d]`, taken as they are, not normalised. `item_ids` and `log_q` are `[B]`. `log_q`
#   may be None: no correction. It goes for *every* column, the own item's too.
# - **Accidental hits**: if row `j` is the same item as row `i` (`item_ids` are equal, `j ≠ i`), then `j` is no negative
#   of `i`. It takes no part in row `i`.
# - Return `(loss, gradient)`: a number, and the slopes of the loss by the corrected logits, `[B, B]`. Entries
#   that take no part have slope exactly 0.
# - Logits may be as large as ±10,000 and losses must stay finite. `ValueError` for an empty batch and for a
#   temperature that is not above 0.
#
# By hand: `users` all 0, ids `[7, 8, 7]`, `q = [½, ⅙, ½]`. So `exp(-log q)` is `2, 6, 2`. Row 0 leaves out column 2:
# the softmax is `[¼, ¾, -]`. Row 1 has `[⅕, ⅗, ⅕]`. Row 2 leaves out column 0: `[-, ¾, ¼]`. The loss is
# `(ln 4 + ln 5/3 + ln 4) / 3 = 1.0945`. The gradient is `[[-¾, ¾, 0], [⅕, -⅖, ⅕], [0, ¾, -¾]] / 3`.


# %% answer="in_batch_softmax_loss"
def in_batch_softmax_loss(
    users: np.ndarray, items: np.ndarray, item_ids: np.ndarray, log_q: np.ndarray | None, temperature: float
) -> tuple[float, np.ndarray]:
    """Sampled softmax over the batch's own items, corrected for how often each is there.

    users, items: [B, d], item_ids: [B] of integers, log_q: [B] or None.
    Returns (loss, gradient by the corrected logits [B, B]).
    """
    ### BEGIN SOLUTION
    count = len(users)
    if count == 0:
        raise ValueError("the batch is empty; a mean over no rows is not a number")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    logits = users @ items.T / temperature
    if log_q is not None:
        logits = logits - log_q
    own = np.eye(count, dtype=bool)
    logits = np.where((item_ids[:, None] == item_ids) & ~own, -np.inf, logits)
    logits = logits - np.max(logits, axis=1, keepdims=True)
    totals = np.sum(np.exp(logits), axis=1, keepdims=True)
    loss = np.mean(np.log(totals[:, 0]) - logits[own])
    return float(loss), (np.exp(logits) / totals - own) / count
    ### END SOLUTION


# %% check="in_batch_softmax_loss"
check("03_classic_recommenders.in_batch_softmax_loss")

# %% [markdown]
# Now your two answers become recommenders on the harness of `m6rec_mini`, beside its own baselines, in the
# embedded world. Your similarities make an item-kNN. Your loss trains two towers: a history is a mean of its
# items' vectors, recent ones first, and a candidate has a vector of its own. Look at the last column: it says
# how popular recommended items are (the mean number of their training events).

# %% demo="in_batch_softmax_loss"
with demo("item_similarities", "in_batch_softmax_loss"):
    from dataclasses import dataclass

    from m6rec_mini.baselines import ItemKNN, ItemKNNConfig, Popularity, history_weights, user_items
    from m6rec_mini.bpr import BPRMF, BPRConfig
    from m6rec_mini.datasets.world import WorldConfig, make_world
    from m6rec_mini.evaluation import evaluate, leave_one_out
    from m6rec_mini.sasrec import SASRec, SASRecConfig

    class _YourKNN(ItemKNN):
        """The harness' item-kNN with the learner's matrix."""

        name = "item-kNN, yours"

        def matrices(self, train):
            for _shrinkage in self.config.shrink:
                yield f"shrink {_shrinkage:g}", item_similarities(user_items(train).toarray(), _shrinkage)

    @dataclass
    class _TwoTowers:
        """Both towers are tables; training is Adam on the learner's gradient by the logits."""

        name: str
        corrected: bool
        width: int = 32

        def fit(self, split):
            train, rng = split.train, np.random.default_rng(0)
            events = np.setdiff1d(np.arange(len(train)), train.bounds[:-1])  # whatever has a past
            pasts = self.read([train.history(int(train.users[e]), int(e)) for e in events], train.num_items)
            targets = train.items[events]
            counts = np.bincount(targets, minlength=train.num_items) + 1
            log_q = np.log(counts / counts.sum())
            self.tables = rng.normal(size=(2, train.num_items, self.width)) / self.width**0.5
            first, second = np.zeros_like(self.tables), np.zeros_like(self.tables)
            for step in range(1, 301):
                batch = rng.choice(len(targets), 128)
                past, item = pasts[batch], targets[batch]
                users, items = past @ self.tables[0], self.tables[1][item]
                correction = log_q[item] if self.corrected else None
                _, slopes = in_batch_softmax_loss(users, items, item, correction, 1.0)
                gradient = np.zeros_like(self.tables)
                gradient[0] = past.T @ (slopes @ items)
                np.add.at(gradient[1], item, slopes.T @ users)
                first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
                self.tables -= 0.01 * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
            return self

        def read(self, histories, num_items):
            weights = history_weights(histories, num_items, 5.0).toarray().astype(np.float64)
            return weights / weights.sum(axis=1, keepdims=True)

        def scores(self, histories):
            users = self.read(histories, self.tables.shape[1]) @ self.tables[0]
            return (users @ self.tables[1].T).astype(np.float32)

    _split = leave_one_out(make_world(WorldConfig(items=300, users=200)).catalog.interactions)
    _lines = [f"{'':26}HR@10  HR@50  popularity of what is shown"]
    for _ranker in (
        Popularity(),
        ItemKNN(ItemKNNConfig(half_lives=(5.0,))),
        _YourKNN(ItemKNNConfig(half_lives=(5.0,))),
        BPRMF(BPRConfig(dim=32, epochs=10)),
        SASRec(SASRecConfig(dim=32, layers=1, batch=32, epochs=3)),
        _TwoTowers("two towers, your loss", False),
        _TwoTowers("two towers, loss + logQ", True),
    ):
        _found = evaluate(_ranker.fit(_split), _split.test, _split.train)
        _shown = _split.train.item_counts[_found.lists].mean()
        _lines.append(f"{_ranker.name:25}{_found.mean('hr@10'):6.3f} {_found.mean('hr@50'):6.3f}  {_shown:6.1f}")
    print("\n".join(_lines))
