"""The reference strategy: a voter without a model that follows a solution along the values of
the worked reference solution.

Where the final answer agrees, every step is taken to be right. Where it differs, the first step
that leaves the reference is wrong, and so is all that rests on it:

    a result of arithmetic   must be among the results of the reference; being a number of the
                             question does not excuse it
    any other number         must be in the reference, the question, or an accepted result

up to rounding and the commonest conversions (percent and cents, minutes and hours). A sound
detour through values of its own is taken for an error: once the final answer is known to be
wrong, a value that the reference never meets is far likelier the error than a detour. Where no
step leaves, the one that first worked out the wrong final answer is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal as OneOf

from verify.arithmetic import operands, render, value_of
from verify.equations import equations
from verify.expressions import Number
from verify.quantities import MAX_CHARS, StepVerdict, numbers

Outcome = OneOf["equal", "different", "unknown"]

_ROUNDING = Fraction(1, 200)
_CONVERSIONS = (Fraction(1), Fraction(100), Fraction(1, 100), Fraction(60), Fraction(1, 60))
_MAX_VALUES = 300
"""More values than this single out no step, and take long to compare."""
_COUNTING = 10
"""Whole numbers up to here count and enumerate; alone they do not leave the reference."""
_CONSTANTS = frozenset(map(Fraction, (12, 24, 30, 52, 60, 100, 365, 1000)))
"""Numbers of the calendar and of units, which a solution may bring in."""


@dataclass(frozen=True)
class _Claim:
    """A value that an equation states; `worked` where it comes out of other numbers."""

    value: Fraction
    worked: bool
    shown: str


@dataclass(frozen=True)
class _Known:
    """The values of the question and its reference, and the results among them."""

    results: set[Fraction]
    values: set[Fraction]


def check_values(
    steps: Sequence[str], problem: str, reference: str | None, outcome: Outcome
) -> list[StepVerdict]:
    """A verdict for every step of a solution.

    Args:
        steps: the solution.
        problem: the question.
        reference: a worked reference solution; None where only the final answer is known.
        outcome: how the solution's final answer compares with the true one.

    Returns:
        1.0 for all where the answer is equal; where it differs 1.0 before the step that leaves
        the reference and 0.0 from there on; None for all where the comparison is unknown, or
        a text is too long or the reference without a number. Without a reference a different
        answer says only that the last step, which states it, is wrong.
    """
    if outcome == "equal":
        return [StepVerdict(1.0, "the final answer matches")] * len(steps)
    if outcome == "unknown":
        return [StepVerdict(None, "the final answer could not be compared")] * len(steps)
    if reference is None:
        unknown = StepVerdict(None, "there is no worked reference to follow")
        return [unknown] * (len(steps) - 1) + [StepVerdict(0.0, "states a wrong final answer")]
    if max(map(len, [reference, problem, *steps])) > MAX_CHARS:
        return [StepVerdict(None, f"a text is longer than {MAX_CHARS} characters")] * len(steps)
    if not numbers(reference):
        return [StepVerdict(None, "the reference is without a number")] * len(steps)
    known = _known(problem, reference)
    if len(known.values) > _MAX_VALUES:
        return [StepVerdict(None, "the reference holds too many numbers")] * len(steps)
    wrong, reason = _first_departure(steps, known)
    return [
        StepVerdict(1.0, "follows the reference")
        if index < wrong
        else StepVerdict(0.0, reason if index == wrong else "rests on a wrong step")
        for index in range(len(steps))
    ]


def met_results(steps: Sequence[str], reference: str) -> tuple[list[set[Fraction]], set[Fraction]]:
    """The results of a worked reference, and which of them each step works out.

    Returns:
        For each step the results that it works out, up to rounding and conversions, empty where
        it works out any value besides them; and all results of the reference's equations.
    """
    results = {claim.value for claim in _claims(reference) if claim.worked}
    met = []
    for step in steps:
        worked = {claim.value for claim in _claims(step) if claim.worked}
        met.append(worked if all(_among(value, results) for value in worked) else set())
    return met, results


def _known(problem: str, reference: str) -> _Known:
    stated = numbers(reference)
    claimed = {claim.value for claim in _claims(reference)}
    # A reference in prose has no equations: then each of its numbers may be a result.
    results = claimed | {stated[-1]} if claimed else set(stated)
    return _Known(results, {*stated, *numbers(problem), *_CONSTANTS})


def _first_departure(steps: Sequence[str], known: _Known) -> tuple[int, str]:
    """The index of the first wrong step, and why."""
    claims = [_claims(step) for step in steps]
    accepted: set[Fraction] = set()
    for index, step in enumerate(steps):
        for claim in claims[index]:
            if not _may_state(claim, known, accepted):
                return index, f"leaves the reference: {claim.shown}"
            accepted.add(claim.value)
        for number in dict.fromkeys(numbers(step, words=False)):
            if not (_counts(number) or number in accepted or _among(number, known.values)):
                return index, f"leaves the reference: the number {_plain(number)}"
    return _origin_of_answer(steps, claims)


def _may_state(claim: _Claim, known: _Known, accepted: set[Fraction]) -> bool:
    if claim.value in accepted or _among(claim.value, known.results):
        return True
    return not claim.worked and _among(claim.value, known.values)


def _origin_of_answer(steps: Sequence[str], claims: Sequence[Sequence[_Claim]]) -> tuple[int, str]:
    """The step that first worked out the wrong final answer; failing that, the last one."""
    stated = numbers(steps[-1], words=False) if steps else []
    for index, of_step in enumerate(claims):
        if stated and any(claim.value == stated[-1] for claim in of_step):
            return index, "first states the wrong final answer"
    return len(steps) - 1, "states a wrong final answer"


def _claims(text: str) -> list[_Claim]:
    """The value of each side after an equals sign, in order."""
    found: list[_Claim] = []
    for equation in equations(text):
        for left, right in zip(equation.sides, equation.sides[1:], strict=False):
            if right is None:
                continue
            value = value_of(right.expression)
            used = [number.value for number in operands(left.expression)] if left else []
            shown = f"{render(left.expression) if left else '…'} = {render(right.expression)}"
            found.append(_Claim(value, bool(used) and used != [value], shown))
    return found


def _counts(number: Fraction) -> bool:
    return number.denominator == 1 and abs(number) <= _COUNTING


def _among(value: Fraction, values: set[Fraction]) -> bool:
    """Whether a value is one of `values` up to rounding, or a conversion of one."""
    if any(value * factor in values for factor in _CONVERSIONS):
        return True
    return any(
        (value.denominator > 1 or other.denominator > 1)
        and abs(value - other) <= _ROUNDING * abs(other)
        for other in values
    )


def _plain(number: Fraction) -> str:
    return render(Number(number, fraction=number.denominator > 10**6))
