"""How much there is to train on: solutions, tokens and optimizer steps, before training begins.

Solutions are counted; some of them, evenly spread, are rendered, and stand for all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prm import sources
from prm.errors import ConfigError
from prm.records import LabelledSolution
from prm.render import Renderer
from prm.train.batches import plan
from prm.train.config import Config
from prm.train.data import StepDataset, split

LOOKED_AT = 200
"""Solutions that are rendered."""
CHARACTERS = 3.5
"""A token's, where no tokenizer is at hand."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """What there is to train on.

    Attributes:
        solutions: to train on.
        held_out: kept apart.
        lengths: tokens of each of those looked at, in the longer of its forms.
        tokens: an epoch's, over all solutions.
        pairs: an epoch's pairs of a token with itself or an earlier one.
    """

    solutions: int
    held_out: int
    lengths: Sequence[int]
    tokens: float
    pairs: float

    @property
    def all_lengths(self) -> list[int]:
        """The lengths looked at, repeated until there is one for every solution."""
        return [self.lengths[index % len(self.lengths)] for index in range(self.solutions)]


def count(config: Config, notes: list[str]) -> tuple[int, int]:
    """Solutions to train on and held out; 0 and 0 where a source is not there.

    Args:
        config: whose sources are read.
        notes: gets what the figures leave out.

    Raises:
        RecordError: a source is not what it says.
    """
    absent = [source for source in config.sources if source.path and not Path(source.path).exists()]
    if absent:
        notes.append(f"{absent[0]}: not there yet, so steps, tokens and hours are unknown")
        return 0, 0
    training = held_out = 0
    try:
        for chosen in _chosen(config):
            training, held_out = training + bool(chosen), held_out + (not chosen)
    except ConfigError as error:  # a data set of the Hub, out of reach
        notes.append(f"{error}; so steps, tokens and hours are unknown")
        return 0, 0
    if config.benchmarks:
        notes.append("solutions of benchmark problems are not set aside here")
    return training, held_out


def training(config: Config) -> Iterator[LabelledSolution]:
    """The solutions to train on."""
    for chosen in _chosen(config):
        yield from chosen


def _chosen(config: Config) -> Iterator[list[LabelledSolution]]:
    """For every solution a list: of it alone, or empty where it is held out."""
    for source in config.sources:
        for item in sources.labelled(source, []):
            yield split([item], config.held_out, config.seed)[0]


def read(config: Config, found: tuple[int, int], tokenizer: Any, notes: list[str]) -> Data | None:
    """What the data hold, from some of the solutions; None where none can be trained on.

    Args:
        config: whose sources are read.
        found: what `count` found; the first is above 0.
        tokenizer: the model's; None counts characters.
        notes: gets what the figures rest on.
    """
    solutions, held_out = found
    every = -(-solutions // LOOKED_AT)  # rounded up
    items = [item for index, item in enumerate(training(config)) if index % every == 0]
    if tokenizer is None:
        drawn = longest = [_by_characters(item) for item in items]
    else:
        data = StepDataset(
            items,
            Renderer(tokenizer, config.render),
            loss=config.loss,
            reference=config.reference,
            reference_drop=config.reference_drop,
            seed=config.seed,
            too_long="drop",
        )
        drawn = [len(data[index]["input_ids"]) for index in range(len(data))]
        longest = data.lengths
        if data.rejected:
            notes.append(f"{len(data.rejected)} of {len(items)} cannot be trained on")
            solutions = round(solutions * len(data) / len(items))
    notes.append(f"{len(items):,} of {found[0]:,} solutions looked at")
    if not drawn:
        return None
    scale = solutions / len(drawn)
    return Data(
        solutions=solutions,
        held_out=held_out,
        lengths=longest,
        tokens=scale * sum(drawn),
        pairs=scale * sum(length * (length + 1) / 2 for length in drawn),
    )


def _by_characters(item: LabelledSolution) -> int:
    solution = item.solution
    texts = [solution.problem, *solution.steps, solution.reference or ""]
    return math.ceil(sum(map(len, texts)) / CHARACTERS)


def forward_tokens(config: Config) -> int:
    """The most tokens of one forward pass."""
    if config.batches.tokens is not None:
        return max(config.batches.tokens, config.render.max_length)
    return int(config.trainer.get("per_device_train_batch_size", 8)) * config.render.max_length


def steps(config: Config, data: Data, devices: int, notes: list[str]) -> int:
    """Optimizer steps of an epoch."""
    if config.batches.tokens is None:
        rows = int(config.trainer.get("per_device_train_batch_size", 8))
        batches = math.ceil(data.solutions / (rows * devices))
    else:
        lengths, tokens = data.all_lengths, config.batches.tokens
        try:
            batches = len(plan(lengths, tokens, config.batches.packing, devices)[1])
        except ConfigError as error:
            batches = devices * math.ceil(sum(lengths) / tokens / devices)
            notes.append(str(error))
        batches //= devices
    return math.ceil(batches / int(config.trainer.get("gradient_accumulation_steps", 1)))
