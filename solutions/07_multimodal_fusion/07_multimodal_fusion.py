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
# # 7 · Multimodal fusion
#
# *"Your items have text, a picture and a sound, and some of them lack one or two. Do you concatenate the
# vectors, or do you attend over them? What does your model do when the picture is missing, and how do you
# bring the modalities into one space?"*
#
# Read the [lesson](../../lessons/07_multimodal_fusion.md) first, or try the questions cold as in an interview.
# Write each answer in its cell, run the check below it, read the card, mend, run again. You need NumPy only,
# until the very last cell. An answer may call those before it.
#
# Shapes are written as in NumPy: `(..., queries, dim)` has any number of batch axes in front, none included.
# Batch axes broadcast against each other. Arrays are float32 or float64, and what you return has the type
# of what you were given. No argument is ever changed.

# %%
import numpy as np

from m6rec_mini.course import check, demo

# %% [markdown]
# ## 1. Masked attention weights
#
# `attention_weights(query, key, mask)` says how much each query looks at each key.
#
# - `query` is `(..., queries, dim)`, `key` is `(..., keys, dim)`, with `dim` at least 1.
# - The score of a pair is its dot product over the square root of `dim`. Each row of weights is the softmax
#   of that query's scores over the keys.
# - `mask` is boolean and broadcasts to `(..., queries, keys)`: `True` where a query **may** look.
#   `None` means everywhere.
# - A masked key gets exactly 0. Whatever it holds, NaN and infinity included, changes nothing.
# - A query that may look at nothing gets a row of zeros, not NaN and not an even spread.
# - Scores may be as large as the type allows: nothing overflows.
# - No keys at all give an array of shape `(..., queries, 0)`.
#
# By hand: `dim` is 4, so scores are halved. The query `[2, 0, 0, 0]` and keys that start with `0`, `ln 2` and
# `ln 5` (zeros after) have scores `0, ln 2, ln 5`. Their exponentials are `1, 2, 5`, so the weights are
# `[1/8, 2/8, 5/8]`. With the third key masked they are `[1/3, 2/3, 0]`.


# %% answer="attention_weights"
def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """How much each query looks at each key.

    query (..., queries, dim), key (..., keys, dim), mask bool (..., queries, keys) or None
    -> (..., queries, keys), in the type of query and key; a row that may see nothing is all zeros.
    """
    ### BEGIN SOLUTION
    scores = query @ np.swapaxes(key, -1, -2) / query.shape[-1] ** 0.5
    visible = np.broadcast_to(True if mask is None else mask, scores.shape)
    scores = np.where(visible, scores, -np.inf)
    # Starting from the lowest number instead of -inf, a row that sees nothing has a maximum to subtract.
    highest = scores.max(axis=-1, keepdims=True, initial=np.finfo(scores.dtype).min)
    weights = np.exp(scores - highest)
    # The largest of them is 1, so only the sum of a row that sees nothing is below 1: it stays zeros.
    return weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1)
    ### END SOLUTION


# %% check="attention_weights"
check("07_multimodal_fusion.attention_weights")

# %% demo="attention_weights"
with demo("attention_weights"):
    import matplotlib.pyplot as plt

    rng = np.random.default_rng(7)
    key, query = rng.normal(size=(6, 16)), rng.normal(size=(3, 16))
    masks = {"all three modalities": [1, 1, 1, 1, 1, 1], "no picture": [1, 1, 0, 0, 1, 1]}
    maps = {name: attention_weights(query, key, np.array(mask, bool)) for name, mask in masks.items()}
    figure, both = plt.subplots(1, 2, figsize=(8, 2.4), layout="constrained")
    for axes, (name, weights) in zip(both, maps.items(), strict=True):
        axes.imshow(weights, vmin=0, vmax=1, cmap="cividis")
        axes.set(title=name, ylabel="query", yticks=range(3), xticks=range(6))
        axes.set_xticklabels(["text", "text", "picture", "picture", "sound", "sound"], rotation=30)

# %% [markdown]
# ## 2. Multi-head cross-attention
#
# `cross_attention(query, key, value, w_query, w_key, w_value, w_out, heads, mask)` is the whole layer, without
# biases. Queries come from one place, keys and values from another.
#
# - `query` is `(..., queries, dim)`, `key` is `(..., keys, key_dim)`, `value` is `(..., keys, value_dim)`.
# - Project first: `w_query` is `(dim, inner)`, `w_key` is `(key_dim, inner)`, `w_value` is
#   `(value_dim, inner_value)`. Then head `h` of `heads` owns the `h`-th block of **consecutive** columns.
# - Each head attends as in question 1, scaled by the width of a head. The heads' results stand side by side
#   again, in order, and are multiplied by `w_out`, which is `(inner_value, out)`.
#   The result is `(..., queries, out)`.
# - `mask` broadcasts to `(..., queries, keys)` and holds for every head: shape `(keys,)`, `(queries, keys)`,
#   `(batch, 1, keys)` are all possible. A query that may look at nothing gets a row of zeros.
# - `ValueError` if `heads` is less than 1 or does not divide `inner` and `inner_value`.
#
# By hand, with every weight matrix the identity, two heads of width 1, and one query `[1, 0]` over the keys
# `[0, 0]` and `[ln 3, 9]` with values `[0, 0]` and `[8, 8]`: head 0 has scores `0, ln 3`, hence weights
# `1/4, 3/4` and the result `6`. Head 1 has scores `0, 0`, hence `1/2, 1/2` and `4`. The result is `[[6, 4]]`.


# %% answer="cross_attention"
def cross_attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    w_query: np.ndarray,
    w_key: np.ndarray,
    w_value: np.ndarray,
    w_out: np.ndarray,
    heads: int,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Multi-head attention of queries over keys and values that come from elsewhere.

    query (..., queries, dim), key (..., keys, key_dim), value (..., keys, value_dim),
    w_query (dim, inner), w_key (key_dim, inner), w_value (value_dim, inner_value), w_out (inner_value, out),
    mask bool (..., queries, keys) or None -> (..., queries, out). Raises ValueError if heads do not fit.
    """
    ### BEGIN SOLUTION
    if heads < 1 or w_query.shape[1] % heads or w_value.shape[1] % heads:
        widths = f"{w_query.shape[1]} and {w_value.shape[1]}"
        raise ValueError(f"{heads} heads cannot share widths of {widths}: give a number that divides both")

    def split(x: np.ndarray) -> np.ndarray:
        """(..., tokens, inner) -> (..., heads, tokens, width)."""
        return np.swapaxes(x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads), -2, -3)

    if mask is not None:
        mask = np.atleast_2d(mask)[..., None, :, :]  # an axis for the heads, which all see the same
    weights = attention_weights(split(query @ w_query), split(key @ w_key), mask)
    mixed = np.swapaxes(weights @ split(value @ w_value), -2, -3)  # ..., queries, heads, width
    return mixed.reshape(*mixed.shape[:-2], w_value.shape[1]) @ w_out
    ### END SOLUTION


# %% check="cross_attention"
check("07_multimodal_fusion.cross_attention")

# %% [markdown]
# ## 3. Fusion with missing modalities
#
# `fuse_modalities(query, tokens, present)` makes one block of vectors per item from whatever the item has.
#
# - `query` is `(queries, dim)`: learned vectors, the same for all items.
# - `tokens` maps a modality's name to its tokens, `(items, tokens of this modality, dim)`. Modalities may
#   have different numbers of tokens.
# - `present` maps the same names, **in any order**, to a boolean array `(items,)`: does this item have it?
# - Each query attends over the tokens of all modalities that the item has, as in question 1. Tokens are keys
#   and values alike; there are no projections. The result is `(items, queries, dim)`.
# - A missing modality is as good as never mentioned. What its rows hold, NaN included, changes nothing.
# - The order in which modalities are listed changes nothing.
# - An item without a single token to look at is refused: `ValueError`, and the message names the rows
#   of all such items.
#
# By hand, with the query `[[0, 0]]`, which looks at all tokens alike: an item with the text token `[2, 4]` and
# no picture gives `[[2, 4]]`. A zero vector in the picture's place would have voted, and made it `[[1, 2]]`.


# %% answer="fuse_modalities"
def fuse_modalities(query: np.ndarray, tokens: dict[str, np.ndarray], present: dict[str, np.ndarray]) -> np.ndarray:
    """What learned queries find in the modalities that each item has.

    query (queries, dim), tokens {name: (items, tokens, dim)}, present {name: bool (items,)}
    -> (items, queries, dim). Raises ValueError for items that have nothing.
    """
    ### BEGIN SOLUTION
    context = np.concatenate(list(tokens.values()), axis=1)  # items, all tokens, dim
    mask = np.concatenate(
        [np.broadcast_to(present[name][:, None], block.shape[:2]) for name, block in tokens.items()], axis=1
    )
    empty = np.flatnonzero(~mask.any(axis=1)).tolist()
    if empty:
        raise ValueError(f"items {empty} have no modality present; leave them out before fusion")
    context = np.where(mask[..., None], context, 0)  # a weight of 0 does not help against NaN: 0 * NaN is NaN
    return attention_weights(query, context, mask[:, None]) @ context
    ### END SOLUTION


# %% check="fuse_modalities"
check("07_multimodal_fusion.fuse_modalities")

# %% demo="fuse_modalities"
with demo("fuse_modalities"):
    rng = np.random.default_rng(7)
    text, picture = rng.normal(size=(200, 2, 8)), rng.normal(size=(200, 2, 8))
    query, has = rng.normal(size=(1, 8)), {"text": np.ones(200, bool), "picture": np.zeros(200, bool)}
    masked = fuse_modalities(query, {"text": text, "picture": picture}, has)
    voting = fuse_modalities(query, {"text": text, "picture": 0 * picture}, dict.fromkeys(has, has["text"]))
    kept = np.linalg.norm(voting, axis=-1).mean() / np.linalg.norm(masked, axis=-1).mean()
    print(f"A picture of zeros that votes leaves {kept:.0%} of the fused vector's length; a mask leaves all of it.")

# %% [markdown]
# ## 4. Symmetric InfoNCE and its gradient
#
# `info_nce(a, b, temperature)` aligns two modalities: row `i` of `a` and row `i` of `b` are the same item.
#
# - `a` and `b` are `(pairs, dim)`. Bring every row to length 1. A row of zeros stays as it is.
# - The logits are all cosines over `temperature`, `(pairs, pairs)`: rows are `a`, columns are `b`.
# - The loss is the mean of two cross-entropies, each a mean over the pairs: each row must find its own column,
#   each column its own row.
# - Return `(loss, gradient)`. `loss` is a number; `gradient` is the derivative of the loss by each of the
#   logits, `(pairs, pairs)`, in the type of the inputs.
# - Temperatures like 0.001 must work: no overflow, and no probability that is rounded to 0 before its
#   logarithm is taken.
# - `ValueError` for a temperature that is not positive, for shapes that differ, and for no pairs.
#
# By hand: `a` and `b` are both the 2 × 2 identity, the temperature is 1. Each softmax is over `1` and `0`, so each
# pair is found with probability `p = e / (e + 1) = 0.7311`. The loss is `-ln p = 0.3133`. The gradient is
# `(p - 1) / 2 = -0.1345` on the diagonal (half of it from the row, half from the column) and `(1 - p) / 2` beside it.


# %% answer="info_nce"
def info_nce(a: np.ndarray, b: np.ndarray, temperature: float) -> tuple[float, np.ndarray]:
    """The symmetric contrastive loss of pairs, and its gradient by the logits.

    a (pairs, dim), b (pairs, dim), temperature > 0 -> loss, gradient (pairs, pairs).
    Raises ValueError for shapes that differ, no pairs, or a temperature that is not positive.
    """
    ### BEGIN SOLUTION
    if a.shape != b.shape or len(a) == 0:
        raise ValueError(f"need as many rows of a as of b, and at least one; got shapes {a.shape} and {b.shape}")
    if not temperature > 0:
        raise ValueError(f"the temperature is {temperature}; it must be positive")

    def unit(x: np.ndarray) -> np.ndarray:
        length = np.linalg.norm(x, axis=1, keepdims=True)
        return x / np.maximum(length, np.finfo(x.dtype).tiny)  # zeros stay zeros

    def log_softmax(logits: np.ndarray, axis: int) -> np.ndarray:
        shifted = logits - logits.max(axis=axis, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))

    logits = unit(a) @ unit(b).T / temperature
    by_row, by_column = log_softmax(logits, 1), log_softmax(logits, 0)
    loss = -(by_row + by_column).trace() / (2 * len(a))
    own = np.eye(len(a), dtype=logits.dtype)
    return float(loss), (np.exp(by_row) + np.exp(by_column) - 2 * own) / (2 * len(a))
    ### END SOLUTION


# %% check="info_nce"
check("07_multimodal_fusion.info_nce")

# %% demo="info_nce"
with demo("info_nce"):
    rng = np.random.default_rng(7)
    shared = rng.normal(size=(32, 16))
    a, b = (shared + 0.7 * rng.normal(size=shared.shape) for _ in range(2))
    for temperature in (0.01, 0.07, 0.3, 1.0):
        loss, gradient = info_nce(a, b, temperature)
        push = np.where(np.eye(32, dtype=bool), 0, gradient)
        hardest = push.max(1).sum() / push.sum()
        print(f"temperature {temperature:4}: loss {loss:6.3f}; the hardest negative gets {hardest:.0%} of the push")

# %% [markdown]
# ## 5. Who deserves the credit?
#
# You have two recommenders, one that concatenates and one that attends. Which modality does each of them
# really use? Attention weights do not say: a token may be looked at and then ignored. Hiding one modality at a
# time does not say either: if text and picture tell the same, hiding either changes nothing, and both look
# useless. Shapley's answer: let the modalities arrive one after the other, in every possible order, and give
# each the mean of what it adds when it comes.
#
# `modality_credit(scores, present)` does that, exactly.
#
# - `scores` is `(2 ** modalities, items)`. Row `s` holds the items' scores when just the modalities of the set
#   `s` are shown: modality `m` is in `s` if bit `m` of `s` is set, `s >> m & 1`. Row 0 is with nothing shown.
# - `present` is boolean, `(items, modalities)`: what the item has at all.
# - The result is `(items, modalities)` in float64: the credit, NaN where the item lacks the modality.
# - A missing modality never arrives. Rows of `scores` that would show it are meaningless and may hold NaN.
# - An item's credits therefore add up to its score with all it has, less its score with nothing. An item
#   without any modality gets NaN throughout.
# - `ValueError` if `scores` has not `2 ** modalities` rows, or not a column for each item.
#
# By hand, with text (bit 0) and picture (bit 1) and scores `[0, 6, 2, 10]`: if text comes first it adds 6, if
# second `10 - 2 = 8`, so its credit is 7. The picture's is `(2 + 4) / 2 = 3`. Together 10.


# %% answer="modality_credit"
def modality_credit(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Shapley's share of each modality in each item's score.

    scores (2 ** modalities, items), present bool (items, modalities) -> (items, modalities), NaN where missing.
    Raises ValueError if the shapes do not belong together.
    """
    ### BEGIN SOLUTION
    from itertools import permutations

    items, modalities = present.shape
    if scores.shape != (2**modalities, items):
        raise ValueError(f"scores have shape {scores.shape}; {modalities} modalities need {(2**modalities, items)}")
    credit = np.full((items, modalities), np.nan)
    for item, has in enumerate(present):
        there = np.flatnonzero(has).tolist()
        orders = list(permutations(there))
        credit[item, there] = 0
        for order in orders:
            shown = 0
            for modality in order:
                more = shown + (1 << modality)
                credit[item, modality] += (scores[more, item] - scores[shown, item]) / len(orders)
                shown = more
    return credit
    ### END SOLUTION


# %% check="modality_credit"
check("07_multimodal_fusion.modality_credit")

# %% [markdown]
# ### Your code in the recommender
#
# The reference recommender is trained twice on a small world, once with each kind of fusion. Then
# your `cross_attention` takes the place of its attention layer, and your `modality_credit` says what each kind
# of fusion lives on. This takes some ten seconds.


# %% demo="modality_credit"
def compare_fusions() -> None:
    """Both kinds of fusion on a small world, who uses what, and your attention in the reference's place."""
    modality_credit(np.zeros((2, 1)), np.ones((1, 1), bool))  # both answers are there: now training is worth it
    cross_attention(*[np.ones((1, 1))] * 7, 1)

    import torch

    from m6rec_mini.content import ContentConfig
    from m6rec_mini.datasets.world import WorldConfig, make_world
    from m6rec_mini.decoder import DecoderConfig
    from m6rec_mini.encoders import EncoderConfig
    from m6rec_mini.evaluation import leave_one_out, target_ranks, top_items
    from m6rec_mini.fusion import FusionConfig
    from m6rec_mini.model import ModelConfig
    from m6rec_mini.recipe import Recipe, train_model
    from m6rec_mini.scoring import Scorer, last_states
    from m6rec_mini.training import LoopConfig

    world = make_world(WorldConfig(items=200, users=100))
    split = leave_one_out(world.catalog.interactions)
    histories = split.test.histories

    def trained(kind):
        """A recommender without IDs or counts, so that all it knows is in the fused vectors."""
        off = LoopConfig(epochs=0)
        recipe = Recipe(
            ContentConfig(vocab=800, text_length=32),
            ModelConfig(
                EncoderConfig(dim=32, layers=1, heads=2, tokens=1),
                FusionConfig(kind, dim=32, heads=2, queries=3),
                DecoderConfig(dim=32, layers=1, heads=2, events=20, code_sizes=(8, 8, 64)),
                identities=False,
            ),
            decoder_loop=LoopConfig(epochs=6, batch=32, learning_rate=3e-3, warm_up=5, average=0.9),
            encoder_loop=off, writing_loop=off, prior=False,
        )  # fmt: skip
        return train_model(world.catalog, split, recipe)

    class YourAttention(torch.nn.Module):
        """The layer's weights with your code; its biases become one more input that is always 1."""

        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, query, context, mask):
            parts = (self.layer.query, self.layer.key, self.layer.value)
            matrices = [torch.cat([part.weight.T, part.bias[None]]).numpy() for part in parts]
            inputs = [np.pad(x, ((0, 0), (0, 0), (0, 1)), constant_values=1) for x in (query, context, context)]
            out, seen = self.layer.out.weight.T.numpy(), mask[:, 0].numpy()
            return (
                torch.from_numpy(cross_attention(*inputs, *matrices, out, self.layer.heads, seen)) + self.layer.out.bias
            )

    def scores_of_sets(model, catalogue, chosen):
        """The logit of each user's chosen item when its content is shown through each set of modalities."""
        spans, tokens, present = model.encoders.spans.values(), catalogue.tokens[chosen], catalogue.present[chosen]
        vectors = model.content_vectors(catalogue.tokens, catalogue.present)
        states = last_states(model, vectors, histories) * model.logit_scale
        table = np.empty((2 ** len(spans), len(chosen)))
        for shown in range(len(table)):
            seen = present.clone()
            for bit, span in enumerate(spans):
                seen[:, span] &= bool(shown >> bit & 1)
            some = seen.any(1)  # nothing shown: no better guess than the mean item
            items = vectors.mean(0).repeat(len(chosen), 1)
            items[some] = model.content_vectors(tokens[some], seen[some])
            table[shown] = (items * states).sum(1).numpy()
        return table, torch.stack([present[:, span].any(1) for span in spans], 1).numpy()

    for kind in ("concatenation", "attention"):
        found = trained(kind)
        found.model.requires_grad_(False)
        scorer = Scorer(found.model, found.catalogue, None, split.train.item_counts)
        scores = scorer.decoder(histories)
        hits = target_ranks(scores, split.test.targets, histories) <= 10
        about = f"{hits.mean():.2f} ± {hits.std() / len(hits) ** 0.5:.2f} on {len(hits)} users of a made-up world"
        print(f"{kind}: HR@10 {about}")
        chosen = top_items(scores, histories, 1)[:, 0]
        looked = scorer.attention(chosen)
        table, present = scores_of_sets(found.model, found.catalogue, chosen)
        credit = modality_credit(table, present)
        for bit, name in enumerate(found.model.encoders.spans):
            hidden = table[-1] - table[len(table) - 1 - (1 << bit)]
            line = f"credit {np.nanmean(credit[:, bit]):5.2f}   fall when hidden {hidden[present[:, bit]].mean():5.2f}"
            print(f"  {name:5}", line, f"  attention {looked[name][present[:, bit]].mean():4.0%}" if looked else "")
    found.model.fusion.attention = YourAttention(found.model.fusion.attention)
    yours = Scorer(found.model, found.catalogue, None, split.train.item_counts).decoder(histories)
    same = np.mean(top_items(yours, histories, 10) == top_items(scores, histories, 10))
    print(f"With your cross_attention in its place: {same:.1%} of the places in the top tens hold the same item.")


with demo("cross_attention", "modality_credit"):
    compare_fusions()
