"""The report: one self-contained HTML page that a person can read, hear and check.

The one idea: markup and text are different types. `tag` escapes every string but `Html`, so an item
called `<script>` is shown, not run, and nobody has to remember to escape. Pictures, sounds and
figures are inside the page as data URIs, and its own policy forbids any outside request.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import UInt8
from PIL import Image

from m6rec_mini.catalog import Event, Item, Sound
from m6rec_mini.console import plain
from m6rec_mini.contest import Contest, Row, signed
from m6rec_mini.plots import Plot, dot_plot, heat_map, loss_curves
from m6rec_mini.recommender import DONE, Recommendation
from m6rec_mini.training import Epoch

VOID = {"img", "source", "meta"}  # elements that have no end tag
LONGEST = 5.0  # seconds of a sound that the page holds
EXCERPT = 150  # characters of an item's text
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True, eq=False)
class Past:
    """An event with its item, as the page shows it."""

    item: Item
    action: str
    timestamp: int


@dataclass(frozen=True, eq=False)
class Story:
    """One user: what they did, what the model would show them, and what they really chose next."""

    user: str
    chosen_how: str
    topic: Sequence[str]
    history: Sequence[Past]  # the latest events, oldest first
    events: Sequence[Event]  # all of them
    places: Sequence[Recommendation]
    items: Sequence[Item]  # of the places
    next_item: Item
    next_rank: int


@dataclass(frozen=True, eq=False)
class Findings:
    """All that the page tells."""

    title: str
    data: str  # a sentence: what the data are, and that they are synthetic where they are
    contest: Contest
    log: Sequence[Epoch]
    story: Story
    made: Mapping[str, str]
    recipe: str  # the full configuration as text
    notes: Sequence[str]


# ---- markup ---------------------------------------------------------------------------------------


class Html(str):
    """Markup. Any other string is text, and is escaped when it enters a page."""


def tag(name: str, /, *inside: str, **attributes: str | bool) -> Html:
    """An element; `class_` and `aria_label` are written as `class` and `aria-label`."""
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not False
    )
    if name in VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{join(*inside)}</{name}>")


def join(*parts: str) -> Html:
    """Parts behind each other; text is escaped."""
    return Html("".join(part if isinstance(part, Html) else escape(plain(part)) for part in parts))


def words(name: str, text: str, /, **attributes: str | bool) -> Html:
    """An element with text from data, in whose language a reader's voice should speak it."""
    chinese = any("\u4e00" <= c <= "\u9fff" for c in text)
    return tag(name, text, **attributes, **({"lang": "zh-CN"} if chinese else {}))


def data_uri(kind: str, content: bytes) -> str:
    """Bytes as an address that needs no request."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture_uri(image: UInt8[np.ndarray, "height width 3"]) -> str:
    """The picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return data_uri("image/png", buffer.getvalue())


def sound_uri(sound: Sound) -> str:
    """The first seconds of the sound as WAV, 16 bits."""
    buffer = io.BytesIO()
    wave = sound.wave[: math.ceil(LONGEST * sound.rate)]
    soundfile.write(buffer, wave, sound.rate, format="WAV", subtype="PCM_16")
    return data_uri("audio/wav", buffer.getvalue())


# ---- the page -------------------------------------------------------------------------------------


def write_report(findings: Findings, file: Path) -> None:
    """Write the page; it appears complete or not at all."""
    beside = file.with_name(file.name + ".part")
    beside.write_text(page(findings), encoding="utf-8", newline="\n")
    beside.replace(file)


def page(findings: Findings) -> str:
    """The whole document."""
    sections = {
        "results": ("The model beside every baseline", results(findings.contest)),
        "list": ("One user and their list", story(findings.story)),
        "modalities": ("What the list is made of", modalities(findings.story)),
        "training": ("How it learnt", training(findings.log)),
        "made": ("How this page was made", made(findings)),
        "notes": ("What to keep in mind", tag("ul", *(tag("li", note) for note in findings.notes), class_="notes")),
    }
    links = [tag("li", tag("a", title, href=f"#{name}")) for name, (title, _) in sections.items()]
    body = [
        tag("section", tag("h2", title, id=name), content, aria_labelledby=name)
        for name, (title, content) in sections.items()
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", findings.title),
        tag("style", Html(files("m6rec_mini").joinpath("report.css").read_text(encoding="utf-8"))),
    )
    top = tag(
        "header",
        tag("h1", findings.title),
        tag("p", findings.contest.verdict, class_="lead"),
        tag("p", findings.data, class_="callout"),
        tag("nav", tag("ul", *links), aria_label="Sections of this page"),
    )
    skip = tag("a", "Skip to the results", href="#results", class_="skip")
    foot = tag("footer", tag("p", "Everything on this page is inside this one file; it asks nothing of any server."))
    document = tag("html", head, tag("body", skip, top, tag("main", *body), foot), lang="en")
    return f"<!doctype html>\n{document}\n"


def figure(plot: Plot, caption: str = "") -> Html:
    """A figure in the dress of the reader's light or dark mode."""
    light, dark = (data_uri("image/svg+xml", svg.encode()) for svg in (plot.light, plot.dark))
    picture = tag(
        "picture",
        tag("source", srcset=dark, media="(prefers-color-scheme: dark)"),
        tag("img", src=light, alt=plot.alt),
    )
    return tag("figure", picture, *([tag("figcaption", caption)] if caption else []))


def scrolling(table: Html, label: str) -> Html:
    """A table that is wider than a phone is moved, not squeezed; by keyboard too."""
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=label)


def results(contest: Contest) -> Html:
    """The table, and the two headline metrics as dots with intervals."""
    heads = ("ranker", "HR@10 [95%]", "NDCG@10 [95%]", "coverage@10", "Gini@10", "tail HR@50", "fit, s")
    table = tag(
        "table",
        tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
        tag("tbody", *(_row(row, contest) for row in contest.rows)),
    )
    drawn = [contest.model, *contest.baselines]
    plots = [
        figure(dot_plot([(row.name, row.intervals[m]) for row in drawn], m.upper(), (contest.model.name,)))
        for m in contest.differences
    ]
    notes = [tag("li", f"{row.name}: {row.note}") for row in contest.rows if row.note]
    return join(
        tag("p", f"Means over {len(contest.model.evaluation.ranks):,} users, one held-out event each.", class_="muted"),
        scrolling(table, "Metrics of all rankers"),
        tag("p", contest.gaps + "."),
        tag("ul", *notes, class_="small muted") if notes else Html(),
        tag("div", *plots, class_="plots"),
    )


def _row(row: Row, contest: Contest) -> Html:
    values = row.summary
    kind = "model" if row is contest.model else "ceiling" if row is contest.ceiling else ""
    cells = [f"{x.mean:.3f} [{x.low:.3f}, {x.high:.3f}]" for x in row.intervals.values()]
    cells += [f"{values[name]:.2f}" for name in ("coverage@10", "gini@10")]
    cells += [f"{values['tail hr@50']:.3f}", f"{row.seconds:.1f}" if row.seconds else "–"]
    return tag("tr", tag("th", row.name, scope="row"), *(tag("td", cell) for cell in cells), class_=kind)


# ---- one user -------------------------------------------------------------------------------------


def story(told: Story) -> Html:
    """History and ranked list as cards."""
    came = f"What {told.user} really chose next is “{told.next_item.label}”; the model ranks it {told.next_rank:,}."
    topic = f" In its own words, it expects something about: {', '.join(told.topic)}." if told.topic else ""
    falls = [0.0, *(x for place in told.places for x in place.modalities.values())]
    scale = (min(falls), max(falls))
    ranked = [
        _place(place, item, scale, item.id == told.next_item.id)
        for place, item in zip(told.places, told.items, strict=True)
    ]
    return join(
        tag("p", f"{told.user}, {told.chosen_how}. {came}"),
        tag("h3", f"The last {len(told.history)} events, latest first"),
        tag("ol", *(_past(past) for past in reversed(told.history)), class_="cards past"),
        tag("h3", "The ranked list"),
        tag("p", f"Scores are log-probabilities: higher is likelier.{topic}"),
        tag("ol", *ranked, class_="cards"),
    )


def _past(past: Past) -> Html:
    day = datetime.fromtimestamp(past.timestamp, UTC).strftime("%d %b %Y")
    meta = tag("p", f"{DONE[past.action]} · {past.item.domain} · {day}", class_="meta")
    title = tag("div", words("h4", past.item.label), meta)
    return tag("li", tag("div", _picture(past.item), title, class_="top"), *_sound(past.item), class_="card")


def _place(place: Recommendation, item: Item, scale: tuple[float, float], came: bool) -> Html:
    title = words("h4", f"{place.rank}. {item.label}")
    score = f"{place.score:.2f}".replace("-", "−")
    meta = tag("p", f"{item.domain} · score {score}", class_="meta")
    mark = [tag("p", "This is what came next.", class_="meta tag")] if came else []
    text = (item.text or "").strip().removeprefix(item.title).lstrip(" .。")
    excerpt = text if len(text) <= EXCERPT else text[:EXCERPT].rstrip() + "…"
    return tag(
        "li",
        tag("div", _picture(item), tag("div", title, meta, *mark), class_="top"),
        words("p", excerpt, class_="small") if excerpt else tag("p", "no text", class_="small muted"),
        *_sound(item),
        tag("p", f"Why: {place.reason}.", class_="reason"),
        _bars(place, scale),
        class_="card came" if came else "card",
    )


def _picture(item: Item) -> Html:
    if item.image is None:
        return tag("div", "no picture", class_="none")
    return tag("img", src=picture_uri(item.image), alt=f"Picture of {item.label}", class_="picture")


def _sound(item: Item) -> list[Html]:
    if item.audio is None:
        return [tag("p", "no sound", class_="meta")]
    return [
        tag("audio", controls=True, preload="metadata", src=sound_uri(item.audio), aria_label=f"Sound of {item.label}")
    ]


def _bars(place: Recommendation, scale: tuple[float, float]) -> Html:
    """What each modality contributed, as a bar from the zero line, and its share of the attention."""
    if not place.attention and not place.modalities:
        return Html()
    rows = []
    for n, name in enumerate(place.attention or place.modalities):
        value, share = place.modalities.get(name), place.attention.get(name)
        number = "none" if value is None else signed(value, 2)
        rows.append(
            tag(
                "tr",
                tag("th", name, scope="row"),
                tag("td", _track(value or 0.0, scale, n), class_="wide"),
                tag("td", number),
                tag("td", "–" if share is None or value is None else f"{share:.0%}"),
            )
        )
    heads = [
        tag("th", "modality", scope="col"),
        tag("th", "contribution", scope="col", colspan="2"),
        tag("th", "attention", scope="col"),
    ]
    return tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_="bars")


def _track(value: float, scale: tuple[float, float], colour: int) -> Html:
    low, high = scale
    zero, end = (100 * (x - low) / max(high - low, 1e-9) for x in (0.0, value))
    style = f"left:{min(zero, end):.1f}%;width:{abs(end - zero):.1f}%;background:var(--m{colour % 6})"
    return tag("div", tag("i", style=style), tag("b", style=f"left:{zero:.1f}%"), class_="track")


# ---- the rest -------------------------------------------------------------------------------------


def modalities(told: Story) -> Html:
    """Attention and contribution side by side: what is looked at need not be what counts."""
    names = list(dict.fromkeys(name for place in told.places for name in (*place.attention, *place.modalities)))
    nan = float("nan")
    has = [set(item.modalities) for item in told.items]
    shares = {
        n: [p.attention.get(n, nan) if n in h else nan for p, h in zip(told.places, has, strict=True)] for n in names
    }
    falls = {n: [place.modalities.get(n, nan) for place in told.places] for n in names}
    plots = []
    if any(place.attention for place in told.places):
        caption = "Where the fusion looks: each row adds up to 100%."
        plots.append(figure(heat_map(shares, "Attention over modalities"), caption))
    caption = "What it is worth: by how much the item's score from the network falls when a modality is hidden."
    plots.append(figure(heat_map(falls, "Contribution, by hiding", signed=True), caption))
    text = (
        f"For the {len(told.places)} items of the list above, by rank. Attention says where the network looks; only "
        "hiding a modality says what it was worth. A negative number means that the item would score higher without it."
    )
    return join(tag("p", text), tag("div", *plots, class_="plots"))


def training(log: Sequence[Epoch]) -> Html:
    """The loss curves of the stages."""
    text = (
        "Three stages: the encoders learn words and which modalities belong together; fusion and decoder learn the "
        "next item; then the writing of semantic IDs and words is learnt on top, and what reads stays as it is. "
        "Each stage has a loss of its own, so heights can be compared within a figure only."
    )
    return join(tag("p", text), tag("div", *map(figure, loss_curves(log)), class_="plots"))


def made(findings: Findings) -> Html:
    """Settings, time and versions."""
    pairs = [part for name, value in findings.made.items() for part in (tag("dt", name), tag("dd", value))]
    recipe = tag("details", tag("summary", "The whole configuration"), tag("pre", findings.recipe, tabindex="0"))
    return join(tag("dl", *pairs), recipe)
