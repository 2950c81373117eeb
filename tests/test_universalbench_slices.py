"""Slices: what is in them, and that their metric is that of what is in them."""

from __future__ import annotations

import pytest
from benchmark import benchmarks, item, literal_f1, literal_first_f1
from hypothesis import given, settings
from hypothesis import strategies as st

from universalbench.slices import THIRDS, slice_all, tertiles, third

CUT = 0.5


def sliced(items, scores, *, kind="steps", every=None):
    return slice_all(kind, every or items, items, scores, CUT, 0)


def by(found, name):
    return [part for part in found if part.by == name]


# ── where slices end ─────────────────────────────────────────────────────────────────────────


def test_tertiles_by_hand():
    assert tertiles([1, 2, 3, 4, 5, 6]) == [(1, 2), (3, 4), (5, 6)]
    assert tertiles([9, 1, 5]) == [(1, 1), (2, 5), (6, 9)]
    assert tertiles([1, 2, 3, 4]) == [(1, 2), (3, 3), (4, 4)]
    assert tertiles([7]) == [(7, 7)]  # ties leave the others empty
    assert tertiles([2, 2, 2, 2, 9]) == [(2, 2), (3, 9)]
    assert tertiles([]) == []


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_tertiles_hold_everything_once_and_thirds_where_ties_allow(sizes):
    bounds = tertiles(sizes)
    for size in sizes:
        assert sum(low <= size <= high for low, high in bounds) == 1
    assert bounds[0][0] == min(sizes)
    assert bounds[-1][1] == max(sizes)
    # An end is the smallest size that a third (two thirds) of all do not exceed.
    for part in (1, 2):
        end = min(s for s in sizes if 3 * sum(other <= s for other in sizes) >= part * len(sizes))
        assert end in [high for _, high in bounds]


def test_thirds_by_hand():
    assert [third(index, 1) for index in range(1)] == [1]
    assert [third(index, 2) for index in range(2)] == [0, 2]
    assert [third(index, 3) for index in range(3)] == [0, 1, 2]
    assert [third(index, 4) for index in range(4)] == [0, 1, 1, 2]
    assert [third(index, 6) for index in range(6)] == [0, 0, 1, 1, 2, 2]


@given(st.integers(1, 40))
def test_thirds_are_the_same_from_both_ends(steps):
    found = [third(index, steps) for index in range(steps)]
    assert found == sorted(found)
    assert found == [2 - value for value in reversed(found)]


# ── what they hold ───────────────────────────────────────────────────────────────────────────


@settings(max_examples=60)
@given(benchmarks(most=12))
def test_a_slice_is_measured_on_what_is_in_it(case):
    items, scores = case
    pairs = list(zip(items, scores, strict=True))
    found = sliced(items, scores)
    tests = {
        "generator": lambda entry, part: entry.generator == part.name,
        "subset": lambda entry, part: entry.subset == part.name,
        "steps": lambda entry, part: part.low <= len(entry.steps) <= part.high,
        "characters": lambda entry, part: part.low <= sum(map(len, entry.steps)) <= part.high,
    }
    for part in found:
        if part.by == "position":
            continue
        inside = [pair for pair in pairs if tests[part.by](pair[0], part)]
        assert part.solutions == len(inside)
        assert part.problems == len({entry.problem_key for entry, _ in inside})
        assert part.steps == sum(len(entry.steps) for entry, _ in inside)
        assert part.small
        expected = literal_f1([entry for entry, _ in inside], [row for _, row in inside], CUT)
        assert part.estimate.value == (None if expected is None else pytest.approx(expected))
    for name in ("generator", "subset", "steps", "characters"):
        parts = by(found, name)
        if parts:
            assert sum(part.solutions for part in parts) == len(items)


@settings(max_examples=60)
@given(benchmarks(most=12))
def test_a_position_holds_the_steps_there(case):
    items, scores = case
    found = by(sliced(items, scores), "position")
    assert sum(part.steps for part in found) == sum(len(entry.steps) for entry in items)
    for part in found:
        number = THIRDS.index(part.name)
        cut_items, cut_scores = [], []
        for entry, row in zip(items, scores, strict=True):
            places = [i for i in range(len(entry.steps)) if third(i, len(entry.steps)) == number]
            if places:
                cut_items.append(item(0, [entry.wrong[i] for i in places]))
                cut_scores.append(None if row is None else [row[i] for i in places])
        expected = literal_f1(cut_items, cut_scores, CUT)
        assert part.solutions == len(cut_items)
        assert part.estimate.value == (None if expected is None else pytest.approx(expected))


def test_first_errors_are_sliced_by_where_they_are():
    # Three steps each; the first error is in the first, first, last third, or nowhere.
    items = [item(i, None, first=first) for i, first in enumerate([0, 0, 2, -1])]
    scores = [[0.1, 0.9, 0.9], [0.9, 0.1, 0.1], [0.9, 0.9, 0.1], [0.9, 0.9, 0.9]]
    found = sliced(items, scores, kind="processbench")
    positions = {part.name: part for part in by(found, "position")}
    assert set(positions) == {"first third", "last third"}
    assert {part.metric for part in positions.values()} == {"error_accuracy"}
    assert positions["first third"].estimate.value == 0.5
    assert (positions["first third"].solutions, positions["last third"].solutions) == (2, 1)
    [whole] = by(found, "steps")  # all are of three steps
    assert (whole.low, whole.high, whole.name) == (3, 3, "3 steps")
    assert whole.metric == "first_error_f1"
    assert whole.estimate.value == pytest.approx(literal_first_f1(items, scores, CUT))


def test_a_slice_without_both_kinds_has_no_processbench_f1():
    items = [item(i, None, first=f, generator=g) for i, (f, g) in enumerate([(0, "a"), (-1, "b")])]
    found = by(sliced(items, [[0.1] * 3, [0.9] * 3], kind="processbench"), "generator")
    assert [part.estimate.value for part in found] == [None, None]
    assert found[0].estimate.why == "not defined here"


def test_one_policy_is_no_slice():
    items = [item(i, [True], generator="a", subset="s") for i in range(3)]
    found = sliced(items, [[0.1]] * 3)
    assert not by(found, "generator")
    assert not by(found, "subset")


def test_fewer_than_thirty_solutions_are_small():
    items = [item(i, [True], generator="a" if i < 30 else "b") for i in range(59)]
    found = by(sliced(items, [[0.1]] * 59), "generator")
    assert [(part.name, part.solutions, part.small) for part in found] == [
        ("a", 30, False),
        ("b", 29, True),
    ]


def test_bounds_are_those_of_the_task_whatever_is_measured():
    every = [item(i, [True] * (1 + i % 6)) for i in range(24)]
    part = every[:6]
    scores = [[0.1] * len(entry.steps) for entry in part]
    found = by(sliced(part, scores, every=every), "steps")
    assert [(p.low, p.high) for p in found] == tertiles([len(entry.steps) for entry in every])


def test_the_interval_of_a_slice_is_by_problem():
    items = [item(i, [i % 3 == 0], problem=f"p{i // 4}", generator="ab"[i % 2]) for i in range(80)]
    scores = [[0.1 if i % 5 else 0.9] for i in range(80)]
    first, _ = by(sliced(items, scores), "generator")
    assert (first.solutions, first.problems) == (40, 20)
    low, high = first.estimate.interval
    assert low < first.estimate.value < high
