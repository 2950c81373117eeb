"""Choosing among candidates: expectations against brute force, and the stage on small files."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm import jsonl
from prm.aggregation import AGGREGATIONS, aggregate
from prm.best_of_n import (
    MAX_SUBSETS,
    clusters,
    expected_best,
    expected_majority,
    expected_oracle,
)
from prm.errors import ConfigError, RecordError, RunConflictError
from prm.records import Failure, Ranking, Solution, StepScores, steps_digest
from prm.search import stage
from prm.sources import Source


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.5], {"min": 0.5, "product": 0.5, "last": 0.5, "mean": 0.5}),
        ([0.9, 0.5, 0.8], {"min": 0.5, "product": 0.36, "last": 0.8, "mean": 2.2 / 3}),
        ([1.2, 0.5], {"min": 0.5, "product": 0.5, "last": 0.5, "mean": 0.85}),
        # Raw scores may leave [0, 1]; two negative ones make no good product.
        ([-0.5, -0.5], {"min": -0.5, "product": 0.0, "last": -0.5, "mean": -0.5}),
        ([0.1] * 10, {"min": 0.1, "product": 1e-10, "last": 0.1, "mean": 0.1}),
    ],
)
def test_aggregate_table(scores, expected):
    assert set(expected) == set(AGGREGATIONS)
    for method, value in expected.items():
        assert aggregate(scores, method) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("method", AGGREGATIONS)
def test_nothing_cannot_be_aggregated(method):
    with pytest.raises(ValueError, match="no scores"):
        aggregate([], method)


# ── expectations over subsets ────────────────────────────────────────────────────────────────

candidates = st.lists(
    st.tuples(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.booleans()), min_size=1, max_size=7
)


def subsets(total: int, n: int) -> list[tuple[int, ...]]:
    return list(combinations(range(total), n))


def brute_best(rewards: list[float], correct: list[bool], n: int) -> Fraction:
    """Over all subsets: the share of right ones among those with the largest reward."""
    found = Fraction(0)
    for drawn in subsets(len(rewards), n):
        top = max(rewards[index] for index in drawn)
        kept = [correct[index] for index in drawn if rewards[index] == top]
        found += Fraction(sum(kept), len(kept))
    return found / math.comb(len(rewards), n)


@given(candidates, st.data())
def test_expected_best_is_the_mean_over_all_subsets(rows, data):
    rewards, correct = [row[0] for row in rows], [row[1] for row in rows]
    n = data.draw(st.integers(1, len(rows)))
    expected = float(brute_best(rewards, correct, n))
    assert expected_best(rewards, correct, n) == pytest.approx(expected, abs=1e-12)


@given(candidates, st.data())
def test_expected_oracle_is_the_mean_over_all_subsets(rows, data):
    correct = [row[1] for row in rows]
    n = data.draw(st.integers(1, len(rows)))
    drawn = subsets(len(rows), n)
    expected = sum(any(correct[index] for index in subset) for subset in drawn) / len(drawn)
    assert expected_oracle(correct, n) == pytest.approx(expected, abs=1e-12)


def test_expected_best_by_hand():
    rewards, correct = [0.9, 0.5, 0.1], [False, True, True]
    assert expected_best(rewards, correct, 1) == pytest.approx(2 / 3)
    assert expected_best(rewards, correct, 2) == pytest.approx(1 / 3)  # only without the first
    assert expected_best(rewards, correct, 3) == 0.0
    assert expected_best([0.5, 0.5], [True, False], 2) == 0.5


@pytest.mark.parametrize("n", [0, 3])
def test_more_than_there_are_cannot_be_drawn(n):
    with pytest.raises(ValueError, match="there are 2 candidates"):
        expected_best([0.1, 0.2], [True, False], n)


def test_clusters():
    def loose(left: str, right: str) -> bool:
        return float(left) == float(right)

    assert clusters(["1", None, "2", "1.0", "2.0", None], loose) == [0, None, 1, 0, 1, None]
    assert clusters([], loose) == []
    assert clusters([None], loose) == [None]


def brute_majority(groups, correct, n, weights=None) -> float:
    """The chance that the winner of a random draw is right; ties go to each side alike."""
    total = 0.0
    for drawn in subsets(len(groups), n):
        votes: dict[int, float] = {}
        for index in drawn:
            if groups[index] is not None:
                votes[groups[index]] = votes.get(groups[index], 0) + (
                    1 if weights is None else weights[index]
                )
        if not votes:
            continue
        top = [group for group, count in votes.items() if count == max(votes.values())]
        for group in top:
            members = [correct[index] for index in drawn if groups[index] == group]
            total += sum(members) / len(members) / len(top)
    return total / math.comb(len(groups), n)


voters = st.lists(
    st.tuples(
        st.none() | st.integers(0, 3),
        st.booleans(),
        st.sampled_from([0.0, 0.25, 0.5, 1.0]),  # sums of these are exact
    ),
    min_size=1,
    max_size=8,
)


@given(voters, st.booleans(), st.data())
def test_expected_majority_is_the_mean_over_all_subsets(rows, weighted, data):
    groups = [row[0] for row in rows]
    correct = [row[0] is not None and row[1] for row in rows]  # members of one may disagree
    weights = [row[2] for row in rows] if weighted else None
    n = data.draw(st.integers(1, len(rows)))
    exact = brute_majority(groups, correct, n, weights)
    found = expected_majority(groups, correct, n, seed="p", weights=weights)
    assert found == pytest.approx(exact, abs=1e-12)
    once = expected_majority(groups, correct, 1, seed="p", weights=weights)
    assert once == sum(correct) / len(correct)  # a vote of one is pass@1, to the last bit


def test_expected_majority_by_hand():
    groups, correct = [0, 1, 1, None], [True, False, False, False]
    assert expected_majority(groups, correct, 4, seed="p") == 0.0  # two against one
    assert expected_majority(groups, correct, 4, seed="p", weights=[5, 1, 1, 1]) == 1.0
    assert expected_majority([None, None], [False, False], 2, seed="p") == 0.0
    assert expected_majority([0, 1], [True, False], 2, seed="p") == 0.5  # a tie is shared
    # In floating point .1 + .2 + .3 and .3 + .3 differ by one bit.
    tied = [0, 0, 0, 1, 1], [True] * 3 + [False] * 2
    assert expected_majority(*tied, 5, seed="p", weights=[0.1, 0.2, 0.3, 0.3, 0.3]) == 0.5
    with pytest.raises(ValueError, match="n is 3; there are 2 candidates"):
        expected_majority([0, 1], [True, False], 3, seed="p")


def test_too_many_subsets_are_drawn():
    groups, correct = [0] * 9 + [1] * 9 + [None] * 2, [True] * 9 + [False] * 11
    assert math.comb(20, 7) > MAX_SUBSETS
    found = expected_majority(groups, correct, 7, seed="p")
    assert found == expected_majority(groups, correct, 7, seed="p")
    others = {expected_majority(groups, correct, 7, seed=str(index)) for index in range(9)}
    assert len(others) > 1  # each problem has draws of its own
    assert [found, *others] == pytest.approx([0.5] * (1 + len(others)), abs=0.05)  # by symmetry
    assert expected_majority(groups, correct, 1, seed="p") == 0.45


# ── the stage ────────────────────────────────────────────────────────────────────────────────

ANSWERS = {
    "2 + 3": ("5", [("a", "5", (0.9, 0.9)), ("b", "6", (0.8, 0.1)), ("c", "6", (0.7, 0.95))]),
    "1 + 1": ("2", [("d", "3", (0.5, 0.6)), ("e", "2", (0.9, 0.8)), ("f", "2", (0.2, 0.3))]),
}


def candidate(id: str, problem: str, said: str, answer: str | None) -> Solution:
    steps = (f"We add: {problem}.", f"The answer is \\boxed{{{said}}}.")
    return Solution(id=id, problem=f"What is {problem}?", steps=steps, answer=answer)


@pytest.fixture
def files(tmp_path):
    solutions = [
        candidate(id, problem, said, answer)
        for problem, (answer, rows) in ANSWERS.items()
        for id, said, _ in rows
    ]
    values = {id: values for _, rows in ANSWERS.values() for id, _, values in rows}
    scores = [
        StepScores(
            solution_id=item.id, steps_digest=steps_digest(item), model="m", scores=values[item.id]
        )
        for item in solutions
    ]
    solutions = solutions[::2] + solutions[1::2]  # the candidates of a problem need not be together
    jsonl.write(tmp_path / "solutions.jsonl", solutions)
    jsonl.write(tmp_path / "scores.jsonl", scores)
    return tmp_path


def config(files: Path, **keys) -> stage.Config:
    source = Source(path=str(files / "solutions.jsonl"))
    return stage.Config(
        out=str(files / "run"), source=source, scores=str(files / "scores.jsonl"), **keys
    )


def rewrite(path: Path, keep) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in map(keep, rows) if row))


def test_stage_ranks_and_measures(files, capsys):
    counts = stage.run(config(files, n=[1, 3, 2, 8]))
    assert (counts.read, counts.written) == (6, 6)
    printed = capsys.readouterr().out

    rankings = list(jsonl.read(files / "run" / "rankings.jsonl", Ranking))
    assert len(rankings) == 2 * (len(AGGREGATIONS) + 1)
    for ranking in rankings:
        ids = {id for id, _, _ in ANSWERS[ranking.problem[8:-1]][1]}
        assert set(ranking.solution_ids) == ids  # every candidate, once
        assert len(ranking.solution_ids) == len(ids)
        assert list(ranking.rewards) == sorted(ranking.rewards, reverse=True)
    first = {item.method: item.solution_ids for item in rankings if "2 + 3" in item.problem}
    assert first == {
        "min": ("a", "c", "b"),
        "product": ("a", "c", "b"),
        "last": ("c", "a", "b"),
        "mean": ("a", "c", "b"),
        "majority": ("c", "b", "a"),  # tied candidates keep the order of the file
    }

    results = json.loads((files / "run" / "results.json").read_text())
    assert (results["problems"], results["candidates"]) == (2, 3)
    cells = {(row["method"], row["n"]): row["accuracy"] for row in results["rows"]}
    assert {n for _, n in cells} == {1, 2, 3}  # nobody has eight candidates
    assert cells["pass@1", 3] == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert cells["best of N (min)", 3] == 1.0
    assert cells["best of N (last)", 3] == 0.5
    assert cells["majority", 3] == 0.5
    assert cells["weighted majority (min)", 3] == 1.0  # .9 against .1 + .7; .9 + .2 against .5
    assert cells["weighted majority (last)", 3] == 0.5
    assert cells["oracle", 2] == pytest.approx((2 / 3 + 1) / 2)
    assert cells["oracle", 3] == 1.0
    for method in {method for method, _ in cells}:
        assert cells[method, 1] == pytest.approx(0.5)
    assert cells["majority", 1] == cells["pass@1", 1]
    assert cells["majority", 2] == pytest.approx((1 / 3 + 2 / 3) / 2)  # ties are shared
    for row in results["rows"]:
        low, high = row["interval"]
        assert low <= row["accuracy"] <= high

    assert "2 of 2 problems have a true answer; at least 3 candidates each" in printed
    assert "best of N (min)" in printed
    assert "no column for N = 8: more than the fewest candidates of a problem" in printed
    lines = printed.splitlines()
    oracle = next(line for line in lines if line.startswith("oracle"))
    assert oracle.split()[1:4] == ["50.0", "83.3", "100.0"]

    stage.run(config(files, n=[1, 3, 2, 8]))  # again: the same table, no new work
    assert capsys.readouterr().out == printed
    with pytest.raises(RunConflictError, match="n was"):
        stage.run(config(files, n=[1]))


def test_every_n_beyond_the_candidates(files, capsys):
    stage.run(config(files, n=[4, 8]))
    results = json.loads((files / "run" / "results.json").read_text())
    assert results == {"problems": 2, "without_answer": 0, "candidates": 3, "rows": []}
    assert "every N exceeds 3, the fewest candidates of a problem" in capsys.readouterr().out


def test_no_true_answers(files, capsys):
    rewrite(files / "solutions.jsonl", lambda row: row | {"answer": None})
    stage.run(config(files))
    results = json.loads((files / "run" / "results.json").read_text())
    assert (results["problems"], results["without_answer"], results["rows"]) == (0, 2, [])
    assert capsys.readouterr().out == "no accuracy: none of the 2 problems has a true answer\n"


def test_no_candidates(files):
    (files / "solutions.jsonl").write_text("")
    with pytest.raises(RecordError, match=r"solutions\.jsonl: no candidates in this source"):
        stage.run(config(files))


def test_unknown_answers_are_ranked_but_not_measured(files, capsys):
    rewrite(
        files / "solutions.jsonl",
        lambda row: row | {"answer": None} if "1 + 1" in row["problem"] else row,
    )
    stage.run(config(files, n=[3]))
    results = json.loads((files / "run" / "results.json").read_text())
    assert (results["problems"], results["without_answer"]) == (1, 1)
    assert "1 of 2 problems have a true answer" in capsys.readouterr().out
    cells = {row["method"]: row["accuracy"] for row in results["rows"]}
    assert (cells["best of N (min)"], cells["best of N (last)"]) == (1.0, 0.0)
    ranked = {item.problem for item in jsonl.read(files / "run" / "rankings.jsonl", Ranking)}
    assert len(ranked) == 2


def test_missing_scores_are_refused(files):
    rewrite(files / "scores.jsonl", lambda row: row if row["solution_id"] != "e" else None)
    with pytest.raises(RecordError, match=r"no scores of solution 'e'; score this source first"):
        stage.run(config(files))


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("scores.jsonl", {"scores": [0.5]}),
        ("solutions.jsonl", {"steps": ["As many steps.", "The answer is \\boxed{6}."]}),
        ("solutions.jsonl", {"problem": "What is 1 + 1?"}),
    ],
)
def test_scores_of_other_steps_are_refused(files, file, change):
    rewrite(
        files / file,
        lambda row: row | change if "b" in (row.get("id"), row.get("solution_id")) else row,
    )
    message = r"scores\.jsonl: these scores are of other steps than those of solution 'b'; score "
    with pytest.raises(RecordError, match=message):
        stage.run(config(files))


def drop_scores(files: Path, ids: str, failed: str) -> None:
    """Take solutions out of the scores, and put some into the failures beside."""
    rewrite(files / "scores.jsonl", lambda row: None if row["solution_id"] in ids else row)
    jsonl.write(files / "failures.jsonl", [Failure(id=id, reason="too long") for id in failed])


def test_what_score_set_aside_is_set_aside(files):
    drop_scores(files, "bdef", failed="bdef")
    counts = stage.run(config(files, n=[1, 2]))
    assert (counts.read, counts.written, counts.rejected) == (6, 2, {"not scored": 4})
    ranked = {
        item.problem: set(item.solution_ids)
        for item in jsonl.read(files / "run" / "rankings.jsonl", Ranking)
    }
    assert ranked == {"What is 2 + 3?": {"a", "c"}}  # the other problem lost all candidates
    results = json.loads((files / "run" / "results.json").read_text())
    assert (results["problems"], results["candidates"]) == (1, 2)
    (files / "failures.jsonl").write_text("")
    with pytest.raises(RunConflictError, match=r"inputs\.failures"):
        stage.run(config(files, n=[1, 2]))


def test_neither_scored_nor_set_aside_is_refused(files):
    drop_scores(files, "be", failed="b")
    with pytest.raises(RecordError, match="no scores of solution 'e'"):
        stage.run(config(files))
    drop_scores(files, "abcdef", failed="abcdef")
    with pytest.raises(RecordError, match=r"failures\.jsonl: none of the candidates was scored"):
        stage.run(config(files))


def test_scores_that_do_not_exist_are_refused(files):
    (files / "scores.jsonl").unlink()
    with pytest.raises(RecordError, match=r"scores\.jsonl: no such file"):
        stage.run(config(files))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"aggregations": []}, "aggregations is empty"),
        ({"n": []}, "n must hold"),
        ({"n": [0, 1]}, "n must hold"),
    ],
)
def test_wrong_configurations_are_refused(files, keys, message):
    with pytest.raises(ConfigError, match=message):
        stage.run(config(files, **keys))
