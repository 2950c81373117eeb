"""Results as a text table."""

from __future__ import annotations

from typing import Any


def format_table(results: dict[str, Any]) -> str:
    """One block per task, one line per predictor, percentages with 95 % intervals."""
    blocks = []
    for task in results["tasks"]:
        rows = [row for row in results["rows"] if row["task"] == task["name"]]
        blocks.append(_block(task, rows))
    return "\n\n".join(blocks)


def heading(task: dict[str, Any]) -> str:
    """What a task is, in one line."""
    text = (
        f"{task['name']} ({task['kind']}): {task['solutions']} solutions, {task['erroneous']} "
        f"with an error, {task['with_reference']} with a reference"
    )
    if "wrong_steps" in task:
        text += f"; {task['wrong_steps']} of {task['steps']} steps wrong"
    return text


def cells(task: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """A row's numbers as text, in the order of `columns`."""
    first = row["first_error"]
    numbers = [
        _percent(first["error_accuracy"]),
        _percent(first["correct_accuracy"]),
        _with_interval(first),
    ]
    if task["kind"] == "steps":
        steps = row["steps"]
        shown = [_percent(steps["precision"]), _percent(steps["recall"])]
        numbers = [*shown, _with_interval(steps), _percent(steps["auroc"]), _percent(first["f1"])]
    return [row["predictor"], *numbers, f"{row['threshold']:.4g}", row["threshold_source"]]


def columns(task: dict[str, Any]) -> list[str]:
    """Names of a task's columns."""
    if task["kind"] == "steps":
        numbers = ["precision", "recall", "step F1", "AUROC", "first-error F1"]
    else:
        numbers = ["erroneous", "correct", "F1"]
    return ["predictor", *numbers, "threshold", "chosen on"]


def notes(rows: list[dict[str, Any]]) -> list[str]:
    """What to know of the rows of a task: who could not score what."""
    return [
        f"{row['predictor']}: {row['unscored']} not scored, counted as missed "
        f"({row['unscored_reason']})"
        for row in rows
        if row["unscored"]
    ]


def _block(task: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    lines = [columns(task), *(cells(task, row) for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    text = ["  ".join(_pad(line, widths)) for line in lines]
    return "\n".join([heading(task), *(line.rstrip() for line in text), *notes(rows)])


def _pad(line: list[str], widths: list[int]) -> list[str]:
    # Names and sources stand on the left, numbers on the right.
    last = len(line) - 1
    return [
        cell.ljust(width) if index in (0, last) else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _with_interval(values: dict[str, Any]) -> str:
    low, high = values["interval"]
    return f"{_percent(values['f1'])} [{_percent(low)}, {_percent(high)}]"
