"""Step separation by a model: numbers in, the text's own words out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.boundary import STARTS, join, parse_starts, split_texts, starts_regex
from annotate.pieces import candidates, split_steps
from annotate.split import BOUNDARY, Config, split
from annotate.strategy import load_splitting, render_pieces
from prm.engines.fake import ScriptedEngine
from prm.errors import ConfigError
from prm.records import Solution
from prm.sources import Source

TEXT = "Look at this. It is two.\nSo we get four. Then  eight.\n\n$$x = 8$$"
lists = st.integers(1, 40).flatmap(
    lambda pieces: st.tuples(
        st.just(pieces), st.sets(st.integers(2, pieces) if pieces > 1 else st.nothing())
    )
)


def answering(*texts: str) -> ScriptedEngine:
    """An engine that gives these answers in turn, whatever it is asked."""
    remaining = iter(texts)
    return ScriptedEngine(lambda request: next(remaining), constrains=False)


@given(lists)
def test_every_true_list_matches_and_parses(drawn):
    pieces, later = drawn
    starts = [1, *sorted(later)]
    text = f"[{','.join(map(str, starts))}]"
    assert re.fullmatch(starts_regex(pieces), text)
    assert parse_starts(text, pieces) == starts


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the answer is not one list of numbers"),
        ("[]", "the answer is not one list of numbers"),
        ("[1,a]", "the answer is not one list of numbers"),
        ("[1,2] or [1]", "the answer is not one list of numbers"),
        ("[1,99999999999999999999]", "the answer is not one list of numbers"),
        ("[2,3]", "the first step does not begin at piece 1"),
        ("[1,3,2]", "the numbers do not rise"),
        ("[1,1]", "the numbers do not rise"),
        ("[1,6]", "a piece that is not there"),
    ],
)
def test_other_answers_are_refused_with_a_reason(text, reason):
    assert parse_starts(text, 5) == reason


@given(lists)
def test_joined_steps_are_the_text_word_for_word(drawn):
    pieces, later = drawn
    text = " \n".join(f"It is {number}." for number in range(pieces))
    spans = candidates(text)
    assert len(spans) == pieces
    steps = join(text, spans, [1, *sorted(later)])
    assert len(steps) == 1 + len(later)
    assert "".join("".join(steps).split()) == "".join(text.split())
    assert all(step in text for step in steps)


def test_the_model_sees_numbered_pieces_between_markers():
    system, user = render_pieces(load_splitting(), ["One {{count}}.", "~~~~~~~~~ 2"])
    assert system.role == "system"
    fence = "~" * 10
    assert f"{fence} 1\nOne {{{{count}}}}.\n{fence} 2\n~~~~~~~~~ 2\n{fence} END" in user.content
    assert "2 numbered piece(s)" in user.content


def test_an_unusable_answer_is_asked_again_with_chance():
    engine = answering("[1,3]", "[2]", "[1,2]")
    found = split_texts([TEXT, TEXT, "One."], engine, prompts="default")
    pieces = ("Look at this. It is two.", "So we get four. Then  eight.\n\n$$x = 8$$")
    assert found[0] == pieces
    assert found[1][0] == "Look at this."
    assert found[2] == ("One.",)
    first, second, again = engine.requests
    assert first.prefill == STARTS
    assert first.temperature == second.temperature == 0
    assert again.temperature > 0


def test_rules_take_over_where_no_answer_is_of_use():
    engine = answering("[1,3]", "[9]", "[7]")
    items = [Solution(id=name, problem="p", steps=(TEXT,)) for name in "ab"]
    config = Config(out="out", source=Source(path="in.jsonl"))
    first, second = split(items, config, engine)
    assert first.metadata == {"split": BOUNDARY}
    assert second.metadata == {
        "split": "rules",
        "split_error": "the first step does not begin at piece 1",
    }
    assert second.steps == split_steps(TEXT)


def test_a_set_without_splitting_is_refused(tmp_path):
    (tmp_path / "common.toml").write_text("")
    with pytest.raises(ConfigError, match=r"split\.toml: "):
        split_texts(["a"], answering(), prompts=str(tmp_path))
    (tmp_path / "split.toml").write_text("system = ''\npiece = '{{step}}'\nuser = ''")
    with pytest.raises(ConfigError, match="'step' is neither a key nor a value here"):
        split_texts(["a"], answering(), prompts=str(tmp_path))
