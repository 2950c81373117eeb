"""A stage of its own: some of the labelled solutions, or the same with planted errors of labels.

What it does is a pure function of its configuration and of the file.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from prm import jsonl
from prm.errors import ConfigError
from prm.records import LabelledSolution
from prm.run import Counts, Run
from prm.sources import Place, identify

OUTPUTS = ("labelled.jsonl",)


@dataclass
class Config:
    """What to take, and what to change, in this order.

    Attributes:
        out: the run folder; gets `labelled.jsonl`.
        source: labelled solutions.
        generators: take only those of these; all where the list is empty.
        problems: take the first so many problems with all their solutions.
        solutions: take so many solutions, as many of every generator as can be, and of as many
            problems: of neighbouring problems they are of different generators.
        withhold: forget reference and answer.
        flips: chance that a label is turned round, each by itself.
        seed: of the flips.
    """

    out: str
    source: Place
    generators: list[str] = field(default_factory=list)
    problems: int | None = None
    solutions: int | None = None
    withhold: bool = False
    flips: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.flips <= 0.5:
            raise ValueError(f"flips is {self.flips}; it lies between 0 and one half")


def run(config: Config) -> Counts:
    """Write what is left."""
    with Run(config.out, "derive", config, {"source": identify(config.source)}, OUTPUTS) as folder:
        if folder.counts is None:
            if config.source.path is None:
                raise ConfigError("derive reads a file; set source.path")
            items = list(jsonl.read(config.source.path, LabelledSolution))
            left = list(derive(items, config))
            jsonl.write(folder.path("labelled.jsonl"), left)
            dropped = len(items) - len(left)
            counts = Counts(
                read=len(items),
                written=len(left),
                rejected={"not taken": dropped} if dropped else {},
            )
            folder.finish(counts, OUTPUTS)
        assert folder.counts is not None
        return folder.counts


def derive(items: Sequence[LabelledSolution], config: Config) -> Iterator[LabelledSolution]:
    """See `Config`."""
    taken = [i for i in items if not config.generators or i.solution.generator in config.generators]
    if config.problems is not None:
        known = list(dict.fromkeys(item.solution.problem for item in taken))[: config.problems]
        kept = set(known)
        taken = [item for item in taken if item.solution.problem in kept]
    if config.solutions is not None:
        taken = spread(taken, config.solutions)
    for item in taken:
        if config.withhold:
            item = replace(item, solution=replace(item.solution, reference=None, answer=None))
        if config.flips:
            rng = random.Random(f"flips {config.seed} {item.id}")
            labels = tuple(abs(label - (rng.random() < config.flips)) for label in item.labels)
            item = replace(item, labels=labels)
        yield item


def spread(items: Sequence[LabelledSolution], count: int) -> list[LabelledSolution]:
    """So many of the solutions, over generators and problems as evenly as can be.

    Problem after problem gives one solution, the generators taking turns; when all problems have
    given one, they give another. The order stays that of the items.
    """
    generators = list(dict.fromkeys(item.solution.generator for item in items))
    groups: dict[str, dict[str, list[LabelledSolution]]] = {}
    for item in items:
        own = groups.setdefault(item.solution.problem, {})
        own.setdefault(item.solution.generator, []).append(item)
    chosen: set[str] = set()
    for turn in range(len(items)):
        for place, own in enumerate(groups.values()):
            generator = generators[(place + turn) % len(generators)]
            left = [item for item in own.get(generator, ()) if item.id not in chosen]
            if left and len(chosen) < count:
                chosen.add(left[0].id)
        if len(chosen) >= min(count, len(items)):
            break
    return [item for item in items if item.id in chosen]
