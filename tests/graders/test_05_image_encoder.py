"""Grader of chapter 5: convolution, receptive field, batch norm, residual block, pooling over uneven sizes.

The oracles follow the definitions, number by number; worked examples are derived in comments.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from m6rec_mini.course.answers import Answer, Object
from m6rec_mini.course.expect import array, close, finite, numpy_of, plain, refuses, require, same, unchanged, zero
from m6rec_mini.course.grader import Law, Question, given, hidden, points, teaches

SEEDS, TYPES = st.integers(0, 30), st.sampled_from([np.float64, np.float32])
LIBRARIES = ("torch.nn", "torch.conv", "torch.batch_norm", ".conv2d", "scipy")


def noise(seed: int, *shape: int, dtype: type = np.float64) -> np.ndarray:
    """The same normal numbers each time, short enough to read."""
    return np.random.default_rng(seed).normal(size=shape).round(1).astype(dtype)


# ---- pictures -----------------------------------------------------------------------------------


def maps(got: np.ndarray, want: np.ndarray, note: str) -> str:
    """A wrong map next to the right one: blue above zero, orange below, black where not a number."""
    if got.shape == want.shape and np.allclose(got, want):
        return ""
    side, top, parts, left = 30, 22, [], 0
    most = max(float(np.abs(want).max()), 1e-9)
    for title, shown in ((f"yours, {got.shape}", got), (f"right, {want.shape}", want)):
        parts.append(f'<text x="{left}" y="14" font-weight="bold">{title}</text>')
        for (row, column), x in np.ndenumerate(shown):
            good = bool(np.isfinite(x))
            colour, shade = ("#0072b2" if x >= 0 else "#d55e00") if good else "#000", abs(x) / most if good else 1.0
            parts.append(
                f'<rect x="{left + column * side}" y="{top + row * side}" width="{side}" height="{side}" '
                f'fill="{colour}" fill-opacity="{min(shade, 1.0):.2f}" stroke="#767f89"/>'
                f'<text x="{left + (column + 0.5) * side}" y="{top + 4 + (row + 0.5) * side}" text-anchor="middle" '
                f'fill="{"#fff" if shade > 0.7 else "#000"}">{x:.3g}</text>'
            )
        left += max(shown.shape[1] * side, 90) + 30
    height = top + max(len(got), len(want)) * side + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{max(left, 6 * len(note))}" height="{height}" '
        f'font-family="sans-serif" font-size="11" role="img" aria-label="your map beside the right one">'
        f'{"".join(parts)}<text x="0" y="{height - 6}">{note}</text></svg>'
    )


def map_of(value: object) -> np.ndarray:
    """The first map of the first item, whatever axes came out."""
    found = numpy_of(value).astype(float)
    require(found.size <= 200, "too large to draw")
    return np.atleast_2d(found[0, 0] if found.ndim == 4 else np.squeeze(found))


def draw_edges(answer: Answer, law: Law) -> str:
    """A bright square, and where it starts and ends from left to right."""
    picture, kernel = np.zeros((1, 1, 5, 5)), np.array([[[[0.0, 0, 0], [-1, 1, 0], [0, 0, 0]]]])
    picture[0, 0, 1:4, 1:4] = 1
    got = map_of(answer.conv2d(picture, kernel, None, 1, 1))
    note = "a bright square of 3 x 3 under the kernel [-1, 1, 0], padding 1"
    return maps(got, conv_of(picture, kernel, None, 1, 1)[0, 0], note)


def draw_pool(answer: Answer, law: Law) -> str:
    """A map of which 3 rows and 5 columns are real."""
    features = np.full((1, 1, 4, 6), 9.0)
    features[0, 0, :3, :5] = np.arange(15).reshape(3, 5)
    sizes = np.array([[3, 5]])
    got = map_of(answer.masked_average_pool(features, sizes, 2))
    note = "rows 0 to 4, 5 to 9, 10 to 14, in padding of 9s; a grid of 2 x 2 cells"
    return maps(got, pool_of(features, sizes, 2)[0, 0], note)


# ---- 1. conv2d ----------------------------------------------------------------------------------

CONV = Question(
    "conv2d",
    "Convolution",
    section="convolution",
    hints=(
        "Do one output number first: which pixels, which weights, how many sums? Then the loops around it.",
        "Set the zeros around the picture first. Result (y, x) then looks at the window that starts at (y · stride, "
        "x · stride). Multiply it with a kernel, sum over channels, rows and columns. The formula counts the windows.",
        "Check, pad the last two axes, make an array of zeros for the result, loop over y and x: cut the window "
        "(items, channels, rows, columns), and sum its products with each kernel over the last three axes. Or take all "
        "windows at once by sliding_window_view, every stride-th of them. The bias needs two more axes behind it.",
    ),
    forbidden=LIBRARIES,
    draw=draw_edges,
)


def conv_of(images: np.ndarray, kernels: np.ndarray, bias: Any, stride: int, padding: int) -> np.ndarray:
    """The definition, one product at a time; what lies outside the picture is left out of the sum."""
    items, channels, height, width = images.shape
    outputs, _, rows, columns = kernels.shape
    shape = [(size + 2 * padding - kernel) // stride + 1 for size, kernel in ((height, rows), (width, columns))]
    out = np.zeros((items, outputs, *shape))
    for i, o, y, x in np.ndindex(*out.shape):
        out[i, o, y, x] = 0 if bias is None else bias[o]
        for c, a, b in np.ndindex(channels, rows, columns):
            down, across = y * stride + a - padding, x * stride + b - padding
            if 0 <= down < height and 0 <= across < width:
                out[i, o, y, x] += float(images[i, c, down, across]) * float(kernels[o, c, a, b])
    return out


@points(1, CONV)
@teaches("A result is the sum of the products of the kernel and the pixels beneath it. The kernel is not flipped.")
def test_two_windows_by_hand(answer: Answer) -> None:
    image, kernel = np.array([[[[1.0, 2, 3], [4, 5, 6]]]]), np.array([[[[1.0, 0], [0, 2]]]])
    # 1·1 + 2·5 and 1·2 + 2·6
    close(answer.conv2d(image, kernel, None, 1, 0), np.array([[[[11.0, 14]]]]), "the result")
    close(answer.conv2d(image, kernel), np.array([[[[11.0, 14]]]]), "without bias, stride and padding, the result")
    turned = kernel[:, :, ::-1, ::-1].copy()  # 2·1 + 1·5 and 2·2 + 1·6
    close(answer.conv2d(image, turned, None, 1, 0), np.array([[[[7.0, 10]]]]), "with the kernel turned, the result")


@points(1, CONV)
@teaches("Each output sums over all channels, with weights of its own for each. Rows and columns may differ in number.")
@given(examples=10, seed=SEEDS, channels=st.integers(1, 3), outputs=st.integers(1, 3), size=st.integers(1, 6))
def test_channels_are_summed(answer: Answer, seed: int, channels: int, outputs: int, size: int) -> None:
    rows, columns = 1 + size % 2, 1 + size % 3
    images, kernels = noise(seed, 2, channels, 3, 4), noise(seed + 50, outputs, channels, rows, columns)
    what = f"for {channels} channels and kernels of {rows} x {columns}, the result"
    close(answer.conv2d(images, kernels, None, 1, 0), conv_of(images, kernels, None, 1, 0), what)


@points(1, CONV)
@teaches("The kernel moves by `stride`, and only as long as it lies wholly inside: what is left over is not looked at.")
@given(examples=10, seed=SEEDS, stride=st.integers(2, 4), size=st.integers(3, 7))
def test_stride_moves_the_kernel(answer: Answer, seed: int, stride: int, size: int) -> None:
    images, kernels = noise(seed, 1, 2, size, 6), noise(seed + 50, 2, 2, 2, 3)
    got = answer.conv2d(images, kernels, None, stride, 0)
    close(got, conv_of(images, kernels, None, stride, 0), f"for sides {size} and 6 and stride {stride}, the result")


@points(1, CONV)
@teaches("Padding sets zeros on each side of the picture, left and right, above and below, and not on other axes.")
@given(examples=10, seed=SEEDS, padding=st.integers(1, 3), stride=st.integers(1, 3), kernel=st.integers(1, 3))
def test_padding_is_zeros_all_round(answer: Answer, seed: int, padding: int, stride: int, kernel: int) -> None:
    images, kernels = 3 + noise(seed, 1, 2, 3, 4), noise(seed + 50, 1, 2, kernel, 2)
    got = answer.conv2d(images, kernels, None, stride, padding)
    close(got, conv_of(images, kernels, None, stride, padding), f"with padding {padding}, stride {stride}, the result")


@points(1, CONV)
@teaches("A bias belongs to an output channel, and is added everywhere in its map: beyond the picture's edge too.")
@given(examples=6, seed=SEEDS, outputs=st.integers(1, 3), padding=st.integers(0, 1))
def test_a_bias_for_each_output(answer: Answer, seed: int, outputs: int, padding: int) -> None:
    images, kernels = noise(seed, 3, 1, 3, 3), noise(seed + 50, outputs, 1, 1, 1)  # maps as wide as there are outputs
    bias = np.arange(1.0, outputs + 1) * 10
    got = answer.conv2d(images, kernels, bias, 1, padding)
    close(got, conv_of(images, kernels, bias, 1, padding), f"with the bias {bias}, the result")


@points(1, CONV)
@teaches("What makes no sense is refused with ValueError; a kernel as large as the padded picture still fits, once.")
def test_what_does_not_fit_is_refused(answer: Answer) -> None:
    images, kernels = noise(1, 1, 2, 3, 4), noise(2, 1, 2, 3, 4)
    for padding in (0, 1):
        got = answer.conv2d(images, kernels, None, 1, padding)
        close(got, conv_of(images, kernels, None, 1, padding), "for a kernel as large as the picture, the result")
    for rows, columns in ((4, 1), (1, 4)):  # longer than the picture's other side
        images, kernels = noise(3, 1, 1, rows, columns), noise(4, 1, 1, rows - rows // 4, columns - columns // 4)
        got = answer.conv2d(images, kernels, None, 1, 0)
        close(got, conv_of(images, kernels, None, 1, 0), f"for a picture of {rows} x {columns}, the result")
    images, kernels = noise(1, 1, 2, 3, 4), noise(2, 1, 2, 3, 4)
    refuses(answer.conv2d, images, noise(2, 1, 2, 4, 4), None, 1, 0, what="a kernel that is one row too tall")
    refuses(answer.conv2d, images, noise(2, 1, 2, 3, 7), None, 1, 1, what="a kernel that is one column too wide")
    for channels in (1, 3):
        refuses(answer.conv2d, images, noise(2, 1, channels, 2, 2), None, 1, 0, what=f"2 channels against {channels}")
    for stride, padding in ((0, 0), (-1, 0), (1, -1)):
        refuses(
            answer.conv2d,
            images,
            kernels[..., :1, :1],
            None,
            stride,
            padding,
            what=f"stride {stride}, padding {padding}",
        )


@points(1, CONV)
@hidden
@teaches("float32 in, float32 out. No items give no maps, and no argument is changed.")
@given(examples=6, kind=TYPES, biased=st.booleans())
def test_types_and_no_images(answer: Answer, kind: type, biased: bool) -> None:
    images, kernels = noise(1, 2, 2, 4, 4, dtype=kind), noise(2, 3, 2, 3, 3, dtype=kind)
    bias = noise(3, 3, dtype=kind) if biased else None
    got = answer.conv2d(images, kernels, bias, 2, 1)
    unchanged(answer)
    array(got, (2, 3, 2, 2), kind, "the result")
    close(got, conv_of(images, kernels, bias, 2, 1), "the result", like=images)
    array(answer.conv2d(images[:0], kernels, bias, 1, 0), (0, 3, 2, 2), what="for no items, the result")


# ---- 2. receptive_field -------------------------------------------------------------------------

FIELD = Question(
    "receptive_field",
    "Receptive field",
    section="field",
    hints=(
        "Draw the two layers of the worked example as rows of dots, and the lines from one output down.",
        "Go from the input up, with two numbers: how wide is the field so far, and how far apart are the fields of two "
        "neighbours. A kernel adds its reach, counted in steps between neighbours.",
        "Start with size 1 and jump 1. Each layer adds (kernel - 1) · dilation · jump to the size; then the jump is "
        "multiplied by the stride. In this order: a stride is felt by later layers only.",
    ),
)
LAYER = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 4))


def seen_by(layers: list[tuple[int, int, int]], output: int) -> set[int]:
    """The input pixels that an output depends on, traced back from the top."""
    pixels = {output}
    for kernel, stride, dilation in reversed(layers):
        pixels = {pixel * stride + place * dilation for pixel in pixels for place in range(kernel)}
    return pixels


def field_of(layers: list[tuple[int, int, int]]) -> list[int]:
    """Size and jump, from the pixels of two neighbours."""
    first, second = seen_by(layers, 0), seen_by(layers, 1)
    return [max(first) - min(first) + 1, min(second) - min(first)]


def check_field(answer: Answer, layers: list[tuple[int, int, int]], want: list[int], what: str) -> None:
    """Two whole numbers, in a tuple, a list or an array."""
    got = plain(answer.receptive_field(layers))
    require(isinstance(got, tuple | list) and len(got) == 2, f"{what}: a pair (size, jump) is wanted", got, tuple(want))
    require(all(type(x) is int for x in got), f"{what}: size and jump count pixels, so they are integers", got)
    for name, x, y in zip(("the size", "the jump"), got, want, strict=True):
        same(x, y, f"{what}: {name}")


@points(1, FIELD)
@teaches("A kernel adds its width, less one, in steps of the jump so far. A stride widens the steps of all after it.")
def test_two_layers_by_hand(answer: Answer) -> None:
    check_field(answer, [(3, 2, 1)], [3, 2], "for one layer")
    check_field(answer, [(3, 2, 1), (3, 1, 1)], [7, 2], "for two layers")  # 0, 2, 4, and two more pixels
    check_field(answer, [(3, 1, 1), (3, 1, 1)], [5, 1], "for two layers without stride")


@points(1, FIELD)
@teaches("A stride is felt by the layers after it, not by its own kernel: so the order of the layers matters.")
@given(
    examples=15, layers=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3), st.just(1)), min_size=1, max_size=4)
)
def test_strides_multiply(answer: Answer, layers: list[tuple[int, int, int]]) -> None:
    check_field(answer, layers, field_of(layers), f"for {layers}")


@points(1, FIELD)
@teaches("Dilation sets the places of a kernel further apart. It adds no place, and does not change the jump.")
@given(examples=15, kernels=st.lists(st.integers(1, 4), min_size=1, max_size=3), dilation=st.integers(2, 5))
def test_dilation_spreads_the_kernel(answer: Answer, kernels: list[int], dilation: int) -> None:
    layers = [(kernel, 1, dilation**place) for place, kernel in enumerate(kernels, start=1)]
    check_field(answer, layers, field_of(layers), f"for {layers}")


@points(1, FIELD)
@teaches("Without layers an output is an input pixel. A 1-wide kernel sees no more, but its stride still counts.")
def test_no_layers_and_points(answer: Answer) -> None:
    check_field(answer, [], [1, 1], "without layers")
    check_field(answer, [(1, 1, 7)], [1, 1], "for a single point")
    check_field(answer, [(1, 3, 1), (2, 1, 1)], [4, 3], "for a point of stride 3 and a pair")


@points(1, FIELD)
@teaches("A kernel, stride or dilation below 1 is no layer, wherever it stands: ValueError.")
@given(examples=10, place=st.integers(0, 2), which=st.integers(0, 2), bad=st.sampled_from([0, -1]))
def test_what_is_no_layer_is_refused(answer: Answer, place: int, which: int, bad: int) -> None:
    layers = [(3, 2, 1), (1, 1, 1), (2, 1, 2)]
    check_field(answer, layers, field_of(layers), f"for {layers}")
    layers[place] = tuple(bad if n == which else x for n, x in enumerate(layers[place]))
    refuses(answer.receptive_field, layers, what=f"the layers {layers}")


@points(1, FIELD)
@hidden
@teaches("Kernels, strides and dilations together; deep stacks have exact, large numbers.")
@given(examples=15, layers=st.lists(LAYER, min_size=2, max_size=4))
def test_everything_together(answer: Answer, layers: list[tuple[int, int, int]]) -> None:
    check_field(answer, layers, field_of(layers), f"for {layers}")
    deep = [(2, 2, 1)] * 60  # size 1 + 1 + 2 + 4 + … = 2^60, jump 2^60
    check_field(answer, deep, [2**60, 2**60], "for sixty halvings")


# ---- 3. batch_norm ------------------------------------------------------------------------------

NORM = Question(
    "batch_norm",
    "Batch norm",
    section="norm",
    hints=(
        "Two modes, two questions in each: whose mean and variance normalise, and what becomes of the running ones?",
        "Mean and variance per channel: over every axis but axis 1, however many there are. One variance divides by n, "
        "for the output; another by n - 1, for the running statistics.",
        "axes = all but 1. In training take mean and variance over axes, normalise by the biased one, and mix "
        "n / (n - 1) times it into the running one with weight momentum. Reshape all of shape (channels,) to "
        "(channels, 1, …, 1) with ndim - 2 ones before it meets x. eps stands under the root.",
    ),
    forbidden=(*LIBRARIES, ".batch_norm"),
)


def norm_of(x: np.ndarray, others: list[np.ndarray], training: bool, momentum: float, eps: float) -> list[np.ndarray]:
    """Channel by channel, with the variances of Python's `statistics`."""
    gamma, beta, running_mean, running_var = others
    out, new_mean, new_var = np.zeros(x.shape), running_mean.astype(float), running_var.astype(float)
    for c in range(x.shape[1]):
        mean, var, values = float(running_mean[c]), float(running_var[c]), x[:, c].astype(float).ravel().tolist()
        if training:
            new_mean[c] += momentum * (statistics.fmean(values) - mean)
            new_var[c] += momentum * (statistics.variance(values) - var)
            mean, var = statistics.fmean(values), statistics.pvariance(values)
        out[:, c] = gamma[c] * (x[:, c] - mean) / math.sqrt(var + eps) + beta[c]
    return [out, new_mean, new_var]


def parameters(seed: int, channels: int, dtype: type = np.float64) -> list[np.ndarray]:
    """gamma, beta, running_mean, running_var."""
    gamma, beta, mean, var = noise(seed + 70, 4, channels, dtype=dtype)
    return [gamma, beta, mean, np.abs(var) + dtype(0.5)]


def three(value: Any) -> tuple[Any, Any, Any]:
    """Whatever holds three things."""
    good = isinstance(value, tuple | list) and len(value) == 3
    require(good, "three results are wanted: output, new running mean, new running variance", value)
    return value[0], value[1], value[2]


def check_norm(
    answer: Answer, x: np.ndarray, others: list[np.ndarray], *rest: Any, what: str, parts: str = "abc"
) -> None:
    """The output (a), the running mean (b) and the running variance (c), or some of them."""
    got = three(answer.batch_norm(x, *others, *rest))
    names = ("output", "new running mean", "new running variance")
    for letter, name, found, want in zip("abc", names, got, norm_of(x, others, *rest), strict=True):
        if letter in parts:
            close(found, want, f"{what}, the {name}", like=x)


@points(1, NORM)
@teaches("In training a batch is normalised by its own mean and its own biased variance, then scaled and shifted.")
def test_two_items_by_hand(answer: Answer) -> None:
    one = np.ones(1)
    got = three(answer.batch_norm(np.array([[1.0], [3]]), 2 * one, 5 * one, 0 * one, one, True, 0.1, 0.0))
    close(got[0], np.array([[3.0], [7]]), "the output")  # mean 2, deviation 1: -1 and 1, doubled, plus 5
    close(got[1], np.array([0.2]), "the new running mean")
    close(got[2], np.array([1.1]), "the new running variance")  # 0.9 · 1 + 0.1 · 2


@points(1, NORM)
@teaches("Each channel has one mean and one variance: over the items and over all places, however many axes there are.")
@given(examples=15, seed=SEEDS, channels=st.integers(1, 4), places=st.sampled_from([(), (3,), (2, 3), (2, 1, 2)]))
def test_statistics_of_a_channel(answer: Answer, seed: int, channels: int, places: tuple[int, ...]) -> None:
    x = noise(seed, 4, channels, *places) + 10 * np.arange(channels).reshape(-1, *[1] * len(places))
    check_norm(answer, x, parameters(seed, channels), True, 0.1, 1e-3, what=f"for x of shape {x.shape}", parts="a")


@points(1, NORM)
@teaches("Running statistics move by `momentum` towards the batch, whose variance there divides by n - 1, not by n.")
@given(examples=12, seed=SEEDS, items=st.integers(2, 4), momentum=st.sampled_from([0.0, 0.1, 0.3, 1.0]))
def test_running_statistics(answer: Answer, seed: int, items: int, momentum: float) -> None:
    for x in (noise(seed, items, 2) * 3 + 1, noise(seed, items, 2, 2) + 4):
        what = f"for momentum {momentum} and x of shape {x.shape}"
        check_norm(answer, x, parameters(seed, 2), True, momentum, 1e-5, what=what)


@points(1, NORM)
@teaches("Evaluation uses the running statistics and leaves them alone: an item's result depends on nobody else.")
@given(examples=10, seed=SEEDS, items=st.integers(0, 4), places=st.sampled_from([(), (2, 3)]))
def test_evaluation_ignores_the_batch(answer: Answer, seed: int, items: int, places: tuple[int, ...]) -> None:
    x, others = 5 + noise(seed, 5, 3, *places), parameters(seed, 3)
    check_norm(answer, x, others, False, 0.1, 1e-3, what="in evaluation")
    check_norm(answer, x[:items], others, False, 0.1, 1e-3, what=f"in evaluation, for {items} items")


@points(1, NORM)
@teaches("eps is added to the variance, under the root. A channel that never changes then gives beta, not NaN.")
@given(examples=8, seed=SEEDS, eps=st.sampled_from([1e-5, 0.1, 4.0]))
def test_eps_is_under_the_root(answer: Answer, seed: int, eps: float) -> None:
    x, others = noise(seed, 3, 2), parameters(seed, 2)
    x[:, 0] = 0.5
    finite(three(answer.batch_norm(x, *others, True, 0.1, eps))[0], "the output for a channel that never changes")
    check_norm(answer, x, others, True, 0.1, eps, what=f"for eps {eps}", parts="a")
    others[3] *= 0
    check_norm(answer, x, others, False, 0.1, eps, what=f"for eps {eps} and running variances of 0", parts="a")
    rest, want = (True, 0.1, 1e-5), norm_of(x * 1e-3, others, True, 0.1, 1e-5)
    got = three(answer.batch_norm(x * 1e-3, *others, rest[0]))
    for found, right, name in zip(got, want, ("output", "new running mean", "new running variance"), strict=True):
        close(found, right, f"with momentum and eps not given (0.1, 1e-5), the {name}")


@points(1, NORM)
@teaches(
    "Take the mean off before you square. The mean of squares less the squared mean drowns in rounding far from 0."
)
@given(examples=6, seed=SEEDS, far=st.sampled_from([1e6, -1e6, 1e7]))
def test_far_from_zero(answer: Answer, seed: int, far: float) -> None:
    x, others = far + np.round(10 * noise(seed, 6, 2)), parameters(seed, 2)
    others[2] += far
    check_norm(answer, x, others, True, 0.1, 1e-5, what=f"for values near {far:g}")


@points(1, NORM)
@teaches("A channel with one value has no variance: refuse it in training, and only there.")
def test_one_value_has_no_variance(answer: Answer) -> None:
    others = parameters(1, 2)
    for shape in ((1, 2), (1, 2, 1, 1), (0, 2), (0, 2, 3)):
        refuses(answer.batch_norm, np.ones(shape), *others, True, 0.1, 1e-5, what=f"x of shape {shape} in training")
    check_norm(answer, noise(2, 1, 2), others, False, 0.1, 1e-5, what="for one item in evaluation")
    check_norm(answer, noise(2, 1, 2, 2), others, True, 0.1, 1e-5, what="for one item with two places in training")
    check_norm(answer, noise(2, 2, 2), others, True, 0.1, 1e-5, what="for two items in training")


@points(1, NORM)
@hidden
@teaches(
    "All three results have the type of x, and no argument is changed: running statistics come back as new arrays."
)
@given(examples=6, kind=TYPES, training=st.booleans(), flat=st.booleans())
def test_types_and_arguments(answer: Answer, kind: type, training: bool, flat: bool) -> None:
    x, others = noise(4, *((5, 3) if flat else (2, 3, 2, 2)), dtype=kind), parameters(5, 3, kind)
    got = three(answer.batch_norm(x, *others, training, 0.1, 1e-5))
    unchanged(answer)
    names = ("output", "new running mean", "new running variance")
    for found, want, name in zip(got, norm_of(x, others, training, 0.1, 1e-5), names, strict=True):
        array(found, want.shape, kind, f"the {name}")
        close(found, want, f"the {name}", like=x)


# ---- 4. ResidualBlock ---------------------------------------------------------------------------

BLOCK = Question(
    "ResidualBlock",
    "Residual block",
    section="residual",
    hints=(
        "Write the two ways through the block beside each other. Their shapes must agree where they meet.",
        "The branch is conv1, norm1, ReLU, conv2, norm2. ReLU comes once more, after the sum. The shortcut is the "
        "input, or project and project_norm where channels or sides change.",
        "3 x 3 convolutions with padding 1, bias=False; stride in conv1 and in project, which is 1 x 1. Fill "
        "norm2.weight with zeros in __init__. Make project and project_norm only if inputs != outputs or stride != 1. "
        "Do not use in-place operations on x.",
    ),
    forbidden=("torchvision", "torch.hub", "timm"),
    seconds=20.0,
)
State = dict[str, torch.Tensor]


def made(answer: Answer, *sizes: int) -> Object:
    """An object of the learner's class."""
    block = answer.ResidualBlock(*sizes)
    require(isinstance(block, Object), "`ResidualBlock(…)` should make a module of your class", block)
    return block


def state_of(inputs: int, outputs: int, stride: int, seed: int, dtype: torch.dtype = torch.float32) -> State:
    """Weights for a block, by the names of the contract."""
    convs = {"conv1": (outputs, inputs, 3, 3), "conv2": (outputs, outputs, 3, 3)}
    norms = ["norm1", "norm2"]
    if inputs != outputs or stride != 1:
        convs, norms = convs | {"project": (outputs, inputs, 1, 1)}, [*norms, "project_norm"]
    rng = np.random.default_rng(seed)
    state = {f"{name}.weight": rng.normal(size=shape) / 2 for name, shape in convs.items()}
    for name in norms:
        for part in ("weight", "bias", "running_mean"):
            state[f"{name}.{part}"] = rng.normal(size=outputs)
        state[f"{name}.running_var"] = 0.5 + rng.random(outputs)
    counts = {f"{name}.num_batches_tracked": torch.tensor(0) for name in norms}
    return {name: torch.tensor(value.round(2), dtype=dtype) for name, value in state.items()} | counts


def slide(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """A convolution as a sum of shifted pictures, with padding that keeps the side."""
    side = weight.shape[-1]
    edge = side // 2
    wide = x.new_zeros(*x.shape[:2], x.shape[2] + 2 * edge, x.shape[3] + 2 * edge)
    wide[:, :, edge : edge + x.shape[2], edge : edge + x.shape[3]] = x
    down, across = -(-x.shape[2] // stride), -(-x.shape[3] // stride)
    parts = [
        torch.einsum(
            "ncyx,oc->noyx", wide[:, :, a:, b:][:, :, ::stride, ::stride][:, :, :down, :across], weight[:, :, a, b]
        )
        for a, b in np.ndindex(side, side)
    ]
    return torch.stack(parts).sum(0)


def normal(x: torch.Tensor, state: State, name: str, training: bool) -> torch.Tensor:
    """Batch norm by its definition."""
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training:
        mean = x.mean((0, 2, 3))
        var = (x - mean[:, None, None]).square().mean((0, 2, 3))
    scaled = (x - mean[:, None, None]) / (var + 1e-5).sqrt()[:, None, None]
    return scaled * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]


def block_of(x: torch.Tensor, state: State, stride: int, training: bool) -> torch.Tensor:
    """The block by its definition, in double precision."""
    state = {name: value.double() for name, value in state.items()}
    inner = normal(slide(x, state["conv1.weight"], stride), state, "norm1", training)
    branch = normal(slide(inner.clamp(min=0), state["conv2.weight"], 1), state, "norm2", training)
    if "project.weight" in state:
        x = normal(slide(x, state["project.weight"], stride), state, "project_norm", training)
    return (branch + x).clamp(min=0)


def inputs_of(seed: int, *shape: int) -> torch.Tensor:
    """A batch of maps."""
    return torch.tensor(noise(seed, *shape), dtype=torch.float32)


def agrees(got: Any, want: torch.Tensor, what: str) -> None:
    """Equal up to the rounding of a few hundred float32 products."""
    found = array(got, tuple(want.shape), what=what).astype(float)
    right = want.detach().numpy()
    worst = float(np.abs(found - right).max(initial=0.0)) if np.isfinite(found).all() else math.inf
    require(
        worst <= 1e-4 * max(1.0, float(np.abs(right).max(initial=0.0))),
        f"{what} is off by up to {worst:.3g}",
        got,
        right,
    )


@points(1, BLOCK)
@teaches("A new block is its shortcut and nothing else: norm2 starts at 0. ReLU comes after the sum, once.")
def test_a_new_block_is_its_shortcut(answer: Answer) -> None:
    for mode in ("train", "eval"):
        block = made(answer, 1, 1)
        getattr(block, mode)()
        got = block(torch.tensor([[[[-1.0, 2.0]]]]))
        close(got, np.array([[[[0.0, 2.0]]]]), f"in mode {mode}, a new block of [-1, 2]")
    block, x = made(answer, 3, 3), inputs_of(2, 2, 3, 4, 5)
    close(block(x), x.clamp(min=0), "a new block of x is relu(x), so the result")


@points(1, BLOCK)
@teaches("Conv, norm, ReLU, conv, norm; add the input; ReLU. Nothing between the second norm and the sum.")
@given(examples=6, seed=SEEDS, channels=st.integers(1, 3))
def test_the_branch_is_added_to_the_input(answer: Answer, seed: int, channels: int) -> None:
    block, state = made(answer, channels, channels), state_of(channels, channels, 1, seed)
    block.load_state_dict(state)
    block.eval()
    x = inputs_of(seed, 2, channels, 3, 4)
    agrees(
        block(x), block_of(x.double(), state, 1, False), f"for {channels} channels, loaded weights, in eval, the result"
    )


@points(1, BLOCK)
@teaches("Where channels or sides change, the shortcut is a 1 × 1 convolution with the same stride, then its own norm.")
@given(examples=8, seed=SEEDS, sizes=st.sampled_from([(2, 3, 1), (2, 3, 2), (2, 2, 2), (3, 1, 2), (1, 2, 3)]))
def test_a_projection_where_shapes_change(answer: Answer, seed: int, sizes: tuple[int, int, int]) -> None:
    inputs, _, stride = sizes
    block, state = made(answer, *sizes), state_of(*sizes, seed)
    block.load_state_dict(state)
    block.eval()
    x = inputs_of(seed, 2, inputs, 4 + seed % 2, 5)
    agrees(
        block(x),
        block_of(x.double(), state, stride, False),
        f"for ResidualBlock{sizes}, x {tuple(x.shape)}, the result",
    )


@points(1, BLOCK)
@teaches("It has the parts that the contract names and no others: no bias before a norm, no projection without need.")
@given(examples=5, sizes=st.sampled_from([(2, 2, 1), (2, 3, 1), (2, 2, 2), (4, 1, 2)]))
def test_parts_and_their_shapes(answer: Answer, sizes: tuple[int, int, int]) -> None:
    got, want = made(answer, *sizes).state_dict(), state_of(*sizes, 0)
    require(isinstance(got, dict), "`state_dict()` should give the weights by name", got)
    less, more = sorted(set(want) - set(got)), sorted(set(got) - set(want))
    about = f"ResidualBlock{sizes}"
    require(
        not less and not more, f"{about} lacks {less or 'nothing'} and has {more or 'nothing'} that it should not have"
    )
    for name, value in want.items():
        array(got[name], tuple(value.shape), what=f"{about}: {name}")
    zero(got["norm2.weight"], what=f"{about}: norm2.weight of a new block")
    close(got["norm1.weight"], np.ones(sizes[1]), f"{about}: norm1.weight of a new block")


@points(1, BLOCK)
@teaches("train() normalises by the batch and moves the running statistics; eval() uses them and leaves them alone.")
@given(examples=6, seed=SEEDS, sizes=st.sampled_from([(2, 2, 1), (2, 3, 2)]))
def test_training_and_evaluation(answer: Answer, seed: int, sizes: tuple[int, int, int]) -> None:
    block, state, x = made(answer, *sizes), state_of(*sizes, seed), inputs_of(seed, 3, 2, 4, 4)
    block.load_state_dict(state)
    agrees(block(x), block_of(x.double(), state, sizes[2], True), "a new block is in training; its result")
    after = block.state_dict()
    first = slide(x, state["conv1.weight"], sizes[2])
    values = first.transpose(0, 1).flatten(1)
    for part, batch in (("mean", values.mean(1)), ("var", values.var(1))):
        name = f"norm1.running_{part}"
        agrees(after[name], (0.9 * state[name] + 0.1 * batch).double(), f"after one step of training, {name}")
    block.eval()
    agrees(block(x), block_of(x.double(), after, sizes[2], False), "then in eval, the result")
    for name, value in block.state_dict().items():
        same(value, after[name], f"{name} after a call in eval")
    block.train()
    agrees(block(x), block_of(x.double(), state, sizes[2], True), "and in train again, the result")


@points(1, BLOCK)
@teaches("The gradient comes down both ways, and down the shortcut whole: that is what survives depth.")
@given(examples=6, seed=SEEDS, sizes=st.sampled_from([(2, 2, 1), (2, 3, 2), (1, 2, 1)]), training=st.booleans())
def test_gradients_come_down_both_ways(answer: Answer, seed: int, sizes: tuple[int, int, int], training: bool) -> None:
    new, x = made(answer, 2, 2), 1 + inputs_of(seed, 2, 2, 3, 3).abs()
    pull = inputs_of(seed + 9, 2, 2, 3, 3)
    _, (gradient,) = new.vjp(x, cotangent=pull)
    require(gradient is not None, "no gradient reaches the input: was it detached, or computed without grad?")
    close(gradient, pull, "a new block with positive input passes the gradient down whole; what came down")
    block, state = made(answer, *sizes), state_of(*sizes, seed)
    block.load_state_dict(state)
    (block.train if training else block.eval)()
    x = inputs_of(seed, 2, sizes[0], 4, 4)
    exact = x.double().requires_grad_()
    want = block_of(exact, state, sizes[2], training)
    pull = inputs_of(seed + 9, *want.shape)
    output, (gradient,) = block.vjp(x, cotangent=pull)
    require(gradient is not None, "no gradient reaches the input: was it detached, or computed without grad?")
    agrees(output, want, "the result")
    agrees(
        gradient, torch.autograd.grad(want, exact, pull.double())[0], f"for ResidualBlock{sizes}, the input's gradient"
    )


@points(1, BLOCK)
@hidden
@teaches("The input is left as it was, float64 stays float64, and in evaluation each item is on its own.")
@given(examples=4, seed=SEEDS, sizes=st.sampled_from([(2, 2, 1), (2, 3, 2)]))
def test_the_input_and_its_type_are_kept(answer: Answer, seed: int, sizes: tuple[int, int, int]) -> None:
    block, state = made(answer, *sizes), state_of(*sizes, seed, torch.float64)
    block.double()
    block.load_state_dict(state)
    block.eval()
    x = inputs_of(seed, 2, 2, 5, 3).double()
    got = block(x)
    unchanged(answer)
    want = block_of(x, state, sizes[2], False)
    array(got, tuple(want.shape), torch.float64, "the result")
    close(got, want, "in float64, the result")
    close(block(x[:1]), want[:1], "for the first item alone, the result")


# ---- 5. masked_average_pool ---------------------------------------------------------------------

POOL = Question(
    "masked_average_pool",
    "Average pooling for pictures of uneven sizes",
    section="pooling",
    hints=(
        "Solve it for one item, with its own rows and columns, as if the padding had been cut off. Then loop.",
        "A cell is a block of rows by a block of columns. Both ends come from the item's own size, by whole-number "
        "division, the start rounded down and the end rounded up. Then take the plain mean of the block.",
        "Check the sizes. Start with zeros of shape (items, channels, side, side). For each item that has rows and "
        "columns, for each i and j: rows from i·rows // side to ceil((i+1)·rows / side), columns likewise, mean over "
        "both axes. ceil(a / b) is -(-a // b).",
    ),
    forbidden=(*LIBRARIES, ".adaptive_avg_pool2d", ".AdaptiveAvgPool2d"),
    draw=draw_pool,
)


def cells_of(real: int, side: int, cell: int) -> list[int]:
    """The pixels whose stretch of the line overlaps that of a cell."""
    return [pixel for pixel in range(real) if pixel * side < (cell + 1) * real and (pixel + 1) * side > cell * real]


def pool_of(features: np.ndarray, sizes: np.ndarray, side: int) -> np.ndarray:
    """Cell by cell, from the pixels that overlap it."""
    out = np.zeros((*features.shape[:2], side, side))
    for n, c, i, j in np.ndindex(*out.shape):
        down, across = (cells_of(int(real), side, cell) for real, cell in zip(sizes[n], (i, j), strict=True))
        values = [float(features[n, c, y, x]) for y in down for x in across]
        out[n, c, i, j] = statistics.fmean(values) if values else 0.0
    return out


@st.composite
def padded(draw: Callable, smallest: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Maps in padding of 50s, and their sizes."""
    sizes = np.array(draw(st.lists(st.tuples(*[st.integers(smallest, 5)] * 2), min_size=1, max_size=3)))
    features = np.full((len(sizes), 2, 6, 7), 50.0)
    values = noise(draw(SEEDS), *features.shape)
    for n, (rows, columns) in enumerate(sizes):
        features[n, :, :rows, :columns] = values[n, :, :rows, :columns]
    return features, sizes


@points(1, POOL)
@teaches("Each cell gives the mean of the real values in it; where the size does not divide, neighbours share a row.")
def test_one_map_by_hand(answer: Answer) -> None:
    features, sizes = np.array([[[[1.0, 2, 3], [4, 5, 6], [9, 9, 9]]]]), np.array([[2, 3]])
    close(answer.masked_average_pool(features, sizes, 1), np.array([[[[3.5]]]]), "with side 1, the result")
    want = np.array([[[[1.5, 2.5], [4.5, 5.5]]]])  # rows 0 and 1; columns 0-1 and 1-2
    close(answer.masked_average_pool(features, sizes, 2), want, "with side 2, the result")


@points(1, POOL)
@teaches("With side 1, the default, it is global average pooling: each channel's mean over what is real, nothing else.")
@given(examples=12, maps=padded())
def test_global_average_of_what_is_real(answer: Answer, maps: tuple[np.ndarray, np.ndarray]) -> None:
    close(
        answer.masked_average_pool(*maps), pool_of(*maps, 1), f"for sizes {maps[1].tolist()} without side, the result"
    )


@points(1, POOL)
@teaches("Cells are cut from each item's own size, not from the padded map: start rounded down, end rounded up.")
@given(examples=15, maps=padded(2), side=st.integers(2, 3))
def test_cells_follow_the_items_own_size(answer: Answer, maps: tuple[np.ndarray, np.ndarray], side: int) -> None:
    got = answer.masked_average_pool(*maps, side)
    close(got, pool_of(*maps, side), f"for sizes {maps[1].tolist()} and side {side}, the result")


@points(1, POOL)
@teaches("A map smaller than the grid still fills every cell: neighbours then repeat a row or a column.")
@given(examples=8, rows=st.integers(1, 2), columns=st.integers(1, 5), side=st.integers(3, 5))
def test_maps_smaller_than_the_grid(answer: Answer, rows: int, columns: int, side: int) -> None:
    features, sizes = noise(rows, 1, 2, 3, 5), np.array([[rows, columns]])
    got = finite(answer.masked_average_pool(features, sizes, side), "the result")
    close(got, pool_of(features, sizes, side), f"for a map of {rows} x {columns} and side {side}, the result")


@points(1, POOL)
@teaches("An item without rows or columns has no mean: zeros, not 0/0. The others are not touched by that.")
@given(examples=8, empty=st.sampled_from([(0, 0), (0, 3), (2, 0)]), place=st.integers(0, 2), side=st.integers(1, 2))
def test_nothing_to_pool_gives_zeros(answer: Answer, empty: tuple[int, int], place: int, side: int) -> None:
    features, sizes = noise(3, 3, 2, 4, 4), np.array([[3, 4], [2, 2], [1, 3]])
    sizes[place] = empty
    got = finite(answer.masked_average_pool(features, sizes, side), "the result")
    close(got, pool_of(features, sizes, side), f"for sizes {sizes.tolist()}, the result")
    zero(got[place], what=f"the result for an item of size {empty}")


@points(1, POOL)
@teaches("Sizes outside the map, the wrong number of them, and a grid without cells are refused with ValueError.")
def test_sizes_outside_the_map_are_refused(answer: Answer) -> None:
    features, whole = noise(4, 2, 1, 3, 4), np.array([[3, 4], [3, 4]])
    close(answer.masked_average_pool(features, whole, 2), pool_of(features, whole, 2), "for whole maps, the result")
    for bad in ([4, 4], [3, 5], [-1, 2], [2, -1]):
        for place in (0, 1):
            sizes = whole.copy()
            sizes[place] = bad
            refuses(answer.masked_average_pool, features, sizes, 2, what=f"a size of {bad} in a map of 3 x 4")
    for sizes in (whole[:1], np.vstack([whole, whole[:1]]), whole[:, :1], whole[0]):
        refuses(answer.masked_average_pool, features, sizes, 1, what=f"sizes of shape {sizes.shape} for 2 items")
    for side in (0, -1):
        refuses(answer.masked_average_pool, features, whole, side, what=f"side {side}")


@points(1, POOL)
@hidden
@teaches(
    "What stands in the padding is never read, NaN and infinity included. The type is kept; no items give no rows."
)
@given(examples=8, bad=st.sampled_from([np.nan, np.inf, -np.inf]), kind=TYPES, side=st.integers(1, 2))
def test_padding_is_never_read(answer: Answer, bad: float, kind: type, side: int) -> None:
    features, sizes = np.full((3, 2, 4, 5), bad, kind), np.array([[2, 3], [0, 4], [4, 1]])
    for n, (rows, columns) in enumerate(sizes):
        features[n, :, :rows, :columns] = noise(n, 2, rows, columns)
    got = answer.masked_average_pool(features, sizes, side)
    unchanged(answer)
    array(got, (3, 2, side, side), kind, "the result")
    close(got, pool_of(features, sizes, side), f"with {bad} in the padding, the result", like=features)
    none = answer.masked_average_pool(features[:0], sizes[:0], side)
    array(none, (0, 2, side, side), what="for no items, the result")
