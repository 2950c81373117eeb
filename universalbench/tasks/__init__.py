"""Benchmarks, one file each: solutions with what is known of them.

A task is loaded by its kind:

- `processbench`: the first wrong step is known (or that there is none).
- `steps`: every step's label is known (any source of labels 0 and 1).
- `prmbench`: the same of PRMBench's modified solutions, by class of error.
- `universalbench`: the same in our own format, by subset and length.
- `candidates`: several solutions of each problem, with the true final answer; steps have no truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from prm.errors import ConfigError, RecordError
from prm.sources import Source
from universalbench.tasks import candidates, prmbench, processbench, steps, universal
from universalbench.tasks.task import Kind, Task, restrict

__all__ = ["Kind", "Task", "TaskConfig", "load", "restrict"]


@dataclass
class TaskConfig:
    """A benchmark, or a part of one.

    Attributes:
        name: in the tables.
        kind: `processbench` (first wrong steps are known), `steps` (every step's label is),
            `prmbench`, `universalbench` (what `prm build-bench` writes), or `candidates` (several
            solutions of each problem and the true answer).
        source: where it is.
        generators: only what these policies wrote; empty means all.
    """

    name: str
    kind: Kind
    source: Source = field(default_factory=Source)
    generators: list[str] = field(default_factory=list)


_LOADERS: dict[Kind, Callable[[str, Source], Task]] = {
    "processbench": processbench.load,
    "steps": steps.load,
    "prmbench": prmbench.load,
    "universalbench": universal.load,
    "candidates": candidates.load,
}


def load(config: TaskConfig) -> Task:
    """Load a benchmark.

    Raises:
        RecordError: a row is not what the benchmark's format says, or there is none.
        ConfigError: nothing is by one of the policies named, or the kind needs another source.
    """
    task = _LOADERS[config.kind](config.name, config.source)
    if not task.solutions:
        raise RecordError("no solutions in this benchmark", path=config.source)
    if config.generators:
        known = {solution.generator for solution in task.solutions}
        absent = sorted(set(config.generators) - known)
        if absent:
            raise ConfigError(
                f"task {config.name!r}: nothing is by {absent[0]!r}; there are "
                + ", ".join(sorted(known))
            )
        generators = [solution.generator for solution in task.solutions]
        kept = [index for index, name in enumerate(generators) if name in config.generators]
        task = restrict(task, kept)
    # Only now: answers of candidates that were left out need no verification.
    return candidates.judge(task) if config.kind == "candidates" else task
