"""The rules by which two answers are compared, from cheap to dear.

Each hands on what it cannot decide; `Comparison.rule` names the one that decided:

1. `exact`: the same text, or the same after `notation` removed what has no value.
2. `choice`, `moment`, `ratio`, `matrix`, `region`, `equation`: both are of that kind.
3. `list`: tuples and intervals item by item in order, sets and bare lists in any order.
4. `units`, `number`: plain numbers, compared exactly with no tolerance, and their units.
5. `text`: words.
6. `guard`: too long, too deep or too big to parse: unknown.
7. `unparsed`: words and digits mixed, or a notation that is not read: unknown.
8. `formula`: rational functions, at random points modulo a random prime (`identity`).
9. `values`, `math-verify`: many digits or computer algebra in a killable process (`timeout`,
   `crash`, `error`, `unproven`: unknown).
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import partial

from verify import lists, words
from verify.amounts import Ask, compare_amounts, compare_compounds
from verify.assignments import RELATION, assignment, spread
from verify.checker_pool import Comparison
from verify.formulas import Tree, UnreadableError, read_both
from verify.guards import MAX_CHARS, misread, too_big, too_deep
from verify.identity import same_solutions
from verify.moments import compare_moments, is_dated, moment
from verify.notation import normalise
from verify.numerals import number
from verify.parts import compare_lists, compare_matrices, compare_unions
from verify.regions import as_interval, interval, region
from verify.units import quantity

_RATIO = re.compile(r"(\d+(?:\.\d+)?)((?:(?::| ?to ?)\d+(?:\.\d+)?)+)")


def compare(a: str, b: str, ask: Ask) -> Comparison:
    """Compare two answers as they are written."""
    if not a.strip() or not b.strip():
        return Comparison("unknown", "empty", "an answer is empty")
    if a == b:
        return Comparison("equal", "exact", "the same text")
    if max(len(a), len(b)) > MAX_CHARS:
        return Comparison("unknown", "guard", f"an answer has more than {MAX_CHARS} characters")
    first, second = normalise(a), normalise(b)
    deep = too_deep(first) or too_deep(second)
    if deep and first != second:
        return Comparison("unknown", "guard", deep)
    return _compare(first, second, ask)


def _compare(a: str, b: str, ask: Ask) -> Comparison:
    if not a or not b:
        return Comparison("unknown", "empty", "an answer holds nothing but notation")
    if a == b:
        return Comparison("equal", "exact", "the same up to notation")
    if "%" in (a, b) or "¤" in (a, b):
        return Comparison("unknown", "empty", "an answer is nothing but a unit")
    for rule in (_choices, _ratios, _moments, _emptiness, _regions):
        found = rule(a, b, ask)
        if found is not None:
            return found
    same = partial(_compare, ask=ask)
    return (
        compare_matrices(a, b, same)
        or _equations(a, b, ask)
        or compare_compounds(a, b, ask)
        or compare_lists(a, b, same)
        or compare_amounts(a, b, ask)
    )


def _choices(a: str, b: str, ask: Ask) -> Comparison | None:
    left, right = words.choice(a), words.choice(b)
    if left is None and right is None:
        return None
    # A lone letter is a choice where the other side is one.
    left = left or (words.Choice(a.upper(), "") if re.fullmatch("[a-j]", a) else None)
    right = right or (words.Choice(b.upper(), "") if re.fullmatch("[a-j]", b) else None)
    if left is not None and right is not None:
        found = words.compare_choices(left, right)
        if found is not None:
            return Comparison(found[0], "choice", found[1])
        inner = _compare(left.content, right.content, ask)
        if inner.verdict == "equal":
            return Comparison("equal", "choice", "the same option")
        return Comparison("unknown", "choice", "one letter with two contents")
    named, other = (left, b) if left is not None else (right, a)
    assert named is not None
    if named.content:
        return _compare(named.content, other, ask)
    return Comparison("unknown", "choice", "a letter may name what the other side says")


def _ratios(a: str, b: str, ask: Ask) -> Comparison | None:
    left, right = _ratio(a), _ratio(b)
    if left is None and right is None:
        return None
    clocks = moment(a) is not None, moment(b) is not None
    if left is not None and right is not None:
        if left == right:
            return Comparison("equal", "ratio", "the same ratio or time")
        same = len(left) == len(right) and all(
            x * right[0] == y * left[0] for x, y in zip(left, right, strict=True)
        )
        if all(clocks):
            found = _moments(a, b, ask)
            if found is None or (found.verdict == "equal") != same:
                return Comparison("unknown", "ratio", "a ratio or a time of day")
            return found
        return Comparison("equal" if same else "different", "ratio", "two ratios")
    ratio, other = (left, quantity(b)) if left is not None else (right, quantity(a))
    assert ratio is not None
    if other.number is None or len(ratio) != 2 or any(clocks):
        return None
    same = ratio[0] == other.number * ratio[1]
    return Comparison("equal" if same else "different", "ratio", "a ratio and a number")


def _ratio(text: str) -> list[Fraction] | None:
    match = _RATIO.fullmatch(text)
    if match is None:
        return None
    parts = [Fraction(part) for part in re.findall(r"\d+(?:\.\d+)?", text)]
    return parts if all(parts) else None


def _moments(a: str, b: str, ask: Ask) -> Comparison | None:
    left, right = moment(a), moment(b)
    if left is not None and right is not None:
        verdict, reason = compare_moments(left, right)
        return Comparison(verdict, "moment", reason)
    if left is None and right is None:
        return None
    dated = is_dated(a) or is_dated(b) or "date" in ((left or right or ("",))[0],)
    if dated or _ratio(a) or _ratio(b):
        return Comparison("unknown", "moment", "a date or time, and something else")
    return None


def _emptiness(a: str, b: str, ask: Ask) -> Comparison | None:
    empty = words.is_empty(a), words.is_empty(b)
    if all(empty):
        verdict, reason = words.compare_texts(a, b)
        if r"\emptyset" in (a, b):
            verdict, reason = "equal", "nothing solves the problem"
        return Comparison(verdict, "text", reason)
    if not any(empty):
        return None
    said, other = (a, b) if empty[0] else (b, a)
    if said != r"\emptyset" and quantity(other).number == 0:
        return Comparison("unknown", "text", "no solution, or none in number")
    if quantity(other).number is not None or lists.split_list(other) or region(other):
        return Comparison("different", "text", "nothing, and something")
    return Comparison("unknown", "text", "nothing solves the problem, and something else")


def _regions(a: str, b: str, ask: Ask) -> Comparison | None:
    left, right = region(a), region(b)
    if left is None and right is None:
        spans = as_interval(a), as_interval(b)
        if spans != (a, b):
            return _compare(*spans, ask)
        return compare_unions(a, b, partial(_compare, ask=ask))
    if left is not None and right is not None:
        if left.unknown and right.unknown and left.unknown != right.unknown:
            return Comparison("unknown", "region", "two unknowns")
        same = left.region == right.region
    else:
        piece = interval(b if left is not None else a)
        found = left or right
        if piece is None or found is None:
            spans = as_interval(a), as_interval(b)
            return _compare(*spans, ask) if spans != (a, b) else None
        same = found.region == (piece,)
    return Comparison("equal" if same else "different", "region", "two sets of numbers")


def _equations(a: str, b: str, ask: Ask) -> Comparison | None:
    if "=" not in a + b:
        return None
    left, right = assignment(a), assignment(b)
    if left and right:
        if left[0] == right[0]:
            return _compare(left[1], right[1], ask)
        if lists.split_list(left[1]) or lists.split_list(right[1]):
            return Comparison("unknown", "equation", "two names")
        if all(number(value) is not None for value in (left[1], right[1])):
            return Comparison("different", "equation", "two unknowns")
    elif left or right:
        name, value, other = (*left, b) if left else (*right, a)  # type: ignore[misc]
        if "=" not in other:
            return _compare(value, other, ask)
        parts = lists.split_list(other)
        named = spread(name, value)
        if parts is not None and named is not None:
            return _compare(",".join(named), ",".join(parts[1]), ask)
    sides = [text.split("=") for text in (a, b)]
    if any(len(parts) != 2 for parts in sides) or RELATION.search((a + b).replace("=", "")):
        return None
    for part in (*sides[0], *sides[1]):
        if too_big(part) or misread(part):
            return None
    try:
        trees = [read_both(*parts) for parts in sides]
    except UnreadableError:
        return None
    if any(len(readings) != 1 for readings in trees):
        return None
    zeros: list[Tree] = [("add", x, ("neg", y)) for ((x, y),) in trees]
    same = same_solutions(zeros[0], zeros[1])
    if same is None:
        return Comparison("unknown", "equation", "two equations, perhaps with the same solutions")
    return Comparison("equal" if same else "different", "equation", "two equations")
