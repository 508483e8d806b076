"""Figures: one style for all, readable by the colour-blind, on a phone, at night, and by ear.

The one idea: a figure is a function that draws on axes in the colours of a `Palette`, so it can be
drawn twice, for light and for dark paper, and comes with a sentence that says what is to be seen.
Nothing here touches pyplot: there is no window, no current figure, no state.
Colours: Okabe and Ito 2008, told apart with every common kind of colour blindness.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from m6rec_mini.evaluation import Interval
from m6rec_mini.training import Epoch


@dataclass(frozen=True)
class Palette:
    """Colours by what they mean."""

    ink: str
    muted: str
    line: str
    paper: str
    strong: str  # what the figure is about
    other: str  # what it is compared with
    against: str  # a value below zero


LIGHT = Palette("#1d2125", "#5d6670", "#d5d9de", "#ffffff", "#0072b2", "#767f89", "#d55e00")
DARK = Palette("#e7e9ec", "#a3abb5", "#3d444d", "#15181c", "#56b4e9", "#9aa3ad", "#e69f00")
Draw = Callable[[Axes, Palette], None]


@dataclass(frozen=True)
class Plot:
    """A figure as SVG, for light and for dark paper, and what it shows in words."""

    light: str
    dark: str
    alt: str

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ValueError("a figure needs a text for those who cannot see it")

    def save(self, file: Path) -> None:
        """Write the light one as an SVG file."""
        file.write_text(self.light, encoding="utf-8")


def render(draw: Draw, alt: str, width: float = 4.4, height: float = 2.8) -> Plot:
    """Draw on both kinds of paper; sizes in inches, small ones, since a phone shows 4 inches at most."""
    return Plot(_svg(draw, LIGHT, width, height), _svg(draw, DARK, width, height), alt)


def _svg(draw: Draw, palette: Palette, width: float, height: float) -> str:
    with mpl.rc_context(_style(palette)):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot(), palette)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # no metadata, which name addresses and days
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    return text[text.index("<svg") :]  # without the declaration, which only a file of its own needs


def _style(palette: Palette) -> Any:  # matplotlib's settings, whose names it types one by one
    inks = ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor")
    lines = ("axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    return {
        **dict.fromkeys(inks, palette.ink),
        **dict.fromkeys(lines, palette.line),
        **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
        "font.size": 10.0,
        "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same letters everywhere
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.8,
        "lines.markersize": 4.0,
        "svg.hashsalt": "m6rec",  # the same figure gives the same bytes
    }


# ---- the figures ----------------------------------------------------------------------------------


def loss_curves(log: Sequence[Epoch]) -> list[Plot]:
    """One figure a stage, in order: the loss on training and on validation by epoch; the best epoch is ringed."""
    return [_loss_curve(stage, list(epochs)) for stage, epochs in groupby(log, key=lambda done: done.stage)]


def _loss_curve(stage: str, epochs: Sequence[Epoch]) -> Plot:
    numbers = [done.epoch + 1 for done in epochs]
    train, held_out = [done.loss for done in epochs], [-done.validation for done in epochs]
    best = int(np.argmin(held_out))

    def draw(axes: Axes, palette: Palette) -> None:
        axes.plot(numbers, train, "--", marker="s", color=palette.other, label="training")
        axes.plot(numbers, held_out, "-", marker="o", color=palette.strong, label="validation")
        ring = axes.plot(numbers[best], held_out[best], "o", markersize=10, label="kept")[0]
        ring.set(markerfacecolor="none", markeredgecolor=palette.against, markeredgewidth=2)
        axes.set(title=f"Stage: {stage}", xlabel="epoch", ylabel="loss, nats")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.legend(fontsize=9)

    alt = (
        f"Loss of the stage {stage} over {len(epochs)} epochs. Training: {train[0]:.2f} to {train[-1]:.2f}. "
        f"Validation: {held_out[0]:.2f} to {held_out[-1]:.2f}; the lowest, {held_out[best]:.2f}, "
        f"is at epoch {numbers[best]}, which is kept."
    )
    return render(draw, alt, width=3.8, height=2.6)


def dot_plot(rows: Sequence[tuple[str, Interval]], label: str, strong: Sequence[str] = ()) -> Plot:
    """A dot and its interval for each name, best on top; names in `strong` stand out by colour and weight."""
    ordered = sorted(rows, key=lambda row: row[1].mean)  # the axis grows upwards

    def draw(axes: Axes, palette: Palette) -> None:
        for place, (name, value) in enumerate(ordered):
            colour, mark = (palette.strong, "D") if name in strong else (palette.other, "o")
            axes.plot([value.low, value.high], [place, place], color=colour, solid_capstyle="butt")
            axes.plot(value.mean, place, mark, color=colour, markersize=7, clip_on=False)
        axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
        for text in axes.get_yticklabels():
            text.set_fontweight("bold" if text.get_text() in strong else "normal")
        axes.set(xlabel=f"{label}, mean and 95% interval", xlim=(0, None), ylim=(-0.6, len(ordered) - 0.4))
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)

    values = "; ".join(f"{name} {v.mean:.3f} ({v.low:.3f} to {v.high:.3f})" for name, v in reversed(ordered))
    return render(draw, f"{label} with 95% intervals, best first: {values}.", height=0.9 + 0.29 * len(ordered))


def heat_map(columns: Mapping[str, Sequence[float]], title: str, *, signed: bool = False) -> Plot:
    """A cell for each column and rank (from 1), with its number; NaN is "none". `signed`: zero in the middle."""
    cells = np.array(list(columns.values()), float).T.reshape(-1, len(columns))  # ranks, columns
    most = max(float(np.nanmax(np.abs(cells), initial=0.0)), 1e-9)

    def draw(axes: Axes, palette: Palette) -> None:
        low = palette.against if signed else palette.paper
        colours = LinearSegmentedColormap.from_list("", [low, *[palette.paper] * signed, palette.strong])
        edges = [np.arange(size + 1) - 0.5 for size in reversed(cells.shape)]
        mesh = axes.pcolormesh(*edges, cells, cmap=colours, alpha=0.6, edgecolors=palette.paper, linewidth=1)
        mesh.set_clim(-most if signed else 0, most)
        axes.invert_yaxis()
        for (row, column), value in np.ndenumerate(cells):
            text = "none" if math.isnan(value) else f"{value:+.2f}".replace("-", "−") if signed else f"{value:.0%}"
            colour = palette.muted if math.isnan(value) else palette.ink
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
        axes.set_xticks(range(len(columns)), list(columns))
        axes.set_yticks(range(len(cells)), [str(rank) for rank in range(1, len(cells) + 1)])
        axes.set(title=title, ylabel="rank")
        axes.grid(visible=False)
        axes.tick_params(length=0)

    means = [(name, [x for x in values if not math.isnan(x)]) for name, values in columns.items()]
    said = ", ".join(f"{name} {np.mean(v):{'+.2f' if signed else '.0%'}}" for name, v in means if v)
    alt = f"{title}, a row for each of {len(cells)} ranks. Means: {said or 'none'}."
    return render(draw, alt, height=1.0 + 0.26 * len(cells))
