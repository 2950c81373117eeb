r"""Whether two answers mean the same: equal, different, or unknown with a reason.

A wrong label costs more than a missing one, so "equal" and "different" are said only where they
are shown. `comparison` holds the rules; here they meet the processes of `checker_pool`, a memory
of pairs seen before, threads and asyncio.

Conventions:

- A unit or a percent sign that only one side has is dropped, so `50%` equals `50`; it also equals
  `0.5`, its value. Two units of one dimension are converted (60 minutes are an hour); `1 hour`
  and `60` is unknown. A noun behind a number (`3 apples`) is a unit. `90°` is 90 and π/2.
- Numbers are exact: `0.333` is not `1/3`. An irrational number and a decimal that rounds it to
  five places or more: unknown.
- `x=5` is 5, `y=2x+1` is `2x+1`; equations are the same up to a constant factor.
- A bare list and a set have no order, a tuple has; a set counts no item twice. A list without
  brackets may stand for a tuple in the same order.
- `(1,2)` is a pair or an open interval, `[1,2]` a list or a closed one: which, is unknown.
- `12_7` is 12 and 9. `\log` is base ten or natural, `1/2x` a half of x or one over 2x: a verdict
  needs both. Fractions are equal where they are as functions: `(x^2-1)/(x-1)` is `x+1`.
- A letter of multiple choice with or without its content is the choice (`C. 12` is `C`, and 12);
  `C` and `12` is unknown. Case does not count in words.
- Words differ only within a closed class (yes and no, days, colours) or as two single names.

The relation is reflexive (but for an empty answer) and symmetric; with percents, units and
choices it is not transitive.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from verify.answers import Answer, extract_answer
from verify.checker_pool import CheckerPool, Comparison
from verify.comparison import compare

__all__ = [
    "CheckerPool",
    "Comparison",
    "equivalent",
    "equivalent_async",
    "equivalent_many",
    "grade",
    "grade_many",
]


def equivalent(
    a: str, b: str, *, deadline_s: float = 2.0, pool: CheckerPool | None = None
) -> Comparison:
    """Compare two answers; never raises on their text. Threads may share the pool.

    Args:
        deadline_s: seconds that computer algebra may take; beyond, the verdict is unknown.
        pool: the processes to use; by default a pool of two, started when first needed,
            shared by all threads and closed at exit.

    Raises:
        RuntimeError: the checker's process cannot start.
    """
    # In one order, so that the relation is symmetric whatever the rules do.
    first, second = sorted((a, b))
    if pool is not None:
        return _decide(first, second, deadline_s, pool)
    try:
        return _remembered(first, second, deadline_s)
    except _NotRememberedError as crashed:
        return crashed.comparison


async def equivalent_async(
    a: str, b: str, *, deadline_s: float = 2.0, pool: CheckerPool | None = None
) -> Comparison:
    """`equivalent` for asyncio: the event loop goes on while a process computes.

    Cheap pairs are decided at once. As many comparisons as the pool has workers run at a time; one
    that is cancelled leaves its worker to finish or to be killed at its deadline.
    """
    first, second = sorted((a, b))
    try:
        return compare(first, second, _needs_process)
    except _NeedsProcessError:
        pass
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(
        _shared_threads(),
        lambda: equivalent(first, second, deadline_s=deadline_s, pool=pool),
    )


def equivalent_many(
    pairs: Iterable[tuple[str, str]], *, deadline_s: float = 2.0, pool: CheckerPool | None = None
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
            known[pair] = compare(*pair, _needs_process)
        except _NeedsProcessError:
            hard.append(pair)
    if hard:
        with ThreadPoolExecutor((pool or _shared_pool()).size) as threads:
            found = threads.map(
                lambda pair: equivalent(*pair, deadline_s=deadline_s, pool=pool), hard
            )
            known.update(zip(hard, found, strict=True))
    return [known[pair] for pair in pairs]


def grade(solution: str | Sequence[str], answer: str, *, deadline_s: float = 2.0) -> Comparison:
    """Compare the final answer of a solution, its text or its steps, with the true one.

    As `grade_many`; the lines of a text count as its steps.
    """
    found = extract_answer(solution.splitlines() if isinstance(solution, str) else solution)
    [comparison] = grade_many([(found, answer)], deadline_s=deadline_s)
    return comparison


def grade_many(
    pairs: Sequence[tuple[Answer, str]],
    *,
    deadline_s: float = 2.0,
    pool: CheckerPool | None = None,
) -> list[Comparison]:
    """Compare answers found in solutions with the true ones, in their order.

    Unknown by the rule `no answer` where a solution has none, and by `early answer` where an
    unmarked one from a step before the last differs: the solution may not stand by it.
    """
    there = [(found.text, answer) for found, answer in pairs if found.text is not None]
    compared = iter(equivalent_many(there, deadline_s=deadline_s, pool=pool))
    results = []
    for found, _ in pairs:
        if found.text is None:
            results.append(Comparison("unknown", "no answer", found.reason or "no answer found"))
            continue
        result = next(compared)
        if found.early and result.verdict == "different":
            reason = "the last step gives no answer, and an earlier one another than the true one"
            result = Comparison("unknown", "early answer", reason)
        results.append(result)
    return results


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

    return compare(a, b, ask)


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
    if comparison.rule in ("crash", "timeout"):
        # A process may have died or been slow for reasons of its own; the next try may succeed.
        raise _NotRememberedError(comparison)
    return comparison


_shared: CheckerPool | None = None
_threads: ThreadPoolExecutor | None = None
_shared_lock = threading.Lock()


def _shared_pool() -> CheckerPool:
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = CheckerPool()
        return _shared


def _shared_threads() -> ThreadPoolExecutor:
    """The threads in which asyncio's comparisons wait for a worker."""
    global _threads
    with _shared_lock:
        if _threads is None:
            _threads = ThreadPoolExecutor(8, thread_name_prefix="answers")
        return _threads


def _close_shared() -> None:
    if _shared is not None:
        _shared.close()


def _forget_shared() -> None:
    """A forked child must not talk over its parent's pipes."""
    global _shared, _shared_lock, _threads
    _shared, _threads, _shared_lock = None, None, threading.Lock()


atexit.register(_close_shared)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_shared)
