"""Searches meet a policy and a reward model: many problems go on side by side."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

from prm.search.budget import Budget
from prm.search.policy import Stepper
from prm.search.scoring import PathScorer
from prm.search.tree import Done, Grown, Round, Scores, Search, advance, live, together

T = TypeVar("T")

Priced = tuple[list[tuple[Grown, Budget]], list[tuple[Scores, Budget]]]
"""What came of a round, each part of it with what it cost."""


def priced(search: Search[T], spent: dict[str, Budget]) -> Generator[Round, Priced, T]:
    """A search that enters what its rounds cost into an account, by the problem's id."""
    told: tuple[list[Grown], list[Scores]] | None = None
    while True:
        asked = advance(search, told)
        if isinstance(asked, Done):
            return asked.value
        grown, scores = yield asked
        owners = [*(growth.path for growth in asked.grow), *asked.score]
        for path, (_, budget) in zip(owners, [*grown, *scores], strict=True):
            spent[path.problem.id] = spent.get(path.problem.id, Budget()) + budget
        told = [paths for paths, _ in grown], [own for own, _ in scores]


def solve(
    searches: Sequence[Search[T]], stepper: Stepper, scorer: PathScorer
) -> tuple[list[T], dict[str, Budget]]:
    """Run searches to their ends, each round of all in one call to either model.

    Returns:
        What came of each, and what was spent on each problem, by its id.

    Raises:
        EngineError: an engine died.
    """
    spent: dict[str, Budget] = {}
    course = priced(together(searches), spent)
    told: Priced | None = None
    while True:
        asked = advance(course, told)
        if isinstance(asked, Done):
            scorer.keep([])
            return asked.value, spent
        scorer.keep(live(asked))
        grown = stepper.grow(asked.grow) if asked.grow else []
        scores = scorer.score(asked.score) if asked.score else []
        told = grown, scores
