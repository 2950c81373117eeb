"""Scores for every step of a solution: one forward per solution, one score per step.

A `StepScorer` turns solutions into `StepScores`, or into a `Failure` with the reason: never a
cut, partial or non-finite score. `TransformersScorer` runs our own checkpoints in process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from prm import jsonl
from prm.config import MAY_CHANGE
from prm.errors import ConfigError, RecordError
from prm.progress import track
from prm.records import Failure, Solution, StepScores, steps_digest
from prm.render import Rendered
from prm.run import Counts, Run
from prm.sources import Source, identify, solutions
from prm.zoo import aurora

if TYPE_CHECKING:
    import torch


class StepScorer(Protocol):
    """Whatever scores steps: a local model, an engine, a remote server."""

    name: str

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        """One result per solution, in order."""
        ...


@dataclass
class ScorerConfig:
    """A checkpoint and how to run it.

    Attributes:
        model: the `model` folder that `prm train` left.
        device: a torch device; `auto` takes a GPU where there is one.
        dtype: a torch dtype's name; `auto` keeps that of the weights.
        batch_tokens: the most tokens, padding included, of one forward, from 1; a solution
            longer than that is a batch of its own.
        reference: what the model is told of the reference; `declared` as in training.
    """

    model: str
    device: str = field(default="auto", metadata=MAY_CHANGE)
    dtype: str = "auto"
    batch_tokens: int = field(default=16384, metadata=MAY_CHANGE)
    reference: Literal["declared", "worked", "answer", "none"] = "declared"

    def __post_init__(self) -> None:
        if self.batch_tokens < 1:
            raise ValueError(f"batch_tokens is {self.batch_tokens}; it must be at least 1")


class TransformersScorer:
    """Scores with one of our checkpoints on transformers.

    Args:
        config: see `ScorerConfig`.

    Raises:
        CheckpointError: the folder is not one of our checkpoints.
        ConfigError: no such device or dtype.
    """

    def __init__(self, config: ScorerConfig) -> None:
        import torch

        device = config.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if config.dtype != "auto" and not isinstance(
            getattr(torch, config.dtype, None), torch.dtype
        ):
            raise ConfigError(
                f"dtype {config.dtype!r} is no torch dtype; use auto, float32 or bfloat16"
            )
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(f"device {device!r}: this torch has no CUDA device; use auto or cpu")
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError):  # the latter from a torch built without a backend
            raise ConfigError(
                f"device {device!r} is no torch device here; use auto, cpu or cuda"
            ) from None
        self.model, self.renderer, self.declaration = aurora.load(
            config.model, device=device, dtype=config.dtype
        )
        self.name = _model_name(config.model)
        self.reference: aurora.ReferenceKind = (
            self.declaration.reference if config.reference == "declared" else config.reference
        )
        self._batch_tokens = config.batch_tokens
        pad = self.model.config.pad_token_id
        self._pad_id = 0 if pad is None else int(pad)

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        """Score solutions; the batches formed inside do not change a score beyond rounding.

        Returns:
            One `StepScores`, or `Failure` where a solution does not fit the model, per
            solution and in the order given.
        """
        results: list[StepScores | Failure | None] = [None] * len(batch)
        rendered: list[tuple[int, Rendered]] = []
        for index, solution in enumerate(batch):
            reference = aurora.reference_text(solution, self.reference)
            try:
                item = self.renderer.render(solution.problem, solution.steps, reference)
                rendered.append((index, item))
            except RecordError as error:
                results[index] = Failure(id=solution.id, reason=str(error))
        for group in token_batches(
            [len(item.input_ids) for _, item in rendered], self._batch_tokens
        ):
            scores = self._forward([rendered[index][1] for index in group])
            for index, values in zip(group, scores, strict=True):
                solution = batch[rendered[index][0]]
                results[rendered[index][0]] = _result(solution, self.name, values)
        return [result for result in results if result is not None]

    def _forward(self, group: Sequence[Rendered]) -> list[list[float]]:
        import torch

        with torch.inference_mode():
            ids, mask = pad_batch([item.input_ids for item in group], self._pad_id)
            device = self.model.device
            logits = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
            raw = aurora.raw_scores(logits).cpu()
        return [raw[row, item.step_ends].tolist() for row, item in enumerate(group)]


def score(scorer: StepScorer, batch: Sequence[Solution]) -> list[StepScores]:
    """Score solutions, all or none.

    Raises:
        RecordError: a solution cannot be scored; names it and says why.
    """
    results = []
    for result in scorer.score_each(batch):
        if isinstance(result, Failure):
            raise RecordError(f"solution {result.id!r}: {result.reason}")
        results.append(result)
    return results


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Group indices by length so that no group, padded to its longest, exceeds `budget` tokens.

    A single sequence longer than the budget forms its own group.
    """
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        # Longest first: the group's first member is its width, and memory peaks at the start.
        if group and lengths[group[0]] * (len(group) + 1) > budget:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def pad_batch(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad token ids on the right.

    Returns:
        ids and attention mask, both `[batch, longest]`, int64.
    """
    import torch

    width = max(len(sequence) for sequence in sequences)
    ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(sequences), width), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        mask[row, : len(sequence)] = 1
    return ids, mask


def _model_name(folder: str) -> str:
    path = Path(folder).resolve()
    return path.parent.name if path.name == "model" else path.name


def _result(solution: Solution, model: str, values: list[float]) -> StepScores | Failure:
    bad = next((index for index, value in enumerate(values) if not math.isfinite(value)), None)
    if bad is not None:
        return Failure(
            id=solution.id,
            reason=f"the model gave {values[bad]} for step {bad}; try dtype=float32",
        )
    return StepScores(
        solution_id=solution.id,
        steps_digest=steps_digest(solution),
        model=model,
        scores=tuple(values),
    )


@dataclass
class Config:
    """`prm score`: a score for every step of every solution.

    Attributes:
        out: the run folder; gets `scores.jsonl` and, where needed, `failures.jsonl`.
        source: the solutions.
        scorer: the checkpoint.
        chunk: solutions scored between two durable writes.
    """

    out: str
    source: Source
    scorer: ScorerConfig
    chunk: int = field(default=512, metadata=MAY_CHANGE)


def run(config: Config) -> Counts:
    """Score a file of solutions; resumes where an earlier attempt stopped."""
    inputs = {"source": identify(config.source), "model": aurora.identify(config.scorer.model)}
    with Run(config.out, "score", config, inputs) as folder:
        if folder.counts is not None:
            return folder.counts
        batch = list(solutions(config.source))
        scorer = TransformersScorer(config.scorer)
        with (
            jsonl.Writer(folder.path("scores.jsonl"), StepScores) as out,
            jsonl.Writer(folder.path("failures.jsonl"), Failure) as failed,
        ):
            done = {*out.finished, *failed.finished}
            todo = iter(track([item for item in batch if item.id not in done], "score"))
            while chunk := list(islice(todo, config.chunk)):
                results = scorer.score_each(chunk)
                failed.write(item for item in results if isinstance(item, Failure))
                out.write(item for item in results if isinstance(item, StepScores))
            out.commit()
            failed.commit()
        written = sum(1 for _ in jsonl.read(folder.path("scores.jsonl"), StepScores))
        rejected = len(batch) - written
        counts = Counts(
            read=len(batch),
            written=written,
            rejected={"cannot be scored": rejected} if rejected else {},
        )
        return folder.finish(counts, ["scores.jsonl", "failures.jsonl"])
