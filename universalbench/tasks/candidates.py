"""Several candidates of each problem: does a predictor choose one whose final answer is right?

Candidates are solutions with the same problem text and a known true answer. Final answers are
verified here; what the source says in `final_answer_correct` is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prm.aggregation import Aggregation, aggregate
from prm.errors import RecordError
from prm.selection import Candidates
from prm.selection import measure as measure_selection
from prm.sources import Source, solutions
from universalbench.tasks.task import Task
from verify.candidates import answered, by_problem


def load(name: str, source: Source) -> Task:
    """The candidates, whose answers `judge` verifies."""
    items = list(solutions(source))
    subsets = [""] * len(items)
    return Task(name=name, kind="candidates", solutions=items, first_errors=[], subsets=subsets)


def judge(task: Task) -> Task:
    """The task with the final answers verified.

    Raises:
        RecordError: no problem's true answer is known.
    """
    found = answered(task.solutions)
    if all(item.correct is None for item in found):
        raise RecordError(
            f"task {task.name!r}: no candidate has an `answer` to compare with; join the true "
            "answers through source.references"
        )
    return replace(
        task,
        correct=[item.correct for item in found],
        answer_groups={
            solution.id: item.group for solution, item in zip(task.solutions, found, strict=True)
        },
    )


def measure(
    task: Task,
    scores: Sequence[Sequence[float] | None],
    aggregations: Sequence[Aggregation],
    numbers: Sequence[int],
) -> dict[str, Any]:
    """How well step scores choose among the candidates.

    Args:
        task: of kind `candidates`.
        scores: for each solution one score per step, or None where it could not be scored.
        aggregations: how step scores become a reward.
        numbers: out of how many candidates is chosen.

    Returns:
        What `prm.selection.measure` returns, and `unscored`: how many candidates have no scores.
    """
    if task.correct is None or task.answer_groups is None:
        raise ValueError(f"task {task.name!r} is not one of judged candidates")
    problems = []
    for members in by_problem(task.solutions):
        correct = [task.correct[index] for index in members]
        known = [right for right in correct if right is not None]
        rewards = {
            method: [_reward(scores[index], method) for index in members] for method in aggregations
        }
        problems.append(
            Candidates(
                problem=task.solutions[members[0]].problem,
                rewards=rewards,
                groups=[task.answer_groups[task.solutions[index].id] for index in members],
                correct=known if len(known) == len(correct) else None,
            )
        )
    unscored = sum(row is None for row in scores)
    return {**measure_selection(problems, numbers), "unscored": unscored}


def _reward(scores: Sequence[float] | None, method: Aggregation) -> float | None:
    return None if scores is None else aggregate(scores, method)
