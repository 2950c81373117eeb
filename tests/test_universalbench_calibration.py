"""Calibration against its definitions, and where there is none to speak of."""

from __future__ import annotations

import pytest
from benchmark import item
from hypothesis import given, settings
from hypothesis import strategies as st

from prm import metrics
from universalbench.calibration import BINS, calibrate

probability = st.sampled_from([0.0, 1 / 15, 0.2, 0.5, 0.77, 14 / 15, 1.0])
rows = st.lists(
    st.lists(st.tuples(st.booleans(), probability), min_size=1, max_size=4), min_size=1, max_size=8
)


def made(cases):
    items = [
        item(index, [wrong for wrong, _ in row], problem=f"p{index // 2}")
        for index, row in enumerate(cases)
    ]
    return items, [[value for _, value in row] for row in cases]


@settings(max_examples=60)
@given(rows)
def test_calibration_is_its_definition(cases):
    items, scores = made(cases)
    found = calibrate(items, scores, 0)
    right = [float(not wrong) for row in cases for wrong, _ in row]
    said = [value for row in cases for _, value in row]
    assert found.ece.value == pytest.approx(metrics.calibration_error(right, said, BINS))
    assert found.brier.value == pytest.approx(metrics.brier(right, said))
    assert found.why is None

    assert len(found.bins) == BINS
    total = 0.0
    for index, part in enumerate(found.bins):
        inside = [
            (r, s)
            for r, s in zip(right, said, strict=True)
            if min(int(s * BINS), BINS - 1) == index
        ]
        assert part.steps == len(inside)
        assert (part.low, part.high) == (index / BINS, (index + 1) / BINS)
        if not inside:
            assert part.mean_score is part.share_right is None
            continue
        assert part.share_right == pytest.approx(sum(r for r, _ in inside) / len(inside))
        assert part.mean_score == pytest.approx(sum(s for _, s in inside) / len(inside))
        total += part.steps / len(said) * abs(part.share_right - part.mean_score)
    assert found.ece.value == pytest.approx(total)


def test_calibration_has_intervals():
    cases = [[(i % 3 == 0, (i % 7) / 7), (i % 4 == 0, 0.5)] for i in range(60)]
    found = calibrate(*made(cases), 0)
    low, high = found.brier.interval
    assert low < found.brier.value < high
    low, high = found.ece.interval  # its draws lie above it: see its definition
    assert 0 < low < high < 1
    assert calibrate(*made(cases), 0) == found
    assert calibrate(*made(cases), 1) != found


def test_scores_that_are_no_probabilities():
    items, scores = made([[(True, 0.2), (False, 0.5)]])
    found = calibrate(items, [[-0.25, 0.5]], 0)
    assert found.why == "the scores are no probabilities: they lie from -0.25 to 0.5"
    assert (found.ece.value, found.brier.value, found.bins) == (None, None, ())
    assert found.ece.why == found.why
    assert calibrate(items, [[0.5, 1.5]], 0).why.endswith("from 0.5 to 1.5")
    assert calibrate(items, scores, 0).why is None


def test_first_errors_alone_calibrate_nothing():
    found = calibrate([item(0, None, first=1)], [[0.1, 0.2, 0.3]], 0)
    assert found.why == "only the first error of a solution is known"


def test_solutions_without_scores_say_nothing():
    items, scores = made([[(True, 0.2)], [(False, 0.5)]])
    found = calibrate(items, [scores[0], None], 0)
    assert found.brier.value == pytest.approx(0.04)
    assert sum(part.steps for part in found.bins) == 1
    assert calibrate(items, [None, None], 0).why == "no scores"
