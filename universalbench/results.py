"""The files of a `prm bench` run: everything that a report over several runs needs.

    items.jsonl       `Item`: a solution of a task with its truth, tasks and solutions in order
    scores.jsonl      `ItemScores`: what a predictor says of one item
    predictors.jsonl  `PredictorRecord`: what a predictor is and what it was told
    costs.jsonl       `Cost`: time and tokens of one piece of work; pieces add up
    results.json      `Results`: one `Row` per task and predictor, comparisons, how it was made

All but the costs are functions of the configuration and the inputs: a run that was killed and
resumed leaves the same bytes. A piece of work that a kill undid is done again and costs again, so
`costs.jsonl`, and `Results.costs` which sums it, say what was spent, not what one attempt takes.

A value that does not exist (0/0) is null, with the reason beside it, and never 0 in disguise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from prm import jsonl
from prm.errors import RecordError
from prm.records import STRICT, problem_key
from prm.zoo.entry import Threshold
from prm.zoo.family import ReferenceKind
from universalbench.tasks import Kind

RESULTS_VERSION = 1
"""Version of these formats."""

SMALL = 30
"""Slices with fewer solutions are marked as small."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A solution of a task, with what is known of it.

    Attributes:
        task: the task's name.
        solution_id: unique within the task.
        problem, steps, generator: as in the solution.
        digest: `prm.records.steps_digest` of the solution.
        subset: the part of the benchmark; "" where it has none.
        has_reference: whether a worked reference solution is known.
        has_answer: whether the true final answer is known.
        first_error: index of the first wrong step, -1 for none; null where that is not known.
        wrong: for each step whether it is wrong; null where that is not known of every step.
        final_answer_correct: whether the final answer is right; null where that is not known.
    """

    __pydantic_config__ = STRICT

    task: str
    solution_id: str
    problem: str
    steps: tuple[str, ...]
    digest: str
    generator: str
    subset: str
    has_reference: bool
    has_answer: bool
    first_error: int | None
    wrong: tuple[bool, ...] | None
    final_answer_correct: bool | None

    @property
    def id(self) -> str:
        """Unique within the file."""
        return json.dumps([self.task, self.solution_id])

    @cached_property
    def problem_key(self) -> str:
        """What makes solutions those of one problem, see `prm.records.problem_key`."""
        return problem_key(self.problem)


@dataclass(frozen=True, kw_only=True)
class ItemScores:
    """What a predictor says of an item.

    Attributes:
        predictor: the id of a `PredictorRecord`.
        task, solution_id: of the item.
        scores: one per step, or null.
        reason: why there are none.
        told: whether the predictor was told something of the solution's reference or answer.
        abstained: steps on which every voter abstained; they count as right (score 1).
    """

    __pydantic_config__ = STRICT

    predictor: str
    task: str
    solution_id: str
    scores: tuple[float, ...] | None
    reason: str | None = None
    told: bool = False
    abstained: int = 0

    def __post_init__(self) -> None:
        if (self.scores is None) == (self.reason is None):
            raise ValueError("exactly one of scores and reason must be given")

    @property
    def id(self) -> str:
        """Unique within the file."""
        return json.dumps([self.predictor, self.task, self.solution_id])


@dataclass(frozen=True, kw_only=True)
class PredictorRecord:
    """What gave the scores. Rows that differ in nothing but the threshold share one.

    Attributes:
        id: the name of the first predictor of the configuration that it serves.
        kind: what the predictor is.
        model: the model's name; of annotations the judges', of a baseline its name.
        fingerprint: hash of the checkpoint's files, or of the annotations; null of a baseline.
        revision: of a Hub id, as asked for.
        family: of the checkpoint.
        reference: what the predictor is told of references where there is one.
        format: hash of what the checkpoint is shown of a fixed solution (token ids, or the
            requests of a critique), of its family and of the longest solution it takes, see
            `universalbench.form`. Null of what is no checkpoint.
        declared: the checkpoint's own threshold for this use.
        declared_untold: the same for solutions of which it is told nothing although it takes a
            reference; null where it declares none, or is told of none anyway.
    """

    __pydantic_config__ = STRICT

    id: str
    kind: Literal["checkpoint", "annotations", "baseline"]
    model: str
    fingerprint: str | None = None
    revision: str | None = None
    family: str | None = None
    reference: ReferenceKind = "none"
    format: str | None = None
    declared: Threshold | None = None
    declared_untold: Threshold | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Time and tokens of one piece of work: loading a model, or scoring a chunk of a task.

    Attributes:
        id: a running number, unique within the file.
        predictor: the id of a `PredictorRecord`.
        task: the task scored; null for loading.
        solutions: how many were scored.
        seconds: wall time.
        tokens: that the model read.
    """

    __pydantic_config__ = STRICT

    id: str
    predictor: str
    task: str | None
    solutions: int
    seconds: float
    tokens: int


@dataclass(frozen=True, kw_only=True)
class TotalCost:
    """The sum of the pieces of a predictor on a task (null: loading), all attempts together."""

    __pydantic_config__ = STRICT

    predictor: str
    task: str | None
    solutions: int
    seconds: float
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A metric's value.

    Attributes:
        value: null where it is not defined.
        interval: 95 % percentile bootstrap interval over problems; null where the value is, or
            where more than one draw in twenty has none.
        undefined: draws in which the metric is not defined; the interval is of the others.
        why: why there is no value, or no interval.
    """

    __pydantic_config__ = STRICT

    value: float | None
    interval: tuple[float, float] | None = None
    undefined: int = 0
    why: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A threshold, and where it was chosen.

    Attributes:
        value: a step counts as wrong where its score lies strictly below.
        how: `given`, `default`, `declared` by the checkpoint, best on a `task`, or best on a
            `split`, a share of the task's problems.
        source: the same in words.
        task: the task that it was chosen on.
        share: of a split, the share of problems asked for.
        solutions, problems: how many it was chosen on; only those with scores. Of a declared one
            unknown: null.
        untold: of a declared one, the cut for those solutions of the row of which the predictor
            was told nothing, where it was told something of others.
        misfits: of a declared one, how many solutions of the row the predictor was told nothing
            of, although this cut is for those it was: the checkpoint declares no other.
    """

    __pydantic_config__ = STRICT

    value: float
    how: Literal["given", "default", "declared", "task", "split"]
    source: str
    task: str | None = None
    share: float | None = None
    solutions: int | None = None
    problems: int | None = None
    untold: float | None = None
    misfits: int = 0


@dataclass(frozen=True, kw_only=True)
class StepCounts:
    """Decisions over steps; positive is wrong."""

    __pydantic_config__ = STRICT

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int


@dataclass(frozen=True, kw_only=True)
class Point:
    """Metrics at one threshold: the headline metric; of step truth `recall_wrong` and
    `false_alarm_rate` (the axes of a ROC curve) too, else `error_accuracy`, `correct_accuracy`."""

    __pydantic_config__ = STRICT

    threshold: float
    values: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The headline metric over thresholds, on what the row is measured on.

    Attributes:
        metric: its name.
        points: at most 101, thresholds ascending, evenly spread over the ranks of the scores.
        oracle: the exact best of all thresholds (the lowest of several). It was chosen on the
            very solutions that it is measured on, so it bounds the metric and reports nothing.
    """

    __pydantic_config__ = STRICT

    metric: str
    points: tuple[Point, ...]
    oracle: Point


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Steps whose scores lie in [low, high) (the last bin: [low, high])."""

    __pydantic_config__ = STRICT

    low: float
    high: float
    steps: int
    mean_score: float | None
    share_right: float | None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far scores, read as the probability that a step is right, lie from what is right.

    Attributes:
        ece: expected calibration error over `bins`.
        brier: mean squared difference of score and truth.
        bins: of equal width over [0, 1], for the reliability diagram; empty where the scores are
            no probabilities.
        why: why there is nothing: scores outside [0, 1], truth of first errors alone, no scores.
    """

    __pydantic_config__ = STRICT

    ece: Estimate
    brier: Estimate
    bins: tuple[Bin, ...]
    why: str | None = None


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A part of what a row is measured on, and a metric there.

    Attributes:
        by: what slices it: `generator`, `subset`, `steps` or `characters` (the solution's length,
            tertiles of the task), `position` (thirds of a solution).
        name: which slice, in words.
        low, high: of a length, the bounds of the slice; both belong to it.
        solutions, problems, steps: how many.
        metric: its name.
        small: fewer than `SMALL` solutions.
    """

    __pydantic_config__ = STRICT

    by: Literal["generator", "subset", "steps", "characters", "position"]
    name: str
    low: int | None = None
    high: int | None = None
    solutions: int
    problems: int
    steps: int
    metric: str
    estimate: Estimate
    small: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """A predictor on a task.

    Attributes:
        task, predictor: their names.
        scores_of: the id of the `PredictorRecord` whose scores these are.
        sees_reference: the most that the predictor was told of any solution here, see
            `universalbench.rows.sees`. Rows of different kinds do not compare.
        references_given: of how many solutions it was told something.
        threshold: null where the task asks for none (candidates).
        solutions, problems, steps: how many are measured.
        set_aside: solutions left out because their problems are in the part of a task that the
            threshold was chosen on (`split`); of candidates none.
        tuned_on: how many of the measured problems the threshold was chosen on; above 0 the row
            flatters the predictor.
        unscored: solutions without scores; they are measured, as missed: see
            `universalbench.measures`.
        unscored_reason: why the first of them has none.
        abstained_steps: see `ItemScores.abstained`.
        headline: the name of the metric that the table shows first and comparisons compare.
        metrics: name → value; `Results.definitions` says what each is.
        counts: of step truth.
        sweep, calibration: null for candidates; see there.
        slices: by what there is to slice.
        details: what the benchmark's own evaluation says further (PRMBench, candidates).
    """

    __pydantic_config__ = STRICT

    task: str
    predictor: str
    scores_of: str
    sees_reference: ReferenceKind
    references_given: int
    threshold: Cut | None
    solutions: int
    problems: int
    steps: int
    set_aside: int
    tuned_on: int
    unscored: int
    unscored_reason: str | None
    abstained_steps: int
    headline: str
    metrics: dict[str, Estimate]
    counts: StepCounts | None = None
    sweep: Sweep | None = None
    calibration: Calibration | None = None
    slices: tuple[Slice, ...] = ()
    details: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two predictors on the solutions of a task that both are measured on.

    Attributes:
        task, one, other: names.
        metric: the task's headline metric.
        solutions, problems: how many both are measured on.
        difference: `one` less `other`, with a paired bootstrap interval: both are measured on the
            same drawn problems.
        p: two-sided permutation p-value: how often the difference is at least as large where, per
            problem, chance says whose output is whose.
        p_holm: the same after Holm's correction over all pairs of the task.
        exact: whether all exchanges were tried rather than drawn.
        across_reference: whether one was told of references and the other was not (or something
            else): the difference is then not one of the models alone.
    """

    __pydantic_config__ = STRICT

    task: str
    one: str
    other: str
    metric: str
    solutions: int
    problems: int
    difference: Estimate
    p: float | None
    p_holm: float | None
    exact: bool
    across_reference: bool


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """What a task is.

    Attributes:
        name, kind: as configured.
        headline: its headline metric.
        digest: of all items: equal digests, equal tasks.
        solutions, problems, steps: how many.
        erroneous: solutions with a wrong step; null where that is not known.
        wrong_steps: null where that is not known of every step.
        correct: solutions whose final answer is right, of those where that is known; null where
            it is known of none.
        with_reference: solutions with a worked reference.
        subsets, generators: name → solutions, in the order of the file; no entry for "".
        misnamed: solutions that the benchmark calls erroneous, naming none of their steps; they
            count as error-free, as PRMBench's authors count them.
    """

    __pydantic_config__ = STRICT

    name: str
    kind: Kind
    headline: str
    digest: str
    solutions: int
    problems: int
    steps: int
    erroneous: int | None
    wrong_steps: int | None
    correct: int | None
    with_reference: int
    subsets: dict[str, int]
    generators: dict[str, int]
    misnamed: int = 0


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How chance was used.

    Attributes:
        seed: of everything below and of splits.
        draws: bootstrap draws of problems.
        permutations: exchanges drawn where there are more than that.
        level: of the intervals.
        cluster: what is drawn.
    """

    __pydantic_config__ = STRICT

    seed: int
    draws: int
    permutations: int
    level: float = 0.95
    cluster: str = "problem"


@dataclass(frozen=True, kw_only=True)
class Results:
    """`results.json`.

    Attributes:
        config: the resolved configuration, without `out`.
        versions: of the packages that could bear on the result.
        costs: see the module; the only part that another attempt may change.
    """

    __pydantic_config__ = STRICT

    tasks: tuple[TaskRecord, ...]
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    predictors: tuple[PredictorRecord, ...]
    definitions: dict[str, str]
    sampling: Sampling
    versions: dict[str, str]
    config: dict[str, Any] = field(default_factory=dict)
    costs: tuple[TotalCost, ...] = ()
    version: int = RESULTS_VERSION


def digest(items: Sequence[Item]) -> str:
    """16 hexadecimal digits that tell the items of a task, and their truth, from any others."""
    rows = [
        (
            item.solution_id,
            item.digest,
            item.subset,
            item.first_error,
            item.wrong,
            item.final_answer_correct,
        )
        for item in items
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def write(path: str | Path, results: Results) -> None:
    """Write `results.json`."""
    text = json.dumps(json.loads(jsonl.encode(results)), indent=1, ensure_ascii=False)
    jsonl.write_text(path, text + "\n")


def read(path: str | Path) -> Results:
    """Read `results.json`, strictly.

    Raises:
        RecordError: the file is missing, or not what this version writes.
    """
    path = Path(path)
    if not path.is_file():
        raise RecordError("no such file; give the folder of a `prm bench` run", path=path)
    found = jsonl.decode(path.read_bytes(), Results, path=path)
    if found.version != RESULTS_VERSION:
        raise RecordError(f"version {found.version}; this is {RESULTS_VERSION}", path=path)
    return found
