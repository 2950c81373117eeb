"""Labelled solutions as training examples: leak check, held-out split, rendering.

Texts need not fit into memory: a `SolutionFile` keeps the places of its solutions and reads one
when it is asked for, and a `StepDataset` renders it then.
"""

from __future__ import annotations

import copy
import hashlib
import math
import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypedDict, TypeVar, overload

from torch.utils.data import Dataset

from prm import jsonl
from prm.errors import CheckpointError, RecordError
from prm.records import Failure, LabelledSolution, problem_key
from prm.render import Rendered, Renderer
from prm.scorers.base import reference_text
from prm.train.losses import IGNORE, LossConfig
from prm.train.targets import targets
from prm.zoo.family import ReferenceKind

TOO_LONG = "too long"
"""Reason of a solution set aside: more tokens than `max_length`."""

NO_LOSS = "no step to learn from"
"""Reason of a solution set aside: the loss leaves out every step, or weighs it 0."""


class SolutionFile(Sequence[LabelledSolution]):
    """Solutions of a JSON Lines file that `jsonl.write` made, read when they are asked for.

    In memory stand 8 bytes a solution. Processes and data-loader workers may share one: each
    reading opens the file anew. The file must stay as it is.

    Args:
        path: the file, of `LabelledSolution` records.

    Raises:
        RecordError: there is no such file or, when a solution is asked for, what stands in its
            place is none.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._places = array("Q")
        place = 0
        with self._open() as file:
            for line in file:
                self._places.append(place)
                place += len(line)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> LabelledSolution: ...
    @overload
    def __getitem__(self, index: slice) -> SolutionFile: ...
    def __getitem__(self, index: int | slice) -> LabelledSolution | SolutionFile:
        if isinstance(index, slice):
            return self.select(range(len(self))[index])
        return next(self._read([self._places[index]]))

    def __iter__(self) -> Iterator[LabelledSolution]:
        return self._read(self._places)

    def select(self, indices: Iterable[int]) -> SolutionFile:
        """Some of the solutions, in the order of the indices."""
        part = copy.copy(self)
        part._places = array("Q", (self._places[index] for index in indices))
        return part

    def _open(self) -> BinaryIO:
        # Of several processes the main one takes the file away when it refuses to train.
        try:
            return open(self.path, "rb")
        except OSError as error:
            raise RecordError(f"cannot be read ({error.strerror})", path=self.path) from None

    def _read(self, places: Iterable[int]) -> Iterator[LabelledSolution]:
        with self._open() as file:
            for place in places:
                file.seek(place)
                yield jsonl.decode(file.readline(), LabelledSolution, path=self.path)


class Example(TypedDict):
    """One rendered solution; a dict because that is what the Trainer's samplers measure.

    Attributes:
        input_ids: token ids.
        step_ends: for each step where its score is read.
        labels: one soft label per step, `IGNORE` where the loss leaves a step out.
        weights: one weight per step.
    """

    input_ids: list[int]
    step_ends: list[int]
    labels: list[float]
    weights: list[float]


class StepDataset(Dataset[Example]):
    """Renders labelled solutions, with or without the reference, anew each epoch.

    Whether an item keeps its reference depends on seed, epoch and id alone, so a resumed run
    sees what an uninterrupted one would have seen. Every solution is rendered once when the
    data set is made, so what cannot be trained on shows before the first step.

    Args:
        items: the solutions; each is read again when it is asked for.
        renderer: the project's renderer.
        loss: which steps carry which label and weight.
        reference: what stands in the reference's place.
        reference_drop: probability of leaving it out; 0 always keeps it.
        seed: of the drops.
        too_long: `drop` sets solutions of more than `max_length` tokens aside; `refuse` raises.

    Attributes:
        lengths: tokens of each example, with the reference or without, whichever is longer.
        rejected: the solutions set aside, each with `TOO_LONG` or `NO_LOSS` as its reason.
        epoch: which draw of the drops; set it before the epoch begins.

    Raises:
        RecordError: naming the solution: it does not fit `max_length` (labels are never cut
            off), or a label or weight is none.
        CheckpointError: with this tokenizer a step does not end in its step end.
    """

    def __init__(
        self,
        items: Sequence[LabelledSolution],
        renderer: Renderer,
        *,
        loss: LossConfig,
        reference: ReferenceKind,
        reference_drop: float,
        seed: int,
        too_long: Literal["refuse", "drop"] = "refuse",
    ) -> None:
        self._items = items
        self._renderer = renderer
        self._loss = loss
        self._reference = reference
        self._drop = reference_drop
        self._seed = seed
        self._kept = array("Q")
        self.lengths: list[int] = []
        self.rejected: list[Failure] = []
        self.epoch = 0
        for index, item in enumerate(items):
            if not any(_learns(*pair) for pair in zip(*self._targets(item), strict=True)):
                self.rejected.append(Failure(id=item.id, reason=NO_LOSS))
                continue
            try:
                length = self._longest(item)
            except RecordError as error:  # a solution has steps, so nothing else is refused
                if too_long == "refuse":
                    hint = "`too_long: drop` sets such solutions aside"
                    raise RecordError(f"solution {item.id!r}: {error}. {hint}") from None
                self.rejected.append(Failure(id=item.id, reason=TOO_LONG))
                continue
            self._kept.append(index)
            self.lengths.append(length)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Example:
        item = self.solution(index)
        draw = random.Random(f"{self._seed}/{self.epoch}/{item.id}").random()
        rendered = self._render(item, keep=draw >= self._drop)
        labels, weights = self._targets(item)
        return Example(
            input_ids=rendered.input_ids,
            step_ends=rendered.step_ends,
            labels=labels,
            weights=weights,
        )

    def solution(self, index: int) -> LabelledSolution:
        """The solution that an example shows."""
        return self._items[self._kept[index]]

    def solutions(self) -> Iterator[LabelledSolution]:
        """The solutions that the examples show, in their order."""
        return map(self.solution, range(len(self)))

    def without_references(self) -> StepDataset:
        """The same examples, references always left out."""
        other = copy.copy(self)
        other._drop = 1.0
        return other

    def _longest(self, item: LabelledSolution) -> int:
        with_reference = self._render(item, keep=True)
        reference = reference_text(item.solution, self._reference)
        if reference is None:
            return len(with_reference.input_ids)
        # A short answer takes fewer tokens than the sentence that there is none. The two forms
        # differ in the user turn alone, so one blank step shows which is longer.
        shown, left_out = (
            len(self._renderer.render(item.solution.problem, [""], text).input_ids)
            for text in (reference, None)
        )
        longer = with_reference if shown >= left_out else self._render(item, keep=False)
        return len(longer.input_ids)

    def _render(self, item: LabelledSolution, *, keep: bool) -> Rendered:
        solution = item.solution
        reference = reference_text(solution, self._reference) if keep else None
        rendered = self._renderer.render(solution.problem, solution.steps, reference)
        _require_step_ends(rendered, len(solution.steps), self._renderer.step_end_ids, item.id)
        return rendered

    def _targets(self, item: LabelledSolution) -> tuple[list[float], list[float]]:
        labels, weights = targets(item, self._loss)
        _require_targets(labels, weights, len(item.solution.steps), item.id)
        return labels, weights


def _learns(label: float, weight: float) -> bool:
    return label != IGNORE and weight > 0


def _require_step_ends(rendered: Rendered, steps: int, end: Sequence[int], id: str) -> None:
    """Refuse a rendering whose labels would not stand at the ends of their steps."""
    if len(rendered.step_ends) != steps:
        raise CheckpointError(
            f"solution {id!r}: {len(rendered.step_ends)} step ends for {steps} steps with this "
            "tokenizer; choose another render.step_end"
        )
    before = -1
    for index, place in enumerate(rendered.step_ends):
        begin = place + 1 - len(end)
        if begin <= before or rendered.input_ids[begin : place + 1] != list(end):
            raise CheckpointError(
                f"solution {id!r}: step {index} does not end in its step end with this tokenizer; "
                "choose another render.step_end"
            )
        before = place


def _require_targets(
    labels: Sequence[float], weights: Sequence[float], steps: int, id: str
) -> None:
    """Refuse labels and weights that a loss cannot take."""
    if not len(labels) == len(weights) == steps:
        raise RecordError(
            f"solution {id!r}: {len(labels)} labels and {len(weights)} weights for {steps} steps"
        )
    for index, (label, weight) in enumerate(zip(labels, weights, strict=True)):
        if label != IGNORE and not 0.0 <= label <= 1.0:  # true of NaN, too
            raise RecordError(
                f"solution {id!r}: the label of step {index} is {label}; it must lie in [0, 1]"
            )
        if not 0.0 <= weight < math.inf:
            raise RecordError(
                f"solution {id!r}: the weight of step {index} is {weight}; it must be finite and "
                "not below 0"
            )


def fit_tokenizer(tokenizer: Any, vocabulary: int) -> None:
    """Give a tokenizer a padding token where it has none, and check it against the model.

    Padding is masked, so the end token may stand for it.

    Args:
        tokenizer: a Hugging Face tokenizer.
        vocabulary: how many token ids the model knows (its configuration's `vocab_size`).

    Raises:
        CheckpointError: there is neither a padding nor an end token, or there are ids that the
            model does not know.
    """
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise CheckpointError(
                "the tokenizer has neither a padding nor an end token; set pad_token in its "
                "tokenizer_config.json"
            )
        tokenizer.pad_token = tokenizer.eos_token
    needed = max(tokenizer.get_vocab().values()) + 1
    if needed > vocabulary:
        raise CheckpointError(
            f"the tokenizer has {needed} token ids, the model's vocabulary {vocabulary}; take the "
            "model's own tokenizer, or resize the model's embeddings"
        )


S = TypeVar("S", list[LabelledSolution], SolutionFile)


def separate_leaks(items: S, benchmark: Iterable[str]) -> tuple[S, S]:
    """Set apart the solutions whose problem occurs among the benchmarks' problem texts.

    Two texts are one problem if they have the same letters and digits in the same order
    (`problem_key`): other case, spaces, punctuation and signs change nothing. Not caught are a
    problem that is reworded, translated, or has other names, numbers or notation, and one that
    is a part of a longer text.

    Returns:
        the clean solutions and the leaked ones, each in the order given.
    """
    keys = {problem_key(text) for text in benchmark}
    return _divide(items, (problem_key(item.solution.problem) in keys for item in items))


def split(items: S, held_out: float, seed: int) -> tuple[S, S]:
    """Split by problem: all solutions of a problem go to the same side.

    A problem's side depends on its text and the seed alone, so adding data moves nothing.

    Returns:
        the training items and the held-out ones, each in the order given.
    """
    return _divide(items, (_share(item, seed) < held_out for item in items))


def _share(item: LabelledSolution, seed: int) -> float:
    """A number in [0, 1) that a problem and a seed fix."""
    digest = hashlib.sha256(f"{seed}/{problem_key(item.solution.problem)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _divide(items: S, apart: Iterable[bool]) -> tuple[S, S]:
    sides = array("Q"), array("Q")
    for index, other in enumerate(apart):
        sides[other].append(index)
    if isinstance(items, SolutionFile):
        return items.select(sides[0]), items.select(sides[1])
    return [items[index] for index in sides[0]], [items[index] for index in sides[1]]
