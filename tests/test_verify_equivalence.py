from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import verify
from verify.answers import extract_answer
from verify.equivalence import CheckerPool, Comparison, equivalent, equivalent_many, grade
from verify.notation import normalise
from verify.units import quantity

ROOT = Path(__file__).resolve().parents[1]
TABLE = [
    tuple(line.split("\t"))
    for line in (ROOT / "tests/data/equivalence.tsv").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
RULES = """
1,000 | 1000 | exact
50% | 0.5 | number
1 hour | 60 minutes | units
1 hour | 60 | units
(C) | C. 12 | choice
March 5, 2020 | 2020-03-05 | moment
2:3 | 4:6 | ratio
\\begin{pmatrix}1\\\\2\\end{pmatrix} | \\begin{bmatrix}1\\\\2\\end{bmatrix} | matrix
x > 3 | (3,\\infty) | region
2x+4y=6 | x+2y=3 | equation
(1, 2) | (1,3) | list
Monday | Tuesday | text
x^2+2x+1 | (x+1)^2 | formula
\\sin 2x | 2\\sin x\\cos x | values
\\sum_{k=1}^{10} k | 55 | math-verify
9^{9^{9^9}} | 5 | guard
3 apples and 4 | 4 | list
f(x+1) | f(x) | unparsed
1/0 | 5 | undefined
$ | 5 | empty
"""
SLOW = r"\int_0^1 \frac{\sin(x^7+x)\cos(x^5)}{\ln(x+2)+x^{11}} dx"
"""What no guard refuses and computer algebra does not finish."""


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckerPool]:
    with CheckerPool(size=1) as started:
        yield started


def test_table(pool: CheckerPool) -> None:
    assert len(TABLE) >= 400
    assert len({frozenset(pair) for _, *pair in TABLE}) == len(TABLE)
    for order in (1, -1):
        found = equivalent_many([(a, b)[::order] for _, a, b in TABLE], pool=pool, deadline_s=30)
        missed = [
            (expected, a, b, item)
            for (expected, a, b), item in zip(TABLE, found, strict=True)
            if item.verdict != expected
        ]
        assert missed == []


@pytest.mark.parametrize("row", RULES.strip().split("\n"))
def test_the_deciding_rule_is_named(pool: CheckerPool, row: str) -> None:
    a, b, rule = (part.strip() for part in row.split(" | "))
    found = equivalent(a, b, pool=pool, deadline_s=30)
    assert found.rule == rule, found
    assert found.reason
    assert equivalent(b, a, pool=pool, deadline_s=30) == found


def test_what_hangs_the_algebra_is_killed_at_the_deadline(pool: CheckerPool) -> None:
    assert equivalent(r"\sin x", r"\cos x", pool=pool, deadline_s=30).verdict == "different"
    start = time.monotonic()
    found = equivalent(SLOW, "5", pool=pool, deadline_s=1)
    assert (found.verdict, found.rule) == ("unknown", "timeout")
    assert time.monotonic() - start < 3
    assert equivalent(r"\sin x", r"\cos x", pool=pool, deadline_s=30).verdict == "different"


def test_items_of_a_list_share_the_deadline(pool: CheckerPool) -> None:
    start = time.monotonic()
    found = equivalent(f"({SLOW}, {SLOW}+1, {SLOW}+2)", "(1, 2, 3)", pool=pool, deadline_s=1)
    assert found.verdict == "unknown"
    assert time.monotonic() - start < 3


def test_a_late_worker_is_replaced_within_a_tenth_of_its_start(pool: CheckerPool) -> None:
    with CheckerPool(size=1) as fresh:
        start = time.monotonic()
        assert fresh.check(r"\sqrt{8}", r"2\sqrt{2}", 30).verdict == "equal"
        first = time.monotonic() - start
        assert fresh.check(SLOW, "5", 0.2).rule == "timeout"
        start = time.monotonic()
        assert fresh.check(r"\sqrt{8}", r"2\sqrt{2}", 30).verdict == "equal"
        assert time.monotonic() - start < max(first / 2, 0.5)


def test_a_killed_worker_gives_unknown_and_the_pool_goes_on() -> None:
    with CheckerPool(size=1) as pool:
        assert pool.check(r"\sqrt{8}", r"2\sqrt{2}", 30).verdict == "equal"
        (worker,) = pool._running
        found: list[Comparison] = []
        thread = threading.Thread(target=lambda: found.append(pool.check(SLOW, "5", 30)))
        thread.start()
        time.sleep(0.5)
        worker.kill_group()
        thread.join(10)
        assert [(item.verdict, item.rule) for item in found] == [("unknown", "crash")]
        assert pool.check(r"\sqrt{8}", r"2\sqrt{2}", 30).verdict == "equal"
        (second,) = pool._running
        second.kill_group()
        second.process.wait()
        assert pool.check(r"\sqrt{8}", r"2\sqrt{2}", 30).verdict == "equal"
    with pytest.raises(RuntimeError, match="closed"):
        pool.check("x", "y", 1)


def test_memory_is_limited() -> None:
    # So little that nothing but the imports fits: whatever fails, it is not a wrong verdict.
    with CheckerPool(size=1, memory_bytes=64 << 20) as pool:
        found = pool.check(r"\sum_{k=1}^{999} \frac{1}{k!}", r"\prod_{k=1}^{999} k", 20)
        assert found.verdict in ("unknown", "different")


def test_many_keep_their_order_and_share_workers() -> None:
    pairs = [
        *[(r"\sin x", r"\cos x"), ("1", "1.0"), (r"2\sin x\cos x", r"\sin 2x")],
        *[("y", "y+1"), ("", ""), ("1", "2"), (r"\sqrt{8}", r"2\sqrt{2}")],
    ] * 5
    verdicts = [found.verdict for found in equivalent_many(pairs, deadline_s=30)]
    one = ["different", "equal", "equal", "different", "unknown", "different", "equal"]
    assert verdicts == one * 5


def test_threads_may_share_the_pool(pool: CheckerPool) -> None:
    found: dict[int, Comparison] = {}

    def work(number: int) -> None:
        a, b = rf"\sqrt{{{4 * number + 2}}}", rf"\sqrt{{2}}\sqrt{{{2 * number + 1 + number % 2}}}"
        found[number] = equivalent(a, b, pool=pool, deadline_s=30)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {number: "different" if number % 2 else "equal" for number in range(1, 9)}
    assert {number: item.verdict for number, item in found.items()} == expected


def test_asyncio_goes_on_while_a_process_computes(pool: CheckerPool) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.02)
            ticks += 1

    async def work() -> list[Comparison]:
        ticking = asyncio.create_task(tick())
        found = await asyncio.gather(
            verify.equivalent_async(SLOW, "7", pool=pool, deadline_s=1),
            verify.equivalent_async("1/2", "0.5"),
            verify.equivalent_async(r"\ln 6", r"\ln 2+\ln 3", pool=pool, deadline_s=30),
        )
        ticking.cancel()
        return list(found)

    assert [item.verdict for item in asyncio.run(work())] == ["unknown", "equal", "equal"]
    assert ticks >= 5


def test_a_cancelled_comparison_leaves_the_pool_usable(pool: CheckerPool) -> None:
    async def work() -> Comparison:
        slow = asyncio.create_task(verify.equivalent_async(SLOW, "8", pool=pool, deadline_s=1))
        await asyncio.sleep(0.2)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        return await verify.equivalent_async(r"\ln 6", r"\ln 2+\ln 3", pool=pool, deadline_s=30)

    assert asyncio.run(work()).verdict == "equal"


def test_a_script_without_main_guard_works_imports_no_algebra_and_leaves_no_process() -> None:
    script = (
        "import sys, verify\n"
        "print('verify.equivalence' in sys.modules)\n"
        "print(verify.equivalent(r'\\sqrt{8}', r'2\\sqrt{2}', deadline_s=60).verdict)\n"
        "print([name for name in ('sympy', 'mpmath', 'torch') if name in sys.modules])\n"
        "import verify.equivalence as e\n"
        "print(*[worker.process.pid for worker in e._shared._running], flush=True)\n"
        "import os; os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    early, verdict, imported, pid = done.stdout.split("\n")[:4]
    assert (early, verdict, imported) == ("False", "equal", "[]")
    for _ in range(100):
        if not _is_running(int(pid)):
            break
        time.sleep(0.05)
    else:
        pytest.fail("the worker outlived its parent")


def _is_running(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self").exists():
        pytest.skip("needs /proc")
    # A zombie has ended; it waits only for whoever inherits it.
    return state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_grade() -> None:
    assert grade(["2+2=<<2+2=4>>4", "A: 4"], "4.0").verdict == "equal"
    assert grade("2+2=<<2+2=4>>4\nA: 4", "4.0").verdict == "equal"
    assert verify.grade("The correct choice is (B).", "B").verdict == "equal"
    assert grade(["so 5"], "4").verdict == "different"
    found = grade(["I do not know"], "4")
    assert (found.verdict, found.rule) == ("unknown", "no answer")


def test_an_answer_that_the_last_step_does_not_give_is_no_wrong_answer() -> None:
    for solution in (["so 5", "I do not know"], "so 5\nI do not know"):
        found = grade(solution, "4")
        assert (found.verdict, found.rule) == ("unknown", "early answer")
        assert grade(solution, "5").verdict == "equal"
    assert grade(["A: 5", "I do not know"], "4").verdict == "different"  # it is marked


def test_quantities_keep_value_and_unit_apart() -> None:
    for text, unit, value in (
        ("$1,200.50 ", "dollar", 1200.5),
        ("2.5 million people", "people", 2_500_000),
        ("5 cups", "cup", 5),
        ("1/0", None, None),
    ):
        found = quantity(normalise(text))
        assert (found.unit.name if found.unit else None, found.number) == (unit, value)


TEXT = st.one_of(
    st.text(alphabet=st.characters(codec=None), max_size=60),
    st.text(alphabet="0123456789.,/%$-+^!(){}[]\\ eExyab_|=<>:&\x00\u200f", max_size=30),
    st.lists(
        st.sampled_from(
            [
                *(r"\frac", r"\sqrt", "{", "}", "(", ")", "[", "]", ",", "x", "2", "10", "^", "_"),
                *("-", r"\pm", r"\cup", r"\infty", "=", "<", "!", "|", r"\sin", r"\log", "%", "°"),
            ]
        ),
        max_size=12,
    ).map("".join),
)


@given(TEXT)
def test_reflexive(text: str) -> None:
    verdict = equivalent(text, text, deadline_s=0.0).verdict
    assert verdict == ("equal" if text.strip() else "unknown")


@given(TEXT, TEXT)
def test_never_raises_and_is_symmetric(a: str, b: str) -> None:
    # With no time for algebra every pair is decided by the cheap rules, or unknown.
    assert equivalent(a, b, deadline_s=0.0) == equivalent(b, a, deadline_s=0.0)


INTEGERS = st.integers(-999, 999).map(str)
DECIMALS = st.decimals(-99, 99, places=3).map(str)
FRACTIONS = st.tuples(st.integers(-99, 99), st.integers(1, 99)).map(
    lambda pair: rf"\frac{{{pair[0]}}}{{{pair[1]}}}"
)
NUMBERS = st.one_of(INTEGERS, DECIMALS, FRACTIONS)
EXPRESSIONS = st.recursive(
    st.one_of(st.integers(0, 20).map(str), st.sampled_from(["x", "y", r"\pi"])),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}+{pair[1]})"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}-{pair[1]})"),
        st.tuples(inner, inner).map(lambda pair: rf"{pair[0]}\cdot {pair[1]}"),
        st.tuples(inner, inner).map(lambda pair: rf"\frac{{{pair[0]}}}{{{pair[1]}}}"),
        st.tuples(inner, st.integers(1, 4)).map(lambda pair: f"({pair[0]})^{{{pair[1]}}}"),
    ),
    max_leaves=5,
)
INTERVALS = st.tuples(st.sampled_from("(["), INTEGERS, INTEGERS, st.sampled_from(")]")).map(
    lambda parts: f"{parts[0]}{parts[1]}, {parts[2]}{parts[3]}"
)
TUPLES = st.lists(NUMBERS, min_size=2, max_size=4).map(lambda items: f"({', '.join(items)})")
SETS = st.lists(NUMBERS, min_size=1, max_size=4).map(lambda items: rf"\{{{', '.join(items)}\}}")
ANSWERS = st.one_of(NUMBERS, EXPRESSIONS, INTERVALS, TUPLES, SETS)


def noisy(text: str, noise: int) -> str:
    """The same answer in another dress."""
    if noise & 1:
        text = text.replace("(", r"\left(").replace(")", r"\right)")
    if noise & 2:
        text = text.replace(", ", r",\, ").replace("+", r" + ").replace("}", "} ")
    if noise & 4:
        text = f"  {text}\t"
    if noise & 8:
        text = f"${text}$"
    if noise & 16:
        text = text.replace(r"\frac", r"\dfrac")
    return text


@given(ANSWERS, st.integers(1, 31))
def test_notation_changes_nothing(text: str, noise: int) -> None:
    found = equivalent(text, noisy(text, noise), deadline_s=0.0)
    assert found.verdict == "equal", found


@given(ANSWERS, ANSWERS, st.integers(1, 31), st.integers(1, 31))
def test_notation_changes_no_verdict(a: str, b: str, noise: int, other: int) -> None:
    plain = equivalent(a, b, deadline_s=0.0)
    assert equivalent(noisy(b, other), noisy(a, noise), deadline_s=0.0).verdict == plain.verdict


@settings(max_examples=60)
@given(st.integers(-99, 99), st.integers(-9, 9), st.integers(1, 9))
def test_formulas_agree_with_their_values(a: int, b: int, c: int) -> None:
    formula = rf"\frac{{{a}+{b}\cdot {c}}}{{{c}}}"
    shared = {"deadline_s": 30.0}
    assert equivalent(formula, f"{a + b * c}/{c}", **shared).verdict == "equal"
    assert equivalent(formula, f"{a + b * c + 1}/{c}", **shared).verdict == "different"


def test_formulas_agree_with_an_independent_algebra() -> None:
    import sympy

    x, y = sympy.symbols("x y")

    @settings(max_examples=150)
    @given(EXPRESSIONS, EXPRESSIONS)
    def agree(a: str, b: str) -> None:
        values = []
        for text in (a, b):
            code = text.replace(r"\pi", "pi").replace(r"\cdot", "*").replace("^", "**")
            # `\frac{a}{b}` as a division; the braces nest properly, so a swap is enough.
            code = code.replace(r"\frac{", "((").replace("}{", ")/(").replace("}", "))")
            code = code.replace("**{", "**((")
            values.append(sympy.sympify(code, {"x": x, "y": y, "pi": sympy.pi}))
        assume(not any(value.has(sympy.zoo, sympy.nan) for value in values))
        found = equivalent(a, b, deadline_s=30.0)
        if found.verdict != "unknown":
            same = sympy.simplify(values[0] - values[1]) == 0
            assert found.verdict == ("equal" if same else "different"), found

    agree()


@pytest.mark.data
def test_agrees_with_gsm8k_on_all_its_example_solutions(data_dir: Path) -> None:
    file = data_dir / "gsm8k" / "example_model_solutions.jsonl"
    if not file.is_file():
        pytest.skip(f"{file} is absent")
    judged = 0
    wrong, open_questions = [], []
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        answer = extract_answer(row["ground_truth"].split("\n")).text
        assert answer is not None
        for solution in (value for value in row.values() if isinstance(value, dict)):
            judged += 1
            found = grade(solution["solution"].split("\n"), answer)
            if found.verdict == "unknown":
                open_questions.append((answer, found.rule, solution["is_correct"]))
            elif (found.verdict == "equal") != solution["is_correct"]:
                wrong.append((answer, solution["solution"], found))
    assert judged == 5_276
    assert wrong == []
    # One is cut off amid a sentence; "10+John's age" is no value that could be compared.
    assert open_questions == [("22", "early answer", False), ("50", "unparsed", False)]
