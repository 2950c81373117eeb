"""Benchmarks, one file each: solutions with what is known of their steps.

A task is loaded by its kind:

- `processbench`: the first wrong step is known (or that there is none).
- `steps`: every step's label is known (a file of labelled solutions with 0/1 labels).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from prm.errors import ConfigError, RecordError
from prm.records import Solution
from prm.sources import Source
from universalbench.tasks import processbench, steps

Kind = Literal["processbench", "steps"]


@dataclass
class TaskConfig:
    """A benchmark, or a part of one.

    Attributes:
        name: in the tables.
        kind: see the module.
        source: where it is.
        generators: only what these policies wrote; empty means all.
    """

    name: str
    kind: Kind
    source: Source = field(default_factory=Source)
    generators: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A loaded benchmark.

    Attributes:
        name, kind: as configured.
        solutions: what predictors see.
        first_errors: for each solution the index of its first wrong step, -1 for none.
        wrong: for each solution and step whether it is wrong; None where only the first error
            is known.
    """

    name: str
    kind: Kind
    solutions: list[Solution]
    first_errors: list[int]
    wrong: list[list[bool]] | None = None


def load(config: TaskConfig) -> Task:
    """Load a benchmark.

    Raises:
        RecordError: a row is not what the benchmark's format says, or there is none.
        ConfigError: nothing is by one of the policies named.
    """
    wrong: list[list[bool]] | None
    if config.kind == "processbench":
        solutions, first_errors = processbench.load(config.source)
        wrong = None
    else:
        solutions, wrong = steps.load(config.source)
        first_errors = [row.index(True) if True in row else -1 for row in wrong]
    if not solutions:
        raise RecordError("no solutions in this benchmark", path=config.source)
    if config.generators:
        known = {solution.generator for solution in solutions}
        absent = sorted(set(config.generators) - known)
        if absent:
            raise ConfigError(
                f"task {config.name!r}: nothing is by {absent[0]!r}; there are "
                + ", ".join(sorted(known))
            )
        kept = [i for i, item in enumerate(solutions) if item.generator in config.generators]
        solutions = [solutions[index] for index in kept]
        first_errors = [first_errors[index] for index in kept]
        wrong = None if wrong is None else [wrong[index] for index in kept]
    return Task(
        name=config.name,
        kind=config.kind,
        solutions=solutions,
        first_errors=first_errors,
        wrong=wrong,
    )
