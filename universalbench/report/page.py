"""The report of one or several runs as one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prm import html, jsonl
from universalbench.report import details, made, tables
from universalbench.report.curves import Group, groups
from universalbench.report.examples import Example, worst
from universalbench.report.grid import Grid
from universalbench.report.runs import BenchRun, TaskReport, gather, read
from universalbench.report.table import heading
from universalbench.results import SMALL

EXAMPLES = 3
"""Examples of each sort in the page that `prm bench` writes."""


@dataclass(frozen=True)
class TaskView:
    """What a page shows of a task.

    Attributes:
        name, kind, heading: of the task.
        headline: its headline metric, and what that is.
        results: the table of predictors.
        metrics: all metrics.
        published: what others measured of the benchmark; with the first task of its kind.
        differences: of every two predictors.
        classes: PRMBench's own evaluation.
        choices: what is chosen among candidates.
        groups: plots.
        slices: the metric within parts.
        apart: solutions on which two predictors differ most.
        errs: solutions on which a predictor and the truth do.
    """

    name: str
    kind: str
    heading: str
    headline: tuple[str, str]
    results: Grid
    metrics: Grid
    published: Grid | None
    differences: Grid | None
    classes: list[Grid]
    choices: list[Grid]
    groups: list[Group]
    slices: list[Grid]
    apart: list[Example]
    errs: list[Example]


def write_page(path: str | Path, folder: str | Path) -> None:
    """Write the page of a run of `prm bench` whose results are written."""
    runs = read([folder], finished=False)
    jsonl.write_text(path, render(runs, gather(runs), EXAMPLES))


def render(runs: Sequence[BenchRun], tasks: Sequence[TaskReport], examples: int) -> str:
    """The page. Whatever stands in the records is escaped, and its unseen characters are shown.

    Args:
        runs: what the report is of.
        tasks: their tasks, see `universalbench.report.runs.gather`.
        examples: solutions of each sort that are shown of each task, at most.
    """
    return html.render(
        "universalbench",
        runs=runs,
        tasks=list(_views(runs, tasks, examples)),
        made=made.made(runs),
        predictors=made.predictors(runs),
        digests=made.digests(tasks),
        definitions=_definitions(runs, tasks),
        configurations=[
            (run.name, json.dumps(run.results.config, indent=1, ensure_ascii=False)) for run in runs
        ],
        small=SMALL,
    )


def _views(
    runs: Sequence[BenchRun], tasks: Sequence[TaskReport], examples: int
) -> Iterator[TaskView]:
    kinds: set[str] = set()
    definitions = {name: text for run in runs for name, text in run.results.definitions.items()}
    for task in tasks:
        apart, errs = worst(task, examples)
        name = task.record.headline
        yield TaskView(
            name=task.record.name,
            kind=task.record.kind,
            heading=heading(task.record),
            headline=(name, definitions.get(name, "")),
            results=tables.headline(task),
            metrics=tables.metrics(task),
            published=None if task.record.kind in kinds else tables.figures(task),
            differences=tables.differences(task),
            classes=details.classes(task),
            choices=details.choices(task),
            groups=groups(task),
            slices=tables.slices(task),
            apart=apart,
            errs=errs,
        )
        kinds.add(task.record.kind)


def _definitions(runs: Sequence[BenchRun], tasks: Sequence[TaskReport]) -> dict[str, str]:
    """What the metrics of the page are, without those that it does not show."""
    shown = {name for task in tasks for entry in task.entries for name in entry.row.metrics}
    shown |= {"ece", "brier"}
    shown |= {"prm_score"} if any(task.record.kind == "prmbench" for task in tasks) else set()
    return {
        name: text
        for run in runs
        for name, text in run.results.definitions.items()
        if name in shown
    }
