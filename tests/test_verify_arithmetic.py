"""The arithmetic strategy: every notation, rounding, what it must leave alone, and hostile text."""

from __future__ import annotations

import json
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.arithmetic import TRUE, check_arithmetic
from verify.equations import equations
from verify.quantities import MAX_CHARS, numbers

HOLD = [
    "She has 16 - 3 = 13 eggs left.",
    "16 − 3 − 4 = 9",
    "16 – 3 = 13",
    r"So \(1/3 \times 18 = 6\) flamingos are taken back.",
    r"\[ \frac{1300}{2} = 650 \]",
    r"\dfrac{3}{4} \cdot 20 = 15",
    r"\[\text{Total} = 20 \div 4 = 5 \text{ dollars}\]",
    r"\frac{2 + 4}{3} = 2",
    r"$16 - 3 = 13$ eggs",
    r"\(2 \times 2 = \$4\)",
    r"= \boxed{13}, since 16 - 3 = \boxed{13}",
    "4 × 5 = 20 and then 20 ÷ 2 = 10",
    "3 x 4 = 12",
    "3x4=12",
    "2(3 + 4) = 14",
    "(3 + 4) * (2 - 1) = 7",
    "2 * 3 * 4 = 6 * 4 = 24",
    "5 apples * $2/apple = $10",
    "3 hours x 60 minutes/hour = 180 minutes",
    "3 people * 3 eggs/person/day = 9 eggs/day.",
    "4 twin sets / 2 sets per load = 2 loads for the twin sets.",
    "20% of 50 = 10",
    "1/3 of 18 = 6",
    "$80,000 + $50,000 = $130,000",
    "100 - 20% = 80",
    "100% - 20% = 80%",
    "5/20 * 100 = 25%",
    "5/20 = 25%",
    "1.2 million / 4 = 300,000",
    "7.5 / 1/2 = 7.5 / (1/2) = 15",
    "2 1/2 + 1/2 = 3",
    "2^3 = 8, 2**3 = 8 and 10² = 100",
    "9 divided by 3 = 3, 4 multiplied by 2 = 8",
    "2 times 3 = 6",
    "They eat <<16-3=13>>13 eggs",
    "-3 + 5 = 2",
    "5 - 8 = -3 and 2 * (-4) = -8, so $1 - $3 = $-2 = -$2",
    "- 3 + 4 = 7",
    "1. 3 + 4 = 7",
    "**3 + 4 = 7**",
    "10/3 = 3.33",
    "10/3 = 3.3",
    "10/3 = 3",
    "5 / 2 = 3 boxes",
    "2/3 = 0.67, so 0.67 * 300 = 200",
    "11/18 * 162 = 99.00000000000001",
    "22 / 7 ≈ 3.1",
    r"98 \times 21 \approx 2000",
    r"\(\sqrt{16} = 4\)",
    r"\sqrt{2 + 2} = 2",
    r"$\sqrt{50} = 5\sqrt{2}$",
    r"$\sqrt{2}\sqrt{8} = 4$",
    r"$\sqrt{2} \approx 1.414$",
    r"\sqrt{3^2+4^2} = \sqrt{25} = 5",
    r"\sqrt[3]{27} = 3 and 8^{2/3} = 4",
    r"$\frac{\sqrt{8}}{2} = \sqrt{2}$",
    "√(9 + 16) = 5",
    "√(5² + (-12)²) = √(25 + 144) = √169 = 13",
    r"Write $\sqrt{53}$ as $\sqrt{53} = \sqrt{1 \times 53}$",
]
FALSE = [
    "She has 16 - 3 = 12 eggs left.",
    "16 − 3 = 14",
    r"\[ \frac{1300}{2} = 600 \]",
    r"\(1/3 \times 18 = 9\)",
    r"\[\text{Total} = 20 \div 4 = 6 \text{ dollars}\]",
    "3 x 4 = 13",
    "2(3 + 4) = 10",
    "2 * 3 * 4 = 6 * 5 = 30",
    "5 apples * $2/apple = $12",
    "20% of 50 = 12",
    "$80,000 + $50,000 = $140,000",
    "They eat <<16-3=14>>14 eggs",
    "10/3 = 3.5",
    "19.99 * 3 = 59.79",
    "22 / 7 ≈ 4.5",
    "So, she has $32 - $20 = $300 left.",
    "2^3 = 9",
    "2 + 2 = 4 and 3 + 3 = 7",
    r"\sqrt{16} = 5",
    "√(9 + 16) = 7",
    r"$4\sqrt{5} + 2\sqrt5 = 7\sqrt5$",
]
NO_CLAIM = [
    "There are 5 apples.",
    "x = 5",
    "2x + 3 = 7",
    "x + 3 + 4 = 12",
    "7(49 - 3ab) = 42",
    "3xy + 5xy = 4",
    "f(3 + 4) = 9",
    "Tom's age + 3 = 13",
    "5 * 20 cents = $1",
    "90 minutes + 30 minutes = 2 hours",
    "25 classmates + his 1 teacher + 1 himself = 27",
    "the cost of 3 apples = 12",
    "Price of 2 shirts = $20",
    "2:3 = 4:6",
    "3:30 + 1:00 = 4:30",
    "3/4 cup = 12 tablespoons",
    "half of 10 + 2 = 7",
    "1st - 5 = 6th",
    "3 + 4 != 8, 3 + 4 >= 6",
    "9^9^9^9 = 1",
    "1 / 0 = 3",
    "4 / (2 - 2) = 0",
    "Number of days = cost / amount",
    "= = = =",
    r"\sqrt{x} = 4",
    r"\sqrt{-4} = 2",
]


@pytest.mark.parametrize("text", HOLD)
def test_true_equations(text: str) -> None:
    assert check_arithmetic([text])[0].verdict == TRUE, check_arithmetic([text])[0].reason


@pytest.mark.parametrize("text", FALSE)
def test_false_equations(text: str) -> None:
    assert check_arithmetic([text])[0].verdict == 0.0


@pytest.mark.parametrize("text", NO_CLAIM)
def test_what_is_no_arithmetic_gets_no_verdict(text: str) -> None:
    assert check_arithmetic([text])[0].verdict is None


def test_a_step_resting_on_a_wrong_value_is_wrong_and_says_so() -> None:
    verdicts = check_arithmetic(["16 - 3 = 12", "12 * 2 = 24", "5 + 5 = 10", "24 + 1 = 25"])
    assert [verdict.verdict for verdict in verdicts] == [0.0, 0.0, TRUE, 0.0]
    assert verdicts[0].reason == "false: 16 - 3 = 12"
    assert verdicts[1].reason == "uses a wrong value: 12 * 2 = 24"


def test_a_wrong_value_that_is_also_a_right_one_taints_nothing() -> None:
    verdicts = check_arithmetic(["6 + 6 = 12", "16 - 3 = 12", "12 * 2 = 24"])
    assert [verdict.verdict for verdict in verdicts] == [TRUE, 0.0, TRUE]


def test_a_run_on_chain_is_bad_notation_and_no_error() -> None:
    assert check_arithmetic(["16 - 3 = 13 * 2 = 26"])[0].verdict == TRUE
    assert check_arithmetic(["16 - 3 = 13 * 2 = 27"])[0].verdict == 0.0
    assert check_arithmetic(["16 - 3 = 12 * 2 = 24"])[0].verdict == 0.0


def test_a_step_too_long_to_read_gets_no_verdict_and_says_so() -> None:
    verdict = check_arithmetic(["1 + 1 = 3 " * MAX_CHARS])[0]
    assert verdict.verdict is None
    assert "longer than" in verdict.reason


def test_number_words() -> None:
    assert numbers("two-thirds of twenty-five, twice") == [Fraction(2, 3), 25, 2]
    assert numbers("1,200 and 3/4", words=False) == [1200, Fraction(3, 4)]


_PLAIN = {"+": ["+"], "-": ["-", "−", "–"], "*": ["*", "×", "x", "·"], "/": ["/", "÷"]}
_LATEX = {"+": "+", "-": "-", "*": r"\times", "/": r"\div"}
_NOUNS = st.sampled_from(["", " eggs", " miles per hour", " red balls (new)"])
_WHOLE = st.integers(1, 5000)
_SIGN = st.sampled_from("+-*/")


@st.composite
def _statement(draw: st.DrawFn, error: Fraction) -> str:
    """`a op b = c` in some notation, where c is off by the share `error`."""
    sign, a, b = draw(_SIGN), draw(_WHOLE), draw(_WHOLE)
    if sign == "/":
        a *= b
    exact = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
    change = 1 + abs(exact) * error.numerator // error.denominator if error else 0
    c = exact + change
    left, right = (f"{a:,}", f"{b:,}") if draw(st.booleans()) else (str(a), str(b))
    noun = draw(_NOUNS)
    styles = [
        f"So {left}{noun} {draw(st.sampled_from(_PLAIN[sign]))} {right} = {c}{noun}.",
        f"the total = ${left} {sign} ${right} = ${c}, which is what we want",
        f"{a}{sign}{b}=<<{a}{sign}{b}={c}>>{c}{noun}",
        rf"\[ \text{{Total}} = {left} {_LATEX[sign]} {right} = {c} \text{{{noun}}} \]",
        rf"We get \({a} {_LATEX[sign]} {b} = {c}\) and go on",
    ]
    if sign == "/":
        styles.append(rf"\(\frac{{{a}}}{{{b}}} = {c}\)")
    return draw(st.sampled_from(styles))


@given(_statement(Fraction(0)))
def test_a_true_equation_is_never_flagged(text: str) -> None:
    assert check_arithmetic([text])[0].verdict == TRUE


@given(_statement(Fraction(1, 10)))
def test_an_equation_off_by_a_tenth_is_flagged(text: str) -> None:
    assert check_arithmetic([text])[0].verdict == 0.0


@given(st.integers(1, 999), st.integers(1, 999), st.integers(0, 4))
def test_rounding_is_no_error(a: int, b: int, places: int) -> None:
    assert check_arithmetic([f"{a} / {b} = {a / b:.{places}f}"])[0].verdict == TRUE


_PIECES = st.one_of(
    st.sampled_from("019,./*-+^=≈%$(){}[]<>:x \n½٣"),
    st.sampled_from(["<<", ">>", "of", "and", "eggs", "12", "9^9^9", "\ud800"]),
    st.sampled_from([r"\frac", r"\text{", r"\(", r"\[", r"\times"]),
)


@settings(deadline=2000)
@given(st.lists(_PIECES, max_size=120).map("".join))
def test_soup_of_notation_never_raises(text: str) -> None:
    assert len(check_arithmetic([text])) == 1


@given(st.text(max_size=400))
def test_arbitrary_text_never_raises(text: str) -> None:
    check_arithmetic([text, text])
    numbers(text)


HOSTILE = ["9^", "(", "1+", "1,111", "1.1.", r"\frac{", r"\text{", "<<1=", "=", "1 =", "a ", "\n\t"]
HOSTILE += [
    "1*9=",
    "9^9=",
    "$",
    "- ",
    "x",
    " x ",
    "**",
    "1/",
    r"\frac{1}{",
    "-a",
    "\\",
    "{",
    "^{1}",
    r"\sqrt{",
    r"\sqrt{2}",
    r"\sqrt[2]",
    "√(",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_reading_is_linear(piece: str) -> None:
    text = "1" + piece * (MAX_CHARS // len(piece) - 1)
    begin = time.perf_counter()
    equations(text)
    check_arithmetic([text, text + "1"])
    assert time.perf_counter() - begin < 10  # a quadratic reading takes minutes


@pytest.mark.data
def test_right_solutions_of_gsm8k_are_almost_never_flagged(data_dir: Path) -> None:
    file = data_dir / "gsm8k" / "example_model_solutions.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    right = [
        answer["solution"].split("\n")
        for row in rows
        for answer in row.values()
        if isinstance(answer, dict) and answer["is_correct"]
    ]
    verdicts = [check_arithmetic(steps) for steps in right]
    flagged = sum(any(step.verdict == 0.0 for step in steps) for steps in verdicts)
    checked = sum(any(step.verdict is not None for step in steps) for steps in verdicts)
    assert flagged <= 0.01 * len(right)
    assert checked >= 0.95 * len(right)
