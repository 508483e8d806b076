"""The demo and its page: one file, whole, safe against what items are called, and usable by everybody."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from rich.console import Console
from test_contest import contest
from test_plots import LOG, contrast
from typer.testing import CliRunner

from m6rec_mini.bpr import BPRConfig
from m6rec_mini.catalog import DataError, Event, Item, Sound
from m6rec_mini.cli import app
from m6rec_mini.contest import Contest
from m6rec_mini.datasets.world import WorldConfig
from m6rec_mini.demo import DemoConfig, demo_recipe, run_demo
from m6rec_mini.jobs import limit_epochs
from m6rec_mini.recommender import Known, Recommendation
from m6rec_mini.report import VOID, Findings, Html, Past, Story, page, picture_uri, sound_uri, tag, write_report
from m6rec_mini.sasrec import SASRecConfig

EVIL = "<script>alert('x')</script> & \"<img src=http://evil.example onerror=x>"
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (8, 12, 3)).astype(np.uint8)
SOUND = Sound(RNG.uniform(-1, 1, 4000).astype(np.float32), 8000)


class Reader(HTMLParser):
    """The elements of a page; fails where they do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        names = [key for key, _ in attributes]
        assert len(set(names)) == len(names), f"an attribute twice: {names}"
        self.elements.append((name, {key: value or "" for key, value in attributes}))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, text: str) -> None:
        self.words.append(text)

    def all(self, name: str) -> Iterator[dict[str, str]]:
        return (given for found, given in self.elements if found == name)

    @property
    def text(self) -> str:
        return "".join(self.words)


def story(title: str = "A guide to tea") -> Story:
    full = Item("full", "music", f"{title}. Some words.", PICTURE, SOUND, title=title)
    bare = Item("bare", "films", features={"look": np.ones(3, np.float32)}, title="茶道")
    worth, shares = {"text": 0.5, "audio": -0.25}, {"text": 0.75, "audio": 0.25}
    first, second = Known("full", title, "music"), Known("bare", "茶道", "films")
    places = [
        Recommendation(1, first, -1.25, f"you liked “{title}”", modalities=worth, attention=shares),
        Recommendation(2, second, -2.5, "often chosen", modalities={"look": 1.0}, attention={"look": 1.0}),
    ]
    events = [Event(title, "full", "like", 1_700_000_000), Event(title, "bare", "view", 1_700_100_000)]
    past = [Past(full, "like", 1_700_000_000), Past(bare, "view", 1_700_100_000)]
    return Story(title, "chosen by chance", [title], past, events, places, [full, bare], bare, 2)


def findings(words: str = "plain words") -> Findings:
    result = contest([1, 3, 20], EASE=[2, 20, 20], popularity=[20, 20, 20])
    baselines = [replace(result.baselines[0], note=words), *result.baselines[1:]]
    result = Contest(result.model, baselines, replace(result.model, note="what is possible"))
    return Findings(words, words, result, LOG, story(words), {words: words}, words, [words])


@cache
def read(words: str = "plain words") -> Reader:
    return Reader(page(findings(words)))


# ---- the page -------------------------------------------------------------------------------------


def test_the_page_is_well_formed_with_a_title_a_language_and_one_first_heading() -> None:
    assert page(findings()).startswith("<!doctype html>\n<html lang=")
    reader = read()
    assert next(reader.all("html"))["lang"] == "en"
    assert {"charset": "utf-8"} in list(reader.all("meta"))
    assert any("width=device-width" in given.get("content", "") for given in reader.all("meta"))
    levels = [int(name[1]) for name, _ in reader.elements if re.fullmatch("h[1-6]", name)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for name in ("title", "main", "header", "nav", "footer"):
        assert len(list(reader.all(name))) == 1


def test_links_lead_somewhere_and_ids_are_given_once() -> None:
    ids = [given["id"] for _, given in read().elements if "id" in given]
    assert len(set(ids)) == len(ids)
    targets = [given["href"] for given in read().all("a")]
    assert len(targets) > 5
    assert all(target.startswith("#") and target[1:] in ids for target in targets)
    labels = [given["aria-labelledby"] for given in read().all("section")]
    assert set(labels) <= set(ids)


@pytest.mark.parametrize("words", ["plain words", EVIL])
def test_nothing_is_asked_of_any_server(words: str) -> None:
    reader = read(words)
    for name, given in reader.elements:
        assert name not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        for key, value in given.items():
            if key in {"src", "srcset", "poster", "data", "action"}:
                assert value.startswith("data:")
            assert not key.startswith("on")
    css = files("m6rec_mini").joinpath("report.css").read_text(encoding="utf-8")
    assert "url(" not in css
    assert "@import" not in css
    policy = next(given["content"] for given in reader.all("meta") if "http-equiv" in given)
    assert policy.startswith("default-src 'none'")
    for given in (*reader.all("img"), *reader.all("source")):
        uri = given.get("src") or given["srcset"]
        if uri.startswith("data:image/svg+xml"):
            svg = base64.b64decode(uri.partition(",")[2]).decode()
            assert not re.search(r'(href|src)="(?!#|data:)', svg)
            assert not re.search(r"url\((?!#)", svg)


def test_what_data_say_is_text_and_never_markup() -> None:
    reader = read(EVIL)
    assert reader.text.count(EVIL) >= 8  # title, data, note, names, story, settings, recipe, notes
    plain = [name for name, _ in read().elements]
    assert [name for name, _ in reader.elements] == plain


def test_escaping_is_by_type() -> None:
    assert tag("p", "<b>", Html("<b>x</b>")) == "<p>&lt;b&gt;<b>x</b></p>"
    assert tag("p", "x", title='"<', hidden=True, class_="a", aria_label="b", lang=False) == (
        '<p title="&quot;&lt;" hidden class="a" aria-label="b">x</p>'
    )
    assert tag("img", src="x") == '<img src="x">'
    assert tag("p", "\x1b[31m") == "<p> [31m</p>"


def test_pictures_sounds_and_tables_are_for_everybody() -> None:
    reader = read()
    assert all(given["alt"].strip() for given in reader.all("img"))
    assert all("controls" in given and given["aria-label"].strip() for given in reader.all("audio"))
    assert all(given["scope"] in {"row", "col"} for given in reader.all("th"))
    for given in reader.elements:
        if given[1].get("class") == "scroll":  # what scrolls can be reached by keyboard, and has a name
            assert given[1]["tabindex"] == "0"
            assert given[1]["aria-label"]
    assert any(given.get("lang") == "zh-CN" for _, given in reader.elements)
    assert reader.text.count("no picture") == 2  # once in the history, once in the list
    assert reader.text.count("no sound") == 2


def test_colours_can_be_read_in_light_and_in_dark() -> None:
    css = files("m6rec_mini").joinpath("report.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        found = dict(re.findall(r"--(\w+): (#\w+)", block))
        colours = {name: c if len(c) == 7 else "#" + "".join(2 * x for x in c[1:]) for name, c in found.items()}
        for paper in (colours["paper"], colours["card"]):
            assert all(contrast(colours[name], paper) >= 4.5 for name in ("ink", "muted", "accent"))
            assert all(contrast(colours[f"m{n}"], paper) >= 3 for n in range(6))


def test_pictures_and_sounds_inside_are_the_items_own() -> None:
    def content(uri: str) -> io.BytesIO:
        return io.BytesIO(base64.b64decode(uri.partition(",")[2]))

    np.testing.assert_array_equal(np.asarray(Image.open(content(picture_uri(PICTURE)))), PICTURE)
    wave, rate = soundfile.read(content(sound_uri(SOUND)), dtype="float32")
    assert rate == SOUND.rate
    np.testing.assert_allclose(wave, SOUND.wave, atol=1 / 32768)
    long = Sound(np.zeros(80_000, np.float32), 8000)
    assert len(soundfile.read(content(sound_uri(long)))[0]) == 5 * 8000  # a page is no archive


def test_the_list_has_scores_reasons_and_bars_in_order() -> None:
    text = read().text
    for words in ("1. plain words", "score −1.25", "Why: you liked “plain words”.", "+0.50", "−0.25", "75%"):
        assert words in text
    assert "What plain words really chose next is “茶道”; the model ranks it 2." in text
    assert text.count("This is what came next.") == 1
    assert text.index("14 Nov 2023") > text.index("16 Nov 2023")  # latest first
    styles = [given["style"] for given in read().all("i")]
    assert styles[0].startswith("left:20.0%;width:40.0%")  # +0.5 on a scale from -0.25 to 1
    assert styles[1].startswith("left:0.0%;width:20.0%")  # -0.25


def test_the_table_has_every_ranker_and_the_curves_every_stage() -> None:
    text = read().text
    for words in ("M6-Rec Mini", "EASE", "popularity", "what is possible", "HR@10 [95%]", "tail HR@50"):
        assert words in text
    alts = " ".join(given["alt"] for given in read().all("img"))
    for words in ("stage encoders", "stage decoder", "HR@10 with 95% intervals", "Attention over modalities"):
        assert words in alts


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m6rec_mini.report.page", lambda found: f"about {found.title}")
    write_report(findings("one"), tmp_path / "r.html")

    def full(*_: Any, **__: Any) -> None:
        raise OSError("full")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="full"):
        write_report(findings("other"), tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == "about one"


# ---- the demo -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The smallest demo that there is: its folder, and what it printed."""
    out, console = tmp_path_factory.mktemp("demo") / "out", Console(file=io.StringIO(), width=100)
    recipe = limit_epochs(demo_recipe(), 1)
    world = WorldConfig(items=100, users=20, mean_events=12.0)
    run_demo(out, console, DemoConfig(world, recipe, BPRConfig(epochs=1), SASRecConfig(epochs=1)))
    assert isinstance(console.file, io.StringIO)
    return out, console.file.getvalue()


def test_the_demo_says_what_it_is_and_shows_model_baselines_and_list(demo: tuple[Path, str]) -> None:
    _, printed = demo
    assert "synthetic world" in printed.splitlines()[0]
    for words in ("M6-Rec Mini", "popularity", "item-kNN", "Markov", "EASE + recency", "BPR-MF", "SASRec *", "oracle"):
        assert words in printed
    for words in ("under-trained", "Model minus the best baseline", "Ranked list", "Really chosen next", "text"):
        assert words in printed


def test_the_demos_page_is_whole_and_says_that_the_world_is_synthetic(demo: tuple[Path, str]) -> None:
    reader = Reader((demo[0] / "report.html").read_text(encoding="utf-8"))
    assert "The data are synthetic" in reader.text
    assert len(list(reader.all("audio"))) > 5
    assert sum(given["src"].startswith("data:image/png") for given in reader.all("img")) > 5


def test_the_command_that_the_demo_prints_works(demo: tuple[Path, str]) -> None:
    out, printed = demo
    command = next(line for line in printed.splitlines() if "m6rec recommend" in line).split()[1:]
    result = CliRunner().invoke(app, [*command, "--format", "json", "--k", "25"])
    assert result.exit_code == 0, result.output
    ids = {place["id"] for place in json.loads(result.stdout)}
    assert len(ids) == 25
    assert sum(name.startswith("new-") for name in ids) == 5
    history = [json.loads(line) for line in (out / "example" / "history.jsonl").read_text("utf-8").splitlines()]
    assert not ids & {event["item"] for event in history}


def test_a_demo_replaces_only_what_a_demo_left(tmp_path: Path) -> None:
    for name in ("model", "example"):
        taken = tmp_path / name / name
        taken.mkdir(parents=True)
        (taken / "thesis.txt").write_text("years of work")
        with pytest.raises(DataError, match="is taken"):
            run_demo(tmp_path / name, Console(file=io.StringIO()))
        assert (taken / "thesis.txt").exists()
