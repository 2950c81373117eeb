"""Scores of generative families: critiques written by an engine, verdicts read from them.

What a family asks and how it reads the answers stands in `prm.zoo`; here its courses meet an
engine. The critiques of a whole batch go on side by side, each round of all in one call.
"""

from __future__ import annotations

from collections.abc import Sequence

from prm import engines
from prm.engines import TOO_LONG, Completion, Engine, EngineConfig, Request
from prm.records import Failure, Solution, StepScores
from prm.scorers.base import (
    Batching,
    ScorerConfig,
    forward_tokens,
    model_name,
    reference_kind,
    refuse_device,
    result,
    self_batching,
)
from prm.zoo import weights
from prm.zoo.critique import Asking, together
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
        self.batching = _batching(config)

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        """See `StepScorer.score_each`.

        Raises:
            EngineError: the engine died.
        """
        course = together(
            [
                self._critique(solution.problem, solution.steps, self._asking(solution))
                for solution in batch
            ]
        )
        answers: list[list[Completion]] | None = None
        while True:
            try:
                requests = next(course) if answers is None else course.send(answers)
            except StopIteration as end:
                outcomes = end.value
                break
            answers = self._ask(requests)
        return [
            Failure(id=solution.id, reason=outcome)
            if isinstance(outcome, str)
            else result(solution, self.name, outcome)
            for solution, outcome in zip(batch, outcomes, strict=True)
        ]

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

    def _ask(self, requests: Sequence[Request]) -> list[list[Completion]]:
        answers = self._engine.generate(requests)
        for completions in answers:
            if completions[0].finish_reason != TOO_LONG:
                # The samples of one request share its prompt.
                self.tokens += completions[0].prompt_tokens
            self.tokens += sum(one.completion_tokens for one in completions)
        return answers


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
