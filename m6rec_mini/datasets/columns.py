"""Tables of ids and numbers, checked one column at a time.

A log has a hundred thousand rows and four columns, so the checks are array operations, and only a
cell at fault costs a message. As everywhere, a bad row is reported with its place, field and reason;
it has one fault, the first that is found, and the other columns' values in that row mean nothing.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from m6rec_mini.catalog import EARLIEST, LATEST, MAX_TEXT, DataError
from m6rec_mini.datasets.files import check_file
from m6rec_mini.datasets.records import NumberedRecords, Report, RowError, number, show


class Columns:
    """The wanted columns of a table, and the faults found in its rows so far."""

    def __init__(self, file: Path, records: NumberedRecords, fields: Sequence[str]) -> None:
        self.file = file
        self.rows: list[int] = []  # as an editor numbers them
        self.cells: dict[str, list[object]] = {field: [] for field in fields}
        self.faults: dict[int, RowError] = {}
        for row, record in records:
            self.rows.append(row)
            for field, cells in self.cells.items():
                cells.append(record[field])

    def fault(self, n: int, field: str, kind: str, expected: str) -> None:
        """Note that the n-th row's field is not as `expected`."""
        cell = self.cells[field][n]
        reason = f"no {field}; every row needs one" if cell is None else f"{field} is {show(cell)}; expected {expected}"
        self.faults.setdefault(n, RowError(field, "missing" if cell is None else kind, reason))

    def text(self, field: str) -> list[str]:
        """Ids or names, none of them blank; "" stands for a fault."""
        texts = [cell if isinstance(cell, str) and len(cell) <= MAX_TEXT else "" for cell in self.cells[field]]
        for n, text in enumerate(texts):
            if not text.strip():
                self.fault(n, field, "no text", f"1 to {MAX_TEXT:,} characters, not all of them blank")
        return texts

    def known(self, field: str, names: Container[str], what: str) -> list[str]:
        """Ids that are among `names`."""
        texts = self.text(field)
        for n, text in enumerate(texts):
            if text not in names:
                self.fault(
                    n, field, f"unknown {what}", f"{what} that was read before (it is missing or rejected there)"
                )
        return texts

    def unique(self, field: str) -> list[str]:
        """Ids of which each occurs once; of several equal ones the first is kept."""
        texts, first_rows = self.text(field), dict[str, int]()
        for n, (row, text) in enumerate(zip(self.rows, texts, strict=True)):
            first = first_rows.setdefault(text, row)
            if first != row:
                self.fault(n, field, "duplicate", f"something else, since row {first} has it already; keep one")
        return texts

    def numbers(self, field: str, low: float, high: float, expected: str) -> Float64[np.ndarray, " rows"]:
        """Numbers from `low` to `high`, both included."""
        cells = self.cells[field]
        values: Float64[np.ndarray, " rows"]
        try:
            values = np.array(cells, np.float64)  # an empty cell, None, becomes NaN, which is in no range
        except ValueError:
            values = np.array([np.nan if (value := number(str(cell))) is None else value for cell in cells])
        inside = (values >= low) & (values <= high)
        for n in np.flatnonzero(~inside):
            self.fault(int(n), field, "not in range", expected)
        return np.where(inside, values, low)

    def whole(self, field: str, low: int, high: int, expected: str = "") -> Int64[np.ndarray, " rows"]:
        """Whole numbers from `low` to `high`, both included."""
        expected = expected or f"a whole number from {low} to {high}"
        values = self.numbers(field, float(low), float(high), expected)
        for n in np.flatnonzero(values != np.rint(values)):
            self.fault(int(n), field, "not whole", expected)
        return values.astype(np.int64)

    def times(self, field: str) -> Int64[np.ndarray, " rows"]:
        """Whole seconds since 1970."""
        return self.whole(field, EARLIEST, LATEST - 1, "whole seconds from 1970 to 2100 (milliseconds? divide by 1000)")

    def good(self, report: Report) -> list[int]:
        """Which rows are without fault; the others go into the report. Raises DataError if none is good."""
        for n, error in sorted(self.faults.items()):
            report.reject(self.file, self.rows[n], error)
        good = [n for n in range(len(self.rows)) if n not in self.faults]
        report.accept(self.file, len(good))
        return good


def read_delimited(path: Path, report: Report, required: Collection[str], delimiter: str) -> NumberedRecords:
    """Yield (line number, record) of a UTF-8 table without quotes, such as a tab-separated `.dat`.

    Quotes are letters here (artists have them in their names); a file ending in `.gz` is unpacked
    on the way. An empty cell is None. Unreadable rows go into the report; raises DataError if the
    file as a whole cannot be used.
    """
    check_file(path)
    names: list[str] = []
    with _unpacked(path) as file:
        for row, line in enumerate(file, 1):
            line = line if row > 1 else line.removeprefix(codecs.BOM_UTF8)
            if not line.strip(b"\r\n"):
                continue
            try:
                cells = _cells(line, delimiter, len(names))
            except RowError as error:
                if not names:
                    raise DataError(f"{path}: the header is unreadable: {error}") from error
                report.reject(path, row, error)
                continue
            if names:
                yield row, {name: cell or None for name, cell in zip(names, cells, strict=True)}
                continue
            names = [name.strip() for name in cells]
            missing = [name for name in required if name not in names]
            if missing:
                raise DataError(f"{path}: no column {', '.join(missing)}; it has {show(', '.join(names))}")


def _cells(line: bytes, delimiter: str, expected: int) -> list[str]:
    try:
        cells = line.decode().rstrip("\r\n").split(delimiter)
    except UnicodeDecodeError as error:
        at = f"byte {error.start + 1} is 0x{line[error.start]:02x}"
        raise RowError("", "not UTF-8", f"not UTF-8: {at}; save the file as UTF-8") from error
    if expected and len(cells) != expected:
        raise RowError("", "number of cells", f"{len(cells)} cells; the header has {expected} columns")
    return cells


@contextmanager
def _unpacked(path: Path) -> Iterator[Iterable[bytes]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}); copy it again") from error
