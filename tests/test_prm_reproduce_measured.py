"""Numbers, intervals and verdicts of `prm reproduce`, and the planted errors of labels."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmark import item, literal_f1
from hypothesis import given
from hypothesis import strategies as st

from prm import jsonl, metrics
from prm.errors import ConfigError, RecordError
from prm.records import Annotation, Judgment, LabelledSolution, Solution, StepScores, steps_digest
from prm.reproduce import derive, figure
from prm.reproduce.ballots import read_ballots
from prm.reproduce.figure import Claim, Figure, Results, Row, verdict
from prm.reproduce.measured import (
    Ranked,
    Steps,
    f1,
    read_scores,
    read_steps,
    step_sums,
)
from prm.sources import Place
from universalbench import measures, resampling
from universalbench.results import Estimate


def labelled(
    index: int, wrong: Sequence[bool], problem: str = "", generator: str = "p"
) -> LabelledSolution:
    solution = Solution(
        id=f"s{index}",
        problem=problem or f"problem {index}",
        steps=tuple(f"step {number}" for number in range(len(wrong))),
        answer="1",
        reference="worked",
        generator=generator,
    )
    return LabelledSolution(solution=solution, labels=tuple(float(not one) for one in wrong))


VALUES = [-0.25, 0.0, 0.25, 0.5, 0.75, 1.0]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Steps, list[tuple[float, ...] | None]]:
    """Up to six solutions of up to three problems, some without scores."""
    items, scores = [], []
    for index in range(draw(st.integers(1, 6))):
        wrong = draw(st.lists(st.booleans(), min_size=1, max_size=4))
        items.append(labelled(index, wrong, f"problem {draw(st.integers(0, 2))}"))
        row = st.tuples(*[st.sampled_from(VALUES)] * len(wrong))
        scores.append(draw(st.none() | row))
    return Steps(items), scores


# ── F1 and AUROC ─────────────────────────────────────────────────────────────────────────────


@given(worlds(), st.sampled_from([*VALUES, 2.0]))
def test_sums_are_those_of_the_benchmarks(
    world: tuple[Steps, list[tuple[float, ...] | None]], cut: float
) -> None:
    steps, scores = world
    items = [
        item(index, [label < 0.5 for label in entry.labels], problem=entry.solution.problem)
        for index, entry in enumerate(steps.items)
    ]
    places = resampling.clusters(steps.problems)
    theirs = resampling.by_cluster(measures.step_table(items, scores, cut), places)
    ours = step_sums(steps, scores, cut)
    assert ours.tolist() == theirs.tolist()
    value = f1({1: ours}).row("x").value.value
    of_wrong, of_right = (literal_f1(items, scores, cut, side) for side in (True, False))
    if of_wrong is None or of_right is None:
        assert value is None
    else:
        assert value == pytest.approx((of_wrong + of_right) / 2)


def test_f1_by_hand_over_two_seeds() -> None:
    """Seed 1: a wrong step called, a right one called. Seed 2: a wrong one missed, a right one."""
    one = step_sums(Steps([labelled(0, [True, False])]), [(0.1, 0.2)], 0.5)
    two = step_sums(Steps([labelled(0, [True, False])]), [(0.9, 0.9)], 0.5)
    assert (one.tolist(), two.tolist()) == ([[1, 1, 0, 0]], [[0, 0, 1, 1]])
    row = f1({1: one, 2: two}).row("x", group="g", headline=True)
    # Together 1 hit, 1 alarm, 1 missed, 1 right: F1 of wrong and of right are 1/2.
    assert row.value.value == 0.5
    # Alone: (2/3 + 0) / 2, and (0 + 2/3) / 2.
    assert row.seeds == pytest.approx((1 / 3, 1 / 3))
    assert (row.group, row.headline) == ("g", True)


@given(worlds())
def test_auroc_of_one_seed_is_that_of_its_steps(
    world: tuple[Steps, list[tuple[float, ...] | None]],
) -> None:
    steps, scores = world
    wrong = [label < 0.5 for entry in steps.items for label in entry.labels]
    flat = [
        value
        for entry, row in zip(steps.items, scores, strict=True)
        for value in (row or [np.inf if label < 0.5 else -np.inf for label in entry.labels])
    ]
    row = Ranked({7: (steps, scores)}).row("x")
    area = metrics.auroc(wrong, flat)
    if len(set(wrong)) < 2:
        assert (row.value.value, row.seeds) == (None, (None,))
        assert row.value.why
    else:
        assert row.value.value == pytest.approx(area)
        assert row.seeds == pytest.approx((area,))


def world_of(seed: int, noise: float, count: int = 60) -> tuple[Steps, list[tuple[float, ...]]]:
    rng = random.Random(seed)
    items = [labelled(n, [rng.random() < 0.3 for _ in range(5)]) for n in range(count)]
    drawn = random.Random(f"{seed} {noise}")
    scores = [tuple(label + drawn.gauss(0, noise) for label in entry.labels) for entry in items]
    return Steps(items), scores


def test_auroc_of_several_seeds_is_their_mean_and_no_comparison_crosses_seeds() -> None:
    parts = {seed: world_of(seed, 0.5) for seed in (1, 2)}
    row = Ranked(parts).row("x")
    alone = [Ranked({seed: part}).row("x").value.value for seed, part in parts.items()]
    assert row.value.value == pytest.approx(np.mean(alone))
    # Another scale of one seed's scores changes nothing.
    steps, scores = parts[2]
    moved = {1: parts[1], 2: (steps, [tuple(9 + value for value in own) for own in scores])}
    assert Ranked(moved).row("x").value == row.value
    low, high = row.value.interval
    assert low < row.value.value < high


def test_differences_are_paired_by_problem() -> None:
    good = {seed: world_of(seed, 0.4) for seed in (1, 2)}
    poor = {seed: world_of(seed, 0.9) for seed in (1, 2)}
    ours, theirs = (
        f1({seed: step_sums(*part, 0.5) for seed, part in parts.items()}) for parts in (good, poor)
    )
    for one, other in ((ours, theirs), (Ranked(good), Ranked(poor))):
        claim = one.claim("better", other, "paper")
        first, second = one.row("a"), other.row("b")
        assert (claim.text, claim.paper, claim.metric) == ("better", "paper", first.metric)
        assert claim.difference.value == pytest.approx(first.value.value - second.value.value)
        assert claim.seeds == pytest.approx(np.subtract(first.seeds, second.seeds))
        assert claim.verdict == "holds"
        back = other.claim("better", one)
        assert back.verdict == "fails"
        assert back.difference.interval == pytest.approx(
            [-end for end in claim.difference.interval[::-1]]
        )
        same = one.claim("better", one)
        assert (same.difference.value, same.difference.interval) == (0.0, (0.0, 0.0))
        assert same.verdict == "not shown"


def test_a_difference_of_other_seeds_is_a_bug() -> None:
    one, other = (f1({seed: step_sums(*world_of(1, 0.5), 0.5)}) for seed in (1, 2))
    with pytest.raises(AssertionError):
        one.claim("better", other)
    for seed, count in ((2, 60), (1, 59)):
        with pytest.raises(AssertionError):
            Ranked({1: world_of(1, 0.5)}).claim("better", Ranked({seed: world_of(1, 0.5, count)}))


def test_what_is_not_defined_has_no_value_and_shows_nothing() -> None:
    right = Steps([labelled(0, [False, False])])
    row = Ranked({1: (right, [(0.1, 0.2)])})
    claim = row.claim("better", row)
    assert claim.seeds == (None,)
    assert (claim.difference.value, claim.verdict) == (None, "not shown")
    # One seed without wrong steps: the mean over seeds is not defined either.
    mixed = Ranked({1: (right, [(0.1, 0.2)]), 2: world_of(2, 0.5)}).row("x")
    assert mixed.seeds[0] is None
    assert mixed.seeds[1] is not None
    assert mixed.value.value is None


# ── what cells left ──────────────────────────────────────────────────────────────────────────


def test_scores_and_votes_are_found_by_id(tmp_path: Path) -> None:
    items = [labelled(0, [True, False]), labelled(1, [False])]
    jsonl.write(tmp_path / "true.jsonl", items)
    steps = read_steps(tmp_path / "true.jsonl")
    assert steps.problems == ["problem 0", "problem 1"]
    scored = StepScores(
        solution_id="s1", steps_digest=steps_digest(items[1].solution), model="m", scores=(0.3,)
    )
    jsonl.write(tmp_path / "scores.jsonl", [scored])
    assert read_scores(tmp_path / "scores.jsonl", steps) == [None, (0.3,)]
    notes = [
        Annotation(
            solution=entry.solution,
            judgments=tuple(
                Judgment(judge="j", strategy=name, verdicts=tuple(values))
                for name, values in votes.items()
            ),
        )
        for entry, votes in zip(
            items[::-1], ({"p0": [None]}, {"p0": [1.0, 0.0], "p1": [0.0, None]}), strict=False
        )
    ]
    jsonl.write(tmp_path / "votes.jsonl", notes)
    rows = read_ballots(steps, tmp_path / "votes.jsonl").labels()
    assert rows == [(0.5, 0.0), (1.0,)]  # where all abstain, a step counts as right


# ── verdicts ─────────────────────────────────────────────────────────────────────────────────

NUMBERS = st.floats(-1, 1)


@given(st.tuples(NUMBERS, NUMBERS).map(sorted), st.lists(NUMBERS | st.none(), min_size=1))
def test_verdicts(interval: list[float], seeds: list[float | None]) -> None:
    low, high = interval
    found = verdict(Estimate(value=(low + high) / 2, interval=(low, high)), tuple(seeds))
    above = all(seed is not None and seed > 0 for seed in seeds)
    assert (found == "holds") == (low > 0 and above)
    below = all(seed is not None and seed < 0 for seed in seeds)
    assert (found == "fails") == (high < 0 and below)


def test_without_an_interval_nothing_is_shown() -> None:
    assert verdict(Estimate(value=1.0, why="few"), (1.0,)) == "not shown"


def claim(text: str, verdict: figure.Verdict, metric: str = "F1") -> Claim:
    return Claim(
        text=text,
        paper="",
        metric=metric,
        difference=Estimate(value=0.0),
        seeds=(),
        verdict=verdict,
    )


def test_the_headline_begins_with_what_does_not_hold() -> None:
    claims = (
        claim("a", "holds"),
        claim("a", "holds", "AUROC"),
        claim("b", "not shown"),
        claim("b", "fails", "AUROC"),
        claim("c", "fails"),
    )
    made = Figure(name="f", title="t", rows=(), claims=claims, solutions=1, problems=1, command="c")
    assert made.headline == (
        "Does not hold here: b (AUROC); c. Not shown here: b (F1). Holds here: a"
    )
    assert replace(made, claims=()).headline == ""


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    row = Row(name="r", metric="F1", value=Estimate(value=0.5, interval=(0.4, 0.6)), seeds=(0.5,))
    made = Figure(
        name="f", title="t", rows=(row,), claims=(claim("a", "holds"),), solutions=1, problems=1,
        command="c", notes=("n",),
    )  # fmt: skip
    results = Results(
        world="w", size={"pool": 1}, seeds=(1,), figures=(made,), versions={"torch": "2"}, seconds=1
    )
    path = tmp_path / "results.json"
    path.write_text(results.json())
    assert figure.read(path) == results
    assert results.rows() == {("f", "r, F1"): row}
    path.write_text(json.dumps(json.loads(results.json()) | {"more": 1}))
    with pytest.raises(RecordError, match="no results of prm reproduce"):
        figure.read(path)
    with pytest.raises(RecordError, match="cannot be read"):
        figure.read(tmp_path / "none.json")


# ── derive ───────────────────────────────────────────────────────────────────────────────────


def pool(problems: int = 12, policies: int = 4) -> list[LabelledSolution]:
    return [
        labelled(policies * n + own, [own == 0, n % 2 == 0, False], f"problem {n}", f"policy {own}")
        for n in range(problems)
        for own in range(policies)
    ]


def derived(items: Sequence[LabelledSolution], **values: object) -> list[LabelledSolution]:
    return list(derive.derive(items, derive.Config(out="", source=Place(), **values)))


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 40))
def test_spread_is_even_over_generators_and_problems(
    problems: int, policies: int, count: int
) -> None:
    items = pool(problems, policies)
    chosen = derive.spread(items, count)
    assert len(chosen) == min(count, len(items))
    assert [one for one in items if one in chosen] == chosen  # in their order
    by_problem = Counter(one.solution.problem for one in chosen)
    assert max(by_problem.values()) - min(by_problem.get(f"problem {n}", 0)
                                          for n in range(problems)) <= 1  # fmt: skip
    if count <= problems:
        by_policy = Counter(one.solution.generator for one in chosen)
        assert max(by_policy.values()) - min(by_policy.get(f"policy {n}", 0)
                                             for n in range(policies)) <= 1  # fmt: skip
        neighbours = itertools.pairwise(one.solution.generator for one in chosen)
        assert policies == 1 or all(one != other for one, other in neighbours)


def test_parts_are_taken_and_reference_and_answer_withheld() -> None:
    items = pool()
    assert derived(items) == items
    assert {one.solution.generator for one in derived(items, generators=["policy 2"])} == {
        "policy 2"
    }
    first = derived(items, problems=3)
    assert first == items[:12]
    bare = derived(items, problems=1, withhold=True)
    assert [(one.solution.reference, one.solution.answer) for one in bare] == [(None, None)] * 4
    assert [one.labels for one in bare] == [one.labels for one in items[:4]]
    assert [one.id for one in bare] == [one.id for one in items[:4]]


def test_flips_turn_labels_round_at_the_rate_each_by_itself() -> None:
    items = pool(200)
    turned = derived(items, flips=0.2, seed=3)
    changed = [
        before != after
        for one, other in zip(items, turned, strict=True)
        for before, after in zip(one.labels, other.labels, strict=True)
    ]
    # 2,400 labels: five standard deviations are four points.
    assert np.mean(changed) == pytest.approx(0.2, abs=0.04)
    assert set(Counter(label for one in turned for label in one.labels)) == {0.0, 1.0}
    assert derived(items, flips=0.2, seed=3) == turned
    assert derived(items, flips=0.2, seed=4) != turned
    # What else there is has no say, and a smaller rate turns a part of the same labels.
    assert derived(items[100:], flips=0.2, seed=3) == turned[100:]
    fewer = derived(items, flips=0.1, seed=3)
    for one, some, more in zip(items, fewer, turned, strict=True):
        for before, less, last in zip(one.labels, some.labels, more.labels, strict=True):
            assert less == before or last != before


def test_the_stage_writes_what_is_left_and_says_what_is_not(tmp_path: Path) -> None:
    items = pool(3)
    jsonl.write(tmp_path / "in.jsonl", items)
    config = derive.Config(
        out=str(tmp_path / "out"), source=Place(path=str(tmp_path / "in.jsonl")), solutions=5
    )
    counts = derive.run(config)
    assert (counts.read, counts.written, counts.rejected) == (12, 5, {"not taken": 7})
    written = list(jsonl.read(tmp_path / "out/labelled.jsonl", LabelledSolution))
    assert written == derive.spread(items, 5)
    assert derive.run(config) == counts
    with pytest.raises(ConfigError, match=r"set source\.path"):
        derive.run(replace(config, out=str(tmp_path / "b"), source=Place(hub="x/y")))
    with pytest.raises(ValueError, match="between 0 and one half"):
        replace(config, flips=0.6)
