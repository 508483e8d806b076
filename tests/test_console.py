"""The terminal: progress that can be followed in a log, and data that cannot take the terminal over."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from m6rec_mini.console import TrainingProgress, bar, plain, ranked_table, show_rejected
from m6rec_mini.datasets.records import Report, RowError
from m6rec_mini.recommender import Known, Recommendation
from m6rec_mini.training import Epoch


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_nothing_that_a_terminal_obeys_gets_through() -> None:
    assert plain("red \x1b[31malert\x07\u202e") == "red  [31malert  "
    assert plain("two\nlines, 👩\u200d🔬, 漢字") == "two\nlines, 👩\u200d🔬, 漢字"


@given(st.text())
def test_what_is_plain_stays_so(text: str) -> None:
    assert len(plain(text)) == len(text)
    assert plain(plain(text)) == plain(text)
    assert "\x1b" not in plain(text)


def test_bars_grow_by_eighths() -> None:
    assert bar(1.0, 1.0, 3) == "███"
    assert bar(0.5, 1.0, 3) == "█▌ "
    assert bar(0.0, 1.0, 3) == bar(1.0, 0.0, 3) == bar(-1.0, 1.0, 3) == "   "
    assert bar(9.0, 1.0, 3) == "███"


def test_a_list_shows_titles_as_they_are_and_what_is_missing() -> None:
    places = [
        Recommendation(
            1, Known("a", "[bold]Tea[/bold] \x1b[31m", "music"), -1.5, "you liked [b]", modalities={"text": 2.0}
        ),
        Recommendation(2, Known("b", "Cups"), -2.5, modalities={"text": -1.0, "image": 0.5}),
    ]
    console = Console(file=io.StringIO(), width=90)
    console.print(ranked_table(places, "A list"))
    text = shown(console)
    for words in ("[bold]Tea[/bold]", "you liked [b]", "-1.50", "+2.0", "−1.0", "none", "music"):
        assert words in text
    assert "\x1b" not in text


def test_a_list_without_reasons_has_no_bars() -> None:
    console = Console(file=io.StringIO(), width=90)
    console.print(ranked_table([Recommendation(1, Known("a", "Tea"), -1.5)], "A list"))
    assert "modalities" not in shown(console)


def test_progress_in_a_log_has_a_line_per_epoch() -> None:
    console = Console(file=io.StringIO(), width=90)
    with TrainingProgress(console, {"encoders": 3, "decoder": 1}) as progress:
        progress(Epoch("encoders", 0, 9.0, -8.0, 2.0))
        progress(Epoch("encoders", 1, 8.0, -7.5, 4.0))
        progress(Epoch("decoder", 0, 5.0, -4.0, 1.0))
    lines = shown(console).splitlines()
    assert lines == [
        "encoders  epoch  1/3  loss 9.000  validation 8.000  at most 4 s left",
        "encoders  epoch  2/3  loss 8.000  validation 7.500  at most 3 s left",
        "decoder   epoch  1/1  loss 5.000  validation 4.000  done",
    ]


def test_progress_in_a_terminal_says_when_a_stage_stopped_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with TrainingProgress(console, {"encoders": 3}) as progress:
        progress(Epoch("encoders", 0, 9.0, -8.0, 2.0))
        assert "stopped early" not in str(progress.progress.tasks[0].fields["said"])
    (task,) = progress.progress.tasks
    assert task.finished
    assert task.fields["said"] == "epoch  1/3  loss 9.000  validation 8.000  stopped early"


def test_what_was_skipped_is_told_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    show_rejected(report)
    report.reject(Path("items.jsonl"), 7, RowError("image", "bad", "no picture"))
    show_rejected(report)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("items.jsonl, row 7, image: no picture") == 1
