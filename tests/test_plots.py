"""Figures: what they say in words is what they draw, on light and on dark paper, with no trace of state."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from m6rec_mini import plots
from m6rec_mini.evaluation import Interval
from m6rec_mini.plots import DARK, LIGHT, Palette, Plot, dot_plot, heat_map, loss_curves
from m6rec_mini.training import Epoch

NAN = float("nan")
LOG = [
    *(Epoch("encoders", n, 9.0 - n, -(8.0 - n), 1.0) for n in range(3)),
    *(Epoch("decoder", n, 5.0 - n, -validation, 1.0) for n, validation in enumerate((4.5, 4.25, 4.75))),
]
ROWS = [("EASE", Interval(0.15, 0.12, 0.18)), ("model", Interval(0.2, 0.17, 0.23)), ("pop", Interval(0.1, 0.08, 0.12))]


def every_plot() -> list[Plot]:
    shares = {"text": [0.5, 1.0], "image": [0.5, NAN]}
    falls = {"text": [0.25, -0.5], "image": [NAN, NAN]}
    return [
        *loss_curves(LOG),
        dot_plot(ROWS, "HR@10", ["model"]),
        heat_map(shares, "Attention"),
        heat_map(falls, "Worth", signed=True),
    ]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance and contrast ratio of two colours such as #1d2125."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("plot", every_plot(), ids=lambda plot: plot.alt[:20])
def test_each_plot_is_sound_svg_in_two_colours_with_a_text(plot: Plot) -> None:
    for svg, palette, other in ((plot.light, LIGHT, DARK), (plot.dark, DARK, LIGHT)):
        root = ElementTree.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert palette.ink in svg
        assert other.ink not in svg
        values = [value for element in root.iter() for value in element.attrib.values()]
        assert not [value for value in values if re.search(r"https?:|//", value)]
    assert len(plot.alt) > 40


def test_loss_curves_tell_which_epoch_is_kept() -> None:
    encoders, decoder = loss_curves(LOG)
    assert "stage encoders over 3 epochs. Training: 9.00 to 7.00." in encoders.alt
    assert "the lowest, 6.00, is at epoch 3" in encoders.alt
    assert "Validation: 4.50 to 4.75; the lowest, 4.25, is at epoch 2" in decoder.alt
    assert len(loss_curves(LOG[:1])) == 1  # one epoch is a curve too
    assert loss_curves([]) == []


def test_dots_are_told_best_first() -> None:
    plot = dot_plot(ROWS, "HR@10", ["model"])
    assert "best first: model 0.200 (0.170 to 0.230); EASE 0.150 (0.120 to 0.180); pop 0.100" in plot.alt
    assert LIGHT.strong in plot.light
    assert LIGHT.strong not in dot_plot(ROWS, "HR@10").light


def test_a_heat_map_leaves_missing_cells_out_of_the_means() -> None:
    attention, worth = every_plot()[-2:]
    assert "Means: text 75%, image 50%." in attention.alt
    assert "Means: text -0.12." in worth.alt
    assert heat_map({"text": [NAN]}, "Nothing").alt.endswith("Means: none.")


def test_colours_can_be_read_and_told_apart_on_their_paper() -> None:
    def check(palette: Palette) -> None:
        for text in (palette.ink, palette.muted):
            assert contrast(text, palette.paper) >= 4.5
        for mark in (palette.strong, palette.other, palette.against):
            assert contrast(mark, palette.paper) >= 3

    check(LIGHT)
    check(DARK)
    assert contrast("#ffffff", "#000000") == pytest.approx(21)


def test_the_same_figure_has_the_same_bytes_and_leaves_no_state() -> None:
    before = dict(mpl.rcParams)
    assert dot_plot(ROWS, "HR@10") == dot_plot(ROWS, "HR@10")
    assert dict(mpl.rcParams) == before


def test_a_plot_without_words_is_refused_and_saving_writes_svg(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot see it"):
        plots.render(lambda _axes, _palette: None, " ")
    dot_plot(ROWS, "HR@10").save(tmp_path / "dots.svg")
    ElementTree.parse(tmp_path / "dots.svg")
