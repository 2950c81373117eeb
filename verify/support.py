"""Which steps an answer rests on: the way back from a value to the values it came out of.

A step states a value where one of its equations comes out at it; the numbers on the other side
are what the value rests on. From the answer backwards, each of them is looked for among the
results before it, the nearest first, until nothing is left but numbers of the question.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction

from verify.arithmetic import operands, value_of
from verify.equations import equations


@dataclass(frozen=True)
class Support:
    """What a value rests on.

    Attributes:
        steps: indexes of the steps on the way, in order; the last one states the value.
        silent: indexes of the steps that work nothing out, of which nothing can be told.
    """

    steps: tuple[int, ...]
    silent: frozenset[int]


@dataclass(frozen=True)
class _Result:
    """A value that a step works out, and the numbers it comes out of."""

    step: int
    value: Fraction
    used: tuple[Fraction, ...]


def support(steps: Sequence[str], answer: Fraction, given: Collection[Fraction]) -> Support | None:
    """The steps that a value rests on.

    Args:
        steps: the solution.
        answer: the value; where several equations come out at it, the last one counts.
        given: numbers of the question; where they come from is not asked.

    Returns:
        None where no equation comes out at the value.
    """
    results = [result for index, step in enumerate(steps) for result in _results(index, step)]
    silent = frozenset(range(len(steps))) - {result.step for result in results}
    last = _nearest(results, len(results), answer)
    if last is None:
        return None
    found = {last}
    todo = [last]
    while todo:
        place = todo.pop()
        for value in results[place].used:
            if value in given:
                continue
            source = _nearest(results, place, value)
            if source is not None and source not in found:
                found.add(source)
                todo.append(source)
    return Support(tuple(sorted({results[place].step for place in found})), silent)


def _nearest(results: Sequence[_Result], before: int, value: Fraction) -> int | None:
    """The place of the last of the first `before` results that has this value."""
    return next(
        (place for place in range(before - 1, -1, -1) if results[place].value == value), None
    )


def _results(index: int, step: str) -> list[_Result]:
    """What a step works out, in order: each side of an equation from the side before it."""
    found = []
    for equation in equations(step):
        for left, right in zip(equation.sides, equation.sides[1:], strict=False):
            if left is None or right is None:
                continue
            value = value_of(right.expression)
            used = tuple(number.value for number in operands(left.expression))
            if used != (value,):
                found.append(_Result(index, value, used))
    return found
