"""Which sampled solutions are kept: one of each text, and as many of each generator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from prm.records import Solution


def set_aside(
    solutions: Iterable[Solution], *, distinct: bool, balanced: bool, seed: int
) -> dict[str, str]:
    """Which solutions are not to be kept, by id, and why.

    Args:
        solutions: in their order, the first of equal ones first.
        distinct: set aside texts that an earlier one about the same problem equals but for white
            space, whoever wrote it.
        balanced: then set aside, by lot, what generators have more than the one with the fewest.
        seed: of the lot.
    """
    first: dict[bytes, str] = {}
    found: dict[str, str] = {}
    kept: dict[str, list[str]] = {}
    for item in solutions:
        words = "\x00".join([*item.problem.split(), "", *" ".join(item.steps).split()])
        same = first.setdefault(hashlib.sha256(words.encode()).digest(), item.id)
        if distinct and same != item.id:
            found[item.id] = f"the same text as {same}"
        else:
            kept.setdefault(item.generator, []).append(item.id)
    if balanced:
        fewest = min(map(len, kept.values()), default=0)
        for ids in kept.values():
            ids.sort(key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
            found |= dict.fromkeys(ids[fewest:], "left out, so that generators are balanced")
    return found
