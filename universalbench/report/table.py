"""Results as a text table."""

from __future__ import annotations

from collections.abc import Sequence

from universalbench.report.grid import NONE, interval, percent, threshold, tied
from universalbench.results import Comparison, Estimate, Results, Row, TaskRecord

COLUMNS: dict[str, list[tuple[str, str]]] = {
    "processbench": [
        ("erroneous", "error_accuracy"),
        ("correct", "correct_accuracy"),
        ("F1", "first_error_f1"),
    ],
    "steps": [
        ("precision", "precision_wrong"),
        ("recall", "recall_wrong"),
        ("step F1", "f1_wrong"),
        ("AUROC", "auroc"),
        ("first-error F1", "first_error_f1"),
    ],
    "universalbench": [
        ("mean F1 of subsets", "subset_mean_f1_wrong"),
        ("step F1", "f1_wrong"),
        ("F1 of right", "f1_right"),
        ("AUROC", "auroc"),
    ],
    "prmbench": [
        ("PRMScore", "f1_macro"),
        ("F1 of wrong", "f1_wrong"),
        ("F1 of right", "f1_right"),
    ],
    "candidates": [("best of all", "best_of_all")],
}
"""Kind of task → its columns and the metrics they show; the headline has its interval."""


def format_table(results: Results) -> str:
    """One block per task, one line per predictor, percentages with 95 % intervals."""
    return "\n\n".join(
        _block(
            task,
            [row for row in results.rows if row.task == task.name],
            [pair for pair in results.comparisons if pair.task == task.name],
        )
        for task in results.tasks
    )


def heading(task: TaskRecord) -> str:
    """What a task is, in one line."""
    text = f"{task.name} ({task.kind}): {task.solutions} solutions, "
    if task.erroneous is not None:
        text += f"{task.erroneous} with an error, "
    text += f"{task.with_reference} with a reference"
    if task.wrong_steps is not None:
        text += f"; {task.wrong_steps} of {task.steps} steps wrong"
    return text


def cells(task: TaskRecord, row: Row) -> list[str]:
    """A row's numbers as text, in the order of `columns`."""
    numbers = [
        _with_interval(row.metrics[metric])
        if metric == row.headline
        else percent(row.metrics[metric].value)
        for _, metric in COLUMNS[task.kind]
    ]
    if row.threshold is None:
        return [row.predictor, *numbers, NONE, "none needed"]
    return [row.predictor, *numbers, threshold(row.threshold.value), row.threshold.source]


def columns(task: TaskRecord) -> list[str]:
    """Names of a task's columns."""
    return ["predictor", *(name for name, _ in COLUMNS[task.kind]), "threshold", "chosen on"]


def notes(rows: Sequence[Row], pairs: Sequence[Comparison]) -> list[str]:
    """What to know of the rows of a task: who was told of references, who could not score what, who
    is measured on less, and who cannot be told apart."""
    found = [
        f"{row.predictor}: told of references ({row.sees_reference}) on {row.references_given} "
        f"of {row.solutions}"
        for row in rows
        if row.sees_reference != "none"
    ]
    found += [
        f"{row.predictor}: {row.unscored} not scored, counted as missed ({row.unscored_reason})"
        for row in rows
        if row.unscored
    ]
    found += [
        f"{row.predictor}: measured on {row.solutions} solutions; {row.set_aside} are of problems "
        "that its threshold was chosen on"
        for row in rows
        if row.set_aside
    ]
    alike = [f"{pair.one} and {pair.other}" for pair in pairs if tied(pair)]
    if alike:
        found.append(f"cannot be told apart (95 %): {'; '.join(alike)}")
    return found


def _block(task: TaskRecord, rows: Sequence[Row], pairs: Sequence[Comparison]) -> str:
    lines = [columns(task), *(cells(task, row) for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    text = ["  ".join(_pad(line, widths)) for line in lines]
    return "\n".join([heading(task), *(line.rstrip() for line in text), *notes(rows, pairs)])


def _pad(line: list[str], widths: list[int]) -> list[str]:
    # Names and sources stand on the left, numbers on the right.
    last = len(line) - 1
    return [
        cell.ljust(width) if index in (0, last) else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def _with_interval(metric: Estimate) -> str:
    text = percent(metric.value)
    return text if metric.interval is None else f"{text} {interval(metric)}"
