"""From what predictors said of tasks to rows and comparisons: the pure core of `prm bench`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prm.aggregation import Aggregation
from prm.errors import RecordError
from prm.records import steps_digest
from universalbench.comparison import Side, compare
from universalbench.measures import HEADLINES, Measure, measure, measured
from universalbench.predictors import PredictorConfig
from universalbench.results import (
    Comparison,
    Item,
    ItemScores,
    PredictorRecord,
    Row,
    TaskRecord,
    digest,
)
from universalbench.rows import Measured, build, decided, sees, select
from universalbench.tasks import Task, candidates, prmbench, restrict
from universalbench.thresholds import Labelled, choose


@dataclass(frozen=True)
class Said:
    """A predictor and all that it said.

    Attributes:
        config: its row of the configuration.
        record: what gave the scores.
        rows: task → one record per item, in order.
    """

    config: PredictorConfig
    record: PredictorRecord
    rows: Mapping[str, Sequence[ItemScores]]


def items_of(task: Task) -> list[Item]:
    """The items of a task, in order."""
    return [
        Item(
            task=task.name,
            solution_id=solution.id,
            problem=solution.problem,
            steps=solution.steps,
            digest=steps_digest(solution),
            generator=solution.generator,
            subset=task.subsets[index],
            has_reference=solution.reference is not None,
            has_answer=solution.answer is not None,
            first_error=task.first_errors[index] if task.first_errors else None,
            wrong=None if task.wrong is None else tuple(task.wrong[index]),
            final_answer_correct=(
                solution.final_answer_correct if task.correct is None else task.correct[index]
            ),
        )
        for index, solution in enumerate(task.solutions)
    ]


@dataclass(frozen=True)
class Choosing:
    """What is asked of candidates: how steps make a reward, and out of how many is chosen."""

    aggregations: Sequence[Aggregation]
    numbers: Sequence[int]


def evaluate(
    tasks: Sequence[Task], predictors: Sequence[Said], choosing: Choosing, seed: int
) -> tuple[list[TaskRecord], list[Row], list[Comparison]]:
    """All rows, predictor by predictor, and all comparisons, task by task.

    Args:
        tasks: the run's.
        predictors: what each said of all of them.
        choosing: for tasks of candidates.
        seed: of draws, exchanges and splits.

    Raises:
        RecordError: a threshold's split leaves nothing of a task to measure.
    """
    items = {task.name: items_of(task) for task in tasks}
    rows: list[Row] = []
    sides: dict[str, list[Side]] = {task.name: [] for task in tasks}
    for said in predictors:
        chosen = choose(
            said.config,
            said.record,
            {
                task.name: Labelled(
                    task.kind, items[task.name], [row.scores for row in said.rows[task.name]]
                )
                for task in tasks
                if task.kind != "candidates"
            },
            seed,
        )
        for task in tasks:
            name = said.config.name
            part = select(task.name, task.kind, items[task.name], said.rows[task.name], chosen)
            if not part.items:
                raise RecordError(
                    f"task {task.name!r}: predictor {name!r} has chosen its threshold on all of "
                    "its problems; lower threshold_split"
                )
            metric = headline(task)
            details = _details(task, items[task.name], said.rows[task.name], part, choosing)
            rows.append(build(name, said.record, part, metric(part.items), details, seed))
            sides[task.name].append(_side(name, said.record, part))
    comparisons = []
    for task in tasks:
        entering = [item for item in items[task.name] if measured(task.kind, item)]
        comparisons += compare(task.name, entering, sides[task.name], headline(task), seed)
    return [_describe(task, items[task.name]) for task in tasks], rows, comparisons


def headline(task: Task) -> Callable[[Sequence[Item]], Measure]:
    """From items of a task to its headline metric on them."""
    return lambda items: measure(HEADLINES[task.kind], items)


def _side(name: str, record: PredictorRecord, part: Measured) -> Side:
    return Side(
        name=name,
        sees_reference=sees(record, part.items, part.rows),
        threshold=part.cut.value,
        scores={item.solution_id: row for item, row in zip(part.items, part.decided, strict=True)},
    )


def _details(
    task: Task,
    items: Sequence[Item],
    rows: Sequence[ItemScores],
    part: Measured,
    choosing: Choosing,
) -> dict[str, Any] | None:
    """What the benchmark's own evaluation says, of all but what the threshold's sake sets aside."""
    if task.kind not in ("prmbench", "candidates"):
        return None
    if task.kind == "candidates":
        scores = [row.scores for row in rows]
        return candidates.measure(task, scores, choosing.aggregations, choosing.numbers)
    kept = [
        index for index, item in enumerate(items) if not part.chosen.keeps_out(item.problem_key)
    ]
    cut = part.cut.value
    said = decided([rows[index] for index in kept], cut, part.untold_cut)
    called = [None if row is None else [value < cut for value in row] for row in said]
    return prmbench.measure(restrict(task, kept), called)


def _describe(task: Task, items: Sequence[Item]) -> TaskRecord:
    known = [item.final_answer_correct for item in items if item.final_answer_correct is not None]
    labelled = all(item.first_error is not None for item in items)
    return TaskRecord(
        name=task.name,
        kind=task.kind,
        headline=HEADLINES[task.kind],
        digest=digest(items),
        solutions=len(items),
        problems=len({item.problem_key for item in items}),
        steps=sum(len(item.steps) for item in items),
        erroneous=sum(item.first_error != -1 for item in items) if labelled else None,
        wrong_steps=None if task.wrong is None else sum(sum(row) for row in task.wrong),
        correct=sum(known) if known else None,
        with_reference=sum(item.has_reference for item in items),
        subsets=_counted([item.subset for item in items]),
        generators=_counted([item.generator for item in items]),
        misnamed=sum(
            item.first_error == -1 and "absent_error_steps" in solution.metadata
            for item, solution in zip(items, task.solutions, strict=True)
        ),
    )


def _counted(names: Sequence[str]) -> dict[str, int]:
    return {name: names.count(name) for name in dict.fromkeys(names) if name}
