"""How well a choice among candidates does, for every method and out of every number of them.

The candidates of a problem are given, with rewards and with what is known of their final answers;
accuracies are expectations over all ways to draw N of them (`prm.best_of_n`). Intervals are over
problems: candidates of one problem succeed and fail together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from prm import metrics
from prm.aggregation import Aggregation
from prm.best_of_n import expected_best, expected_majority, expected_oracle
from prm.records import problem_key


@dataclass(frozen=True)
class Candidates:
    """What is known of all candidates of one problem.

    Attributes:
        problem: its text, which is what makes them candidates of one problem.
        rewards: aggregation → one reward per candidate, None where it was not scored.
        groups: the cluster of each final answer, None where there is none.
        correct: whether each final answer is right; None where a true answer is not known.
    """

    problem: str
    rewards: Mapping[Aggregation, Sequence[float | None]]
    groups: Sequence[int | None]
    correct: Sequence[bool] | None


def measure(problems: Sequence[Candidates], numbers: Sequence[int]) -> dict[str, Any]:
    """Expected accuracy of every method for every N, over the problems with a true answer.

    `pass@1` is the accuracy of a candidate taken at random, `oracle` that of a choice that cannot
    err, `majority` takes the most frequent answer, `best of N` the candidate with the best reward,
    `weighted majority` the answer with the largest sum of rewards. A candidate without a reward
    stays among those drawn: rewards choose it only where nothing else was drawn, which then counts
    as wrong, and it has no vote in a weighted majority.

    Returns:
        `problems` (those with a true answer), `without_answer` (the others), `candidates` (the
        fewest of any measured problem), and `rows` of method, N, accuracy and its 95 % bootstrap
        interval over problems, and of the gain over pass@1 with its paired interval: both are of
        the same resampled problems. Problems with the same letters and digits (`problem_key`) are
        drawn as one. An N beyond `candidates` has no row.
    """
    judged = [problem for problem in problems if problem.correct is not None]
    fewest = min((len(problem.groups) for problem in judged), default=0)
    clusters = _numbered([problem_key(problem.problem) for problem in judged])
    single = [expected(problem, "pass@1", 1) for problem in judged]
    rows = []
    for n in sorted({n for n in numbers if n <= fewest}):
        for method in _methods(judged[0]):
            values = [expected(problem, method, n) for problem in judged]
            gains = [value - before for value, before in zip(values, single, strict=True)]
            rows.append(
                {
                    "method": method,
                    "n": n,
                    "accuracy": fmean(values),
                    "interval": _interval(values, clusters),
                    "gain": fmean(gains),
                    "gain_interval": _interval(gains, clusters),
                }
            )
    return {
        "problems": len(judged),
        "without_answer": len(problems) - len(judged),
        "candidates": fewest,
        "rows": rows,
    }


def _numbered(keys: Sequence[str]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _interval(values: Sequence[float], clusters: Sequence[int]) -> tuple[float, float]:
    """Of a mean over problems, with whole clusters drawn."""
    table = np.zeros((max(clusters) + 1, 2))
    np.add.at(table, list(clusters), np.stack([values, np.ones(len(values))], axis=1))
    return metrics.sums_interval(table, lambda sums: sums[:, 0] / sums[:, 1])


def _methods(problem: Candidates) -> list[str]:
    best = [f"best of N ({name})" for name in problem.rewards]
    weighted = [f"weighted majority ({name})" for name in problem.rewards]
    return ["pass@1", *best, "majority", *weighted, "oracle"]


def expected(problem: Candidates, method: str, n: int) -> float:
    """Accuracy of a method out of `n` candidates of one problem, over all ways to draw them.

    Args:
        problem: with a true answer.
        method: as `measure` names it, such as `best of N (min)`.
        n: 1 to the number of candidates.
    """
    correct = problem.correct
    assert correct is not None
    seed = problem.problem
    if method == "pass@1":
        return fmean(correct)
    if method == "oracle":
        return expected_oracle(correct, n)
    if method == "majority":
        return expected_majority(problem.groups, correct, n, seed=seed)
    kind, _, name = method.rstrip(")").rpartition(" (")
    rewards = next(values for known, values in problem.rewards.items() if known == name)
    # What has no reward is never the right choice, and comes last.
    hits = [right and value is not None for right, value in zip(correct, rewards, strict=True)]
    if kind == "best of N":
        return expected_best([-np.inf if value is None else value for value in rewards], hits, n)
    voting = [
        None if value is None else group
        for group, value in zip(problem.groups, rewards, strict=True)
    ]
    weights = [max(value or 0.0, 0.0) for value in rewards]
    return expected_majority(voting, hits, n, seed=seed, weights=weights)
