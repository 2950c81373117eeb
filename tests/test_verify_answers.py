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
    # boxes
    (r"\boxed {5}", "5", "boxed"),
    (r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", r"\begin{pmatrix}1\\2\end{pmatrix}", "boxed"),
    (r"\boxed{\left\{1, \frac{1}{2}\right\}}", r"\left\{1, \frac{1}{2}\right\}", "boxed"),
    (r"\boxed{x = 5}", "x = 5", "boxed"),
    (r"\boxed{\text{(C)}}", r"\text{(C)}", "boxed"),
    (r"\boxed{\textbf{(D) }12}", r"\textbf{(D) }12", "boxed"),
    (r"\boxed{50\%}", r"50\%", "boxed"),
    (r"\boxed{3\frac{1}{4}}", r"3\frac{1}{4}", "boxed"),
    (r"\boxed{(-\infty, 5]}", r"(-\infty, 5]", "boxed"),
    (r"\boxed{[1,2) \cup (3,4]}", r"[1,2) \cup (3,4]", "boxed"),
    (r"\boxed{\text{March 5, 2020}}", r"\text{March 5, 2020}", "boxed"),
    (r"\boxed{5\text{ cm}^2}", r"5\text{ cm}^2", "boxed"),
    (r"\boxed{\$1{,}234.50}", r"\$1{,}234.50", "boxed"),
    (r"\boxed{y = 2x + 1}", "y = 2x + 1", "boxed"),
    (r"\boxed{x \ge 3}", r"x \ge 3", "boxed"),
    (r"\boxed{2012_3}", "2012_3", "boxed"),
    (r"\boxed{\sqrt{\frac{a^{2}}{b}}}", r"\sqrt{\frac{a^{2}}{b}}", "boxed"),
    (r"First \boxed{2}, then \boxed{3}", "3", "boxed"),
    (r"$\boxed{\text{Evelyn}}$", r"\text{Evelyn}", "boxed"),
    (r"\boxed{\frac{1}{2}} is \boxed{0.5", r"\frac{1}{2}", "boxed"),
    (r"\fbox{$12$}", "$12$", "boxed"),
    # hashes, letters, tags
    ("so 3/4\n#### 3/4", "3/4", "####"),
    ("#### $1,200", "$1,200", "####"),
    ("#### 50%", "50%", "####"),
    ("####42", "42", "####"),
    ("A: 3:30 PM", "3:30 PM", "A:"),
    ("A: yes", "yes", "A:"),
    ("<answer>42</answer>", "42", "tag"),
    ("<think>3</think> <answer> \\frac{1}{2} </answer>", "\\frac{1}{2}", "tag"),
    ("<answer>(B)</answer>", "(B)", "tag"),
    # phrases
    ("The answer is therefore 12.", "12", "answer phrase"),
    ("The answer is 5, because 2 + 3 = 5.", "5", "answer phrase"),
    ("The answer is $\\sqrt{2}$, which is about 1.41.", "\\sqrt{2}", "answer phrase"),
    ("The answer is approximately 3.14.", "3.14", "answer phrase"),
    ("The final answer is $x = 5$.", "x = 5", "answer phrase"),
    ("The answer is 3 1/4 cups.", "3 1/4 cups", "answer phrase"),
    ("The answer is 25%.", "25%", "answer phrase"),
    ("The answer is -7.", "-7", "answer phrase"),
    ("The answer is (3, 4).", "(3, 4)", "answer phrase"),
    ("The answer is [1, 2).", "[1, 2)", "answer phrase"),
    ("The answer is {1, 2, 3}.", "{1, 2, 3}", "answer phrase"),
    ("The answer is March 5, 2020.", "March 5, 2020", "answer phrase"),
    ("The answer is 2020-03-05.", "2020-03-05", "answer phrase"),
    ("The answer is 3:30 p.m.", "3:30 p.m", "answer phrase"),
    ("The answer is $5$ and $7$.", "$5$ and $7$", "answer phrase"),
    ("The answer is D.", "D", "answer phrase"),
    ("The answer is option C.", "option C", "answer phrase"),
    ("The correct answer is (E) 12.", "(E) 12", "answer phrase"),
    ("Answer: True", "True", "answer phrase"),
    ("Answer: x = 5", "x = 5", "answer phrase"),
    ("Answer:\n\n42", "42", "answer phrase"),
    ("**Answer**: 42", "42", "answer phrase"),
    ("**Answer:** \\(\\frac{7}{3}\\)", "\\frac{7}{3}", "answer phrase"),
    ("Ans: 12", "12", "answer phrase"),
    ("ANSWER: B", "B", "answer phrase"),
    ("So the final answers are 3 and 5.", "3 and 5", "answer phrase"),
    ("The answer to part (a) is 7.", "7", "answer phrase"),
    ("The answer equals 1.5e3.", "1.5e3", "answer phrase"),
    ("The answer is \\[x^2 + 1\\].", "x^2 + 1", "answer phrase"),
    ("The answer is Monday.", "Monday", "answer phrase"),
    ("答案是 5。", "5", "answer phrase"),
    ("答案：$\\frac{1}{2}$", "\\frac{1}{2}", "answer phrase"),
    # multiple choice
    ("The correct choice is D.", "D", "choice"),
    ("So the correct option is (B).", "B", "choice"),
    ("Option C is correct.", "C", "choice"),
    ("Hence choice (A) is the right one.", "A", "choice"),
    ("Therefore, we choose option E.", "E", "choice"),
    ("So I select (C)", "C", "choice"),
    ("The best choice is: **B**", "B", "choice"),
    ("故选 C", "C", "choice"),
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
    ("Thus $x = 3$ or $x = -2$.", "x = 3, x = -2", "formula"),
    ("The roots are $1$, $2$, and $3$.", "1, 2, 3", "formula"),
    ("If $a = 1$, $b = 2$.", "2", "formula"),
    ("so $A = \\pi r^2 = 9\\pi$", "9\\pi", "formula"),
    ("Hence $$\\frac{3}{8}$$", "\\frac{3}{8}", "formula"),
    ("They meet on March 5, 2020.", "March 5, 2020", "date or time"),
    ("It falls on 5 May 1999.", "5 May 1999", "date or time"),
    ("It is due 2020-03-05.", "2020-03-05", "date or time"),
    ("The train leaves at 3:30 PM", "3:30 PM", "date or time"),
    ("It opens at 7 am", "7 am", "date or time"),
    ("The point is (3, -4).", "(3, -4)", "group"),
    ("So the interval is [0, 5)", "[0, 5)", "group"),
    ("The solution set is {1, 2}.", "{1, 2}", "group"),
    ("That leaves option C.", "C", "choice"),
    ("Choose a number, say 5.", "5", "last number"),
    ("Option A is wrong, so 7 remain", "7", "last number"),
    ("x = 5", "5", "last number"),
    ("That is 2.5 hours.", "2.5", "last number"),
    ("He pays €12.50 then", "€12.50", "last number"),
    ("so 2 + 2 = 4, which we wanted", "4", "last number"),
    ("It is −5 degrees", "−5", "last number"),
]

EARLIER = [
    (["So there are 12 apples.", "That is what was asked for."], "12", "last number"),
    (["Thus $x = \\frac{1}{2}$.", "We are done.", "QED"], "\\frac{1}{2}", "formula"),
    (["It is **36**.", "I hope that helps!"], "36", "bold"),
    (["It is on March 5, 2020.", "Good luck!"], "March 5, 2020", "date or time"),
    (["So 7.", "a", "b", " ", "c"], "7", "last number"),
]


@pytest.mark.parametrize(("text", "answer", "rule"), MARKED + UNMARKED)
def test_styles(text: str, answer: str, rule: str) -> None:
    assert extract_answer([text]) == Answer(answer, rule)
    assert extract_answer(["First, 99 + 1 = 100.", *text.split("\n")]) == Answer(answer, rule)


def test_the_table_is_large() -> None:
    cases = MARKED + UNMARKED + [("\n".join(steps), *rest) for steps, *rest in EARLIER]
    assert len({text for text, *_ in cases}) >= 100


@pytest.mark.parametrize(("steps", "answer", "rule"), EARLIER)
def test_a_last_step_without_an_answer_is_passed_over(
    steps: list[str], answer: str, rule: str
) -> None:
    assert extract_answer(steps) == Answer(answer, rule, early=True)


def test_it_looks_no_more_than_three_steps_back() -> None:
    assert extract_answer(["So 7.", "a", "b", "c"]).text == "7"
    assert extract_answer(["So 7.", "a", "b", "c", "d"]).text is None


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
        *("<answer>", "the answer is so so ", "option ", "choose ", "$1$ or ", "March 5, ", "[1,"),
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
