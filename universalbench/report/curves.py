"""Plots of a task, each with the words and the numbers that say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from universalbench.report import plots
from universalbench.report.grid import Cell, Grid, count, percent, threshold, words
from universalbench.report.plots import Levels, Line
from universalbench.report.runs import Entry, TaskReport
from universalbench.report.table import REWARD
from universalbench.results import Bin, Point, Sweep

LEVELS: dict[str, tuple[float, ...]] = {
    "oracle": (1.5, 1.8),
    "majority": (6.0, 2.0),
    "pass@1": (),
}
"""What is the same for every predictor, and how it is dashed."""


@dataclass(frozen=True)
class Figure:
    """A plot.

    Attributes:
        title: what it shows.
        svg: the drawing.
        words: the drawing for those who do not see it.
        legend: what a line looks like, and whose it is.
        numbers: what is drawn, as a table.
    """

    title: str
    svg: Markup
    words: str
    legend: list[tuple[Markup, str]]
    numbers: Grid | None = None


@dataclass(frozen=True)
class Group:
    """Plots of one sort.

    Attributes:
        title: what they show.
        note: how to read them.
        figures: the plots.
        more: whether they stand behind the others.
    """

    title: str
    note: str
    figures: list[Figure]
    more: bool = False


def groups(task: TaskReport) -> list[Group]:
    """All plots of a task; groups that would hold none are left out."""
    found = [_thresholds(task), _trade(task), _reliability(task), *_choices(task)]
    return [group for group in found if group.figures]


def _numbered(task: TaskReport) -> list[tuple[int, Entry]]:
    return list(enumerate(task.entries))


def _thresholds(task: TaskReport) -> Group:
    figures = [
        _threshold(task, number, entry, entry.row.sweep)
        for number, entry in _numbered(task)
        if entry.row.sweep is not None
    ]
    return Group(
        f"{task.record.headline} over thresholds",
        "Per cent, on what is measured. The dashed line and the full dot are the threshold in use; "
        "the hollow dot is the best of all thresholds, which nobody knows beforehand: it bounds "
        "what a better threshold could give and reports nothing. Each predictor's scores have a "
        "scale of their own.",
        figures,
    )


def _threshold(task: TaskReport, number: int, entry: Entry, sweep: Sweep) -> Figure:
    there = [point for point in sweep.points if point.values[sweep.metric] is not None]
    cut = entry.row.threshold
    assert cut is not None
    value, best = entry.row.metrics[entry.row.headline].value, sweep.oracle
    line = Line(number, [p.threshold for p in there], _values(there, sweep.metric))
    svg = plots.over_thresholds(
        line,
        (cut.value, _hundred(value)),
        (best.threshold, _hundred(best.values[sweep.metric])),
        f"thresholds of {entry.name} on {task.record.name}",
    )
    return Figure(
        title=entry.name,
        svg=svg,
        words=f"{sweep.metric} of {entry.name} over thresholds: {percent(value)} per cent at "
        f"{threshold(cut.value)}, which is in use; at best {percent(best.values[sweep.metric])} at "
        f"{threshold(best.threshold)}",
        legend=[],
        numbers=_points(entry.name, sweep.points, best),
    )


def _points(name: str, found: Sequence[Point], best: Point) -> Grid:
    metrics = list(best.values)
    return Grid(
        caption=f"{name} at some of its thresholds, in per cent; the last row is the best of all",
        columns=["threshold", *metrics],
        rows=[
            [
                Cell(threshold(point.threshold)),
                *(Cell(percent(point.values[metric])) for metric in metrics),
            ]
            for point in [*found, best]
        ],
    )


def _trade(task: TaskReport) -> Group:
    """Every predictor's sweep as one line; what is on the axes hangs on what is known of steps."""
    steps = any("recall_wrong" in (_oracle(entry) or {}) for entry in task.entries)
    if steps:
        x, y, diagonal = "false_alarm_rate", "recall_wrong", (0, 100)
        names = "right steps called wrong, %", "wrong steps called wrong, %"
        title, corner = "ROC", "the upper left"
        note = "The dotted line is what scores that say nothing give."
    else:
        x, y, diagonal = "correct_accuracy", "error_accuracy", (100, 0)
        names = "correct_accuracy, %", "error_accuracy, %"
        title, corner = "Accuracy on erroneous over accuracy on error-free solutions", "upper right"
        note = "Along the dotted line the two add up to 100."
    lines, legend, said = [], [], []
    for number, entry in _numbered(task):
        sweep = entry.row.sweep
        if sweep is None:
            continue
        there = [p for p in sweep.points if p.values[x] is not None and p.values[y] is not None]
        at = [_hundred(entry.row.metrics[name].value) for name in (x, y)]
        mark = (at[0], at[1]) if at[0] is not None and at[1] is not None else None
        if there:
            lines.append(Line(number, _values(there, x), _values(there, y), mark=mark))
            legend.append((plots.swatch(number), entry.name))
            said.append(
                f"{entry.name} {' and '.join('unknown' if v is None else f'{v:.1f}' for v in at)}"
            )
    if not lines:
        return Group(title, note, [])
    figure = Figure(
        title=f"All predictors on {task.record.name}",
        svg=plots.square(lines, names, diagonal, f"{title} on {task.record.name}"),
        words=f"{names[1]} over {names[0]}, at the thresholds in use: "
        + "; ".join(text for text in said)
        + f". Better is {corner}.",
        legend=legend,
    )
    return Group(
        title,
        f"A line runs over all thresholds of a predictor, its dot is the one in use. {note} The "
        "numbers are in the tables of thresholds above.",
        [figure],
    )


def _oracle(entry: Entry) -> dict[str, float | None] | None:
    return None if entry.row.sweep is None else entry.row.sweep.oracle.values


def _reliability(task: TaskReport) -> Group:
    figures = []
    for number, entry in _numbered(task):
        found = entry.row.calibration
        if found is None or not any(item.steps for item in found.bins):
            continue
        bins = [
            (100 * item.mean_score, 100 * item.share_right, item.steps)
            for item in found.bins
            if item.mean_score is not None and item.share_right is not None
        ]
        said = f"ECE {percent(found.ece.value)}, Brier {percent(found.brier.value)} per cent"
        figures.append(
            Figure(
                title=f"{entry.name}: {said}",
                svg=plots.reliability(
                    number, bins, f"reliability of {entry.name} on {task.record.name}"
                ),
                words=f"Share of right steps over mean score of {entry.name}: {said}",
                legend=[],
                numbers=_bins(entry.name, found.bins),
            )
        )
    absent = [
        f"{entry.name}: {entry.row.calibration.why}."
        for entry in task.entries
        if entry.row.calibration is not None and entry.row.calibration.why
    ]
    return Group(
        "Reliability",
        "Steps by their score, in per cent: how many of them are right. On the dotted line, a "
        "score is the probability that a step is right; the larger a dot, the more steps. "
        + " ".join(absent),
        figures,
    )


def _bins(name: str, bins: Sequence[Bin]) -> Grid:
    return Grid(
        caption=f"Steps of {name} by score, in per cent",
        columns=["score", "steps", "mean score", "right"],
        rows=[
            [
                words(f"{100 * item.low:.1f} to {100 * item.high:.1f}"),
                Cell(count(item.steps)),
                Cell(percent(item.mean_score)),
                Cell(percent(item.share_right)),
            ]
            for item in bins
        ],
    )


def _choices(task: TaskReport) -> list[Group]:
    """Best of N and weighted majority; the headline's reward first, the others behind."""
    if task.record.kind != "candidates":
        return []
    rows = {entry.name: (entry.row.details or {}).get("rows", []) for entry in task.entries}
    methods = dict.fromkeys(row["method"] for found in rows.values() for row in found)
    by_reward = [method for method in methods if method.endswith(")")]
    note = (
        "The share of problems on which the chosen answer is right, in per cent, with 95 % "
        "intervals. Without a predictor: pass@1 takes a candidate at random, majority the most "
        "frequent answer; an oracle errs only where no candidate is right."
    )
    first = [method for method in by_reward if method.endswith(f"({REWARD})")]
    rest = [method for method in by_reward if method not in first]
    return [
        Group("Choosing among candidates", note, _chosen(task, rows, first)),
        Group("Choosing by other rewards", note, _chosen(task, rows, rest), more=True),
    ]


def _chosen(
    task: TaskReport, rows: dict[str, list[dict[str, Any]]], methods: Sequence[str]
) -> list[Figure]:
    figures = []
    for method in methods:
        lines, legend, said = [], [], []
        for number, entry in _numbered(task):
            found = [row for row in rows[entry.name] if row["method"] == method]
            if not found:
                continue
            lines.append(
                Line(
                    number,
                    [row["n"] for row in found],
                    [100 * row["accuracy"] for row in found],
                    [(100 * row["interval"][0], 100 * row["interval"][1]) for row in found],
                )
            )
            legend.append((plots.swatch(number), entry.name))
            said.append(f"{entry.name} {percent(found[-1]['accuracy'])}")
        if not lines:
            continue
        most = max(max(line.x) for line in lines)
        levels = []
        for name, dashes in LEVELS.items():
            found = [row for row in rows[task.entries[0].name] if row["method"] == name]
            xs, ys = [row["n"] for row in found], [100 * row["accuracy"] for row in found]
            levels.append(Levels(xs, ys, dashes))
            legend.append((plots.swatch(None, dashes), name))
        figures.append(
            Figure(
                title=method,
                svg=plots.over_numbers(lines, levels, f"{method} on {task.record.name}"),
                words=f"Right answers by {method}, in per cent, at N = {most:g}: "
                + "; ".join(said),
                legend=legend,
            )
        )
    return figures


def _values(found: Sequence[Point], metric: str) -> list[float]:
    return [100 * value for point in found if (value := point.values[metric]) is not None]


def _hundred(value: float | None) -> float | None:
    return None if value is None else 100 * value
