"""The runs that a report is of: read from their folders, checked, and put together by task.

A task of one name is compared across runs, so it must be the same in all: the same solutions, the
same steps, the same truth.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prm import jsonl
from prm.errors import ConfigError, RecordError
from universalbench import results
from universalbench.comparison import Side, compare
from universalbench.measures import HEADLINES, measure, measured
from universalbench.resampling import part
from universalbench.results import (
    Comparison,
    Item,
    ItemScores,
    PredictorRecord,
    Results,
    Row,
    TaskRecord,
    TotalCost,
)
from universalbench.rows import Measured, select
from universalbench.thresholds import DEFAULT, Chosen, as_declared

_ADVICE = "give folders that `prm bench` left"


@dataclass(frozen=True)
class BenchRun:
    """A run of `prm bench`.

    Attributes:
        name: what tells it from the report's other runs: the end of its path.
        folder: its path, as given.
        record: its `run.json`.
        results: its `results.json`.
        items: task → its items.
        scores: predictor record and task → one record per item, in order.
    """

    name: str
    folder: str
    record: dict[str, Any]
    results: Results
    items: dict[str, list[Item]]
    scores: dict[tuple[str, str], list[ItemScores]]


@dataclass(frozen=True)
class Entry:
    """A predictor on a task.

    Attributes:
        name: in the report; with the run's name behind it where another run has one so named.
        run: where it was measured.
        row: its numbers.
        record: what gave the scores.
        cost: of scoring this task; rows that share scores share it.
        part: the items that it is measured on, and what it says of them.
    """

    name: str
    run: BenchRun
    row: Row
    record: PredictorRecord
    cost: TotalCost | None
    part: Measured


@dataclass(frozen=True)
class TaskReport:
    """A task with all predictors on it, whichever run they are of.

    Attributes:
        record: what it is.
        items: its items.
        entries: runs in the order given, predictors in the order of their runs.
        comparisons: of every two entries, by their names in the report.
    """

    record: TaskRecord
    items: list[Item]
    entries: list[Entry]
    comparisons: list[Comparison]


def read(folders: Sequence[str | Path], *, finished: bool = True) -> list[BenchRun]:
    """Read runs.

    Args:
        folders: of the runs.
        finished: refuse a run that did not end.

    Raises:
        ConfigError: a folder holds no such run, or two are one.
        RecordError: a file of a run is not what `prm bench` writes.
    """
    paths = [Path(folder) for folder in folders]
    seen = Counter(path.resolve() for path in paths)
    twice = next((path for path in paths if seen[path.resolve()] > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice}: named twice in `runs`; name each run once")
    names = _names([path.resolve().parts for path in paths])
    return [_read(path, name, finished) for path, name in zip(paths, names, strict=True)]


def _names(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The shortest ends of different paths that tell them apart."""
    length = next(
        length
        for length in range(1, max(map(len, paths), default=1) + 1)
        if len({path[-length:] for path in paths}) == len(paths)
    )
    return ["/".join(path[-length:]).lstrip("/") for path in paths]


def _read(folder: Path, name: str, finished: bool) -> BenchRun:
    found = results.read(folder / "results.json") if _is_run(folder) else None
    if found is None:
        raise ConfigError(f"{folder}: no run.json in this folder; {_ADVICE}")
    record = _record(folder, finished)
    items: dict[str, list[Item]] = {task.name: [] for task in found.tasks}
    for item in jsonl.read(folder / "items.jsonl", Item):
        items.setdefault(item.task, []).append(item)
    scores: dict[tuple[str, str], list[ItemScores]] = {}
    for said in jsonl.read(folder / "scores.jsonl", ItemScores):
        scores.setdefault((said.predictor, said.task), []).append(said)
    for task in found.tasks:
        if results.digest(items[task.name]) != task.digest:
            raise RecordError(
                f"the items of task {task.name!r} are not those that results.json is of; run "
                "`prm bench` anew",
                path=folder / "items.jsonl",
            )
    for row in found.rows:
        ids = [item.solution_id for item in scores.get((row.scores_of, row.task), ())]
        if ids != [item.solution_id for item in items[row.task]]:
            raise RecordError(
                f"the scores of predictor {row.scores_of!r} on task {row.task!r} are not of its "
                "items; run `prm bench` anew",
                path=folder / "scores.jsonl",
            )
    return BenchRun(name, str(folder), record, found, items, scores)


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file()


def _record(folder: Path, finished: bool) -> dict[str, Any]:
    path = folder / "run.json"
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        stage, ended = record["stage"], "outputs" in record
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a run record ({error}); {_ADVICE}") from None
    if stage != "bench":
        raise ConfigError(f"{folder}: holds a run of {stage!r}; {_ADVICE}")
    if finished and not ended:
        raise ConfigError(f"{folder}: not finished; run the same `prm bench` again first")
    return record


def gather(runs: Sequence[BenchRun]) -> list[TaskReport]:
    """All tasks, each with the predictors of all runs that have it.

    A task of one run keeps that run's comparisons. Those of a task of several are made anew, by
    the function that the runs used and with the first one's seed, so that Holm's correction is
    over all pairs.

    Raises:
        RecordError: a task differs between runs, or two predictors go by one name.
    """
    named = _entry_names(runs)
    tasks: dict[str, list[BenchRun]] = {}
    for run in runs:
        for task in run.results.tasks:
            tasks.setdefault(task.name, []).append(run)
    return [_gather(name, having, named) for name, having in tasks.items()]


def _gather(name: str, runs: list[BenchRun], named: dict[tuple[str, str], str]) -> TaskReport:
    first = runs[0]
    record = _task(first, name)
    for other in runs[1:]:
        _require_same(name, first, other)
    entries = [
        _entry(run, row, named[run.folder, row.predictor])
        for run in runs
        for row in run.results.rows
        if row.task == name
    ]
    if len(runs) == 1:
        comparisons = [
            replace(
                item,
                one=named[first.folder, item.one],
                other=named[first.folder, item.other],
            )
            for item in first.results.comparisons
            if item.task == name
        ]
    else:
        comparisons = compare(
            name,
            [item for item in first.items[name] if measured(record.kind, item)],
            [_side(entry) for entry in entries],
            lambda items: measure(HEADLINES[record.kind], items),
            first.results.sampling.seed,
        )
    return TaskReport(record, first.items[name], entries, comparisons)


def _entry_names(runs: Sequence[BenchRun]) -> dict[tuple[str, str], str]:
    """Folder and predictor → its name in the report."""
    own = [
        (run, name)
        for run in runs
        for name in dict.fromkeys(row.predictor for row in run.results.rows)
    ]
    often = Counter(name for _, name in own)
    named = {
        (run.folder, name): name if often[name] == 1 else f"{name} ({run.name})"
        for run, name in own
    }
    again = [name for name, number in Counter(named.values()).items() if number > 1]
    if again:
        raise RecordError(
            f"two predictors would be called {again[0]!r}; rename the folder of one of the runs"
        )
    return named


def _entry(run: BenchRun, row: Row, name: str) -> Entry:
    kind = _task(run, row.task).kind
    rows = run.scores[row.scores_of, row.task]
    (record,) = [item for item in run.results.predictors if item.id == row.scores_of]
    chosen = _chosen(run, row.predictor, record)
    found = select(row.task, kind, run.items[row.task], rows, chosen)
    if (len(found.items), found.set_aside) != (row.solutions, row.set_aside):
        raise RecordError(
            f"predictor {row.predictor!r} on task {row.task!r}: results.json is not of these "
            "items; run `prm bench` anew",
            path=run.folder,
        )
    costs = {(cost.predictor, cost.task): cost for cost in run.results.costs}
    return Entry(name, run, row, record, costs.get((row.scores_of, row.task)), found)


def _chosen(run: BenchRun, predictor: str, record: PredictorRecord) -> Chosen:
    """The threshold of a predictor, and the problems that are set aside for its sake.

    Which they are follows from the seed; `Cut` says what share of which task.
    """
    cuts = [row.threshold for row in run.results.rows if row.predictor == predictor]
    cut = next((cut for cut in cuts if cut is not None), None)
    if cut is None:  # candidates alone, which ask for none
        return Chosen(results.Cut(value=DEFAULT, how="default", source="default"))
    if cut.how == "declared":
        return as_declared(record)
    if cut.how != "split" or cut.task is None or cut.share is None:
        return Chosen(cut)
    keys = [item.problem_key for item in run.items[cut.task]]
    seed = run.results.sampling.seed
    return Chosen(cut, frozenset(part(keys, cut.share, seed)), held_out=True)


def _side(entry: Entry) -> Side:
    pairs = zip(entry.part.items, entry.part.decided, strict=True)
    return Side(
        name=entry.name,
        sees_reference=entry.row.sees_reference,
        threshold=entry.part.cut.value,
        scores={item.solution_id: row for item, row in pairs},
    )


def _task(run: BenchRun, name: str) -> TaskRecord:
    return next(task for task in run.results.tasks if task.name == name)


def _require_same(name: str, one: BenchRun, other: BenchRun) -> None:
    """Refuse a task that is not the same in two runs, and say what differs first."""
    before, after = _task(one, name), _task(other, name)
    if (before.kind, before.digest) == (after.kind, after.digest):
        return
    raise RecordError(
        f"task {name!r} is not the same in {one.folder} and {other.folder}: "
        f"{_difference(one.items[name], other.items[name], before, after)}; "
        "give one of them another name, or leave it out of `runs`"
    )


def _difference(one: list[Item], other: list[Item], before: TaskRecord, after: TaskRecord) -> str:
    if before.kind != after.kind:
        return f"kind {before.kind} and {after.kind}"
    ids = [{item.solution_id: item for item in items} for items in (one, other)]
    for there, absent, where in ((ids[0], ids[1], "first"), (ids[1], ids[0], "second")):
        alone = [name for name in there if name not in absent]
        if alone:
            return (
                f"{len(one)} and {len(other)} solutions, {len(alone)} of them in the {where} "
                f"alone, such as {alone[0]!r}"
            )
    for name, item in ids[0].items():
        twin = ids[1][name]
        for field, text in (
            ("digest", "problem or steps differ"),
            ("subset", "the subset differs"),
            ("first_error", "the first error differs"),
            ("wrong", "the truth of steps differs"),
            ("final_answer_correct", "whether the answer is right differs"),
        ):
            if getattr(item, field) != getattr(twin, field):
                return f"of solution {name!r} {text}"
    return "the solutions stand in another order"
