"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

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
