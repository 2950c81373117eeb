"""Diverse verifier tree search: many narrow searches that never meet, in place of a wide one.

A beam soon holds paths of one beginning. Here each subtree keeps the best of its own draws, so as
many beginnings live on as there are subtrees. Source: Beeching, Tunstall and Rush, "Scaling
test-time compute with open models", Hugging Face, 2024.
"""

from __future__ import annotations

from prm.aggregation import Aggregation
from prm.records import Problem
from prm.search.beam import beam
from prm.search.tree import Path, Search, together


def dvts(
    problem: Problem,
    *,
    subtrees: int,
    expansions: int,
    steps: int,
    aggregation: Aggregation,
    by_reward: bool = True,
) -> Search[list[Path]]:
    """Search in subtrees, each a beam of width 1 with seeds of its own; see `beam`."""
    found = yield from together(
        [
            beam(
                problem,
                width=1,
                expansions=expansions,
                steps=steps,
                aggregation=aggregation,
                by_reward=by_reward,
                key=f"subtree {index}",
            )
            for index in range(subtrees)
        ]
    )
    return [path for paths in found for path in paths]
