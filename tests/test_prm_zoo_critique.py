"""What generative families share: courses walked together, verdicts read from completions."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pytest
from critics import wrote
from hypothesis import given
from hypothesis import strategies as st

from prm.engines import MOST_ALTERNATIVES, TOO_LONG, Message, Request, Token, unfinished
from prm.zoo.critique import Asking, Course, mean, read_verdicts, together

BOXED = re.compile(r"boxed\{(correct|incorrect)\}")
HELLO = (Message(role="user", content="hello"),)


def verdicts(text: str, tokens: Sequence[Token] = ()) -> list[tuple[bool, float]]:
    return [tuple(one) for one in read_verdicts(wrote(text, "stop", tokens), BOXED, *WORDS)]


WORDS = ("correct", "incorrect")


def token(text: str, **alternatives: float) -> Token:
    """A token that was as likely as `alternatives` says, by name; others as unlikely as can be."""
    return Token(text, {text: math.log(0.9), **{k: math.log(v) for k, v in alternatives.items()}})


# Courses


def counting(name: str, rounds: Sequence[int]) -> Course[list[str]]:
    """Asks so many requests a round; returns all answers."""
    said = []
    for number, requests in enumerate(rounds):
        asked = [
            Asking(key=name).request(f"{number} {index}", HELLO, prefill=f"{name} {number} {index}")
            for index in range(requests)
        ]
        answers = yield asked
        assert len(answers) == len(asked)
        said += [completion.text for own in answers for completion in own]
    return said


@given(st.lists(st.lists(st.integers(1, 3), max_size=4), max_size=5))
def test_courses_together_are_answered_as_if_alone(shapes: list[list[int]]) -> None:
    course = together([counting(f"c{index}", shape) for index, shape in enumerate(shapes)])
    rounds = 0
    answers = None
    while True:
        try:
            requests = next(course) if answers is None else course.send(answers)
        except StopIteration as end:
            found = end.value
            break
        rounds += 1
        answers = [[wrote(request.prefill)] for request in requests]
    assert rounds == max(map(len, shapes), default=0)
    assert found == [
        [f"c{index} {number} {one}" for number, many in enumerate(shape) for one in range(many)]
        for index, shape in enumerate(shapes)
    ]


def test_a_request_has_a_seed_of_its_place_and_tells_alternatives() -> None:
    asking = Asking(key="a", samples=2, temperature=0.7, max_tokens=9)
    first = asking.request("0 x", HELLO)
    assert first == asking.request("0 x", HELLO)
    assert first.seed != asking.request("1 x", HELLO).seed
    assert first.seed != Asking(key="b", temperature=0.7).request("0 x", HELLO).seed
    assert (first.temperature, first.max_tokens, first.group) == (0.7, 9, "a")
    assert first.alternatives == MOST_ALTERNATIVES
    assert asking.request("0 x", HELLO, max_tokens=3, samples=2).max_tokens == 3


# Verdicts


def test_a_verdict_is_the_probability_of_its_word_beside_the_other() -> None:
    tokens = [Token("boxed{", {}), token("correct", incorrect=0.3, corrected=0.5), Token("}", {})]
    assert verdicts("boxed{correct}", tokens) == [(True, pytest.approx(0.75))]
    tokens = [Token("boxed{", {}), token("incorrect", correct=0.1), Token("}", {})]
    assert verdicts("boxed{incorrect}", tokens) == [(False, pytest.approx(0.1))]


def test_tokens_may_hold_more_or_less_than_the_word() -> None:
    others = {"{incorrect}": 0.1, "incorrect": 0.5, "(incorrect}": 0.3}
    more = [Token("boxed", {}), token("{correct}", **others)]
    assert verdicts("boxed{correct}", more) == [(True, pytest.approx(0.9))]
    # A tokenizer may cut one of the words in two.
    less = [Token("boxed{", {}), token("in", correct=0.3), Token("correct", {}), Token("}", {})]
    assert verdicts("boxed{incorrect}", less) == [(False, pytest.approx(0.25))]


def test_a_counterpart_that_is_not_told_is_impossible() -> None:
    tokens = [Token("boxed{", {}), token("correct"), Token("}", {})]
    assert verdicts("boxed{correct}", tokens) == [(True, 1.0)]


@pytest.mark.parametrize("value", [-math.inf, -1e9, math.nan])
def test_without_probability_the_word_counts(value: float) -> None:
    tokens = [Token("boxed{", {}), Token("incorrect", {"incorrect": value}), Token("}", {})]
    assert verdicts("boxed{incorrect}", tokens) == [(False, 0.0)]


def test_without_alternatives_the_words_count() -> None:
    text = "boxed{correct} boxed{4} boxed{incorrect}"
    assert verdicts(text) == [(True, 1.0), (False, 0.0)]
    # Tokens of something else than the text tell nothing.
    assert verdicts(text, [Token("boxed{", {}), token("correct"), Token("}", {})]) == [
        (True, 1.0),
        (False, 0.0),
    ]


def test_letters_of_more_than_one_token_do_not_shift_places() -> None:
    tokens = [
        *(Token("\ufffd", {}), Token("\ufffd", {}), Token("\ufffd", {}), Token(" boxed{", {})),
        *(token("correct", incorrect=0.9), Token("}", {}), Token("<|im_end|>", {})),
    ]
    assert verdicts("数 boxed{correct}", tokens) == [(True, pytest.approx(0.5))]


def test_what_a_server_took_for_thinking_counts() -> None:
    from dataclasses import replace

    answer = replace(wrote("done"), reasoning="boxed{correct} boxed{incorrect}")
    assert [one.right for one in read_verdicts(answer, BOXED, *WORDS)] == [True, False]


PARTS = st.sampled_from(["boxed{correct}", "boxed{incorrect}", "boxed{7}", "Step 2: ", "数é ", "x"])


@given(st.lists(PARTS, max_size=8), st.data())
def test_any_cut_into_tokens_reads_the_same_words(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=10).map(sorted))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    tokens = [Token(piece, {piece: -0.1, "incorrect": -2.0, "correct": -3.0}) for piece in pieces]
    hard = verdicts(text)
    soft = verdicts(text, tokens)
    assert [right for right, _ in soft] == [right for right, _ in hard]
    assert [right for right, _ in hard] == [
        part == "boxed{correct}" for part in parts if part in ("boxed{correct}", "boxed{incorrect}")
    ]
    assert all(0 <= probability <= 1 for _, probability in soft)


# Samples


def test_the_mean_is_over_usable_samples() -> None:
    assert mean([0.25, "cut", 0.75]) == 0.5
    assert mean(["cut", "empty"]) == "cut"


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("stop", None),
        (TOO_LONG, "prompt of 7 tokens exceeds the model's context"),
        ("length", "analysis cut at 2 tokens"),
        ("content_filter", "analysis ended by 'content_filter'"),
    ],
)
def test_an_unfinished_completion_says_why(reason: str, said: str | None) -> None:
    assert unfinished(wrote("two words", reason), "analysis") == said


def test_a_round_may_ask_for_several_samples() -> None:
    def course() -> Course[int]:
        (answers,) = yield [Asking(key="a", temperature=1.0).request("0", HELLO, samples=3)]
        return len(answers)

    both = together([course(), course()])
    requests: list[Request] = next(both)
    with pytest.raises(StopIteration) as end:
        both.send([[wrote("a")] * request.n for request in requests])
    assert end.value.value == [3, 3]
