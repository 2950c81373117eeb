"""The outcome of whole solutions: does the final answer equal the reference answer?"""

from __future__ import annotations

from collections.abc import Sequence

from prm.records import Solution
from verify.answers import extract_answer
from verify.checker_pool import Comparison
from verify.equivalence import equivalent_many


def outcomes(solutions: Sequence[Solution]) -> list[Comparison | None]:
    """Compare the final answer of each solution with the true one, all at once.

    Returns:
        One comparison per solution, unknown by the rule `no answer` where it gives none; None
        where the true answer is not known.
    """
    results: list[Comparison | None] = []
    pairs: dict[int, tuple[str, str]] = {}
    for index, solution in enumerate(solutions):
        if solution.answer is None:
            results.append(None)
            continue
        found = extract_answer(solution.steps)
        results.append(Comparison("unknown", "no answer", found.reason or "no answer found"))
        if found.text is not None:
            pairs[index] = (found.text, solution.answer)
    compared = equivalent_many(pairs.values())
    for index, comparison in zip(pairs, compared, strict=True):
        results[index] = comparison
    return results
