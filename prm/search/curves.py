"""Accuracy against compute: a point for every search, and what it gains at equal compute.

All searches are of the same problems. Intervals are over problems: whole problems are drawn, with
all that was done on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any

import numpy as np

from prm import metrics
from prm.records import problem_key
from prm.search.budget import Budget


@dataclass(frozen=True)
class Point:
    """One search on all problems.

    Attributes:
        name: the search's.
        method: `best_of_n` or another; those of best of N are what others are held against.
        correct: of each problem, whether its final answer is right; no answer is a wrong one.
        budgets: of each problem.
    """

    name: str
    method: str
    correct: Sequence[bool]
    budgets: Sequence[Budget]


def curve(
    points: Sequence[Point], problems: Sequence[str], parameters: tuple[int | None, int | None]
) -> list[dict[str, Any]]:
    """A row for every search, in their order.

    Args:
        points: the searches.
        problems: the text of each problem; those with the same `problem_key` are drawn as one.
        parameters: of policy and reward model; None where not known.

    Returns:
        Rows of `search`, `method`, `accuracy` and its 95 % bootstrap `interval`; the mean tokens
        a problem: each part of a `Budget`, `computed` in all, and the `flops` where the parameters
        are known. `equal_compute` says what best of N reaches for the same `flops` (else
        `computed`): its `accuracy`, the `gain` of the search and the gain's paired `interval`.
        Between two N it is read off a straight line over the logarithm of compute; it is null for
        best of N itself, and where a search lies outside of what best of N was run with.
    """
    if not problems:
        return []
    keys: dict[str, int] = {}
    clusters = [keys.setdefault(problem_key(problem), len(keys)) for problem in problems]
    costs = [[_cost(budget, parameters) for budget in point.budgets] for point in points]
    # What each cluster adds: its problems, then right answers and compute of every search.
    table = np.zeros((len(keys), 1 + 2 * len(points)))
    columns = [np.ones(len(problems))]
    for point, cost in zip(points, costs, strict=True):
        columns += [np.asarray(point.correct, dtype=float), np.asarray(cost, dtype=float)]
    np.add.at(table, clusters, np.stack(columns, axis=1))
    peers = [index for index, point in enumerate(points) if point.method == "best_of_n"]
    rows = []
    for index, point in enumerate(points):
        row: dict[str, Any] = {
            "search": point.name,
            "method": point.method,
            "accuracy": fmean(point.correct),
            "interval": metrics.sums_interval(table, lambda sums, at=index: _mean(sums, at)),  # type: ignore[misc]
            **{
                item.name: fmean(getattr(budget, item.name) for budget in point.budgets)
                for item in fields(Budget)
            },
            "computed": fmean(budget.computed for budget in point.budgets),
            "flops": fmean(costs[index]) if None not in parameters else None,
            "equal_compute": None,
        }
        if point.method != "best_of_n":
            row["equal_compute"] = _held_against(table, index, peers)
        rows.append(row)
    return rows


def _cost(budget: Budget, parameters: tuple[int | None, int | None]) -> float:
    policy, reward = parameters
    if policy is None or reward is None:
        return float(budget.computed)
    return budget.flops(policy, reward)


def _mean(sums: np.ndarray, index: int) -> np.ndarray:
    """Accuracy of a search in every draw."""
    return np.asarray(sums[:, 1 + 2 * index] / sums[:, 0])


def _held_against(table: np.ndarray, index: int, peers: Sequence[int]) -> dict[str, Any] | None:
    sums = table.sum(axis=0, keepdims=True)
    compute = sorted(float(sums[0, 2 + 2 * peer]) for peer in peers)
    if not peers or not compute[0] <= sums[0, 2 + 2 * index] <= compute[-1]:
        return None
    [known] = _line(sums, index, peers)
    return {
        "accuracy": float(known),
        "gain": float(_mean(sums, index)[0] - known),
        "interval": metrics.sums_interval(
            table, lambda drawn: _mean(drawn, index) - _line(drawn, index, peers)
        ),
    }


def _line(sums: np.ndarray, index: int, peers: Sequence[int]) -> np.ndarray:
    """What the peers reach in every draw for what a search took there.

    A draw in which the search lies outside of them takes the nearest.
    """
    compute = np.log(np.stack([sums[:, 2 + 2 * peer] for peer in peers], axis=1))
    reached = np.stack([_mean(sums, peer) for peer in peers], axis=1)
    own = np.log(sums[:, 2 + 2 * index])
    return np.array(
        [
            np.interp(at, x[order], y[order])
            for at, x, y, order in zip(own, compute, reached, compute.argsort(axis=1), strict=True)
        ]
    )


def format_curve(rows: Sequence[dict[str, Any]]) -> str:
    """The table: a line per search."""
    width = max(len(row["search"]) for row in rows)
    lines = [
        " " * width + "  accuracy          95 %   policy tokens   PRM tokens (whole)"
        "   best of N for as much"
    ]
    for row in rows:
        policy = row["computed"] - row["read"]
        line = f"{row['search']:<{width}}  {100 * row['accuracy']:8.1f}"
        line += f"  {_between(row['interval'])}"
        line += f"  {policy:14,.0f}  {row['read']:10,.0f} ({row['whole']:,.0f})"
        if (peer := row["equal_compute"]) is not None:
            line += f"   {100 * peer['accuracy']:.1f}, gain {100 * peer['gain']:+.1f} "
            line += _between(peer["interval"], "+").strip()
        lines.append(line)
    return "\n".join(lines)


def _between(bounds: Sequence[float], sign: str = "") -> str:
    low, high = (f"{100 * bound:{sign}.1f}" for bound in bounds)
    return f"{f'[{low}, {high}]':>13}"
