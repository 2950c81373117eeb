"""Whether two answers mean the same: equal, different, or unknown with a reason.

A wrong label costs more than a missing one, so "different" is said only where it is shown.
From cheap to dear, each rule hands on what it cannot decide:

1. `exact`: the same text, or the same after `verify.notation` removed what has no value.
2. `units`: both name a unit, and not the same: unknown, nothing is converted.
3. `number`: both are plain numbers; compared exactly, with no tolerance.
4. `text`: both are plain text.
5. `guard`: too long, too deep or too big to parse: unknown.
6. `list`: tuples and intervals item by item in order, sets and bare lists in any order.
7. `unparsed`: words and digits mixed, which a formula parser would misread: unknown.
8. `math-verify`: computer algebra in a killable process (`timeout`, `crash`, `error`,
   `unproven`: unknown).

Conventions, those of the MATH data set: a unit or a percent sign that only one side has is
dropped, so `50%` equals `50`; it also equals `0.5`, its value. The relation is reflexive and
symmetric, but with percents, units and the six decimals that math-verify compares irrational
numbers by, it is not transitive.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from verify.answers import extract_answer
from verify.checker_pool import CheckerPool, Comparison
from verify.notation import (
    MAX_CHARS,
    Quantity,
    misread,
    normalise,
    plain_text,
    read,
    split_list,
    too_big,
)

__all__ = ["CheckerPool", "Comparison", "equivalent", "equivalent_many", "grade"]

MAX_ITEMS = 20
"""Items of a list that are compared one with another."""

_Ask = Callable[[str, str], Comparison]


def equivalent(
    a: str, b: str, *, deadline_s: float = 5.0, pool: CheckerPool | None = None
) -> Comparison:
    """Compare two answers; never raises on their text.

    Args:
        deadline_s: seconds that computer algebra may take; beyond, the verdict is unknown.
        pool: the processes to use; by default a pool of two, started when first needed,
            shared by all threads and closed at exit.

    Raises:
        RuntimeError: the checker's process cannot start.
    """
    # In one order, so that the relation is symmetric whatever the rules below do.
    first, second = sorted((a, b))
    if pool is not None:
        return _decide(first, second, deadline_s, pool)
    try:
        return _remembered(first, second, deadline_s)
    except _NotRememberedError as crashed:
        return crashed.comparison


def equivalent_many(
    pairs: Iterable[tuple[str, str]], *, deadline_s: float = 5.0, pool: CheckerPool | None = None
) -> list[Comparison]:
    """Compare many pairs, in their order, with all workers of the pool at once.

    The cheap rules run here; only pairs that need computer algebra wait for a process, and a
    pair that occurs again is compared once.
    """
    pairs = [(min(pair), max(pair)) for pair in pairs]
    known: dict[tuple[str, str], Comparison] = {}
    hard = []
    for pair in dict.fromkeys(pairs):
        try:
            known[pair] = _compare(*pair, _needs_process)
        except _NeedsProcessError:
            hard.append(pair)
    if hard:
        with ThreadPoolExecutor((pool or _shared_pool()).size) as threads:
            found = threads.map(
                lambda pair: equivalent(*pair, deadline_s=deadline_s, pool=pool), hard
            )
            known.update(zip(hard, found, strict=True))
    return [known[pair] for pair in pairs]


def grade(steps: Sequence[str], answer: str, *, deadline_s: float = 5.0) -> Comparison:
    """Compare the final answer of a solution with the true one.

    Unknown by the rule `no answer` where the solution has none.
    """
    found = extract_answer(steps)
    if found.text is None:
        return Comparison("unknown", "no answer", found.reason or "no answer found")
    return equivalent(found.text, answer, deadline_s=deadline_s)


def _decide(a: str, b: str, deadline_s: float, pool: CheckerPool | None) -> Comparison:
    end: float | None = None

    def ask(left: str, right: str) -> Comparison:
        # All items of a list share the deadline, which starts with the first of them.
        nonlocal end
        end = end or time.monotonic() + deadline_s
        rest = end - time.monotonic()
        if rest <= 0:
            return Comparison("unknown", "timeout", f"no verdict within {deadline_s:g} s")
        return (pool or _shared_pool()).check(left, right, rest)

    return _compare(a, b, ask)


def _compare(a: str, b: str, ask: _Ask) -> Comparison:
    if not a.strip() or not b.strip():
        return Comparison("unknown", "empty", "an answer is empty")
    if a == b:
        return Comparison("equal", "exact", "the same text")
    if max(len(a), len(b)) > MAX_CHARS:
        return Comparison("unknown", "guard", f"an answer has more than {MAX_CHARS} characters")
    return _compare_normal(normalise(a), normalise(b), ask)


def _compare_normal(a: str, b: str, ask: _Ask) -> Comparison:
    if not a or not b:
        return Comparison("unknown", "empty", "an answer holds nothing but notation")
    if a == b:
        return Comparison("equal", "exact", "the same up to notation")
    left, right = read(a), read(b)
    if not left.body or not right.body:
        return Comparison("unknown", "empty", "an answer is nothing but a unit")
    if left.unit and right.unit and left.unit != right.unit:
        return Comparison(
            "unknown", "units", f"units differ: {left.unit!r} and {right.unit!r} are not converted"
        )
    if left.body == right.body:
        return Comparison("equal", "exact", "the same up to notation and units")
    if left.number is not None and right.number is not None:
        return _compare_numbers(left, right)
    words = plain_text(a), plain_text(b)
    if words[0] is not None and words[1] is not None:
        return _compare_texts(words[0], words[1])
    for side in (left, right):
        reason = too_big(side.body)
        if reason:
            return Comparison("unknown", "guard", reason)
    as_lists = _compare_lists(left.body, right.body, ask)
    if as_lists is not None:
        return as_lists
    for side in (left, right):
        reason = misread(side.body)
        if reason:
            return Comparison("unknown", "unparsed", reason)
    return ask(left.body, right.body)


def _compare_numbers(left: Quantity, right: Quantity) -> Comparison:
    assert left.number is not None
    assert right.number is not None
    if left.number == right.number:
        return Comparison("equal", "number", "the same number")
    for percent, plain in ((left, right), (right, left)):
        if percent.unit == "%" and not plain.unit and percent.number == 100 * (plain.number or 0):
            return Comparison("equal", "number", "a percentage and its value")
    return Comparison("different", "number", "the numbers differ")


def _compare_texts(left: str, right: str) -> Comparison:
    if left == right:
        return Comparison("equal", "text", "the same words")
    shorter, longer = sorted((left, right), key=len)
    if shorter in longer or (len(shorter) == 1 and len(longer) > 2):
        # "Anna" may be "Anna Smith", and "B" may stand for the choice that the other names.
        return Comparison("unknown", "text", "one text may stand for the other")
    if sorted(left.replace(" ", "")) == sorted(right.replace(" ", "")):
        return Comparison("unknown", "text", "the same letters, perhaps a product")
    return Comparison("different", "text", "the texts differ")


def _compare_lists(a: str, b: str, ask: _Ask) -> Comparison | None:
    """The verdict on two lists; None where one is no list, or only the whole can tell."""
    left, right = split_list(a), split_list(b)
    if left is None or right is None:
        return None
    if len(left[1]) != len(right[1]):
        if r"\pm" in a + b or "..." in a + b or r"\dots" in a + b or r"\ldots" in a + b:
            return Comparison("unknown", "list", "a list is abbreviated")
        return Comparison("different", "list", f"{len(left[1])} items and {len(right[1])} items")
    if len(left[1]) > MAX_ITEMS:
        return Comparison("unknown", "guard", f"a list of more than {MAX_ITEMS} items")
    sets = ("", r"\{")
    if left[0] in sets and right[0] in sets:
        return _match_items(left[1], right[1], ask)
    found = [_compare_normal(x, y, ask) for x, y in zip(left[1], right[1], strict=True)]
    verdicts = {item.verdict for item in found}
    same_brackets = (left[0], left[2]) == (right[0], right[2])
    if verdicts == {"equal"}:
        if same_brackets or left[0] == "" or right[0] == "":
            return Comparison("equal", "list", "the same items in the same order")
        return Comparison("unknown", "list", "the same items in other brackets")
    if "different" in verdicts and (
        same_brackets or (left[0] not in sets and right[0] not in sets)
    ):
        return Comparison("different", "list", "an item differs")
    return next(
        (item for item in found if item.verdict == "unknown"),
        Comparison("unknown", "list", "the brackets leave the order open"),
    )


def _match_items(left: list[str], right: list[str], ask: _Ask) -> Comparison:
    rest = list(right)
    open_question: Comparison | None = None
    unmatched = False
    for item in left:
        for other in sorted(rest, key=item.__ne__):
            found = _compare_normal(item, other, ask)
            if found.verdict == "equal":
                rest.remove(other)
                break
            if found.verdict == "unknown":
                open_question = open_question or found
        else:
            unmatched = True
    if not unmatched:
        return Comparison("equal", "list", "the same items")
    return open_question or Comparison("different", "list", "an item has no counterpart")


class _NeedsProcessError(Exception):
    """The cheap rules cannot decide."""


def _needs_process(a: str, b: str) -> Comparison:
    raise _NeedsProcessError


class _NotRememberedError(Exception):
    """Carries a comparison past the cache."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison


@lru_cache(maxsize=16_384)
def _remembered(a: str, b: str, deadline_s: float) -> Comparison:
    comparison = _decide(a, b, deadline_s, None)
    if comparison.rule == "crash":
        # A process may have died for reasons of its own; the next try may succeed.
        raise _NotRememberedError(comparison)
    return comparison


_shared: CheckerPool | None = None
_shared_lock = threading.Lock()


def _shared_pool() -> CheckerPool:
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = CheckerPool()
        return _shared


def _close_shared() -> None:
    if _shared is not None:
        _shared.close()


def _forget_shared() -> None:
    """A forked child must not talk over its parent's pipes."""
    global _shared, _shared_lock
    _shared, _shared_lock = None, threading.Lock()


atexit.register(_close_shared)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_shared)
