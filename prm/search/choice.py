"""The one solution that a search is for: by reward, by majority, or by both."""

from __future__ import annotations

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
    """Choose among what a search found.

    Where no path came to its end, those cut short are chosen from: one may hold an answer.

    Args:
        paths: see `beam` and the others.
        aggregation: what makes a reward of step scores.
        choice: `reward`: the greatest. `majority`: of the most frequent final answer; a draw is a
            vote. `weighted`: of the answer with the largest sum of rewards, none counted below 0.
            Of an answer, the solution with the greatest reward; without any answer, as `reward`.
        equal: whether two answers are the same.

    Returns:
        The path, the first of equal ones; None where none has a reward.
    """
    able = [path for path in paths if path.scored]
    able = [path for path in able if path.end == TURN] or able
    if not able:
        return None
    groups = [None] * len(able) if choice == "reward" else _groups(able, equal)
    votes: dict[int, float] = {}
    for path, group in zip(able, groups, strict=True):
        if group is not None:
            weight = 1.0 if choice == "majority" else max(path.reward(aggregation), 0.0)
            votes[group] = votes.get(group, 0.0) + path.count * weight
    if votes:
        winner = max(votes, key=votes.__getitem__)
        able = [path for path, group in zip(able, groups, strict=True) if group == winner]
    return max(able, key=lambda path: path.reward(aggregation))


def _groups(paths: Sequence[Path], equal: Equal) -> list[int | None]:
    return clusters([extract_answer(path.steps).text for path in paths], equal)
