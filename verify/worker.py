"""The process that compares two formulas to many digits or by computer algebra.

Run as a script, never imported by the framework: `verify.checker_pool` starts it and speaks with it
by lines of JSON. It loads the libraries once, then forks; the child answers, the parent waits for
it and forks the next one when it dies, within milliseconds and not the second that the libraries
take. SIGUSR1 to the parent kills the child: so the pool ends a comparison that is late.

    child     {"ready": true}                                     at its start
    request   {"id": 3, "a": "…", "b": "…", "cpu_s": 7}
    child     {"taken": 3}                                        before it begins
    child     {"id": 3, "verdict": "equal", "rule": "…", "reason": "…"}

A `ready` behind a `taken` says that the child died over that request. Both end with their input.

math-verify's own timeouts turn into False, a wrong label, so they are off; and its verdicts are
believed only where the values of the formulas bear them out.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import select
import signal
import sys
from pathlib import Path
from typing import Any

_WARM_UP = (
    (r"\sum_{k=1}^{3} k", r"\int_0^1 x dx"),
    (r"\sin 2x+\sqrt{3}", r"2\sin x\cos x"),
    (r"\log_2 3", "2^{1/2}"),
)
"""Compared once before the fork, so that no first comparison pays for lazy imports."""


def _limit(memory_bytes: int) -> None:
    with contextlib.suppress(ImportError):
        import resource

        # macOS refuses an address-space limit; the deadline still holds there.
        with contextlib.suppress(ValueError, OSError):
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_cpu(seconds: float) -> None:
    """Die by SIGXCPU that many CPU seconds from now, should nobody be left to kill us."""
    with contextlib.suppress(ImportError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime + seconds) + 1
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


@functools.lru_cache(maxsize=256)
def _parse(text: str) -> Any:
    """The SymPy object that the whole text means, or None; kept, as references occur again."""
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


def _compare_values(a: str, b: str) -> tuple[str, str, str]:
    """Compare by values of many digits, in every way in which the two can be read."""
    from verify import evaluation
    from verify.formulas import read_both

    found = [evaluation.compare(*trees) for trees in read_both(a, b)]
    verdicts = {verdict for verdict, _ in found}
    if len(verdicts) > 1:
        return "unknown", "values", "a formula can be read in two ways"
    verdict, reason = found[0]
    if verdict == "different":
        decimal = re.fullmatch(r"[-+]?\d*\.(\d{5,})", a) or re.fullmatch(r"[-+]?\d*\.(\d{5,})", b)
        gap = evaluation.decimal_gap(*read_both(a, b)[0]) if decimal else None
        if decimal and gap is not None and gap < 10.0 ** -len(decimal[1]):
            return "unknown", "values", "a decimal that may be rounded from the other side"
    return verdict, "values", reason


def _compare_algebra(a: str, b: str) -> tuple[str, str, str]:
    """Sums, integrals and limits, by math-verify, where the values bear it out."""
    from math_verify import verify
    from sympy import Expr

    for side in (a, b):
        if re.search(r"\\(?:sum|prod|lim)", side) and _has_open_sum(side):
            return "unknown", "unparsed", "where a sum or limit ends is open"
    left, right = _parse(a), _parse(b)
    if not isinstance(left, Expr) or not isinstance(right, Expr):
        return "unknown", "unparsed", "an answer is not a formula that parses"
    if left.free_symbols or right.free_symbols:
        return "unknown", "unproven", "a sum, integral or limit with unknowns"
    same = verify([left], [right], timeout_seconds=None, raise_on_error=True)
    values = [complex(side.doit().evalf(30)) for side in (left, right)]
    gap = abs(values[0] - values[1])
    size = max(map(abs, values), default=0.0)
    if same and gap <= 1e-12 * max(size, 1e-3):
        return "equal", "math-verify", "the formulas are equal"
    if not same and gap > 1e-7 * max(size, 1e-7):
        return "different", "math-verify", "the formulas differ"
    return "unknown", "unproven", "neither proved equal nor different"


def _has_open_sum(text: str) -> bool:
    """Whether a plus or minus stands outside all braces and brackets."""
    depth = 0
    for char in text:
        depth += (char in "({[") - (char in ")}]")
        if depth == 0 and char in "+-":
            return True
    return False


def _compare(a: str, b: str) -> tuple[str, str, str]:
    if re.search(r"\\(?:int|sum|prod|lim)(?![a-zA-Z])", a + b):
        return _compare_algebra(a, b)
    return _compare_values(a, b)


def _serve(replies: Any) -> None:
    """Answer requests until the input ends."""

    def reply(**message: object) -> None:
        print(json.dumps(message), file=replies, flush=True)

    reply(ready=True)
    for line in os.fdopen(0, encoding="utf-8"):
        request = json.loads(line)
        reply(taken=request["id"])
        _limit_cpu(request["cpu_s"])
        try:
            verdict, rule, reason = _compare(request["a"], request["b"])
        # Whatever a computer algebra system does with a model's text is data here.
        except Exception as error:  # noqa: BLE001
            verdict, rule = "unknown", "error"
            reason = f"the comparison failed: {type(error).__name__}"
        reply(id=request["id"], verdict=verdict, rule=rule, reason=reason)


def _wait_for(child: int, parent: int, woken: int) -> int:
    """How a child ended; one whose parent's parent is gone is ended, within a second.

    Args:
        child, parent: process ids.
        woken: the read end of a pipe that gets a byte with every signal.
    """
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if os.getppid() != parent:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 0
        if select.select([woken], [], [], 1.0)[0]:
            os.read(woken, 64)


def main() -> None:
    """Load the libraries, then keep one child at work until the input ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    # An interrupt from the keyboard reaches the whole process group; the parent deals with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # its coming is written to the pipe
    child = 0

    def kill_child(*_: object) -> None:
        if child:
            os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGUSR1, kill_child)
    try:
        import math_verify  # noqa: F401

        from verify import evaluation  # noqa: F401
    except ImportError as error:
        print(json.dumps({"ready": False, "reason": str(error)}), file=replies, flush=True)
        return
    logging.disable(logging.CRITICAL)
    for pair in _WARM_UP:
        _compare(*pair)
    _limit(int(sys.argv[1]))
    while True:
        # A signal between the fork and the assignment would find no child to kill.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        child = os.fork()
        if child == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGUSR1, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
            # Nobody listens any more: an end like that of the input, not a death to be replaced.
            with contextlib.suppress(BrokenPipeError):
                _serve(replies)
            os._exit(0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        status = _wait_for(child, parent, woken)
        child = 0
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return


if __name__ == "__main__":
    main()
