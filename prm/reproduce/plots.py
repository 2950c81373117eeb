"""Drawings of figures: rows of points and curves, with intervals and the seeds' own values."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from universalbench.report.plots import COLOURS, DASHES, INK, PAPER, SOFT, colour, drawing

WIDTH = 3.6
"""Of all drawings, in inches."""

LETTERS = 48
"""Of a name, on one line of a drawing."""

_LINE_HEIGHT, _ROW_HEIGHT = 0.16, 0.2
"""Of a name's lines and of the strip below them, in inches."""

_MARKS = "os^D"
"""Shapes of points; with the colours they tell 24 series apart."""


@dataclass(frozen=True)
class Dot:
    """A number that is drawn.

    Attributes:
        value: over all seeds.
        interval: its interval, where it has one.
        seeds: of each seed by itself, those that are defined.
        paper: the paper's number.
        x: where it stands on a curve.
    """

    value: float
    interval: tuple[float, float] | None
    seeds: Sequence[float]
    paper: float | None = None
    x: float = 0.0


@dataclass(frozen=True)
class Series:
    """Points that belong together; more than one are joined by a line.

    Attributes:
        number: of the series, which decides colour, dashes and shape.
        dots: in the order of their `x`.
    """

    number: int
    dots: Sequence[Dot]


def rows(dots: Sequence[tuple[str, Dot]], key: str, zero: bool = False) -> Markup:
    """Named numbers below each other on one scale.

    Args:
        dots: names and numbers.
        key: what no other drawing of the page has.
        zero: whether the numbers are differences, so that 0 is marked.
    """
    names = [textwrap.wrap(name, LETTERS) or [""] for name, _ in dots]
    heights = [_LINE_HEIGHT * len(lines) + _ROW_HEIGHT for lines in names]
    with drawing(WIDTH, sum(heights) + 0.35, key) as (axes, done):
        top = 0.0
        for (_, dot), lines, height in zip(dots, names, heights, strict=True):
            axes.text(
                0, top + 0.02, "\n".join(lines), transform=axes.get_yaxis_transform(), va="top",
                fontsize=8.5, linespacing=1.15, parse_math=False,
            )  # fmt: skip
            if zero:  # beside the strip alone, not through the name
                axes.plot([0, 0], [top + height - 0.2, top + height - 0.02], color=INK, linewidth=1)
            _strip(axes, dot, top + height - 0.11)
            top += height
        axes.set_ylim(top, 0)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.06)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    return done[0]


def _strip(axes: Axes, dot: Dot, y: float) -> None:
    shade = colour(0)
    if dot.interval is not None:
        axes.plot(dot.interval, [y, y], color=shade, linewidth=2.5, alpha=0.45)
    _seeds(axes, [(value, y) for value in dot.seeds], shade)
    axes.plot([dot.value], [y], "o", color=shade, markersize=5.5, zorder=4)
    if dot.paper is not None:
        _paper(axes, dot.paper, y)


def curves(series: Sequence[Series], labels: tuple[str, str], key: str, ticks: bool) -> Markup:
    """Numbers over something else.

    Args:
        series: what is drawn.
        labels: of the axes.
        key: what no other drawing of the page has.
        ticks: whether each `x` is marked: there are few, and other values mean nothing.
    """
    with drawing(WIDTH, 2.9, key) as (axes, done):
        for one in series:
            shade, mark = colour(one.number), _mark(one.number)
            dashes = DASHES[one.number % len(DASHES)] or (1, 0)
            xs = [dot.x for dot in one.dots]
            if len(xs) > 1:
                axes.plot(xs, [dot.value for dot in one.dots], color=shade, dashes=dashes)
            for dot in one.dots:
                if dot.interval is not None:
                    axes.plot([dot.x] * 2, dot.interval, color=shade, linewidth=1.2, alpha=0.6)
                _seeds(axes, [(dot.x, value) for value in dot.seeds], shade)
                axes.plot([dot.x], [dot.value], mark, color=shade, markersize=4.5, zorder=4)
                if dot.paper is not None:
                    _paper(axes, dot.x, dot.paper)
        every = sorted({dot.x for one in series for dot in one.dots})
        if ticks and every[0] > 0 and every[-1] >= 8 * every[0]:
            axes.set_xscale("log", base=2)
        axes.minorticks_off()
        if ticks and len(every) <= 8:
            axes.set_xticks(every, [short(value) for value in every])
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axes.set_xlabel(labels[0], parse_math=False)
        axes.set_ylabel(labels[1], parse_math=False)
    return done[0]


def swatch(number: int, joined: bool) -> Markup:
    """What a legend shows of a series; `joined` where it has a line."""
    shade = f"var(--s{number % COLOURS})"
    pattern = DASHES[number % len(DASHES)]
    dashed = f' stroke-dasharray="{" ".join(map(str, pattern))}"' if pattern else ""
    line = f'<path d="M0,5 H28" style="stroke: {shade}"{dashed}/>' if joined else ""
    shape = {
        "o": '<circle cx="14" cy="5" r="3.2"',
        "s": '<rect x="11" y="2" width="6" height="6"',
        "^": '<path d="M14,1.2 L17.8,8.2 H10.2 Z"',
        "D": '<path d="M14,.8 L18.2,5 L14,9.2 L9.8,5 Z"',
    }[_mark(number)]
    return Markup(
        '<svg class="swatch" viewBox="0 0 28 10" aria-hidden="true">'
        f'{line}{shape} style="fill: {shade}; stroke: none"/></svg>'
    )


def short(value: float) -> str:
    """A number at an axis: no more digits than it needs, thousands and millions by letter."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * unit or (abs(value) >= unit and letter != "k"):
            return f"{value / unit:.3g}{letter}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−") if round(value, 9) else "0"


def _mark(number: int) -> str:
    return _MARKS[number // COLOURS % len(_MARKS)]


def _seeds(axes: Axes, places: Sequence[tuple[float, float]], shade: str) -> None:
    if len(places) > 1:  # the only one is the value itself
        xs, ys = zip(*places, strict=True)
        axes.plot(xs, ys, "o", color=shade, markersize=3, markerfacecolor=PAPER, zorder=3,
                  markeredgewidth=0.8)  # fmt: skip


def _paper(axes: Axes, x: float, y: float) -> None:
    axes.plot([x], [y], "D", color=SOFT, markerfacecolor="none", markersize=6, zorder=3)
