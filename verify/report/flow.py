"""How solutions flow through the checks, as a drawing: heights are numbers of solutions.

    annotated ──▶ kept unchanged, corrected by a rule, rejected by a rule
                      ──▶ full weight, down-weighted, rejected

Pure geometry; the page draws it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from verify.report.numbers import REJECTED, Stream, Verification

_COLUMNS = (0.0, 200.0, 640.0)
"""Where the bars of the three columns begin; the last column's text needs 160 more."""
_BAR = 12.0
_ALL = 260.0
"""The height of all solutions together."""
_ROOM = 36.0
"""What the two lines of text beside a bar need."""
_GAP = 8.0


@dataclass(frozen=True)
class Bar:
    """Solutions at one place: a bar with two lines of text to its right.

    Attributes:
        kind: a class of the page's style.
        name: the first line.
        before: what stands before the number in the second line.
        solutions: how many.
        x, y, height: where it stands; its width is that of all bars.
    """

    kind: str
    name: str
    before: str
    solutions: int
    x: float
    y: float = 0.0
    height: float = 0.0


@dataclass(frozen=True)
class Band:
    """Solutions on their way from one bar to the next: the path of its outline."""

    kind: str
    name: str
    solutions: int
    path: str


@dataclass(frozen=True)
class Flow:
    """The whole drawing; `bar` is the width of a bar."""

    width: float
    height: float
    bar: float
    bars: list[Bar]
    bands: list[Band]


def flow(numbers: Verification) -> Flow:
    """Lay the drawing out."""
    start, middle, end = _COLUMNS
    weights = [
        Bar("full", "full weight", "", numbers.kept - numbers.lighter, end),
        Bar("lighter", "down-weighted", "", numbers.lighter, end),
        Bar("rejected", "rejected", "", numbers.rejected, end),
    ]
    columns = [
        [Bar("all", "annotated", "", numbers.solutions, start)],
        [_bar(stream, middle) for stream in numbers.streams],
        [bar for bar in weights if bar.solutions],
    ]
    scale = _ALL / numbers.solutions
    columns = [[_high(bar, scale) for bar in column] for column in columns]
    height = max(map(_needed, columns))
    (first,), rules, ends = (_stacked(column, height) for column in columns)
    bands = _bands(first, rules, {bar.kind: bar for bar in ends}, numbers.streams, scale)
    return Flow(end + 160.0, height, _BAR, [first, *rules, *ends], bands)


def _bar(stream: Stream, x: float) -> Bar:
    kind = stream.fate.split()[-1]
    if not stream.rule:
        return Bar(kind, stream.fate, "", stream.solutions, x)
    return Bar(kind, stream.rule, f"{kind}, ", stream.solutions, x)


def _high(bar: Bar, scale: float) -> Bar:
    return replace(bar, height=max(2.0, scale * bar.solutions))


def _needed(bars: Sequence[Bar]) -> float:
    """The height of a column."""
    return sum(max(bar.height, _ROOM) + _GAP for bar in bars) - _GAP


def _stacked(bars: Sequence[Bar], whole: float) -> list[Bar]:
    """The bars below each other, in the middle of the whole height."""
    top = (whole - _needed(bars)) / 2
    placed = []
    for bar in bars:
        room = max(bar.height, _ROOM)
        placed.append(replace(bar, y=top + (room - bar.height) / 2))
        top += room + _GAP
    return placed


def _bands(
    first: Bar, rules: Sequence[Bar], ends: dict[str, Bar], streams: Sequence[Stream], scale: float
) -> list[Band]:
    """From the first bar to every rule, and from there to what training gets."""
    bands = []
    reached = Counter[str]()  # solutions that already flow into an end
    before = 0
    for rule, stream in zip(rules, streams, strict=True):
        name = f"{first.name} to {rule.name}"
        path = _path(first, scale * before, rule, 0.0, scale * rule.solutions)
        bands.append(Band(rule.kind, name, rule.solutions, path))
        before += rule.solutions
        rejected = stream.solutions if stream.fate == REJECTED else 0
        parts = {"full": stream.full, "lighter": stream.lighter, "rejected": rejected}
        gone = 0
        for kind, solutions in parts.items():
            if solutions:
                low, high = scale * gone, scale * reached[kind]
                path = _path(rule, low, ends[kind], high, scale * solutions)
                bands.append(Band(kind, f"{rule.name} to {ends[kind].name}", solutions, path))
                gone += solutions
                reached[kind] += solutions
    return bands


def _path(one: Bar, below: float, other: Bar, other_below: float, thick: float) -> str:
    """The outline of a band that begins and ends so far below the tops of two bars."""
    x0, y0, x1, y1 = one.x + _BAR, one.y + below, other.x, other.y + other_below
    bend, thick = (x0 + x1) / 2, max(1.0, thick)
    there = f"C{bend:.1f},{y0:.1f} {bend:.1f},{y1:.1f} {x1:.1f},{y1:.1f}"
    y0, y1 = y0 + thick, y1 + thick
    back = f"C{bend:.1f},{y1:.1f} {bend:.1f},{y0:.1f} {x0:.1f},{y0:.1f}"
    return f"M{x0:.1f},{y0 - thick:.1f} {there} V{y1:.1f} {back} Z"
