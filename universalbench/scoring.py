"""Scores of all predictors on all tasks, durable chunk by chunk.

Scores are appended predictor by predictor, task by task, in the tasks' order, so what an earlier
attempt left is a beginning of what is to be done. A chunk is the same solutions in every attempt:
of one that a kill tore apart the whole is scored again, so that the batches inside, on which the
last bits of a score hang, are those of an uninterrupted run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from prm import jsonl
from prm.errors import RecordError
from prm.progress import bar
from universalbench.predictors import Predictor, PredictorConfig
from universalbench.results import Cost, ItemScores, PredictorRecord, TotalCost
from universalbench.tasks import Task
from universalbench.thresholds import refuse_undeclared

T = TypeVar("T")

FILES = ("predictors.jsonl", "scores.jsonl", "costs.jsonl")
"""What `score` leaves in the run folder."""


@dataclass(frozen=True)
class Group:
    """Predictors that differ in nothing but their names and thresholds: one pass serves all.

    Attributes:
        id: the name of the first.
        members: all of them.
    """

    id: str
    members: list[PredictorConfig]


def group(predictors: Sequence[PredictorConfig]) -> list[Group]:
    """The predictors by what scores, in order."""
    found: dict[str, list[PredictorConfig]] = {}
    for entry in predictors:
        key = repr(replace(entry, name="", threshold=None, threshold_split=None))
        found.setdefault(key, []).append(entry)
    return [Group(members[0].name, members) for members in found.values()]


def score(
    folder: Path,
    groups: Sequence[Group],
    tasks: Sequence[Task],
    *,
    fingerprints: Mapping[str, str | None],
    chunk: int,
) -> dict[str, int]:
    """Write `FILES`; goes on where an earlier attempt stopped.

    A group whose scores are complete is not loaded.

    Args:
        folder: the run's.
        groups: see `group`.
        tasks: what is scored.
        fingerprints: group id → what identifies the checkpoint's or the annotations' content;
            None of a baseline.
        chunk: solutions between two durable writes.

    Returns:
        Group id → how many solutions of all tasks have no scores; none that scored all.

    Raises:
        RecordError: a solution was not annotated, or more than half of a task cannot be scored.
        CheckpointError: a group's own threshold is asked for and it declares none.
    """
    paths = [folder / name for name in FILES]
    with (
        jsonl.Writer(paths[0], PredictorRecord) as known,
        jsonl.Writer(paths[1], ItemScores) as out,
        jsonl.Writer(paths[2], Cost) as costs,
    ):
        done = {item.id: item for item in _unfinished(paths[1], ItemScores)}
        records = {item.id: item for item in _unfinished(paths[0], PredictorRecord)}
        meter = _Meter(costs)
        for entry in groups:
            work = [(task, _ids(entry.id, task)) for task in tasks]
            if entry.id in records and all(id in done for _, ids in work for id in ids):
                for task, ids in work:
                    _refuse_half(entry.id, task, [done[id] for id in ids])
                continue
            with meter.time(entry.id, None, 0):
                predictor = Predictor(entry.members[0])
            record = predictor.record(entry.id, fingerprints[entry.id])
            for member in entry.members:
                refuse_undeclared(member, record.declared)
            if entry.id not in records:
                known.write([record])
            try:
                _score(entry.id, predictor, work, out, meter, done, chunk)
            finally:
                predictor.close()
        for writer in (known, out, costs):
            writer.commit()
    return Counter(item.predictor for item in done.values() if item.scores is None)


def _score(
    name: str,
    predictor: Predictor,
    work: Sequence[tuple[Task, list[str]]],
    out: jsonl.Writer,
    meter: _Meter,
    done: dict[str, ItemScores],
    chunk: int,
) -> None:
    total = sum(len(ids) for _, ids in work)
    before = sum(id in done for _, ids in work for id in ids)
    began, spent = time.monotonic(), predictor.tokens
    with bar(f"bench {name}", total, done=before) as progress:
        for task, ids in work:
            for start in range(0, len(ids), chunk):
                wanted = ids[start : start + chunk]
                new = [index for index, id in enumerate(wanted) if id not in done]
                if not new:
                    continue
                batch = task.solutions[start : start + chunk]
                with meter.time(name, task.name, len(batch), predictor):
                    said = predictor.score(batch)
                rows = [
                    ItemScores(
                        predictor=name,
                        task=task.name,
                        solution_id=solution.id,
                        scores=item.scores,
                        reason=item.reason,
                        told=item.told,
                        abstained=item.abstained,
                    )
                    for solution, item in zip(batch, said, strict=True)
                ]
                out.write(rows[index] for index in new)
                done.update((wanted[index], rows[index]) for index in new)
                progress.update(len(new))
                if predictor.tokens > spent:
                    pace = (predictor.tokens - spent) / (time.monotonic() - began)
                    progress.set_postfix_str(f"{pace:,.0f} tokens/s")
            _refuse_half(name, task, [done[id] for id in ids])


class _Meter:
    """Writes what each piece of work cost."""

    def __init__(self, out: jsonl.Writer) -> None:
        self._out = out
        self._number = len(out.finished)

    @contextmanager
    def time(
        self, name: str, task: str | None, solutions: int, predictor: Predictor | None = None
    ) -> Iterator[None]:
        """Time the block; written before what the block made, so that no work goes unpaid."""
        began, spent = time.monotonic(), predictor.tokens if predictor else 0
        yield
        cost = Cost(
            id=str(self._number),
            predictor=name,
            task=task,
            solutions=solutions,
            seconds=round(time.monotonic() - began, 6),
            tokens=(predictor.tokens if predictor else 0) - spent,
        )
        self._out.write([cost])
        self._number += 1


def _unfinished(path: Path, record: type[T]) -> Iterator[T]:
    """What an earlier attempt left of a file that is being written."""
    return jsonl.read(path.with_name(path.name + jsonl.PARTIAL), record)


def _ids(name: str, task: Task) -> list[str]:
    return [
        ItemScores(predictor=name, task=task.name, solution_id=item.id, scores=()).id
        for item in task.solutions
    ]


def _refuse_half(name: str, task: Task, rows: Sequence[ItemScores]) -> None:
    """More than half without scores is no measurement."""
    failed = [row for row in rows if row.scores is None]
    if 2 * len(failed) > len(rows):
        raise RecordError(
            f"task {task.name!r}: predictor {name!r} cannot score {len(failed)} of {len(rows)} "
            f"solutions; the first: solution {failed[0].solution_id!r}: {failed[0].reason}; more "
            "than half unscored is no measurement: leave out the predictor or the task"
        )


def totals(costs: Sequence[Cost]) -> list[TotalCost]:
    """The pieces summed by predictor and task, in the order of their first appearance."""
    summed: dict[tuple[str, str | None], TotalCost] = {}
    for item in costs:
        key = item.predictor, item.task
        before = summed.get(key) or TotalCost(
            predictor=item.predictor, task=item.task, solutions=0, seconds=0.0, tokens=0
        )
        summed[key] = replace(
            before,
            solutions=before.solutions + item.solutions,
            seconds=round(before.seconds + item.seconds, 6),
            tokens=before.tokens + item.tokens,
        )
    return list(summed.values())
