"""The solution that a search is for, and those after it: by reward, by majority, or by both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from prm.aggregation import Aggregation
from prm.best_of_n import Equal, clusters
from prm.search.tree import TURN, Path
from verify.answers import extract_answer

Choice = Literal["reward", "majority", "weighted"]


def choose(
    paths: Sequence[Path], aggregation: Aggregation, choice: Choice, equal: Equal
) -> Path | None:
    """The first of those that `ranked` ranks; None where none has a reward."""
    return next(iter(ranked(paths, aggregation, choice, equal)), None)


def ranked(
    paths: Sequence[Path], aggregation: Aggregation, choice: Choice, equal: Equal
) -> list[Path]:
    """What a search found, the best first, equal ones in their order.

    Where no path came to its end, those cut short are ranked: one may hold an answer.

    Args:
        paths: see `beam` and the others.
        aggregation: what makes a reward of step scores.
        choice: `reward`: the greatest. `majority`: of the most frequent final answer; a draw is a
            vote. `weighted`: of the answer with the largest sum of rewards, none counted below 0.
            Of an answer, the solution with the greatest reward; one without an answer comes last.
            Without any answer, as `reward`.
        equal: whether two answers are the same.

    Returns:
        Those with a reward: where some came to their end, of these alone.
    """
    able = [path for path in paths if path.scored]
    able = [path for path in able if path.end == TURN] or able
    groups = [None] * len(able) if choice == "reward" else _groups(able, equal)
    votes: dict[int | None, float] = {None: -math.inf}
    for path, group in zip(able, groups, strict=True):
        if group is not None:
            weight = 1.0 if choice == "majority" else max(path.reward(aggregation), 0.0)
            votes[group] = votes.get(group, 0.0) + path.count * weight
    order = list(votes)  # of answers with as many votes the one that came first
    best = sorted(
        zip(able, groups, strict=True),
        key=lambda own: (-votes[own[1]], order.index(own[1]), -own[0].reward(aggregation)),
    )
    return [path for path, _ in best]


def _groups(paths: Sequence[Path], equal: Equal) -> list[int | None]:
    return clusters([extract_answer(path.steps).text for path in paths], equal)
