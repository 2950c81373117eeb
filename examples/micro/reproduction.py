"""A stage for `prm reproduce`: problems of the micro world, all of them held out.

Policies, judge and base learnt from the others, so nothing here was seen by any model.
"""

from __future__ import annotations

from dataclasses import dataclass

from examples.micro.problems import micro_problems
from prm import jsonl
from prm.run import Counts, Run


@dataclass
class Config:
    """How many problems.

    Attributes:
        out: the run folder; gets `train.jsonl`, `test.jsonl` and `choices.jsonl`.
        seed: of the problems.
        train, test, choices: problems in each file; no two share numbers and operations.
    """

    out: str
    seed: int
    train: int
    test: int
    choices: int


def run(config: Config) -> Counts:
    """Write the files."""
    with Run(config.out, "micro problems", config) as folder:
        if folder.counts is None:
            sizes = {"train": config.train, "test": config.test, "choices": config.choices}
            total = sum(sizes.values())
            left = iter(micro_problems(config.seed, total, held_out=True))
            for name, size in sizes.items():
                records = [next(left).record for _ in range(size)]
                jsonl.write(folder.path(f"{name}.jsonl"), records)
            folder.finish(Counts(read=total, written=total), [f"{name}.jsonl" for name in sizes])
        assert folder.counts is not None
        return folder.counts
