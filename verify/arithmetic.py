"""The arithmetic strategy: a voter without a model that works out every equation of a step.

A step is wrong where one of its equations is false, or where it calculates with a value that
came out of a false equation (a step that rests on a wrong step is wrong too). True equations prove
little: such steps get `TRUE`, below certainty, so that another voter's objection outweighs
them in an average. A step without a checkable equation gets no vote.

What counts as true, since people round as they like:

    a literal with d decimals     off by less than one unit of its last place (10/3 = 3.33 = 3.3
                                  = 3; 2.5 = 3), whichever way it was rounded
    a number with 2+ decimals     may itself have been rounded (0.67 * 300 = 200)
    10 decimals and more          floating point, equal to one part in 10^9
    `≈`                           5 % on top
    p%                            any of: p/100, p, and p% of what it is added to
    `16 - 3 = 13 * 2 = 26`        the chain runs on; its first sign is not judged
    other units on both sides     a factor between units of measure (60, 100, ...) is no error
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import get_args

from verify.equations import Equation, Side, equations
from verify.expressions import (
    Expression,
    Number,
    Operation,
    Reading,
    UndefinedError,
    bounds,
    evaluate,
)
from verify.quantities import MAX_CHARS, StepVerdict

TRUE = 0.75
"""Verdict of a step whose equations hold. At 1.0 it would cancel out one objection of another
voter; what such steps are wrong in is mostly what they calculate, not how."""

_FLOAT = Fraction(1, 10**9)
_APPROXIMATE = Fraction(1, 20)
_UNIT_FACTORS = frozenset(
    Fraction(factor)
    for factor in (3, 7, 12, 16, 24, 30, 36, 52, 60, 100, 365, 1000, 1440, 3600, 5280)
)
_MEASURES = frozenset(
    "$ dollar cent penny nickel dime quarter second minute hour day week month year dozen "  # noqa: SIM905
    "inche inch foot feet yard mile meter metre cm centimeter mm km kilometer hr min sec "
    "g gram kg kilogram ounce oz pound lb ton ml milliliter l liter litre cup pint quart "
    "gallon".split()
)


def check_arithmetic(steps: Sequence[str]) -> list[StepVerdict]:
    """A verdict for every step: `TRUE` where its equations hold, 0.0 where one does not or where
    it uses the result of one that does not, None where nothing could be checked."""
    verdicts: list[StepVerdict] = []
    tainted: set[Fraction] = set()
    sound: set[Fraction] = set()
    for step in steps:
        if len(step) > MAX_CHARS:
            verdicts.append(StepVerdict(None, f"longer than {MAX_CHARS} characters: not read"))
            continue
        verdicts.append(_check_step(step, tainted, sound))
    return verdicts


def _check_step(step: str, tainted: set[Fraction], sound: set[Fraction]) -> StepVerdict:
    """Judge one step, and add its values to those of earlier steps."""
    pairs = [pair for equation in equations(step) for pair in _pairs(equation)]
    checked, false, resting = 0, "", ""
    for left, right, loose in pairs:
        holds = _holds(left, right, loose)
        if holds is None:
            continue
        checked += 1
        shown = f"{render(left.expression)} {'≈' if loose else '='} {render(right.expression)}"
        used = {number.value for number in operands(left.expression)}
        result = value_of(right.expression)
        if not holds:
            false = false or f"false: {shown}"
        elif used & tainted:
            resting = resting or f"uses a wrong value: {shown}"
        else:
            sound |= used | {result}
            tainted.discard(result)
            continue
        tainted |= {result} - sound - used
    if false or resting:
        return StepVerdict(0.0, false or resting)
    if checked:
        return StepVerdict(TRUE, f"true: {checked} equation{'s' if checked > 1 else ''}")
    return StepVerdict(None, "no equation to check")


def _pairs(equation: Equation) -> list[tuple[Side, Side, bool]]:
    """Neighbouring sides of which at least one states an operation."""
    return [
        (left, right, loose)
        for left, right, loose in zip(
            equation.sides, equation.sides[1:], equation.approximate, strict=False
        )
        if left and right and (left.states_operation or right.states_operation)
    ]


def value_of(expression: Expression) -> Fraction:
    """The value, a lone `p%` as p; a side that has no value counts as 0."""
    try:
        return evaluate(expression, "number" if isinstance(expression, Number) else "share")
    except UndefinedError:
        return Fraction(0)


def _holds(left: Side, right: Side, loose: bool) -> bool | None:
    """Whether two sides agree under some reading; None where that cannot be told."""
    defined = False
    for reading in get_args(Reading):
        try:
            if _agree(left.expression, right.expression, reading, loose):
                return True
            defined = True
        except UndefinedError:
            continue
    if not defined or _may_convert(left, right) or _runs_on(left, right):
        return None
    return False


def _runs_on(left: Side, right: Side) -> bool:
    """Whether the right side goes on from the left one's result: `16 - 3 = 13 * 2 = 26`."""
    if isinstance(right.expression, Number):
        return False
    return operands(right.expression)[0].value == value_of(left.expression)


def _agree(left: Expression, right: Expression, reading: Reading, loose: bool) -> bool:
    a, b = evaluate(left, reading), evaluate(right, reading)
    slack = max(_last_place(left, reading), _last_place(right, reading))
    if a == b or abs(a - b) < slack:
        return True
    share = abs(a - b) / max(abs(a), abs(b))
    if share <= _FLOAT or (loose and share <= _APPROXIMATE):
        return True
    try:
        (low, high), (lowest, highest) = bounds(left, reading), bounds(right, reading)
    except UndefinedError:  # a divisor that rounding could have made 0
        return False
    return low <= highest and lowest <= high


def _last_place(expression: Expression, reading: Reading) -> Fraction:
    """One unit of the last place of a literal; 0 for an expression."""
    if isinstance(expression, Operation) or expression.fraction:
        return Fraction(0)
    places = expression.decimals + 2 * (expression.percent and reading != "number")
    return Fraction(10) ** -places


def _may_convert(left: Side, right: Side) -> bool:
    """Whether the sides differ by a factor between units, and name units of measure."""
    words = {word.rstrip("s") for word in left.words | right.words}
    if not words & _MEASURES or left.words == right.words:
        return False
    a, b = abs(value_of(left.expression)), abs(value_of(right.expression))
    return a > 0 and b > 0 and max(a / b, b / a) in _UNIT_FACTORS


def operands(expression: Expression) -> list[Number]:
    """The numbers of an expression, from left to right."""
    if isinstance(expression, Number):
        return [expression]
    return operands(expression.left) + operands(expression.right)


def render(expression: Expression) -> str:
    """An expression as text, fully bracketed inside."""
    if isinstance(expression, Number):
        value = expression.value
        exact = expression.fraction or value.denominator == 1
        return f"{value if exact else float(value)}{'%' if expression.percent else ''}"
    parts = [
        render(part) if isinstance(part, Number) else f"({render(part)})"
        for part in (expression.left, expression.right)
    ]
    return f" {expression.sign} ".join(parts)
