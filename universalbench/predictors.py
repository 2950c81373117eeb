"""Whatever predicts wrong steps: a checkpoint, annotators' labels, trivial baselines.

A predictor gives one score per step; a step counts as wrong where its score lies below a
threshold. Where the threshold comes from is declared with the predictor:

| threshold  | the cut                                                                    |
|------------|----------------------------------------------------------------------------|
| a number   | that number                                                                |
| `declared` | the checkpoint's own, chosen on its held-out training problems             |
| a task     | the cut with the best metric on that task of the same run, used on all     |
| not given  | 0.5; a step's length, which is no probability, needs a task                |

A solution that a checkpoint cannot score (too long for it) counts as a miss; every table says
how many there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from prm import jsonl
from prm.config import MAY_CHANGE
from prm.errors import ConfigError, RecordError
from prm.records import Annotation, Failure, Solution
from prm.score import ScorerConfig, StepScorer, TransformersScorer
from prm.zoo.aurora import Threshold
from universalbench.tasks import Task
from verify import votes

Baseline = Literal["always_right", "first_wrong", "long_steps", "short_steps"]


@dataclass
class PredictorConfig:
    """One row of the table: exactly one of `checkpoint`, `annotations` and `baseline`.

    Attributes:
        name: in the tables.
        checkpoint: a model that scores the steps.
        annotations: a file of annotations of the same solutions; the mean vote is the score.
        voters: which strategies of those annotations vote; empty means all.
        baseline: `always_right`, `first_wrong` (the first step and all after it), or the
            step's length as a score: `long_steps` suspects long ones, `short_steps` short ones.
        threshold: see the table above.
    """

    name: str
    checkpoint: ScorerConfig | None = None
    annotations: str | None = field(default=None, metadata=MAY_CHANGE)  # content is compared
    voters: list[str] | None = None
    baseline: Baseline | None = None
    threshold: float | int | str | None = None


Scores: TypeAlias = list[list[float] | None]
"""For each solution one score per step, or None where it cannot be scored."""


@dataclass(frozen=True)
class Predictions:
    """What a predictor says of a task.

    Attributes:
        scores: one row per solution.
        abstained: steps on which every voter abstained; they count as right (score 1).
        unscored_reason: why the first of the solutions without scores has none.
    """

    scores: Scores
    abstained: int = 0
    unscored_reason: str | None = None

    @property
    def unscored(self) -> int:
        """How many solutions have no scores."""
        return self.scores.count(None)


class Predictor:
    """A predictor ready to score tasks; a checkpoint is loaded once.

    Raises:
        ConfigError: not exactly one kind is set, or a voter that no annotation has.
    """

    def __init__(self, config: PredictorConfig) -> None:
        kinds = (config.checkpoint, config.annotations, config.baseline)
        if sum(kind is not None for kind in kinds) != 1:
            raise ConfigError(
                f"predictor {config.name!r} needs exactly one of checkpoint, annotations, baseline"
            )
        self.config = config
        self._scorer = TransformersScorer(config.checkpoint) if config.checkpoint else None
        self._annotations = (
            {item.id: item for item in jsonl.read(config.annotations, Annotation)}
            if config.annotations
            else {}
        )
        known = {vote.strategy for item in self._annotations.values() for vote in item.judgments}
        unknown = sorted(set(config.voters or ()) - known)
        if unknown:
            raise ConfigError(
                f"predictor {config.name!r}: no annotation has a voter {unknown[0]!r}; there are "
                + (", ".join(sorted(known)) or "none")
            )

    @property
    def declared(self) -> Threshold | None:
        """The checkpoint's own threshold for how it is used here, if it declares one."""
        if self._scorer is None:
            return None
        declaration = self._scorer.declaration
        withheld = self._scorer.reference == "none" and declaration.reference != "none"
        return declaration.threshold_without_reference if withheld else declaration.threshold

    def predict(self, task: Task) -> Predictions:
        """Score every step of a task.

        Raises:
            RecordError: a solution was not annotated, or more than half cannot be scored.
        """
        if self._scorer is not None:
            return self._score(self._scorer, task)
        if self.config.baseline is not None:
            return Predictions(
                [baseline_scores(item, self.config.baseline) for item in task.solutions]
            )
        return self._vote(task.solutions)

    def _score(self, scorer: StepScorer, task: Task) -> Predictions:
        results = scorer.score_each(task.solutions)
        failures = [item for item in results if isinstance(item, Failure)]
        reason = f"solution {failures[0].id!r}: {failures[0].reason}" if failures else None
        if 2 * len(failures) > len(results):
            raise RecordError(
                f"task {task.name!r}: predictor {self.config.name!r} cannot score "
                f"{len(failures)} of {len(results)} solutions; the first: {reason}"
            )
        scores = [None if isinstance(item, Failure) else list(item.scores) for item in results]
        return Predictions(scores, unscored_reason=reason)

    def _vote(self, solutions: Sequence[Solution]) -> Predictions:
        rows: Scores = []
        abstained = 0
        for solution in solutions:
            annotation = self._annotations.get(solution.id)
            if annotation is None or annotation.solution.steps != solution.steps:
                raise RecordError(
                    f"no annotation of solution {solution.id!r} with these steps; annotate the "
                    "benchmark's solutions first",
                    path=self.config.annotations,
                )
            voters = [
                judgment
                for judgment in annotation.judgments
                if not self.config.voters or judgment.strategy in self.config.voters
            ]
            labels = votes.count(voters, len(solution.steps)).labels
            abstained += labels.count(None)
            rows.append([1.0 if label is None else label for label in labels])
        return Predictions(rows, abstained)


def baseline_scores(solution: Solution, baseline: Baseline) -> list[float]:
    """Scores that look at nothing worth looking at."""
    if baseline == "always_right":
        return [1.0] * len(solution.steps)
    if baseline == "first_wrong":
        return [0.0] * len(solution.steps)
    sign = -1.0 if baseline == "long_steps" else 1.0
    return [sign * len(step) for step in solution.steps]
