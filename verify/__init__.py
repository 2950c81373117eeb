"""Answers, and what the reference answer says of labels.

    >>> import verify
    >>> verify.equivalent("1/2", "0.5").verdict
    'equal'
    >>> verify.grade("Half of 6 is 3.\\nThe answer is 3.", "3").verdict
    'equal'

The names below are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verify.answers import Answer, extract_answer
    from verify.checker_pool import CheckerPool, Comparison
    from verify.equivalence import (
        equivalent,
        equivalent_async,
        equivalent_many,
        grade,
        grade_many,
    )

__all__ = [
    "Answer",
    "CheckerPool",
    "Comparison",
    "equivalent",
    "equivalent_async",
    "equivalent_many",
    "extract_answer",
    "grade",
    "grade_many",
]

_HOMES = {"Answer": "answers", "extract_answer": "answers"}
_HOMES |= {"CheckerPool": "checker_pool", "Comparison": "checker_pool"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'verify' has no attribute {name!r}")
    return getattr(import_module(f"verify.{_HOMES.get(name, 'equivalence')}"), name)
