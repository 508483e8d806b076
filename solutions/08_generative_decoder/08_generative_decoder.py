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
# # 8 · The generative decoder
#
# *"Your recommender writes the next item instead of ranking all items. What does it write? How do you keep it
# from writing items that do not exist, and how do you make it fast?"*
#
# Read the [lesson](../../lessons/08_generative_decoder.md) first, or try the questions cold as in an interview.
# Write each answer in its cell, run the check below it, read the card, mend, run again. You need NumPy only,
# until the very last cell.
#
# An item is written as a *semantic ID*: a few small numbers, one per level. Shapes are written as in NumPy.
# No argument is ever changed.

# %%
import math

import numpy as np

from m6rec_mini.course import check, demo

# %% [markdown]
# ## 1. Residual quantisation
#
# `residual_quantise(vectors, codebooks)` describes each vector by one centroid per level. Each level describes
# what the levels before it left over, the *residual*.
#
# - `vectors` is `(items, dim)`. `codebooks` is a list of arrays, one per level, each `(centroids, dim)`. Levels may
#   have different numbers of centroids.
# - The residual starts as the vector. At each level the code is the index of the centroid nearest to the residual
#   (Euclidean distance, ties to the **lowest index**), and that centroid is taken off the residual.
# - Return `(codes, reconstruction, errors)`. `codes` is `(items, levels)` in int64. `reconstruction` is
#   `(items, dim)`, the sum of the named centroids. `errors` is `(items, levels)`: the **squared** length of what is
#   left over after each level. The last two have the type of `vectors`, float32 or float64.
# - Vectors may lie far from the origin, all of them near `1e8` in float64: the nearest centroid is still found.
# - No items and no levels are fine: the shapes follow the rule, and the sum of no centroids is zeros.
# - `ValueError` for a codebook without centroids, or of another width than the vectors.
#
# By hand: the vector `[5, 1]`, level one `[[0, 0], [4, 0]]`, level two `[[0, 2], [1, 0]]`. Squared distances are
# 26 and 2, so code 1, and `[1, 1]` is left over, error 2. Now they are 2 and 1, so code 1, and `[0, 1]` is left
# over, error 1. The codes are `[1, 1]`, the reconstruction is `[5, 0]`, the errors are `[2, 1]`.


# %% answer="residual_quantise"
def residual_quantise(vectors: np.ndarray, codebooks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each vector as one centroid per level, each nearest to what the levels before left over.

    vectors (items, dim), codebooks [(centroids, dim), ...] -> codes int64 (items, levels),
    reconstruction (items, dim), errors (items, levels): squared lengths of what is left after each level.
    Raises ValueError for a codebook that is empty or of another width.
    """
    ### BEGIN SOLUTION
    codes = np.zeros((len(vectors), len(codebooks)), np.int64)
    errors = np.zeros((len(vectors), len(codebooks)), vectors.dtype)
    reconstruction, residual = np.zeros_like(vectors), vectors
    for level, centroids in enumerate(codebooks):
        if len(centroids) == 0 or centroids.shape[1] != vectors.shape[1]:
            raise ValueError(f"level {level}: centroids of shape {centroids.shape} for vectors of {vectors.shape[1]}")
        # Differences first: |x|² - 2xc + |c|² is faster, and loses everything far from the origin.
        distances = ((residual[:, None] - centroids) ** 2).sum(axis=2)
        codes[:, level] = distances.argmin(axis=1)
        reconstruction = reconstruction + centroids[codes[:, level]]
        residual = residual - centroids[codes[:, level]]
        errors[:, level] = (residual**2).sum(axis=1)
    return codes, reconstruction, errors
    ### END SOLUTION


# %% check="residual_quantise"
check("08_generative_decoder.residual_quantise")

# %% demo="residual_quantise"
with demo("residual_quantise"):
    rng = np.random.default_rng(8)
    points = rng.normal(size=(2000, 8))
    books = [points[:16] / 2**level for level in range(5)]  # crude: items as centroids, smaller at each level
    left = residual_quantise(points, books)[2].mean(axis=0) / (points**2).sum(axis=1).mean()
    print("share of the squared length left after 1, 2, ... levels:", " ".join(f"{share:.2f}" for share in left))

# %% [markdown]
# ## 2. When codes collide
#
# Two items with the same codes are one item to the decoder. `assign_ids(codes, spare)` tells them apart by one
# level more.
#
# - `codes` is `(items, levels)`, of any integer type, none negative. `spare` is how many numbers the new level has.
# - Return `(items, levels + 1)` in **int64**: the codes, unchanged and in the same order of rows, and a last number.
#   Among the items that agree in all codes, the first row gets 0, the next 1, and so on.
# - First come, first served: an item that is added at the end changes no ID before it.
# - An item whose codes are its own gets 0.
# - `ValueError` if more than `spare` items agree, and the message names the first row for which there is no number
#   left. `ValueError` for a `spare` below 1.
# - No items are fine. With no levels at all, all items agree. A catalogue of 20,000 items takes a moment, not a minute.
#
# By hand: `[[3, 1], [0, 2], [3, 1], [3, 1]]` with `spare` 4 gives `[[3, 1, 0], [0, 2, 0], [3, 1, 1], [3, 1, 2]]`.
# With `spare` 2 it is refused for row 3.


# %% answer="assign_ids"
def assign_ids(codes: np.ndarray, spare: int) -> np.ndarray:
    """A different ID for every item: its codes, and a number below `spare` among those that share them.

    codes (items, levels) -> int64 (items, levels + 1). Raises ValueError where there is no number left.
    """
    ### BEGIN SOLUTION
    if spare < 1:
        raise ValueError(f"spare is {spare}; the last level needs at least one number")
    used: dict[tuple[int, ...], int] = {}
    last = np.zeros((len(codes), 1), np.int64)
    for row, code in enumerate(map(tuple, codes.tolist())):
        number = used.get(code, 0)
        if number >= spare:
            raise ValueError(f"row {row}: {spare} items have the codes {code} already; raise spare, or use more levels")
        last[row] = number
        used[code] = number + 1
    return np.concatenate([codes.astype(np.int64), last], axis=1)
    ### END SOLUTION


# %% check="assign_ids"
check("08_generative_decoder.assign_ids")

# %% demo="assign_ids"
with demo("assign_ids"):
    rng = np.random.default_rng(8)
    for size in (8, 16, 32, 64):
        ids = assign_ids(rng.integers(size, size=(2000, 2)), spare=2000)
        print(f"2000 items, {size} × {size} codes, drawn evenly: {np.mean(ids[:, -1] > 0):.0%} need another number")

# %% [markdown]
# ## 3. Only what exists
#
# Of all combinations of codes only a few are items. `allowed_tokens(ids, prefixes, vocab)` says which token may come
# next, so that the decoder never writes an item that does not exist.
#
# - `ids` is `(items, levels)`: the valid IDs. `prefixes` is `(beams, written)`: what each beam has written so far.
#   All tokens are integers; `vocab` is how many there are at any level.
# - Return a boolean array `(beams, vocab)`: `True` where some valid ID begins with the beam's prefix followed by
#   this token. The same number at another level is another thing.
# - With nothing written (`written` 0) these are the first tokens of all IDs.
# - A prefix that begins no ID gets a row of `False`, whatever numbers it holds, and so does a complete ID.
# - `ValueError` for a prefix that is longer than an ID, and for IDs with tokens below 0, or not below `vocab`.
# - No IDs and no beams are fine.
#
# By hand: the IDs `[1, 0]`, `[1, 2]`, `[3, 1]`, with `vocab` 4. After nothing: `[F, T, F, T]`. After `[1]`:
# `[T, F, T, F]`. After `[2]`: all `False`.


# %% answer="allowed_tokens"
def allowed_tokens(ids: np.ndarray, prefixes: np.ndarray, vocab: int) -> np.ndarray:
    """Which token may follow each prefix, if the whole is to be one of the valid IDs.

    ids int (items, levels), prefixes int (beams, written) -> bool (beams, vocab).
    Raises ValueError for prefixes longer than IDs, or IDs outside the vocabulary.
    """
    ### BEGIN SOLUTION
    if ids.size and (ids.min() < 0 or ids.max() >= vocab):
        raise ValueError(f"IDs hold tokens from {ids.min()} to {ids.max()}; expected 0 to {vocab - 1}")
    written, levels = prefixes.shape[1], ids.shape[1]
    if written > levels:
        raise ValueError(f"a prefix of {written} tokens is longer than an ID, which has {levels}")
    allowed = np.zeros((len(prefixes), vocab), bool)
    if written < levels:
        begins = (prefixes[:, None] == ids[:, :written]).all(axis=2)  # beams, items
        beam, item = np.nonzero(begins)
        allowed[beam, ids[item, written]] = True
    return allowed
    ### END SOLUTION


# %% check="allowed_tokens"
check("08_generative_decoder.allowed_tokens")

# %% demo="allowed_tokens"
with demo("allowed_tokens"):
    import matplotlib.pyplot as plt

    rng = np.random.default_rng(8)
    ids = np.unique(rng.integers(12, size=(60, 3)) // [1, 2, 1], axis=0)
    prefixes = np.unique(ids[:, :1], axis=0)
    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    axes.imshow(allowed_tokens(ids, prefixes, 12), cmap="cividis")
    axes.set(title=f"{len(ids)} items: what may follow", xlabel="second token", ylabel="first token")

# %% [markdown]
# ## 4. Beam search with length normalisation
#
# `beam_search(step, valid, width, alpha)` finds likely sequences among the valid ones without scoring all of them.
#
# - The model is one matrix, `(vocab, vocab)` in float64: `step[a, b]` is the log-probability of token `b` right after
#   token `a`. Token **0 is the boundary**: every sequence starts after a 0, and is ended by a 0. So `step[0, b]` is
#   for the first token and `step[a, 0]` for the end. Entries may be `-inf`. Rows need not add up to 1.
# - `valid` is a list of sequences, written without zeros, each a list of at least one token, of **different
#   lengths**. One may begin another. Named twice, a sequence counts once.
# - The *total* of a sequence is the sum of its log-probabilities, the end included. They are not shared out again
#   among the tokens that the valid sequences allow.
# - Start with the empty beginning. In each round, extend every open beginning by every token that leads to a valid
#   sequence, or by the end where the beginning is valid itself. Of **all** extensions of the round, ended or not, keep
#   the `width` with the highest totals. Ties go to the lower tokens, compared from the left. Extensions of
#   probability 0 are never kept. Those that ended are put aside and take no place in later rounds; the others are
#   the open beginnings of the next. Stop when none is open.
# - The *score* of an ended sequence is its total divided by `n ** alpha`, where `n` counts its tokens, **the end
#   included**. With `alpha` 0 it is the total.
# - Return the at most `width` best of those put aside, as a list of pairs `(tokens, score)`, best score first, `tokens`
#   a list without zeros. Ties again go to the lower tokens.
# - If `width` is at least the number of valid sequences, this is the exact ranking.
# - `ValueError` for a `width` below 1, and for a sequence with a token that is not in 1 … `vocab - 1`.
#
# By hand: `valid` is `[[1], [2, 1]]`, and `step` has `[0, 1]: -2`, `[0, 2]: -1`, `[1, 0]: -1`, `[2, 1]: -1.5`. The
# totals are `-3` with 2 tokens and `-3.5` with 3. With `alpha` 0 and `width` 2: `[([1], -3.0), ([2, 1], -3.5)]`. With
# `alpha` 1 the scores are `-1.5` and `-1.1667`, so `[2, 1]` comes first. With `width` 1 only the beginning `[2]`
# survives the first round, and the result is `[2, 1]` alone, whatever `alpha` is.


# %% answer="beam_search"
def beam_search(
    step: np.ndarray, valid: list[list[int]], width: int, alpha: float = 0.0
) -> list[tuple[list[int], float]]:
    """The likeliest of the valid sequences that a beam of this width finds, best first.

    step (vocab, vocab): log-probability of column after row, 0 being start and end -> [(tokens, score), ...].
    Raises ValueError for a width below 1 or tokens outside 1 ... vocab - 1.
    """
    ### BEGIN SOLUTION
    if width < 1:
        raise ValueError(f"the width is {width}; a beam needs at least one place")
    follow: dict[tuple[int, ...], set[int]] = {}
    for sequence in valid:
        if not all(0 < token < len(step) for token in sequence):
            raise ValueError(f"{sequence} holds a token outside 1 ... {len(step) - 1}; 0 is the boundary")
        path = (*sequence, 0)
        for n, token in enumerate(path):
            follow.setdefault(path[:n], set()).add(token)

    def best_first(scored: list[tuple[float, tuple[int, ...]]]) -> list[tuple[float, tuple[int, ...]]]:
        return sorted(scored, key=lambda pair: (-pair[0], pair[1]))[:width]

    beam: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    ended: list[tuple[float, tuple[int, ...]]] = []
    while beam:
        grown = []
        for total, path in beam:
            after = path[-1] if path else 0
            grown += [(total + float(step[after, token]), (*path, token)) for token in follow.get(path, ())]
        kept = best_first([pair for pair in grown if pair[0] > -math.inf])
        ended += [pair for pair in kept if pair[1][-1] == 0]
        beam = kept  # what has ended leads nowhere, so the next round leaves it out
    ranked = best_first([(total / len(path) ** alpha, path) for total, path in ended])
    return [(list(path[:-1]), score) for score, path in ranked]
    ### END SOLUTION


# %% check="beam_search"
check("08_generative_decoder.beam_search")

# %% demo="beam_search"
with demo("beam_search"):
    rng = np.random.default_rng(8)
    step = np.log(rng.dirichlet(np.full(16, 0.5), size=16))
    valid = [rng.integers(1, 16, size=rng.integers(1, 6)).tolist() for _ in range(300)]
    for alpha in (0.0, 1.0):
        exact = [tokens for tokens, _ in beam_search(step, valid, 300, alpha)[:10]]
        print(f"alpha {alpha:g}: the top ten have {np.mean([len(tokens) for tokens in exact]):.1f} tokens on average")
        for width in (1, 5, 10, 20, 50):
            found = [tokens for tokens, _ in beam_search(step, valid, width, alpha)]
            print(f"  width {width:2} finds {sum(tokens in found for tokens in exact)} of them")

# %% [markdown]
# ## 5. Temperature, top-k, nucleus
#
# `sampling_distribution(logits, temperature, top_k, top_p)` gives the probabilities from which the next token is
# drawn. Three knobs, in this **order**: temperature, then top-k, then top-p.
#
# - `logits` is `(..., vocab)`, float32 or float64; every row is treated by itself. The result has its shape and type,
#   and each row adds up to 1. A logit of `-inf` is a forbidden token and gets exactly 0.
# - Divide the logits by `temperature`. At 0 the whole probability goes to the largest logit, the lowest index among
#   equals, whatever the other knobs say. Tiny temperatures and large logits do not overflow.
# - `top_k`: only the `top_k` largest logits stay. Ties go to the lowest index, so never more than `top_k` stay. If
#   there are fewer tokens than that, all stay. `None` means all. Then the softmax of what stays.
# - `top_p`: go through these probabilities from the largest down, ties by lowest index, and stop as soon as their sum
#   is **at least** `top_p`. The token that gets it there stays, so there is always at least one. Then all that stay are
#   scaled to add up to 1. `None` and 1 cut nothing away, not even a probability of `1e-17`.
# - `ValueError` for a negative or NaN temperature, `top_k` below 1, `top_p` not in `(0, 1]`, and a row in which every
#   token is forbidden.
#
# By hand: the logits are `ln 4, ln 3, ln 2, ln 1`, the temperature is 1. Probabilities are `0.4, 0.3, 0.2, 0.1`.
# With `top_p` 0.6 the first has not got there, the second has: `[4/7, 3/7, 0, 0]`. With `top_k` 3 it is
# `[4/9, 3/9, 2/9, 0]`.
# With `top_k` 2 **and** `top_p` 0.5, top-k gives `[4/7, 3/7]` first, and 4/7 alone is enough: `[1, 0, 0, 0]`.


# %% answer="sampling_distribution"
def sampling_distribution(
    logits: np.ndarray, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> np.ndarray:
    """The probabilities from which to draw the next token: temperature, then top-k, then top-p.

    logits (..., vocab) -> (..., vocab) in their type; cut tokens get exactly 0, and each row adds up to 1.
    Raises ValueError for knobs out of range or a row without any allowed token.
    """
    ### BEGIN SOLUTION
    if not temperature >= 0:
        raise ValueError(f"the temperature is {temperature}; it must be 0 or more")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}; at least one token must stay")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; it must be above 0 and at most 1")
    order = np.argsort(-logits, axis=-1, kind="stable")  # likeliest first, equals by index
    ranked = np.take_along_axis(logits, order, axis=-1)
    if (ranked[..., :1] == -np.inf).any():
        raise ValueError("a row of logits is -inf throughout: no token is allowed there")
    most = 1 if temperature == 0 else top_k
    with np.errstate(over="ignore"):  # a difference over a tiny temperature may become -inf, and that is right
        ranked = (ranked - ranked[..., :1]) / (temperature or 1)
    weights = np.exp(ranked)
    if most is not None:
        weights[..., most:] = 0
    chances = weights / weights.sum(axis=-1, keepdims=True)
    if top_p is not None and top_p < 1:
        ahead = np.cumsum(chances, axis=-1) - chances  # of those before it, so nothing is ahead of the first
        chances = np.where(ahead < top_p, chances, 0)
        chances = chances / chances.sum(axis=-1, keepdims=True)
    out = np.empty_like(chances)
    np.put_along_axis(out, order, chances, axis=-1)
    return out
    ### END SOLUTION


# %% check="sampling_distribution"
check("08_generative_decoder.sampling_distribution")

# %% demo="sampling_distribution"
with demo("sampling_distribution"):
    logits = 2 * np.random.default_rng(8).normal(size=1000)
    for temperature in (0.5, 1.0, 2.0):
        for top_k, top_p in ((None, None), (50, None), (None, 0.9), (50, 0.9)):
            chances = sampling_distribution(logits, temperature, top_k, top_p)
            kept, best = np.count_nonzero(chances), chances.max()
            knobs = f"temperature {temperature}, top-k {top_k}, top-p {top_p}"
            print(f"{knobs}: {kept} tokens stay, the best has {best:.1%}")

# %% [markdown]
# ## 6. Attention with a cache
#
# A decoder that writes token by token would read everything again for each token. `cached_attention` keeps the keys and
# values of what was read, so that a new token costs one row.
#
# `cached_attention(query, key, value, cache, parents)` returns `(output, cache)`: one head of causal attention for a
# *chunk* of new tokens, and what the next call will need.
#
# - `query` and `key` are `(batch, new, dim)`, `value` is `(batch, new, width)`: the new tokens, at least one, in order.
#   `output` is `(batch, new, width)`, in their type, float32 or float64.
# - A new token looks at all tokens before this chunk, at those of the chunk that come before it, and at itself; never
#   ahead. Weights are the softmax of dot products over the square root of `dim`. Large scores do not overflow.
# - `cache` is `None` at the start, later whatever you returned before. What it holds is up to you. An old one **stays
#   good**: two different continuations may start from the same cache.
# - `parents` is for beam search: row `b` of this call continues row `parents[b]` of the cache. Rows may repeat, drop
#   out, and become more or fewer; `batch` is their new number. `None` means row by row. Without a cache it is ignored.
# - However the tokens are cut into chunks, the outputs are those of one pass over all of them.
#
# By hand: `dim` and `width` are 1. The first token has query 0, key 0, value 2: it sees itself, output 2. The second
# has query 1, key `ln 3`, value 6: its scores are `0` and `ln 3`, its weights `1/4` and `3/4`, its output 5.


# %% answer="cached_attention"
def cached_attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    cache: object | None = None,
    parents: np.ndarray | None = None,
) -> tuple[np.ndarray, object]:
    """Causal attention of new tokens over all tokens so far, and the cache from which the next chunk goes on.

    query and key (batch, new, dim), value (batch, new, width), parents int (batch,): which row of the cache
    each row continues -> output (batch, new, width), cache.
    """
    ### BEGIN SOLUTION
    if cache is not None:
        keys, values = cache
        if parents is not None:
            keys, values = keys[parents], values[parents]
        key, value = np.concatenate([keys, key], axis=1), np.concatenate([values, value], axis=1)
    total, new = key.shape[1], query.shape[1]
    scores = query @ key.swapaxes(1, 2) / query.shape[2] ** 0.5  # batch, new, total
    visible = np.arange(total) <= np.arange(total - new, total)[:, None]
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    return weights / weights.sum(axis=2, keepdims=True) @ value, (key, value)
    ### END SOLUTION


# %% check="cached_attention"
check("08_generative_decoder.cached_attention")

# %% demo="cached_attention"
with demo("cached_attention"):
    import time

    rng = np.random.default_rng(8)
    for tokens in (64, 128, 256, 512):
        query, key, value = rng.normal(size=(3, 1, tokens, 32)).astype(np.float32)
        start = time.perf_counter()
        again = [cached_attention(query[:, :n], key[:, :n], value[:, :n])[0][:, -1:] for n in range(1, tokens + 1)]
        middle = time.perf_counter()
        cache, once = None, []
        for n in range(tokens):
            output, cache = cached_attention(query[:, n : n + 1], key[:, n : n + 1], value[:, n : n + 1], cache)
            once.append(output)
        end = time.perf_counter()
        gap = np.abs(np.concatenate(again, axis=1) - np.concatenate(once, axis=1)).max()
        times = f"all again {1e3 * (middle - start):7.1f} ms, cached {1e3 * (end - middle):6.1f} ms"
        print(f"{tokens:3} tokens, {times}, largest difference {gap:.0e}")

# %% [markdown]
# ### Your code in the recommender
#
# The reference recommender is trained on a small world, then your code takes over: it gives the items their IDs,
# searches the beam and reads histories event by event. A bigram matrix sounds too poor for a Transformer. It is not:
# let every *beginning of an ID* be a token of its own, and the matrix can hold any model. This takes some ten seconds.


# %% demo="cached_attention"
def write_items() -> None:
    """IDs, trie, beam and cache of a trained decoder: yours against the reference's."""
    residual_quantise(np.zeros((1, 1)), [np.zeros((1, 1))])  # all answers are there: now training is worth it
    assign_ids(np.zeros((1, 1), int), 1)
    allowed_tokens(np.zeros((1, 1), int), np.zeros((1, 0), int), 1)
    beam_search(np.zeros((2, 2)), [[1]], 1)
    sampling_distribution(np.zeros(2))
    cached_attention(*np.zeros((3, 1, 1, 1)))

    import torch

    from m6rec_mini.content import ContentConfig
    from m6rec_mini.datasets.world import WorldConfig, make_world
    from m6rec_mini.decoder import DecoderConfig
    from m6rec_mini.encoders import EncoderConfig
    from m6rec_mini.evaluation import leave_one_out
    from m6rec_mini.fusion import FusionConfig
    from m6rec_mini.generation import TrieTensors, id_log_likelihood
    from m6rec_mini.generation import beam_search as reference_beam
    from m6rec_mini.model import ModelConfig
    from m6rec_mini.recipe import Recipe, train_model
    from m6rec_mini.scoring import read
    from m6rec_mini.semantic_ids import ResidualQuantiser, Trie
    from m6rec_mini.training import LoopConfig

    world = make_world(WorldConfig(items=200, users=100))
    split = leave_one_out(world.catalog.interactions)
    sizes = (8, 8, 64)
    loop, off = LoopConfig(epochs=4, batch=32, learning_rate=3e-3, warm_up=5), LoopConfig(epochs=0)
    recipe = Recipe(
        ContentConfig(vocab=800, text_length=32),
        ModelConfig(
            EncoderConfig(dim=32, layers=1, heads=2, tokens=1),
            FusionConfig(dim=32, heads=2, queries=3),
            DecoderConfig(dim=32, layers=2, heads=2, events=20, code_sizes=sizes),
            identities=False,
        ),
        encoder_loop=off, decoder_loop=loop, writing_loop=loop, prior=False,
    )  # fmt: skip
    found = train_model(world.catalog, split, recipe)
    model, catalogue = found.model.requires_grad_(False), found.catalogue
    vectors = model.content_vectors(catalogue.tokens, catalogue.present)

    quantiser = ResidualQuantiser.fit(vectors.numpy(), sizes[:-1], np.random.default_rng(0))
    codes, _, errors = residual_quantise(vectors.numpy(), list(quantiser.levels))
    spread = ((vectors - vectors.mean(0)) ** 2).sum(1).mean().item()
    print(f"Your codes: {np.mean(codes == quantiser.encode(vectors.numpy())):.1%} equal to the reference's;", end=" ")
    print("left of the variance after each level", (errors.mean(axis=0) / spread).round(2))
    yours = assign_ids(codes, spare=sizes[-1])
    different, collided = len(np.unique(yours, axis=0)), np.mean(yours[:, -1] > 0)
    print(f"Your IDs: {different} of {len(yours)} different, {collided:.0%} collided")

    ids = catalogue.ids.numpy()
    trie = Trie.build(ids, sizes)
    allowed = allowed_tokens(ids, np.zeros((1, 0), int), max(sizes))[0, : sizes[0]]
    print("Your first mask is the trie's root:", bool((allowed == (trie.tables[0][0] >= 0)).all()))

    # Every beginning of an ID becomes one token; the matrix then holds this decoder, for this user.
    history = split.test.histories[0]
    batch = read(model, [history], "cpu")
    events = model.embed(vectors, batch)
    states = model.decoder(events)
    tensors, ends = TrieTensors.of(trie), torch.tensor([[states.shape[1] - 1]])
    names = {(): 0}
    for row in ids.tolist():
        for level in range(1, len(sizes) + 1):
            names.setdefault(tuple(row[:level]), len(names))
    step = np.full((len(names), len(names)), -np.inf)
    node = {(): 0}
    for level, table in enumerate(trie.tables):
        begun = sorted(node)
        written = torch.tensor(begun, dtype=torch.long).reshape(len(begun), 1, level)
        grown = model.decoder.grow(
            states.expand(len(begun), -1, -1), ends.expand(len(begun), -1), model.decoder.embed_codes(written)
        )
        logits = model.decoder.code_logits(grown[:, 0, -1], level)
        chances = tensors.log_probs(logits, torch.tensor([node[begin] for begin in begun]), level).numpy()
        after = {}
        for begin, row in zip(begun, chances, strict=True):
            for code in np.flatnonzero(table[node[begin]] >= 0).tolist():
                step[names[begin], names[(*begin, code)]] = row[code]
                after[(*begin, code)] = int(table[node[begin], code])
        node = after
    step[[names[tuple(row)] for row in ids.tolist()], 0] = 0  # a complete ID ends for certain
    valid = [[names[tuple(row[:level])] for level in range(1, len(sizes) + 1)] for row in ids.tolist()]
    item_of = {tuple(path): item for item, path in enumerate(valid)}

    exact = id_log_likelihood(model.decoder, states, catalogue.ids, tensors).numpy()
    order = np.argsort(-exact, kind="stable")[:10].tolist()
    for width in (10, 20, 200):
        mine = beam_search(step, valid, width)
        items = [item_of[tuple(tokens)] for tokens, _ in mine]
        caches = model.decoder.prefill(events, batch.lengths)[1]
        theirs = reference_beam(model.decoder, caches, tensors, width)[0][0].tolist()
        hit, same = len({*items[:10]} & {*order}), len({*items} & {*theirs})
        print(f"Your beam, width {width:3}: {hit:2} of the exact top ten;", end=" ")
        print(f"{same} of {len(theirs)} items are the reference's too")
    for temperature in (0.3, 1.0):
        chances = sampling_distribution(exact.astype(float), temperature, top_p=0.9)
        kept = np.count_nonzero(chances)
        print(f"To draw an item at temperature {temperature}, top-p 0.9 keeps {kept} of {len(ids)}")

    class YourAttention(torch.nn.Module):
        """The layer's weights with your code; heads are rows of the batch, and the cache is yours."""

        def __init__(self, layer: torch.nn.Module) -> None:
            super().__init__()
            self.layer, self.memory = layer, None

        def forward(self, x: torch.Tensor, **_: object) -> torch.Tensor:
            layers = (self.layer.query, self.layer.key, self.layer.value)
            parts = [self.layer.split(layer(x))[0].numpy() for layer in layers]
            mixed, self.memory = cached_attention(*parts, self.memory, None)  # heads, new, width
            return self.layer.out(torch.from_numpy(mixed).transpose(0, 1).flatten(1)[None])

    for block in model.decoder.blocks:
        block.attention = YourAttention(block.attention)
    stepwise = torch.cat([model.decoder(events[:, n : n + 1]) for n in range(events.shape[1])], dim=1)
    print(f"{events.shape[1] - 1} events read one by one through your cache: largest difference", end=" ")
    print(f"to the reference's single pass {float((stepwise - states).abs().max()):.0e}")


with demo(
    "residual_quantise", "assign_ids", "allowed_tokens", "beam_search", "sampling_distribution", "cached_attention"
):
    write_items()
