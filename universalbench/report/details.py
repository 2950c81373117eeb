"""What a benchmark's own evaluation says, in tables: PRMBench's classes, choices of candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from universalbench.report.grid import NONE, Cell, Grid, percent, points, words
from universalbench.report.runs import TaskReport
from universalbench.report.table import left_out
from universalbench.tasks.prmbench import CATEGORIES, UNDEFINED


def classes(task: TaskReport) -> list[Grid]:
    """PRMBench's own evaluation: PRMScores by class, and all its metrics of every predictor."""
    if task.record.kind != "prmbench":
        return []
    members = {name: category for category, names in CATEGORIES.items() for name in names}
    found = {entry.name: entry.row.details or {} for entry in task.entries}
    order = [*members, *(n for n in _union(found, "classes") if n not in members)]
    there = [name for name in order if name in _union(found, "classes")]
    score = Grid(
        caption=f"PRMScore by class of error on {task.record.name}, in per cent",
        columns=["class", "category", *found],
        rows=[
            [
                words(name),
                words(members.get(name, "")),
                *(
                    _theirs(item["classes"].get(name, {}).get("prm_score"))
                    for item in found.values()
                ),
            ]
            for name in there
            if name != "correct"
        ]
        + [
            [
                words(f"mean of {name}"),
                words(name),
                *(_theirs(item["categories"].get(name)) for item in found.values()),
            ]
            for name in _union(found, "categories")
        ]
        + [
            [
                words("all steps"),
                words(""),
                *(_theirs(i["total"]["prm_score"]) for i in found.values()),
            ]
        ],
        notes=(
            "As PRMBench's authors compute it: the mean of F1 and negative F1 (F1 alone for "
            "multi_solutions, which has no wrong step), positive is right, a part that is 0/0 "
            f"enters as -1, solutions without scores are left out. {NONE} stands for -1, 0/0.",
        ),
    )
    return [score, *(_every(name, item, there) for name, item in found.items())]


def _every(name: str, item: dict[str, Any], there: Sequence[str]) -> Grid:
    metrics = list(item["total"])
    return Grid(
        caption=f"PRMBench's metrics of {name}, in per cent",
        columns=["class", *metrics],
        rows=[
            [words(label), *(_theirs(values.get(metric)) for metric in metrics)]
            for label, values in [
                *((label, item["classes"].get(label, {})) for label in there),
                ("all steps", item["total"]),
            ]
        ],
    )


def _union(found: dict[str, dict[str, Any]], part: str) -> list[str]:
    return list(dict.fromkeys(name for item in found.values() for name in item.get(part, {})))


def _theirs(value: float | None) -> Cell:
    return Cell(percent(None if value == UNDEFINED else value))


def choices(task: TaskReport) -> list[Grid]:
    """How well each predictor chooses among candidates, by method and number of them."""
    if task.record.kind != "candidates":
        return []
    grids = []
    for entry in task.entries:
        rows = (entry.row.details or {}).get("rows", [])
        numbers = sorted({row["n"] for row in rows})
        cells = {
            (row["method"], row["n"]): Cell(
                percent(row["accuracy"]), _span(row["interval"], percent)
            )
            for row in rows
        }
        last = {row["method"]: row for row in rows if row["n"] == numbers[-1]}
        grids.append(
            Grid(
                caption=f"Right answers that {entry.name} chooses out of N candidates, in per "
                "cent, and the gain over one at random at the largest N, in points, with 95 % "
                "intervals",
                columns=["method", *(f"N = {number}" for number in numbers), "gain"],
                rows=[
                    [
                        words(method),
                        *(cells.get((method, number), Cell(NONE)) for number in numbers),
                        Cell(points(row["gain"]), _span(row["gain_interval"], points)),
                    ]
                    for method, row in last.items()
                ],
                notes=tuple(
                    filter(None, [left_out(entry.run.results.config.get("n", ()), entry.row)])
                ),
            )
        )
    return grids


def _span(held: Sequence[float], show: Callable[[float], str]) -> str:
    return f"[{show(held[0])}, {show(held[1])}]"
