"""Metrics of step labels and of first errors, and the thresholds that maximise them.

Conventions: the positive class is *wrong* (finding errors is the task). A score is wrong
where it lies strictly below the threshold. F1 is a fraction, 0 to 1, and 0 where undefined.
All functions are pure and take numpy arrays or sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class StepF1:
    """Counts of step decisions; positive is wrong."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def precision(self) -> float:
        """Share of the steps called wrong that are wrong."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        """Share of the wrong steps that were called wrong."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _ratio(
            2 * self.true_positive,
            2 * self.true_positive + self.false_positive + self.false_negative,
        )

    @property
    def f1_right(self) -> float:
        """F1 with the roles exchanged: the positive class is *right*."""
        return _ratio(
            2 * self.true_negative,
            2 * self.true_negative + self.false_positive + self.false_negative,
        )

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the two classes, wrong and right, each taken as the positive one."""
        return (self.f1 + self.f1_right) / 2

    @property
    def accuracy(self) -> float:
        """Share of the steps that were called what they are."""
        steps = self.true_positive + self.true_negative
        return _ratio(steps, steps + self.false_positive + self.false_negative)


@dataclass(frozen=True)
class FirstErrorF1:
    """ProcessBench's metric (arXiv 2412.06559).

    Attributes:
        error_accuracy: share of erroneous samples whose first wrong step was hit exactly.
        correct_accuracy: share of error-free samples of which -1 was said.
        erroneous, correct: how many samples of each kind there are.
    """

    error_accuracy: float
    correct_accuracy: float
    erroneous: int
    correct: int

    @property
    def f1(self) -> float:
        """Harmonic mean of the two accuracies."""
        return _ratio(
            2 * self.error_accuracy * self.correct_accuracy,
            self.error_accuracy + self.correct_accuracy,
        )


def step_f1(wrong: ArrayLike, called_wrong: ArrayLike) -> StepF1:
    """Count decisions over steps.

    Args:
        wrong: truth, one boolean per step.
        called_wrong: the prediction, likewise.
    """
    truth = np.asarray(wrong, dtype=bool)
    said = np.asarray(called_wrong, dtype=bool)
    if truth.shape != said.shape:
        raise ValueError(f"{truth.size} labels and {said.size} predictions")
    return StepF1(
        true_positive=int(np.sum(truth & said)),
        false_positive=int(np.sum(~truth & said)),
        false_negative=int(np.sum(truth & ~said)),
        true_negative=int(np.sum(~truth & ~said)),
    )


def auroc(wrong: ArrayLike, scores: ArrayLike) -> float:
    """Probability that a wrong step scores below a right one, ties counting half.

    Returns:
        0.5 where one of the classes is absent.
    """
    truth = np.asarray(wrong, dtype=bool)
    values = np.asarray(scores, dtype=float)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return 0.5
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # mid-ranks from 1
    above = ranks[~truth].sum() - negatives * (negatives + 1) / 2
    return float(above / (positives * negatives))


def average_precision(wrong: ArrayLike, scores: ArrayLike) -> float:
    """Precision of the steps called wrong, averaged over the wrong steps as the threshold rises.

        Σ over distinct scores, ascending, of (recall at it − recall before) · precision at it

    where "at" a score means: it and all below are called wrong, ties together.

    Returns:
        0 where no step is wrong.
    """
    truth = np.asarray(wrong, dtype=bool)
    values = np.asarray(scores, dtype=float)
    if truth.shape != values.shape:
        raise ValueError(f"{truth.size} labels and {values.size} scores")
    order = np.argsort(values, kind="stable")
    last = np.flatnonzero(np.append(values[order][1:] != values[order][:-1], True))
    if not truth.any():
        return 0.0
    hits = np.cumsum(truth[order])[last]
    gained = np.diff(hits, prepend=0)
    return float((gained * hits / (last + 1)).sum() / truth.sum())


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared difference of what was said and what is (Brier 1950); 0 without steps.

    Args:
        labels: for each step the (soft) probability that it is right.
        probabilities: what was said of it, 0 to 1.
    """
    truth, said = np.asarray(labels, dtype=float), np.asarray(probabilities, dtype=float)
    if truth.shape != said.shape:
        raise ValueError(f"{truth.size} labels and {said.size} predictions")
    return _ratio(float(((truth - said) ** 2).sum()), truth.size)


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error: how far probabilities lie from what happened.

        Σ over bins (steps in the bin / steps) · | mean label − mean probability |

    Source: arXiv 1706.04599, with the positive class's probability in the place of the most
    likely class's, and with labels that may be soft.

    Args:
        labels: for each step the (soft) probability that it is right.
        probabilities: what was said of it, 0 to 1.
        bins: how many, of equal width; a probability on an edge belongs to the upper bin.

    Returns:
        0 without steps.
    """
    truth, said = np.asarray(labels, dtype=float), np.asarray(probabilities, dtype=float)
    if truth.shape != said.shape:
        raise ValueError(f"{truth.size} labels and {said.size} predictions")
    gaps = np.bincount(bin_places(said, bins), truth - said, minlength=bins)
    return _ratio(float(np.abs(gaps).sum()), truth.size)


def bin_places(probabilities: ArrayLike, bins: int) -> np.ndarray:
    """The bin of each probability, from 0, as `calibration_error` has them.

    Raises:
        ValueError: a probability lies outside [0, 1].
    """
    said = np.asarray(probabilities, dtype=float)
    if np.any((said < 0) | (said > 1)):
        raise ValueError("a probability lies outside [0, 1]")
    return np.asarray(np.minimum((said * bins).astype(int), bins - 1))


def best_step_threshold(wrong: ArrayLike, scores: ArrayLike) -> float:
    """The threshold with the best step F1; the lowest of several.

    All cuts between two neighbouring scores count alike, so their midpoint stands for them.
    """
    truth = np.asarray(wrong, dtype=bool)
    values = np.asarray(scores, dtype=float)
    order = np.argsort(values, kind="stable")
    sorted_values, sorted_truth = values[order], truth[order]
    # called[k] steps lie below the k-th cut; cuts stand only between different scores.
    cuts, called = all_cuts(sorted_values)
    hits = np.concatenate([[0], np.cumsum(sorted_truth)])[called]
    f1 = 2 * hits / np.maximum(called + truth.sum(), 1)
    return float(cuts[int(np.argmax(f1))])


def first_error_f1(first_errors: Sequence[int], said: Sequence[int]) -> FirstErrorF1:
    """Compare first wrong steps (-1: none) with predicted ones, as ProcessBench does."""
    truth, prediction = np.asarray(first_errors), np.asarray(said)
    if truth.shape != prediction.shape:
        raise ValueError(f"{truth.size} labels and {prediction.size} predictions")
    hit = truth == prediction
    erroneous = truth != -1
    return FirstErrorF1(
        error_accuracy=_ratio(int(hit[erroneous].sum()), int(erroneous.sum())),
        correct_accuracy=_ratio(int(hit[~erroneous].sum()), int((~erroneous).sum())),
        erroneous=int(erroneous.sum()),
        correct=int((~erroneous).sum()),
    )


def best_first_error_threshold(
    first_errors: Sequence[int], scores: Sequence[Sequence[float]]
) -> float:
    """The threshold with the best ProcessBench F1; the lowest of several.

    The exact optimum over all real thresholds, see `first_error_hits`.
    """
    if not scores:
        raise ValueError("no scores to choose a threshold from")
    cuts, _ = all_cuts(np.sort(np.concatenate([np.asarray(row, dtype=float) for row in scores])))
    error, correct = first_error_hits(first_errors, scores, cuts)
    erroneous = sum(first >= 0 for first in first_errors)
    # The harmonic mean of both accuracies as one quotient of integers: equal cuts stay equal.
    bottom = error * (len(first_errors) - erroneous) + correct * erroneous
    f1 = 2 * error * correct / np.maximum(bottom, 1)
    return float(cuts[int(np.argmax(f1))])


def first_error_hits(
    first_errors: Sequence[int], scores: Sequence[Sequence[float]], cuts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many erroneous and how many error-free samples are right at each of some thresholds.

    A sample is right on an interval of thresholds: with first error g, where
    scores[g] < t <= min(scores[:g]); without one, where t <= min(scores). Counting the
    intervals that hold each threshold needs no look at the samples again.

    Args:
        first_errors: -1 for none.
        scores: one row per sample.
        cuts: thresholds, ascending.

    Returns:
        hits among the erroneous and among the error-free, each `[cuts]`.
    """
    # Where intervals begin and end; their running sum says how many hold a cut.
    changes = {True: np.zeros(len(cuts) + 1), False: np.zeros(len(cuts) + 1)}
    for first, row in zip(first_errors, scores, strict=True):
        values = np.asarray(row, dtype=float)
        low = values[first] if first >= 0 else -np.inf
        before = values[:first] if first >= 0 else values
        high = before.min() if before.size else np.inf
        begin, end = np.searchsorted(cuts, [low, high], side="right")
        if begin < end:
            changes[first >= 0][begin] += 1
            changes[first >= 0][end] -= 1
    return np.cumsum(changes[True])[:-1], np.cumsum(changes[False])[:-1]


def all_cuts(sorted_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cuts below, between and above distinct sorted values, and how many lie below each."""
    if not sorted_values.size:
        raise ValueError("no scores to choose a threshold from")
    steps = np.flatnonzero(np.diff(sorted_values)) + 1
    between = sorted_values[steps - 1] / 2 + sorted_values[steps] / 2
    # Two neighbouring floats may have no midpoint of their own: then the upper one is the cut.
    between = np.where(between > sorted_values[steps - 1], between, sorted_values[steps])
    cuts = np.concatenate([[sorted_values[0]], between, [np.nextafter(sorted_values[-1], np.inf)]])
    return cuts, np.concatenate([[0], steps, [sorted_values.size]])


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else 0.0


def step_f1_interval(
    wrong: Sequence[Sequence[bool]], called_wrong: Sequence[Sequence[bool]]
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of step F1; whole solutions are drawn, since the steps
    of one are not independent."""
    counts = [step_f1(truth, said) for truth, said in zip(wrong, called_wrong, strict=True)]
    table = np.array(
        [(item.true_positive, item.false_positive, item.false_negative) for item in counts],
        dtype=float,
    )

    def f1(drawn: np.ndarray) -> np.ndarray:
        bottom = 2 * drawn[:, 0] + drawn[:, 1] + drawn[:, 2]
        return 2 * drawn[:, 0] / np.maximum(bottom, 1)

    return sums_interval(table, f1)


def first_error_interval(first_errors: Sequence[int], said: Sequence[int]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of ProcessBench's F1; solutions are drawn."""
    truth, prediction = np.asarray(first_errors), np.asarray(said)
    hit, erroneous = truth == prediction, truth != -1

    def f1(drawn: np.ndarray) -> np.ndarray:
        error = drawn[:, 0] / np.maximum(drawn[:, 1], 1)
        correct = drawn[:, 2] / np.maximum(drawn[:, 3], 1)
        return 2 * error * correct / np.maximum(error + correct, 1e-12)

    return sums_interval(
        np.stack([hit & erroneous, erroneous, hit & ~erroneous, ~erroneous], 1), f1
    )


def sums_interval(
    table: ArrayLike, statistic: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a statistic of column sums.

    Args:
        table: `[solutions, columns]`, what each solution adds; rows are drawn.
        statistic: from the sums of each draw, `[draws, columns]`, to its values, `[draws]`.

    Returns:
        The interval, NaN where the statistic is NaN for some draw.
    """
    rows = np.asarray(table, dtype=float)
    return _interval(statistic(_resamples(len(rows)) @ rows))


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean."""
    table = np.asarray(values, dtype=float)
    return _interval(_resamples(len(table)) @ table / len(table))


def _resamples(size: int, draws: int = 1000) -> np.ndarray:
    """How often each of `size` solutions is drawn, `[draws, size]`; the same every time."""
    generator = np.random.default_rng(0)
    return generator.multinomial(size, np.full(size, 1 / size), size=draws).astype(float)


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
