"""Whatever predicts wrong steps: a checkpoint, annotators' labels, trivial baselines.

A predictor gives one score per step; a step counts as wrong where its score lies below a
threshold. Where the threshold comes from is declared with the predictor:

| threshold  | the cut                                                                    |
|------------|----------------------------------------------------------------------------|
| a number   | that number                                                                |
| `declared` | the checkpoint's own, chosen on its held-out training problems; where it   |
|            | has another for solutions without a reference, that one for these          |
| a task     | the cut with the best headline metric on that task of the same run, used   |
|            | on all; with `threshold_split` on that share of its problems, which are    |
|            | then left out of what is measured                                          |
| not given  | 0.5; a step's length, which is no probability, needs a task                |

A solution that a checkpoint cannot score (too long for it) counts as missed, each of its steps as
called what it is not; every table says how many there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from prm import jsonl
from prm.config import MAY_CHANGE
from prm.errors import ConfigError, RecordError
from prm.records import Annotation, Failure, Solution
from prm.scorers import ModelScorer, ScorerConfig, load
from prm.scorers.base import declared_threshold, reference_text
from prm.zoo.entry import Threshold
from prm.zoo.family import Format, ReferenceKind
from universalbench.form import digest
from universalbench.results import PredictorRecord
from verify import votes

Baseline = Literal["always_right", "first_wrong", "long_steps", "short_steps"]

BLIND = "arithmetic"
"""The voter that looks at no reference."""


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
        threshold: below it a step counts as wrong: a number; `declared`, the checkpoint's own; or
            the name of a task of this run, for the best cut on it. Null: 0.5 (`long_steps` and
            `short_steps` need a task).
        threshold_split: the share of the threshold's task, by problems, that it is chosen on;
            null: all of it.
    """

    name: str
    checkpoint: ScorerConfig | None = None
    annotations: str | None = field(default=None, metadata=MAY_CHANGE)  # content is compared
    voters: list[str] | None = None
    baseline: Baseline | None = None
    threshold: float | int | str | None = None
    threshold_split: float | None = None


@dataclass(frozen=True)
class Said:
    """What a predictor says of a solution.

    Attributes:
        scores: one per step, or None where it cannot be scored.
        reason: why not.
        told: whether the predictor was told something of the reference or the answer.
        abstained: steps on which every voter abstained; they count as right (score 1).
    """

    scores: tuple[float, ...] | None
    reason: str | None = None
    told: bool = False
    abstained: int = 0


class Predictor:
    """A predictor ready to score solutions; a checkpoint is loaded once.

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
        self._scorer = load(config.checkpoint) if config.checkpoint else None
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
    def tokens(self) -> int:
        """Tokens that a model has read so far."""
        return 0 if self._scorer is None else self._scorer.tokens

    def record(self, id: str, fingerprint: str | None) -> PredictorRecord:
        """What this predictor is, see `PredictorRecord`."""
        config = self.config
        if self._scorer is not None and config.checkpoint is not None:
            return PredictorRecord(
                id=id,
                kind="checkpoint",
                model=self._scorer.name,
                fingerprint=fingerprint,
                revision=config.checkpoint.revision,
                family=self._scorer.family,
                reference=self._scorer.reference,
                format=digest(self._scorer, config.checkpoint),
                declared=self._scorer.threshold,
                declared_untold=_declared_untold(self._scorer),
            )
        if config.baseline is not None:
            return PredictorRecord(id=id, kind="baseline", model=config.baseline)
        used = [vote for item in self._annotations.values() for vote in self._voters(item)]
        return PredictorRecord(
            id=id,
            kind="annotations",
            model=", ".join(sorted({vote.judge for vote in used})),
            fingerprint=fingerprint,
            reference=self._shown(),
        )

    def score(self, solutions: Sequence[Solution]) -> list[Said]:
        """Score every step of solutions, in order.

        Raises:
            RecordError: a solution was not annotated.
        """
        if self._scorer is not None:
            return self._score(self._scorer, solutions)
        if self.config.baseline is not None:
            return [Said(tuple(baseline_scores(item, self.config.baseline))) for item in solutions]
        return [self._vote(item) for item in solutions]

    def close(self) -> None:
        """Free a model's memory; the predictor is of no use afterwards."""
        if self._scorer is not None:
            self._scorer.close()

    def _score(self, scorer: ModelScorer, solutions: Sequence[Solution]) -> list[Said]:
        said = []
        for solution, item in zip(solutions, scorer.score_each(solutions), strict=True):
            told = reference_text(solution, scorer.reference) is not None
            if isinstance(item, Failure):
                said.append(Said(None, item.reason, told))
            else:
                said.append(Said(tuple(item.scores), told=told))
        return said

    def _vote(self, solution: Solution) -> Said:
        annotation = self._annotations.get(solution.id)
        if annotation is None or annotation.solution.steps != solution.steps:
            raise RecordError(
                f"no annotation of solution {solution.id!r} with these steps; annotate the "
                "benchmark's solutions first",
                path=self.config.annotations,
            )
        voters = self._voters(annotation)
        labels = votes.count(voters, len(solution.steps)).labels
        return Said(
            tuple(1.0 if label is None else label for label in labels),
            told=_informed(annotation, voters) != "none",
            abstained=labels.count(None),
        )

    def _voters(self, annotation: Annotation) -> list[Any]:
        return [
            judgment
            for judgment in annotation.judgments
            if not self.config.voters or judgment.strategy in self.config.voters
        ]

    def _shown(self) -> ReferenceKind:
        """The most that any voter was shown of any solution's reference."""
        shown = {_informed(item, self._voters(item)) for item in self._annotations.values()}
        return "worked" if "worked" in shown else "answer" if "answer" in shown else "none"


def _declared_untold(scorer: ModelScorer) -> Threshold | None:
    """What a checkpoint that is told of references declares for where there is none to tell."""
    form = getattr(scorer, "format", None)
    if scorer.reference == "none" or not isinstance(form, Format):
        return None
    return declared_threshold(form, "none")


def _informed(annotation: Annotation, voters: Sequence[Any]) -> ReferenceKind:
    """What the voters on a solution were shown: all but the arithmetic rule see what there is."""
    if all(vote.strategy == BLIND for vote in voters):
        return "none"
    if annotation.solution.reference is not None:
        return "worked"
    return "none" if annotation.solution.answer is None else "answer"


def baseline_scores(solution: Solution, baseline: Baseline) -> list[float]:
    """Scores that look at nothing worth looking at."""
    if baseline == "always_right":
        return [1.0] * len(solution.steps)
    if baseline == "first_wrong":
        return [0.0] * len(solution.steps)
    sign = -1.0 if baseline == "long_steps" else 1.0
    return [sign * len(step) for step in solution.steps]
