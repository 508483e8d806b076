"""Tables of raw records, read row by row: JSONL, CSV, Parquet and RecBole's atomic files.

The one idea: a bad row is a fact to report, not an exception that ends the reading. Every row
that can be parsed is yielded; for every other one a `Problem` goes into the `Report`, so that one
reading shows all the damage. What spoils the file as a whole (a folder in its place, no rows, a
missing or doubled column) raises DataError at once.

Row numbers are an editor's line numbers: in CSV and atomic files the header is row 1, and a record
whose quoted cell runs over several lines has the number of its first. Parquet has no lines; its
first record is row 1.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import json
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from m6rec_mini.catalog import DataError, Problem
from m6rec_mini.datasets.files import check_file

OnBad = Literal["strict", "skip"]
Record = dict[str, object]
NumberedRecords = Iterator[tuple[int, Record]]

MAX_LINE = 8 * 2**20  # bytes; room for a text of a million characters, which then gets its own message
MAX_REASON = 300  # characters
PARQUET_BATCH = 1024  # records decoded at a time
BLANK = (b"\n", b"\r\n")
ATOMIC_TYPES = ("token", "token_seq", "float", "float_seq")


class RowError(Exception):
    """This record cannot be used: the field at fault, the kind of fault (totals count it), the reason."""

    def __init__(self, field: str, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.kind = field, kind


@dataclass
class Report:
    """What was read and what was rejected: the first `limit` problems, and totals of all of them.

    Totals are per file, field and kind of fault, each with the row where it first occurs.
    """

    limit: int = 20
    accepted: Counter[Path] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    totals: Counter[tuple[Path, str, str]] = field(default_factory=Counter)
    first_rows: dict[tuple[Path, str, str], int | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # worth knowing, and no reason to reject anything
    derived: str = ""  # how actions came about, where the table has none

    @property
    def rejected(self) -> int:
        """Number of rejected records, shown or not."""
        return self.totals.total()

    def reject(self, file: Path, row: int | None, error: RowError) -> None:
        """Count a rejected record, and keep it to be shown while there is room."""
        key = (file, error.field, error.kind)
        self.totals[key] += 1
        self.first_rows.setdefault(key, row)
        if len(self.problems) < self.limit:
            reason = str(error)
            shown = reason if len(reason) <= MAX_REASON else reason[:MAX_REASON] + " ..."
            self.problems.append(Problem(file, row, error.field, shown))

    def accept(self, file: Path, count: int, unused: Collection[str] = ()) -> None:
        """Note that `count` records are good, and which columns nobody used. Raises DataError if no record is."""
        if not count and not any(name == file for name, *_ in self.totals):
            raise DataError(f"{file} has no records; expected at least one row of data")
        if not count:
            raise DataError(f"{file}: every record was rejected.\n{self}")
        self.accepted[file] += count
        if unused:
            self.notes.append(f"{file.name}: columns not used: {show(', '.join(sorted(unused)))}")

    def enforce(self, bad: OnBad) -> None:
        """Raise DataError with the whole report if anything was rejected and `bad` is "strict"."""
        if bad == "strict" and self.rejected:
            raise DataError(f'{self}\nMend these records, or go on without them: bad="skip" (--skip-bad).')

    def __str__(self) -> str:
        """The report as a person reads it: sums, problems, totals by kind, notes."""
        lines = [f"{self.accepted.total():,} records accepted, {self.rejected:,} rejected"]
        lines += [f"  {problem}" for problem in self.problems]
        if self.rejected > len(self.problems):
            lines.append(f"  ... and {self.rejected - len(self.problems):,} more; by kind:")
            for (file, name, kind), count in self.totals.most_common():
                where = ", ".join(filter(None, (file.name, name, kind)))
                lines.append(f"  {count:>9,}  {where} (first: row {self.first_rows[file, name, kind]})")
        notes = [*self.notes, f"actions are derived: {self.derived}"] if self.derived else self.notes
        return "\n".join([*lines, *(f"  note: {note}" for note in notes)])


def read_table(path: Path, report: Report, required: Collection[str] = ()) -> NumberedRecords:
    """Yield (row number, record) for every readable row; the others go into the report.

    Values are as the format has them: typed in JSONL and Parquet; text in CSV; in atomic files text,
    a list of words, a number, or a list of numbers, as the header says. An empty cell is None.
    `required` columns are demanded of the header; JSONL has none, so there each record is on its own.
    Raises DataError if the file as a whole cannot be used.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: unknown kind of table {path.suffix!r}; expected one of {', '.join(READERS)}")
    check_file(path)
    return reader(path, report, required)


def show(value: object) -> str:
    """A value as an error message has room for it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def number(text: str) -> float | None:
    """The number that the text spells, or None; `1_000`, which Python would take, is none."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _read_jsonl(path: Path, report: Report, required: Collection[str]) -> NumberedRecords:
    del required  # each record has its own fields: whoever uses them reports what is missing
    for row, raw in _lines(path, report):
        if raw.isspace():
            continue
        try:
            record = _parse_json(_decode(raw))
        except RowError as error:
            report.reject(path, row, error)
        else:
            yield row, record


def _parse_json(text: str) -> Record:
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise RowError("", "bad JSON", f"not JSON: {error.msg} at character {error.pos + 1}") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits; brackets 10,000 deep
        raise RowError("", "bad JSON", f"not usable JSON: {error}") from error
    if not isinstance(value, dict):
        raise RowError("", "bad JSON", f"expected an object such as {{...}}, got {show(value)}")
    return value


def _object(pairs: list[tuple[str, object]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise RowError("", "key given twice", f"{show(twice)} is given twice in one record")
    return record


def _read_csv(path: Path, report: Report, required: Collection[str]) -> NumberedRecords:
    """Each record is parsed alone, so that a quote which nobody closes costs its own line, not the rest."""
    source, put_back = _lines(path, report), deque[tuple[int, bytes]]()
    names: list[str] = []
    while (line := put_back.popleft() if put_back else next(source, None)) is not None:
        row, raw = line
        if raw in BLANK:
            continue
        following: list[tuple[int, bytes]] = []
        quotes, size = raw.count(b'"'), len(raw)
        while quotes % 2 and size < MAX_LINE:  # a quoted cell is open: the record goes on in the next line
            if (line := put_back.popleft() if put_back else next(source, None)) is None:
                break
            following.append(line)
            quotes, size = quotes + line[1].count(b'"'), size + len(line[1])
        try:
            text = _decode(b"".join([raw, *(more for _, more in following)]))
            if names:
                yield row, {name: cell or None for name, cell in zip(names, _cells(text, names), strict=True)}
            else:
                names = [name.strip() for name in _cells(text)]
                _check_columns(path, names, required)
        except RowError as error:
            if not names:
                raise DataError(f"{path}: the header, row {row}, is unreadable: {error}") from error
            report.reject(path, row, error)
            if error.kind == "bad quotes or cells":
                put_back.extendleft(reversed(following))


def _cells(text: str, names: Sequence[str] | None = None) -> list[str]:
    try:
        cells = next(csv.reader([text], strict=True))
    except csv.Error as error:
        if "field limit" in str(error):
            raise RowError("", "too long", f"a cell has more than {csv.field_size_limit():,} characters") from error
        raise RowError("", "bad quotes or cells", f'not CSV: {error}; look for a missing " or comma') from error
    if names is not None and len(cells) != len(names):
        reason = f"{len(cells)} cells; the header has {len(names)} columns"
        raise RowError("", "bad quotes or cells", reason)
    return cells


def _read_atomic(path: Path, report: Report, required: Collection[str]) -> NumberedRecords:
    names: list[str] = []
    types: list[str] = []
    for row, raw in _lines(path, report):
        if raw in BLANK:
            continue
        try:
            cells = _decode(raw).rstrip("\r\n").split("\t")
            if not names:
                names, types = _atomic_header(path, cells)
                _check_columns(path, names, required)
                continue
            if len(cells) != len(names):
                raise RowError("", "number of cells", f"{len(cells)} cells; the header has {len(names)} columns")
            record = {name: _atomic(name, kind, cell) for name, kind, cell in zip(names, types, cells, strict=True)}
        except RowError as error:
            if not names:
                raise DataError(f"{path}: the header, row {row}, is unreadable: {error}") from error
            report.reject(path, row, error)
        else:
            yield row, record


def _atomic_header(path: Path, cells: list[str]) -> tuple[list[str], list[str]]:
    pairs = [cell.rpartition(":")[::2] for cell in cells]
    wrong = [cell for cell, (name, kind) in zip(cells, pairs, strict=True) if not name or kind not in ATOMIC_TYPES]
    if wrong:
        types = ", ".join(ATOMIC_TYPES)
        raise DataError(
            f"{path}: column {show(wrong[0])} is not name:type; expected tabs between columns, and a type of {types}"
        )
    return [name for name, _ in pairs], [kind for _, kind in pairs]


def _atomic(name: str, kind: str, cell: str) -> object:
    """A cell of RecBole's four types; sequences are separated by spaces."""
    if not cell:
        return None
    if kind == "token":
        return cell
    words = cell.split(" ")
    if kind == "token_seq":
        return words
    numbers = [number(word) for word in (words if kind == "float_seq" else [cell])]
    if None in numbers:
        raise RowError(name, "not a number", f"{show(cell)} is not {'a number' if kind == 'float' else 'numbers'}")
    return numbers if kind == "float_seq" else numbers[0]


def _read_parquet(path: Path, report: Report, required: Collection[str]) -> NumberedRecords:
    row = 0
    try:
        with pq.ParquetFile(path) as table:
            _check_columns(path, table.schema_arrow.names, required)
            for batch in table.iter_batches(batch_size=PARQUET_BATCH):
                for record in _arrow_records(batch):
                    row += 1
                    if isinstance(record, RowError):
                        report.reject(path, row, record)
                    else:
                        yield row, record
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a whole Parquet file ({error}), after {row} records; write it again") from error


def _arrow_records(batch: pa.RecordBatch) -> Iterator[Record | RowError]:
    try:
        yield from batch.to_pylist()
    except ValueError:  # some value has no Python form, such as text that is not UTF-8: find its row
        for n in range(len(batch)):
            try:
                yield from batch.slice(n, 1).to_pylist()
            except ValueError as error:
                yield RowError("", "unreadable value", f"a value cannot be read: {error}")


def _check_columns(path: Path, names: Sequence[str], required: Collection[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path}: column {show(twice[0])} is there twice; rename or remove one of them")
    missing = [name for name in required if name not in names]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; it has {show(', '.join(names))}")


def _lines(path: Path, report: Report) -> Iterator[tuple[int, bytes]]:
    """Numbered lines, without a byte order mark; endless ones are reported instead."""
    with path.open("rb") as file:
        head = file.read(3)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(f"{path} is in UTF-16; save it as UTF-8")
        file.seek(3 if head == codecs.BOM_UTF8 else 0)
        for row in itertools.count(1):
            line = file.readline(MAX_LINE)
            if not line:
                return
            if len(line) == MAX_LINE and not line.endswith(b"\n"):
                while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                    pass
                report.reject(path, row, RowError("", "too long", f"a line of more than {MAX_LINE:,} bytes"))
            else:
                yield row, line


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        at = f"byte {error.start + 1} is 0x{raw[error.start]:02x}"
        raise RowError("", "not UTF-8", f"not UTF-8: {at} (Latin-1 or GBK, perhaps); save it as UTF-8") from error


READERS: dict[str, Callable[[Path, Report, Collection[str]], NumberedRecords]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".inter": _read_atomic,
    ".item": _read_atomic,
}
