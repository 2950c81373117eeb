"""Paired comparisons: every two predictors of a task on the same solutions.

The same functions compare predictors of one run and, in reports, of several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from prm.zoo.family import ReferenceKind
from universalbench.measures import Measure
from universalbench.resampling import (
    by_cluster,
    clusters,
    difference_estimate,
    holm,
    permutation_p,
)
from universalbench.results import Comparison, Item


@dataclass(frozen=True)
class Side:
    """A predictor on a task.

    Attributes:
        name: in the table.
        sees_reference: what it was told here.
        threshold: its cut; of no account where the metric takes none.
        scores: solution id → its scores, None where it has none; of the solutions that it is
            measured on and no others.
    """

    name: str
    sees_reference: ReferenceKind
    threshold: float
    scores: Mapping[str, Sequence[float] | None]


def compare(
    task: str,
    items: Sequence[Item],
    sides: Sequence[Side],
    metric: Callable[[Sequence[Item]], Measure],
    seed: int,
) -> list[Comparison]:
    """Compare every two predictors of a task, in order, Holm-corrected over the pairs.

    Two predictors are compared on the items that both are measured on. The interval is of the
    difference on the same drawn problems, the p-value of exchanges within problems: see
    `universalbench.resampling`. Intervals stand each for itself and are not corrected.

    Args:
        task: its name.
        items: those of the task that enter the metric, in the file's order.
        sides: at least two make a pair.
        metric: from items to the headline metric on them, see `measures.headline`.
        seed: of draws and exchanges.
    """
    pairs = [_pair(task, items, one, other, metric, seed) for one, other in combinations(sides, 2)]
    corrected = holm([pair.p for pair in pairs])
    return [replace(pair, p_holm=p) for pair, p in zip(pairs, corrected, strict=True)]


def _pair(
    task: str,
    items: Sequence[Item],
    one: Side,
    other: Side,
    metric: Callable[[Sequence[Item]], Measure],
    seed: int,
) -> Comparison:
    both = [
        item
        for item in items
        if item.solution_id in one.scores and item.solution_id in other.scores
    ]
    measure = metric(both)
    places = clusters([item.problem_key for item in both])
    first, second = (
        by_cluster(
            measure.table(both, [side.scores[item.solution_id] for item in both], side.threshold),
            places,
        )
        for side in (one, other)
    )
    chance = permutation_p(first, second, measure.statistic, seed)
    return Comparison(
        task=task,
        one=one.name,
        other=other.name,
        metric=measure.name,
        solutions=len(both),
        problems=len(first),
        difference=difference_estimate(first, second, measure.statistic, seed),
        p=chance.value,
        p_holm=None,
        exact=chance.exact,
        across_reference=one.sees_reference != other.sees_reference,
    )
