"""A predictor on a task: from its scores and its threshold to a row of the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from prm import metrics
from prm.zoo.family import ReferenceKind
from universalbench.calibration import calibrate
from universalbench.measures import (
    FIRST_METRICS,
    HEADLINES,
    STEP_METRICS,
    Measure,
    Scores,
    measure,
    measured,
    ordered,
    step_table,
    sweep,
)
from universalbench.resampling import (
    by_cluster,
    clusters,
    estimate,
    ranked_draws,
    sums_estimate,
)
from universalbench.results import (
    Cut,
    Estimate,
    Item,
    ItemScores,
    Point,
    PredictorRecord,
    Row,
    StepCounts,
    Sweep,
)
from universalbench.slices import slice_all
from universalbench.thresholds import Chosen, best

POINTS = 101
"""The most points of a curve."""


@dataclass(frozen=True)
class Measured:
    """The items of a task that a predictor is measured on, and what it says of them.

    Attributes:
        task, kind: of the task.
        every: all items of the task that enter its metrics.
        items: those of them that this predictor is measured on.
        rows: what it says of these.
        set_aside: how many solutions are left out for the threshold's sake.
        tuned_on: how many of the problems the threshold was chosen on.
        cut: the threshold, as this task's row shows it.
        chosen: the same, with the problems it was chosen on.
        untold_cut: the threshold for the solutions of which the predictor was told nothing.
    """

    task: str
    kind: str
    every: list[Item]
    items: list[Item]
    rows: list[ItemScores]
    set_aside: int
    tuned_on: int
    cut: Cut
    chosen: Chosen
    untold_cut: float | None = None

    @property
    def scores(self) -> Scores:
        """One row per item, None where it has no scores."""
        return [row.scores for row in self.rows]

    @cached_property
    def decided(self) -> Scores:
        """The scores for decisions, see `decided`."""
        return decided(self.rows, self.cut.value, self.untold_cut)


def decided(rows: Sequence[ItemScores], cut: float, untold: float | None) -> Scores:
    """Scores that lie below one threshold where the predictor's lie below that of their kind.

    Args:
        rows: what a predictor says.
        cut: the threshold.
        untold: another for what it was told nothing of; None where that is `cut` too.
    """
    return [
        row.scores
        if untold is None or row.told or row.scores is None
        else shifted(row.scores, untold, cut)
        for row in rows
    ]


def shifted(scores: Sequence[float], own: float, cut: float) -> list[float]:
    """Scores moved by the difference of two thresholds: those below `own`, and no others, come to
    lie below `cut`, whatever rounding says."""
    below = float(np.nextafter(cut, -np.inf))
    return [
        min(score - own + cut, below) if score < own else max(score - own + cut, cut)
        for score in scores
    ]


def select(
    task: str, kind: str, items: Sequence[Item], rows: Sequence[ItemScores], chosen: Chosen
) -> Measured:
    """What a predictor with this threshold is measured on.

    Problems on a split's side of choosing are left out of every task that asks for a threshold, so
    that no problem is on both sides. A threshold that the checkpoint declares is the one for what
    the predictor was told of each solution.
    """
    every = [item for item in items if measured(kind, item)]
    kept = [
        (item, row)
        for item, row in zip(items, rows, strict=True)
        if measured(kind, item)
        and not (kind != "candidates" and chosen.keeps_out(item.problem_key))
    ]
    inside = [item for item, _ in kept]
    tuned = {item.problem_key for item in inside} & chosen.problems
    cut, untold_cut = _declared(chosen, [row for _, row in kept])
    if tuned and cut.task == task:
        cut = replace(cut, source=f"{cut.source} itself")
    elif tuned:
        cut = replace(cut, source=f"{cut.source}, sharing {len(tuned)} problems")
    return Measured(
        task=task,
        kind=kind,
        every=every,
        items=inside,
        rows=[row for _, row in kept],
        set_aside=len(every) - len(kept),
        tuned_on=len(tuned),
        cut=cut,
        chosen=chosen,
        untold_cut=untold_cut,
    )


def _declared(chosen: Chosen, rows: Sequence[ItemScores]) -> tuple[Cut, float | None]:
    """The cut of a row, and another for what was told nothing, where the row holds both kinds."""
    cut, untold = chosen.cut, sum(not row.told for row in rows)
    if chosen.untold is None:
        return replace(cut, misfits=untold if chosen.for_told else 0), None
    if untold == len(rows):
        return chosen.untold, None
    if not untold:
        return cut, None
    other = chosen.untold.value
    source = f"{cut.source}; {other:.4g} for the {untold} told of nothing"
    return replace(cut, source=source, untold=other), other


def build(
    name: str,
    record: PredictorRecord,
    part: Measured,
    headline: Measure,
    details: dict[str, Any] | None,
    seed: int,
) -> Row:
    """The row of a predictor on a task.

    Args:
        name: the predictor's.
        record: what gave the scores.
        part: what is measured; at least one item.
        headline: the task's headline metric on `part.items`.
        details: what the benchmark's own evaluation says.
        seed: of the intervals.
    """
    items, scores = part.items, part.scores
    unscored = [row for row in part.rows if row.scores is None]
    given = sum(row.told for row in part.rows)
    labelled = part.kind != "candidates"
    places = clusters([item.problem_key for item in items])
    return Row(
        task=part.task,
        predictor=name,
        scores_of=record.id,
        sees_reference=sees(record, items, part.rows),
        references_given=given,
        threshold=part.cut if labelled else None,
        solutions=len(items),
        problems=int(places.max()) + 1,
        steps=sum(len(item.steps) for item in items),
        set_aside=part.set_aside,
        tuned_on=part.tuned_on if labelled else 0,
        unscored=len(unscored),
        unscored_reason=(
            f"solution {unscored[0].solution_id!r}: {unscored[0].reason}" if unscored else None
        ),
        abstained_steps=sum(row.abstained for row in part.rows),
        headline=headline.name,
        metrics=measure_all(part, headline, seed),
        counts=_counts(part),
        sweep=_sweep(part) if labelled else None,
        calibration=calibrate(items, scores, seed) if labelled else None,
        slices=(
            tuple(slice_all(part.kind, part.every, items, part.decided, part.cut.value, seed))
            if labelled
            else ()
        ),
        details=details,
    )


def sees(
    record: PredictorRecord, items: Sequence[Item], rows: Sequence[ItemScores]
) -> ReferenceKind:
    """The most that a predictor was told of the references of these solutions.

    A checkpoint that takes worked solutions is told the answer where there is none.
    """
    told = [item for item, row in zip(items, rows, strict=True) if row.told]
    if not told:
        return "none"
    if record.kind == "checkpoint" and not any(item.has_reference for item in told):
        return "answer"
    return record.reference


def measure_all(part: Measured, headline: Measure, seed: int) -> dict[str, Estimate]:
    """All metrics of a row by name, the headline first."""
    places = clusters([item.problem_key for item in part.items])
    found = [headline]
    if part.kind != "candidates":
        names = [*FIRST_METRICS]
        if part.items[0].wrong is not None:
            names = [*STEP_METRICS, *names]
        if len({item.subset for item in part.items}) > 1 or part.kind == "universalbench":
            names += [
                f"subset_mean_{name}"
                for name in ("f1_wrong", "f1_right", "f1_macro", "first_error_f1")
                if name in names
            ]
        found += [measure(name, part.items) for name in names if name != headline.name]
    values = {}
    for metric in found:
        table = by_cluster(metric.table(part.items, part.decided, part.cut.value), places)
        values[metric.name] = sums_estimate(table, metric.statistic, seed, "0/0 here")
    if part.kind != "candidates" and part.items[0].wrong is not None:
        values |= _ranked(part, places, seed)
    return values


def _ranked(part: Measured, places: np.ndarray, seed: int) -> dict[str, Estimate]:
    """The metrics that look at the order of scores; see `ordered`."""
    wrong = [item.wrong or () for item in part.items]
    truth = np.array([step for own in wrong for step in own], dtype=bool)
    values = ordered(wrong, part.scores)
    owner = np.repeat(places, [len(item.steps) for item in part.items])
    areas, precisions = ranked_draws(truth, values, owner, seed)
    both = truth.any() and not truth.all()
    area = metrics.auroc(truth, values) if both else np.nan
    found = values < np.inf  # a wrong step that is called so at no threshold has precision 0
    precision = (
        metrics.average_precision(truth[found], values[found]) * truth[found].sum() / truth.sum()
        if truth.any()
        else np.nan
    )
    return {
        "auroc": estimate(area, areas, "wrong or right steps are absent"),
        "average_precision": estimate(precision, precisions, "no step is wrong"),
    }


def _counts(part: Measured) -> StepCounts | None:
    if part.kind == "candidates" or part.items[0].wrong is None:
        return None
    sums = step_table(part.items, part.decided, part.cut.value).sum(axis=0)
    hit, alarm, missed, rest = (int(value) for value in sums)
    return StepCounts(
        true_positive=hit, false_positive=alarm, false_negative=missed, true_negative=rest
    )


def _sweep(part: Measured) -> Sweep | None:
    """The headline metric over thresholds, see `Sweep`; None without any score."""
    if all(row is None for row in part.scores):
        return None
    name = HEADLINES[part.kind]
    first = part.items[0].wrong is None
    shown = (
        ("error_accuracy", "correct_accuracy") if first else ("recall_wrong", "false_alarm_rate")
    )
    curves = {}
    for metric in (name, *shown):
        cuts, sums = sweep(metric, part.items, part.scores)
        curves[metric] = measure(metric, part.items).statistic(sums)

    def point(index: int) -> Point:
        values = {metric: float(values[index]) for metric, values in curves.items()}
        return Point(
            threshold=float(cuts[index]),
            values={metric: None if np.isnan(v) else v for metric, v in values.items()},
        )

    chosen = np.unique(np.linspace(0, len(cuts) - 1, min(POINTS, len(cuts))).round().astype(int))
    return Sweep(
        metric=name,
        points=tuple(point(int(index)) for index in chosen),
        oracle=point(best(curves[name])),
    )
