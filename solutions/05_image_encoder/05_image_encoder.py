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
# # 5 · The image encoder
#
# *"Your item encoder is a ResNet. What does a convolution compute, how much of the picture does one output see,
# why does batch norm behave differently when you serve, and why can a residual network be deep where VGG cannot?"*
#
# Read the [lesson](../../lessons/05_image_encoder.md) first, or try the questions cold as in an interview.
# Write each answer in its cell, run the check below it, read the card, mend, run again. Question 4 needs PyTorch,
# the others NumPy only.
#
# Images are `(items, channels, height, width)`. Arrays are float32 or float64, and what you return has the type of
# what you were given. No argument is ever changed.

# %%
import numpy as np

from m6rec_mini.course import check, demo

# %% [markdown]
# ## 1. Convolution
#
# `conv2d(images, kernels, bias, stride, padding)` is the convolution of deep learning: a *cross-correlation*. The
# kernel is laid on the picture as it is, not flipped.
#
# - `images` is `(items, channels, height, width)`, `kernels` is `(outputs, channels, rows, columns)`. Kernels need
#   not be square. Each output sums over all channels and all places of its kernel.
# - `bias` is `(outputs,)`, added everywhere, or `None`.
# - First `padding` rows and columns of zeros are set on **each** side of the picture. The kernel starts in the upper
#   left corner of that and moves by `stride` both ways, as long as it lies wholly inside. So there are
#   `(height + 2 * padding - rows) // stride + 1` rows of results, and columns likewise.
# - `ValueError` if channels differ, if `stride` is below 1, if `padding` is below 0, or if the kernel is larger than
#   the padded picture.
# - No items at all give an array of shape `(0, outputs, …, …)`.
#
# By hand: one picture with one channel, `[[1, 2, 3], [4, 5, 6]]`, and the kernel `[[1, 0], [0, 2]]`. On the left it
# meets 1 and 5, `1 · 1 + 2 · 5 = 11`; one step to the right 2 and 6, `2 + 12 = 14`. The result is `[[11, 14]]`.


# %% answer="conv2d"
def conv2d(
    images: np.ndarray, kernels: np.ndarray, bias: np.ndarray | None = None, stride: int = 1, padding: int = 0
) -> np.ndarray:
    """Cross-correlate every image with every kernel.

    images (items, channels, height, width), kernels (outputs, channels, rows, columns), bias (outputs,) or None
    -> (items, outputs, new_height, new_width), in the type of the images.
    Raises ValueError for channels that differ, a kernel larger than the padded image, a stride below 1 and a
    padding below 0.
    """
    ### BEGIN SOLUTION
    if images.shape[1] != kernels.shape[1]:
        raise ValueError(f"images have {images.shape[1]} channels, kernels {kernels.shape[1]}; they must be the same")
    if stride < 1 or padding < 0:
        raise ValueError(f"stride is {stride} and padding {padding}; at least 1 and at least 0 are needed")
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows, columns = kernels.shape[2:]
    if rows > padded.shape[2] or columns > padded.shape[3]:
        raise ValueError(f"a kernel of {rows} x {columns} does not fit into {padded.shape[2]} x {padded.shape[3]}")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]  # items, channels, new_height, new_width, rows, columns
    out = np.moveaxis(np.tensordot(windows, kernels, axes=((1, 4, 5), (1, 2, 3))), 3, 1)
    return out if bias is None else out + bias[:, None, None]
    ### END SOLUTION


# %% check="conv2d"
check("05_image_encoder.conv2d")

# %% demo="conv2d"
with demo("conv2d"):
    import matplotlib.pyplot as plt

    from m6rec_mini.datasets.world import WorldConfig, make_world

    items = make_world(WorldConfig(items=100, users=20)).catalog.items
    picture = next(item.image for item in items if item.image is not None)
    grey = picture.mean(axis=2)[None, None] / 255
    sobel = np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    kernels = np.stack([sobel, sobel.T, np.ones((3, 3)) / 9])[:, None]
    edges = conv2d(grey, kernels, None, 1, 1)[0]
    figure, panels = plt.subplots(1, 4, figsize=(9, 2.5), layout="constrained")
    for axes, shown, title in zip(
        panels, [grey[0, 0], *edges], ["an item", "left to right", "top to bottom", "blurred"], strict=True
    ):
        axes.imshow(shown, cmap="gray")
        axes.set(title=title, xticks=[], yticks=[])

# %% [markdown]
# ## 2. Receptive field
#
# `receptive_field(layers)` says how much of the input one number behind a stack of layers can see.
#
# - `layers` is a sequence of `(kernel, stride, dilation)`, the first layer first. A pooling layer counts like a
#   convolution. With dilation `d` the places of a kernel are `d` apart.
# - Return `(size, jump)`, two integers. `size` is the number of input pixels, along one side, from the first to the
#   last that an output depends on, both included. `jump` is by how many input pixels the fields of two neighbouring
#   outputs are apart.
# - Padding changes neither. Without layers an output is an input: `(1, 1)`.
# - `ValueError` if any of the three numbers of a layer is below 1.
#
# By hand: a 3-wide kernel of stride 2 sees 3 pixels, and its outputs are 2 apart: `(3, 2)`. A second 3-wide kernel of
# stride 1 reads three of those, at 0, 2 and 4: that reaches from 0 to 4 + 2, which is 7 pixels, still 2 apart: `(7,
# 2)`.


# %% answer="receptive_field"
def receptive_field(layers: list[tuple[int, int, int]]) -> tuple[int, int]:
    """How many input pixels an output sees along one side, and how far apart two outputs see.

    layers: (kernel, stride, dilation) of each, from the input on -> (size, jump).
    Raises ValueError for a number below 1.
    """
    ### BEGIN SOLUTION
    size, jump = 1, 1
    for kernel, stride, dilation in layers:
        if min(kernel, stride, dilation) < 1:
            raise ValueError(f"kernel {kernel}, stride {stride}, dilation {dilation}: each must be at least 1")
        size += (kernel - 1) * dilation * jump
        jump *= stride
    return size, jump
    ### END SOLUTION


# %% check="receptive_field"
check("05_image_encoder.receptive_field")

# %% demo="receptive_field"
with demo("receptive_field"):
    conv, pool = (3, 1, 1), (2, 2, 1)
    vgg16 = [layer for convs in (2, 2, 3, 3, 3) for layer in [conv] * convs + [pool]]
    stages = [
        [(3, stride, 1), *[conv] * 3, *[conv] * (2 * extra)] for stride, extra in ((1, 1), (2, 2), (2, 4), (2, 1))
    ]
    resnet34 = [(7, 2, 1), (3, 2, 1), *[layer for stage in stages for layer in stage]]
    for name, layers in {
        "VGG-16": vgg16,
        "ResNet-34, longest path": resnet34,
        "dilated 1 2 4 8": [(3, 1, 2**n) for n in range(4)],
    }.items():
        size, jump = receptive_field(layers)
        print(f"{name:24} sees {size} pixels, every {jump}")

# %% [markdown]
# ## 3. Batch norm
#
# `batch_norm(x, gamma, beta, running_mean, running_var, training, momentum, eps)` returns three arrays: the output, the
# new running mean and the new running variance.
#
# - `x` is `(items, channels, ...)` with any number of further axes, none included. All others are `(channels,)`.
# - Each channel is normalised for itself: `gamma * (x - mean) / sqrt(var + eps) + beta`.
# - In training `mean` and `var` are those of this batch, over all axes but the channels. The variance is the **biased**
#   one, divided by the number `n` of values in a channel.
# - In training the running statistics move towards those of the batch: `(1 - momentum) * running + momentum * batch`.
#   There the variance is the **unbiased** one, divided by `n - 1`. PyTorch does the same. (Keras calls `1 - momentum`
#   the momentum.)
# - In evaluation `mean` and `var` are the running ones. They come back as they were, and an item gives the same result
#   alone or in any batch.
# - In training `ValueError` if a channel has fewer than two values. In evaluation any number will do, none included.
#
# By hand: one channel, `x = [[1], [3]]`, `gamma` 2, `beta` 5, `eps` 0. The mean is 2 and the biased variance 1, so the
# output is `[[3], [7]]`. With momentum 0.1, a running mean of 0 becomes 0.2. The unbiased variance is 2, so a running
# variance of 1 becomes `0.9 + 0.2 = 1.1`.


# %% answer="batch_norm"
def batch_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalise each channel, by its batch in training and by its running statistics in evaluation.

    x (items, channels, ...), the other arrays (channels,) -> output like x, new running mean, new running variance,
    all in the type of x. Raises ValueError in training for a channel with fewer than two values.
    """
    ### BEGIN SOLUTION
    mean, var, new_mean, new_var = running_mean, running_var, running_mean.copy(), running_var.copy()
    if training:
        count = x[:, 0].size
        if count < 2:
            raise ValueError(f"{count} value in a channel: a batch needs at least 2 to have a variance")
        axes = (0, *range(2, x.ndim))
        mean, var = x.mean(axis=axes), x.var(axis=axes)
        new_mean = (1 - momentum) * running_mean + momentum * mean
        new_var = (1 - momentum) * running_var + momentum * var * (count / (count - 1))
    shape = (len(gamma),) + (1,) * (x.ndim - 2)
    scale = gamma / np.sqrt(var + eps)
    return (x - mean.reshape(shape)) * scale.reshape(shape) + beta.reshape(shape), new_mean, new_var
    ### END SOLUTION


# %% check="batch_norm"
check("05_image_encoder.batch_norm")

# %% demo="batch_norm"
with demo("batch_norm"):
    rng = np.random.default_rng(0)
    mean, var, one, nil = np.zeros(3), np.ones(3), np.ones(3), np.zeros(3)
    for _ in range(60):
        batch = rng.normal([2.0, -1, 0], [3.0, 1, 0.5], size=(16, 3))
        out, mean, var = batch_norm(batch, one, nil, mean, var, True)
    alone = batch_norm(batch[:1], one, nil, mean, var, False)[0]
    print("running mean", mean.round(2), "  running deviation", np.sqrt(var).round(2))
    print("first item in its training batch", out[0].round(2))
    print("the same item, evaluated alone  ", alone[0].round(2))

# %% [markdown]
# ## 4. Residual block
#
# Now PyTorch. `ResidualBlock(inputs, outputs, stride)` is the basic block of He and others (2016): two 3 × 3
# convolutions, each followed by batch norm, added to a shortcut.
#
# - The branch is conv, norm, ReLU, conv, norm. The output is `relu(branch(x) + shortcut(x))`.
# - `stride` belongs to the first convolution. Each convolution has padding 1 and no bias (the norm has one), so the
#   side becomes `ceil(side / stride)`.
# - The shortcut is `x` itself if it has the shape of the branch, that is if `inputs == outputs` and `stride == 1`.
#   Otherwise, and only then, it is a 1 × 1 convolution with the stride and without bias, followed by batch norm.
# - Call the parts `conv1`, `norm1`, `conv2`, `norm2`, and where there is a projection `project` and `project_norm`.
#   These names stand in `state_dict()`, by which weights are loaded. The norms are like `nn.BatchNorm2d`, with its
#   defaults: `weight`, `bias`, `running_mean`, `running_var`, and a `training` mode that `train()` and `eval()` switch.
# - The weight of `norm2` starts at **0**, so that a new block is just `relu(shortcut(x))` (Goyal and others 2017).
# - The input is left as it was. The type is that of the parameters and the input.
#
# By hand: a new `ResidualBlock(1, 1)` in any mode turns `[-1, 2]` into `[0, 2]`, and the gradient that arrives at the
# 2 is passed down whole.

# %%
import torch
import torch.nn.functional as F  # noqa: F401  (for your answer, if you like)
from torch import Tensor, nn


# %% answer="ResidualBlock"
class ResidualBlock(nn.Module):
    """Two convolutions with batch norm, added to their input or to a projection of it."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        """Channels that come in, channels that go out, and by how much both sides shrink."""
        super().__init__()
        ### BEGIN SOLUTION
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.norm2.weight)
        self.projects = inputs != outputs or stride != 1
        if self.projects:
            self.project = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.project_norm = nn.BatchNorm2d(outputs)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x (items, inputs, height, width) -> (items, outputs, ceil(height / stride), ceil(width / stride))."""
        ### BEGIN SOLUTION
        branch = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        shortcut = self.project_norm(self.project(x)) if self.projects else x
        return torch.relu(branch + shortcut)
        ### END SOLUTION


# %% check="ResidualBlock"
check("05_image_encoder.ResidualBlock")

# %% demo="ResidualBlock"
with demo("ResidualBlock"):
    for depth in (4, 16, 48):
        torch.manual_seed(0)
        blocks = nn.Sequential(*(ResidualBlock(8, 8) for _ in range(depth)))
        layers = [layer for _ in range(2 * depth) for layer in (nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())]
        norms = []
        for net in (blocks, nn.Sequential(*layers)):
            x = torch.randn(4, 8, 8, 8).requires_grad_()
            net(x).sum().backward()
            norms.append(float(x.grad.norm()))
        print(
            f"{2 * depth:3} convolutions: gradient at the input {norms[0]:.3g} with shortcuts, {norms[1]:.3g} without"
        )

# %% [markdown]
# ## 5. Average pooling for pictures of uneven sizes
#
# Back to NumPy. A batch has to be one array, so smaller pictures are padded, and so are their feature maps.
# `masked_average_pool(features, sizes, side)` pools each item over its own part, as if there were no padding.
#
# - `features` is `(items, channels, height, width)`. `sizes` is `(items, 2)`, integers: how many rows and columns of
#   the item's map are real. They stand in the upper left corner.
# - What lies outside is padding. Whatever it holds, NaN included, changes nothing.
# - The real part is cut into a grid of `side × side` cells, and each gives the mean of its values. With `side` 1
#   that is *global average pooling*.
# - Cell `i` of `side` covers the rows from `floor(i * rows / side)` up to, not including, `ceil((i + 1) * rows /
#   side)`, with columns likewise. So cells are never empty, and where the number does not divide, neighbours share a
#   row.
# - An item with no rows or no columns has nothing to say: zeros.
# - `ValueError` if `side` is below 1, if `sizes` has not the shape `(items, 2)`, or if a size is negative or larger
#   than the map.
#
# By hand: a map of `[[1, 2, 3], [4, 5, 6], [9, 9, 9]]` of size `(2, 3)`. Its mean is `21 / 6 = 3.5`. With `side` 2 the
# rows are cut into 0 and 1; three columns into 0-1 and 1-2, both with the middle. The cells are `[[1.5, 2.5], [4.5,
# 5.5]]`.


# %% answer="masked_average_pool"
def masked_average_pool(features: np.ndarray, sizes: np.ndarray, side: int = 1) -> np.ndarray:
    """The means of a grid of cells over the real part of each feature map.

    features (items, channels, height, width), sizes int (items, 2) -> (items, channels, side, side), in their type.
    Raises ValueError for a side below 1, and for sizes of the wrong shape or outside the map.
    """
    ### BEGIN SOLUTION
    items, channels, *whole = features.shape
    if side < 1:
        raise ValueError(f"side is {side}; the grid needs at least one cell")
    if sizes.shape != (items, 2):
        raise ValueError(f"sizes have shape {sizes.shape}; {items} items need {(items, 2)}")
    if (sizes < 0).any() or (sizes > whole).any():
        raise ValueError(f"sizes must lie between 0 and {whole}; got {sizes.tolist()}")
    out = np.zeros((items, channels, side, side), features.dtype)
    for item, (rows, columns) in enumerate(sizes.tolist()):
        if rows and columns:
            for i, j in np.ndindex(side, side):
                down = slice(i * rows // side, -(-(i + 1) * rows // side))
                across = slice(j * columns // side, -(-(j + 1) * columns // side))
                out[item, :, i, j] = features[item, :, down, across].mean(axis=(1, 2))
    return out
    ### END SOLUTION


# %% check="masked_average_pool"
check("05_image_encoder.masked_average_pool")

# %% [markdown]
# ### Your code in the recommender
#
# The image encoder of the reference ends in a 2 × 2 grid of means. Your function takes its place: first on whole
# pictures, where nothing may change, then on pictures that were cut to uneven sizes and padded. At last a small
# recommender is trained on pictures alone, with tokens that came through your pooling. This takes some ten seconds.


# %% demo="masked_average_pool"
def pool_in_the_recommender() -> None:
    """The reference's image encoder with the learner's pooling: whole, cut, and in a recommender."""
    masked_average_pool(np.ones((1, 1, 1, 1)), np.ones((1, 2), int), 1)  # it is there: now the rest is worth it

    import torch

    from m6rec_mini.content import ContentConfig
    from m6rec_mini.datasets.world import WorldConfig, make_world
    from m6rec_mini.decoder import DecoderConfig
    from m6rec_mini.encoders import EncoderConfig
    from m6rec_mini.evaluation import leave_one_out, target_ranks
    from m6rec_mini.fusion import FusionConfig
    from m6rec_mini.model import ModelConfig
    from m6rec_mini.recipe import Recipe, train_model
    from m6rec_mini.scoring import Scorer
    from m6rec_mini.training import LoopConfig

    class YourPool(torch.nn.Module):
        """The layer that is exchanged; `sizes` of the pictures in pixels, None where they are whole."""

        sizes = None

        def forward(self, maps):
            whole = np.tile(maps.shape[2:], (len(maps), 1))
            sizes = whole if self.sizes is None else -(-self.sizes // 4)  # two strides of 2, each rounded up
            return torch.from_numpy(masked_average_pool(maps.detach().numpy(), sizes, 2)).to(maps)

    @torch.no_grad()
    def tokens(encoder, pixels, sizes=None):
        pool = encoder.net[-1]
        pool.sizes = sizes
        return encoder(pixels)

    torch.set_num_threads(1)
    world = make_world(WorldConfig(items=200, users=150, missing=(0.0, 0.0, 0.0)))
    split = leave_one_out(world.catalog.interactions)
    off = LoopConfig(epochs=0)
    for image in ("resnet", "vgg"):
        recipe = Recipe(
            ContentConfig(vocab=300, text_length=8, modalities=("image",)),
            ModelConfig(
                EncoderConfig(dim=32, image=image),
                FusionConfig("concatenation", dim=32),
                DecoderConfig(dim=32, layers=1, heads=2, events=20, code_sizes=(8, 8, 64)),
                identities=False,
            ),
            decoder_loop=LoopConfig(epochs=6, batch=32, learning_rate=3e-3, warm_up=5, average=0.9),
            encoder_loop=off, writing_loop=off, prior=False,
        )  # fmt: skip
        found = train_model(world.catalog, split, recipe)
        encoder = found.model.encoders.encoders["image"]
        pixels = found.reader.read(world.catalog.items[:64]).image
        with torch.no_grad():
            before = encoder(pixels)
        plain, encoder.net[-1] = encoder.net[-1], YourPool()
        apart = (tokens(encoder, pixels) - before).abs().max()
        print(f"{image}: whole pictures, largest difference to the reference {apart:.1g}")
        sizes = np.random.default_rng(0).integers(12, 33, size=(64, 2))
        padded, alone = torch.zeros_like(pixels), []
        for n, (rows, columns) in enumerate(sizes):
            padded[n, :, :rows, :columns] = pixels[n, :, :rows, :columns]
            alone.append(tokens(encoder, padded[n : n + 1, :, :rows, :columns]))
        alone = torch.cat(alone)
        yours = (tokens(encoder, padded, sizes) - alone).norm() / alone.norm()
        naive = (tokens(encoder, padded) - alone).norm() / alone.norm()
        print(f"  padded against alone: your pooling is {yours:.0%} off, pooling over the padding too {naive:.0%}")
        catalogue = found.model.tokens(found.reader.read(world.catalog.items))[0]
        found.catalogue.tokens[:] = catalogue
        scores = Scorer(found.model.requires_grad_(False), found.catalogue, None, split.train.item_counts)
        ranks = target_ranks(scores.decoder(split.test.histories), split.test.targets, split.test.histories)
        hits = ranks <= 10
        print(f"  pictures alone, your pooling: HR@10 {hits.mean():.2f} ± {hits.std() / len(hits) ** 0.5:.2f}")
        encoder.net[-1] = plain


with demo("masked_average_pool"):
    pool_in_the_recommender()
    print(
        "What your pooling leaves comes from the layers before: group norm averages over the padding. See the lesson."
    )
