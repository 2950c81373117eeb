"""Best of N: whole solutions are drawn and scored once."""

from __future__ import annotations

from prm.records import Problem
from prm.search.tree import Growth, Path, Search, grow


def best_of_n(problem: Problem, *, n: int) -> Search[list[Path]]:
    """Draw `n` solutions; those with the same steps are one, with their count."""
    paths = yield from grow([Growth(path=Path(problem=problem), count=n, whole=True)])
    return paths
