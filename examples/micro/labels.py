"""A stage for `prm reproduce`: what the micro policies wrote, cut and labelled exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from examples.micro import truth
from prm import jsonl
from prm.records import LabelledSolution, Solution
from prm.run import Counts, Run
from prm.sources import Source, identify, solutions


@dataclass
class Config:
    """Which solutions.

    Attributes:
        out: the run folder; gets `labelled.jsonl`.
        source: solutions of micro problems, each one step as `prm sample` leaves them.
    """

    out: str
    source: Source


def run(config: Config) -> Counts:
    """Label all but those that do not come to an end: there the last step is cut."""
    with Run(config.out, "micro labels", config, {"source": identify(config.source)}) as folder:
        if folder.counts is None:
            items = list(solutions(config.source))
            labelled = list(_labelled(items))
            jsonl.write(folder.path("labelled.jsonl"), labelled)
            unfinished = len(items) - len(labelled)
            counts = Counts(
                read=len(items),
                written=len(labelled),
                rejected={"unfinished": unfinished} if unfinished else {},
            )
            folder.finish(counts, ["labelled.jsonl"])
        assert folder.counts is not None
        return folder.counts


def _labelled(items: list[Solution]) -> Iterator[LabelledSolution]:
    for item in items:
        if item.metadata["finish_reason"] == "stop":
            cut = replace(item, steps=truth.true_steps(item.steps[0]))
            yield LabelledSolution(solution=cut, labels=truth.label(cut))
