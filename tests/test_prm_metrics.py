"""Metrics against hand calculations and against their definitions written out literally."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from prm import metrics
from prm.records import first_error

# Few different values, so that ties are the rule; two of them are neighbouring floats.
NEIGHBOUR = math.nextafter(0.5, 1.0)
values = st.sampled_from([-0.25, 0.0, 0.25, 0.5, NEIGHBOUR, 1.0, 1.5])
steps = st.lists(st.tuples(st.booleans(), values), min_size=1, max_size=12)
samples = st.lists(
    st.lists(values, min_size=1, max_size=4).flatmap(
        lambda row: st.tuples(st.integers(-1, len(row) - 1), st.just(row))
    ),
    min_size=1,
    max_size=8,
)


def all_cuts(scores: list[float]) -> list[float]:
    """One threshold for every way of cutting the scores in two."""
    return [*sorted(set(scores)), math.nextafter(max(scores), math.inf)]


def literal_step_f1(wrong: list[bool], called: list[bool]) -> Fraction:
    hits = sum(a and b for a, b in zip(wrong, called, strict=True))
    if not hits:
        return Fraction(0)
    precision, recall = Fraction(hits, sum(called)), Fraction(hits, sum(wrong))
    return 2 * precision * recall / (precision + recall)


def literal_processbench_f1(truth: list[int], said: list[int]) -> Fraction:
    """As in the authors' evaluation: accuracies of the two halves, then their harmonic mean."""
    error = [(a, b) for a, b in zip(truth, said, strict=True) if a != -1]
    correct = [(a, b) for a, b in zip(truth, said, strict=True) if a == -1]
    accuracies = [
        Fraction(sum(a == b for a, b in half), len(half)) if half else Fraction(0)
        for half in (error, correct)
    ]
    if not all(accuracies):
        return Fraction(0)
    return 2 * accuracies[0] * accuracies[1] / (accuracies[0] + accuracies[1])


def test_step_f1_by_hand():
    counted = metrics.step_f1([1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0])
    assert (counted.true_positive, counted.false_positive) == (2, 1)
    assert (counted.false_negative, counted.true_negative) == (1, 2)
    assert counted.precision == pytest.approx(2 / 3)
    assert counted.recall == pytest.approx(2 / 3)
    assert counted.f1 == pytest.approx(2 / 3)


def test_step_f1_precision_and_recall_differ():
    counted = metrics.step_f1([1, 0, 0, 0], [1, 1, 1, 0])
    assert (counted.precision, counted.recall) == (pytest.approx(1 / 3), 1.0)
    assert counted.f1 == pytest.approx(0.5)


def test_macro_f1_by_hand():
    # Wrong: 2 hits, 1 false alarm, none missed: 4/5. Right: 1 hit, none false, 1 missed: 2/3.
    assert metrics.step_f1([1, 1, 0, 0], [1, 1, 1, 0]).macro_f1 == pytest.approx(
        (4 / 5 + 2 / 3) / 2
    )
    # One class alone: the other's F1 is 0.
    assert metrics.step_f1([0, 0], [0, 0]).macro_f1 == 0.5
    assert metrics.step_f1([], []).macro_f1 == 0.0


@given(steps)
def test_macro_f1_does_not_ask_which_class_is_positive(rows):
    wrong, called = [row[0] for row in rows], [row[1] > 0.3 for row in rows]
    there = literal_step_f1(wrong, called)
    back = literal_step_f1([not bad for bad in wrong], [not bad for bad in called])
    assert metrics.step_f1(wrong, called).macro_f1 == pytest.approx(float(there + back) / 2)


def test_f1_right_and_accuracy_by_hand():
    counted = metrics.step_f1([1, 1, 0, 0], [1, 1, 1, 0])
    assert counted.f1_right == pytest.approx(2 / 3)
    assert counted.accuracy == 3 / 4
    assert metrics.step_f1([], []).accuracy == 0.0


@given(steps)
def test_f1_right_is_f1_with_the_classes_exchanged(rows):
    wrong, called = [row[0] for row in rows], [row[1] > 0.3 for row in rows]
    counted = metrics.step_f1(wrong, called)
    back = literal_step_f1([not bad for bad in wrong], [not bad for bad in called])
    assert counted.f1_right == pytest.approx(float(back))
    assert counted.accuracy == sum(a == b for a, b in zip(wrong, called, strict=True)) / len(rows)


def test_average_precision_by_hand():
    # Wrong at .1, .6, .9: precision 1 at .1, 2/3 at .6 (tied with a right one), 3/5 at .9.
    wrong, scores = [1, 1, 0, 0, 1], [0.1, 0.6, 0.6, 0.7, 0.9]
    assert metrics.average_precision(wrong, scores) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert metrics.average_precision([0, 0], [0.1, 0.2]) == 0.0
    assert metrics.average_precision([1, 1], [0.1, 0.2]) == 1.0
    with pytest.raises(ValueError, match="2 labels and 1 scores"):
        metrics.average_precision([1, 0], [0.5])


@given(steps)
def test_average_precision_is_its_definition(rows):
    total = sum(bad for bad, _ in rows)
    area, before = Fraction(0), 0
    for cut in sorted({value for _, value in rows}):
        called = [bad for bad, value in rows if value <= cut]
        if total:
            area += Fraction(sum(called) - before, total) * Fraction(sum(called), len(called))
        before = sum(called)
    found = metrics.average_precision(*zip(*rows, strict=True))
    assert found == pytest.approx(float(area), abs=1e-12)


def test_brier_by_hand():
    assert metrics.brier([1.0, 0.0, 0.5], [0.5, 1.0, 0.5]) == pytest.approx((0.25 + 1) / 3)
    assert metrics.brier([], []) == 0.0
    with pytest.raises(ValueError, match="2 labels and 1 predictions"):
        metrics.brier([1.0, 0.0], [0.5])


def test_calibration_error_by_hand():
    # Two bins. Below a half: labels 0, .4 and said .1, .3: |.2 − .2| = 0. From a half on: labels
    # 1, 1 and said .5, .9: |1 − .7| = .3. Half of the steps each.
    labels, said = [0.0, 1.0, 0.4, 1.0], [0.1, 0.5, 0.3, 0.9]
    assert metrics.calibration_error(labels, said, bins=2) == pytest.approx(0.15)
    # One bin: |.6 − .45|. Fifteen: every probability alone.
    assert metrics.calibration_error(labels, said, bins=1) == pytest.approx(0.15)
    apart = (0.1 + 0.5 + 0.1 + 0.1) / 4
    assert metrics.calibration_error(labels, said) == pytest.approx(apart)


def test_calibration_error_at_the_edges():
    assert metrics.calibration_error([0.0, 1.0], [0.0, 1.0]) == 0.0
    assert metrics.calibration_error([1.0, 0.0], [0.0, 1.0]) == 1.0
    assert metrics.calibration_error([], []) == 0.0
    # An edge belongs to the upper bin: .5 stands with .6, and not with .4.
    assert metrics.calibration_error([1.0, 0.1], [0.5, 0.6], bins=2) == pytest.approx(0.0)
    assert metrics.calibration_error([1.0, 0.0], [0.5, 0.4], bins=2) == pytest.approx(0.45)
    with pytest.raises(ValueError, match="outside"):
        metrics.calibration_error([1.0], [1.5])
    with pytest.raises(ValueError, match="2 labels and 1 predictions"):
        metrics.calibration_error([1.0, 0.0], [0.5])


soft = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30)


@given(soft, st.integers(1, 20))
def test_calibration_error_is_its_definition(rows, bins):
    total = 0.0
    for number in range(bins):
        inside = [
            (label, said) for label, said in rows if min(int(said * bins), bins - 1) == number
        ]
        if inside:
            mean_label = math.fsum(label for label, _ in inside) / len(inside)
            mean_said = math.fsum(said for _, said in inside) / len(inside)
            total += len(inside) / len(rows) * abs(mean_label - mean_said)
    labels, said = zip(*rows, strict=True)
    assert metrics.calibration_error(labels, said, bins) == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize(
    ("wrong", "called"), [([0, 0], [0, 0]), ([1, 1], [0, 0]), ([0, 0], [1, 1]), ([], [])]
)
def test_step_f1_without_hits_is_zero(wrong, called):
    assert metrics.step_f1(wrong, called).f1 == 0.0


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="2 labels and 3 predictions"):
        metrics.step_f1([1, 0], [1, 0, 0])
    with pytest.raises(ValueError, match="2 labels and 1 predictions"):
        metrics.first_error_f1([1, 0], [1])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        metrics.best_first_error_threshold([0, 0], [[0.5]])


@given(steps)
def test_step_f1_is_the_harmonic_mean(rows):
    wrong, called = [row[0] for row in rows], [row[1] > 0.3 for row in rows]
    assert metrics.step_f1(wrong, called).f1 == pytest.approx(
        float(literal_step_f1(wrong, called)), abs=1e-12
    )


def test_auroc_by_hand():
    # Wrong steps at .1 and .6, right ones at .6, .7: of four pairs three are ordered, one tied.
    assert metrics.auroc([1, 1, 0, 0], [0.1, 0.6, 0.6, 0.7]) == pytest.approx(3.5 / 4)
    assert metrics.auroc([1, 0], [0.9, 0.1]) == 0.0


@pytest.mark.parametrize("wrong", [[0, 0, 0], [1, 1, 1]])
def test_auroc_of_one_class_is_a_half(wrong):
    assert metrics.auroc(wrong, [0.1, 0.2, 0.3]) == 0.5


@given(steps)
def test_auroc_counts_pairs(rows):
    wrong = [value for bad, value in rows if bad]
    right = [value for bad, value in rows if not bad]
    pairs = [1.0 if a < b else 0.5 if a == b else 0.0 for a, b in itertools.product(wrong, right)]
    expected = sum(pairs) / len(pairs) if pairs else 0.5
    assert metrics.auroc(*zip(*rows, strict=True)) == pytest.approx(expected, abs=1e-12)


def test_best_step_threshold_by_hand():
    # Calling .1 and .4 wrong gives two hits and no false alarm; the cut stands between .4 and .8.
    assert metrics.best_step_threshold([1, 1, 0], [0.1, 0.4, 0.8]) == pytest.approx(0.6)


@given(steps)
@example([(True, 0.5), (False, NEIGHBOUR)])
@example([(True, 1.0), (True, 1.0)])
@example([(False, 1.0)])
def test_best_step_threshold_beats_every_cut(rows):
    wrong, scores = [row[0] for row in rows], [row[1] for row in rows]

    def quality(cut: float) -> Fraction:
        return literal_step_f1(wrong, [value < cut for value in scores])

    chosen = metrics.best_step_threshold(wrong, scores)
    best = max(map(quality, all_cuts(scores)))
    assert quality(chosen) == best
    # The lowest of several: fewer steps called wrong would be worse.
    below = [value for value in scores if value < chosen]
    assert not below or quality(max(below)) < best


def test_best_step_threshold_tells_neighbouring_floats_apart():
    threshold = metrics.best_step_threshold([1, 0], [0.5, NEIGHBOUR])
    assert threshold == NEIGHBOUR


@pytest.mark.parametrize("scale", [1.0, 1e308, 5e-324])
def test_best_step_threshold_at_the_ends_of_the_number_range(scale):
    wrong, scores = [1, 0, 1], [1.0 * scale, 1.7 * scale if scale > 1 else 2 * scale, 1.0 * scale]
    threshold = metrics.best_step_threshold(wrong, scores)
    assert [value < threshold for value in scores] == [True, False, True]


def test_no_scores_no_threshold():
    with pytest.raises(ValueError, match="no scores"):
        metrics.best_step_threshold([], [])


def test_first_error_f1_by_hand():
    # Erroneous: 1 of 3 hit exactly. Error-free: 1 of 2 recognised.
    result = metrics.first_error_f1([0, 2, 1, -1, -1], [0, 1, -1, -1, 0])
    assert (result.erroneous, result.correct) == (3, 2)
    assert result.error_accuracy == pytest.approx(1 / 3)
    assert result.correct_accuracy == 0.5
    assert result.f1 == pytest.approx(2 * (1 / 3) * 0.5 / (1 / 3 + 0.5))


@pytest.mark.parametrize(("truth", "said"), [([-1, -1], [-1, -1]), ([0, 1], [0, 1]), ([], [])])
def test_first_error_f1_of_one_kind_is_zero(truth, said):
    assert metrics.first_error_f1(truth, said).f1 == 0.0


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3)), min_size=1, max_size=12))
def test_first_error_f1_is_that_of_processbench(rows):
    truth, said = [row[0] for row in rows], [row[1] for row in rows]
    expected = float(literal_processbench_f1(truth, said))
    assert metrics.first_error_f1(truth, said).f1 == pytest.approx(expected, abs=1e-12)


def test_first_error_f1_is_that_of_processbench_on_every_small_case():
    # Of up to three steps: what is said and what is true lie between -1 and 2. The order of
    # samples is of no account in either definition.
    pairs = list(itertools.product(range(-1, 3), repeat=2))
    cases = 0
    for count in range(1, 5):
        for rows in itertools.combinations_with_replacement(pairs, count):
            truth, said = [row[0] for row in rows], [row[1] for row in rows]
            expected = literal_processbench_f1(truth, said)
            found = metrics.first_error_f1(truth, said)
            assert found.f1 == pytest.approx(float(expected), abs=1e-15)
            cases += 1
    assert cases == 16 + 136 + 816 + 3876


@given(samples)
def test_hits_at_every_threshold(rows):
    truth, scores = [row[0] for row in rows], [row[1] for row in rows]
    cuts = np.array(all_cuts([value for row in scores for value in row]))
    error, correct = metrics.first_error_hits(truth, scores, cuts)
    for index, cut in enumerate(cuts):
        hits = [
            first
            for first, row in zip(truth, scores, strict=True)
            if first_error(row, cut) == first
        ]
        assert error[index] == sum(first >= 0 for first in hits)
        assert correct[index] == sum(first == -1 for first in hits)


@given(samples)
@example([(0, [0.5, 1.0]), (-1, [NEIGHBOUR])])
@example([(1, [0.5, 0.5])])
def test_best_first_error_threshold_beats_every_cut(rows):
    truth, scores = [row[0] for row in rows], [row[1] for row in rows]

    def quality(cut: float) -> Fraction:
        return literal_processbench_f1(truth, [first_error(row, cut) for row in scores])

    everything = [value for row in scores for value in row]
    chosen = metrics.best_first_error_threshold(truth, scores)
    best = max(map(quality, all_cuts(everything)))
    assert quality(chosen) == best
    # The lowest of several: whatever cuts elsewhere below is worse.
    lower = [cut for cut in all_cuts(everything) if any(cut <= v < chosen for v in everything)]
    assert all(quality(cut) < best for cut in lower)


def test_best_first_error_threshold_by_hand():
    # Sample 1 is right for .2 < t <= .7, sample 2 for t <= .4: the cut between .2 and .4.
    threshold = metrics.best_first_error_threshold([1, -1], [[0.7, 0.2], [0.4, 0.9]])
    assert threshold == pytest.approx(0.3)


def test_intervals_hold_the_estimate_and_repeat():
    rng = np.random.default_rng(7)
    truth = [int(value) for value in rng.integers(-1, 3, 200)]
    said = [value if rng.random() < 0.7 else -1 for value in truth]
    low, high = metrics.first_error_interval(truth, said)
    estimate = metrics.first_error_f1(truth, said).f1
    assert low < estimate < high
    assert high - low < 0.2
    assert metrics.first_error_interval(truth, said) == (low, high)

    wrong = [[bool(value) for value in rng.integers(0, 2, 4)] for _ in range(150)]
    called = [[value ^ bool(rng.random() < 0.2) for value in row] for row in wrong]
    low, high = metrics.step_f1_interval(wrong, called)
    flat = [[value for row in table for value in row] for table in (wrong, called)]
    assert low < metrics.step_f1(*flat).f1 < high
    assert metrics.step_f1_interval(wrong, called) == (low, high)

    accuracies = rng.random(100).tolist()
    low, high = metrics.mean_interval(accuracies)
    assert low < float(np.mean(accuracies)) < high
    assert metrics.mean_interval(accuracies) == (low, high)


def test_interval_of_a_mean_has_the_width_of_theory():
    coin = [0.0, 1.0] * 200
    low, high = metrics.mean_interval(coin)
    # 1.96 standard errors of .5 / sqrt(400) to either side.
    assert_allclose([low, high], [0.451, 0.549], atol=0.006)


def test_intervals_of_certain_results_are_points():
    assert metrics.mean_interval([1.0, 1.0, 1.0]) == (1.0, 1.0)
    assert metrics.step_f1_interval([[True], [True]], [[True], [True]]) == (1.0, 1.0)
    assert metrics.first_error_interval([-1, -1], [-1, -1]) == (0.0, 0.0)  # one kind: F1 is 0


def test_step_interval_draws_whole_solutions():
    # Steps of one solution stand and fall together, so the interval is as wide as for one step.
    wrong, called = [[True] * 20] * 20, [[index % 2 == 0] * 20 for index in range(20)]
    once = [[row[0]] for row in wrong], [[row[0]] for row in called]
    assert metrics.step_f1_interval(wrong, called) == pytest.approx(metrics.step_f1_interval(*once))
