"""Small parts that several test files build on: tiny networks, random histories, IDs and contents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from m6rec_mini.catalog import History
from m6rec_mini.content import BOS, EOS, PAD, Content, Shapes
from m6rec_mini.decoder import DecoderConfig, GenerativeDecoder
from m6rec_mini.encoders import EncoderConfig
from m6rec_mini.fusion import FusionConfig
from m6rec_mini.model import M6RecMini, ModelConfig
from m6rec_mini.pretraining import Catalogue, Share

CLOSE = {"atol": 1e-5, "rtol": 1e-4}  # float32, and sums taken in another order
DIM = 16
SIZES = (4, 3, 2)  # codes of each level; the last tells apart what shares the others
VOCAB = 30
SHAPES = Shapes(("text", "image", "audio", "look"), vocab=VOCAB, text_length=8, mels=6, widths={"look": 3})

Network = TypeVar("Network", bound=nn.Module)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rand_long(high: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(high, shape, generator=seeded(seed))


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed))


@torch.no_grad()
def lively(network: Network, seed: int = 0, scale: float = 0.5) -> Network:
    """Large random weights everywhere, so that whatever is mixed up shows; without dropout."""
    g = seeded(seed)
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=g) * scale)
    return network.eval()


def tiny_decoder(seed: int = 0, events: int = 10, sizes: tuple[int, ...] = SIZES, words: int = 3) -> GenerativeDecoder:
    config = DecoderConfig(
        DIM, layers=2, writing_layers=2, heads=2, dropout=0.0, events=events, code_sizes=sizes, vocab=VOCAB, words=words
    )
    return lively(GenerativeDecoder(config), seed)


def tiny_config(kind: str = "attention", dropout: float = 0.0, **other: float) -> ModelConfig:
    return ModelConfig(
        EncoderConfig(dim=8, layers=1, heads=2, tokens=4),
        FusionConfig(kind=kind, dim=DIM, heads=2, queries=3, dropout=dropout, drop_modality=dropout),  # type: ignore[arg-type]
        DecoderConfig(dim=DIM, layers=2, heads=2, dropout=dropout, events=10, code_sizes=SIZES, vocab=VOCAB, words=3),
        **other,  # type: ignore[arg-type]
    )


def tiny_model(seed: int = 0, num_items: int = 0, config: ModelConfig | None = None) -> M6RecMini:
    model = lively(M6RecMini(config or tiny_config(), SHAPES, num_items), seed, scale=0.3)
    model.encoders.encoders["text"].word_axes.normal_(generator=seeded(seed))  # as if it had been fitted
    return model


def random_history(events: int, items: int, seed: int = 0) -> History:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 10_000_000, events))
    return History(rng.integers(0, items, events), rng.integers(0, 3, events), times)


def random_histories(lengths: Sequence[int], items: int, seed: int = 0) -> list[History]:
    return [random_history(length, items, seed + row) for row, length in enumerate(lengths)]


def random_ids(items: int, sizes: tuple[int, ...] = SIZES, seed: int = 0) -> Tensor:
    """Different IDs, in no order."""
    places = torch.randperm(int(np.prod(sizes)), generator=seeded(seed))[:items].numpy()
    return torch.from_numpy(np.stack(np.unravel_index(places, sizes), axis=1).astype(np.int64))


def random_content(items: int = 8, seed: int = 0) -> Content:
    """Items with some of the four modalities each; item 0 has all of them, item 1 only a look."""
    g = seeded(seed)
    present = {name: torch.rand(items, generator=g) < 0.7 for name in SHAPES.modalities}
    for name, mask in present.items():
        mask[0], mask[1:2] = True, name == "look"
    missing = ~torch.stack(list(present.values())).any(0)
    present["text"] |= missing
    text = torch.randint(EOS + 1, VOCAB, (items, 8), generator=g)
    ends = torch.randint(2, 8, (items, 1), generator=g)
    place = torch.arange(8)
    text = torch.where(place == 0, BOS, torch.where(place < ends, text, torch.where(place == ends, EOS, PAD)))
    return Content(
        text * present["text"][:, None],
        torch.randn(items, 3, 16, 16, generator=g) * present["image"][:, None, None, None],
        torch.randn(items, 6, 12, generator=g) * present["audio"][:, None, None],
        {"look": torch.randn(items, 3, generator=g) * present["look"][:, None]},
        present,
    )


def random_catalogue(model: M6RecMini, items: int, unseen: Sequence[int] = (), seed: int = 0) -> Catalogue:
    """Items as the decoder's training needs them, with IDs and up to two key words each."""
    content = random_content(items, seed)
    tokens, present = model.tokens(content)
    seen = torch.ones(items, dtype=torch.bool)
    seen[list(unseen)] = False
    words = torch.randint(EOS + 1, EOS + 6, (items, 2), generator=seeded(seed))  # few, so that items share some
    words[:, 1].masked_fill_(words[:, 0] == words[:, 1], PAD)
    return Catalogue(tokens, present, model.words(content), seen, random_ids(items, seed=seed), words)


def gradients(stage: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in stage.named_parameters() if p.grad is not None}


def assert_shares_add_up(stage: nn.Module, batch: Any, of: int) -> None:
    def run(*args: Any) -> tuple[Tensor, dict[str, Tensor]]:
        stage.zero_grad()
        loss = stage(batch, 7, *args)
        loss.backward()
        return loss.detach(), gradients(stage)

    whole, slope = run()
    parts = [run(Share(rank, of)) for rank in range(of)]
    torch.testing.assert_close(sum(loss for loss, _ in parts), whole, **CLOSE)
    for name, expected in slope.items():
        total = sum(part[name] for _, part in parts if name in part)
        torch.testing.assert_close(total, expected, atol=1e-4, rtol=1e-3, msg=name)


def descend(loss: Callable[[int], Tensor], module: nn.Module, rate: float, steps: int) -> tuple[float, float]:
    """Train a little; the loss before and after."""
    optimizer = torch.optim.Adam(module.parameters(), rate)
    before = float(loss(0).detach())
    for step in range(steps):
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()
    return before, float(loss(0).detach())
