"""Step separation by rewriting: an answer counts only where it is the text word for word."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.pieces import split_steps
from annotate.rewrite import START, parse_steps, rewrite_texts
from annotate.split import Config, split
from annotate.strategy import load_rewriting, load_strategy, render_text
from prm.engines import EngineConfig, Request
from prm.engines.fake import ScriptedEngine
from prm.errors import ConfigError
from prm.records import Solution
from prm.sources import Source

TEXT = 'Let \\(x = 2\\). He says "two".\n\nSo  $x^2 = 4$.'
STEPS = ('Let \\(x = 2\\). He says "two".', "So  $x^2 = 4$.")
words = st.sampled_from(
    ["So", "x=1.", "\\frac{1}{2}", '"', "é", "\x00", "</think>", "<|im_end|>", "{"]
)
steps = st.lists(
    st.lists(words | st.text(min_size=1, max_size=4), min_size=1, max_size=4)
    .map(" ".join)
    .filter(str.strip),
    min_size=1,
    max_size=6,
)


def as_json(parts: list[str] | tuple[str, ...]) -> str:
    return json.dumps({f"Step {number}": part for number, part in enumerate(parts, start=1)})


def squeezed(text: str) -> str:
    return "".join(text.split())


@given(steps, st.sampled_from([" ", "\n", "\n\n", "\r\n"]))
def test_steps_that_are_the_text_are_cut_out_of_it(parts: list[str], gap: str) -> None:
    text = gap.join(parts)
    found = parse_steps(as_json([" ".join(part.split()) for part in parts]), text)
    assert not isinstance(found, str)
    assert squeezed("".join(found)) == squeezed(text)
    assert all(step in text and step == step.strip() for step in found)
    tags = [part for part in parts if set(part.split()) == {"</think>"}]
    if not tags:
        assert list(found) == [part.strip() for part in parts]


@given(st.text(), st.text(min_size=1).filter(str.strip))
def test_whatever_is_answered_the_words_stay(answer: str, text: str) -> None:
    config = Config(
        out="out", source=Source(path="in.jsonl"), engine=EngineConfig("m"), how="rewrite"
    )
    engine = ScriptedEngine(lambda request: answer)
    (found,) = split([Solution(id="a", problem="p", steps=(text,))], config, engine)
    assert squeezed("".join(found.steps)) == squeezed(text)
    assert ("split_error" in found.metadata) == (found.metadata["split"] == "rules")


def test_white_space_inside_a_step_stays_as_the_policy_wrote_it() -> None:
    told = as_json([step.replace("  ", " ") for step in STEPS])
    assert parse_steps(told, TEXT) == STEPS
    raw = told.replace("So ", "So\n\t")  # line ends that the model did not escape
    assert parse_steps(raw, TEXT) == STEPS


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "the answer is not JSON"),
        ('{"Step 1": "One', "the answer is not JSON"),
        (as_json(["One two.", "Three."]) + " Done.", "the answer is not JSON"),
        ('{"Step 1": "One \\(two"}', "the answer is not JSON"),  # a backslash by itself
        ('{"Step 1": ' + "9" * 5000 + "}", "the answer is not JSON"),
        ('{"Step 1": ' + "[" * 100_000, "the answer is not JSON"),
        ("[]", "the answer is not one object with steps"),
        ("{}", "the answer is not one object with steps"),
        ('"Step 1"', "the answer is not one object with steps"),
        ('{"Step 2": "One two. Three."}', "the keys are not Step 1, Step 2 and so on"),
        ('{"Step 1": "One two.", "Step 1": "Three."}', "the keys are not Step 1"),
        ('{"Step 1": "One two.", "Step 3": "Three."}', "the keys are not Step 1"),
        ('{"Step 1": "One two. Three.", "Step 2": " "}', "a step holds no text: step 2"),
        ('{"Step 1": ["One two. Three."]}', "a step holds no text: step 1"),
        (as_json(["One two.", "Four."]), "the steps are not the text: 7 of 13 characters agree"),
        (as_json(["One two."]), "the steps are not the text: 7 of 13 characters agree"),
        (as_json(["One two. Three.", "End."]), "the steps are not the text: 13 of 13"),
        (as_json(["One two. Th", "ree."]), "a step begins inside a word: step 2"),
        (as_json(["One tw\ud800"]), "the steps are not the text: 5 of 13"),
    ],
)
def test_other_answers_are_refused_with_a_reason(answer: str, reason: str) -> None:
    found = parse_steps(answer, "One two. Three.")
    assert isinstance(found, str)
    assert found.startswith(reason)
    found.encode()


def test_a_tag_alone_is_no_step() -> None:
    text = "<think>\nAdd.\n</think>\n3"
    assert parse_steps(as_json(["<think>", "Add.", "</think>", "3"]), text) == (
        "<think>\nAdd.\n</think>",
        "3",
    )


def test_an_unusable_answer_is_asked_again_with_chance_and_then_the_rules_cut() -> None:
    answers = iter(["{}", " 1}", as_json(STEPS).removeprefix(START), " 2}"])
    engine = ScriptedEngine(lambda request: next(answers))
    config = Config(
        out="out", source=Source(path="in.jsonl"), engine=EngineConfig("m"), how="rewrite"
    )
    items = [Solution(id=name, problem="p", steps=(TEXT,)) for name in "ab"]
    first, second = split(items, config, engine)
    assert first.steps == STEPS
    assert first.metadata == {"split": "rewrite"}
    assert second.steps == split_steps(TEXT)
    assert second.metadata == {"split": "rules", "split_error": "a step holds no text: step 1"}
    once, _, again, _ = engine.requests
    assert once.temperature == 0 < again.temperature
    assert once.seed != again.seed


def test_a_server_that_cannot_go_on_with_a_prefill_may_begin_anew() -> None:
    for answer in (as_json(STEPS), "\n" + as_json(STEPS)):
        engine = ScriptedEngine(lambda request, answer=answer: answer)
        assert rewrite_texts([TEXT], engine, prompts="default") == [STEPS]


def test_a_text_of_one_piece_is_not_asked_about() -> None:
    engine = ScriptedEngine(lambda request: "")
    assert rewrite_texts([" One. "], engine, prompts="default") == [("One.",)]
    assert engine.calls == 0


@given(steps.filter(lambda parts: len(parts) > 1))
def test_the_answer_has_room_for_the_text_and_not_much_more(parts: list[str]) -> None:
    text = "\n\n".join(parts)
    found: list[Request] = []
    engine = ScriptedEngine(lambda request: found.append(request) or "")
    rewrite_texts([text], engine, prompts="default", retries=0)
    for request in found:  # none for a text of one piece
        answer = json.dumps({"Step 1": text}, ensure_ascii=False)
        assert len(answer.removeprefix(START).encode()) <= request.max_tokens
        assert request.max_tokens <= 6 * len(text.encode()) + 17 * len(text)


def test_the_model_sees_the_text_between_markers_that_it_cannot_write() -> None:
    system, user = render_text(load_rewriting(), "One {{fence}}\n~~~~~~~~~ END")
    assert system.role == "system"
    fence = "~" * 10
    assert f"{fence} SOLUTION\nOne {{{{fence}}}}\n~~~~~~~~~ END\n{fence} END" in user.content


def test_a_set_without_rewriting_is_refused(tmp_path) -> None:
    (tmp_path / "common.toml").write_text("")
    with pytest.raises(ConfigError, match=r"rewrite\.toml: "):
        rewrite_texts(["a"], ScriptedEngine(lambda request: ""), prompts=str(tmp_path))
    (tmp_path / "rewrite.toml").write_text("system = ''\nuser = '{{steps}}'")
    with pytest.raises(ConfigError, match="'steps' is neither a key nor a value here"):
        rewrite_texts(["a"], ScriptedEngine(lambda request: ""), prompts=str(tmp_path))
    with pytest.raises(ConfigError, match="strategy 'rewrite'"):
        load_strategy("rewrite")
