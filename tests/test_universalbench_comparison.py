"""Intervals, p-values and comparisons against slow literal implementations of what they are."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from benchmark import benchmarks, item, literal_f1, literal_first_f1
from hypothesis import given, settings
from hypothesis import strategies as st

from prm import metrics
from universalbench import resampling
from universalbench.comparison import Side, compare
from universalbench.measures import HEADLINES, f1_wrong, measure, step_table
from universalbench.resampling import by_cluster, clusters

CUT = 0.5
DRAWS = 40  # looked at literally, of those drawn


def headline(kind="steps"):
    return lambda items: measure(HEADLINES[kind], items)


def tables(items, scores, name="f1_wrong"):
    places = clusters([entry.problem_key for entry in items])
    found = measure(name, items)
    return by_cluster(found.table(items, scores, CUT), places), found.statistic, places


def resampled(items, scores, places, weights):
    """The items and scores of a draw, each as often as its cluster was drawn, as lists."""
    drawn = [
        (entry, row)
        for cluster, times in enumerate(weights)
        for _ in range(int(times))
        for entry, row, place in zip(items, scores, places, strict=True)
        if place == cluster
    ]
    return [entry for entry, _ in drawn], [row for _, row in drawn]


# ── draws ────────────────────────────────────────────────────────────────────────────────────


def test_draws_are_of_all_clusters_and_repeat():
    drawn = resampling.draws(7, 3)
    assert drawn.shape == (resampling.DRAWS, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert np.array_equal(drawn, np.random.default_rng(3).multinomial(7, [1 / 7] * 7, 2000))
    assert not np.array_equal(drawn, resampling.draws(7, 4))
    # Each cluster is drawn once on average, with the variance of a multinomial.
    assert drawn.mean(axis=0) == pytest.approx(np.ones(7), abs=0.08)
    assert drawn.var(axis=0) == pytest.approx(np.full(7, 6 / 7), abs=0.12)


@settings(max_examples=30)
@given(benchmarks())
@pytest.mark.parametrize(
    ("name", "literal"),
    [
        ("f1_wrong", lambda items, scores: literal_f1(items, scores, CUT)),
        ("f1_right", lambda items, scores: literal_f1(items, scores, CUT, positive=False)),
        ("first_error_f1", lambda items, scores: literal_first_f1(items, scores, CUT)),
    ],
)
def test_a_draw_of_sums_is_the_metric_of_the_resampled_solutions(name, literal, case):
    items, scores = case
    table, statistic, places = tables(items, scores, name)
    weights = resampling.draws(len(table), 0)
    fast = statistic(weights @ table)
    for index in range(DRAWS):
        expected = literal(*resampled(items, scores, places, weights[index]))
        if expected is None:
            assert math.isnan(fast[index])
        else:
            assert fast[index] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30)
@given(benchmarks())
def test_a_draw_of_ranks_is_the_metric_of_the_resampled_steps(case):
    items, scores = case
    places = clusters([entry.problem_key for entry in items])
    rows = [
        [math.inf if wrong else -math.inf for wrong in e.wrong] if r is None else r
        for e, r in zip(items, scores, strict=True)
    ]
    owner = np.repeat(places, [len(entry.wrong) for entry in items])
    truth = np.array([value for entry in items for value in entry.wrong])
    values = np.array([value for row in rows for value in row])
    areas, precisions = resampling.ranked_draws(truth, values, owner, 0)
    weights = resampling.draws(int(places.max()) + 1, 0)
    assert len(areas) == len(precisions) == len(weights)
    for index in range(DRAWS):
        drawn_items, drawn = resampled(items, rows, places, weights[index])
        wrong = [value for entry in drawn_items for value in entry.wrong]
        flat = [value for row in drawn for value in row]
        if len(set(wrong)) == 2:
            assert areas[index] == pytest.approx(metrics.auroc(wrong, flat))
        else:
            assert math.isnan(areas[index])
        if any(wrong):
            assert precisions[index] == pytest.approx(literal_precision(wrong, flat))
        else:
            assert math.isnan(precisions[index])


# ── intervals ────────────────────────────────────────────────────────────────────────────────


def literal_precision(wrong, scores):
    """Step by step: the precision at the score of each wrong one, none at infinity."""
    found = []
    for own, value in zip(wrong, scores, strict=True):
        below = [w for w, other in zip(wrong, scores, strict=True) if other <= value]
        found += [sum(below) / len(below) if value < math.inf else 0.0] if own else []
    return sum(found) / len(found)


def test_an_interval_is_the_percentiles_of_the_draws():
    items = [item(i, [i % 2 == 0, i % 3 == 0]) for i in range(20)]
    scores = [[0.0 if i % 5 else 1.0, 0.7 if i % 4 else 0.1] for i in range(20)]
    table, statistic, places = tables(items, scores)
    found = resampling.sums_estimate(table, statistic, 0)
    weights = resampling.draws(20, 0)
    literal = [literal_f1(*resampled(items, scores, places, row), CUT) for row in weights[:200]]
    assert statistic(weights[:200] @ table) == pytest.approx(literal)
    assert found.value == pytest.approx(literal_f1(items, scores, CUT))
    assert found.interval == pytest.approx(
        tuple(np.percentile(statistic(weights @ table), [2.5, 97.5]))
    )
    assert found.interval[0] < found.value < found.interval[1]
    assert (found.undefined, found.why) == (0, None)


def test_solutions_of_one_problem_are_drawn_together():
    # Four copies of each solution tell no more than one: the interval is that of the ones.
    wrong = [[i % 2 == 0, i % 3 == 0] for i in range(20)]
    row = [[0.0 if i % 5 else 1.0, 0.7 if i % 4 else 0.1] for i in range(20)]
    once, statistic, _ = tables([item(i, wrong[i]) for i in range(20)], row)
    copies = [
        item(4 * i + k, wrong[i], problem=f"problem {i}") for i in range(20) for k in range(4)
    ]
    four, _, _ = tables(copies, [row[i] for i in range(20) for _ in range(4)])
    apart = step_table(copies, [row[i] for i in range(20) for _ in range(4)], CUT)
    single = resampling.sums_estimate(once, statistic, 0)
    clustered = resampling.sums_estimate(four, statistic, 0)
    assert clustered.interval == pytest.approx(single.interval)
    naive = resampling.sums_estimate(apart, statistic, 0)  # what drawing solutions would say
    width = single.interval[1] - single.interval[0]
    assert naive.interval[1] - naive.interval[0] < 0.7 * width


def test_what_is_not_defined_is_counted_and_left_out():
    drawn = np.concatenate([np.full(100, np.nan), np.linspace(0, 1, 1900)])
    found = resampling.estimate(0.5, drawn)
    assert (found.undefined, found.why) == (100, None)  # one in twenty
    assert found.interval == pytest.approx((0.025, 0.975))
    found = resampling.estimate(0.5, np.append(drawn[1:], [np.nan] * 2))
    assert (found.value, found.interval, found.undefined) == (0.5, None, 101)
    assert found.why == "no interval: not defined in 101 of 2001 draws"
    found = resampling.estimate(math.nan, drawn, "no step is wrong")
    assert (found.value, found.interval, found.why) == (None, None, "no step is wrong")


def test_nothing_to_measure():
    nothing = np.zeros((0, 4))
    assert resampling.sums_estimate(nothing, f1_wrong, 0).value is None
    assert resampling.difference_estimate(nothing, nothing, f1_wrong, 0).value is None
    assert resampling.permutation_p(nothing, nothing, f1_wrong, 0).value is None


def test_an_interval_holds_the_truth_as_often_as_it_says():
    # Problems of three solutions that stand or fall together; accuracy 0.6.
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        right = np.repeat(rng.random(60) < 0.6, 3)
        table = by_cluster(np.stack([right, np.ones(180)], 1), np.repeat(np.arange(60), 3))
        found = resampling.sums_estimate(table, lambda sums: sums[..., 0] / sums[..., 1], 0)
        held += found.interval[0] <= 0.6 <= found.interval[1]
    assert 0.9 <= held / 200 <= 0.99


# ── permutations ─────────────────────────────────────────────────────────────────────────────


def literal_p(items, one, other):
    """All exchanges of whole problems, each measured anew from the lists."""
    problems = list(dict.fromkeys(entry.problem_key for entry in items))

    def difference(swapped):
        left = [
            b if e.problem_key in swapped else a for e, a, b in zip(items, one, other, strict=True)
        ]
        right = [
            a if e.problem_key in swapped else b for e, a, b in zip(items, one, other, strict=True)
        ]
        first, second = literal_f1(items, left, CUT), literal_f1(items, right, CUT)
        return None if first is None or second is None else abs(first - second)

    observed = difference(())
    if observed is None:
        return None
    found = [
        difference({p for p, swap in zip(problems, pattern, strict=True) if swap})
        for pattern in itertools.product([False, True], repeat=len(problems))
    ]
    return sum(d is None or d >= observed - 1e-9 for d in found) / len(found)


@settings(max_examples=60)
@given(benchmarks(), st.randoms(use_true_random=False))
def test_a_p_value_of_few_problems_counts_all_exchanges(case, random):
    items, one = case
    other = [None if row is None else random.sample(row, len(row)) for row in one]
    first, statistic, _ = tables(items, one)
    second, _, _ = tables(items, other)
    found = resampling.permutation_p(first, second, statistic, 0)
    assert found.exact
    assert found.value == literal_p(items, one, other)


def test_a_p_value_of_many_problems_is_drawn_and_never_zero():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 4, (16, 4)), rng.integers(0, 4, (16, 4))
    other[:, 3] += 1
    drawn = resampling.permutation_p(one.astype(float), other.astype(float), f1_wrong, 0)
    patterns = np.array(list(itertools.product([0, 1], repeat=16)))
    moved = patterns @ (other - one)
    differences = f1_wrong(one.sum(0) + moved) - f1_wrong(other.sum(0) - moved)
    exact = np.mean(
        np.abs(differences) >= abs(f1_wrong(one.sum(0)) - f1_wrong(other.sum(0))) - 1e-9
    )
    assert not drawn.exact
    assert drawn.value == pytest.approx(exact, abs=0.015)
    assert drawn.value != exact
    right, wrong = np.tile([1.0, 0, 0, 1], (40, 1)), np.tile([0.0, 1, 1, 0], (40, 1))
    least = resampling.permutation_p(right, wrong, f1_wrong, 0)
    assert least.value == 1 / (resampling.PERMUTATIONS + 1)


def test_alike_predictors_seldom_differ():
    """Under the null hypothesis a p-value below 0.05 comes about once in twenty."""
    rng = np.random.default_rng(2)
    low = 0
    for _ in range(200):
        truth = rng.random(12) < 0.5
        said = rng.random((2, 12)) < 0.5
        cells = [
            np.stack([truth & s, ~truth & s, truth & ~s, ~truth & ~s], 1).astype(float)
            for s in said
        ]
        p = resampling.permutation_p(cells[0], cells[1], f1_wrong, 0)
        low += p.value is not None and p.value <= 0.05
    assert low / 200 <= 0.09


# ── Holm ─────────────────────────────────────────────────────────────────────────────────────


def test_holm_by_hand():
    # Sorted: .01 · 4, .02 · 3, .03 · 2, .9 · 1; none below the one before.
    assert resampling.holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert resampling.holm([0.5, 0.4]) == pytest.approx([0.8, 0.8])
    assert resampling.holm([0.01, None, 0.6]) == [0.02, None, 0.6]
    assert resampling.holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.01, 0.99))
def test_holm_rejects_what_the_step_down_procedure_rejects(values, level):
    """Literally: from the smallest on, reject while p ≤ level / (hypotheses left)."""
    order = sorted(range(len(values)), key=values.__getitem__)
    rejected = set()
    for rank, index in enumerate(order):
        if values[index] * (len(values) - rank) > level:
            break
        rejected.add(index)
    corrected = resampling.holm(values)
    assert {index for index, p in enumerate(corrected) if p <= level} == rejected
    assert all(a >= b for a, b in zip(corrected, values, strict=True))


# ── comparisons ──────────────────────────────────────────────────────────────────────────────


def side(name, items, scores, *, sees="none", threshold=CUT):
    rows = {entry.solution_id: row for entry, row in zip(items, scores, strict=True)}
    return Side(name, sees, threshold, rows)


@pytest.fixture
def world():
    rng = np.random.default_rng(5)
    items = [
        item(i, [bool(v) for v in rng.random(3) < 0.4], problem=f"problem {i // 3}")
        for i in range(90)
    ]
    noise = {0.15: [], 0.3: [], 0.45: []}
    for level, rows in noise.items():
        rows += [[float(w == (rng.random() < level)) for w in entry.wrong] for entry in items]
    return items, list(noise.values())


def test_every_two_predictors_are_compared(world):
    items, (good, middling, poor) = world
    sides = [
        side("good", items, good),
        side("middling", items, middling),
        side("poor", items, poor),
    ]
    found = compare("t", items, sides, headline(), 0)
    assert [(pair.one, pair.other) for pair in found] == [
        ("good", "middling"),
        ("good", "poor"),
        ("middling", "poor"),
    ]
    for pair, (one, other) in zip(
        found, itertools.combinations((good, middling, poor), 2), strict=True
    ):
        expected = literal_f1(items, one, CUT) - literal_f1(items, other, CUT)
        assert pair.difference.value == pytest.approx(expected)
        low, high = pair.difference.interval
        assert low < expected < high
        assert (pair.task, pair.metric, pair.solutions, pair.problems) == ("t", "f1_wrong", 90, 30)
        assert not pair.exact
        assert not pair.across_reference
    assert [pair.p_holm for pair in found] == resampling.holm([pair.p for pair in found])
    assert found[1].p < 0.001
    assert compare("t", items, sides, headline(), 0) == found  # the same every time
    assert compare("t", items, sides, headline(), 1) != found


def test_a_comparison_is_paired(world):
    items, (good, *_) = world
    # The other is the same but for one step, so the difference is sure however unsure both are.
    nearly = [*good[:-1], [1 - good[-1][0], *good[-1][1:]]]
    found = compare("t", items, [side("a", items, good), side("b", items, nearly)], headline(), 0)
    low, high = found[0].difference.interval
    assert high - low < 0.02
    alone, statistic, _ = tables(items, good)
    single = resampling.sums_estimate(alone, statistic, 0)
    assert single.interval[1] - single.interval[0] > 0.06
    assert found[0].p > 0.5


def test_a_comparison_with_itself(world):
    items, (good, *_) = world
    [pair] = compare("t", items, [side("a", items, good), side("b", items, good)], headline(), 0)
    assert pair.difference.value == 0.0
    assert pair.difference.interval == (0.0, 0.0)
    assert pair.p == pair.p_holm == 1.0


def test_a_comparison_turned_round(world):
    items, (good, middling, _) = world
    a, b = side("a", items, good), side("b", items, middling)
    [there], [back] = (compare("t", items, sides, headline(), 0) for sides in ([a, b], [b, a]))
    assert there.difference.value == -back.difference.value
    assert there.difference.interval == tuple(-v for v in reversed(back.difference.interval))
    assert there.p == back.p


def test_two_are_compared_on_what_both_are_measured_on(world):
    items, (good, middling, _) = world
    part = side("part", items[:30], good[:30])
    [pair] = compare("t", items, [part, side("whole", items, middling)], headline(), 0)
    assert (pair.solutions, pair.problems) == (30, 10)
    expected = literal_f1(items[:30], good[:30], CUT) - literal_f1(items[:30], middling[:30], CUT)
    assert pair.difference.value == pytest.approx(expected)
    assert pair.exact  # ten problems


def test_two_that_share_nothing_are_not_compared(world):
    items, (good, middling, _) = world
    sides = [side("a", items[:30], good[:30]), side("b", items[30:], middling[30:])]
    [pair] = compare("t", items, sides, headline(), 0)
    assert (pair.solutions, pair.difference.value, pair.p, pair.p_holm) == (0, None, None, None)
    assert pair.difference.why == "nothing to measure"


def test_a_comparison_across_references_is_flagged(world):
    items, (good, middling, poor) = world
    sides = [
        side("a", items, good, sees="worked"),
        side("b", items, middling),
        side("c", items, poor, sees="worked"),
    ]
    found = {
        (p.one, p.other): p.across_reference for p in compare("t", items, sides, headline(), 0)
    }
    assert found == {("a", "b"): True, ("a", "c"): False, ("b", "c"): True}


@settings(max_examples=20)
@given(benchmarks(), st.sampled_from(["processbench", "universalbench", "prmbench"]))
def test_a_comparison_of_every_kind_is_the_difference_of_its_metric(case, kind):
    items, one = case
    other = [None if row is None else row[::-1] for row in one]
    sides = [side("a", items, one), side("b", items, other)]
    [pair] = compare("t", items, sides, headline(kind), 0)
    values = []
    for rows in (one, other):
        table, statistic, _ = tables(items, rows, HEADLINES[kind])
        values.append(float(statistic(table.sum(axis=0))))
    if any(map(math.isnan, values)):
        assert pair.difference.value is None
    else:
        assert pair.difference.value == pytest.approx(values[0] - values[1])


# ── splits ───────────────────────────────────────────────────────────────────────────────────


@given(
    st.sets(st.text(max_size=3), min_size=1, max_size=30), st.floats(0.01, 0.99), st.integers(0, 5)
)
def test_a_part_is_a_share_of_the_problems_in_no_order(keys, share, seed):
    found = resampling.part(sorted(keys), share, seed)
    assert found <= keys
    assert len(found) == max(1, round(share * len(keys)))
    assert resampling.part(sorted(keys, reverse=True) * 2, share, seed) == found


def test_another_seed_another_part():
    keys = [str(number) for number in range(50)]
    parts = [resampling.part(keys, 0.5, seed) for seed in range(4)]
    assert len({frozenset(found) for found in parts}) == 4
    # A larger share of the same seed holds the smaller one.
    assert resampling.part(keys, 0.3, 0) < parts[0]
