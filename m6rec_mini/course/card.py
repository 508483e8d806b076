"""A report as a learner reads it: in a notebook as a card, in a terminal as text.

First what is right, then one thing to mend: the law, the smallest call that shows it, what came out.
Everything that comes from learner's code is escaped.
"""

from __future__ import annotations

from html import escape

from m6rec_mini.course.grader import Outcome, Report

GOOD, BAD, DIM = "#1a7f37", "#b42318", "#6b7280"
MARKS = {"passed": "✓", "failed": "✗", "unanswered": "·", "missing": "?", "out of time": "⧖", "not run": "·"}


def text_card(report: Report) -> str:
    """Plain text, for a terminal and for outputs that cannot show HTML."""
    lines = [f"{report.title}: {_points(report)}"]
    lines += [f"  {MARKS[outcome.status]} {_law(outcome)}" for outcome in report.outcomes if _worth_a_line(outcome)]
    failure = report.first_failure
    if failure is not None:
        lines += ["", failure.message]
        lines += [f"  {name}: {text}" for name, text in _facts(failure)]
    if report.printed:
        lines += ["", "Your code printed:", *("  " + line for line in report.printed.splitlines()[:8])]
    if failure is not None:
        lines += ["", *([f"Hint: {report.hint}"] if report.hint else ()), _further(report)]
    return "\n".join(lines)


def html_card(report: Report) -> str:
    """One self-contained block."""
    colour = GOOD if report.passed else BAD
    failure = report.first_failure
    parts = [f"<div style='font-weight:600;color:{colour}'>{escape(report.title)}: {escape(_points(report))}</div>"]
    rows = "".join(
        f"<li style='list-style:none;color:{GOOD if o.passed else BAD if o.status == 'failed' else DIM}'>"
        f"{MARKS[o.status]} <span style='color:inherit'>{escape(_law(o))}</span></li>"
        for o in report.outcomes
        if _worth_a_line(o)
    )
    parts.append(f"<ul style='margin:.4em 0;padding:0'>{rows}</ul>")
    if failure is not None:
        parts.append(f"<p style='margin:.4em 0'>{escape(failure.message)}</p>")
        facts = "".join(
            f"<tr><th style='text-align:left;vertical-align:top;padding-right:1em'>{escape(name)}</th>"
            f"<td><pre style='margin:0;white-space:pre-wrap'>{escape(text)}</pre></td></tr>"
            for name, text in _facts(failure)
        )
        parts.append(f"<table>{facts}</table>" if facts else "")
    if report.picture:
        parts.append(report.picture if report.picture.startswith("<svg") else f"<img src='{escape(report.picture)}'>")
    if report.printed:
        parts.append(f"<details><summary>Your code printed</summary><pre>{escape(report.printed)}</pre></details>")
    if report.hint and failure is not None:
        parts.append(f"<p style='margin:.4em 0'><b>Hint:</b> {escape(report.hint)}</p>")
    if failure is not None:
        parts.append(f"<p style='margin:.4em 0;color:{DIM}'>{escape(_further(report))}</p>")
    style = f"border-left:4px solid {colour};padding:.4em 1em;margin:.4em 0"
    return f"<div class='m6rec-card' style='{style}'>{''.join(parts)}</div>"


def _further(report: Report) -> str:
    """Where help is to be had."""
    command = f"m6rec hint {report.chapter[:2]}.{report.question}"
    return f"Stuck? {command}. The lesson: {report.chapter}#{report.section}"


def _points(report: Report) -> str:
    return f"{report.points:g} of {report.worth:g} point{'s' * (report.worth != 1)}"


def _law(outcome: Outcome) -> str:
    return outcome.teaches or outcome.law.removeprefix("test_").replace("_", " ")


def _worth_a_line(outcome: Outcome) -> bool:
    return outcome.status != "not run"


def _facts(outcome: Outcome) -> list[tuple[str, str]]:
    pairs = (("call", outcome.called), ("got", outcome.got), ("expected", outcome.expected))
    return [(name, text) for name, text in pairs if text]
