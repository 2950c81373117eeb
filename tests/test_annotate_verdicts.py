"""Verdicts read from a judge's list or number and from the probabilities of its tokens."""

from __future__ import annotations

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.verdicts import (
    Form,
    answer_regex,
    first_error_regex,
    longest_answer,
    parse_first_error,
    parse_verdicts,
    read_answer,
    soft_first_error,
    soft_verdicts,
)
from prm.engines import Completion, Token


def listed(*places: tuple[str, dict[str, float]]) -> list[Token]:
    """A list's tokens: brackets and commas around these verdicts."""
    tokens = [Token("[", {"[": -0.1})]
    for number, (text, chances) in enumerate(places):
        tokens += [Token(",", {",": 0.0})] if number else []
        tokens.append(Token(text, {key: math.log(chance) for key, chance in chances.items()}))
    return [*tokens, Token("]", {"]": 0.0})]


def test_a_soft_verdict_is_the_share_of_one_beside_zero() -> None:
    tokens = listed(("1", {"1": 0.6, "0": 0.2, "x": 0.2}), ("0", {"1": 0.1, "0": 0.9}))
    verdicts, mass = soft_verdicts(tokens, 2)
    assert verdicts == pytest.approx((0.75, 0.1))
    assert mass == pytest.approx((0.8, 1.0))


def test_white_space_variants_of_a_verdict_count_together() -> None:
    verdicts, mass = soft_verdicts(listed(("1", {"1": 0.5, " 1": 0.1, " 0": 0.2})), 1)
    assert verdicts == pytest.approx((0.75,))
    assert mass == pytest.approx((0.8,))


def test_a_verdict_may_share_its_token_with_punctuation() -> None:
    tokens = [Token("[1", {"[1": math.log(0.3), "[0": math.log(0.1), "1": math.log(0.5)})]
    verdicts, mass = soft_verdicts([*tokens, Token("]", {"]": 0.0})], 1)
    assert verdicts == pytest.approx((0.75,))
    assert mass == pytest.approx((0.4,))


def test_a_counterpart_that_is_not_told_counts_as_impossible() -> None:
    assert soft_verdicts(listed(("0", {"0": 0.99, "2": 0.01})), 1)[0] == (0.0,)


@pytest.mark.parametrize(
    ("tokens", "steps", "reason"),
    [
        ([Token("[1,0]", {"[1,0]": 0.0})], 2, "holds more than one verdict"),
        (listed(("1", {"1": 1.0})), 2, "1 tokens with a verdict for 2 steps"),
        ([], 1, "0 tokens with a verdict for 1 steps"),
        ([Token("1", {"1": -math.inf})], 1, "no probability"),
    ],
)
def test_tokens_that_do_not_tell_give_a_reason(
    tokens: list[Token], steps: int, reason: str
) -> None:
    found = soft_verdicts(tokens, steps)
    assert isinstance(found, str)
    assert reason in found


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=20))
def test_the_written_verdict_is_on_the_likelier_side(chances: list[float]) -> None:
    tokens = listed(*[(str(int(c >= 0.5)), {"1": c, "0": 1 - c}) for c in chances])
    text = "".join(token.text for token in tokens)
    chosen = parse_verdicts(text, len(chances))
    verdicts, mass = soft_verdicts(tokens, len(chances))
    assert mass == pytest.approx((1.0,) * len(chances))
    assert [verdict >= 0.5 for verdict in verdicts] == [verdict == 1.0 for verdict in chosen]


# The first error


@given(st.integers(1, 12_345))
def test_the_regex_of_a_first_error_matches_its_numbers_and_no_others(steps: int) -> None:
    pattern = re.compile(first_error_regex(steps))
    assert len(pattern.pattern) < 100
    assert all(pattern.fullmatch(str(number)) for number in range(steps + 1))
    assert not any(pattern.fullmatch(str(number)) for number in range(steps + 1, 12_500))
    assert not any(pattern.fullmatch(str(number)) for number in range(10 * steps, 20 * steps, 7))


@pytest.mark.parametrize("steps", [*range(1, 31), 99, 100, 101, 110, 199, 200, 909, 999, 1000])
def test_of_all_strings_of_digits_the_regex_matches_as_many_as_there_are_numbers(
    steps: int,
) -> None:
    pattern = re.compile(first_error_regex(steps))
    strings = itertools.chain.from_iterable(
        itertools.product("0123456789", repeat=length) for length in range(6)
    )
    matched = [text for text in map("".join, strings) if pattern.fullmatch(text)]
    assert matched == [str(number) for number in range(steps + 1)]


@given(st.data(), st.integers(1, 12_345))
def test_whatever_the_regex_of_a_first_error_admits_parses(data: st.DataObject, steps: int) -> None:
    text = data.draw(st.from_regex(first_error_regex(steps), fullmatch=True))
    assert 0 <= int(text) <= steps
    assert str(int(text)) == text
    assert isinstance(parse_first_error(text, steps), tuple)
    assert len(text) <= longest_answer("first_error", steps) == len(str(steps))


@given(st.text(st.sampled_from("0123456789 \n-.")) | st.text(), st.integers(1, 120))
def test_of_any_text_only_such_a_number_parses(text: str, steps: int) -> None:
    admitted = re.fullmatch(first_error_regex(steps), text.strip())
    assert isinstance(parse_first_error(text, steps), tuple) == (admitted is not None)


@given(st.integers(1, 300), st.integers(0, 300))
def test_what_precedes_a_first_error_is_right_and_the_rest_wrong(steps: int, first: int) -> None:
    first = min(first, steps)
    verdicts = parse_first_error(str(first), steps)
    assert isinstance(verdicts, tuple)
    assert verdicts == tuple(
        1.0 if first == 0 or step < first else 0.0 for step in range(1, steps + 1)
    )


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("0", (1.0, 1.0, 1.0)),
        ("1", (0.0, 0.0, 0.0)),
        ("3", (1.0, 1.0, 0.0)),
        (" 2\n", (1.0, 0.0, 0.0)),
        ("4", "a step that is not there"),
        ("9" * 10_000, "a step that is not there"),
        ("03", "the number begins with a zero"),
        ("00", "the number begins with a zero"),
        ("", "the answer is not one number"),
        (" ", "the answer is not one number"),
        ("-1", "the answer is not one number"),
        ("+1", "the answer is not one number"),
        ("2.0", "the answer is not one number"),
        ("1 2", "the answer is not one number"),
        ("[2]", "the answer is not one number"),
        ("step 2", "the answer is not one number"),
        ("first_error=2", "the answer is not one number"),
        ("none", "the answer is not one number"),
        ("\uff11", "the answer is not one number"),
        ("\u0661", "the answer is not one number"),
        ("\u00b2", "the answer is not one number"),
    ],
)
def test_parse_first_error(text: str, result: tuple[float, ...] | str) -> None:
    assert parse_first_error(text, 3) == result


def number(text: str, chances: dict[str, float]) -> list[Token]:
    """The one token of a number."""
    return [Token(text, {key: math.log(chance) for key, chance in chances.items()})]


def test_a_soft_first_error_says_how_likely_it_comes_later_or_never() -> None:
    told = number("2", {"2": 0.4, "0": 0.2, "1": 0.1, "3": 0.1, "4": 0.1, "x": 0.1})
    found = soft_first_error(told, 3)
    assert found is not None
    verdicts, mass = found
    assert verdicts == pytest.approx((0.7 / 0.8, 0.3 / 0.8, 0.2 / 0.8))
    assert mass == pytest.approx((0.8, 0.8, 0.8))


def test_a_number_may_share_its_token_with_punctuation() -> None:
    told = [Token('"', {'"': 0.0}), *number('1"', {'1"': 0.2, ' 0"': 0.6, "0": 0.2})]
    found = soft_first_error(told, 1)
    assert found is not None
    assert found[0] == pytest.approx((0.75,))
    assert found[1] == pytest.approx((0.8,))


@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=10).filter(lambda p: sum(p) > 0.01))
def test_soft_first_errors_fall_from_step_to_step_to_the_chance_of_none(
    chances: list[float],
) -> None:
    steps, whole = len(chances) - 1, sum(chances)
    shares = [chance / whole for chance in chances]
    likeliest = str(shares.index(max(shares)))
    told = number(likeliest, {str(n): share for n, share in enumerate(shares) if share > 0})
    found = soft_first_error(told, steps)
    assert found is not None
    verdicts, mass = found
    assert mass == pytest.approx((1.0,) * steps)
    assert all(0.0 <= late <= early <= 1.0 for early, late in itertools.pairwise(verdicts))
    assert verdicts[-1] == pytest.approx(shares[0])
    assert verdicts[0] == pytest.approx(1 - shares[1])


@pytest.mark.parametrize(
    ("tokens", "steps"),
    [
        (number("2", {"2": 1.0}), 10),  # 2 may have been the beginning of more
        (number("1", {"1": 1.0}) + number("0", {"0": 1.0}), 12),
        (number("12", {"12": 1.0}), 12),
        ([Token("2", {"2": -math.inf})], 3),
        ([], 3),
    ],
)
def test_where_tokens_do_not_tell_a_first_error_is_taken_as_written(
    tokens: list[Token], steps: int
) -> None:
    assert soft_first_error(tokens, steps) is None
    answer = Completion(
        text="2", finish_reason="stop", prompt_tokens=1, completion_tokens=1, tokens=tuple(tokens)
    )
    verdicts = (1.0, *[0.0] * (steps - 1))
    assert read_answer(answer, "first_error", steps, soft=True) == (verdicts, None)


@pytest.mark.parametrize(("form", "text"), [("verdicts", "[1,0]"), ("first_error", "2")])
def test_an_answer_is_read_as_it_was_asked_for(form: Form, text: str) -> None:
    assert re.fullmatch(answer_regex(form, 2), text)
    assert len(text) <= longest_answer(form, 2)
    answer = Completion(text=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1)
    assert read_answer(answer, form, 2, soft=False) == ((1.0, 0.0), None)
    other: Form = "first_error" if form == "verdicts" else "verdicts"
    assert isinstance(read_answer(answer, other, 2, soft=False), str)
    assert not re.fullmatch(answer_regex(other, 2), text)
