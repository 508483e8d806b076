"""Fixtures that several test files share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from typer.testing import CliRunner

settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")
torch.set_num_threads(1)  # many tiny matrices: threads only add noise and waiting


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets, from M6REC_DATA or beside the checkout; tests skip where it is absent."""
    path = Path(os.environ.get("M6REC_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"real data are not at {path}; set M6REC_DATA to their folder to run this test")
    return path


@dataclass(frozen=True)
class TinyModel:
    """A world of a hundred items, the model that the command line trained on it, and what it printed."""

    data: Path  # a folder as `--data folder` reads it
    model: Path
    printed: str


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Trained once for all tests; one epoch a stage, so good for journeys and no use for quality."""
    from m6rec_mini.cli import app
    from m6rec_mini.datasets.folder import save_folder
    from m6rec_mini.datasets.world import WorldConfig, make_world

    folder = tmp_path_factory.mktemp("tiny")
    save_folder(make_world(WorldConfig(items=100, users=24, mean_events=12.0)).catalog, folder / "data")
    command = f"train --data folder --path {folder / 'data'} --model {folder / 'model'} --epochs 1 --device cpu"
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 0, result.output
    return TinyModel(folder / "data", folder / "model", result.output)
