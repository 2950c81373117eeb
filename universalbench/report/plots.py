"""Plots as SVG that stands inside a page: drawn by Matplotlib, coloured by the page.

A plot names no colour and no font: lines and text take the page's variables, so that they read in
light and in dark. Equal numbers give equal bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = 6
"""How many colours of series the page knows: `--s0`, `--s1`, …"""

DASHES: tuple[tuple[float, ...], ...] = ((), (6.0, 2.0), (1.5, 1.8), (7.0, 2.0, 1.5, 2.0))
"""Dashes of lines in points; together with the colours 12 series differ."""

INK, LINE, SOFT, PAPER = "#000001", "#000002", "#000003", "#000004"
"""Stand for the page's variables until the drawing is done; nothing else may colour it."""

_SERIES = tuple(f"#00001{number}" for number in range(COLOURS))

_VARIABLES = {
    INK: "var(--ink)",
    LINE: "var(--line)",
    SOFT: "var(--soft)",
    PAPER: "var(--paper)",
} | {colour: f"var(--s{number})" for number, colour in enumerate(_SERIES)}

_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "lines.scale_dashes": False,
}


_LONG = re.compile(r"-?\d+\.\d{3,}")
"""Coordinates finer than anybody sees."""


@dataclass(frozen=True)
class Line:
    """A line, drawn as the series of its number.

    Attributes:
        number: of the series, see `COLOURS` and `DASHES`.
        x, y: its points.
        spans: low and high of each point; empty where there are none.
        mark: a point to mark on it.
    """

    number: int
    x: Sequence[float]
    y: Sequence[float]
    spans: Sequence[tuple[float, float]] = ()
    mark: tuple[float, float] | None = None


@dataclass(frozen=True)
class Levels:
    """Lines without a series of their own, which others are compared with; `dashes` tells them
    apart."""

    x: Sequence[float]
    y: Sequence[float]
    dashes: tuple[float, ...]


def over_thresholds(
    line: Line, cut: tuple[float, float | None], oracle: tuple[float, float | None], key: str
) -> Markup:
    """A metric over thresholds, both in per cent where a metric is.

    Args:
        line: the metric over thresholds.
        cut: the threshold in use, and the metric there.
        oracle: likewise of the best one.
        key: what no other plot of the page has.
    """
    with drawing(3.3, 2.2, key) as (axes, done):
        _draw(axes, line)
        axes.axvline(cut[0], color=INK, linewidth=1, dashes=(3, 2))
        for (x, y), fill in ((oracle, PAPER), (cut, INK)):
            if y is not None:
                axes.plot([x], [y], "o", color=INK, markerfacecolor=fill, markersize=6)
        _per_cent(axes, "y")
        axes.set_xlabel("threshold")
    return done[0]


def square(
    lines: Sequence[Line], names: tuple[str, str], diagonal: tuple[int, int], key: str
) -> Markup:
    """Two shares in per cent against each other.

    Args:
        lines: with marks where their thresholds in use are.
        names: of the axes.
        diagonal: where a line that says nothing begins and ends, on the left and on the right.
        key: what no other plot of the page has.
    """
    with drawing(3.6, 3.3, key) as (axes, done):
        axes.plot([0, 100], diagonal, color=SOFT, linewidth=0.8, dashes=(2, 2))
        for line in lines:
            _draw(axes, line)
        for side in "xy":
            _per_cent(axes, side)
        axes.set_xlabel(names[0])
        axes.set_ylabel(names[1])
    return done[0]


def reliability(number: int, bins: Sequence[tuple[float, float, int]], key: str) -> Markup:
    """A reliability diagram.

    Args:
        number: of the series.
        bins: mean score, share of right steps (both in per cent), and steps, of bins with steps.
        key: what no other plot of the page has.
    """
    most = max(steps for *_, steps in bins)
    with drawing(2.7, 2.6, key) as (axes, done):
        axes.plot([0, 100], [0, 100], color=SOFT, linewidth=0.8, dashes=(2, 2))
        x, y = [row[0] for row in bins], [row[1] for row in bins]
        _draw(axes, Line(number, x, y))
        sizes = [4 + 80 * steps / most for *_, steps in bins]
        axes.scatter(x, y, s=sizes, color=colour(number), zorder=3, clip_on=False)
        for side in "xy":
            _per_cent(axes, side)
        axes.set_xlabel("mean score")
        axes.set_ylabel("right steps")
    return done[0]


def over_numbers(lines: Sequence[Line], levels: Sequence[Levels], key: str) -> Markup:
    """Accuracies in per cent over how many candidates are chosen from, with intervals."""
    with drawing(3.6, 2.9, key) as (axes, done):
        for level in levels:
            axes.plot(level.x, level.y, color=SOFT, linewidth=1.2, dashes=level.dashes or (1, 0))
        for place, line in enumerate(lines):
            # Side by side, so that intervals do not hide each other.
            shift = 1.03 ** (place - (len(lines) - 1) / 2)
            x = [value * shift for value in line.x]
            _draw(axes, Line(line.number, x, line.y))
            for at, (low, high) in zip(x, line.spans, strict=True):
                axes.plot([at, at], [low, high], color=colour(line.number), linewidth=1)
            axes.plot(x, line.y, "o", color=colour(line.number), markersize=3.5)
        numbers = sorted({value for line in lines for value in line.x})
        axes.set_xscale("log", base=2)
        axes.set_xticks(numbers, [f"{number:g}" for number in numbers])
        axes.minorticks_off()
        axes.set_xlabel("N, candidates to choose from")
        axes.set_ylabel("right answers, %")
    return done[0]


def swatch(number: int | None, dashes: tuple[float, ...] = ()) -> Markup:
    """What a legend shows of a series, or of a level with these dashes."""
    colour = "var(--soft)" if number is None else f"var(--s{number % COLOURS})"
    pattern = dashes if number is None else DASHES[number % len(DASHES)]
    dashed = f' stroke-dasharray="{" ".join(map(str, pattern))}"' if pattern else ""
    return Markup(
        '<svg class="swatch" viewBox="0 0 28 8" aria-hidden="true">'
        f'<path d="M0,4 H28" style="stroke: {colour}"{dashed}/></svg>'
    )


def colour(number: int) -> str:
    """What a drawing calls the colour of a series."""
    return _SERIES[number % COLOURS]


def _draw(axes: Axes, line: Line) -> None:
    dashes = DASHES[line.number % len(DASHES)]
    axes.plot(line.x, line.y, color=colour(line.number), dashes=dashes or (1, 0))
    if line.mark is not None:
        axes.plot(
            *([value] for value in line.mark), "o", color=colour(line.number), markersize=6,
            markeredgecolor=INK, clip_on=False, zorder=4,
        )  # fmt: skip


def _per_cent(axes: Axes, side: str) -> None:
    """From 0 to 100, with room for what lies on the edge."""
    limits, ticks = ("set_xlim", "set_xticks") if side == "x" else ("set_ylim", "set_yticks")
    getattr(axes, limits)(-3, 103)
    getattr(axes, ticks)(range(0, 101, 25))


@contextmanager
def drawing(width: float, height: float, key: str) -> Iterator[tuple[Axes, list[Markup]]]:
    """Axes of a figure of this size in inches; once left, its SVG is in the list.

    The key goes into the names of its parts, which must be the page's only ones.
    """
    done: list[Markup] = []
    with rc_context(_STYLE | {"svg.hashsalt": key}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.subplots(), done
        file = io.BytesIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    done.append(_inline(file.getvalue()))


def _inline(text: bytes) -> Markup:
    """The drawing as an element of a page, without what only a file of its own needs.

    It is hidden from screen readers: the page says in words what it shows.
    """
    root = ElementTree.fromstring(text)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.tail = None
        if element.tag != "text":
            element.text = None
        for key in list(element.attrib):
            value = element.attrib.pop(key)
            name = key.rpartition("}")[2]
            if name == "style":
                value = _themed(value)
            elif name in ("d", "x", "y", "transform"):
                value = _LONG.sub(lambda match: f"{float(match[0]):.2f}", " ".join(value.split()))
            if not value.startswith("rotate(-0 "):
                element.set(name, value)
    used = {
        value.strip("url()#")
        for element in root.iter()
        for key, value in element.attrib.items()
        if key in ("href", "clip-path")
    }
    for element in list(root.iter()):
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        for child in list(element):
            if child.tag in ("metadata", "style"):
                element.remove(child)
    view = root.get("viewBox", "")
    root.attrib.clear()
    width = 1.3 * float(view.split()[2])
    root.attrib.update(
        {
            "class": "plot",
            "viewBox": view,
            "aria-hidden": "true",
            "style": f"max-width: {width:.0f}px",
        }
    )
    _flatten(root)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _themed(style: str) -> str:
    kept = [part.strip() for part in style.split(";")]
    kept = [part for part in kept if not part.startswith(("font-family", "font:"))]
    text = "; ".join(kept)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return text


def _flatten(parent: ElementTree.Element) -> None:
    """Take away groups that say nothing."""
    children: list[ElementTree.Element] = []
    for child in parent:
        _flatten(child)
        bare = child.tag in ("g", "defs") and not child.attrib
        if child.tag == "g" and bare:
            children += list(child)
        elif not (child.tag == "defs" and not len(child)):
            children.append(child)
    parent[:] = children
