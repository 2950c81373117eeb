"""A judge's list of verdicts: what it must look like, and what it says.

A verdict is the probability that a step is right. A chosen one is 0 or 1, as the judge wrote it. A
soft one is read from how likely each of the two was where the judge wrote one of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from prm.engines import Token


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


def _probability(token: Token, digit: str, written: str) -> float:
    """Of all tokens that differ from the written one in its digit, or in white space, alone."""
    wanted = token.text.replace(written, digit).strip()
    return math.fsum(
        math.exp(found) for text, found in token.alternatives.items() if text.strip() == wanted
    )
