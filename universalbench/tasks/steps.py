"""Full-trajectory labels: every step of every solution is known to be right or wrong."""

from __future__ import annotations

from prm.errors import RecordError
from prm.records import Solution
from prm.sources import Source, labelled


def load(source: Source) -> tuple[list[Solution], list[list[bool]]]:
    """Solutions and, for each step, whether it is wrong.

    Raises:
        RecordError: a label is neither 0 nor 1: soft labels are opinions, not truth.
    """
    solutions, wrong = [], []
    for item in labelled(source):
        if any(label not in (0.0, 1.0) for label in item.labels):
            raise RecordError(
                f"solution {item.id!r} has soft labels; a benchmark needs 0 or 1", path=source
            )
        solutions.append(item.solution)
        wrong.append([label == 0.0 for label in item.labels])
    return solutions, wrong
