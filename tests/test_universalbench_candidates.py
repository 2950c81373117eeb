"""Benchmarks of candidates: verified answers, curves of N, and what cannot be scored."""

from __future__ import annotations

import json
from itertools import combinations
from math import comb
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm import jsonl
from prm.aggregation import AGGREGATIONS, Aggregation
from prm.errors import RecordError
from prm.records import Solution, StepScores, steps_digest
from prm.search import stage as search
from prm.selection import Candidates
from prm.selection import measure as measure_selection
from prm.sources import Source
from universalbench.tasks import Task, TaskConfig, load
from universalbench.tasks.candidates import measure

ROWS = [
    # id, problem, final answer, true answer, scores
    ("a", "2 + 3", "5", "5", (0.9, 0.9)),
    ("b", "2 + 3", "6", "5", (0.8, 0.1)),
    ("c", "2 + 3", "6", "5", (0.7, 0.95)),
    ("d", "1 + 1", "3", "2", (0.5, 0.6)),
    ("e", "1 + 1", "2", "2", (0.9, 0.8)),
    ("f", "1 + 1", "2.0", "2", (0.2, 0.3)),
]


def solution(id: str, problem: str, said: str, answer: str | None) -> Solution:
    steps = (f"We add: {problem}.", f"The answer is \\boxed{{{said}}}.")
    return Solution(id=id, problem=f"What is {problem}?", steps=steps, answer=answer)


def source_of(folder: Path, *solutions: Solution) -> Source:
    jsonl.write(folder / "solutions.jsonl", solutions)
    return Source(path=str(folder / "solutions.jsonl"))


@pytest.fixture
def task(tmp_path) -> Task:
    items = [solution(id, problem, said, answer) for id, problem, said, answer, _ in ROWS]
    return load(TaskConfig("c", "candidates", source_of(tmp_path, *items)))


def scores() -> list[tuple[float, ...] | None]:
    return [values for *_, values in ROWS]


def cells(found: dict[str, Any]) -> dict[tuple[str, int], float]:
    return {(row["method"], row["n"]): row["accuracy"] for row in found["rows"]}


def test_answers_are_verified(task):
    assert (task.kind, task.wrong, task.first_errors) == ("candidates", None, [])
    assert task.correct == [True, False, False, False, True, True]
    assert task.answer_groups == {"a": 0, "b": 1, "c": 1, "d": 0, "e": 1, "f": 1}
    assert task.subsets == [""] * 6


def test_without_any_true_answer_there_is_nothing_to_measure(tmp_path):
    source = source_of(tmp_path, solution("a", "2 + 3", "5", None))
    with pytest.raises(RecordError, match="task 'c': no candidate has an `answer`"):
        load(TaskConfig("c", "candidates", source))


def test_the_curves_are_those_of_search(task, tmp_path):
    """Both measure the same candidates, here and in `prm search`, to the same figures."""
    lines = [
        StepScores(solution_id=item.id, steps_digest=steps_digest(item), model="m", scores=values)
        for item, (*_, values) in zip(task.solutions, ROWS, strict=True)
    ]
    jsonl.write(tmp_path / "scores.jsonl", lines)
    search.run(
        search.Config(
            out=str(tmp_path / "run"),
            source=Source(path=str(tmp_path / "solutions.jsonl")),
            scores=str(tmp_path / "scores.jsonl"),
            n=[1, 2, 3],
        )
    )
    theirs = json.loads((tmp_path / "run" / "results.json").read_text())
    ours = measure(task, scores(), AGGREGATIONS, [1, 2, 3])
    assert json.loads(json.dumps(ours)) == theirs | {"unscored": 0}
    assert cells(ours)["best of N (min)", 3] == 1.0
    assert cells(ours)["weighted majority (min)", 3] == 1.0
    assert cells(ours)["majority", 3] == 0.5
    assert cells(ours)["oracle", 3] == 1.0
    assert cells(ours)["pass@1", 3] == pytest.approx(0.5)
    gain = next(r for r in ours["rows"] if (r["method"], r["n"]) == ("best of N (min)", 3))
    assert gain["gain"] == pytest.approx(0.5)
    low, high = gain["gain_interval"]
    assert low <= gain["gain"] <= high


def test_an_unscored_candidate_is_a_miss(task):
    rows = scores()
    rows[0] = None  # the only right answer to 2 + 3
    found = measure(task, rows, ["min"], [1, 2, 3])
    assert found["unscored"] == 1
    whole = measure(task, scores(), ["min"], [1, 2, 3])
    for n in (1, 2, 3):  # what asks no scores is what it was
        for method in ("pass@1", "majority", "oracle"):
            assert cells(found)[method, n] == cells(whole)[method, n]
    # Of 2 + 3 nothing right can be chosen any more; of 1 + 1, e is right, and d less than f.
    assert cells(found)["best of N (min)", 1] == pytest.approx((0 + 2 / 3) / 2)
    assert cells(found)["best of N (min)", 3] == pytest.approx((0 + 1) / 2)
    assert cells(found)["weighted majority (min)", 1] == pytest.approx((0 + 2 / 3) / 2)
    nothing = measure(task, [None] * 6, ["min"], [2])
    assert cells(nothing)["best of N (min)", 2] == 0.0
    assert cells(nothing)["weighted majority (min)", 2] == 0.0
    assert cells(nothing)["majority", 2] == cells(whole)["majority", 2]


rows_of_a_problem = st.lists(
    st.tuples(
        st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0]),  # reward
        st.none() | st.integers(0, 2),  # group
        st.booleans(),
    ),
    min_size=2,
    max_size=5,
)


def brute_best(rewards: list[float | None], correct: list[bool], n: int) -> float:
    """Over all draws: the share of right ones among the best-rewarded; 0 where none was scored."""
    total = 0.0
    for drawn in combinations(range(len(rewards)), n):
        scored = [(rewards[i], correct[i]) for i in drawn if rewards[i] is not None]
        top = max((reward for reward, _ in scored), default=None)
        kept = [right for reward, right in scored if reward == top]
        total += fmean(kept) if kept else 0.0
    return total / comb(len(rewards), n)


def brute_weighted(
    rewards: list[float | None], groups: list[int | None], correct: list[bool], n: int
) -> float:
    """Over all draws: how right the answer with the largest sum of rewards is; ties are shared."""
    total = 0.0
    for drawn in combinations(range(len(rewards)), n):
        voting = [i for i in drawn if rewards[i] is not None and groups[i] is not None]
        votes: dict[int, float] = {}
        for i in voting:
            votes[groups[i]] = votes.get(groups[i], 0.0) + rewards[i]
        if n == 1:  # the only vote wins, whatever its weight
            total += fmean(correct[i] for i in voting) if voting else 0.0
            continue
        top = [group for group, vote in votes.items() if vote == max(votes.values())]
        for group in top:
            members = [correct[i] for i in voting if groups[i] == group]
            total += fmean(members) / len(top)
    return total / comb(len(rewards), n)


@given(st.lists(rows_of_a_problem, min_size=1, max_size=4), st.data())
def test_expectations_with_unscored_candidates(problems, data):
    n = data.draw(st.integers(1, min(map(len, problems))))
    built, best, weighted = [], [], []
    for index, rows in enumerate(problems):
        rewards, groups = [row[0] for row in rows], [row[1] for row in rows]
        correct = [row[1] is not None and row[2] for row in rows]
        given: dict[Aggregation, list[float | None]] = {"min": rewards}
        built.append(Candidates(f"problem {index}", given, groups, correct))
        best.append(brute_best(rewards, correct, n))
        weighted.append(brute_weighted(rewards, groups, correct, n))
    found = cells(measure_selection(built, [n]))
    assert found["best of N (min)", n] == pytest.approx(fmean(best), abs=1e-12)
    assert found["weighted majority (min)", n] == pytest.approx(fmean(weighted), abs=1e-12)


def test_intervals_draw_whole_problems():
    """Two texts of one problem are drawn as one: their values never come apart."""

    def problem(text: str, right: bool) -> Candidates:
        return Candidates(text, {"min": [0.5]}, [0], [right])

    together = [problem("What is 1?", True), problem("what is 1", False)]
    [row, *_] = measure_selection(together, [1])["rows"]
    assert tuple(row["interval"]) == (0.5, 0.5)
    apart = [problem("What is 1?", True), problem("What is 2?", False)]
    [row, *_] = measure_selection(apart, [1])["rows"]
    assert tuple(row["interval"]) == (0.0, 1.0)
    values = np.array([row["accuracy"] for row in measure_selection(apart, [1])["rows"]])
    assert set(values) == {0.5}


def test_problems_without_a_true_answer_are_counted(tmp_path):
    items = [
        solution("a", "2 + 3", "5", "5"),
        solution("b", "2 + 3", "6", "5"),
        solution("x", "1 + 1", "2", None),
    ]
    task = load(TaskConfig("c", "candidates", source_of(tmp_path, *items)))
    assert task.correct == [True, False, None]
    found = measure(task, [(0.9,), (0.1,), (0.5,)], ["last"], [2, 4])
    assert (found["problems"], found["without_answer"], found["candidates"]) == (1, 1, 2)
    assert {row["n"] for row in found["rows"]} == {2}
    assert cells(found)["best of N (last)", 2] == 1.0
