"""Voters that need no model: the checks of `verify` as judgments."""

from __future__ import annotations

from collections.abc import Sequence

from prm.records import Judgment, Solution
from verify.arithmetic import check_arithmetic
from verify.checker_pool import Comparison
from verify.outcomes import outcomes
from verify.quantities import StepVerdict
from verify.values import check_values

RULES = ("arithmetic", "reference")
"""The rules there are; see `verify.arithmetic` and `verify.values`."""

_JUDGE = "rules"


def vote(batch: Sequence[Solution], rules: Sequence[str]) -> list[tuple[Judgment, ...]]:
    """The judgments of the named rules, in their order, for each solution.

    `reference` abstains on a solution whose true answer is not known, and says so.
    """
    compared = outcomes(batch) if "reference" in rules else [None] * len(batch)
    return [
        tuple(
            _arithmetic(solution) if rule == "arithmetic" else _reference(solution, outcome)
            for rule in rules
        )
        for solution, outcome in zip(batch, compared, strict=True)
    ]


def _arithmetic(solution: Solution) -> Judgment:
    return _judgment("arithmetic", check_arithmetic(solution.steps))


def _reference(solution: Solution, outcome: Comparison | None) -> Judgment:
    if solution.answer is None:
        return Judgment(
            judge=_JUDGE,
            strategy="reference",
            verdicts=(None,) * len(solution.steps),
            text="the true answer is not known",
        )
    verdict = "unknown" if outcome is None else outcome.verdict
    return _judgment(
        "reference",
        check_values(solution.steps, solution.problem, solution.reference, verdict),
    )


def _judgment(strategy: str, verdicts: Sequence[StepVerdict]) -> Judgment:
    return Judgment(
        judge=_JUDGE,
        strategy=strategy,
        verdicts=tuple(verdict.verdict for verdict in verdicts),
        text="\n".join(
            f"step {index}: {verdict.reason}"
            for index, verdict in enumerate(verdicts)
            if verdict.reason
        ),
    )
