"""What a report says of a task in tables; a page and a Markdown file show the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from universalbench.published import Published, published
from universalbench.report.grid import (
    NONE,
    Cell,
    Grid,
    count,
    duration,
    estimated,
    interval,
    p_value,
    points,
    threshold,
    tied,
    words,
)
from universalbench.report.runs import Entry, TaskReport
from universalbench.report.table import COLUMNS, misfit, shown, unscored
from universalbench.results import Comparison, Slice

BY = {
    "generator": "policy",
    "subset": "subset",
    "steps": "number of steps",
    "characters": "length in characters",
    "position": "place in the solution",
}
"""What slices are by → in words."""


def headline(task: TaskReport) -> Grid:
    """The predictors of a task with what the task is about, thresholds and costs."""
    # The headline beside the names: where a page is narrow, the others are out of sight.
    columns = sorted(COLUMNS[task.record.kind], key=lambda pair: pair[1] != task.record.headline)
    subsets = list(task.record.subsets) if task.record.kind == "universalbench" else []
    if subsets:  # and their mean; the others stand in `metrics`
        columns = columns[:1]
    rows = [
        [
            words(entry.name, told(entry)),
            *(
                estimated(shown(entry.row, metric), drawn=metric == entry.row.headline)
                for _, metric in columns
            ),
            *(_subset(entry, name) for name in subsets),
            *_threshold(entry),
            Cell(count(entry.row.solutions), f"{count(entry.row.problems)} problems"),
            Cell(count(entry.row.unscored)),
            *_cost(entry),
        ]
        for entry in task.entries
    ]
    return Grid(
        caption=f"Predictors on {task.record.name}, in per cent, with 95 % intervals",
        columns=[
            "predictor",
            *(name for name, _ in columns),
            *subsets,
            "threshold",
            "chosen on",
            "n",
            "unscored",
            "tokens",
            "time",
        ],
        rows=rows,
        notes=tuple(_notes(task)),
    )


def told(entry: Entry) -> str:
    """What a predictor was told of references on a task, or "" where nothing."""
    if entry.row.sees_reference == "none":
        return ""
    text = {"worked": "worked reference", "answer": "true answer"}[entry.row.sees_reference]
    return f"told the {text} of {count(entry.row.references_given)}"


def _threshold(entry: Entry) -> tuple[Cell, Cell]:
    cut = entry.row.threshold
    if cut is None:
        return Cell(NONE), words("none needed")
    number = "" if cut.solutions is None else f"{count(cut.solutions)} solutions"
    return Cell(threshold(cut.value)), words(cut.source, number)


def _subset(entry: Entry, name: str) -> Cell:
    found = [item for item in entry.row.slices if (item.by, item.name) == ("subset", name)]
    if found:
        return _sliced(found[0])
    # Slices are by what there are several of; of a task with one subset the whole is the subset.
    return estimated(entry.row.metrics["f1_wrong"]) if not _divided(entry) else Cell(NONE)


def _divided(entry: Entry) -> bool:
    return any(item.by == "subset" for item in entry.row.slices)


def _cost(entry: Entry) -> tuple[Cell, Cell]:
    if entry.cost is None:
        return Cell(NONE), Cell(NONE)
    return Cell(count(entry.cost.tokens)), Cell(duration(entry.cost.seconds))


def _notes(task: TaskReport) -> Iterator[str]:
    for entry in task.entries:
        row = entry.row
        if row.set_aside:
            yield (
                f"{entry.name}: {count(row.set_aside)} solutions are set aside, because its "
                "threshold was chosen on their problems."
            )
        if row.tuned_on:
            yield (
                f"{entry.name}: flattered. Its threshold was chosen on {count(row.tuned_on)} of "
                f"the {count(row.problems)} problems that it is measured on."
            )
        for text in filter(None, (misfit(row), unscored(row))):
            yield f"{entry.name}: {text}"
        if row.abstained_steps:
            yield (
                f"{entry.name}: on {count(row.abstained_steps)} steps every voter abstained; they "
                "count as called right."
            )
    if any(entry.cost is not None for entry in task.entries):
        yield (
            "Tokens and time are of scoring this task, all attempts together, on whatever machine "
            "ran it; predictors that differ in their thresholds alone share them."
        )


def metrics(task: TaskReport) -> Grid:
    """All metrics with intervals, a predictor a column."""
    names = dict.fromkeys(name for entry in task.entries for name in entry.row.metrics)
    rows = [
        [words(name), *(estimated(entry.row.metrics[name]) for entry in task.entries)]
        for name in names
    ]
    calibrated = [entry.row.calibration for entry in task.entries]
    for name in ("ece", "brier"):
        if any(
            found is not None and getattr(found, name).value is not None for found in calibrated
        ):
            rows.append(
                [
                    words(name),
                    *(
                        Cell(NONE) if found is None else estimated(getattr(found, name))
                        for found in calibrated
                    ),
                ]
            )
    return Grid(
        caption=f"All metrics on {task.record.name}, in per cent, with 95 % intervals",
        columns=["metric", *(entry.name for entry in task.entries)],
        rows=rows,
    )


def figures(task: TaskReport) -> Grid | None:
    """What is published of the benchmark of this kind."""
    found = published().get(task.record.kind)
    return None if found is None else _published(found)


def _published(found: Published) -> Grid:
    return Grid(
        caption=f"Published by others of {found.benchmark}, in per cent; not measured here",
        columns=["model", *found.subsets, "average", "source"],
        rows=[
            [
                words(row.model, row.note),
                *(
                    Cell(f"{row.values[name]:.1f}" if name in row.values else NONE)
                    for name in found.subsets
                ),
                Cell(f"{row.average:.1f}"),
                words(row.source),
            ]
            for row in found.rows
        ],
        notes=(f"Their metric: {found.metric} ({found.source}).",),
        before=found.statement,
    )


def differences(task: TaskReport) -> Grid | None:
    """Every two predictors: the row's headline metric less the column's."""
    if not task.comparisons:
        return None
    names = [entry.name for entry in task.entries]
    pairs = {(item.one, item.other): item for item in task.comparisons}
    rows = [[words(one), *(_pair(pairs, one, other) for other in names)] for one in names]
    return Grid(
        caption=f"Row less column on {task.record.name}: {task.record.headline}, in points, with "
        "paired 95 % intervals and p-values after Holm's correction",
        columns=["row less column", *names],
        rows=rows,
        notes=tuple(_marks(task.comparisons)),
    )


def _marks(pairs: Sequence[Comparison]) -> Iterator[str]:
    if any(pair.across_reference for pair in pairs):
        yield (
            "† One of the two was told of references and the other was not, or of something else: "
            "the difference is not one of the models alone."
        )
    if any(pair.solutions < max(other.solutions for other in pairs) for pair in pairs):
        yield (
            "Two predictors are compared on the solutions that both are measured on; where that "
            "is not all of them, the cell says on how many."
        )


def _pair(pairs: dict[tuple[str, str], Comparison], one: str, other: str) -> Cell:
    pair = pairs.get((one, other)) or pairs.get((other, one))
    if pair is None:
        return Cell("·")
    found = pair.difference
    value, held = found.value, found.interval
    if pair.one != one:
        value = None if value is None else -value
        held = None if held is None else (-held[1], -held[0])
    lines = [
        interval(found) if held is None else f"[{points(held[0])}, {points(held[1])}]",
        p_value(pair.p_holm),
    ]
    if pair.solutions < max(item.solutions for item in pairs.values()):
        lines.append(f"n {count(pair.solutions)}")
    if tied(pair):
        lines.append("cannot be told apart")
    kind = ""
    if not tied(pair) and value is not None and pair.p_holm is not None and pair.p_holm < 0.05:
        kind = "win" if value > 0 else "loss"
    text = points(value) + (" †" if pair.across_reference else "")
    return Cell(text, "\n".join(filter(None, lines)), kind)


def slices(task: TaskReport) -> list[Grid]:
    """The metric within parts of a task, one table per way of slicing it."""
    found: dict[str, dict[str, dict[str, Slice]]] = {}
    for entry in task.entries:
        for item in entry.row.slices:
            found.setdefault(item.by, {}).setdefault(item.name, {})[entry.name] = item
    return [_slices(task, by, parts) for by, parts in found.items()]


def _slices(task: TaskReport, by: str, parts: dict[str, dict[str, Slice]]) -> Grid:
    metric = next(iter(next(iter(parts.values())).values())).metric
    rows = []
    for name, of in parts.items():
        sizes = sorted({item.solutions for item in of.values()})
        size = " to ".join(count(number) for number in dict.fromkeys((sizes[0], sizes[-1])))
        rows.append(
            [
                words(name),
                Cell(size, "few" if any(item.small for item in of.values()) else ""),
                *(
                    _sliced(of[entry.name]) if entry.name in of else Cell(NONE)
                    for entry in task.entries
                ),
            ]
        )
    return Grid(
        caption=f"By {BY[by]}: {metric}, in per cent, with 95 % intervals",
        columns=[BY[by], "n", *(entry.name for entry in task.entries)],
        rows=rows,
    )


def _sliced(item: Slice) -> Cell:
    return estimated(item.estimate, kind="few" if item.small else "")
