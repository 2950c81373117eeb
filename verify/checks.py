"""Checks of labels against what is known backwards from the reference answer.

Each check is a pure function that returns its `Evidence`: pass, fail or unknown, and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from prm.records import Evidence, first_error
from verify.checker_pool import Comparison

CUT = 0.5
"""A label below it says that the step is wrong."""


def check_outcome(outcome: Comparison | None) -> Evidence:
    """Does the final answer equal the reference answer?"""
    if outcome is None:
        return Evidence(check="outcome", verdict="unknown", reason="no reference answer")
    reason = f"{outcome.rule}: {outcome.reason}"
    if outcome.verdict == "unknown":
        return Evidence(check="outcome", verdict="unknown", reason=reason)
    verdict: Literal["pass", "fail"] = "pass" if outcome.verdict == "equal" else "fail"
    return Evidence(check="outcome", verdict=verdict, reason=reason)


def check_all_right(labels: Sequence[float], outcome: Evidence) -> Evidence:
    """Fails where every step is labelled right although the final answer is wrong."""
    name = "all steps right"
    if outcome.verdict == "unknown":
        return Evidence(check=name, verdict="unknown", reason="the outcome is unknown")
    if outcome.verdict == "fail" and first_error(labels, CUT) == -1:
        return Evidence(
            check=name,
            verdict="fail",
            reason=f"the answer is wrong, yet the lowest label is {min(labels):.2f}",
        )
    return Evidence(check=name, verdict="pass", reason="labels and outcome agree")


def check_wrong_step(labels: Sequence[float], outcome: Evidence) -> Evidence:
    """Fails where a step is labelled wrong although the final answer is right.

    Such a solution may have taken a wrong turn back, or two errors may cancel: less certain
    than the reverse.
    """
    name = "right answer from right steps"
    if outcome.verdict == "unknown":
        return Evidence(check=name, verdict="unknown", reason="the outcome is unknown")
    first = first_error(labels, CUT)
    if outcome.verdict == "pass" and first != -1:
        return Evidence(
            check=name,
            verdict="fail",
            reason=f"the answer is right, yet step {first} is labelled {labels[first]:.2f}",
        )
    return Evidence(check=name, verdict="pass", reason="labels and outcome agree")
