"""Choices held against one another: candidates that are missing, expected accuracies, equal tokens;
and the figures `best_of_n` and `search` at a tiny size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prm import cli
from prm.aggregation import AGGREGATIONS
from prm.records import Problem
from prm.reproduce import figure
from prm.reproduce.config import Config
from prm.reproduce.figures import best_of_n, search
from prm.reproduce.lab import Lab
from prm.search.budget import Budget
from prm.selection import Candidates, measure
from verify.candidates import Answered

# ── candidates ───────────────────────────────────────────────────────────────────────────────


def test_what_was_left_out_is_wrong_and_chosen_by_nobody() -> None:
    texts = ["p", "q", "p"]
    judged = [Answered(0, True), Answered(0, False), Answered(1, False)]
    scores = [(0.9, 0.5), (0.2,), None]
    one, other, nothing = best_of_n.known(["p", "q", "r"], texts, judged, scores, 3)
    assert one.problem == "p"
    assert one.correct == [True, False, False]
    assert one.groups == [0, 1, None]
    assert one.rewards["min"] == one.rewards["last"] == [0.5, None, None]
    assert one.rewards["product"] == [pytest.approx(0.45), None, None]
    assert [*one.rewards] == list(AGGREGATIONS)
    assert other.correct == [False] * 3
    assert (nothing.groups, nothing.correct) == ([None] * 3, [False] * 3)
    known = {1: {"PRM": [one, other, nothing], "ORM": [one, other, nothing]}}

    def accuracy(name: str, n: int) -> float:
        value = best_of_n.accuracy(known, best_of_n.CHOICES[name], n).row(name).value.value
        assert value is not None
        return value

    # Of p alone one in three is right: it is drawn by 1/3, 2/3, always, and no reward beats its.
    assert accuracy(best_of_n.PRM, 1) == pytest.approx(1 / 9)
    assert accuracy(best_of_n.PRM, 2) == pytest.approx(2 / 9)
    assert accuracy(best_of_n.ORM, 3) == pytest.approx(1 / 3)
    # All three drawn, its two answers have a vote each; weighted, only the right one has.
    assert accuracy(best_of_n.MAJORITY, 3) == pytest.approx(1 / 6)
    assert accuracy(best_of_n.WEIGHTED["PRM"], 3) == pytest.approx(1 / 3)


CANDIDATE = st.tuples(
    st.integers(0, 2) | st.none(), st.booleans(), st.sampled_from([0.1, 0.5, 0.9])
)


@settings(max_examples=25)
@given(st.lists(st.lists(CANDIDATE, min_size=4, max_size=4), min_size=1, max_size=3))
def test_each_problem_adds_what_prm_search_measures(
    found: list[list[tuple[int | None, bool, float]]],
) -> None:
    problems = [
        Candidates(
            problem=f"problem {index}",
            rewards={"min": [reward for _, _, reward in own]},
            groups=[group for group, _, _ in own],
            correct=[right for _, right, _ in own],
        )
        for index, own in enumerate(found)
    ]
    for row in measure(problems, [1, 2, 4])["rows"]:
        sums = best_of_n.accuracy({7: {"PRM": problems}}, ("PRM", row["method"]), row["n"])
        assert sums.tables[7].shape == (len(problems), 2)
        assert sums.row("").value.value == pytest.approx(row["accuracy"])
        single = best_of_n.accuracy({7: {"PRM": problems}}, ("PRM", "pass@1"), 1)
        more = best_of_n.gain(sums, single)
        assert more.row("").value.value == pytest.approx(row["gain"])
        assert more.tables[7][:, 1].tolist() == sums.tables[7][:, 1].tolist()


def test_powers_of_two() -> None:
    assert best_of_n.powers(64) == [1, 2, 4, 8, 16, 32, 64]
    assert best_of_n.powers(12) == [1, 2, 4, 8]
    assert best_of_n.powers(1) == [1]


def test_the_chooser_has_one_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[1])
    lab = Lab(Config(out="out", world="configs/reproduce/world.yaml", seeds=[1]))
    assert lab.chooser.name == lab.world.chooser
    assert (lab.chooser.temperature, lab.chooser.prompts) == (1.0, [])
    lab.candidates(1)
    (policy,) = lab.cells["1/candidates-sample"].config["policies"]
    assert policy["samples"] == lab.config.size.candidates


# ── equal tokens ─────────────────────────────────────────────────────────────────────────────


def test_a_line_is_straight_over_the_logarithm_of_cost() -> None:
    # Ten problems: peers get 2 and 6 of them for 100 and 1,600 tokens; at 400, halfway, 4.
    peers = [6, 1600, 2, 100]
    assert search.over_line(np.array([10.0, 7, 400, *peers])) == pytest.approx(0.3)
    # At a peer's cost it is held against that peer.
    assert search.over_line(np.array([10.0, 7, 1600, *peers])) == pytest.approx(0.1)
    outside = np.array([[10.0, 7, 99, *peers], [10.0, 7, 1601, *peers]])
    assert np.isnan(search.over_line(outside)).all()


@given(st.floats(1.0, 4.0), st.floats(0.0, 1.0), st.integers(1, 50))
def test_a_line_through_itself_gains_nothing(power: float, slope: float, count: int) -> None:
    """Whatever lies on the line; sums of more problems are the same mean."""
    sums = np.array([1.0, slope * power, 10**power, slope, 10.0, slope * 4, 10.0**4]) * count
    assert search.over_line(sums) == pytest.approx(0.0, abs=1e-9)


PROBLEMS = [Problem(id=f"p{index}", problem=f"What is {index}?", answer="1") for index in range(2)]


def tables(right: list[bool], written: list[int], read: int = 0) -> dict[int, np.ndarray]:
    budgets = [Budget(prompt=10, cached=4, written=own, read=read) for own in written]
    return {3: search.table(PROBLEMS, right, budgets, (100, 1000))}


def test_what_a_problem_adds() -> None:
    one = tables([True, False], [5, 7], read=20)
    # 2 · (100 · (10 − 4 + 5) + 1000 · 20) floating point operations.
    assert one[3].tolist() == [
        [1, 1, 5, 11, 31, pytest.approx(42_200e-9)],
        [1, 0, 7, 13, 33, pytest.approx(42_600e-9)],
    ]
    assert search.accuracy(one).row("").value.value == 0.5
    assert search.spend(one, search.POLICY).row("").value.value == 12
    unknown = search.table(PROBLEMS, [True, True], [Budget(), Budget()], (None, 1000))
    estimate = search.spend({3: unknown}, search.FLOPS).row("").value
    assert (estimate.value, estimate.why) == (None, "not defined here")


def test_a_gain_is_paired_and_bounded_by_what_was_spent() -> None:
    line = [tables([False, False], [10, 10]), tables([True, True], [1000, 1000])]
    own = tables([True, True], [100, 100])
    over = search.gain(own, line, search.WRITTEN)
    row = over.row("beam")
    # At the same cost in both problems, every draw has the same difference.
    assert row.value.value == pytest.approx(0.5)
    assert row.value.interval == (pytest.approx(0.5), pytest.approx(0.5))
    assert row.metric == "right answers over best of N at equal tokens written"
    cheap = search.gain(tables([True, True], [1, 1]), line, search.WRITTEN).row("")
    assert (cheap.value.value, cheap.seeds) == (None, (None,))


# ── both figures ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_both_figures_at_a_tiny_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[1])
    size = {"pool": 8, "train": 10, "test": 2, "choices": 3, "candidates": 8}
    sizes = [f"size.{name}={count}" for name, count in size.items()]
    code = cli.main(
        ["reproduce", "configs/reproduce/micro.yaml", f"out={tmp_path}", "jobs=1", "seeds=[1]",
         "figures=[best_of_n,search]", *sizes]
    )  # fmt: skip
    assert code == 0
    results = figure.read(tmp_path / "results.json")
    best, found = results.figures
    assert (best.name, found.name) == ("best_of_n", "search")
    assert (best.solutions, best.problems, found.problems) == (24, 3, 3)
    rows = {label: row for (_, label), row in results.rows().items()}

    def value(label: str) -> float:
        number = rows[label].value.value
        assert number is not None, label
        return number

    for label, row in rows.items():
        if not row.metric.startswith(search.OVER):
            assert math.isfinite(value(label)), label
    # Out of one, every way to choose takes it; out of all, who cannot err is the best.
    single = value(f"candidates, {best_of_n.SINGLE} at 1, right answers")
    oracle = value("candidates, a choice that cannot err at 8, right answers")
    for name in best_of_n.CHOICES:
        assert value(f"candidates, {name} at 1, right answers") == pytest.approx(single), name
        assert value(f"candidates, {name} at 8, right answers") <= oracle, name
    more = value(f"N, {best_of_n.PRM} at 8, gain in right answers")
    assert more == pytest.approx(value(f"candidates, {best_of_n.PRM} at 8, right answers") - single)
    # Tokens: each of best of N's costs more than the one before it, and majority as its draws do.
    for account in search.ACCOUNTS:
        spent = [value(f"draws, {search.BEST} at {n}, {account}") for n in search.LINE]
        assert spent == sorted(spent)
    for account in (search.WRITTEN, search.POLICY):
        ours, theirs = (
            value(f"draws, {name} at 16, {account}") for name in (search.MAJORITY, search.BEST)
        )
        assert ours == theirs
    assert {row.paper for row in rows.values()} == {None, *search.PAPER.values()}
    headlines = sorted(row.name for row in rows.values() if row.headline)
    assert headlines == [search.BEAM, best_of_n.PRM, best_of_n.PRM]
    assert {name for name, _ in search.PAPER} <= {row.name for row in found.rows}
    assert len(best.claims) == 5
    assert len(found.claims) == 6
