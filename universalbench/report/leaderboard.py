"""A leaderboard file: one line per predictor and task, each complete in itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prm.records import STRICT
from prm.zoo.family import ReferenceKind
from universalbench.report.runs import TaskReport


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A predictor on a task.

    Attributes:
        id: unique within the file.
        predictor: its name in the report.
        run: the folder of its run.
        kind, model, revision, fingerprint, family, format: see
            `universalbench.results.PredictorRecord`.
        task, task_kind, task_digest: equal digests, equal tasks.
        solutions, problems: how many are measured; `set_aside` and `unscored` as in
            `universalbench.results.Row`, as are `tuned_on` and `sees_reference`.
        metric: the task's headline metric.
        value: of the metric, from 0 to 1; null where it is 0/0.
        interval: 95 % bootstrap interval over problems.
        threshold: null where the task asks for none.
        threshold_how, threshold_source: where it was chosen, by kind and in words.
        references_given: of how many solutions the predictor was told something.
        tokens, seconds: of scoring the task.
        date: when the run ended, or began if it did not say.
        seed: of intervals and splits.
        versions: of packages.
    """

    __pydantic_config__ = STRICT

    id: str
    predictor: str
    run: str
    kind: str
    model: str
    revision: str | None
    fingerprint: str | None
    family: str | None
    format: str | None
    task: str
    task_kind: str
    task_digest: str
    solutions: int
    problems: int
    set_aside: int
    unscored: int
    tuned_on: int
    metric: str
    value: float | None
    interval: tuple[float, float] | None
    threshold: float | None
    threshold_how: str | None
    threshold_source: str | None
    sees_reference: ReferenceKind
    references_given: int
    tokens: int | None
    seconds: float | None
    date: str | None
    seed: int
    versions: dict[str, str]


def entries(tasks: Sequence[TaskReport]) -> Iterator[Entry]:
    """Task by task, the predictors in the order of the report."""
    for task in tasks:
        for entry in task.entries:
            row, record, cost, run = entry.row, entry.record, entry.cost, entry.run
            found, cut = row.metrics[row.headline], row.threshold
            yield Entry(
                id=f"{task.record.name}: {entry.name}",
                predictor=entry.name,
                run=run.folder,
                kind=record.kind,
                model=record.model,
                revision=record.revision,
                fingerprint=record.fingerprint,
                family=record.family,
                format=record.format,
                task=task.record.name,
                task_kind=task.record.kind,
                task_digest=task.record.digest,
                solutions=row.solutions,
                problems=row.problems,
                set_aside=row.set_aside,
                unscored=row.unscored,
                tuned_on=row.tuned_on,
                metric=row.headline,
                value=found.value,
                interval=found.interval,
                threshold=None if cut is None else cut.value,
                threshold_how=None if cut is None else cut.how,
                threshold_source=None if cut is None else cut.source,
                sees_reference=row.sees_reference,
                references_given=row.references_given,
                tokens=None if cost is None else cost.tokens,
                seconds=None if cost is None else cost.seconds,
                date=run.record.get("finished") or run.record.get("started"),
                seed=run.results.sampling.seed,
                versions=run.results.versions,
            )
