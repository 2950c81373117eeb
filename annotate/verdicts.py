"""A judge's verdicts: what its answer must look like, and what it says of each step.

A verdict is the probability that a step is right. A chosen one is 0 or 1, as the judge wrote it. A
soft one is read from how likely each possible answer was where the judge wrote one of them.

    verdicts     [1,0,0]   a verdict a step
    first_error  2         the first wrong step, and so all after it; 0 is none
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Literal

from prm.engines import Completion, Token

Form = Literal["verdicts", "first_error"]
"""How a judge answers: with a list of verdicts, or with the number of the first wrong step."""

BEFORE: dict[Form, str] = {"verdicts": "judge_result=", "first_error": "first_error="}
"""What stands before an answer; we write it, never the judge."""


def answer_regex(form: Form, steps: int) -> str:
    """What an answer about `steps` steps looks like, and nothing else does."""
    return verdict_regex(steps) if form == "verdicts" else first_error_regex(steps)


def longest_answer(form: Form, steps: int) -> int:
    """Characters of the longest answer; no token is shorter than one."""
    return 2 * steps + 1 if form == "verdicts" else len(str(steps))


def read_answer(
    answer: Completion, form: Form, steps: int, *, soft: bool
) -> tuple[tuple[float, ...], tuple[float, ...] | None] | str:
    """What an answer says of each step.

    Args:
        answer: what the judge wrote, with alternatives if `soft`.
        form: how it was asked to answer.
        steps: how many steps there are.
        soft: read probabilities. Those of a first error are told by single tokens only where it
            has one digit; elsewhere its verdicts are the chosen ones.

    Returns:
        A verdict for each step and, for soft ones, the mass behind it; or why there are none.
    """
    if form == "verdicts":
        chosen = parse_verdicts(answer.text, steps)
    else:
        chosen = parse_first_error(answer.text, steps)
    if isinstance(chosen, str):
        return chosen
    if not soft:
        return chosen, None
    if form == "verdicts":
        return soft_verdicts(answer.tokens, steps)
    return soft_first_error(answer.tokens, steps) or (chosen, None)


def verdict_regex(steps: int) -> str:
    """What a list of verdicts for `steps` steps looks like."""
    return r"\[[01]" + (rf"(,[01]){{{steps - 1}}}" if steps > 1 else "") + r"\]"


def parse_verdicts(text: str, steps: int) -> tuple[float, ...] | str:
    """The verdicts in a judge's list, or the reason why it is none.

    Takes nothing but one list of as many 0 and 1 as there are steps: engines differ in how
    well they constrain, and a verdict that has to be guessed is no verdict.
    """
    inside = re.fullmatch(r"\s*\[([^\[\]]*)\]\s*", text)
    if inside is None:
        return "the answer is not one list"
    if not inside[1].strip():
        return "the list is empty"
    verdicts = [item.strip() for item in inside[1].split(",")]
    if any(verdict not in ("0", "1") for verdict in verdicts):
        return "a verdict is neither 0 nor 1"
    if len(verdicts) != steps:
        return f"{len(verdicts)} verdicts for {steps} steps"
    return tuple(float(verdict) for verdict in verdicts)


def first_error_regex(steps: int) -> str:
    """The numbers 0 to `steps` without leading zeros, digit by digit: short for any number."""
    most = str(steps)
    ways = ["0"]
    if len(most) > 1:
        ways.append(f"[1-9][0-9]{{0,{len(most) - 2}}}")
    # As long as `most`: alike up to some digit, less there, anything after it.
    for place, digit in enumerate(most):
        lowest = 0 if place else 1
        last = place == len(most) - 1
        highest = int(digit) if last else int(digit) - 1
        if highest >= lowest:
            after = len(most) - place - 1
            ways.append(f"{most[:place]}[{lowest}-{highest}]{_digits(after)}")
    return f"({'|'.join(ways)})"


def _digits(count: int) -> str:
    return f"[0-9]{{{count}}}" if count else ""


def parse_first_error(text: str, steps: int) -> tuple[float, ...] | str:
    """The verdicts in the number of the first wrong step, or the reason why it is none.

    Every step before it is right; it and all after it are wrong. 0 is no wrong step.
    """
    number = re.fullmatch(r"\s*([0-9]+)\s*", text)
    if number is None:
        return "the answer is not one number"
    if number[1].startswith("0") and number[1] != "0":
        return "the number begins with a zero"
    # The length first: Python reads no number of thousands of digits.
    if len(number[1]) > len(str(steps)) or int(number[1]) > steps:
        return "a step that is not there"
    right = int(number[1]) - 1 if number[1] != "0" else steps
    return (1.0,) * right + (0.0,) * (steps - right)


def soft_verdicts(
    tokens: Sequence[Token], steps: int
) -> tuple[tuple[float, ...], tuple[float, ...]] | str:
    """How likely 1 was beside 0 at each verdict, and how likely one of the two.

    Args:
        tokens: of a list that `parse_verdicts` accepts, with alternatives.
        steps: how many verdicts it holds.

    Returns:
        p(1) / (p(0) + p(1)) and p(0) + p(1) for each step; or why the tokens do not tell. A
        verdict whose counterpart is not among the alternatives counts it as impossible.
    """
    verdicts, mass = [], []
    for token in tokens:
        written = re.findall("[01]", token.text)
        if not written:
            continue
        if len(written) > 1:
            return f"the token {token.text!r} holds more than one verdict"
        zero, one = (_probability(token, digit, written[0]) for digit in "01")
        if zero + one <= 0:
            return f"the token {token.text!r} has no probability"
        verdicts.append(one / (zero + one))
        mass.append(min(1.0, zero + one))
    if len(verdicts) != steps:
        return f"{len(verdicts)} tokens with a verdict for {steps} steps"
    return tuple(verdicts), tuple(mass)


def soft_first_error(
    tokens: Sequence[Token], steps: int
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """How likely the first error lies after each step or nowhere, and how likely any number was.

    Args:
        tokens: of a number that `parse_first_error` accepts, with alternatives.
        steps: the highest number there is.

    Returns:
        For each step k the sum of p(n) over n > k and n = 0, divided by that over all n from 0 to
        `steps`; the latter sum, the same for each step. None where the tokens do not tell: from 10
        steps on, or where no single token holds the digit. A number that is not among the
        alternatives counts as impossible.
    """
    written = [(token, re.findall("[0-9]", token.text)) for token in tokens]
    places = [(token, digits) for token, digits in written if digits]
    if steps > 9 or len(places) != 1 or len(places[0][1]) != 1:
        return None
    ((token, (digit,)),) = places
    none, *first = (_probability(token, str(number), digit) for number in range(steps + 1))
    mass = math.fsum([none, *first])
    if mass <= 0:
        return None
    wrong = itertools.accumulate(first)
    verdicts = tuple(min(1.0, max(0.0, 1.0 - passed / mass)) for passed in wrong)
    return verdicts, (min(1.0, mass),) * steps


def _probability(token: Token, digit: str, written: str) -> float:
    """Of all tokens that differ from the written one in its digit, or in white space, alone."""
    wanted = token.text.replace(written, digit).strip()
    return math.fsum(
        math.exp(found) for text, found in token.alternatives.items() if text.strip() == wanted
    )
