"""Full-trajectory labels: every step of every solution is known to be right or wrong.

Any source of labelled solutions will do: our own records, PRM800K, TRL's stepwise supervision.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prm.errors import RecordError
from prm.records import LabelledSolution
from prm.sources import Source, labelled
from universalbench.tasks.task import Kind, Task


def load(name: str, source: Source) -> Task:
    """Solutions and, for each step, whether it is wrong.

    Raises:
        RecordError: see `fully_labelled`.
    """
    items = list(labelled(source))
    return fully_labelled(name, "steps", items, [""] * len(items), source)


def fully_labelled(
    name: str, kind: Kind, items: Iterable[LabelledSolution], subsets: Sequence[str], path: object
) -> Task:
    """A task of solutions with a label for every step.

    Raises:
        RecordError: a label is neither 0 nor 1: soft labels are opinions, not truth.
    """
    solutions, wrong = [], []
    for item in items:
        if any(label not in (0.0, 1.0) for label in item.labels):
            raise RecordError(
                f"solution {item.id!r} has soft labels; a benchmark needs 0 or 1", path=path
            )
        solutions.append(item.solution)
        wrong.append([label == 0.0 for label in item.labels])
    return Task(
        name=name,
        kind=kind,
        solutions=solutions,
        first_errors=[row.index(True) if True in row else -1 for row in wrong],
        subsets=list(subsets),
        wrong=wrong,
    )
