"""Arithmetic expressions: a parser of our own, so no text of a model reaches an evaluator, and
their values: exact rationals, and roots by sympy.

    side       = term (("+" | "-") term)*
    term       = power (("*" | "/" | "of") power | "(" side ")")*
    power      = ["-"] atom ["^" power]
    atom       = ["$"] number ["%"] units | "(" side ")" units
    units      = (word | "/" word | "(" word+ ")")*
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal as OneOf

from verify.quantities import OPAQUE, Token

Reading = OneOf["share", "number", "relative"]
"""What `p%` means: p/100; p itself; or, after a sum's sign, that share of the left side."""

MAX_POWER_BITS = 2_000
"""Size of the largest power that is worked out."""
_MAX_DEGREE = 12
"""Of the roots that are worked out."""
_MAX_UNIT_WORDS = 6
_MAX_DEPTH = 20
_NO_UNITS = frozenset(
    "is are was were be equals equal so then which because since if that times twice half double "  # noqa: SIM905
    "more less than of and or plus minus but we she he they it you i dozen squared cubed".split()
)
_TIGHT_UNITS = frozenset("kg km cm mm ml mg lb lbs oz ft in hr hrs min mph sec".split())  # noqa: SIM905


@dataclass(frozen=True)
class Number:
    """A number as written; `percent` keeps the sign apart from the value."""

    value: Fraction
    decimals: int = 0
    percent: bool = False
    fraction: bool = False


@dataclass(frozen=True)
class Operation:
    """Two expressions under one of `+ - * / ^`."""

    sign: str
    left: Expression
    right: Expression


Expression = Number | Operation


class UndefinedError(Exception):
    """An expression has no usable value: a division by zero, a huge power, an even root below 0."""


class UnreadableError(Exception):
    """The tokens are no expression of the grammar."""


class Parser:
    """Recursive descent over the tokens of one side; `words` collects its units."""

    def __init__(self, part: Sequence[Token]) -> None:
        self.part = part
        self.at = 0
        self.depth = 0
        self.words: set[str] = set()

    def peek(self, ahead: int = 0) -> Token | None:
        index = self.at + ahead
        return self.part[index] if index < len(self.part) else None

    def _operator(self, signs: str) -> str | None:
        token = self.peek()
        return token.text if token and token.kind == "operator" and token.text in signs else None

    def sum(self) -> Expression:
        left = self._term()
        while sign := self._operator("+-"):
            self.at += 1
            left = Operation(sign, left, self._term())
        return left

    def _term(self) -> Expression:
        left = self._power()
        while True:
            token = self.peek()
            if sign := self._operator("*/"):
                self.at += 1
                left = Operation(sign, left, self._power())
            elif (
                token
                and token.kind == "open"
                and token.tight
                and self.part[self.at - 1].kind != "word"
            ):
                left = Operation("*", left, self._power())
            elif token and token.text == "of" and _is_share(left) and self._quantity_follows():
                self.at += 1
                left = Operation("*", left, self._power())
            else:
                return left

    def _quantity_follows(self) -> bool:
        token = self.peek(1)
        return token is not None and token.kind in ("number", "money", "open")

    def _power(self) -> Expression:
        token = self.peek()
        if token and token.text == "-" and is_sign(self.part, self.at):
            self.at += 1
            return Operation("-", Number(Fraction(0)), self._power())
        base = self._atom()
        if self._operator("^"):
            self.at += 1
            base = Operation("^", base, self._deeper(self._power))
        return base

    def _deeper(self, read: Callable[[], Expression]) -> Expression:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise UnreadableError
        expression = read()
        self.depth -= 1
        return expression

    def _atom(self) -> Expression:
        token = self.peek()
        if token and token.kind == "money":
            self.words.add("$")
            self.at += 1
            token = self.peek()
        if token is None or token.kind not in ("number", "open"):
            raise UnreadableError
        self.at += 1
        if token.kind == "number":
            atom: Expression = self._number(token)
        else:
            atom = self._deeper(self.sum)
            closing = self.peek()
            if closing is None or closing.kind != "close":
                raise UnreadableError
            self.at += 1
        self._units()
        return atom

    def _number(self, token: Token) -> Number:
        value, following = token.value, self.peek()
        if (
            following
            and following.fraction
            and not following.tight
            and token.decimals == 0
            and not token.fraction
            and following.value < 1
        ):
            self.at += 1  # a mixed number, "2 1/2"
            return Number(value + following.value)
        percent = following is not None and (
            following.kind == "percent" or following.text in ("percent", "percents")
        )
        self.at += percent
        return Number(value, token.decimals, percent, token.fraction)

    def _units(self) -> None:
        for _ in range(_MAX_UNIT_WORDS):
            token, following = self.peek(), self.peek(1)
            if token is None:
                return
            if token.kind == "money" and (following is None or following.kind != "number"):
                self.at += 1  # "16 - 3 = 13$", or the end of "$16 - 3 = 13$"
            elif _is_unit(token, self.part[self.at - 1]):
                self._take_word(token)
            elif token.text == "/" and following and _is_unit(following, token):
                self.at += 1
                self._take_word(following)
            elif token.kind == "open" and self._bracketed_words():
                continue
            else:
                return

    def _take_word(self, token: Token) -> None:
        self.words.add(token.text.lower())
        self.at += 1

    def _bracketed_words(self) -> bool:
        """Skip `(red ones)`; False, and nothing read, where the brackets hold anything else."""
        end = self.at + 1
        while end < len(self.part) and self.part[end].kind == "word":
            if self.part[end].text == OPAQUE or is_letter(self.part[end], self.part[end - 1]):
                return False
            end += 1
        if end == self.at + 1 or end >= len(self.part) or self.part[end].kind != "close":
            return False
        self.words.update(token.text.lower() for token in self.part[self.at + 1 : end])
        self.at = end + 1
        return True


def _is_unit(token: Token, before: Token) -> bool:
    return (
        token.kind == "word"
        and token.text != OPAQUE
        and not is_letter(token, before)
        and token.text.lower() not in _NO_UNITS
    )


def _is_share(expression: Expression) -> bool:
    """Whether `of` after it multiplies: `20% of`, `2/3 of`."""
    match expression:
        case Number():
            return expression.percent or expression.fraction
        case Operation():
            return expression.sign == "/"


def evaluate(expression: Expression, reading: Reading = "share") -> Fraction:
    """The exact value.

    Raises:
        UndefinedError: where there is none, or it would be too large.
    """
    match expression:
        case Number():
            scaled = expression.percent and reading != "number"
            return expression.value / 100 if scaled else expression.value
        case Operation():
            left, right = (evaluate(part, reading) for part in (expression.left, expression.right))
            if reading == "relative" and expression.sign in "+-" and _is_percent(expression.right):
                right = right if _is_percent(expression.left) else left * right
            return apply(expression.sign, left, right)


def bounds(expression: Expression, reading: Reading = "share") -> tuple[Fraction, Fraction]:
    """The least and greatest value, where each number with two or more decimals may have been
    rounded to them (0.67 stands for 0.665 to 0.675); raises `UndefinedError` as `evaluate` does.
    """
    if isinstance(expression, Number):
        value = evaluate(expression, reading)
        places = expression.decimals + 2 * (expression.percent and reading != "number")
        slack = Fraction(1, 2 * 10**places) if expression.decimals >= 2 else Fraction(0)
        return value - slack, value + slack
    left, right = bounds(expression.left, reading), bounds(expression.right, reading)
    if expression.sign == "/" and right[0] <= 0 <= right[1]:
        raise UndefinedError
    if reading == "relative" and expression.sign in "+-" and _is_percent(expression.right):
        value = evaluate(expression, reading)
        return value, value
    corners = [apply(expression.sign, a, b) for a in left for b in right]
    return min(corners), max(corners)


def _is_percent(expression: Expression) -> bool:
    return isinstance(expression, Number) and expression.percent


def apply(sign: str, left: Fraction, right: Fraction) -> Fraction:
    """One operation in exact rationals; raises `UndefinedError` as `evaluate` does."""
    if sign == "+":
        return left + right
    if sign == "-":
        return left - right
    if sign == "*":
        return left * right
    if sign == "/":
        if right == 0:
            raise UndefinedError
        return left / right
    bits = max(left.numerator.bit_length(), left.denominator.bit_length())
    if bits * abs(right.numerator) > MAX_POWER_BITS or (left == 0 and right < 0):
        raise UndefinedError
    if right.denominator != 1:
        return _root(left, right)
    return Fraction(left ** int(right))


def _root(base: Fraction, exponent: Fraction) -> Fraction:
    """A fractional power by sympy: exact where rational, else to forty digits.

    Raises:
        UndefinedError: the base is negative, or the root's degree beyond any use.
    """
    import sympy  # takes a second, and few solutions hold a root

    if base < 0 or exponent.denominator > _MAX_DEGREE:
        raise UndefinedError
    power = sympy.Rational(base.numerator, base.denominator) ** sympy.Rational(
        exponent.numerator, exponent.denominator
    )
    return Fraction(str(power if power.is_Rational else power.evalf(40)))


def is_sign(part: Sequence[Token], index: int) -> bool:
    """A minus that belongs to its number: tight to it, and not after another quantity."""
    token, before = part[index], (part[index - 1] if index else None)
    if token.text != "-" or index + 1 == len(part) or not part[index + 1].tight:
        return False
    if (
        before
        and before.kind not in ("operator", "open")
        and (token.tight or before.kind != "word")
    ):
        return False
    return part[index + 1].kind in ("number", "money", "open")


def is_letter(token: Token, before: Token) -> bool:
    """A variable rather than a unit: `2x`, `3xy`, `5 n`; not `5kg`, nor the article."""
    if token.tight and before.kind in ("number", "close"):
        return len(token.text) <= 3 and token.text.lower() not in _TIGHT_UNITS
    return len(token.text) == 1 and (token.tight or token.text != "a")
