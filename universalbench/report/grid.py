"""Tables as data, which a page, a Markdown file and a reader's eye all take from one place."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from universalbench.results import Comparison, Estimate

NONE = "–"
"""What stands where there is no value."""


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table.

    Attributes:
        text: the value.
        small: what stands below it, such as its interval; may be several lines.
        kind: `words` where it is no number; else how a page marks it: `win`, `loss`, `few`.
        span: low, value and high from 0 to 1 that a page draws beside the text.
    """

    text: str
    small: str = ""
    kind: str = ""
    span: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        caption: what it shows.
        columns: their names.
        rows: one cell per column; the first names the row.
        notes: what to know of it.
        before: what to know before one looks at it.
    """

    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    notes: tuple[str, ...] = ()
    before: str = ""


def words(text: str, small: str = "") -> Cell:
    """A cell that holds no number."""
    return Cell(text, small, kind="words")


def percent(value: float | None) -> str:
    """A share in per cent, without the sign."""
    return NONE if value is None else f"{100 * value:.1f}"


def threshold(value: float) -> str:
    """A threshold; the least number above 0, which parts 0 from all others, in words."""
    return "above 0" if 0 < value < sys.float_info.min else f"{value:.4g}"


def points(value: float | None) -> str:
    """A difference of shares in points, with its sign; one that rounds to 0 has none."""
    if value is None:
        return NONE
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def interval(estimate: Estimate, signed: bool = False) -> str:
    """The interval in per cent, or why there is none."""
    if estimate.interval is None:
        return "" if estimate.why is None else estimate.why
    show = points if signed else percent
    return f"[{show(estimate.interval[0])}, {show(estimate.interval[1])}]"


def estimated(estimate: Estimate, kind: str = "", drawn: bool = False) -> Cell:
    """A metric's cell.

    Args:
        estimate: its value and interval.
        kind: see `Cell`.
        drawn: whether a page draws the interval.
    """
    span = None
    if drawn and estimate.value is not None:
        low, high = estimate.interval or (estimate.value, estimate.value)
        span = low, estimate.value, high
    return Cell(percent(estimate.value), interval(estimate), kind, span)


def tied(pair: Comparison) -> bool:
    """Whether two predictors cannot be told apart: the interval holds 0, or there is none."""
    found = pair.difference.interval
    return found is None or found[0] <= 0 <= found[1]


def p_value(value: float | None) -> str:
    """A p-value."""
    if value is None:
        return "no p-value"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def count(number: int) -> str:
    """A whole number."""
    return f"{number:,}"


def duration(seconds: float) -> str:
    """A time: seconds below two minutes, then minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def markdown(grid: Grid) -> str:
    """A table in Markdown, its notes below it."""
    lines = [[escape(name) for name in grid.columns]]
    lines.append(["---" if stands_left else "---:" for stands_left in _words(grid)])
    lines += [
        [f"{escape(cell.text)} {escape(cell.small)}".strip() for cell in row] for row in grid.rows
    ]
    text = [escape(grid.before), ""] if grid.before else []
    text += [f"**{escape(grid.caption)}**", "", *map(_line, lines), ""]
    for note in grid.notes:
        text += [escape(note), ""]
    return "\n".join(text)


def _words(grid: Grid) -> list[bool]:
    """For each column whether it stands on the left."""
    return [
        index == 0 or any(row[index].kind == "words" for row in grid.rows)
        for index in range(len(grid.columns))
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Text that Markdown, and HTML within it, shows as it stands, on one line."""
    for sign in "\\`*_{}[]<>|#$~":
        text = text.replace(sign, f"\\{sign}" if sign not in "<>" else f"&{'lg'[sign == '>']}t;")
    return " ".join(text.split())
