"""Encoders learn: both text objectives, forms in pictures, and real spoken digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from m6rec_mini.catalog import Item, Sound
from m6rec_mini.content import MASK, ContentConfig, ContentReader
from m6rec_mini.encoders import AudioEncoder, ImageEncoder, TextEncoder


@pytest.mark.parametrize("causal", [False, True])
def test_both_text_objectives_learn(causal: bool) -> None:
    """Sentences count upwards, so a hidden or a next word follows from its neighbours."""
    torch.manual_seed(0)
    encoder = TextEncoder(30, 32, 1, 2, 8)
    optimiser = torch.optim.AdamW(encoder.parameters(), 1e-2)
    for _ in range(60 if causal else 120):
        ids = torch.randint(4, 22, (32, 1)) + torch.arange(8)
        seen, target = ids.clone(), ids
        if causal:
            seen, target = ids[:, :-1], ids[:, 1:]
            chosen = torch.ones_like(target, dtype=torch.bool)
        else:
            chosen = torch.rand(ids.shape) < 0.3
            seen[chosen] = MASK
        logits = encoder.word_logits(encoder.states(seen, causal))[chosen]
        loss = nn.functional.cross_entropy(logits, target[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.8  # log(30) = 3.4 at the start


def shapes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Discs, squares, crosses and stripes of any colour, at any place, on noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    y, x = np.mgrid[:16, :16]
    images = rng.normal(scale=0.3, size=(count, 3, 16, 16))
    for image, label in zip(images, labels, strict=True):
        dy, dx = np.abs(y - rng.integers(5, 11)), np.abs(x - rng.integers(5, 11))
        forms = (dy**2 + dx**2 <= 16, np.maximum(dy, dx) <= 4, np.minimum(dy, dx) <= 1, (y + x) % 4 < 2)
        image += rng.normal(size=(3, 1, 1)) * 1.5 * forms[label]
    return torch.from_numpy(images).float(), torch.from_numpy(labels)


@pytest.mark.parametrize("arch", ["resnet", "vgg"])
def test_image_encoders_learn_forms(arch: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(ImageEncoder(32, arch), nn.Flatten(), nn.Linear(128, 4))
    accuracy = train(net, *shapes(320, seed=1), *shapes(200, seed=2), epochs=8, batch=32)
    assert accuracy > 0.7  # chance is 0.25


def digits(folder: Path, speakers: tuple[str, ...], takes: range) -> tuple[list[Item], Tensor]:
    """Recordings {digit}_{speaker}_{take}.wav as items, and their digits."""
    names = [f"{digit}_{speaker}_{take}" for digit in range(10) for speaker in speakers for take in takes]
    waves = {name: soundfile.read(folder / f"{name}.wav", dtype="float32") for name in names}
    items = [Item(name, audio=Sound(wave, rate)) for name, (wave, rate) in waves.items()]
    return items, torch.tensor([int(name[0]) for name in names])


@pytest.mark.parametrize("arch", ["wavenet", "transformer"])
def test_audio_encoders_learn_spoken_digits(shared_data: Path, arch: Any) -> None:
    folder = shared_data / "fsdd" / "recordings"
    speakers = ("jackson", "theo")
    heard, labels = digits(folder, speakers, range(5, 20))
    new, truth = digits(folder, speakers, range(5))
    reader = ContentReader.fit(heard, ContentConfig(seconds=0.5))
    torch.manual_seed(0)
    net = nn.Sequential(AudioEncoder(32, 64, arch), nn.Flatten(), nn.Linear(256, 10))
    accuracy = train(net, reader.read(heard).audio, labels, reader.read(new).audio, truth, epochs=10, batch=32)
    assert accuracy > 0.8  # chance is 0.1


def train(net: nn.Module, x: Tensor, y: Tensor, new: Tensor, truth: Tensor, epochs: int, batch: int) -> float:
    """Train with cross-entropy; accuracy on what is new."""
    steps = epochs * (len(x) // batch)
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for step in range(steps):
        if step % (len(x) // batch) == 0:
            order = torch.randperm(len(x))
        rows = order[torch.arange(batch) + step % (len(x) // batch) * batch]
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return float((net(new).argmax(1) == truth).float().mean())
