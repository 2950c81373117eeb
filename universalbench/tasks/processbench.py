"""ProcessBench (arXiv 2412.06559): find the first wrong step, or say that there is none."""

from __future__ import annotations

from prm.errors import ConfigError
from prm.sources import Source, solutions
from universalbench.tasks.task import Task


def load(name: str, source: Source) -> Task:
    """Solutions and, for each, the index of the first wrong step (-1: none).

    References may be joined through `source.references`; a run with them does not compare with
    models that get none.
    """
    if source.format != "processbench":
        raise ConfigError(f"{source}: kind processbench needs source.format processbench")
    items = list(solutions(source))
    return Task(
        name=name,
        kind="processbench",
        solutions=items,
        first_errors=[item.metadata["first_error"] for item in items],
        subsets=[""] * len(items),
    )
