"""The report of one or several runs as Markdown: its tables, without plots and examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from universalbench.report import details, made, tables
from universalbench.report.grid import Grid, escape, markdown
from universalbench.report.runs import BenchRun, TaskReport
from universalbench.report.table import heading


def render(runs: Sequence[BenchRun], tasks: Sequence[TaskReport]) -> str:
    """The file's text."""
    return "\n".join(_parts(runs, tasks)).rstrip("\n") + "\n"


def _parts(runs: Sequence[BenchRun], tasks: Sequence[TaskReport]) -> Iterator[str]:
    yield "# Step benchmarks\n"
    yield (
        "Values are in per cent, brackets are 95 % bootstrap intervals over problems. A step "
        "counts as wrong where its score lies below the threshold.\n"
    )
    kinds: set[str] = set()
    for task in tasks:
        yield f"## {escape(task.record.name)}\n"
        yield escape(heading(task.record)) + ".\n"
        yield from _grids([tables.headline(task)])
        if task.record.kind not in kinds:
            yield from _grids([tables.figures(task)])
        kinds.add(task.record.kind)
        yield from _grids(
            [
                tables.differences(task),
                *details.classes(task)[:1],
                *details.choices(task),
                *tables.slices(task),
            ]
        )
    yield "## How it was made\n"
    yield from _grids([made.made(runs), made.predictors(runs), made.digests(tasks)])


def _grids(grids: Sequence[Grid | None]) -> Iterator[str]:
    for grid in grids:
        if grid is not None:
            yield markdown(grid)
