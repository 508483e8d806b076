"""Tables of raw records: readable rows come out as an independent reader has them, the others are reported."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m6rec_mini.catalog import DataError, Problem
from m6rec_mini.datasets.records import MAX_LINE, READERS, Record, Report, RowError, read_table

few = settings(max_examples=50)
words = st.text(st.characters(codec="utf-8"), max_size=8)
cells = st.text(st.sampled_from('ab ,"\n\r\t;é电\ufeff\u2028\0'), max_size=6)
lines = st.text(st.sampled_from('ab ,";é电'), max_size=6)


def read(
    path: Path, content: bytes | str = "", required: tuple[str, ...] = ()
) -> tuple[list[tuple[int, Record]], Report]:
    """Write `content`, if any, then read the table whole."""
    if content:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    report = Report()
    return list(read_table(path, report, required)), report


def faults(report: Report) -> list[tuple[int | None, str]]:
    return [(problem.row, problem.reason) for problem in report.problems]


@few
@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=6), st.booleans())
def test_csv_agrees_with_the_standard_library(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], windows: bool
) -> None:
    file = io.StringIO()
    quoting = csv.QUOTE_MINIMAL if windows else csv.QUOTE_ALL  # with "\n", a lone "\r" would go unquoted
    csv.writer(file, lineterminator="\r\n" if windows else "\n", quoting=quoting).writerows([("a", "b", "c"), *rows])
    records, report = read(tmp_path_factory.mktemp("csv") / "a.csv", file.getvalue())
    expected = [
        {name: cell or None for name, cell in row.items()} for row in csv.DictReader(io.StringIO(file.getvalue(), ""))
    ]
    assert [record for _, record in records] == expected
    assert not report.rejected


@few
@given(st.lists(st.dictionaries(words, st.none() | words | st.integers() | st.lists(st.floats(0, 1))), max_size=5))
def test_jsonl_agrees_with_the_standard_library(tmp_path_factory: pytest.TempPathFactory, rows: list[Record]) -> None:
    text = "\ufeff" + "".join(json.dumps(row, ensure_ascii=bool(n % 2)) + "\r\n\n" for n, row in enumerate(rows))
    records, report = read(tmp_path_factory.mktemp("jsonl") / "a.jsonl", text)
    assert records == [(2 * n + 1, row) for n, row in enumerate(rows)]
    assert not report.rejected


def test_parquet_keeps_types_and_counts_records(tmp_path: Path) -> None:
    rows = [{"id": n, "x": [0.5, n], "f": {"look": None}, "t": None if n % 2 else "电影"} for n in range(3000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=700)
    records, report = read(tmp_path / "a.parquet", required=("id", "x"))
    assert records == list(enumerate(rows, start=1))
    assert not report.rejected


def test_atomic_cells_have_the_types_of_the_header(tmp_path: Path) -> None:
    text = "i:token\tw:token_seq\tx:float\ty:float_seq\r\n"
    text += '7\tred "car\t1.5\t1 -2e3\r\n\t\t\t\r\n8\ta\tbig\t1\n9\t1_0\t1_0\t\n5\n'
    records, report = read(tmp_path / "a.item", text, ("i",))
    assert records == [
        (2, {"i": "7", "w": ["red", '"car'], "x": 1.5, "y": [1.0, -2000.0]}),
        (3, {"i": None, "w": None, "x": None, "y": None}),
    ]
    assert faults(report) == [
        (4, "'big' is not a number"),
        (5, "'1_0' is not a number"),
        (6, "1 cells; the header has 4 columns"),
    ]
    assert [problem.field for problem in report.problems] == ["x", "x", ""]


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("a.jsonl", '{{"a": 0}}\n{{"a": "{}"}}\n{{"a": 2}}\n'),
        ("a.csv", 'a\n"{}"\n2\n'),
        ("a.inter", "a:token\n{}\n2\n"),
    ],
)
def test_a_row_in_another_encoding_is_reported_and_the_rest_is_read(tmp_path: Path, name: str, template: str) -> None:
    records, report = read(tmp_path / name, template.format("crème").encode("latin-1"))
    assert records[-1][0] == 3
    assert str(records[-1][1]["a"]) == "2"
    assert [row for row, _ in faults(report)] == [2]
    assert "is 0xe8 (Latin-1 or GBK, perhaps); save it as UTF-8" in report.problems[0].reason
    assert read(tmp_path / name, template.format("crème"))[1].rejected == 0


def test_a_parquet_value_that_is_not_utf8_costs_its_row(tmp_path: Path) -> None:
    raw = pa.array([b"a", b"cr\xe8me", b"c"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())  # says that the bytes are text, unchecked
    pq.write_table(pa.table({"a": text}), tmp_path / "a.parquet")
    records, report = read(tmp_path / "a.parquet")
    assert records == [(1, {"a": "a"}), (3, {"a": "c"})]
    assert [row for row, _ in faults(report)] == [2]


@few
@given(
    rows=st.lists(st.tuples(lines.filter(bool), lines), min_size=1, max_size=5),
    bad=st.sampled_from(['x,"y', 'x,"y"z', "x", "x,y,z", '"x,y']),
    data=st.data(),
)
def test_one_spoilt_csv_line_costs_one_record(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], bad: str, data: st.DataObject
) -> None:
    """Even an open quote, which the format lets run to the end of the file."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    written = file.getvalue().splitlines()
    place = data.draw(st.integers(0, len(rows)))
    content = "\n".join(["a,b", *written[:place], bad, *written[place:], ""])
    records, report = read(tmp_path_factory.mktemp("spoilt") / "a.csv", content)
    assert [tuple(cell or "" for cell in record.values()) for _, record in records] == rows
    assert [row for row, _ in faults(report)] == [2 + place]


def test_a_csv_record_has_the_number_of_its_first_line(tmp_path: Path) -> None:
    records, report = read(tmp_path / "a.csv", 'a,b\n1,"x\n\ny"\n\n2,z\n')
    assert records == [(2, {"a": "1", "b": "x\n\ny"}), (6, {"a": "2", "b": "z"})]
    assert not report.rejected
    records, report = read(tmp_path / "a.csv", 'a,b\n1,"x\nè"\n2,z\n'.encode("latin-1"))
    assert records == [(4, {"a": "2", "b": "z"})]
    assert [row for row, _ in faults(report)] == [2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"a": 1', "not JSON: Expecting ',' delimiter at character"),
        ("[1, 2]", "expected an object such as {...}, got [1, 2]"),
        ('{"a": 1, "a": 2}', "'a' is given twice in one record"),
        ('{"f": {"b": 1, "b": 2}}', "'b' is given twice in one record"),
        ("[" * 100_000, "not usable JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not usable JSON"),
        ('{"a": "' + "x" * MAX_LINE + '"}', "a line of more than 8,388,608 bytes"),
    ],
)
def test_bad_json_is_reported_with_its_row(tmp_path: Path, line: str, reason: str) -> None:
    records, report = read(tmp_path / "a.jsonl", f'{{"a": 1}}\n{line}\n{{"a": 3}}\n')
    assert records == [(1, {"a": 1}), (3, {"a": 3})]
    assert [row for row, _ in faults(report)] == [2]
    assert reason in report.problems[0].reason


def test_a_huge_csv_cell_costs_one_record(tmp_path: Path) -> None:
    records, report = read(tmp_path / "a.csv", f"a,b\n1,{'x' * 10**6}\n2,y\n")
    assert records == [(3, {"a": "2", "b": "y"})]
    assert faults(report) == [(2, "a cell has more than 131,072 characters")]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "a,b,a\n1,2,3\n", "column 'a' is there twice"),
        ("a.inter", "a:token\ta:float\n1\t2\n", "column 'a' is there twice"),
        ("a.csv", "a;b\n1;2\n", "no column b; it has 'a;b'"),
        ("a.item", "b:token\ta:tokens\n1\t2\n", "column 'a:tokens' is not name:type"),
        ("a.item", "b\ta\n1\t2\n", "column 'b' is not name:type"),
        ("a.csv", 'b,"a\n', "the header, row 1, is unreadable"),
        ("a.csv", b"b,\xe9\n", "the header, row 1, is unreadable: not UTF-8"),
        ("a.csv", "b,a\n1,2\n".encode("utf-16"), "is in UTF-16; save it as UTF-8"),
        ("a.xlsx", "a", "unknown kind of table '.xlsx'; expected one of .jsonl, .csv, .parquet, .inter, .item"),
        ("a.parquet", "PAR1 and nothing more", "not a whole Parquet file"),
        ("a.csv", "", "does not exist"),
    ],
)
def test_a_spoilt_file_is_a_data_error(tmp_path: Path, name: str, content: bytes | str, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path / name, content, required=("b",))
    assert reason in str(caught.value)


@pytest.mark.parametrize("suffix", READERS)
def test_empty_files_and_folders_are_data_errors(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"empty{suffix}").touch()
    with pytest.raises(DataError, match="is empty"):
        read(tmp_path / f"empty{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(DataError, match="is a folder; expected a file"):
        read(tmp_path / f"folder{suffix}")


def test_a_cut_or_doubled_parquet_is_a_data_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"b": list(range(1000))}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    with pytest.raises(DataError, match="not a whole Parquet file"):
        read(tmp_path / "a.parquet", whole[: len(whole) // 2])
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["b", "b"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="column 'b' is there twice"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("suffix", [suffix for suffix in READERS if suffix != ".parquet"])
@given(head=st.sampled_from(["", "a,b\n", "a:token\tb:float\n"]), body=st.binary(max_size=60))
@few
def test_no_bytes_do_worse_than_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, head: str, body: bytes
) -> None:
    with suppress(DataError):
        records, report = read(tmp_path_factory.mktemp("bytes") / f"a{suffix}", head.encode() + body + b"\n")
        rows = [row for row, _ in records] + [row for row, _ in faults(report) if row]
        assert len(set(rows)) == len(rows) <= head.count("\n") + body.count(b"\n") + 1


def test_the_report_shows_some_and_counts_all(tmp_path: Path) -> None:
    report, file = Report(limit=2), tmp_path / "items.csv"
    for row in range(2, 1207):
        report.reject(file, row, RowError("text", "too long", f"text {row} is long"))
    report.reject(file, 1300, RowError("", "bad JSON", "x" * 1000))
    report.accept(file, 5000, unused={"price", "b"})
    assert report.problems == [Problem(file, row, "text", f"text {row} is long") for row in (2, 3)]
    assert str(report).splitlines() == [
        "5,000 records accepted, 1,206 rejected",
        f"  {file}, row 2, text: text 2 is long",
        f"  {file}, row 3, text: text 3 is long",
        "  ... and 1,204 more; by kind:",
        "      1,205  items.csv, text, too long (first: row 2)",
        "          1  items.csv, bad JSON (first: row 1300)",
        "  note: items.csv: columns not used: 'b, price'",
    ]


def test_long_reasons_are_cut() -> None:
    report = Report()
    report.reject(Path("a"), 1, RowError("", "odd", "x" * 1000))
    assert report.problems[0].reason == "x" * 300 + " ..."


def test_strict_raises_the_whole_report_and_skip_goes_on() -> None:
    report = Report()
    report.accept(Path("a"), 1)
    report.enforce("strict")
    report.reject(Path("a"), 7, RowError("id", "missing", "no id"))
    report.enforce("skip")
    with pytest.raises(DataError, match=r"(?s)1 records accepted, 1 rejected\n  a, row 7, id: no id\n.*--skip-bad"):
        report.enforce("strict")


def test_a_file_without_a_good_record_is_a_data_error_either_way() -> None:
    report = Report()
    with pytest.raises(DataError, match="b has no records"):
        report.accept(Path("b"), 0)
    report.reject(Path("a"), 7, RowError("id", "missing", "no id"))
    with pytest.raises(DataError, match=r"(?s)a: every record was rejected.*row 7, id: no id"):
        report.accept(Path("a"), 0)
