"""What becomes of labels on which a check fails: kept, corrected, trusted less, or rejected.

The checks run in the order of the fields of `Rules`, and each sees the labels as those before it
left them: what mends single labels comes before what weighs the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Literal

from prm.records import Annotation, Correction, LabelledSolution, Rejection
from verify import checks
from verify.checker_pool import Comparison
from verify.checks import Finding
from verify.votes import Voting, labels_of

Action = Literal["skip", "keep", "correct", "down_weight", "reject"]
"""What a failed check means; `skip` does not run it, `keep` only writes down what it found."""

NO_VOTE = "step_without_a_vote"
"""The rule that rejects what cannot be labelled."""

WITHOUT_BETTER = ("reference_never_met", "low_agreement", "backward_judge_disagrees")
"""Checks that know no better labels, so cannot correct."""


@dataclass
class Rules:
    """What happens to a solution on which a check fails; see `verify.checks` for each.

    Attributes:
        not_monotone: a strategy of `monotone` calls a step right after a wrong one.
        false_equation_called_right: a step labelled right states a false equation.
        departure_called_right: the answer is wrong, and the step that first leaves the worked
            reference is labelled right.
        met_result_called_wrong: the first step labelled wrong works out what the reference does.
        answer_rests_elsewhere: a right answer rests on a step labelled wrong, or a wrong one on
            none.
        all_right_but_answer_wrong: some step must be wrong, and nobody found it.
        wrong_step_but_answer_right: errors may cancel or be taken back, so trust less.
        reference_never_met: the answer is right, but no result on the reference's way is met.
        backward_judge_disagrees: a strategy of `backward` names another first error.
        low_agreement: the majority on some step falls short of `margin`.
        down_weight: the factor by which `down_weight` lowers a weight; each failed check does.
        margin: a share of votes, one half to one.
        monotone: strategies that promise that all is wrong after the first error.
        backward: strategies that ask a judge backwards from the answer.
    """

    not_monotone: Action = "correct"
    false_equation_called_right: Action = "correct"
    departure_called_right: Action = "correct"
    met_result_called_wrong: Action = "down_weight"
    answer_rests_elsewhere: Action = "down_weight"
    all_right_but_answer_wrong: Action = "reject"
    wrong_step_but_answer_right: Action = "down_weight"
    reference_never_met: Action = "skip"
    backward_judge_disagrees: Action = "down_weight"
    low_agreement: Action = "keep"
    down_weight: float = 0.5
    margin: float = 0.6
    monotone: list[str] = field(default_factory=lambda: ["reference", "backward"])
    backward: list[str] = field(default_factory=lambda: ["backward"])

    def __post_init__(self) -> None:
        if not 0.0 < self.down_weight <= 1.0:
            raise ValueError(f"down_weight is {self.down_weight}; it must lie in (0, 1]")
        if not 0.5 <= self.margin <= 1.0:
            raise ValueError(f"margin is {self.margin}; it must lie between 0.5 and 1")
        for name in WITHOUT_BETTER:
            if getattr(self, name) == "correct":
                raise ValueError(f"{name} cannot tell better labels: keep, down_weight or reject")


CHECKS = tuple(
    item.name
    for item in fields(Rules)
    if item.name not in {"down_weight", "margin", "monotone", "backward"}
)
"""The names of the checks, in the order in which they run."""


def decide(
    annotations: Iterable[Annotation],
    compared: Iterable[Comparison | None],
    rules: Rules,
    voting: Voting | None = None,
) -> Iterator[LabelledSolution | Rejection]:
    """Label each annotation, or reject it with the rule and the reason.

    Args:
        annotations: solutions with votes.
        compared: for each the comparison of its final answer with the reference answer, None
            where there is no reference answer.
        rules: what a failed check means.
        voting: how votes become labels; None averages them.
    """
    for annotation, comparison in zip(annotations, compared, strict=True):
        yield _decide(annotation, comparison, rules, voting or Voting())


def _decide(
    annotation: Annotation, comparison: Comparison | None, rules: Rules, voting: Voting
) -> LabelledSolution | Rejection:
    solution = annotation.solution
    ending = checks.outcome(comparison, solution.final_answer_correct)
    evidence = [ending.evidence("outcome")]
    ballot = labels_of(annotation.judgments, len(solution.steps), voting)
    labels = [label for label in ballot.labels if label is not None]
    if len(labels) < len(ballot.labels):
        reason = f"nobody voted on step {ballot.labels.index(None)}"
        return Rejection(
            annotation=annotation, rule=NO_VOTE, reason=reason, evidence=tuple(evidence)
        )
    agreement = tuple(share for share in ballot.agreement if share is not None)
    weight, corrections = 1.0, list[Correction]()
    rejected: tuple[str, str] | None = None
    for name in CHECKS:
        action: Action = getattr(rules, name)
        if action == "skip":
            continue
        finding = _run(name, labels, agreement, annotation, ending, rules, voting)
        evidence.append(finding.evidence(name))
        if finding.verdict != "fail":
            continue
        if action == "correct":
            corrections += _correct(labels, finding, name)
        elif action == "down_weight":
            weight *= rules.down_weight
        elif action == "reject" and rejected is None:
            rejected = name, finding.reason
    if rejected is not None:
        rule, reason = rejected
        return Rejection(
            annotation=annotation,
            rule=rule,
            reason=reason,
            evidence=tuple(evidence),
            corrections=tuple(corrections),
        )
    return LabelledSolution(
        solution=solution,
        labels=tuple(labels),
        agreement=agreement,
        weight=weight,
        evidence=tuple(evidence),
        corrections=tuple(corrections),
    )


def _correct(labels: list[float], finding: Finding, rule: str) -> Iterator[Correction]:
    """Change the labels to better ones, and tell of each."""
    for step, new in sorted(finding.better.items()):
        if new != labels[step]:
            yield Correction(rule=rule, step=step, old=labels[step], new=new)
            labels[step] = new


def _run(
    name: str,
    labels: list[float],
    agreement: tuple[float, ...],
    annotation: Annotation,
    ending: Finding,
    rules: Rules,
    voting: Voting,
) -> Finding:
    """Run a check by its name."""
    solution, judgments = annotation.solution, annotation.judgments
    match name:
        case "not_monotone":
            return checks.not_monotone(labels, judgments, rules.monotone, voting)
        case "false_equation_called_right":
            return checks.false_equation_called_right(labels, solution.steps)
        case "departure_called_right":
            return checks.departure_called_right(labels, solution, ending)
        case "met_result_called_wrong":
            return checks.met_result_called_wrong(labels, solution)
        case "answer_rests_elsewhere":
            return checks.answer_rests_elsewhere(labels, solution, ending)
        case "all_right_but_answer_wrong":
            return checks.all_right_but_answer_wrong(labels, ending)
        case "wrong_step_but_answer_right":
            return checks.wrong_step_but_answer_right(labels, ending)
        case "reference_never_met":
            return checks.reference_never_met(solution, ending)
        case "backward_judge_disagrees":
            return checks.backward_judge_disagrees(labels, judgments, rules.backward)
        case "low_agreement":
            return checks.low_agreement(agreement, rules.margin)
    raise AssertionError(name)
