"""Scores of generative families: critiques written by an engine, verdicts read from them.

What a family asks and how it reads the answers stands in `prm.zoo`; here its courses meet an
engine: each goes on by itself where the engine takes requests at any time, and else those of a
batch go on side by side, a round of all in one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from prm import engines
from prm.engines import TOO_LONG, Completion, Engine, EngineConfig, Request
from prm.engines.base import FlowingEngine
from prm.engines.flow import Flow
from prm.records import Failure, Solution, StepScores
from prm.scorers.base import (
    Batching,
    Scored,
    ScorerConfig,
    forward_tokens,
    model_name,
    reference_kind,
    refuse_device,
    result,
    self_batching,
)
from prm.zoo import weights
from prm.zoo.critique import Asking, Course, together
from prm.zoo.entry import Threshold
from prm.zoo.family import GenerativeFamily, ReferenceKind


class GenerativeScorer:
    """Scores with a family that writes critiques.

    A step's score is the mean over those samples whose verdict is usable; a step without any makes
    its solution a failure.

    Args:
        config: see `ScorerConfig`.
        family: what the checkpoint is.
        engine: what runs it; None starts the one that the configuration names.

    Attributes:
        flow: see `FlowingScorer`; None where the engine answers a batch at a time.

    Raises:
        CheckpointError: the folder or id is no such checkpoint.
        ConfigError: a reference or a device is asked for that there is not.
        EngineError: the engine cannot load the model.
    """

    threshold: Threshold | None = None

    def __init__(
        self, config: ScorerConfig, family: GenerativeFamily, engine: Engine | None = None
    ) -> None:
        self.family = family.entry.family
        self.reference: ReferenceKind = reference_kind(
            config, "none", family=self.family, takes_reference=family.entry.takes_reference
        )
        asked = config.critique.engine
        self.name = model_name(config) if asked is None else asked.name
        self.tokens = 0
        self._critique = family.critique
        self._config = config.critique
        self._engine = engines.load(engine_config(config)) if engine is None else engine
        self.flow: Flow[Request, list[Completion], Scored] | None
        self.flow = (
            cast(FlowingEngine, self._engine).flow if hasattr(self._engine, "flow") else None
        )
        self.batching = _batching(config)

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        """See `StepScorer.score_each`.

        Raises:
            EngineError: the engine died.
        """
        courses = map(self.course, batch)
        if self.flow is not None:
            return [found for found, _ in self.flow.run(courses)]
        course = together([*courses])
        answers: list[list[Completion]] | None = None
        while True:
            try:
                requests = next(course) if answers is None else course.send(answers)
            except StopIteration as end:
                return [found for found, _ in end.value]
            answers = self._engine.generate(requests)

    def course(self, solution: Solution) -> Course[Scored]:
        """See `FlowingScorer.course`."""
        critique = self._critique(solution.problem, solution.steps, self._asking(solution))
        tokens = 0
        answers: list[list[Completion]] | None = None
        while True:
            try:
                requests = next(critique) if answers is None else critique.send(answers)
            except StopIteration as end:
                outcome = end.value
                break
            answers = yield requests
            read = sum(map(_tokens, answers))
            tokens += read
            self.tokens += read
        if isinstance(outcome, str):
            return Failure(id=solution.id, reason=outcome), tokens
        return result(solution, self.name, outcome), tokens

    def close(self) -> None:
        """See `ModelScorer.close`."""
        self._engine.close()

    def _asking(self, solution: Solution) -> Asking:
        return Asking(
            key=solution.id,
            samples=self._config.samples,
            temperature=self._config.temperature,
            max_tokens=self._config.max_tokens,
        )


def _tokens(completions: Sequence[Completion]) -> int:
    """How many were read and written for a request, whose samples share its prompt."""
    first = completions[0]
    prompt = 0 if first.finish_reason == TOO_LONG else first.prompt_tokens
    return prompt + sum(one.completion_tokens for one in completions)


def _batching(config: ScorerConfig) -> Batching:
    engine = config.critique.engine
    if (config.backend if engine is None else engine.kind) != "transformers":
        return self_batching(config)
    from prm.scorers.transformers import choose_device

    return Batching(forward_tokens(config, choose_device(config.device)), pads=True)


def engine_config(config: ScorerConfig) -> EngineConfig:
    """The engine that a scorer's configuration names: `critique.engine`, else the model's own.

    Raises:
        CheckpointError: the folder or id has no weights, or only pickles.
        ConfigError: vLLM is told a device.
    """
    if config.critique.engine is not None:
        return config.critique.engine
    if config.backend == "vllm":
        refuse_device(config)
    folder = weights.locate(config.model, config.revision)
    weights.require_safetensors(folder)
    options = dict(config.options) if config.backend == "vllm" else {}
    if config.device != "auto":
        options["device_map"] = config.device
    return EngineConfig(
        model=str(folder),
        kind=config.backend,
        dtype=config.dtype,
        max_model_len=config.max_length,
        options=options,
    )
