"""What is measured on a task: tables of what each item adds, and metrics of their sums.

The positive class is *wrong*, and a step is called wrong where its score lies strictly below the
threshold. An item without scores stays in every count as missed: each of its steps counts as called
what it is not, its first error is not found, and where it has none, that was not said. So not
being able to score never raises a metric of steps or of first errors.

A metric is a function of sums `[..., columns]`, NaN where it is 0/0, so that it is measured alike
on the task, on a bootstrap draw, on a slice and at every threshold. `DEFINITIONS` says what each
is; `HEADLINES` which one stands for a kind of task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from prm import metrics
from prm.records import first_error
from universalbench.resampling import Statistic, ratio
from universalbench.results import Item

Scores = Sequence[Sequence[float] | None]
"""For each item one score per step, or None where it could not be scored."""

DEFINITIONS = {
    "f1_wrong": "Per-step F1, positive = wrong: 2 TP / (2 TP + FP + FN) over all steps.",
    "f1_right": "Per-step F1, positive = right: 2 TN / (2 TN + FP + FN), the counts those of "
    "f1_wrong.",
    "f1_macro": "Mean of f1_wrong and f1_right.",
    "accuracy": "Share of all steps called what they are.",
    "precision_wrong": "Share of the steps called wrong that are wrong.",
    "recall_wrong": "Share of the wrong steps that are called wrong.",
    "false_alarm_rate": "Share of the right steps that are called wrong.",
    "auroc": "Probability that a wrong step scores below a right one, ties counting half. Takes no "
    "threshold; of a solution without scores the wrong steps count as scored above all others and "
    "the right ones below.",
    "average_precision": "Precision of the steps called wrong, averaged over the wrong steps as "
    "the threshold rises (tied scores enter together). Takes no threshold; of a solution without "
    "scores the right steps count as called wrong at every threshold, and the wrong ones, called "
    "so at none, with precision 0.",
    "first_error_f1": "ProcessBench's F1 (arXiv 2412.06559): harmonic mean of error_accuracy and "
    "correct_accuracy, 0 where both are.",
    "error_accuracy": "Share of the erroneous solutions whose first wrong step is the first step "
    "called wrong.",
    "correct_accuracy": "Share of the error-free solutions of which no step is called wrong.",
    "subset_mean_f1_wrong": "Plain mean over the subsets of f1_wrong within each.",
    "subset_mean_f1_right": "Plain mean over the subsets of f1_right within each.",
    "subset_mean_f1_macro": "Plain mean over the subsets of f1_macro within each.",
    "subset_mean_first_error_f1": "Plain mean over the subsets of first_error_f1 within each.",
    "ece": "Expected calibration error: the mean over all steps with scores of | share right - "
    "mean score | of the bin that the step's score lies in; 15 bins of equal width. Chance adds to "
    "every gap, so bootstrap draws, and with them the interval, lie too high where solutions are "
    "few.",
    "brier": "Mean squared difference of a step's score and 1 (right) or 0 (wrong), over the steps "
    "with scores.",
    "best_of_all": "Share of the problems of which the best-rewarded candidate, of all there are, "
    "is right; a candidate's reward is its lowest step score. Of several best ones, the share that "
    "is right. A candidate without scores comes last; a problem without any score counts as wrong.",
    "prm_score": "PRMBench's PRMScore as its authors compute it (arXiv 2501.03124), over all steps "
    "of its classes but `correct`: the mean of F1 and negative F1, a part that is 0/0 entering as "
    "-1. Solutions without scores are left out of it; f1_macro counts them as missed.",
}
"""Metric → what it is; a metric that is 0/0 has no value."""


def f1_wrong(sums: np.ndarray) -> np.ndarray:
    """See `DEFINITIONS`; of sums `[..., 4]` as the next six: true positive, false positive, false
    negative, true negative."""
    hit, alarm, missed, _ = np.moveaxis(sums, -1, 0)
    return ratio(2 * hit, 2 * hit + alarm + missed)


def f1_right(sums: np.ndarray) -> np.ndarray:
    """See `DEFINITIONS`."""
    return f1_wrong(sums[..., ::-1])


def f1_macro(sums: np.ndarray) -> np.ndarray:
    """See `DEFINITIONS`."""
    return (f1_wrong(sums) + f1_right(sums)) / 2


def accuracy(sums: np.ndarray) -> np.ndarray:
    """See `DEFINITIONS`."""
    return ratio(sums[..., 0] + sums[..., 3], sums.sum(axis=-1))


def precision_wrong(sums: np.ndarray) -> np.ndarray:
    """See `DEFINITIONS`."""
    return ratio(sums[..., 0], sums[..., 0] + sums[..., 1])


def recall_wrong(sums: np.ndarray) -> np.ndarray:
    """See `DEFINITIONS`."""
    return ratio(sums[..., 0], sums[..., 0] + sums[..., 2])


def false_alarm_rate(sums: np.ndarray) -> np.ndarray:
    """See `DEFINITIONS`."""
    return ratio(sums[..., 1], sums[..., 1] + sums[..., 3])


FIRST_COLUMNS = 4
"""Erroneous and hit, erroneous, error-free and said so, error-free."""


def error_accuracy(sums: np.ndarray) -> np.ndarray:
    """See `DEFINITIONS`; of sums `[..., 4]` of first errors, as are the next two."""
    return ratio(sums[..., 0], sums[..., 1])


def correct_accuracy(sums: np.ndarray) -> np.ndarray:
    """See `DEFINITIONS`."""
    return ratio(sums[..., 2], sums[..., 3])


def first_error_f1(sums: np.ndarray) -> np.ndarray:
    """See `DEFINITIONS`; as one quotient, so that equal counts give equal values."""
    error_hit, erroneous, correct_hit, correct = np.moveaxis(sums, -1, 0)
    bottom = error_hit * correct + correct_hit * erroneous
    both = np.where(bottom > 0, 2 * error_hit * correct_hit / np.maximum(bottom, 1e-300), 0.0)
    return np.where((erroneous > 0) & (correct > 0), both, np.nan)


def best_of_all(sums: np.ndarray) -> np.ndarray:
    """See `DEFINITIONS`; of sums `[..., 2]` as `best_table` has them."""
    return ratio(sums[..., 0], sums[..., 1])


STEP_METRICS: dict[str, Statistic] = {
    "f1_wrong": f1_wrong,
    "f1_right": f1_right,
    "f1_macro": f1_macro,
    "accuracy": accuracy,
    "precision_wrong": precision_wrong,
    "recall_wrong": recall_wrong,
    "false_alarm_rate": false_alarm_rate,
}

FIRST_METRICS: dict[str, Statistic] = {
    "first_error_f1": first_error_f1,
    "error_accuracy": error_accuracy,
    "correct_accuracy": correct_accuracy,
}


def subset_mean(statistic: Statistic, subsets: int) -> Statistic:
    """The plain mean of a statistic over subsets, of sums `[..., subsets · 4]`."""

    def mean(sums: np.ndarray) -> np.ndarray:
        split = sums.reshape(*sums.shape[:-1], subsets, -1)
        return np.asarray(statistic(split).mean(axis=-1))

    return mean


def step_table(
    items: Sequence[Item], scores: Scores, threshold: float, kept: Sequence[Sequence[bool]] = ()
) -> np.ndarray:
    """Decisions over the steps of each item, `[items, 4]`.

    Args:
        items: whose every step's truth is known.
        scores: of the items.
        threshold: the cut.
        kept: for each item and step whether it counts; all by default.
    """
    return decisions([item.wrong or () for item in items], scores, threshold, kept)


def decisions(
    wrong: Sequence[Sequence[bool]],
    scores: Scores,
    threshold: float,
    kept: Sequence[Sequence[bool]] = (),
) -> np.ndarray:
    """As `step_table`, of whether each step of each solution is wrong."""
    truth = np.array([step for own in wrong for step in own], dtype=bool)
    said = np.array(
        [
            called
            for own, row in zip(wrong, scores, strict=True)
            for called in (
                [value < threshold for value in row]
                if row is not None
                else [not step for step in own]
            )
        ],
        dtype=bool,
    )
    counted = (
        np.array([value for row in kept for value in row], dtype=bool)
        if kept
        else np.ones(len(truth), dtype=bool)
    )
    owner = np.repeat(np.arange(len(wrong)), [len(own) for own in wrong])
    cells = (truth & said, ~truth & said, truth & ~said, ~truth & ~said)
    table = [np.bincount(owner[cell & counted], minlength=len(wrong)) for cell in cells]
    return np.stack(table, axis=1).astype(float)


def ordered(wrong: Sequence[Sequence[bool]], scores: Scores) -> np.ndarray:
    """All steps' scores, flat, for metrics that look at their order alone: where a solution has
    none, its wrong steps stand above all others and its right ones below."""
    return np.array(
        [
            value
            for own, row in zip(wrong, scores, strict=True)
            for value in (row if row is not None else [np.inf if step else -np.inf for step in own])
        ],
        dtype=float,
    )


def first_table(items: Sequence[Item], scores: Scores, threshold: float) -> np.ndarray:
    """Whether the first error of each item is found, `[items, 4]`."""
    table = np.zeros((len(items), FIRST_COLUMNS))
    for index, (item, row) in enumerate(zip(items, scores, strict=True)):
        hit = row is not None and first_error(row, threshold) == item.first_error
        table[index] = (hit, 1, 0, 0) if item.first_error != -1 else (0, 0, hit, 1)
    return table


def best_table(items: Sequence[Item], scores: Scores, threshold: float = 0.0) -> np.ndarray:
    """Right answers chosen and problems, `[items, 2]`; a problem's stand with its first candidate.

    Candidates of one problem have the same text. A problem is left out where it is not known of
    every candidate whether its answer is right.
    """
    groups: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(item.problem, []).append(index)
    table = np.zeros((len(items), 2))
    for group in groups.values():
        right = [items[index].final_answer_correct for index in group]
        if None in right:
            continue
        rewards = [min(scores[index] or [-np.inf]) for index in group]
        top = max(rewards)
        chosen = [known for known, reward in zip(right, rewards, strict=True) if reward == top]
        share = sum(map(bool, chosen)) / len(chosen) if top > -np.inf else 0.0
        table[group[0]] = share, 1
    return table


def spread(table: np.ndarray, subsets: Sequence[int]) -> np.ndarray:
    """A table with columns of its own for every subset, `[items, subsets · columns]`.

    Args:
        table: `[items, columns]`.
        subsets: the subset of each item, numbered from 0.
    """
    wide = np.zeros((len(table), max(subsets, default=-1) + 1, table.shape[1]))
    wide[np.arange(len(table)), list(subsets)] = table
    return wide.reshape(len(table), -1)


def subset_places(items: Sequence[Item]) -> list[int]:
    """The subset of each item, numbered from 0 in the order of appearance."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(item.subset, len(numbers)) for item in items]


@dataclass(frozen=True)
class Measure:
    """A metric of items at a threshold.

    Attributes:
        name: in `DEFINITIONS`.
        table: what each item adds.
        statistic: from the sums to the value.
    """

    name: str
    table: Callable[[Sequence[Item], Scores, float], np.ndarray]
    statistic: Statistic


HEADLINES: dict[str, str] = {
    "processbench": "first_error_f1",
    "steps": "f1_wrong",
    "universalbench": "subset_mean_f1_wrong",
    "prmbench": "f1_macro",
    "candidates": "best_of_all",
}
"""Kind of task → what the table shows first and comparisons compare. PRMBench's is not PRMScore,
which leaves out what is not scored, but the same mean of two F1s over all solutions."""

WITHIN: dict[str, str] = {
    "processbench": "first_error_f1",
    "steps": "f1_wrong",
    "universalbench": "f1_wrong",
    "prmbench": "f1_macro",
}
"""Kind of task → the metric within a slice, which may hold parts of subsets."""


def measure(name: str, items: Sequence[Item]) -> Measure:
    """A metric by its name, for these items (a mean over subsets needs to know them)."""
    if name == "best_of_all":
        return Measure(name, best_table, best_of_all)
    inner = name.removeprefix("subset_mean_")
    steps = inner in STEP_METRICS
    table = step_table if steps else first_table
    statistic = (STEP_METRICS if steps else FIRST_METRICS)[inner]
    if inner == name:
        return Measure(name, table, statistic)
    places = subset_places(items)

    def wide(rows: Sequence[Item], scores: Scores, threshold: float) -> np.ndarray:
        return spread(table(rows, scores, threshold), places)

    return Measure(name, wide, subset_mean(statistic, max(places, default=-1) + 1))


def measured(kind: str, item: Item) -> bool:
    """Whether an item enters the metrics: PRMBench's totals leave the class `correct` out."""
    return kind != "prmbench" or item.subset != "correct"


def sweep(name: str, items: Sequence[Item], scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """All thresholds that differ in what they call wrong, and the sums of a metric's table at each.

    Args:
        name: of a step metric, or of one of first errors.
        items: what is measured.
        scores: of the items, not all None.

    Returns:
        thresholds `[cuts]`, ascending, and sums `[cuts, columns]`, those of
        `measure(name, items).table` at each threshold.

    Raises:
        ValueError: there are no scores.
    """
    inner = name.removeprefix("subset_mean_")
    sums = _sweep_steps if inner in STEP_METRICS else _sweep_first
    places = subset_places(items) if inner != name else [0] * len(items)
    scored = [row for row in scores if row is not None]
    if not scored:
        raise ValueError("no scores to choose a threshold from")
    cuts, _ = metrics.all_cuts(np.sort(np.concatenate([np.asarray(row) for row in scored])))
    columns = []
    for place in range(max(places) + 1):
        inside = [index for index, own in enumerate(places) if own == place]
        columns.append(sums([items[i] for i in inside], [scores[i] for i in inside], cuts))
    return cuts, np.concatenate(columns, axis=1)


def _sweep_steps(items: Sequence[Item], scores: Scores, cuts: np.ndarray) -> np.ndarray:
    nothing_called = step_table(
        items, [None if row is None else [np.inf] * len(row) for row in scores], 0.0
    ).sum(axis=0)
    values, truth = [], []
    for item, row in zip(items, scores, strict=True):
        if row is not None:
            values += list(row)
            truth += list(item.wrong or ())
    wrong = np.array(truth, dtype=bool)
    bad, good = (
        np.searchsorted(np.sort(np.asarray(values, dtype=float)[mask]), cuts, side="left")
        for mask in (wrong, ~wrong)
    )
    # A score strictly below the cut is called wrong: it moves from the right half to the left.
    moved = np.stack([bad, good, -bad, -good], axis=1)
    return np.asarray(nothing_called + moved, dtype=float)


def _sweep_first(items: Sequence[Item], scores: Scores, cuts: np.ndarray) -> np.ndarray:
    sums = first_table(items, [None] * len(items), 0.0).sum(axis=0)[None].repeat(len(cuts), axis=0)
    there = [index for index, row in enumerate(scores) if row is not None]
    rows = [row for row in scores if row is not None]
    firsts = [items[index].first_error for index in there]
    assert None not in firsts
    sums[:, 0], sums[:, 2] = metrics.first_error_hits(
        [first for first in firsts if first is not None], rows, cuts
    )
    return sums
