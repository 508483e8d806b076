"""RESULTS.md: the sections in order, under what conditions they came about, and by which rules.

Aims that are missed and jobs that did not finish are said as plainly as the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from m6rec_mini.benchmark.aims import aims_section
from m6rec_mini.benchmark.sections import (
    ablation_section,
    accuracy_section,
    cold_section,
    global_time_section,
    peers_section,
    tail_section,
    time_section,
)
from m6rec_mini.benchmark.tables import About, Picture, Results, Section
from m6rec_mini.evaluation import TAIL

SECTIONS: Sequence[Callable[[Results, About], Section | None]] = (
    aims_section,
    accuracy_section,
    peers_section,
    cold_section,
    ablation_section,
    tail_section,
    time_section,
    global_time_section,
)
PROTOCOL = f"""
- Leave-one-out: a user's last event is the test case, the one before it the validation case, the rest is training.
- A test history holds everything before the target, the validation event too. Nothing is trained again with it.
- All items of the catalogue compete, but those of the history. An item that ties with the target stands before it.
- Events are sorted by time, stably. Where the target has the timestamp of the event before it, the log does not say
  which came first: such cases are called *tied* and are reported apart.
- Within a run every grid, stopping point and weight is chosen on the validation cases. The design was not blind: test
  numbers of this data set were in view while defaults, the grids of Markov and content-kNN, and the start of the
  decoder were chosen. So read small differences as optimistic, and trust a new data set more.
- One number cannot be tuned on warm validation cases: the weight of content for items without events. It is a default,
  chosen once on a fold of cold items that is not among those reported.
- A *tail* item has at most {TAIL} training events.
- Numbers are means over users; the seeds of a row are averaged first. Brackets hold 95% bootstrap intervals over
  users. Differences are paired. Rows with one run need no seed.
- coverage@10: share of the items that are in anybody's first ten. Gini@10: 0 if all are there equally often, towards 1
  if few take all places.
""".strip()


def make_sections(results: Results, about: About) -> list[Section]:
    """All sections that have something to tell."""
    made = (make(results, about) for make in SECTIONS)
    sections = [section for section in made if section is not None]
    if about.failed:
        sections.append(Section("What did not finish", ["\n".join(f"- {line}" for line in about.failed)]))
    return sections


def write_results(sections: Sequence[Section], about: About, out: Path) -> Path:
    """`RESULTS.md` and its pictures."""
    out.mkdir(parents=True, exist_ok=True)
    top = f"# Results on {about.data}\n\nMade by `m6rec benchmark`; not edited by hand.\n\n"
    text = top + "\n".join(f"- {line}" for line in about.lines) + "\n\n## How it was measured\n\n" + PROTOCOL + "\n\n"
    file = out / "RESULTS.md"
    file.write_text(text + "\n\n".join(section.markdown() for section in sections) + "\n", encoding="utf-8")
    for section in sections:
        for part in section.body:
            if isinstance(part, Picture):
                part.save(out)
    return file
