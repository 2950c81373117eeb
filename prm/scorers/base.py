"""The one interface to whatever scores steps, and the configuration that names it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

from prm.config import MAY_CHANGE
from prm.engines import EngineConfig
from prm.engines.base import CPU_TOKENS
from prm.engines.flow import Course, Flow
from prm.errors import ConfigError, RecordError
from prm.records import Failure, Solution, StepScores, steps_digest
from prm.zoo.entry import Backend, Threshold
from prm.zoo.family import Format, ReferenceKind

ReferenceChoice = Literal["declared", "worked", "answer", "none"]
"""What may be asked for of the reference: a `ReferenceKind`, or as the checkpoint declares."""


GPU_TOKENS = 16384

SELF_BATCHING = 8
"""How many forwards' worth of tokens an engine is handed at a time that batches by itself: enough
to be busy, and not so much that whoever comes next waits long."""


class StepScorer(Protocol):
    """Whatever scores steps: a local model, an engine, a remote server.

    Attributes:
        name: the model, as scores record it.
    """

    name: str

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        """One result per solution, in order: all of its scores, or the reason why there are none.

        Never a cut, partial or non-finite score.
        """
        ...


@dataclass(frozen=True)
class Batching:
    """What a model is best handed at a time, by whoever can choose.

    Attributes:
        tokens: how many, at least 1; more are done in parts, or wait within an engine.
        pads: whether sequences are padded to the longest, so that they had better be alike.
    """

    tokens: int
    pads: bool


class ModelScorer(StepScorer, Protocol):
    """A step scorer that runs a model of the zoo.

    Attributes:
        family: the model's family.
        reference: what the model is told of the reference.
        tokens: how many tokens the model has read so far, padding left out.
        batching: what it is best handed at a time.
    """

    family: str
    reference: ReferenceKind
    tokens: int
    batching: Batching

    @property
    def threshold(self) -> Threshold | None:
        """The cut that is declared for this use, if any."""
        ...

    def close(self) -> None:
        """Free the model's memory; the scorer is of no use afterwards."""
        ...


Scored = tuple[StepScores | Failure, int]
"""What came of a solution, and how many tokens the model read and wrote for it."""


class FlowingScorer(ModelScorer, Protocol):
    """A scorer that takes solutions up while others are under way. For one thread.

    Attributes:
        flow: its one way to the engine; `score_each` uses it too.
    """

    flow: Flow[Any, Any, Scored]

    def course(self, solution: Solution) -> Course[Any, Any, Scored]:
        """What is asked of the engine about a solution, for `flow`."""
        ...


def flowing(scorer: object) -> FlowingScorer | None:
    """The scorer as one that takes solutions up at any time, where it is one."""
    return cast(FlowingScorer, scorer) if getattr(scorer, "flow", None) is not None else None


@dataclass
class CritiqueConfig:
    """How a generative reward model writes.

    Attributes:
        engine: what runs it; null: the scorer's `model` on the scorer's `backend`.
        samples: critiques for each decision; their mean is the score.
        temperature: of sampling; 0 with one sample.
        max_tokens: the most that one critique may have; a longer one is a failure, or ends as its
            authors have it end.
    """

    engine: EngineConfig | None = None
    samples: int = 1
    temperature: float = 0.0
    max_tokens: int = 2048

    def __post_init__(self) -> None:
        if self.samples < 1 or self.max_tokens < 1:
            raise ValueError("samples and max_tokens start at 1")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples is {self.samples} but temperature 0 writes the same text every time"
            )


@dataclass
class ScorerConfig:
    """A checkpoint and how to run it.

    Attributes:
        model: the `model` folder that `prm train` left, another checkpoint's folder, or a Hub id.
        family: see `prm zoo`; `auto` where the checkpoint says it.
        backend: the library that runs it.
        revision: the commit, tag or branch of a Hub id.
        device: a torch device; `auto` takes a GPU where there is one.
        dtype: a torch dtype's name; `auto` keeps that of the weights.
        batch_tokens: the most tokens, padding included, of one forward, from 1; a solution
            longer than that is a batch of its own. Null: 16384, and 2048 on a CPU, whose caches
            hold no more. The server hands an engine that batches by itself eight times as many.
        max_length: the most tokens of a solution; null: as many as the checkpoint was made for.
        reference: what the model is told of the reference; `declared` as in training.
        base: the model that a family of two (a policy and what it started from) is held against.
        critique: for generative families.
        options: passed to `vllm.LLM` as they are, where `backend` is vllm.
    """

    model: str
    family: str = "auto"
    backend: Backend = "transformers"
    revision: str | None = None
    device: str = field(default="auto", metadata=MAY_CHANGE)
    dtype: str = "auto"
    batch_tokens: int | None = field(default=None, metadata=MAY_CHANGE)
    max_length: int | None = None
    reference: ReferenceChoice = "declared"
    base: str | None = None
    critique: CritiqueConfig = field(default_factory=CritiqueConfig)
    options: dict[str, Any] = field(default_factory=dict, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise ConfigError(f"batch_tokens is {self.batch_tokens}; it must be at least 1")
        if self.max_length is not None and self.max_length < 1:
            raise ConfigError(f"max_length is {self.max_length}; it must be at least 1")
        if self.reference not in get_args(ReferenceChoice):
            kinds = ", ".join(get_args(ReferenceChoice))
            raise ConfigError(f"reference is {self.reference!r}; choose one of {kinds}")


@dataclass(frozen=True, kw_only=True)
class Draft(Solution):
    """A solution that stands in no file, so its texts may be anything, blank ones included: a step
    gets its score whatever it says."""

    def __post_init__(self) -> None:
        pass


def score(
    scorer: StepScorer, problem: str, steps: Sequence[str], reference: str | None = None
) -> list[float]:
    """One score per step of one solution.

    Args:
        scorer: see `prm.scorers.load`.
        problem: the question.
        steps: the reasoning.
        reference: the reference answer or worked solution; a family that takes none does not
            see it.

    Raises:
        RecordError: the solution cannot be scored, and why; or an argument is no text, or one
            text where steps are needed.
    """
    if isinstance(steps, str) or not isinstance(steps, Sequence):
        kind = type(steps).__name__
        raise RecordError(
            f"a list of texts is needed, one for each step; not {kind}", field="steps"
        )
    if not steps:
        raise RecordError("no steps to score", field="steps")
    _require_text(problem, "problem")
    for index, step in enumerate(steps):
        _require_text(step, f"steps.{index}")
    if reference is not None:
        _require_text(reference, "reference")
    solution = Draft(
        id="solution", problem=problem, steps=tuple(steps), answer=reference, reference=reference
    )
    return list(score_all(scorer, [solution])[0].scores)


def _require_text(value: object, field: str) -> None:
    if not isinstance(value, str):
        raise RecordError(f"a text is needed, not {type(value).__name__}", field=field)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        lone = value[error.start]
        raise RecordError(
            f"{lone!r} at character {error.start} is half a surrogate pair and no text; replace it",
            field=field,
        ) from None


def score_all(scorer: StepScorer, batch: Sequence[Solution]) -> list[StepScores]:
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


def reference_text(solution: Solution, kind: ReferenceKind) -> str | None:
    """The text that stands for the reference of a solution, or None."""
    if kind == "none":
        return None
    if kind == "worked" and solution.reference is not None:
        return solution.reference
    return solution.answer


def reference_kind(
    config: ScorerConfig, declared: ReferenceKind, *, family: str, takes_reference: bool
) -> ReferenceKind:
    """What a scorer tells its model of references.

    Raises:
        ConfigError: the family takes none and one is asked for.
    """
    wanted: ReferenceKind = declared if config.reference == "declared" else config.reference
    if wanted != "none" and not takes_reference:
        raise ConfigError(
            f"{config.model}: reference is {wanted!r}, but family {family} takes no reference; "
            "leave it out"
        )
    return wanted


def forward_tokens(config: ScorerConfig, device: str) -> int:
    """The most tokens of one forward on a device."""
    if config.batch_tokens is not None:
        return config.batch_tokens
    return CPU_TOKENS if device == "cpu" else GPU_TOKENS


def self_batching(config: ScorerConfig) -> Batching:
    """What an engine is handed that forms its own batches."""
    return Batching(SELF_BATCHING * (config.batch_tokens or GPU_TOKENS), pads=False)


def declared_threshold(format: Format, reference: ReferenceKind) -> Threshold | None:
    """The cut that a checkpoint declares for a use with this kind of reference."""
    withheld = reference == "none" and format.reference != "none"
    return format.threshold_without_reference if withheld else format.threshold


def refuse_device(config: ScorerConfig) -> None:
    """Refuse a device where vLLM runs the model.

    Raises:
        ConfigError: one is asked for.
    """
    if config.device != "auto":
        raise ConfigError(
            f"device is {config.device!r}, but vLLM takes the machine's; leave it out with "
            "backend vllm"
        )


def result(solution: Solution, model: str, values: Sequence[float]) -> StepScores | Failure:
    """The record of a solution's scores, or its failure where they are not what they must be."""
    if len(values) != len(solution.steps):
        return Failure(
            id=solution.id, reason=f"{len(values)} scores for {len(solution.steps)} steps"
        )
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


def token_batches(lengths: Sequence[int], batching: Batching) -> Iterator[list[int]]:
    """Group indices by length so that no group has more tokens than it may, padding included.

    A single sequence that is longer forms its own group.

    Args:
        lengths: tokens of each sequence.
        batching: what a group may be.
    """
    group: list[int] = []
    held = 0
    # Longest first: the group's first member is its width, and memory peaks at the start.
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        padded = batching.pads and group
        held = lengths[group[0]] * (len(group) + 1) if padded else held + lengths[index]
        if group and held > batching.tokens:
            yield group
            group, held = [], lengths[index]
        group.append(index)
    if group:
        yield group


def model_name(config: ScorerConfig) -> str:
    """The model, as scores record it: a Hub id with its revision, or a run's name."""
    path = Path(config.model)
    if not path.exists():
        return f"{config.model}@{config.revision}" if config.revision else config.model
    path = path.resolve()
    return path.parent.name if path.name == "model" else path.name
