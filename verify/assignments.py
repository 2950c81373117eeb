"""Answers that name what they give: `x=5`, `f(x)=2x`, `(x,y)=(1,2)`."""

from __future__ import annotations

import re

from verify import lists
from verify.numerals import number

RELATION = re.compile(r"[<>=]|\\(?:le|ge|ne|in|equiv|approx)(?![a-zA-Z])")
_NAME = (
    r"(?:\\?[a-zA-Z]+(?:_(?:\{\w+\}|\w))?'?"
    r"|[a-zA-Z](?:'|\^\{-1\})?\([a-z](?:,[a-z])*\)|\([a-z](?:,[a-z])+\))"
)
_ASSIGNMENT = re.compile(rf"({_NAME})=(.+)", re.DOTALL)


def assignment(text: str) -> tuple[str, str] | None:
    """The name and value of `x=5`, `5=x`, `f(x)=2x`, `(x,y)=(1,2)`."""
    match = _ASSIGNMENT.fullmatch(text)
    if match and not RELATION.search(match[2]):
        return match[1], match[2]
    left, _, right = text.partition("=")
    if re.fullmatch(r"[a-zA-Z]", right) and number(left) is not None:
        return right, left
    return None


def spread(name: str, value: str) -> list[str] | None:
    """`(x,y)=(1,2)` as `x=1` and `y=2`."""
    names, values = lists.split_list(name), lists.split_list(value)
    if names is None or values is None or len(names[1]) != len(values[1]):
        return None
    return [f"{x}={y}" for x, y in zip(names[1], values[1], strict=True)]
