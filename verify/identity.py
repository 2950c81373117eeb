"""Whether two formulas of rational operations are the same, decided exactly and at once.

Two rational functions that are not identical differ at a random point modulo a random prime, but
for a chance below degree / 2^127 (Schwartz 1980, Zippel 1979). So `(x+y+z)^900` is compared
without being multiplied out. π counts as one more unknown, which it may, being transcendental;
`i` is a square root of -1 modulo the prime.

The prime and the points are drawn anew in each process: nobody can write a formula for them.
"""

from __future__ import annotations

import math
import random
from fractions import Fraction
from functools import cache

from verify.formulas import Tree, symbols

MAX_BITS = 60_000
"""Size of the largest number that is worked out."""

_POINTS = 2


class InexactError(Exception):
    """The formula holds more than rational operations, or has no value."""


class UndefinedError(InexactError):
    """The formula divides by zero."""


def identical(a: Tree, b: Tree) -> bool | None:
    """Whether two formulas are the same function; None where this cannot tell.

    Raises:
        UndefinedError: one of them has no value.
    """
    names = symbols(a) | symbols(b)
    try:
        if not names:
            return exact(a) == exact(b)
    except UndefinedError:
        raise
    except InexactError:
        pass
    try:
        for draw in range(_POINTS):
            point = _point(names, draw)
            if _residue(a, point) != _residue(b, point):
                # Of e and π together too little is known to call two formulas different.
                both = _constants(a) | _constants(b)
                return None if {"e", "pi"} <= both else False
    except UndefinedError:
        raise
    except InexactError:
        return None
    return True


def exact(tree: Tree) -> Fraction:
    """The rational value of a formula without unknowns.

    Raises:
        InexactError: it has none, or one too big.
    """
    kind = tree[0]
    if kind == "num":
        return Fraction(tree[1])
    if kind == "neg":
        return -exact(tree[1])
    if kind in ("add", "mul"):
        left, right = exact(tree[1]), exact(tree[2])
        return _bounded(left + right if kind == "add" else left * right)
    if kind == "div":
        above, below = exact(tree[1]), exact(tree[2])
        if below == 0:
            raise UndefinedError
        return _bounded(above / below)
    if kind == "pow":
        return _power(exact(tree[1]), exact(tree[2]))
    if kind == "root":
        return _root(exact(tree[2]), tree[1])
    if kind == "fn":
        return _whole(tree[1], exact(tree[2]))
    if kind == "binom":
        above, below = exact(tree[1]), exact(tree[2])
        if above.denominator != 1 or below.denominator != 1 or not 0 <= below <= above <= 1_000:
            raise InexactError
        return Fraction(math.comb(int(above), int(below)))
    raise InexactError


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise InexactError
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if base == 0 and exponent <= 0:
        raise UndefinedError
    if exponent.denominator != 1:
        if base < 0 or exponent.denominator > 100:
            raise InexactError
        base = _root(base, exponent.denominator)
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(base) != 1 and base != 0 and bits * abs(exponent.numerator) > MAX_BITS:
        raise InexactError
    if abs(base) == 1:
        return base if exponent.numerator % 2 else Fraction(1)
    return base**exponent.numerator


def _root(value: Fraction, degree: int) -> Fraction:
    """The exact root, where there is one."""
    if value < 0:
        if degree % 2 == 0:
            raise InexactError
        return -_root(-value, degree)
    return Fraction(_whole_root(value.numerator, degree), _whole_root(value.denominator, degree))


def _whole_root(value: int, degree: int) -> int:
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        if middle**degree <= value:
            low = middle
        else:
            high = middle - 1
    if low**degree != value:
        raise InexactError
    return low


def _whole(name: str, value: Fraction) -> Fraction:
    if name == "abs":
        return abs(value)
    if name in ("floor", "ceil"):
        return Fraction(math.floor(value) if name == "floor" else math.ceil(value))
    if name == "factorial" and value.denominator == 1 and 0 <= value <= 1_000:
        return Fraction(math.factorial(int(value)))
    raise InexactError


def _constants(tree: Tree) -> set[str]:
    if tree[0] == "const":
        return {tree[1]}
    return {name for part in tree[1:] if isinstance(part, tuple) for name in _constants(part)}


def _residue(tree: Tree, point: _Point) -> int:
    """The value at a random point modulo the prime."""
    prime, imaginary = _field()
    kind = tree[0]
    if kind == "num":
        return _divide(tree[1].numerator, tree[1].denominator, prime)
    if kind == "sym":
        return point[tree[1]] % prime
    if kind == "const":
        return imaginary if tree[1] == "i" else point[f"the constant {tree[1]}"]
    if kind == "neg":
        return -_residue(tree[1], point) % prime
    if kind == "add":
        return (_residue(tree[1], point) + _residue(tree[2], point)) % prime
    if kind == "mul":
        return _residue(tree[1], point) * _residue(tree[2], point) % prime
    if kind == "div":
        return _divide(_residue(tree[1], point), _residue(tree[2], point), prime)
    if kind == "pow" and not symbols(tree[2]):
        base, exponent = _residue(tree[1], point), exact(tree[2])
        if exponent.denominator != 1:
            raise InexactError
        if base == 0 and exponent <= 0:
            raise UndefinedError
        return pow(base, int(exponent), prime)
    if symbols(tree):
        raise InexactError
    value = exact(tree)
    return _divide(value.numerator, value.denominator, prime)


def _divide(above: int, below: int, prime: int) -> int:
    if below % prime == 0:
        raise UndefinedError
    return above * pow(below, -1, prime) % prime


@cache
def _field() -> tuple[int, int]:
    """A random prime of 128 bits that leaves 1 when divided by 4, and a root of -1 modulo it."""
    source = random.SystemRandom()
    while True:
        prime = source.getrandbits(126) << 2 | 1 << 127 | 1
        if all(pow(base, prime - 1, prime) == 1 for base in (2, 3, 5)) and _is_prime(prime, source):
            break
    while True:
        root = pow(source.randrange(2, prime), (prime - 1) // 4, prime)
        if root * root % prime == prime - 1:
            return prime, root


def _is_prime(number: int, source: random.Random) -> bool:
    """Miller and Rabin's test, wrong with a chance below 4^-20."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(20):
        power = pow(source.randrange(2, number - 1), odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


_SALT = random.SystemRandom().getrandbits(128)
_Point = dict[str, int]


def _point(names: set[str], draw: int) -> _Point:
    every = (*names, "the constant pi", "the constant e")
    return {name: random.Random(f"{_SALT} {draw} {name}").getrandbits(127) for name in every}


def same_solutions(a: Tree, b: Tree) -> bool | None:
    """Whether two equations, `a = 0` and `b = 0`, say the same; None where that stays open.

    They do where one side is the other times a constant; they do not where both are linear and
    it is not, or where a multiple of one differs from the other by a constant.
    """
    prime = _field()[0]
    names = symbols(a) | symbols(b)
    try:
        points = [_point(names, draw) for draw in range(4)]
        left = [_residue(a, point) for point in points]
        right = [_residue(b, point) for point in points]
        if not left[0] or not right[0] or not names:
            return None
        if all((left[0] * y - right[0] * x) % prime == 0 for x, y in zip(left, right, strict=True)):
            return True
        if symbols(a) == symbols(b) and _is_affine(a, names) and _is_affine(b, names):
            return False
        # a(p) - a(q) is a multiple of b(p) - b(q), the same for all points.
        steps = [
            ((left[0] - x) % prime, (right[0] - y) % prime)
            for x, y in zip(left, right, strict=True)
        ]
        (x, y), *rest = steps[1:]
    except InexactError:
        return None
    return False if x and y and all((x * v - y * u) % prime == 0 for u, v in rest) else None


def _is_affine(tree: Tree, names: set[str]) -> bool:
    p, q = _point(names, 0), _point(names, 1)
    constants = {name: value for name, value in p.items() if name.startswith("the ")}
    both = {name: p[name] + q[name] for name in names} | constants
    zero = dict.fromkeys(names, 0) | constants
    try:
        values = [_residue(tree, point) for point in (p, q | constants, both, zero)]
    except InexactError:
        return False
    return (values[0] + values[1] - values[2] - values[3]) % _field()[0] == 0
