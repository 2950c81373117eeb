"""Verdicts read from a judge's list and from the probabilities of its tokens."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.verdicts import parse_verdicts, soft_verdicts
from prm.engines import Token


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
