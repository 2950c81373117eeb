"""Final answers of the candidates of problems: which of them agree, and which are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prm.best_of_n import clusters
from prm.progress import track
from prm.records import Solution
from verify.answers import extract_answer
from verify.equivalence import equivalent
from verify.outcomes import outcomes


@dataclass(frozen=True)
class Answered:
    """What is known of a candidate's final answer.

    Attributes:
        group: candidates of one problem whose answers are equal share it; None without an answer.
        correct: whether the answer equals the true one; None where that is not known. An answer
            that cannot be shown equal counts as wrong.
    """

    group: int | None
    correct: bool | None


def by_problem(solutions: Sequence[Solution]) -> list[list[int]]:
    """Which solutions are candidates of one problem: those with the same text, by index."""
    groups: dict[str, list[int]] = {}
    for index, item in enumerate(solutions):
        groups.setdefault(item.problem, []).append(index)
    return list(groups.values())


def answered(solutions: Sequence[Solution]) -> list[Answered]:
    """Judge the final answer of every candidate, in order; all comparisons at once."""
    found: list[Answered] = [Answered(None, None)] * len(solutions)
    compared = outcomes(solutions)
    for members in track(by_problem(solutions), "answers", "problem"):
        texts = [extract_answer(solutions[index].steps).text for index in members]
        groups = clusters(texts, lambda a, b: equivalent(a, b).verdict == "equal")
        for index, group in zip(members, groups, strict=True):
            verdict = compared[index]
            right = None if verdict is None else verdict.verdict == "equal"
            found[index] = Answered(group, right)
    return found
