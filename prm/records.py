"""The records that the stages hand to each other, one per arrow of the pipeline.

    Problem ──sample──▶ Solution ──split──▶ Solution ──annotate──▶ Annotation
        Annotation ──verify──▶ LabelledSolution | Rejection
            LabelledSolution ──train──▶ checkpoint ──score──▶ StepScores ──search──▶ Ranking
    Solution | Prediction ──verify-answers──▶ Grade

All are frozen, keyword-only dataclasses whose invariants hold from construction on: whoever
has a record need not check it. `prm.jsonl` decodes them strictly. Derived values (hard
labels, the first wrong step) are never fields.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 1
"""Version of the record formats; stands in every run folder and checkpoint."""

STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
"""How a decoder must treat these classes: no unknown field, no coercion, finite numbers."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_probabilities(values: Sequence[float | None], name: str) -> None:
    for index, value in enumerate(values):
        if value is not None and not 0.0 <= value <= 1.0:  # true of NaN, too
            raise ValueError(f"{name}[{index}] is {value}; it must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A question to solve.

    Attributes:
        id: unique within a file.
        problem: the question's text.
        answer: the final answer, where known.
        reference: a worked reference solution, where known.
        source: the data set it comes from.
    """

    __pydantic_config__ = STRICT

    id: str
    problem: str
    answer: str | None = None
    reference: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        _require(bool(self.id), "id is empty")
        _require(bool(self.problem.strip()), "problem is empty")


@dataclass(frozen=True, kw_only=True)
class Solution:
    """One policy's solution of a problem, in steps.

    Attributes:
        id: unique within a file.
        problem: the question's text.
        steps: the reasoning, in order; at least one, none blank. Before step separation the
            whole text is one step.
        answer: the problem's true final answer, where known.
        reference: the problem's worked reference solution, where known.
        generator: the policy that wrote the steps.
        source: the data set the problem comes from.
        final_answer_correct: the source's own word on the outcome, where it has one.
        metadata: whatever else the source says; no stage interprets keys it did not write.
    """

    __pydantic_config__ = STRICT

    id: str
    problem: str
    steps: tuple[str, ...]
    answer: str | None = None
    reference: str | None = None
    generator: str = ""
    source: str = ""
    final_answer_correct: bool | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(bool(self.id), "id is empty")
        _require(bool(self.problem.strip()), "problem is empty")
        _require(bool(self.steps), "steps is empty: a solution needs at least one step")
        for index, step in enumerate(self.steps):
            _require(
                bool(step.strip()),
                f"steps[{index}] is blank; leave it out, with its label if it has one",
            )
        if self.metadata:
            try:
                json.dumps(self.metadata, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise ValueError(f"metadata is not plain JSON: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A final answer to grade, where the question itself is not at hand.

    Attributes:
        id: unique within a file.
        prediction: what was answered: a bare answer or a whole solution. A policy may have
            written nothing, so this may be blank.
        answer: the true final answer, where known.
    """

    __pydantic_config__ = STRICT

    id: str
    prediction: str
    answer: str | None = None

    def __post_init__(self) -> None:
        _require(bool(self.id), "id is empty")


@dataclass(frozen=True, kw_only=True)
class Judgment:
    """One judge's opinion of a solution under one strategy.

    Attributes:
        judge: the model, or `rules` for a strategy that needs none.
        strategy: the prompt strategy or rule.
        verdicts: for each step the probability that it is right, or None where the judge
            abstains.
        text: what the judge wrote; for a rule, its reasons.
        finish_reason: why the judge stopped (`stop`, `length`, …).
        error: why the verdicts are unusable, if they are.
        usage: tokens spent (`prompt_tokens`, `completion_tokens`).
        mass: for soft verdicts, how likely the judge was at each step to say 0 or 1 at all; near
            1 whatever it would have said where the engine masks first (vLLM does).
    """

    __pydantic_config__ = STRICT

    judge: str
    strategy: str
    verdicts: tuple[float | None, ...]
    text: str = ""
    finish_reason: str = "stop"
    error: str | None = None
    usage: dict[str, int] = field(default_factory=dict)
    mass: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _require_probabilities(self.verdicts, "verdicts")
        if self.mass is not None:
            _require(len(self.mass) == len(self.verdicts), "mass needs one value per verdict")
            _require_probabilities(self.mass, "mass")
        _require(
            self.error is None or all(verdict is None for verdict in self.verdicts),
            "a judgment with an error must abstain on every step",
        )


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """A solution with everything that was said of it."""

    __pydantic_config__ = STRICT

    solution: Solution
    judgments: tuple[Judgment, ...]

    def __post_init__(self) -> None:
        for judgment in self.judgments:
            _require(
                len(judgment.verdicts) == len(self.solution.steps),
                f"strategy {judgment.strategy!r} has {len(judgment.verdicts)} verdicts for "
                f"{len(self.solution.steps)} steps",
            )

    @property
    def id(self) -> str:
        """The solution's id."""
        return self.solution.id


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one named check said of a solution's labels, and why."""

    __pydantic_config__ = STRICT

    check: str
    verdict: Literal["pass", "fail", "unknown"]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Correction:
    """A label that a rule of `verify` changed.

    Attributes:
        rule: the check that failed.
        step: which label, from 0.
        old, new: the label before and after.
    """

    __pydantic_config__ = STRICT

    rule: str
    step: int
    old: float
    new: float

    def __post_init__(self) -> None:
        _require(self.step >= 0, f"step is {self.step}; it starts at 0")
        _require_probabilities((self.old, self.new), "old, new")


@dataclass(frozen=True, kw_only=True)
class LabelledSolution:
    """A solution whose labels passed verification.

    Attributes:
        solution: the solution.
        labels: for each step the (soft) probability that it is right, 0 to 1.
        agreement: for each step the share of votes on the side of the majority, 0.5 to 1.
        weight: how much training trusts this solution, above 0 and at most 1; below 1 where
            a rule of `verify` down-weighted it.
        evidence: what each check said.
        corrections: labels that a check changed, in the order of the changes.
    """

    __pydantic_config__ = STRICT

    solution: Solution
    labels: tuple[float, ...]
    agreement: tuple[float, ...] | None = None
    weight: float = 1.0
    evidence: tuple[Evidence, ...] = ()
    corrections: tuple[Correction, ...] = ()

    def __post_init__(self) -> None:
        steps = len(self.solution.steps)
        _require(len(self.labels) == steps, f"{len(self.labels)} labels for {steps} steps")
        _require_probabilities(self.labels, "labels")
        if self.agreement is not None:
            _require(
                len(self.agreement) == steps,
                f"{len(self.agreement)} agreement values for {steps} steps",
            )
            _require_probabilities(self.agreement, "agreement")
        _require(0.0 < self.weight <= 1.0, f"weight is {self.weight}; it must lie in (0, 1]")
        for correction in self.corrections:
            _require(
                correction.step < steps, f"a correction of step {correction.step} of {steps} steps"
            )

    @property
    def id(self) -> str:
        """The solution's id."""
        return self.solution.id

    def to_stepwise(self, cut: float | None = None) -> dict[str, Any]:
        """The `prompt, completions, labels` columns of TRL's stepwise supervision format.

        Args:
            cut: None keeps soft labels (floats); a number gives booleans, true where the
                label reaches it.
        """
        labels = list(self.labels) if cut is None else [label >= cut for label in self.labels]
        return {
            "prompt": self.solution.problem,
            "completions": list(self.solution.steps),
            "labels": labels,
        }


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """An annotation that verification kept out of training, and the rule that did it.

    Attributes:
        annotation: the annotation.
        rule: the check that failed.
        reason: why, in words.
        evidence: what each check said.
        corrections: labels that a check had changed before.
    """

    __pydantic_config__ = STRICT

    annotation: Annotation
    rule: str
    reason: str
    evidence: tuple[Evidence, ...] = ()
    corrections: tuple[Correction, ...] = ()

    @property
    def id(self) -> str:
        """The solution's id."""
        return self.annotation.id


@dataclass(frozen=True, kw_only=True)
class Grade:
    """Whether a final answer equals the true one.

    Attributes:
        id: of the solution or prediction.
        answer: the true answer, where known.
        found: the answer that the solution gives, where one was found.
        found_by: the rule that found it, `none` where nothing did.
        verdict: `unknown` whenever neither of the others is shown.
        rule: what decided.
        reason: why, in words.
    """

    __pydantic_config__ = STRICT

    id: str
    answer: str | None
    found: str | None
    found_by: str
    verdict: Literal["equal", "different", "unknown"]
    rule: str
    reason: str

    def __post_init__(self) -> None:
        _require(bool(self.id), "id is empty")
        _require(
            self.verdict == "unknown" or (self.answer is not None and self.found is not None),
            f"verdict is {self.verdict!r}; where an answer is missing it must be 'unknown'",
        )


@dataclass(frozen=True, kw_only=True)
class StepScores:
    """A model's score for every step of a solution: as many as steps, all finite.

    Attributes:
        solution_id: the solution's id, which says nothing of its text.
        steps_digest: `steps_digest` of the solution as it was scored.
        model: the model's name.
        scores: one score per step.
    """

    __pydantic_config__ = STRICT

    solution_id: str
    steps_digest: str
    model: str
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        _require(bool(self.scores), "scores is empty")
        for index, score in enumerate(self.scores):
            _require(math.isfinite(score), f"scores[{index}] is {score}; it must be finite")

    @property
    def id(self) -> str:
        """The solution's id."""
        return self.solution_id


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A record that a stage could not process, and why; it stands apart from the output."""

    __pydantic_config__ = STRICT

    id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The candidates of one problem, best first, under one method of choice.

    Attributes:
        id: the problem's key.
        method: an aggregation of step scores (`min`, `last`, …) or `majority`.
        solution_ids: the candidates, best first.
        rewards: the value each was ranked by, in the same order.
    """

    __pydantic_config__ = STRICT

    id: str
    problem: str
    method: str
    solution_ids: tuple[str, ...]
    rewards: tuple[float, ...]

    def __post_init__(self) -> None:
        _require(bool(self.solution_ids), "a ranking needs at least one candidate")
        _require(len(self.rewards) == len(self.solution_ids), "one reward per candidate")


def first_error(values: Sequence[float], cut: float = 0.5) -> int:
    """Index from 0 of the first value below `cut`; -1 where there is none.

    Source: the `label` field of ProcessBench (arXiv 2412.06559).
    """
    return next((index for index, value in enumerate(values) if value < cut), -1)


def steps_digest(solution: Solution) -> str:
    """16 hexadecimal digits that tell a solution's problem and steps from any others."""
    text = json.dumps([solution.problem, solution.steps])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def problem_key(problem: str) -> str:
    """A problem's letters and digits alone, in lower case.

    Two data sets that hold the same question seldom agree on quotes, spaces and case, so
    joins and leak checks compare this key. Questions that differ in nothing but a sign
    share it: a leak check errs on the safe side. Candidates of one problem are grouped by
    the exact text instead.
    """
    return "".join(char for char in problem.casefold() if char.isalnum())
