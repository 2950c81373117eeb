"""GenPRM: its conversation as published, and every way in which a critique can end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import critics
import pytest
from critics import PROBLEM, STEPS, walk, wrote
from hypothesis import given
from hypothesis import strategies as st

from prm.engines import TOO_LONG, Request
from prm.zoo.critique import Asking
from prm.zoo.genprm import FORCED_TOKENS, critique, prompt

GOLDEN = Path(__file__).parent / "golden" / "genprm.txt"

CODE = "print(3 * 12)\n```\n[Code Output]\n\n```\n36\n```\nIt holds.\n</verify>\n"
JUDGED = CODE + "<output>\n**Judgement**: $\\boxed{%s}$\n</output>\n"


def stage(request: Request) -> str:
    """Which part of a critique a request asks for."""
    ends = {": ": "analyze", "```python\n": "verify", "\\boxed": "output"}
    return next(name for end, name in ends.items() if request.prefill.endswith(end))


def paragraph(request: Request) -> int:
    """The paragraph that a request is about, from 0."""
    return sum(turn.role == "user" for turn in request.messages) - 1


def replies(**parts: str) -> Callable[[Request], str]:
    given = {"analyze": " 3 * 12 is 36.\n</analyze>\n", "verify": JUDGED % "Yes", **parts}
    return lambda request: given[stage(request)]


def run(reply: Callable[[Request], str], steps: tuple[str, ...] = STEPS, **asking: Any) -> Any:
    return walk(critique(PROBLEM, steps, Asking(key="a", **asking)), reply)


def test_golden_conversation() -> None:
    rounds, scores = run(
        lambda request: replies(verify=JUDGED % ("Yes", "No")[paragraph(request)])(request)
    )
    assert scores == (1.0, 0.0)
    assert critics.shown(rounds) == GOLDEN.read_text()


def test_a_critique_stands_in_the_conversation_from_then_on() -> None:
    rounds, _ = run(replies())
    turns = rounds[2][0].messages
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user"]
    assert turns[1].content == f"Question: {PROBLEM}\n\n{STEPS[0]}"
    assert turns[2].content == (
        "<analyze>\nLet's analyze the Paragraph 1 step by step:  3 * 12 is 36.\n</analyze>\n"
        "<verify>\nLet's use python code to find any potential error:\n```python\n" + JUDGED % "Yes"
    )
    assert turns[3].content == STEPS[1]


def test_a_verification_without_a_judgement_gives_way_to_one_that_is_forced() -> None:
    rounds, scores = run(replies(verify="it goes on", output="{No}$\n</output>\n"))
    assert scores == (0.0, 0.0)
    assert [[stage(request) for request in requests] for requests in rounds] == [
        ["analyze"],
        ["verify"],
        ["output"],
        ["analyze"],
        ["verify"],
        ["output"],
    ]
    forced = rounds[2][0]
    assert forced.max_tokens == FORCED_TOKENS
    assert forced.prefill == (
        "<analyze>\nLet's analyze the Paragraph 1 step by step:  3 * 12 is 36.\n</analyze>\n"
        "<output>\n**Judgement**: $\\boxed"
    )
    # The verification that led nowhere is not kept.
    assert rounds[3][0].messages[2].content == forced.prefill + "{No}$\n</output>\n"


def test_an_analysis_that_takes_all_tokens_is_judged_at_once() -> None:
    long = " word" * 30
    rounds, scores = run(replies(analyze=long, output="{Yes}$\n"), STEPS[:1], max_tokens=30)
    assert [stage(request) for requests in rounds for request in requests] == ["analyze", "output"]
    assert scores == (1.0,)


def test_analysis_and_verification_share_the_tokens() -> None:
    rounds, _ = run(replies(), STEPS[:1], max_tokens=100)
    assert [request.max_tokens for requests in rounds for request in requests] == [100, 95]


def test_a_missing_closing_tag_is_set() -> None:
    rounds, _ = run(replies(analyze=" all well</analyze>"), STEPS[:1])
    assert "step by step:  all well</analyze>\n<verify>" in rounds[1][0].prefill


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "the judgement is neither Yes nor No"),
        ("{Maybe}$\n</output>\n", "the judgement is neither Yes nor No"),
        ("{yes}$", "the judgement is neither Yes nor No"),
        ("Yes", "the judgement is neither Yes nor No"),
        ("I think {Yes}", "the judgement is neither Yes nor No"),
        (" word" * 40, "judgement cut at 20 tokens"),
    ],
)
def test_no_judgement_is_a_reason(output: str, reason: str) -> None:
    _, found = run(replies(verify="no", output=output))
    assert found == f"step 0: {reason}"


@pytest.mark.parametrize(
    "text",
    [
        "<output>\\boxed{Yes}</output>\n",
        "<output>\n**Judgement**: $\\boxed{Right}$\n",
        "**Judgement**: $\\boxed{Yes}$",
        "\\boxed{Yes}",
        "",
    ],
)
def test_only_the_published_form_is_a_judgement(text: str) -> None:
    assert run(replies(verify=text, output="{No}$"), STEPS[:1])[1] == (0.0,)


def test_the_last_judgement_counts() -> None:
    both = JUDGED.replace("</output>\n", "") % "Yes" + JUDGED % "No"
    assert run(replies(verify=both), STEPS[:1])[1] == (0.0,)


def test_prompts_that_do_not_fit_are_a_reason() -> None:
    course = critique(PROBLEM, STEPS, Asking(key="a"))
    next(course)
    with pytest.raises(StopIteration) as end:
        course.send([[wrote("", TOO_LONG)]])
    assert end.value.value == "step 0: prompt of 7 tokens exceeds the model's context"


def test_an_analysis_that_was_not_written_is_a_reason() -> None:
    course = critique(PROBLEM, STEPS, Asking(key="a"))
    next(course)
    with pytest.raises(StopIteration) as end:
        course.send([[wrote("", "content_filter")]])
    assert end.value.value == "step 0: analysis ended by 'content_filter'"


def test_the_score_is_the_mean_over_samples_and_the_first_usable_one_is_kept() -> None:
    course = critique(PROBLEM, STEPS, Asking(key="a", samples=4, temperature=0.6))
    (analysis,) = next(course)
    assert (analysis.n, analysis.top_p) == (4, 0.95)
    asked = course.send([[wrote(f" no {number}\n") for number in range(4)]])
    assert [request.n for request in asked] == [1] * 4
    assert len({request.seed for request in asked}) == 4
    judged = [[wrote("nothing")], *([wrote(JUDGED % word)] for word in ("Yes", "No", "Yes"))]
    (forced,) = course.send(judged)
    (later,) = course.send([[wrote("nothing")]])
    assert " no 0\n" in forced.prefill
    assert " no 1\n" in later.messages[2].content
    asked = course.send([[wrote(" fine\n")] * 4])
    with pytest.raises(StopIteration) as end:
        course.send([[wrote(JUDGED % "Yes")] for _ in asked])
    assert end.value.value == (pytest.approx(2 / 3), 1.0)


@pytest.mark.parametrize("step", critics.FORGED)
def test_a_step_that_spells_a_verdict_gives_none(step: str) -> None:
    steps = (step, step)
    _, found = run(replies(verify="no", output="nothing"), steps)
    assert isinstance(found, str)
    assert run(replies(verify=JUDGED % "No"), steps)[1] == (0.0, 0.0)
    assert prompt(PROBLEM, steps, ["critique"])[-1].content == step


PARTS = [
    "{Yes}",
    "{No}",
    "Yes",
    "{",
    "\\boxed",
    "<output>\n**Judgement**: $\\boxed",
    "\n",
    "é",
    "$",
]
TEXT = st.lists(st.sampled_from([*PARTS, "</analyze>\n", "</output>\n"]), max_size=6).map("".join)


@given(TEXT, TEXT, TEXT, st.integers(1, 3))
def test_whatever_is_written_there_is_a_score_for_each_step_or_a_reason(
    analyze: str, verify: str, output: str, steps: int
) -> None:
    parts = {"analyze": analyze, "verify": verify, "output": output}
    _, found = run(lambda request: parts[stage(request)], ("x",) * steps)
    if isinstance(found, str):
        assert found.startswith("step 0: ")
        assert "\n" not in found
    else:
        assert len(found) == steps
        assert set(found) <= {0.0, 1.0}
