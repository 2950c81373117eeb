"""Searches meet a policy and a reward model: many problems go on side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from prm.search.budget import Budget
from prm.search.policy import Stepper
from prm.search.scoring import PathScorer
from prm.search.tree import Grown, Scores, Search, live, together

T = TypeVar("T")


def solve(
    searches: Sequence[Search[T]], stepper: Stepper, scorer: PathScorer
) -> tuple[list[T], dict[str, Budget]]:
    """Run searches to their ends, each round of all in one call to either model.

    Returns:
        What came of each, and what was spent on each problem, by its id.

    Raises:
        EngineError: an engine died.
    """
    course = together(searches)
    spent: dict[str, Budget] = {}
    answer: tuple[list[Grown], list[Scores]] | None = None
    while True:
        try:
            asked = next(course) if answer is None else course.send(answer)
        except StopIteration as end:
            scorer.keep([])
            return end.value, spent
        scorer.keep(live(asked))
        grown = stepper.grow(asked.grow) if asked.grow else []
        scores = scorer.score(asked.score) if asked.score else []
        owners = [*(growth.path for growth in asked.grow), *asked.score]
        for path, (_, budget) in zip(owners, [*grown, *scores], strict=True):
            spent[path.problem.id] = spent.get(path.problem.id, Budget()) + budget
        answer = [paths for paths, _ in grown], [own for own, _ in scores]
