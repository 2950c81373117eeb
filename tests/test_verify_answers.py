from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verify.answers import Answer, extract_answer

MARKED = [
    (r"So it is \boxed{\frac{1}{2}}.", r"\frac{1}{2}", "boxed"),
    (r"\boxed{1}, or rather \boxed{\text{a } \{2\}}", r"\text{a } \{2\}", "boxed"),
    (r"\boxed{\boxed{5}}", "5", "boxed"),
    (r"\fbox{5}", "5", "boxed"),
    (r"$\boxed 5$.", "5", "boxed"),
    (r"$\boxed{7}$ and then a cut \boxed{12", "7", "boxed"),
    (r"\boxed{8}, and \boxed{}", "8", "boxed"),
    (r"$$\boxed{4 \log_{10} 1} = \boxed{0}$$", "0", "boxed"),
    ("so 9 * 2 = <<9*2=18>>18\n#### 18", "18", "####"),
    ("#### Step 1\n3 apples\n#### -1,234.5", "-1,234.5", "####"),
    ("#### none at all\nis wrong\n#### seven", "seven", "####"),
    ("so 18\nA: 18", "18", "A:"),
    ("A: 10+John's age", "10+John's age", "A:"),
    ("A: $<<9*2=18>>18", "$18", "A:"),
    ("Answer: 5 dollars", "5 dollars", "answer phrase"),
    ("**Answer: 5**", "5", "answer phrase"),
    ("**Final Answer:** $\\frac{1}{2}$", r"\frac{1}{2}", "answer phrase"),
    ("**Final Answer**\n\n$12$", "12", "answer phrase"),
    ("The final answer is 161 minutes. I hope it is correct.", "161 minutes", "answer phrase"),
    ("the answer is: $x$", "x", "answer phrase"),
    ("Thus the answer to the question is **3.5**.", "3.5", "answer phrase"),
    ("The answer is \\(\\frac{4}{35}\\). I hope so.", r"\frac{4}{35}", "answer phrase"),
    ("The answer is $5.50.", "$5.50", "answer phrase"),
    ("The answer is (B).", "(B)", "answer phrase"),
    ("The answer is no.", "no", "answer phrase"),
    ("Answer: John has 180 minutes to nap.", "180", "answer phrase"),
    ("answer = 1,234.50", "1,234.50", "answer phrase"),
]

UNMARKED = [
    ("Therefore there are **36** rectangles of 2 kinds.", "36", "bold"),
    ("**Step 3:** so it is 4", "4", "last number"),
    ("The solution is \\(x = \\frac{32}{15}\\).", r"\frac{32}{15}", "formula"),
    ("As \\(7+2=9\\), there are 10 apples.", "10", "last number"),
    ("It costs $225.00 over all.", "$225.00", "last number"),
    ("between \\$5 and \\$7", "$7", "last number"),
    ("16 - 3 = <<16-3=13>>13", "13", "last number"),
    ("so it falls by -5.5%", "-5.5%", "last number"),
    ("16-3", "3", "last number"),
    ("1,234,567 people", "1,234,567", "last number"),
    ("5kg for the 20th time", "5", "last number"),
    ("3/4 cup", "3/4", "last number"),
    ("The answer is correct. 5", "5", "last number"),
    ("A:\n 7", "7", "last number"),
]


@pytest.mark.parametrize(("text", "answer", "rule"), MARKED + UNMARKED)
def test_styles(text: str, answer: str, rule: str) -> None:
    assert extract_answer([text]) == Answer(answer, rule)
    assert extract_answer(["First, 99 + 1 = 100.", *text.split("\n")]) == Answer(answer, rule)


@pytest.mark.parametrize("steps", [[], ["", " \n"], ["<<1+1=2>>"], ["no number here"], ["A: "]])
def test_no_answer_has_a_reason(steps: list[str]) -> None:
    answer = extract_answer(steps)
    assert answer.text is None
    assert answer.rule == "none"
    assert answer.reason


def test_marks_beat_the_last_step_and_later_marks_beat_earlier_ones() -> None:
    assert extract_answer([r"It is \boxed{3}.", "So 4 in all."]).text == "3"
    assert extract_answer([r"It is \boxed{3}.", "No, the answer is 5."]).text == "5"
    assert extract_answer(["The answer is 5.", r"No, \boxed{3}."]).text == "3"
    assert extract_answer(["#### 5", "A: 3", "6"]).text == "3"
    assert extract_answer(["6 apples", " "]).text == "6"


@pytest.mark.parametrize(
    "piece",
    [
        *(r"\boxed{", r"\boxed{}", r"\boxed  ", "answer ", "answer is ", "#### a b c d\n", "A: "),
        *("{", "$", "$a", "$1 ", "**a", r"\(a", r"\[", "<<1", "1", "1,", "1/", "-", " ", "a "),
    ],
)
def test_a_million_characters_finish(piece: str) -> None:
    answer = extract_answer([piece * (1_000_000 // len(piece))])
    assert (answer.text is None) == (answer.rule == "none")


@given(st.lists(st.text(alphabet=st.characters(codec=None)), max_size=4))
def test_arbitrary_text_never_raises(steps: list[str]) -> None:
    answer = extract_answer(steps)
    assert (answer.text is None) == (answer.reason is not None)
    assert answer.text is None or answer.text.strip()


@given(st.text(alphabet=" ab5$*#:.\\{}()[]=\n<>", max_size=40), st.integers())
def test_a_box_at_the_end_is_found_after_anything(text: str, number: int) -> None:
    assert extract_answer([text, rf"\boxed{{{number}}}"]).text == str(number)
