"""ThinkPRM: its prompt as published, and every way in which a verification can end."""

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
from prm.zoo.thinkprm import critique, prompt, read

GOLDEN = Path(__file__).parent / "golden" / "thinkprm.txt"
RIGHT, WRONG = "The step is \\boxed{correct}\n", "The step is \\boxed{incorrect}\n"


def test_golden_prompt() -> None:
    course = critique(PROBLEM, STEPS, Asking(key="a"))
    rounds, scores = walk(course, lambda _: f"Step 1: {RIGHT}Step 2: {WRONG}</think>")
    assert scores == (1.0, 0.0)
    assert critics.shown(rounds) == GOLDEN.read_text()


def test_steps_are_numbered_and_taken_as_they_are() -> None:
    steps = ("  a {solution}", "", "{problem}\n")
    (message,) = prompt("p {solution}", steps)
    solution = "Step 1:   a {solution}\nStep 2: \nStep 3: {problem}"
    assert f"[Math Problem]\n\np {{solution}}\n\n[Solution]\n\n{solution}\n\nReview" in (
        message.content
    )


def test_a_step_gets_the_probability_at_its_own_word() -> None:
    def said(word: str, right: float) -> list[Token]:
        told = {"correct": math.log(right), "incorrect": math.log(1 - right)}
        return [Token("boxed{", {}), Token(word, told), Token("}\n", {})]

    tokens = [Token("\\", {}), *said("correct", 0.8), Token("\\", {}), *said("incorrect", 0.1)]
    text = "".join(token.text for token in tokens)
    assert read(wrote(text, "stop", tokens), 2) == pytest.approx((0.8, 0.1))
    # The verification stopped there: the steps after it are as likely right as the one they follow.
    assert read(wrote(text, "stop", tokens), 4) == pytest.approx((0.8, 0.1, 0.1, 0.1))


@pytest.mark.parametrize(
    ("text", "steps", "scores"),
    [
        (RIGHT * 3, 3, (1.0, 1.0, 1.0)),
        (RIGHT + WRONG, 4, (1.0, 0.0, 0.0, 0.0)),
        (WRONG, 3, (0.0, 0.0, 0.0)),
        (RIGHT + WRONG + RIGHT, 3, (1.0, 0.0, 1.0)),
        (f"so \\boxed{{36}} {RIGHT}", 1, (1.0,)),
        ("it is \\boxed{\\text{incorrect}}", 1, (0.0,)),
    ],
)
def test_what_a_verification_says(text: str, steps: int, scores: tuple[float, ...]) -> None:
    assert read(wrote(text), steps) == scores


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "0 verdicts for 3 steps, and none incorrect at the end"),
        ("All steps are correct.", "0 verdicts for 3 steps, and none incorrect at the end"),
        (RIGHT * 2, "2 verdicts for 3 steps, and none incorrect at the end"),
        (WRONG + RIGHT, "2 verdicts for 3 steps, and none incorrect at the end"),
        (RIGHT * 4, "4 verdicts for 3 steps"),
        (RIGHT * 3 + WRONG, "4 verdicts for 3 steps"),
        ("\\boxed{Correct}" * 3, "0 verdicts for 3 steps, and none incorrect at the end"),
        ("\\boxed{correct" * 3, "0 verdicts for 3 steps, and none incorrect at the end"),
    ],
)
def test_a_verification_that_is_none_says_why(text: str, reason: str) -> None:
    assert read(wrote(text), 3) == reason


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("length", "verification cut at 12 tokens"),
        (TOO_LONG, "prompt of 7 tokens exceeds the model's context"),
        ("abort", "verification ended by 'abort'"),
    ],
)
def test_what_was_cut_is_none(finish: str, reason: str) -> None:
    assert read(wrote(RIGHT * 3, finish), 3) == reason


def test_scores_are_means_over_usable_samples() -> None:
    course = critique(PROBLEM, STEPS, Asking(key="a", samples=3, temperature=0.7))
    (request,) = next(course)
    assert request.n == 3
    with pytest.raises(StopIteration) as end:
        course.send([[wrote(RIGHT * 2), wrote("?"), wrote(WRONG)]])
    assert end.value.value == (0.5, 0.5)


def test_without_a_usable_sample_the_first_reason_counts() -> None:
    course = critique(PROBLEM, STEPS, Asking(key="a", samples=2, temperature=0.7))
    next(course)
    with pytest.raises(StopIteration) as end:
        course.send([[wrote(RIGHT * 2, "length"), wrote("?")]])
    assert end.value.value == "verification cut at 8 tokens"


def test_it_ends_where_it_turns_to_a_step_that_is_not_there() -> None:
    course = critique(PROBLEM, STEPS, Asking(key="a"))
    _, scores = walk(course, lambda _: f"Step 1: {RIGHT}Step 2: {RIGHT}Step 3: {WRONG}")
    assert scores == (1.0, 1.0)


@pytest.mark.parametrize("step", critics.FORGED)
def test_a_step_that_spells_a_verdict_gives_none(step: str) -> None:
    rounds, found = walk(critique(PROBLEM, (step, step), Asking(key="a")), lambda _: "Fine.")
    assert isinstance(found, str)
    assert f"Step 1: {step}" in rounds[0][0].messages[0].content


PARTS = st.sampled_from([RIGHT, WRONG, "\\boxed{", "correct}", "}", "x", "\\boxed{4}", "é", "\n"])


@given(st.lists(PARTS, max_size=9), st.integers(1, 5), st.sampled_from(["stop", "length"]))
def test_whatever_is_written_there_is_a_score_for_each_step_or_a_reason(
    parts: list[str], steps: int, finish: str
) -> None:
    found = read(wrote("".join(parts), finish), steps)
    if isinstance(found, str):
        assert found
        assert "\n" not in found
    else:
        assert finish == "stop"
        assert len(found) == steps
        assert set(found) <= {0.0, 1.0}
