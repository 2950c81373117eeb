"""A loaded benchmark: solutions, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from prm.records import Solution

Kind = Literal["processbench", "steps", "prmbench", "universalbench", "candidates"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A loaded benchmark; lists have one entry per solution, in order.

    Attributes:
        name, kind: as configured.
        solutions: what predictors see.
        first_errors: the index of the first wrong step, -1 for none; empty where errors are not
            known at all (`candidates`).
        subsets: the part of the benchmark that a solution belongs to; "" where it has none.
        wrong: for each step whether it is wrong; None where that is not known of every step.
        correct: for `candidates`, whether the final answer is right, None where the true one is
            not known; None for other kinds.
        answer_groups: for `candidates`, solution id → the cluster of its final answer among those
            of the same problem, None where it gives none.
    """

    name: str
    kind: Kind
    solutions: list[Solution]
    first_errors: list[int]
    subsets: list[str]
    wrong: list[list[bool]] | None = None
    correct: list[bool | None] | None = None
    answer_groups: Mapping[str, int | None] | None = None


def restrict(task: Task, kept: Sequence[int]) -> Task:
    """A task with some of its solutions, by index."""
    return replace(
        task,
        solutions=[task.solutions[index] for index in kept],
        first_errors=[task.first_errors[index] for index in kept] if task.first_errors else [],
        subsets=[task.subsets[index] for index in kept],
        wrong=None if task.wrong is None else [task.wrong[index] for index in kept],
        correct=None if task.correct is None else [task.correct[index] for index in kept],
    )
