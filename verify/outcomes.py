"""The outcome of whole solutions: does the final answer equal the reference answer?"""

from __future__ import annotations

from collections.abc import Sequence

from prm.records import Solution
from verify.answers import extract_answer
from verify.checker_pool import Comparison
from verify.equivalence import grade_many


def outcomes(solutions: Sequence[Solution]) -> list[Comparison | None]:
    """Compare the final answer of each solution with the true one, all at once.

    Returns:
        One comparison per solution, as `grade_many` makes them; None where the true answer is
        not known.
    """
    known = [item.answer is not None for item in solutions]
    pairs = [
        (extract_answer(item.steps), item.answer) for item in solutions if item.answer is not None
    ]
    compared = iter(grade_many(pairs))
    return [next(compared) if there else None for there in known]
