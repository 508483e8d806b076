"""Cells that show what an answer is good for, and wait quietly until there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def demo(*names: str) -> Iterator[None]:
    """Run a block that needs answers; while one is missing, say so in place of an error."""
    try:
        yield
    except NotImplementedError:
        print(f"This will run once you have written {' and '.join(f'`{name}`' for name in names)}.")
