"""How two values are compared that are no list and no equation: numbers, units, words, formulas."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from verify import words
from verify.checker_pool import Comparison
from verify.formulas import UnreadableError, read_both
from verify.guards import misread, too_big
from verify.identity import InexactError, UndefinedError, exact, identical
from verify.numerals import in_base, number
from verify.units import Quantity, compound, other_sizes, quantity

Ask = Callable[[str, str], Comparison]
"""Compares two formulas that the rules here leave open."""

_CALCULUS = re.compile(r"\\(?:int|sum|prod|lim)(?![a-zA-Z])")
_DECIMAL = re.compile(r"[-+]?\d*\.\d{5,}")
_UNIT_LETTERS = re.compile(r"[-+]?[\d.,]+ ?(?:[mshglLkKMBGNJWV]|(?![a-cn-ru-z]{2}$)[a-zA-Z]{2})")
_FAMILY = re.compile(r"(?<![a-zA-Z\\])[kmn](?![a-zA-Z])")


def compare_amounts(a: str, b: str, ask: Ask) -> Comparison:
    """Compare two normalised answers as single values."""
    found = _bases(a, b)
    if found is not None:
        return found
    left, right = quantity(a), quantity(b)
    if left.unit and right.unit:
        return _two_units(left, right, ask)
    if not left.unit and not right.unit:
        return _plain(left, right, ask)
    with_unit, other = (left, right) if left.unit else (right, left)
    return _one_unit(with_unit, other, ask)


def _bases(a: str, b: str) -> Comparison | None:
    left, right = in_base(a), in_base(b)
    if left and right:
        if left[2] is None or right[2] is None:
            return Comparison("unknown", "number", "a digit does not belong to its base")
        same = left[2] == right[2]
        return Comparison("equal" if same else "different", "number", "two numbers in their bases")
    if not left and not right:
        return None
    based, other = (left, number(b)) if left else (right, number(a))
    assert based is not None
    if other is None:
        return None
    if based[2] is None:
        return Comparison("unknown", "number", "a digit does not belong to its base")
    if other == based[2] or (based[0].lstrip("-").isdigit() and other == int(based[0])):
        return Comparison("equal", "number", "the same digits, or the same value in base ten")
    return Comparison("different", "number", "neither the digits nor the value")


def _two_units(left: Quantity, right: Quantity, ask: Ask) -> Comparison:
    assert left.unit
    assert right.unit
    one, other = left.unit, right.unit
    if {one.dimension, other.dimension} == {"angle", "radian"}:
        return _formulas(_in_radians(left), _in_radians(right), ask)
    if one.dimension != other.dimension:
        reason = f"units differ: {one.name!r} and {other.name!r} are not converted"
        return Comparison("unknown", "units", reason)
    if left.number is not None and right.number is not None:
        same = left.number * one.size == right.number * other.size
        return Comparison("equal" if same else "different", "units", "numbers with their units")
    if one.size == other.size:
        return _plain(left, right, ask)
    scaled = [
        f"({side.body})\\cdot {side.unit.size.numerator}/{side.unit.size.denominator}"
        for side in (left, right)
        if side.unit
    ]
    return _formulas(scaled[0], scaled[1], ask)


def _in_radians(side: Quantity) -> str:
    return f"({side.body})°" if side.unit and side.unit.dimension == "angle" else side.body


def _one_unit(left: Quantity, right: Quantity, ask: Ask) -> Comparison:
    """`left` has a unit, `right` has none."""
    assert left.unit
    if left.unit.dimension == "angle" and r"\pi" in right.body:
        return _formulas(_in_radians(left), right.body, ask)
    found = _plain(left, right, ask)
    if found.verdict != "different" or left.number is None:
        return found
    value = right.number if right.number is not None else _value(right.body)
    if left.unit.dimension == "percent" and value is not None and left.number == 100 * value:
        return Comparison("equal", "number", "a percentage and its value")
    if value and left.number / value in other_sizes(left.unit):
        return Comparison("unknown", "units", "the same in another unit, which is not named")
    return found


def _value(text: str) -> Fraction | None:
    try:
        return None if too_big(text) else exact(read_both(text, text)[0][0])
    except (UnreadableError, InexactError):
        return None


def _plain(left: Quantity, right: Quantity, ask: Ask) -> Comparison:
    """Compare two bodies without a look at their units."""
    if left.body == right.body:
        return Comparison("equal", "exact", "the same up to notation and units")
    if left.number is not None and right.number is not None:
        same = left.number == right.number
        reason = "the same number" if same else "the numbers differ"
        return Comparison("equal" if same else "different", "number", reason)
    texts = words.plain_text(left.body), words.plain_text(right.body)
    if texts[0] is not None and texts[1] is not None:
        # Two letters side by side may be a product.
        if (
            any(misread(text) or len(text) == 1 for text in texts if text)
            or " " in left.body + right.body
        ):
            verdict, reason = words.compare_texts(texts[0], texts[1])
            return Comparison(verdict, "text", reason)
    elif None not in (left.number or texts[0], right.number or texts[1]):
        word = next(text for text in texts if text is not None)
        if words.is_closed(word):
            return Comparison("different", "text", "a word and a number")
        if misread(word):
            return Comparison("unknown", "text", "a word and a number")
    return _formulas(left.body, right.body, ask)


def _formulas(a: str, b: str, ask: Ask) -> Comparison:
    for side in (a, b):
        reason = too_big(side)
        if reason:
            return Comparison("unknown", "guard", reason)
    for side in (a, b):
        reason = misread(side)
        if reason:
            return Comparison("unknown", "unparsed", reason)
    infinite = [side.lstrip("+") in (r"\infty", r"-\infty") for side in (a, b)]
    if all(infinite):
        same = a.lstrip("+") == b.lstrip("+")
        return Comparison("equal" if same else "different", "formula", "two infinities")
    if _CALCULUS.search(a + b):
        return ask(a, b)
    try:
        if any(infinite):
            finite = b if infinite[0] else a
            for trees in read_both(finite, finite):
                identical(*trees)
            return Comparison("different", "formula", "one is infinite")
        readings = read_both(a, b)
        verdicts = {identical(*trees) for trees in readings}
    except UnreadableError as error:
        return Comparison("unknown", "unparsed", str(error))
    except UndefinedError:
        return Comparison("unknown", "undefined", "a formula has no value")
    decimal = _DECIMAL.fullmatch(a) or _DECIMAL.fullmatch(b)
    if None in verdicts or (False in verdicts and decimal and r"\pi" in a + b):
        return ask(a, b)
    if len(verdicts) == 2:
        return Comparison("unknown", "formula", "a formula can be read in two ways")
    if verdicts == {True}:
        return Comparison("equal", "formula", "the same rational function")
    doubt = _doubt(a, b)
    if doubt is not None:
        return Comparison("unknown", "formula", doubt)
    return Comparison("different", "formula", "two rational functions")


def _doubt(a: str, b: str) -> str | None:
    """Why two formulas that differ as functions may mean the same."""
    for one, other in ((a, b), (b, a)):
        if number(other) is not None and _UNIT_LETTERS.fullmatch(one):
            return "letters behind a number, perhaps a unit"
    families = [bool(_FAMILY.search(side)) for side in (a, b)]
    if all(families) and r"\pi" in a and r"\pi" in b:
        return "two families of values, perhaps counted in another way"
    if "j" in a + b and re.search(r"(?<![a-zA-Z\\])i(?![a-zA-Z])", a + b):
        return "i or j, perhaps both the imaginary unit"
    return None


def compare_compounds(a: str, b: str, ask: Ask) -> Comparison | None:
    """Compare where a side adds several units (`2 hours 30 minutes`), else None."""
    left, right = compound(a), compound(b)
    if left is None and right is None:
        return None
    left, right = left or quantity(a), right or quantity(b)
    if left.unit and right.unit and left.number is not None and right.number is not None:
        return _two_units(left, right, ask)
    return Comparison("unknown", "units", "only one side names its units")
