"""The draw of a benchmark: cells of equal size, few solutions of one problem, by a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from universalbench.build.rules import Cell


@dataclass(frozen=True)
class Entry:
    """A solution that may be drawn.

    Attributes:
        id: the solution's.
        key: its problem's `problem_key`.
        cell: where it belongs.
    """

    id: str
    key: str
    cell: Cell


def draw(
    entries: Sequence[Entry], size: int | None, per_problem: int | None, seed: int
) -> dict[str, str | None]:
    """Choose a benchmark's solutions.

    The cells take turns, each taking its next solution, until there are `size` or none is left: so
    two cells differ by more than one only where the smaller had no more to give. Within a cell the
    order is by a hash of seed and id, so it does not depend on what else there is. A solution
    whose problem has its `per_problem` already is passed over.

    Args:
        entries: what may be drawn, ids unique.
        size: how many to draw; None draws all.
        per_problem: at most so many solutions of one problem; None sets no bound.
        seed: of the draw.

    Returns:
        id → None where the solution is drawn, else the reason why it is not, in order of `entries`.
    """
    waiting: dict[Cell, list[Entry]] = {}
    for entry in entries:
        waiting.setdefault(entry.cell, []).append(entry)
    for members in waiting.values():
        members.sort(key=lambda entry: _order(entry.id, seed), reverse=True)  # the next one is last
    reasons: dict[str, str | None] = {entry.id: "beyond the size asked for" for entry in entries}
    taken: dict[str, int] = {}
    left = len(entries) if size is None else size
    cells = sorted(waiting)
    while left and cells:
        for cell in cells:
            drawn = _next(waiting[cell], taken, per_problem, reasons) if left else None
            if drawn is not None:
                reasons[drawn.id] = None
                taken[drawn.key] = taken.get(drawn.key, 0) + 1
                left -= 1
        cells = [cell for cell in cells if waiting[cell]]
    return reasons


def _next(
    members: list[Entry],
    taken: dict[str, int],
    per_problem: int | None,
    reasons: dict[str, str | None],
) -> Entry | None:
    while members:
        entry = members.pop()
        if per_problem is None or taken.get(entry.key, 0) < per_problem:
            return entry
        reasons[entry.id] = "its problem has enough solutions"
    return None


def _order(id: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{id}".encode()).digest()
