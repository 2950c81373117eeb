"""The values of formulas to many digits, each with a bound of its error (by mpmath).

What `identity` cannot do exactly: roots, logarithms, trigonometry. Two constants that differ by
more than their errors are different; two that agree in hundreds of digits are equal. Formulas with
unknowns are the same if they agree at points drawn from positive, negative and complex numbers.

Runs in the checker's process only, where it can be killed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal

import mpmath

from verify.formulas import Tree, symbols

Verdict = Literal["equal", "different", "unknown"]

DIGITS = 60
CONFIRM_DIGITS = 600
MAX_LOG = 1e7
"""Natural logarithm of the largest value that is worked out."""

_JUMPS: tuple[Tree, ...] = (("fn", "floor"), ("fn", "ceil"))
_GAMMA: tuple[Tree, ...] = (("fn", "factorial"), ("binom",))
_Value = tuple[Any, Any]
"""A number and a bound of its error."""


class UnstableError(Exception):
    """A value that cannot be told from a pole, a jump or an ambiguous root."""


def compare(a: Tree, b: Tree) -> tuple[Verdict, str]:
    """Whether two formulas have the same values, and why."""
    names = sorted(symbols(a) | symbols(b))
    if not names:
        return _compare_constants(a, b)
    agreed, differed = 0, 0
    for point in _points(names):
        agreement = _agree(a, b, point, DIGITS)
        if agreement:
            agreed += 1
        elif agreement is False:
            positive = all(isinstance(value, float) and value > 0 for value in point.values())
            if positive and _real(a, point) and _real(b, point):
                differed += 1
            elif agreed:
                return "unknown", "the same for some values only"
        if agreed and differed:
            # `sqrt((x-1)^2)` and `x-1` may be the same where the problem says what x is.
            return "unknown", "the same for some values only"
    if differed >= 3:
        return "different", f"the values differ at {differed} points"
    if agreed < 5:
        return "unknown", "too few points where both have a value"
    if _holds(a, *_JUMPS) or _holds(b, *_JUMPS):
        return "unknown", "a function with jumps"
    # A gamma function of hundreds of digits takes seconds.
    digits = 2 * DIGITS if _holds(a, *_GAMMA) or _holds(b, *_GAMMA) else CONFIRM_DIGITS
    if _agree(a, b, _points(names)[0], digits) is False:
        return "unknown", "the values agree in the first digits only"
    return "equal", f"the same values at {agreed} points"


def _compare_constants(a: Tree, b: Tree) -> tuple[Verdict, str]:
    agreement = _agree(a, b, {}, DIGITS)
    if agreement:
        agreement = _agree(a, b, {}, CONFIRM_DIGITS)
    if agreement is None:
        return "unknown", "a value is not defined, or not in one way"
    if agreement:
        return "equal", f"the same value to {CONFIRM_DIGITS} digits"
    return "different", "the values differ"


def _points(names: list[str]) -> list[dict[str, Any]]:
    """Points of four kinds; drawn from a fixed seed, so that verdicts repeat."""
    source = random.Random(20_240_229)
    kinds: list[Callable[[], Any]] = [
        *[lambda: source.uniform(0.2, 0.9)] * 2,
        *[lambda: source.uniform(1.1, 3.0)] * 3,
        *[lambda: source.uniform(4.0, 30.0)] * 2,
        *[lambda: 10 ** source.uniform(2, 4)] * 2,
        *[lambda: 10 ** source.uniform(6, 9)] * 2,
        *[lambda: -source.uniform(0.2, 3.0)] * 3,
        *[lambda: -(10 ** source.uniform(3, 9))] * 2,
        *[lambda: complex(source.uniform(-2, 2), source.uniform(-2, 2))] * 2,
    ]
    return [{name: kind() for name in names} for kind in kinds]


def _agree(a: Tree, b: Tree, point: dict[str, Any], digits: int) -> bool | None:
    """Whether two values agree within their errors; None where one cannot be had."""
    with mpmath.workdps(digits):
        try:
            (left, left_error), (right, right_error) = _value(a, point), _value(b, point)
        except (ArithmeticError, ValueError, UnstableError, TypeError):
            return None
        error = left_error + right_error
        gap, size = abs(left - right), max(abs(left), abs(right), mpmath.mpf(1))
        if not (mpmath.isfinite(left) and mpmath.isfinite(right) and mpmath.isfinite(error)):
            return None
        if gap > 1000 * error:
            return False
        return True if error < size * mpmath.mpf(10) ** (-digits // 2) else None


def _real(tree: Tree, point: dict[str, Any]) -> bool:
    with mpmath.workdps(DIGITS):
        value, error = _value(tree, point)
        return bool(abs(mpmath.im(value)) <= 1000 * error) or _holds(tree, ("const", "i"))


def _holds(tree: Tree, *heads: Tree) -> bool:
    """Whether a part of a tree begins like one of these."""
    return any(tree[: len(head)] == head for head in heads) or any(
        _holds(part, *heads) for part in tree[1:] if isinstance(part, tuple)
    )


def decimal_gap(a: Tree, b: Tree) -> float | None:
    """How far two constants are from one another, or None where that cannot be told."""
    with mpmath.workdps(DIGITS):
        try:
            return float(abs(_value(a, {})[0] - _value(b, {})[0]))
        except (ArithmeticError, ValueError, UnstableError, TypeError, KeyError):
            return None


def _value(tree: Tree, point: dict[str, Any]) -> _Value:
    kind = tree[0]
    eps = mpmath.mpf(10) ** -mpmath.mp.dps
    if kind == "num":
        value = mpmath.mpf(tree[1].numerator) / tree[1].denominator
        return value, abs(value) * eps
    if kind == "sym":
        return mpmath.mpmathify(point[tree[1]]), mpmath.mpf(0)
    if kind == "const":
        value = {"pi": +mpmath.pi, "e": +mpmath.e, "i": mpmath.mpc(0, 1)}[tree[1]]
        return value, eps * 4
    if kind == "neg":
        value, error = _value(tree[1], point)
        return -value, error
    if kind == "root":
        return _root(_value(tree[2], point), tree[1], eps)
    if kind == "fn":
        return _function(tree[1], _value(tree[2], point), eps)
    (left, left_error), (right, right_error) = _value(tree[1], point), _value(tree[2], point)
    if kind == "add":
        small, large = sorted((abs(left), abs(right)))
        if 0 < small < large * mpmath.mpf(10) ** (-mpmath.mp.dps // 2):
            raise UnstableError("a term too small to be seen beside the other")
        value = left + right
        return value, left_error + right_error + abs(value) * eps
    if kind == "mul":
        value = left * right
        error = abs(left) * right_error + abs(right) * left_error + left_error * right_error
        return value, error + abs(value) * eps
    if kind == "div":
        return _divide((left, left_error), (right, right_error), eps)
    if kind == "pow":
        return _power((left, left_error), (right, right_error), eps)
    if kind == "log":
        above = _function("ln", (right, right_error), eps)
        return _divide(above, _function("ln", (left, left_error), eps), eps)
    if kind == "binom":
        value = mpmath.binomial(left, right)
        near = mpmath.binomial(left + left_error, right + right_error)
        return value, 2 * abs(near - value) + abs(value) * eps
    raise UnstableError(kind)


def _divide(above: _Value, below: _Value, eps: Any) -> _Value:
    size = abs(below[0])
    if size <= 1000 * below[1] or size == 0:
        raise UnstableError("a denominator that may be zero")
    value = above[0] / below[0]
    return value, (abs(value) * below[1] + above[1]) / size * 2 + abs(value) * eps


def _power(base: _Value, exponent: _Value, eps: Any) -> _Value:
    if abs(base[0]) <= 1000 * base[1] or base[0] == 0:
        raise UnstableError("a base that may be zero")
    logarithm = mpmath.log(base[0])
    if abs(logarithm * exponent[0]) > MAX_LOG:
        raise UnstableError("a power too big")
    whole = mpmath.nint(mpmath.re(exponent[0]))
    near_whole = abs(exponent[0] - whole) <= 1000 * exponent[1]
    if near_whole and abs(whole) < 10**6:
        value, exponent = base[0] ** int(whole), (whole, mpmath.mpf(0))
    else:
        # A negative number to a broken power has several values, and people mean the real one.
        if abs(mpmath.im(base[0])) <= 1000 * base[1] and mpmath.re(base[0]) < 0:
            raise UnstableError("a broken power of a negative number")
        value = mpmath.exp(logarithm * exponent[0])
    relative = abs(exponent[0]) * base[1] / abs(base[0]) + abs(logarithm) * exponent[1] + eps
    if relative > mpmath.mpf(10) ** -10:
        raise UnstableError("no digits left")
    return value, abs(value) * relative * 4


def _root(value: _Value, degree: int, eps: Any) -> _Value:
    number, error = value
    if abs(number) <= 1000 * error or number == 0:
        raise UnstableError("a root of what may be zero")
    if abs(mpmath.im(number)) <= 1000 * error and mpmath.re(number) < 0:
        number = mpmath.re(number)
        if degree % 2:
            result = -mpmath.root(-number, degree)
        elif degree == 2:
            result = mpmath.mpc(0, mpmath.sqrt(-number))
        else:
            raise UnstableError("an even root of a negative number")
    else:
        result = mpmath.root(number, degree)
    return result, abs(result) * (error / abs(number) + eps) * 2


_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    **{name: getattr(mpmath, name) for name in "sin cos tan cot sec csc sinh cosh tanh".split()},  # noqa: SIM905
    **{"arcsin": mpmath.asin, "arccos": mpmath.acos, "arctan": mpmath.atan},
    **{"ln": mpmath.log, "factorial": mpmath.factorial},
}


def _function(name: str, argument: _Value, eps: Any) -> _Value:
    value, error = argument
    if name == "abs":
        return abs(value), error
    if name == "degrees":
        return value * mpmath.pi / 180, (error + abs(value) * eps) * 2
    if name in ("floor", "ceil"):
        if abs(value - mpmath.nint(mpmath.re(value))) <= 1000 * error:
            raise UnstableError("a jump")
        if mpmath.im(value) != 0:
            raise UnstableError("a complex number has no floor")
        return (mpmath.floor if name == "floor" else mpmath.ceil)(value), mpmath.mpf(0)
    if abs(value) > (1e3 if name == "factorial" else 1e6) and name not in ("ln", "arctan"):
        raise UnstableError("an operand too big")
    if name == "ln" and abs(value) <= 1000 * error:
        raise UnstableError("a logarithm of what may be zero")
    function = _FUNCTIONS[name]
    result = function(value)
    if abs(result) > mpmath.mpf(10) ** 20 and name != "factorial":
        raise UnstableError("a pole")
    step = max(error, abs(value) * eps, eps)
    return result, 4 * abs(function(value + step) - result) + (abs(result) + eps) * eps * 4
