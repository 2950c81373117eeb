"""The process that compares two answers by computer algebra.

Run as a script, never imported by the framework: `verify.checker_pool` starts it, sends one
JSON line per comparison and kills it when it takes too long. It speaks first (`{"ready":
true}`), answers each request with one line, and ends with its input.

    request   {"a": "…", "b": "…", "cpu_s": 7}
    answer    {"verdict": "equal" | "different" | "unknown", "rule": "…", "reason": "…"}

math-verify's own timeouts turn into False, a wrong label, so they are off; and a False of its
is believed for numbers and formulas only where their difference is shown to be non-zero.
"""

from __future__ import annotations

import cmath
import contextlib
import json
import logging
import os
import signal
import sys
from typing import Any

_POINTS = (1.37, 2.71, 0.59)
"""Where formulas with unknowns are compared; arbitrary, positive and off the usual roots."""


def _limit(memory_bytes: int) -> None:
    with contextlib.suppress(ImportError):
        import resource

        # macOS refuses an address-space limit; the deadline still holds there.
        with contextlib.suppress(ValueError, OSError):
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, hard))


def _limit_cpu(seconds: float) -> None:
    """Die by SIGXCPU that many CPU seconds from now, should nobody be left to kill us."""
    with contextlib.suppress(ImportError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime + seconds) + 1
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _parse(text: str) -> Any:
    """The SymPy object that the whole text means, or None."""
    from math_verify import LatexExtractionConfig, parse

    # `first_match`: if the whole does not parse, never settle for a part of it.
    found = parse(
        f"${text}$",
        [LatexExtractionConfig()],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    return found[0] if found else None


def _differ(a: Any, b: Any) -> bool | None:
    """Whether two formulas take different values; None where that cannot be told."""
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    close = 0
    for shift in range(len(_POINTS)):
        point = {
            symbol: _POINTS[shift] + 0.311 * index * (shift + 1)
            for index, symbol in enumerate(symbols)
        }
        left, right = (complex(side.doit().evalf(30, subs=point)) for side in (a, b))
        if cmath.isinf(left) or cmath.isinf(right):
            return left != right
        gap, size = abs(left - right), max(abs(left), abs(right))
        if gap > 1e-7 * max(size, 1e-7):
            return True
        close += gap <= 1e-7 * max(size, 1e-7)
    return False if close == len(_POINTS) else None


def _compare(a: str, b: str) -> tuple[str, str, str]:
    from math_verify import verify
    from sympy import Expr, simplify

    left, right = _parse(a), _parse(b)
    if left is None or right is None:
        return "unknown", "unparsed", "an answer is not a formula that parses"
    for gold, target in ((left, right), (right, left)):
        if verify([gold], [target], timeout_seconds=None, raise_on_error=True):
            return "equal", "math-verify", "the formulas are equal"
    if isinstance(left, Expr) and isinstance(right, Expr):
        try:
            differ = _differ(left, right)
        except (ArithmeticError, TypeError, ValueError):
            differ = None
        # math-verify compares a single symbol by its name only: `x` and `2x-x` differ for it.
        if differ is False and simplify(left.doit() - right.doit()) == 0:
            return "equal", "simplify", "the difference simplifies to zero"
        if not differ:
            why = "no difference found" if differ is False else "no values to compare"
            return "unknown", "unproven", f"not proved equal, and {why}"
    return "different", "math-verify", "the formulas differ"


def main() -> None:
    """Answer requests until the input ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr
    # An interrupt from the keyboard reaches the whole process group; the parent deals with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def reply(**message: object) -> None:
        print(json.dumps(message), file=replies, flush=True)

    try:
        import math_verify  # noqa: F401
    except ImportError as error:
        reply(ready=False, reason=str(error))
        return
    logging.disable(logging.CRITICAL)
    _limit(int(sys.argv[1]))
    reply(ready=True)
    for line in sys.stdin:
        request = json.loads(line)
        _limit_cpu(request["cpu_s"])
        try:
            verdict, rule, reason = _compare(request["a"], request["b"])
        # Whatever a computer algebra system does with a model's text is data here.
        except Exception as error:  # noqa: BLE001
            verdict, rule = "unknown", "error"
            reason = f"math-verify failed: {type(error).__name__}"
        reply(verdict=verdict, rule=rule, reason=reason)


if __name__ == "__main__":
    main()
