"""Results as a text table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prm.aggregation import Aggregation
from universalbench.report.grid import NONE, interval, percent, threshold, tied
from universalbench.results import Comparison, Estimate, Results, Row, TaskRecord
from universalbench.tasks.prmbench import UNDEFINED

REWARD: Aggregation = "min"
"""The aggregation that the headline metric of candidates is of; it is shown first."""

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
        ("f1_macro", "f1_macro"),
        ("F1 of wrong", "f1_wrong"),
        ("F1 of right", "f1_right"),
        ("PRMScore", "prm_score"),
    ],
    "candidates": [("best of all", "best_of_all")],
}
"""Kind of task → its columns and the metrics they show; the headline has its interval."""

PAIRS = 3
"""The most pairs that a note names; a page shows all."""


def format_table(results: Results) -> str:
    """One block per task, one line per predictor, percentages with 95 % intervals."""
    return "\n\n".join(
        _block(
            task,
            [row for row in results.rows if row.task == task.name],
            [pair for pair in results.comparisons if pair.task == task.name],
            results.config.get("n", ()),
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
    if task.misnamed:
        text += (
            f"; {task.misnamed} called erroneous for steps that they do not have, counted as "
            "free of errors"
        )
    return text


def shown(row: Row, metric: str) -> Estimate:
    """What a column shows of a row; PRMScore is what the authors' own evaluation says."""
    if metric != "prm_score":
        return row.metrics[metric]
    value = (row.details or {})["total"]["prm_score"]
    return Estimate(value=None if value == UNDEFINED else value)


def cells(task: TaskRecord, row: Row) -> list[str]:
    """A row's numbers as text, in the order of `columns`."""
    numbers = [
        _with_interval(row.metrics[metric])
        if metric == row.headline
        else percent(shown(row, metric).value)
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
    is measured on less, and who cannot be told apart. What is the same of several is said once."""
    about: dict[str, list[str]] = {}
    for about_row in (_told, misfit, unscored, _set_aside):
        for row in rows:
            text = about_row(row)
            if text:
                about.setdefault(text, []).append(row.predictor)
    found = [f"{', '.join(names)}: {text}" for text, names in about.items()]
    alike = [f"{pair.one} and {pair.other}" for pair in pairs if tied(pair)]
    if len(alike) > PAIRS:
        found.append(
            f"cannot be told apart (95 %): {len(alike)} of {len(pairs)} pairs, which report.html "
            "marks"
        )
    elif alike:
        found.append(f"cannot be told apart (95 %): {'; '.join(alike)}")
    return found


def unscored(row: Row) -> str:
    """What to say of solutions without scores, or "" where there are none."""
    if not row.unscored:
        return ""
    how = "never chosen" if row.threshold is None else "counted as missed"
    return f"{row.unscored} not scored, {how} ({row.unscored_reason})"


def misfit(row: Row) -> str:
    """What to say of a declared threshold that is not for all of a row, or ""."""
    if row.threshold is None or not row.threshold.misfits:
        return ""
    return (
        f"its checkpoint declares no threshold for solutions without a reference, so that for "
        f"those with one is used on these {row.threshold.misfits} too"
    )


def left_out(wanted: Sequence[int], row: Row) -> str:
    """Which numbers of candidates were asked for and are more than there are, or ""."""
    fewest = (row.details or {}).get("candidates", 0)
    beyond = [str(number) for number in sorted(set(wanted)) if number > fewest]
    if not beyond:
        return ""
    return f"no N = {', '.join(beyond)}: some problem has only {fewest} candidates"


def _told(row: Row) -> str:
    if row.sees_reference == "none":
        return ""
    return f"told of references ({row.sees_reference}) on {row.references_given} of {row.solutions}"


def _set_aside(row: Row) -> str:
    if not row.set_aside:
        return ""
    return (
        f"measured on {row.solutions} solutions; {row.set_aside} are of problems that its "
        "threshold was chosen on"
    )


def _block(
    task: TaskRecord, rows: Sequence[Row], pairs: Sequence[Comparison], numbers: Sequence[int]
) -> str:
    lines = [columns(task), *(cells(task, row) for row in rows)]
    text = [heading(task), *_aligned(lines), *notes(rows, pairs)]
    if task.kind == "candidates" and rows:
        text += _curves(rows, numbers)
    return "\n".join(text)


def _curves(rows: Sequence[Row], wanted: Sequence[int]) -> Iterator[str]:
    """Right answers chosen out of N candidates: what is the same for all predictors once, and of
    each the choices by one aggregation."""
    found = {row.predictor: (row.details or {}).get("rows", []) for row in rows}
    first = found[rows[0].predictor]
    names = [item["method"] for item in first]
    reward = f"({REWARD})"
    if not any(reward in name for name in names):
        reward = next((name[name.rindex("(") :] for name in names if "(" in name), reward)
    numbers = sorted({item["n"] for item in first})
    lines = [["right answers chosen", *(f"N = {number}" for number in numbers), ""]]
    for predictor, items in found.items():
        of = {(item["method"], item["n"]): percent(item["accuracy"]) for item in items}
        for method in dict.fromkeys(name for name, _ in of):
            own = "(" in method
            if (reward in method) if own else predictor == rows[0].predictor:
                name = f"{predictor}: {method}" if own else method
                lines.append([name, *(of[method, number] for number in numbers), ""])
    if numbers:
        # The same for all stands first.
        yield from _aligned([lines[0], *sorted(lines[1:], key=lambda line: ": " in line[0])])
    if left_out(wanted, rows[0]):
        yield left_out(wanted, rows[0])
    if any("(" in name and reward not in name for name in names):
        yield "the other aggregations, and intervals, stand in report.html"


def _aligned(lines: Sequence[list[str]]) -> list[str]:
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    return ["  ".join(_pad(line, widths)).rstrip() for line in lines]


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
