"""Beam search over steps: in each round the best paths go on, each in several ways.

    root ──M × K draws──▶ score ──keep M──▶ each K draws ──▶ score ──keep M──▶ …

A path that has come to its end keeps its place, so the beam gets narrower until all places hold
solutions. As in Snell et al., arXiv 2408.03314, section 5.1; there a path is ranked by its last
score, here by any aggregation.
"""

from __future__ import annotations

from dataclasses import replace

from prm.aggregation import Aggregation
from prm.records import Problem
from prm.search.tree import BEATEN, STEPS, TURN, Growth, Path, Search, best, grow

FALLING: tuple[Aggregation, ...] = ("min", "product")
"""Rewards that no further step can raise."""


def beam(
    problem: Problem,
    *,
    width: int,
    expansions: int,
    steps: int,
    aggregation: Aggregation,
    by_reward: bool = True,
    key: str = "",
) -> Search[list[Path]]:
    """Search with one beam.

    Args:
        problem: what to solve.
        width: how many paths are kept, M.
        expansions: in how many ways each goes on, K; `M × K` at the root.
        steps: the most rounds.
        aggregation: what a path is ranked by.
        by_reward: that the solution with the greatest reward will be chosen. Then the search ends
            as soon as, by a reward that cannot rise, no other can be.
        key: see `Growth`.

    Returns:
        All paths at their ends: solutions in the order in which they came to it, then paths cut
        short. Growths number `M × K` a round at most.
    """
    alive = [Path(problem=problem)]
    ended: list[Path] = []
    cut: list[Path] = []
    count = width * expansions
    for _ in range(steps):
        paths = yield from grow([Growth(path=path, count=count, key=key) for path in alive])
        count = expansions
        cut += [path for path in paths if path.end not in ("", TURN)]
        able = [path for path in paths if path.end in ("", TURN)]
        kept = best(able, width - len(ended), aggregation)
        ended += [path for path in kept if path.end]
        alive = [path for path in kept if not path.end]
        if by_reward and aggregation in FALLING and alive and ended:
            most = max(path.reward(aggregation) for path in ended)
            if all(path.reward(aggregation) <= most for path in alive):
                cut += [replace(path, end=BEATEN) for path in alive]
                alive = []
        if not alive:
            break
    return [*ended, *cut, *(replace(path, end=STEPS) for path in alive)]
