"""Answers that hang, crash or exhaust a computer algebra system: late or refused, never wrong."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from verify.equivalence import CheckerPool, Comparison, equivalent, equivalent_many

INTEGRAL = r"\int_0^1 \frac{\sin(x^7+x)\cos(x^5)}{\ln(x+2)+x^{11}} dx"
ROOT = Path(__file__).resolve().parents[1]
PATHOLOGICAL = {
    "tower": "9^{9^{9^9}}",
    "tower without braces": "9^9^9^9",
    "python tower": "9**9**9",
    "tower in a fraction": r"\frac{1}{9^{9^{9^9}}}",
    "tower of letters": "x^{x^{x^{x^x}}}",
    "huge power": "10^{10^8}",
    "huge power of a sum": "(x+1)^{100000}",
    "power of a power": r"\left(9^{9999}\right)^{9999}",
    "power of a power of a power": r"\left(\left(9^{9999}\right)^{9999}\right)^{9999}",
    "its logarithm's sine": r"\sin\left(\left(9^{9999}\right)^{9999}\right)",
    "root of a huge power": r"\sqrt{7}^{9999}",
    "exponential tower": "e^{e^{e^{100}}}",
    "multinomial": "(x+y+z+w)^{900}",
    "power of a sine": r"\sin^{200}(x)+\cos^{200}(x)",
    "nested braces": "{" * 2_000 + "}" * 2_000,
    "nested braces around a value": "{" * 2_000 + "5" + "}" * 2_000,
    "nested parentheses": "(" * 900 + "5" + ")" * 900,
    "nested roots": r"\sqrt{" * 60 + "2" + "}" * 60,
    "nested roots within the limit": r"\sqrt{2+" * 40 + "2" + "}" * 40,
    "nested fractions": r"\frac{1}{1+" * 45 + "x" + "}" * 45,
    "long sum": "1" + "+1" * 5_000,
    "sum within the length": "1" + "+1" * 900,
    "factorial": "100000!",
    "factorials": "((9!)!)!",
    "factorial of a power": "(9^{99})!",
    "sum of factorials": "+".join(["999!"] * 60),
    "exponent of ten": "1e999999999",
    "huge decimal": "0." + "1" * 1_900,
    "huge literal": "7" * 1_990,
    "infinite sum": r"\sum_{n=1}^{10000000}\frac{1}{n^2}",
    "huge product": r"\prod_{k=1}^{9999} (k^2+1)",
    "integral": INTEGRAL,
    "nested integrals": r"\int_0^1 \int_0^1 \sin(\cos(x^7 y^5 + e^{xy})) dx dy",
    "limit": r"\lim_{x \to 0} \frac{\sin(\tan(x))-\tan(\sin(x))}{x^7}",
    "lone surrogate": "5\ud800",
    "surrogate in a formula": "\\frac{\udfff1}{2}",
    "right to left": "\u202e5\u200f",
    "only marks": "\u200f\u200e\u202a",
    "NUL": "5\x00",
    "NUL within": "1\x002",
    "many commas": "1," * 900 + "1",
    "many sets": r"\{" * 200 + "1" + r"\}" * 200,
    "sets within sets": r"\{\{\{\{1,2\},\{3,4\}\},\{\{5,6\},\{7,8\}\}\}," * 30 + r"9\}",
    "tuples within tuples": "((((1,2),(3,4)),((5,6),(7,8))),(((1,2),(3,4)),((5,6),(7,8)))," * 16,
    "many bars": "|" * 900,
    "many signs": "-" * 150 + "5",
    "many unions": r"[0,1]\cup" * 150 + "[2,3]",
    "many plus-minus": r"\pm" * 100 + "1",
    "matrix": r"\begin{pmatrix}" + r"1&2\\" * 150 + r"\end{pmatrix}",
    "unclosed": r"\frac{1}{" * 40,
    "combining marks": "5" + "\u0301" * 500,
}
VALUES = {
    **dict.fromkeys(("lone surrogate", "right to left", "NUL"), "5"),
    **{"nested braces around a value": "5", "nested parentheses": "5", "many signs": "5"},
    **{"surrogate in a formula": r"\frac{1}{2}", "power of a sine": None, "long sum": "5001"},
    **{"sum within the length": "901"},
}
"""What of the pathological answers has a simple value."""
DEADLINE_S = 1.5


def children() -> set[int]:
    """The processes below this one, at any depth."""
    if not Path("/proc/self").exists():
        pytest.skip("needs /proc")
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    found, waiting = set(), [os.getpid()]
    while waiting:
        parent = waiting.pop()
        below = [pid for pid, above in parents.items() if above == parent]
        found.update(below)
        waiting += below
    return found


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckerPool]:
    before = children()
    with CheckerPool(size=1, memory_bytes=1 << 30) as started:
        assert started.check(r"\sqrt{8}", r"2\sqrt{2}", 30).verdict == "equal"
        yield started
    assert children() <= before


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_each_is_done_in_time_and_never_wrong(pool: CheckerPool, name: str) -> None:
    answer, value = PATHOLOGICAL[name], VALUES.get(name)
    assert equivalent(answer, answer, pool=pool).verdict == "equal"
    for other in ("5", "x", r"\frac{1}{2}", "(1, 2)", r"\sqrt{3}+1", answer + "+1"):
        start = time.monotonic()
        found = equivalent(answer, other, pool=pool, deadline_s=DEADLINE_S)
        # Up to half a second more: the cheap rules, a fork, and other work on the machine.
        assert time.monotonic() - start < DEADLINE_S + 0.5, (name, other, found)
        assert found.reason
        if found.verdict == "equal":
            assert value == other, (name, other, found)
        if found.verdict == "different":
            assert value != other, (name, other, found)
    if value is not None:
        found = equivalent(answer, value, pool=pool, deadline_s=DEADLINE_S)
        assert found.verdict != "different", found
    # Nothing more than the two processes of the one worker, and the worker still answers.
    assert pool.check(r"\sqrt{8}", r"2\sqrt{2}", 30).verdict == "equal"
    (worker,) = pool._running
    assert all(resident_mib(pid) < 1_024 for pid in children() if pid >= worker.process.pid)


def test_pairs_of_them_are_never_equal() -> None:
    names = ["tower", "power of a power", "multinomial", "integral", "nested roots", "many commas"]
    pairs = [(PATHOLOGICAL[a], PATHOLOGICAL[b]) for a in names for b in names if a < b]
    with CheckerPool(size=2) as pool:
        found = equivalent_many(pairs, pool=pool, deadline_s=DEADLINE_S)
    assert not [pair for pair, item in zip(pairs, found, strict=True) if item.verdict == "equal"]


def test_a_right_verdict_is_given_where_algebra_by_expansion_would_hang(pool: CheckerPool) -> None:
    for a, b, verdict in (
        ("(x+y+z+w)^{900}", "(w+z+y+x)^{900}", "equal"),
        ("(x+y+z+w)^{900}", "(w+z+y-x)^{900}", "different"),
        (r"\left(9^{9999}\right)^{9999}", r"\left(3^{9999}\right)^{9999}", "different"),
        (r"\left(9^{9999}\right)^{99}", r"\left(9^{99}\right)^{9999}", "equal"),
        (r"\sqrt{7}^{9998}", "7^{4999}", "equal"),
    ):
        assert equivalent(a, b, pool=pool, deadline_s=DEADLINE_S).verdict == verdict


def test_a_memory_hog_is_stopped_by_its_limit() -> None:
    with CheckerPool(size=1, memory_bytes=600 << 20) as pool:
        assert pool.check(r"\sqrt{8}", r"2\sqrt{2}", 30).verdict == "equal"
        (worker,) = pool._running
        peak = 0.0
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.01):
                sizes = [resident_mib(pid) for pid in children() if pid >= worker.process.pid]
                peak = max(peak, *sizes, 0.0)

        watcher = threading.Thread(target=watch)
        watcher.start()
        # Sent to the worker itself, past the guards, as a formula that no guard knew would be.
        found = pool.check(r"\sum_{k=1}^{9} 9^{9^{9^9}} k", "5", 5)
        done.set()
        watcher.join()
        assert found.verdict == "unknown"
        assert 0 < peak < 600
        assert pool.check(r"\sqrt{8}", r"2\sqrt{2}", 30).verdict == "equal"


@pytest.mark.parametrize("seed", [1, 2])
def test_workers_killed_at_random_cost_their_pairs_alone(seed: int) -> None:
    source = random.Random(seed)
    pairs = [(rf"\sqrt{{{4 * n + 2}}}", rf"\sqrt{{2}}\sqrt{{{2 * n + 1}}}") for n in range(400)]
    with CheckerPool(size=2) as pool:
        assert pool.check(r"\sqrt{8}", r"2\sqrt{2}", 60).verdict == "equal"
        results: list[Comparison] = []
        work = threading.Thread(
            target=lambda: results.extend(equivalent_many(pairs, pool=pool, deadline_s=30))
        )
        work.start()
        kills = 0
        while work.is_alive() and kills < 4:
            time.sleep(source.uniform(0.0, 0.15))
            groups = {worker.process.pid for worker in list(pool._running)}
            # The child that answers, or the process that would fork its successor.
            victims = sorted(pid for pid in children() if os.getpgid(pid) in groups)
            if victims:
                os.kill(source.choice(victims), signal.SIGKILL)
                kills += 1
        work.join(120)
        assert not work.is_alive()
    assert kills >= 1
    verdicts = [item.verdict for item in results]
    assert len(verdicts) == len(pairs)
    assert "different" not in verdicts
    assert verdicts.count("unknown") <= kills
    assert {item.rule for item in results if item.verdict == "unknown"} <= {"crash"}


SPIN = """
import os, signal, sys, threading, time
from verify.equivalence import CheckerPool
pool = CheckerPool(1)
pool.check("2^{1/2}", "1")
print(*(worker.process.pid for worker in pool._running), flush=True)
if sys.argv[1] == "busy":
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGKILL)).start()
    pool.check(sys.argv[2], "1", 60.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_the_workers_of_a_killed_process_end(state: str) -> None:
    arguments = [sys.executable, "-c", SPIN, state, INTEGRAL]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (group,) = map(int, done.stdout.split())
    until = time.monotonic() + 20
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < until, "a worker goes on without its parent"
        time.sleep(0.1)
