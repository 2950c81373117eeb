"""Votes held against the truth: cuts chosen elsewhere, ties, votes at random, what checks did; and
the figures `judge` and `verification` at a tiny size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from annotate.sequential import SequentialConfig, settled
from annotate.strategy import load_strategy, render
from prm import cli, jsonl
from prm.records import Annotation, Correction, Judgment, LabelledSolution, Solution
from prm.reproduce import figure
from prm.reproduce.ballots import (
    CUTS,
    HALF,
    Ballots,
    drawn,
    elsewhere,
    mean_f1,
    polled,
    raised,
    read_ballots,
    shares,
    voter,
)
from prm.reproduce.figure import Claim
from prm.reproduce.figures import verification
from prm.reproduce.figures.judge import CURVE, IN_TURN
from prm.reproduce.measured import Steps
from universalbench.results import Estimate

P = ("p0", "p1", "p2", "p3")


def solved(index: int, right: Sequence[float], problem: str = "") -> LabelledSolution:
    solution = Solution(
        id=f"s{index}",
        problem=problem or f"problem {index}",
        steps=tuple(f"step {number}" for number in range(len(right))),
        generator="p",
    )
    return LabelledSolution(solution=solution, labels=tuple(right))


def said(strategy: str, verdicts: Sequence[float | None], tokens: int = 0) -> Judgment:
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens}
    return Judgment(judge="j", strategy=strategy, verdicts=tuple(verdicts), usage=usage)


# ── cuts and voters chosen elsewhere ─────────────────────────────────────────────────────────

GOOD = np.array([[2.0, 0.0, 0.0, 2.0]])
"""One problem: two wrong steps found, two right ones called right. F1 1."""
POOR = np.array([[1.0, 1.0, 1.0, 1.0]])
"""F1 one half."""


def test_what_is_best_elsewhere_is_taken_though_it_is_worse_here() -> None:
    one, other = {1: GOOD, 2: GOOD, 3: POOR}, {1: POOR, 2: POOR, 3: GOOD}
    tables, chosen = elsewhere({"one": one, "other": other})
    # Seed 1 sees seeds 2 and 3: sums [3, 1, 1, 3] for both, so the first stays. Seed 3 sees GOOD
    # twice for `one`.
    assert chosen == ("one", "one", "one")
    assert tables[3] is POOR
    _, turned = elsewhere({"other": other, "one": one})
    assert turned == ("other", "other", "one")


def test_one_seed_alone_chooses_by_halves() -> None:
    # Rows 0 and 2 are one half, row 1 the other.
    one = np.concatenate([GOOD, POOR, GOOD])
    other = np.concatenate([POOR, GOOD, POOR])
    tables, chosen = elsewhere({"one": {7: one}, "other": {7: other}})
    assert chosen == ("other", "one")
    assert tables[7].tolist() == np.concatenate([POOR, POOR, POOR]).tolist()


COUNTS = st.lists(st.integers(0, 3), min_size=4, max_size=4)


@given(st.lists(st.tuples(COUNTS, COUNTS, COUNTS), min_size=2, max_size=3), COUNTS)
def test_labels_of_a_seed_choose_nothing_for_it(
    found: list[tuple[list[int], list[int], list[int]]], changed: list[int]
) -> None:
    candidates = {
        name: {seed: np.array([own], dtype=float) for seed, own in enumerate(tables)}
        for name, tables in enumerate(found)
    }
    _, before = elsewhere(candidates)
    candidates[0] = {**candidates[0], 1: np.array([changed], dtype=float)}
    _, after = elsewhere(candidates)
    assert before[1] == after[1]


def test_a_candidate_that_finds_nothing_to_measure_comes_last() -> None:
    nothing = {1: np.zeros((1, 4)), 2: np.zeros((1, 4))}
    _, chosen = elsewhere({"nothing": nothing, "poor": {1: POOR, 2: POOR}})
    assert chosen == ("poor", "poor")


# ── labels of votes ──────────────────────────────────────────────────────────────────────────

ITEMS = [solved(0, [1.0, 0.0, 0.0]), solved(1, [1.0])]
FOUR = Ballots(
    Steps(ITEMS),
    [
        [said("p0", [1, 0, 1], 5), said("p1", [1, 0, 0], 1), said("p2", [1, 1, 0], 6),
         said("p3", [0, 1, 0], 2)],
        [said("p0", [None], 5), said("p1", [None], 1), said("p2", [None], 6), said("p3", [1], 2)],
    ],
)  # fmt: skip


def test_labels_are_means_and_abstentions_do_not_count() -> None:
    assert FOUR.labels() == [(0.75, 0.5, 0.25), (1.0,)]
    assert FOUR.of("p0", "p2").labels() == [(1.0, 0.5, 0.5), (1.0,)]
    assert FOUR.tokens().tolist() == [28.0, 28.0]
    assert FOUR.of("p1").tokens().tolist() == [2.0, 2.0]


def test_a_tie_calls_a_step_right() -> None:
    # At one half the second step, a tie, counts as right: found [third], missed [second].
    majority = polled({1: FOUR}, HALF)
    assert majority.tables[1].tolist() == [[1, 0, 1, 1], [0, 0, 0, 1]]
    # F1 of wrong steps 2/3, of right ones 4/5.
    assert majority.f1.row("majority").value.value == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert majority.rows("majority")[1].value.value == pytest.approx(2 / 3)
    # One objection more, and the tie counts as wrong.
    assert polled({1: FOUR}, CURVE[2]).f1.row("").value.value == 1.0
    assert majority.cost == 56


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=4, max_size=4))
def test_each_cut_of_the_curve_takes_its_number_of_objections(votes: list[float]) -> None:
    cast = [[said(name, [vote]) for name, vote in zip(P, votes, strict=True)]]
    ((label,),) = Ballots(Steps([ITEMS[1]]), cast).labels()
    for objections, cut in CURVE.items():
        assert (label < cut) == (votes.count(0.0) >= objections)
    assert label not in CUTS


def test_ballots_of_several_files_are_joined_by_id(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    notes = [Annotation(solution=i.solution, judgments=(said("p0", i.labels),)) for i in ITEMS]
    jsonl.write(one, notes[::-1])
    rule = [replace(n, judgments=(said("arithmetic", [None] * len(i.labels)),)) for n, i in
            zip(notes, ITEMS, strict=True)]  # fmt: skip
    jsonl.write(two, rule)
    both = read_ballots(Steps(ITEMS), one, two)
    assert [[own.strategy for own in cast] for cast in both.cast] == [["p0", "arithmetic"]] * 2
    assert both.labels() == [item.labels for item in ITEMS]


@given(st.floats(0, 1), st.integers(0, 9))
def test_votes_at_random_are_some_of_those_cast(share: float, seed: int) -> None:
    some = drawn(FOUR, share, seed)
    for kept, own in zip(some.cast, FOUR.cast, strict=True):
        assert kept
        assert [one for one in own if one in kept] == list(kept)
    assert drawn(FOUR, share, seed) == some
    assert drawn(FOUR, 1.0, seed).cast == [list(own) for own in FOUR.cast]


def test_votes_at_random_cost_their_share() -> None:
    many = Ballots(Steps(ITEMS[:1] * 2000), [FOUR.cast[0]] * 2000)
    share = drawn(many, 0.6, 1).tokens().sum() / many.tokens().sum()
    # One in forty draws no vote (.4⁴) and gets one: .6 + .4⁴/4.
    assert share == pytest.approx(0.6064, abs=0.015)


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=4, max_size=4), min_size=1))
def test_asked_in_turn_the_majority_is_that_of_all(votes: list[list[float]]) -> None:
    """What the figure's notes say is so by construction."""
    steps = Steps([solved(0, [1.0] * len(votes))])
    full = [said(name, [own[place] for own in votes]) for place, name in enumerate(IN_TURN)]
    config = SequentialConfig(cut=HALF)
    asked: list[Judgment] = []
    for place, one in enumerate(full):
        if settled(asked, IN_TURN[place:], len(votes), config):
            break
        asked.append(one)
    (every,), (turn,) = Ballots(steps, [full]).labels(), Ballots(steps, [asked]).labels()
    assert [label < HALF for label in turn] == [label < HALF for label in every]


# ── measured ─────────────────────────────────────────────────────────────────────────────────


def test_a_solution_of_no_weight_leaves_no_trace() -> None:
    items = [solved(0, [1.0, 0.0]), solved(1, [0.0, 1.0])]
    labels = [(0.9, 0.1), (0.9, 0.1)]
    both = voter({1: (Steps(items), labels)})
    first = voter({1: (Steps(items), labels)}, weights={1: [1.0, 0.0]})
    assert both.auroc.row("").value.value == 0.5
    assert first.auroc.row("").value.value == 1.0
    assert first.f1.row("").value.value == 1.0
    assert first.tables[1].tolist() == [[1, 0, 0, 1], [0, 0, 0, 0]]
    half = voter({1: (Steps(items), labels)}, HALF, weights={1: [1.0, 0.5]})
    assert half.tables[1].tolist() == [[1, 0, 0, 1], [0, 0.5, 0.5, 0]]


def test_the_mean_of_two_voters() -> None:
    steps = Steps([solved(0, [1.0, 1.0, 0.0, 0.0])])
    good = voter({1: (steps, [(1.0, 1.0, 0.0, 0.0)])}, HALF)
    poor = voter({1: (steps, [(1.0, 0.0, 1.0, 0.0)])}, HALF)
    mean = mean_f1([good, poor])
    assert mean.row("").value.value == pytest.approx(0.75)
    claim = mean_f1([good, good]).claim("better", mean)
    assert claim.difference.value == pytest.approx(0.25)


def test_shares_are_summed_before_they_are_divided() -> None:
    steps = Steps([solved(0, [1.0]), solved(1, [1.0])])
    found = shares("share", {1: (steps, np.array([[1.0, 1.0], [0.0, 3.0]]))})
    assert found.row("").value.value == 0.25


def test_no_worse_than_by_a_margin() -> None:
    claim = Claim(
        text="no worse", paper="", metric="F1", verdict="not shown", seeds=(-0.004, 0.002, None),
        difference=Estimate(value=-0.001, interval=(-0.005, 0.003)),
    )  # fmt: skip
    found = raised(claim, 0.01)
    assert found.difference.value == pytest.approx(0.009)
    assert found.difference.interval == pytest.approx((0.005, 0.013))
    assert found.seeds == (pytest.approx(0.006), pytest.approx(0.012), None)
    assert found.verdict == "not shown"  # a seed has no value
    assert raised(replace(claim, seeds=(-0.004, 0.002)), 0.01).verdict == "holds"
    assert raised(replace(claim, seeds=(-0.004, 0.002)), -0.01).verdict == "fails"


# ── what checks did ──────────────────────────────────────────────────────────────────────────


def test_corrections_count_once_a_step_and_only_over_one_half(tmp_path: Path) -> None:
    items = [solved(0, [1.0, 0.0, 0.0, 1.0]), solved(1, [1.0]), solved(2, [1.0])]
    changes = (
        Correction(rule="a", step=0, old=0.75, new=0.6),  # stays on its side
        Correction(rule="a", step=1, old=0.5, new=0.0),  # to the right side
        Correction(rule="a", step=2, old=1.0, new=0.25),  # there and back
        Correction(rule="b", step=2, old=0.25, new=0.75),
        Correction(rule="b", step=3, old=1.0, new=0.0),  # to the wrong side
    )
    left = [
        replace(items[2], weight=0.5),
        replace(items[0], labels=(0.6, 0.0, 0.75, 0.0), corrections=changes),
    ]
    jsonl.write(tmp_path / "labelled.jsonl", left)
    checked = verification.read_checked(tmp_path / "labelled.jsonl", Steps(items))
    assert checked.labels == [(0.6, 0.0, 0.75, 0.0), None, (1.0,)]
    assert checked.weights == [1.0, 0.0, 0.5]
    assert verification.corrected(Steps(items), checked).tolist() == [
        [1, 2, 4], [0, 0, 1], [0, 0, 1],
    ]  # fmt: skip


# ── the micro world ──────────────────────────────────────────────────────────────────────────


def lines(name: str, prompts: str, solution: Solution, shared: bool) -> list[str]:
    strategy = load_strategy(name, f"examples/micro/{prompts}", "shared" if shared else "paper")
    system, user = render(strategy, solution)
    return [system.content, *user.content.splitlines()]


@pytest.mark.parametrize("reference", [None, "1 + 2 = 3"])
def test_the_shared_layout_has_the_parts_of_the_papers(reference: str | None) -> None:
    """So it is the order alone that is compared; and p1 and p3 begin alike."""
    solution = replace(ITEMS[0].solution, reference=reference)
    for name in ("p1", "p3"):
        paper, shared = (
            lines(name, prompts, solution, own)
            for prompts, own in (("prompts", False), ("prompts-shared", True))
        )
        assert set(paper) - set(shared) <= {"Give the list."}
        assert shared != paper
    one, other = (lines(name, "prompts-shared", solution, True) for name in ("p1", "p3"))
    assert one[:-1] == other[: len(one) - 1]


@pytest.mark.slow
def test_both_figures_at_a_tiny_size(tmp_path: Path) -> None:
    world = yaml.safe_load(Path("configs/reproduce/world.yaml").read_text())
    world["policies"] = world["policies"][:2]
    world["trainer"]["num_train_epochs"] = 1
    (tmp_path / "world.yaml").write_text(yaml.safe_dump(world))
    size = {"pool": 8, "train": 8, "test": 8, "choices": 1, "candidates": 1}
    settings = [f"size.{name}={count}" for name, count in size.items()]
    code = cli.main(
        ["reproduce", "configs/reproduce/micro.yaml", f"out={tmp_path}/run", "jobs=1", "seeds=[1]",
         f"world={tmp_path}/world.yaml", "figures=[judge,verification]", *settings]
    )  # fmt: skip
    assert code == 0
    results = figure.read(tmp_path / "run/results.json")
    judge, checks = results.figures
    assert (judge.name, checks.name) == ("judge", "verification")
    rows = results.rows()
    for (name, label), row in rows.items():
        if row.value.value is None:  # the checks may have turned no label round
            assert "labels turned round that are then right" in label, (name, label)
        else:
            assert math.isfinite(row.value.value), (name, label)
    headlines = [label for (_, label), row in rows.items() if row.headline]
    assert len(headlines) == 4, headlines
    assert judge.solutions == checks.solutions == 16
    found = {label: row.value.value for (name, label), row in rows.items() if name == "judge"}
    f1 = "F1 (mean of right and wrong steps)"
    majority = found[f"voters, majority of four, {f1}"]
    assert found[f"cut of the soft label, 3 or more object at 0.375, {f1}"] == majority
    # Stopped only where it cannot matter, and for less.
    assert found[f"asking in turn, in turn, cut at one half, {f1}"] == majority
    spared = found["asking in turn, of all four, share of tokens spared"]
    assert spared is not None
    assert 0.0 < spared < 0.5
    assert {claim.metric for claim in judge.claims} == {f1, "AUROC of wrong steps"}
