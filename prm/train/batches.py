"""Batches: solutions padded to rows of equal length, or packed into one row without padding.

A batch (`Batch`) is a dict of tensors, `[rows, tokens]` each:

    input_ids       int64
    attention_mask  int64; padded batches alone
    position_ids    int64; packed batches alone (one row): they restart at 0 at each solution
    labels          float32; a step's label at the step's end, `IGNORE` elsewhere
    weights         float32; a step's weight at the step's end, 0 elsewhere
    groups          int64; at a step's end the solution's place in the batch, -1 elsewhere

How solutions come together is either the Trainer's affair (so many a device), or that of
`TokenBatches` (so many tokens a device).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Sampler
from transformers import TrainingArguments

from prm.errors import ConfigError
from prm.scorers.transformers import pad_batch
from prm.train.data import Example
from prm.train.losses import IGNORE

Batch = dict[str, torch.Tensor]

_GRAIN = 16
"""Lengths are compared in units of at most so many tokens: solutions of about equal length change
places from epoch to epoch."""


@dataclass
class BatchConfig:
    """How solutions come together in batches.

    Attributes:
        packing: whether a batch is one row without padding. It changes no score.
        tokens: most tokens that a device reads in one forward pass (a padded batch counts its
            padding), unless a single solution has more; None counts solutions instead:
            `trainer.per_device_train_batch_size`.
    """

    packing: bool = True
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.tokens is not None and self.tokens < 1:
            raise ValueError(f"tokens is {self.tokens}; it must be at least 1, or null")


def collate_padded(examples: Sequence[Example], pad_id: int) -> Batch:
    """One row for each solution, padded on the right."""
    ids, mask = pad_batch([example["input_ids"] for example in examples], pad_id)
    batch = _blank(ids)
    for row, example in enumerate(examples):
        _fill(batch, example, row=row, start=0, group=row)
    return {"input_ids": ids, "attention_mask": mask, **batch}


def collate_packed(examples: Sequence[Example]) -> Batch:
    """All solutions in one row, without padding.

    There is no attention mask: `prm.attention` keeps the solutions apart.
    """
    ids = torch.tensor([[id for example in examples for id in example["input_ids"]]])
    lengths = [len(example["input_ids"]) for example in examples]
    batch = _blank(ids)
    start = 0
    for group, (example, length) in enumerate(zip(examples, lengths, strict=True)):
        _fill(batch, example, row=0, start=start, group=group)
        start += length
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    return {"input_ids": ids, "position_ids": positions, **batch}


def _blank(ids: torch.Tensor) -> Batch:
    return {
        "labels": torch.full(ids.shape, IGNORE, dtype=torch.float32),
        "weights": torch.zeros(ids.shape, dtype=torch.float32),
        "groups": torch.full(ids.shape, -1),
    }


def _fill(batch: Batch, example: Example, *, row: int, start: int, group: int) -> None:
    ends = torch.tensor(example["step_ends"]) + start
    batch["labels"][row, ends] = torch.tensor(example["labels"], dtype=torch.float32)
    batch["weights"][row, ends] = torch.tensor(example["weights"], dtype=torch.float32)
    batch["groups"][row, ends] = group


class Measured(Protocol):
    """What `TokenBatches` needs of a data set.

    Attributes:
        lengths: tokens of each item; of the longest form, where that differs by epoch.
        epoch: the current one, counted from 0; whoever trains keeps it true.
    """

    lengths: Sequence[int]
    epoch: int

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Example: ...


class TokenBatches(Sampler[list[int]]):
    """Batches of at most so many tokens; every item once an epoch.

    The batches of an epoch depend on seed and epoch alone, and their number not even on those:
    the Trainer plans its steps by that number, and after a checkpoint skips the batches that it
    has seen. The number is a multiple of the processes', so accelerate, which deals the batches
    out in turn, need neither repeat nor drop one.

    The epoch is the data set's own. Accelerate and the Trainer tell a sampler of the epoch, too,
    but not through two wrappers: with several processes they do not after resuming.

    Args:
        dataset: what is batched.
        tokens: most tokens a batch, unless one item alone has more.
        packing: whether items lie end to end; else each counts as much as the longest beside it.
        processes: data-parallel processes.
        seed: of the order.

    Raises:
        ConfigError: too few items to give every process as many batches as the others.
    """

    def __init__(
        self, dataset: Measured, *, tokens: int, packing: bool, processes: int, seed: int
    ) -> None:
        self._dataset = dataset
        self._seed = seed
        self._sizes, self._shapes = plan(dataset.lengths, tokens, packing, processes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __iter__(self) -> Iterator[list[int]]:
        rng = random.Random(f"{self._seed}/{self._dataset.epoch}")
        items = list(range(len(self._sizes)))
        rng.shuffle(items)
        items.sort(key=lambda item: -self._sizes[item])  # stable: equal sizes stay shuffled
        batches = [[items[rank] for rank in shape] for shape in self._shapes]
        rng.shuffle(batches)
        return iter(batches)


def plan(
    lengths: Sequence[int], tokens: int, packing: bool, processes: int
) -> tuple[list[int], list[list[int]]]:
    """Which sizes come together; see `TokenBatches`.

    Returns:
        the lengths in coarser units, in their order; and for each batch its members, by their
        places among those sizes in descending order.

    Raises:
        ConfigError: as `TokenBatches`.
    """
    grain = max(1, min(_GRAIN, tokens // 512))
    # Rounded up, but no further than what still fits.
    sizes = [min(-(-length // grain) * grain, max(length, tokens)) for length in lengths]
    shapes = (_packed if packing else _padded)(sorted(sizes, reverse=True), tokens, processes)
    if shapes is None:
        raise ConfigError(
            f"batches.tokens {tokens}: {len(sizes)} solutions do not make as many batches for "
            f"each of {processes} processes; raise it, or use fewer processes"
        )
    return sizes, shapes


def _packed(sizes: Sequence[int], tokens: int, processes: int) -> list[list[int]] | None:
    """Places in `sizes` (descending) that make a batch each; about as many tokens in every batch.

    The largest goes first, always to the batch with the fewest tokens. So devices that work side
    by side on batches drawn at random finish at about the same time.
    """
    alone = sum(size > tokens for size in sizes)
    rest = range(alone, len(sizes))
    fewest = max(
        -(-sum(sizes[alone:]) // tokens),
        sum(2 * size > tokens for size in sizes[alone:]),  # no two of these share a batch
    )
    most = (len(sizes) // processes) * processes - alone
    count = -(-(alone + fewest) // processes) * processes - alone
    while count <= most:
        loads = [(0, batch) for batch in range(count)]
        shapes: list[list[int]] = [[] for _ in loads]
        for place in rest:
            load, batch = loads[0]
            heapq.heapreplace(loads, (load + sizes[place], batch))
            shapes[batch].append(place)
        if all(load <= tokens for load, _ in loads):
            return [[place] for place in range(alone)] + shapes
        if count == most:
            break
        count = min(count + max(1, count // (100 * processes)) * processes, most)
    return None


def _padded(sizes: Sequence[int], tokens: int, processes: int) -> list[list[int]] | None:
    """Places in `sizes` (descending) that make a batch each: neighbours, hence of like length."""
    shapes: list[list[int]] = []
    place = 0
    while place < len(sizes):
        rows = max(1, tokens // sizes[place])
        shapes.append(list(range(place, min(place + rows, len(sizes)))))
        place += rows
    while len(shapes) % processes:
        batch = max(shapes, key=lambda shape: (len(shape) > 1, len(shape) * sizes[shape[0]]))
        if len(batch) == 1:
            return None
        shapes.append(batch[len(batch) // 2 :])
        del batch[len(batch) // 2 :]
    return shapes


def train_loader(
    dataset: Measured,
    config: BatchConfig,
    arguments: TrainingArguments,
    collate: Callable[[Sequence[Example]], Batch],
    accelerator: Accelerator,
    groups: int,
) -> DataLoader[Any]:
    """The loader of training batches by `config.tokens`, for `Trainer.get_train_dataloader`.

    Args:
        dataset: what to train on.
        config: with `tokens` set.
        arguments: the Trainer's; its keys for loaders hold, but for batch size and sampler.
        collate: makes a batch of examples.
        accelerator: deals the batches out to the processes.
        groups: of processes that are to have batches of their own.

    Raises:
        ConfigError: as `TokenBatches`.
    """
    assert config.tokens is not None  # the caller's plain route otherwise
    batches = TokenBatches(
        dataset,
        tokens=config.tokens,
        packing=config.packing,
        processes=groups,
        seed=arguments.seed if arguments.data_seed is None else arguments.data_seed,
    )
    loader: DataLoader[Any] = DataLoader(
        dataset,  # type: ignore[arg-type]  # torch asks for no more than its two methods
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=arguments.dataloader_num_workers,
        pin_memory=arguments.dataloader_pin_memory,
        prefetch_factor=arguments.dataloader_prefetch_factor,
    )
    prepared: DataLoader[Any] = accelerator.prepare(loader)
    return prepared
