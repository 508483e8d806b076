"""Public data sets: what they are, who published them, and by which files their folder is known.

The package ships none of them, since their licences do not allow it. So the one idea: whoever has
the wrong folder, or none, is told which files are wanted and where the data set is published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from m6rec_mini.catalog import DataError

SHOWN = 12  # file names in a message


@dataclass(frozen=True)
class Source:
    """A data set, for people, and the file patterns by which each of its layouts is recognised."""

    name: str
    about: str
    publisher: str
    licence: str
    is_catalog: bool = True  # False: logs or sounds with a loader of their own
    layouts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def folder(self, path: Path | None) -> Path:
        """The path, if it is a folder. Raises DataError, and says where to get the data, if it is not."""
        if path is None:
            raise DataError(f"{self.name} does not come with the package; give the path of its folder. {self._origin}")
        if not path.is_dir():
            kind = "is a file; expected a folder" if path.exists() else "does not exist"
            raise DataError(f"{path} {kind}. {self._origin}")
        return path

    def layout(self, path: Path) -> str:
        """Which layout the folder has. Raises DataError if it has none, with the files that it should have."""
        for name, patterns in self.layouts.items():
            if all(any(self.folder(path).glob(pattern)) for pattern in patterns):
                return name
        expected = "; or ".join(", ".join(patterns) for patterns in self.layouts.values())
        files = sorted(file.name for file in path.iterdir())
        found = ", ".join(files[:SHOWN]) + (f" and {len(files) - SHOWN:,} more" if len(files) > SHOWN else "")
        raise DataError(
            f"{path} is not the folder of {self.name}: expected {expected}; found {found or 'nothing'}. {self._origin}"
        )

    @property
    def _origin(self) -> str:
        return f"{self.name} is published as: {self.publisher}"
