"""Labelled solutions as training batches: leak check, held-out split, rendering."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from typing import TypedDict

import torch
from torch.utils.data import Dataset

from prm.errors import RecordError
from prm.records import LabelledSolution, problem_key
from prm.render import Renderer
from prm.score import pad_batch
from prm.train.losses import IGNORE
from prm.zoo.aurora import ReferenceKind, reference_text


class Example(TypedDict):
    """One rendered solution; a dict because that is what the Trainer's samplers measure.

    Attributes:
        input_ids: token ids.
        step_ends: where the labels belong.
        labels: one soft label per step.
        weight: trust in this solution.
    """

    input_ids: list[int]
    step_ends: list[int]
    labels: tuple[float, ...]
    weight: float


class StepDataset(Dataset[Example]):
    """Renders labelled solutions, with or without the reference, anew each epoch.

    Whether an item keeps its reference depends on seed, epoch and id alone, so a resumed run
    sees what an uninterrupted one would have seen.

    Args:
        items: the solutions.
        renderer: the project's renderer.
        reference: what stands in the reference's place.
        reference_drop: probability of leaving it out; 0 always keeps it.
        seed: of the drops.

    Raises:
        RecordError: an item does not fit `max_length`, with the solution's id. Labels are never
            cut off.
    """

    def __init__(
        self,
        items: Sequence[LabelledSolution],
        renderer: Renderer,
        *,
        reference: ReferenceKind,
        reference_drop: float,
        seed: int,
    ) -> None:
        self._items = items
        self._renderer = renderer
        self._reference = reference
        self._drop = reference_drop
        self._seed = seed
        self.epoch = 0
        for item in items:
            self._render(item, keep=True)  # the longer form: refuse before the first step

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Example:
        item = self._items[index]
        draw = random.Random(f"{self._seed}/{self.epoch}/{item.id}").random()
        return self._render(item, keep=draw >= self._drop)

    def _render(self, item: LabelledSolution, *, keep: bool) -> Example:
        solution = item.solution
        reference = reference_text(solution, self._reference) if keep else None
        try:
            rendered = self._renderer.render(solution.problem, solution.steps, reference)
        except RecordError as error:
            raise RecordError(f"solution {item.id!r}: {error}") from None
        return Example(
            input_ids=rendered.input_ids,
            step_ends=rendered.step_ends,
            labels=item.labels,
            weight=item.weight,
        )


def collate(examples: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """A batch for the trainer.

    Returns:
        `input_ids`, `attention_mask` `[batch, tokens]` int64; `labels` `[batch, tokens]`
        float32, the soft label at each step end, `IGNORE` elsewhere; `weights` `[batch]`.
    """
    ids, mask = pad_batch([example["input_ids"] for example in examples], pad_id)
    labels = torch.full(ids.shape, IGNORE, dtype=torch.float32)
    for row, example in enumerate(examples):
        labels[row, example["step_ends"]] = torch.tensor(example["labels"], dtype=torch.float32)
    weights = torch.tensor([example["weight"] for example in examples], dtype=torch.float32)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "weights": weights}


def separate_leaks(
    items: Iterable[LabelledSolution], benchmark: Iterable[str]
) -> tuple[list[LabelledSolution], list[LabelledSolution]]:
    """Set apart the solutions whose problem occurs among the benchmark's problem texts.

    Returns:
        the clean solutions and the leaked ones, each in the order given.
    """
    keys = {problem_key(text) for text in benchmark}
    clean: list[LabelledSolution] = []
    leaked: list[LabelledSolution] = []
    for item in items:
        (leaked if problem_key(item.solution.problem) in keys else clean).append(item)
    return clean, leaked


def split(
    items: Sequence[LabelledSolution], held_out: float, seed: int
) -> tuple[list[LabelledSolution], list[LabelledSolution]]:
    """Split by problem: all solutions of a problem go to the same side.

    A problem's side depends on its text and the seed alone, so adding data moves nothing.

    Returns:
        the training items and the held-out ones, each in the order given.
    """
    train: list[LabelledSolution] = []
    rest: list[LabelledSolution] = []
    for item in items:
        digest = hashlib.sha256(f"{seed}/{problem_key(item.solution.problem)}".encode()).digest()
        share = int.from_bytes(digest[:8], "big") / 2**64
        (rest if share < held_out else train).append(item)
    return train, rest
