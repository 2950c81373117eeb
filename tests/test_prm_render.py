"""The renderer: golden token ids, step ends by construction, and text that stays text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from prm.errors import CheckpointError, RecordError
from prm.render import NO_REFERENCE, REFERENCE_INTRO, Renderer, RenderSettings

GOLDEN = json.loads((Path(__file__).parent / "golden" / "render.json").read_text())
"""Settings, problem, steps and reference with the ids they must give."""

TOKENIZER = tiny.make_tokenizer()
SPECIAL = {TOKENIZER.convert_tokens_to_ids(name) for name in tiny.SPECIAL}
RENDERER = Renderer(TOKENIZER, RenderSettings())
END = TOKENIZER("\n\n", add_special_tokens=False)["input_ids"]
NAMES = (*tiny.SPECIAL, "<extra_0>", "ки", "[SEP]", "</s>", "<0x0A>", "\u2063PROBLEM\u2063")

words = st.text(max_size=8) | st.sampled_from([*NAMES, "\n\n", "\r", "\x00", "\u202e", " "])
texts = st.lists(words, min_size=1, max_size=4).map("".join)


def renderer(template: str | None = tiny.CHATML, **settings: Any) -> Renderer:
    tokenizer = tiny.make_tokenizer()
    tokenizer.chat_template = template
    return Renderer(tokenizer, RenderSettings(**settings))


def text(ids: list[int]) -> str:
    return TOKENIZER.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    case = GOLDEN[name]
    found = renderer(case["template"], **case["settings"]).render(**case["input"])
    assert found.input_ids == case["input_ids"]
    assert found.step_ends == case["step_ends"]


def test_golden_covers_what_a_rendering_depends_on() -> None:
    settings = [case["settings"] for case in GOLDEN.values()]
    assert {key for one in settings for key in one} == {"system", "step_end", "takes_reference"}
    assert {case["template"] is None for case in GOLDEN.values()} == {True, False}


def test_the_text_of_a_rendering() -> None:
    found = RENDERER.render(" 1 + 1? ", ["It is 2.", "So 2."], "1 + 1 = 2\n")
    assert text(found.input_ids) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n1 + 1?{REFERENCE_INTRO}1 + 1 = 2<|im_end|>\n"
        "<|im_start|>assistant\nIt is 2.\n\nSo 2.\n\n"
    )
    assert f"1 + 1?{REFERENCE_INTRO}{NO_REFERENCE}" in text(
        RENDERER.render("1 + 1?", ["2"]).input_ids
    )


def test_settings_that_take_no_reference_or_no_system() -> None:
    bare = renderer(system="", takes_reference=False)
    one = bare.render("1 + 1?", ["2"], "a reference")
    assert text(one.input_ids) == (
        "<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n2\n\n"
    )
    assert one == bare.render("1 + 1?", ["2"])


def test_without_a_template_the_problem_is_plain_text() -> None:
    plain = renderer(None, takes_reference=False)
    found = text(plain.render("1 + 1?", ["2"]).input_ids)
    assert found == "You are a helpful assistant.\n\n1 + 1?\n\n2\n\n"
    no_system = renderer(None, takes_reference=False, system="")
    assert text(no_system.render("1 + 1?", ["2"]).input_ids) == "1 + 1?\n\n2\n\n"


@given(texts, st.lists(texts, min_size=1, max_size=5), st.none() | texts)
def test_step_ends(problem: str, steps: list[str], reference: str | None) -> None:
    found = RENDERER.render(problem, steps, reference)
    assert len(found.step_ends) == len(steps)
    for end in found.step_ends:
        assert found.input_ids[end + 1 - len(END) : end + 1] == END
    assert found.step_ends[-1] == len(found.input_ids) - 1
    # Between two ends stands the step and nothing else.
    for index in range(1, len(steps)):
        start, end = found.step_ends[index - 1] + 1, found.step_ends[index] + 1 - len(END)
        assert found.input_ids[start:end] == RENDERER._plain(steps[index])


@given(texts, st.lists(texts, min_size=2, max_size=5), st.none() | texts)
def test_fewer_steps_are_a_prefix(problem: str, steps: list[str], reference: str | None) -> None:
    whole = RENDERER.render(problem, steps, reference)
    for count in range(1, len(steps)):
        part = RENDERER.render(problem, steps[:count], reference)
        assert part.input_ids == whole.input_ids[: len(part.input_ids)]
        assert part.step_ends == whole.step_ends[:count]


@given(texts, st.lists(texts, min_size=1, max_size=3), st.none() | texts)
def test_names_of_special_tokens_stay_text(
    problem: str, steps: list[str], reference: str | None
) -> None:
    found = RENDERER.render(problem, steps, reference)
    innocent = RENDERER.render("a", ["a"] * len(steps), "a")

    def special(ids: list[int]) -> list[int]:
        return [token for token in ids if token in SPECIAL]

    # The template's own and no others: a scorer cannot tell the words from any others.
    assert special(found.input_ids) == special(innocent.input_ids)


@pytest.mark.parametrize("name", tiny.SPECIAL)
def test_a_special_step_end_stands_only_at_step_ends(name: str) -> None:
    own = renderer(step_end=name, system="")
    step = f"a {name} b{name}"
    found = own.render(f"p {name}", [step, name], name)
    token = TOKENIZER.convert_tokens_to_ids(name)
    first = found.input_ids.index(own._plain(step)[0], found.step_ends[0] - len(own._plain(step)))
    assert [
        index for index in range(first, len(found.input_ids)) if found.input_ids[index] == token
    ] == found.step_ends


def test_what_is_too_long_is_refused_and_never_cut() -> None:
    whole = RENDERER.render("p", ["step"] * 5)
    length = len(whole.input_ids)
    assert renderer(max_length=length).render("p", ["step"] * 5) == whole
    with pytest.raises(RecordError) as caught:
        renderer(max_length=length - 1).render("p", ["step"] * 5)
    told = f"{length} tokens, more than max_length {length - 1}, as set in training;"
    assert told in str(caught.value)
    assert caught.value.field == "steps"


def test_no_steps() -> None:
    with pytest.raises(RecordError, match="no steps to score"):
        RENDERER.render("p", [])


def test_thousands_of_steps_give_as_many_ends() -> None:
    long = renderer(max_length=10**7)
    assert len(long.render("p", ["x"] * 2_000).step_ends) == 2_000


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0]['content'] }}", "does not hold the user turn once"),
        ("nothing of what is said", "does not hold the user turn once"),
        (tiny.CHATML + tiny.CHATML, "does not hold the user turn once"),
        ("{{ raise_exception('no system turns') }}", "refuses the conversation .no system turns"),
    ],
)
def test_templates_that_lose_the_user_turn(template: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        renderer(template)


def test_a_step_end_without_tokens() -> None:
    with pytest.raises(CheckpointError, match="step_end '' has no tokens"):
        renderer(step_end="")
