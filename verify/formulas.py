r"""Formulas: a strict reader of LaTeX, so that nothing is taken for what it is not.

A formula is read as a whole or refused; nothing is skipped and no part stands for the whole.
What people write and mean in two ways has two readings: `\log 8` (base ten or natural) and
`1/2x` (a half of x, or one over 2x). Both sides of a comparison are read in the same way.

    sum      = product (("+" | "-") product)*
    product  = signed (("*" | "/" | \cdot) signed | power)*
    signed   = ("+" | "-") signed | power
    power    = atom ("!" | "°")* ["^" exponent]
    atom     = number | letter ["_" index] | group | \frac | \sqrt | \binom | function | "|" sum "|"

A tree is a tuple: the operation's name, then its operands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from verify.numerals import number

Tree = tuple[Any, ...]
"""`("num", Fraction)`, `("sym", name)`, `("const", name)`, or an operation with its operands."""

_TOKEN = re.compile(
    r"\s*(?:(\d*\.?\d*\\(?:overline|bar)\{\d+\}|\d+(?:\.\d+)?|\.\d+)|(\\[a-zA-Z]+|\\[{}|])|(.))",
    re.DOTALL,
)
_FUNCTIONS = {"sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan"}
_FUNCTIONS |= {"sinh", "cosh", "tanh", "ln", "lg", "log", "exp"}
_INVERSES = {"sin": "arcsin", "cos": "arccos", "tan": "arctan"}
_GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta iota kappa lambda mu nu xi rho sigma "  # noqa: SIM905
    "tau phi varphi chi psi omega Gamma Delta Theta Lambda Sigma Phi Psi Omega ell".split()
)
_OPENING = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
_TIMES = ("*", r"\cdot")
_SLASH = ("/", r"\div")


class UnreadableError(ValueError):
    """The text is no formula that can be read in one way; says why."""


@dataclass(frozen=True)
class Reading:
    """How the two ambiguous notations are meant.

    Attributes:
        natural: a `\\log` without a base is the natural logarithm, else that to base ten.
        tight: in `1/2x` the product binds before the slash.
    """

    natural: bool = False
    tight: bool = False


READINGS = tuple(Reading(natural, tight) for natural in (False, True) for tight in (False, True))


@lru_cache(maxsize=512)
def read(text: str, reading: Reading = READINGS[0]) -> Tree:
    """The tree of a normalised formula.

    Raises:
        UnreadableError: it is not a formula, or one of an unknown or ambiguous notation.
    """
    reader = _Reader(text, reading)
    tree = reader.sum()
    if reader.next is not None:
        raise UnreadableError(f"unexpected {reader.next!r}")
    return tree


def read_both(a: str, b: str) -> list[tuple[Tree, Tree]]:
    """The trees of two formulas, once for each way in which they can be read.

    Raises:
        UnreadableError: one cannot be read.
    """
    return list(dict.fromkeys((read(a, reading), read(b, reading)) for reading in READINGS))


class _Reader:
    """The tokens of a text and how far they are read."""

    def __init__(self, text: str, reading: Reading) -> None:
        self._tokens = [match[0].strip() for match in _TOKEN.finditer(text) if match[0].strip()]
        self._reading = reading
        self._place = 0
        self._bars = 0

    @property
    def next(self) -> str | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _take(self) -> str:
        if self._place >= len(self._tokens):
            raise UnreadableError("the formula breaks off")
        self._place += 1
        return self._tokens[self._place - 1]

    def _expect(self, token: str) -> None:
        if self._take() != token:
            raise UnreadableError(f"a {token!r} is missing")

    def sum(self) -> Tree:
        tree = self._product()
        while self.next in ("+", "-"):
            sign = self._take()
            other = self._product()
            tree = ("add", tree, other if sign == "+" else ("neg", other))
        return tree

    def _product(self) -> Tree:
        tree = self._signed()
        while True:
            if self.next in _TIMES:
                self._take()
                tree = ("mul", tree, self._signed())
            elif self.next in _SLASH:
                self._take()
                below = self._signed()
                while self._reading.tight and self._starts_factor():
                    below = ("mul", below, self._power())
                tree = ("div", tree, below)
            elif self._starts_factor():
                tree = ("mul", tree, self._power())
            else:
                return tree

    def _starts_factor(self) -> bool:
        token = self.next
        if token is None or (token == "|" and self._bars):
            return False
        if token[0].isdigit() or token[0] == ".":
            raise UnreadableError("a number follows a factor without a sign between them")
        return token.isalpha() or token in ("(", "[", "{", "|") or _is_atom(token)

    def _signed(self) -> Tree:
        if self.next in ("+", "-"):
            sign = self._take()
            tree = self._signed()
            return tree if sign == "+" else ("neg", tree)
        return self._power()

    def _power(self) -> Tree:
        tree = self._atom()
        while self.next in ("!", "°"):
            name = {"!": "factorial", "°": "degrees"}[self._take()]
            if tree[0] == name:
                raise UnreadableError("a double factorial or degree")
            tree = ("fn", name, tree)
        if self.next == "^":
            self._take()
            tree = ("pow", tree, self._exponent())
            if self.next in ("^", "!", "°"):
                raise UnreadableError("what an exponent belongs to is open")
        return tree

    def _exponent(self) -> Tree:
        if self.next == "-":
            self._take()
            return ("neg", self._exponent())
        if self.next in ("{", "("):
            return self._group()
        token = self.next or ""
        if token[:1].isdigit() or token.isalpha() or token in (r"\frac", r"\pi", r"\sqrt"):
            return self._atom(with_index=False)
        raise UnreadableError(f"{token!r} is no exponent")

    def _group(self) -> Tree:
        opening = self._take()
        if opening not in _OPENING:
            raise UnreadableError("a group is missing")
        bars, self._bars = self._bars, 0
        tree = self.sum()
        self._bars = bars
        self._expect(_OPENING[opening])
        return tree

    def _argument(self) -> Tree:
        """The operand of `\\frac` or `\\sqrt`: a group in braces, or one sign."""
        if self.next == "{":
            return self._group()
        token = self.next or ""
        if len(token) == 1 and token.isalnum() and token.isascii():
            return self._atom(with_index=False)
        if token == r"\pi" or (token.isdigit() and len(token) == 1):
            return self._atom()
        raise UnreadableError("an operand stands without braces")

    def _atom(self, *, with_index: bool = True) -> Tree:
        token = self.next
        if token is None:
            raise UnreadableError("the formula breaks off")
        if token[0].isdigit() or token[0] == ".":
            return self._number()
        if token in (r"\lfloor", r"\lceil"):
            return ("fn", "floor" if token == r"\lfloor" else "ceil", self._group())
        if token in _OPENING:
            return self._group()
        self._take()
        if token == "|":
            self._bars += 1
            tree = self.sum()
            self._bars -= 1
            self._expect("|")
            return ("fn", "abs", tree)
        if token.isalpha() and token.isascii():
            return self._letter(token, with_index)
        name = token[1:]
        if name in _FUNCTIONS and token[0] == "\\":
            return self._function(name)
        if token == r"\frac":
            above = self._argument()
            return ("div", above, self._argument())
        if token == r"\binom":
            above = self._argument()
            return ("binom", above, self._argument())
        if token == r"\sqrt":
            return self._root()
        if token == r"\pi":
            return ("const", "pi")
        if name in _GREEK:
            return self._letter(token, with_index)
        raise UnreadableError(f"{token!r} is not read")

    def _number(self) -> Tree:
        token = self._take()
        value = number(token)
        if value is None:
            raise UnreadableError(f"{token!r} is not read")
        # `3\frac{1}{4}` is a mixed number.
        rest = "".join(self._tokens[self._place : self._place + 7])
        match = re.match(r"\\frac\{(\d+)\}\{(\d+)\}", rest)
        if match and token.isdigit():
            above, below = int(match[1]), int(match[2])
            if not 0 < above < below:
                raise UnreadableError("an improper fraction behind a number")
            self._place += 7
            value += Fraction(above, below)
        return ("num", value)

    def _letter(self, token: str, with_index: bool) -> Tree:
        name = token
        if self.next == "_" and with_index:
            self._take()
            index = self._take()
            if index == "{":
                parts = []
                while self.next != "}":
                    parts.append(self._take())
                self._take()
                index = "".join(parts)
            name = f"{token}_{index}"
        elif token in ("e", "i"):
            return ("const", token)
        if token in "fgh" and self.next == "(":
            raise UnreadableError("a letter and brackets, perhaps a function")
        return ("sym", name)

    def _root(self) -> Tree:
        degree = 2
        if self.next == "[":
            self._take()
            digits = self._take()
            self._expect("]")
            if not digits.isdigit() or not 2 <= int(digits) <= 100:
                raise UnreadableError("a root of an unusual degree")
            degree = int(digits)
        return ("root", degree, self._argument())

    def _function(self, name: str) -> Tree:
        base: Tree | None = None
        exponent: Tree | None = None
        if name == "log" and self.next == "_":
            self._take()
            base = self._argument() if self.next == "{" else self._atom(with_index=False)
        if self.next == "^":
            self._take()
            exponent = self._exponent()
            if exponent == ("neg", ("num", Fraction(1))):
                if name not in _INVERSES:
                    raise UnreadableError("an inverse or a power")
                name, exponent = _INVERSES[name], None
        argument = self._function_argument()
        if name == "exp":
            tree: Tree = ("pow", ("const", "e"), argument)
        elif name in ("log", "lg", "ln"):
            natural = name == "ln" or (name == "log" and self._reading.natural)
            own = ("const", "e") if natural else ("num", Fraction(10))
            tree = ("log", base if base is not None else own, argument)
        else:
            tree = ("fn", name, argument)
        return tree if exponent is None else ("pow", tree, exponent)

    def _function_argument(self) -> Tree:
        if self.next in ("(", "{", "[", "|"):
            tree = self._atom()
            if self.next in ("^", "!", "°"):
                raise UnreadableError("what an exponent belongs to is open")
            return tree
        tree = self._power()
        while self._starts_factor() and (self.next or "")[1:] not in _FUNCTIONS:
            if self.next in ("(", "[", "{"):
                raise UnreadableError("where a function's operand ends is open")
            tree = ("mul", tree, self._power())
        if self.next in _SLASH or (self.next in _TIMES and tree[0] == "num"):
            raise UnreadableError("where a function's operand ends is open")
        return tree


def _is_atom(token: str) -> bool:
    name = token[1:]
    return token[0] == "\\" and (
        name in _FUNCTIONS
        or name in _GREEK
        or name in ("frac", "sqrt", "binom", "pi", "lfloor", "lceil")
    )


def symbols(tree: Tree) -> set[str]:
    """The names of the unknowns of a tree."""
    if tree[0] == "sym":
        return {tree[1]}
    return {name for part in tree[1:] if isinstance(part, tuple) for name in symbols(part)}
