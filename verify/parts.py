"""How answers of several parts are compared: lists, matrices, unions of intervals."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain

from verify import lists
from verify.assignments import RELATION, assignment
from verify.checker_pool import Comparison
from verify.guards import misread, too_big
from verify.numerals import number
from verify.units import NOUN, quantity
from verify.words import plain_text

MAX_PAIRS = 2_500
"""Pairs of items, at all depths, that lists within lists may come to."""

Same = Callable[[str, str], Comparison]
"""Compares two parts."""

MAX_ITEMS = 20
"""Items of a list that are compared one with another."""


def compare_lists(a: str, b: str, same: Same) -> Comparison | None:
    """Compare two lists; None where neither side is one."""
    signs = lists.has_signs(a) or lists.has_signs(b)
    left, right = lists.split_list(a), lists.split_list(b)
    if left is None and right is None and not signs:
        return None
    if r"\ldots" in a + b:
        return Comparison("unknown", "list", "a list is abbreviated")
    if _is_comma_decimal(a, b) or _is_comma_decimal(b, a):
        return Comparison("unknown", "list", "a comma that parts a list, or a number")
    left, right = left or ("", [a], ""), right or ("", [b], "")
    for one, other, text in ((left, right, b), (right, left, a)):
        if one[0] == r"\{" and len(one[1]) == 1 and other[0] in ("(", "["):
            return same(one[1][0], text)
    if max(len(left[1]), len(right[1])) > MAX_ITEMS or a.count(",") * b.count(",") > MAX_PAIRS:
        return Comparison("unknown", "guard", f"a list of more than {MAX_ITEMS} items")
    bare = ("", r"\{")
    if left[0] in bare and right[0] in bare:
        items = lists.both_signs(left[1]), lists.both_signs(right[1])
        if items[0] is None or items[1] is None:
            return Comparison("unknown", "list", "signs that may vary apart")
        return _in_any_order(
            items[0], items[1], same, is_set=left[0] != "" or right[0] != "" or signs
        )
    if signs:
        return Comparison("unknown", "list", "signs within brackets")
    if len(left[1]) != len(right[1]):
        if 1 in (len(left[1]), len(right[1])) or not _are_clean(left[1] + right[1]):
            return Comparison("unknown", "list", "a list and a single value")
        return Comparison("different", "list", f"{len(left[1])} items and {len(right[1])} items")
    return _in_order(left, right, same)


def _is_comma_decimal(listed: str, single: str) -> bool:
    """Whether `3,14` may be the number 3.14, as much of the world writes it, or `10,11` 1011."""
    value = number(single)
    if value is None or not re.fullmatch(r"[-+]?\d+,\d+", listed):
        return False
    return value in (number(listed.replace(",", "")), number(listed.replace(",", ".")))


def _in_order(left: lists.List, right: lists.List, same: Same) -> Comparison:
    bare = ("", r"\{")
    found = [same(x, y) for x, y in zip(left[1], right[1], strict=True)]
    verdicts = {item.verdict for item in found}
    same_brackets = (left[0], left[2]) == (right[0], right[2])
    if verdicts == {"equal"}:
        if same_brackets or left[0] == "" or right[0] == "":
            return Comparison("equal", "list", "the same items in the same order")
        spans = ["".join((part[0], part[2])) for part in (left, right)]
        if set(spans) & {"[)", "(]"} and r"\{" not in (left[0], right[0]):
            return Comparison("different", "list", "an end belongs to one interval only")
        return Comparison("unknown", "list", "the same items in other brackets")
    if "different" in verdicts and (
        same_brackets or (left[0] not in bare and right[0] not in bare)
    ):
        return Comparison("different", "list", "an item differs")
    return next(
        (item for item in found if item.verdict == "unknown"),
        Comparison("unknown", "list", "the brackets leave the order open"),
    )


def _in_any_order(left: list[str], right: list[str], same: Same, *, is_set: bool) -> Comparison:
    matched, unmatched, open_question = _match(left, right, same)
    if matched and (is_set or len(left) == len(right)):
        return Comparison("equal", "list", "the same items")
    if matched:
        return Comparison("unknown", "list", "an item stands there twice")
    if unmatched and _are_clean(left + right):
        return Comparison("different", "list", "an item has no counterpart")
    return open_question or Comparison("unknown", "list", "the items do not match one by one")


def _match(left: list[str], right: list[str], same: Same) -> tuple[bool, bool, Comparison | None]:
    """Whether each item has an equal one on the other side; whether one has none for sure."""
    counterparts = [set[int](), set[int]()]
    candidates = [set[int](), set[int]()]
    open_question: Comparison | None = None
    for i, x in enumerate(left):
        for j in sorted(range(len(right)), key=lambda place: right[place] != x):
            if i in counterparts[0] and j in counterparts[1]:
                continue
            found = same(x, right[j])
            if found.verdict == "equal":
                counterparts[0].add(i)
                counterparts[1].add(j)
            if found.verdict != "different":
                candidates[0].add(i)
                candidates[1].add(j)
            if found.verdict == "unknown":
                open_question = open_question or found
    sizes = len(left), len(right)
    return (
        tuple(map(len, counterparts)) == sizes,
        tuple(map(len, candidates)) != sizes,
        open_question,
    )


def _are_clean(items: list[str]) -> bool:
    """Whether items are values for sure: numbers, formulas, names; not prose cut at a comma."""
    names = {found[0] for item in items if (found := assignment(item))}
    for item in items:
        found = assignment(item)
        body = found[1] if found else item
        if number(body) is not None or lists.split_list(body) or re.fullmatch(r"[A-Za-z]", body):
            continue
        if plain_text(body) and " " not in body:
            continue
        measure = quantity(body)
        if measure.unit and measure.unit.dimension.startswith(NOUN):
            return False
        body = measure.body
        if too_big(body) or misread(body) or RELATION.search(body):
            return False
    return len(names) <= 1 or all(assignment(item) for item in items)


def compare_matrices(a: str, b: str, same: Same) -> Comparison | None:
    """Compare two matrices; None where neither side is one, or a name stands before it."""
    left, right = lists.matrix(a), lists.matrix(b)
    rows = lists.nested_rows(a), lists.nested_rows(b)
    if left is None and right is None and None in rows:
        return None
    left = left or (("", rows[0]) if rows[0] else None)
    right = right or (("", rows[1]) if rows[1] else None)
    if left is None or right is None or left[0] != right[0]:
        # `A=…` is read by the next rule.
        return None if "=" in a + b else Comparison("unknown", "matrix", "only one is a matrix")
    if [len(row) for row in left[1]] != [len(row) for row in right[1]]:
        verdict = "unknown" if left[0] else "different"
        return Comparison(verdict, "matrix", "matrices of two shapes")  # type: ignore[arg-type]
    pairs = zip(*(list(chain(*rows)) for rows in (left[1], right[1])), strict=True)
    found = [same(x, y) for x, y in pairs]
    verdicts = {item.verdict for item in found}
    if verdicts == {"equal"}:
        return Comparison("equal", "matrix", "the same entries")
    if "different" in verdicts and not left[0]:
        return Comparison("different", "matrix", "an entry differs")
    return Comparison(
        "unknown", "matrix", "an entry is unknown, or a determinant is not worked out"
    )


def compare_unions(a: str, b: str, same: Same) -> Comparison | None:
    """Compare two unions piece by piece; None where one is none."""
    if r"\cup" not in a or r"\cup" not in b:
        return None
    left, right = (re.split(r"\\cup ?", text) for text in (a, b))
    if len(left) == len(right) and _match(left, right, same)[0]:
        return Comparison("equal", "region", "the same pieces")
    return Comparison("unknown", "region", "the pieces do not match one by one")
