"""Find the equations that a step states.

Prose stands around equations without a border, so the first side is the longest suffix before
the equals sign that parses, the last one a prefix after it. What touches an operand that is
no number (a letter, a word, a root) is dropped: a missed equation costs a vote, a misread one
costs a good step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from verify.expressions import Expression, Operation, Parser, UnreadableError, is_letter, is_sign
from verify.quantities import OPAQUE, Token, tokens

SPAN = 60
"""Tokens that one side may have; also bounds the size of its value."""

_JOINING = frozenset(("times", "twice", "half", "double", "of", "minus", "plus", "by", "root"))
_RATES = frozenset(("in", "per", "every", "each"))  # "24 eggs in 1 tray * 2 = 48"


@dataclass(frozen=True)
class Side:
    """One side of an equation: its expression and the words that stood among its numbers."""

    expression: Expression
    words: frozenset[str] = frozenset()

    @property
    def states_operation(self) -> bool:
        """Whether there is anything to work out: `1/2 mile` is a quantity, not a division."""
        match self.expression:
            case Operation():
                return True
            case number:
                return number.fraction and not self.words


@dataclass(frozen=True)
class Equation:
    """Sides joined by equals signs; None where a side is no arithmetic.

    `approximate[i]` tells whether the sign before side i + 1 was an approximation.
    """

    sides: tuple[Side | None, ...]
    approximate: tuple[bool, ...]


def equations(text: str) -> list[Equation]:
    """The equations that a text states, in order."""
    found: list[Equation] = []
    clause: list[Token] = []
    for token in [*tokens(text), Token("break", "", False)]:
        if token.kind != "break":
            clause.append(token)
            continue
        if any(part.kind == "equals" for part in clause):
            found.extend(_read_clause(clause))
        clause = []
    return found


def _read_clause(clause: Sequence[Token]) -> list[Equation]:
    """Split a clause at its equals signs; a middle part that is no side ends one equation and
    begins the next (`= 13 eggs left and she sells 13 * 2 =`)."""
    signs = [index for index, token in enumerate(clause) if token.kind == "equals"]
    borders = [-1, *signs, len(clause)]
    parts = [clause[a + 1 : b] for a, b in pairwise(borders)]
    found: list[Equation] = []
    sides: list[Side | None] = [_first_side(parts[0])]
    loose: list[bool] = []
    for index, part in enumerate(parts[1:], 1):
        loose.append(clause[signs[index - 1]].text == "~")
        middle = index < len(parts) - 1
        whole = _whole_side(part) if middle else None
        sides.append(whole or _last_side(part))
        if middle and whole is None:
            found.append(Equation(tuple(sides), tuple(loose)))
            sides, loose = [_first_side(part)], []
    if loose:
        found.append(Equation(tuple(sides), tuple(loose)))
    return found


def _first_side(part: Sequence[Token]) -> Side | None:
    """The longest suffix that is an expression, unless something unread is joined to it."""
    tail = part[-SPAN:]
    for start, token in enumerate(tail):
        if not (token.kind in ("number", "open", "money") or is_sign(tail, start)):
            continue
        side = _whole_side(tail[start:])
        if side is None:
            continue
        return side if side.states_operation and not _joined(tail, start) else None
    return None


def _joined(part: Sequence[Token], start: int) -> bool:
    """Whether what stands before an expression belongs to it: `x + 3`, `eggs + her 3`, `f(3`."""
    if start == 0:
        return False
    before = part[start - 1]
    if before.kind in ("operator", "number", "close", "percent"):
        return True
    if before.kind != "word":
        return False
    lowered = before.text.lower()
    if part[start].tight or before.text == OPAQUE or len(lowered) == 1 or lowered in _JOINING:
        return True
    quantity = next((token for token in part[start - 1 :: -1] if token.kind != "word"), None)
    if quantity is None:
        return False
    return quantity.kind == "operator" or (quantity.kind == "number" and lowered in _RATES)


def _whole_side(part: Sequence[Token]) -> Side | None:
    if not 0 < len(part) <= SPAN:
        return None
    parser = Parser(part)
    try:
        expression = parser.sum()
    except UnreadableError:
        return None
    return Side(expression, frozenset(parser.words)) if parser.at == len(part) else None


def _last_side(part: Sequence[Token]) -> Side | None:
    """The longest prefix that is an expression, unless something unread is joined to it."""
    parser = Parser(part[:SPAN])
    try:
        expression = parser.sum()
    except UnreadableError:
        return None
    after = parser.peek()
    if after is not None:
        letter = after.kind == "word" and (
            after.text == OPAQUE or is_letter(after, part[parser.at - 1])
        )
        if letter or after.kind in ("operator", "number", "open", "percent"):
            return None
        if after.kind == "word" and after.text.lower() in ("of", "dozen", "times"):
            return None
        if after.kind == "word" and after.text == "and" and _number_follows(part, parser.at + 1):
            return None  # "2 hours and 30 minutes"
    return Side(expression, frozenset(parser.words))


def _number_follows(part: Sequence[Token], index: int) -> bool:
    return index < len(part) and part[index].kind == "number"
