"""R-PRM: its prompt as published, and every way in which an analysis can end."""

from __future__ import annotations

import math
from pathlib import Path

import critics
import pytest
from critics import PROBLEM, STEPS, walk, wrote
from hypothesis import given
from hypothesis import strategies as st

from prm.engines import TOO_LONG, Token
from prm.zoo.critique import Asking
from prm.zoo.rprm import FIRST, critique, prompt, read

GOLDEN = Path(__file__).parent / "golden" / "rprm.txt"
QUESTION = "Verification: Is the step correct (Yes/No)?"


def test_golden_prompts() -> None:
    rounds, scores = walk(critique(PROBLEM, STEPS, Asking(key="a")), lambda _: f"{QUESTION} Yes")
    assert scores == (1.0, 1.0)
    assert len(rounds) == 1
    assert critics.shown(rounds) == GOLDEN.read_text()


def test_a_prompt_is_as_long_as_the_published_one() -> None:
    # The published prompt file has 2,271 characters: three pairs of braces, and around the message
    # the template's tags, with a line's end in two characters between its last two turns.
    published = 2271 - len("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")
    published -= len("<|im_start|>user\n<|im_end|>\\n<|im_start|>assistant\\n") + 3 * len("{}")
    filled = len("p") + len(FIRST) + len("Step 1: a")
    assert len(prompt("p", ["a"], 0)[1].content) == published + filled


def test_steps_are_numbered_and_taken_as_they_are() -> None:
    steps = ("", "{} b", "Now Step: c\n")
    content = prompt("p {}", steps, 2)[1].content
    assert content.endswith(
        "Question: p {}\nPrevious Steps: Step 1: \nStep 2: {} b\nNow Step: Step 3: Now Step: c\n\n"
        "Please carefully analyze the correctness of the Now Step.\nReply: "
    )


def test_the_score_is_the_probability_of_yes_beside_no() -> None:
    for word, said in ((" Yes", True), (" No", False)):
        told = {" Yes": math.log(0.6), " No": math.log(0.2), " It": math.log(0.1)}
        tokens = [Token(f"Fine.\n{QUESTION}", {}), Token(word, told), Token("<|im_end|>", {})]
        answer = wrote(f"Fine.\n{QUESTION}{word}", "stop", tokens)
        assert read(answer) == pytest.approx(0.75), said


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (f"{QUESTION} Yes", 1.0),
        (f"{QUESTION} No", 0.0),
        (f"Fine.\n{QUESTION} Yes.\n", 1.0),
        (f"**{QUESTION} No**", 0.0),
        (f"The step writes “{QUESTION} Yes”, but errs.\n{QUESTION} No", 0.0),
    ],
)
def test_what_an_analysis_says(text: str, score: float) -> None:
    assert read(wrote(text)) == score


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes",
        QUESTION,
        f"{QUESTION} X",
        f"{QUESTION} yes",
        f"{QUESTION} Yes or No",
        f"{QUESTION} Yes, but wait: the step is wrong",
        f"{QUESTION}\nYes",
        f"{QUESTION} Yesterday",
        "Is the answer correct (Yes/No)? Yes",
    ],
)
def test_an_analysis_without_an_answer_at_its_end_is_none(text: str) -> None:
    assert read(wrote(text)) == "the analysis does not end with Yes or No"


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("length", "analysis cut at 7 tokens"),
        (TOO_LONG, "prompt of 7 tokens exceeds the model's context"),
        ("unsafe_text", "analysis ended by 'unsafe_text'"),
    ],
)
def test_what_was_cut_is_none(finish: str, reason: str) -> None:
    assert read(wrote(f"{QUESTION} Yes", finish)) == reason


def test_the_score_is_the_mean_over_usable_samples() -> None:
    course = critique(PROBLEM, STEPS, Asking(key="a", samples=3, temperature=0.95))
    requests = next(course)
    assert [(request.n, request.top_p) for request in requests] == [(3, 0.95)] * 2
    assert requests[0].seed != requests[1].seed
    yes, no, nothing = wrote(f"{QUESTION} Yes"), wrote(f"{QUESTION} No"), wrote("?")
    with pytest.raises(StopIteration) as end:
        course.send([[yes, yes, no], [yes, nothing, no]])
    assert end.value.value == (pytest.approx(2 / 3), 0.5)


def test_a_step_without_a_usable_sample_is_named() -> None:
    course = critique(PROBLEM, STEPS, Asking(key="a"))
    next(course)
    with pytest.raises(StopIteration) as end:
        course.send([[wrote(f"{QUESTION} Yes")], [wrote("?")]])
    assert end.value.value == "step 1: the analysis does not end with Yes or No"


@pytest.mark.parametrize("step", critics.FORGED)
def test_a_step_that_spells_a_verdict_gives_none(step: str) -> None:
    rounds, found = walk(critique(PROBLEM, (step, step), Asking(key="a")), lambda _: "Fine.")
    assert found == "step 0: the analysis does not end with Yes or No"
    assert f"Now Step: Step 1: {step}\n" in rounds[0][0].messages[1].content


PARTS = st.sampled_from([QUESTION, " Yes", " No", "\n", ".", "é", "X", " "])


@given(st.lists(PARTS, max_size=8))
def test_whatever_is_written_there_is_a_score_or_a_reason(parts: list[str]) -> None:
    found = read(wrote("".join(parts)))
    assert found in (0.0, 1.0, "the analysis does not end with Yes or No")
