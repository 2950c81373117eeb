"""Slices: a metric by policy, by part of the benchmark, by length, by position in the solution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from universalbench.measures import (
    FIRST_METRICS,
    STEP_METRICS,
    WITHIN,
    Scores,
    first_table,
    step_table,
)
from universalbench.resampling import by_cluster, clusters, sums_estimate
from universalbench.results import SMALL, Estimate, Item, Slice

THIRDS = ("first third", "middle third", "last third")


def slice_all(
    kind: str,
    every: Sequence[Item],
    items: Sequence[Item],
    scores: Scores,
    threshold: float,
    seed: int,
) -> list[Slice]:
    """All slices of what a row is measured on.

    By `generator` and by `subset` where there are two at least; by `steps` and `characters`, in
    tertiles; by `position`. Where every step's truth is known, a position slice holds the steps
    whose middle lies in that third of their solution; else it holds the erroneous solutions whose
    first error does, and its metric is `error_accuracy`.

    Args:
        kind: of the task.
        every: the task's items; tertiles are theirs, so that all rows have the same.
        items: what is measured; at least one.
        scores: of the items.
        threshold: the cut.
        seed: of the intervals.
    """
    name = WITHIN[kind]
    steps = name in STEP_METRICS
    table = (step_table if steps else first_table)(items, scores, threshold)
    statistic = (STEP_METRICS if steps else FIRST_METRICS)[name]

    def estimate(chosen: Sequence[int]) -> Estimate:
        places = clusters([items[index].problem_key for index in chosen])
        return sums_estimate(by_cluster(table[list(chosen)], places), statistic, seed)

    found: list[Slice] = []
    for by, key in (("generator", _generator), ("subset", _subset)):
        values = dict.fromkeys(key(item) for item in every)
        for value in values if len(values) > 1 else ():
            chosen = [index for index, item in enumerate(items) if key(item) == value]
            found += _slice(items, chosen, by, value or "(none)", name, estimate)
    for by, size, unit in (("steps", _steps, "steps"), ("characters", _characters, "characters")):
        for low, high in tertiles([size(item) for item in every]):
            chosen = [index for index, item in enumerate(items) if low <= size(item) <= high]
            text = f"{low} {unit}" if low == high else f"{low} to {high} {unit}"
            found += _slice(items, chosen, by, text, name, estimate, (low, high))
    found += _positions(items, scores, threshold, name, seed)
    return found


def _slice(
    items: Sequence[Item],
    chosen: Sequence[int],
    by: str,
    text: str,
    metric: str,
    estimate: Callable[[Sequence[int]], Estimate],
    bounds: tuple[int, int] | None = None,
) -> Iterator[Slice]:
    if chosen:
        inside = [items[index] for index in chosen]
        yield Slice(
            by=by,  # type: ignore[arg-type]
            name=text,
            low=bounds[0] if bounds else None,
            high=bounds[1] if bounds else None,
            solutions=len(inside),
            problems=len({item.problem_key for item in inside}),
            steps=sum(len(item.steps) for item in inside),
            metric=metric,
            estimate=estimate(chosen),
            small=len(inside) < SMALL,
        )


def _positions(
    items: Sequence[Item], scores: Scores, threshold: float, name: str, seed: int
) -> Iterator[Slice]:
    if name in STEP_METRICS:
        metric, statistic = name, STEP_METRICS[name]
    else:
        metric, statistic = "error_accuracy", FIRST_METRICS["error_accuracy"]
    for number, text in enumerate(THIRDS):
        kept = [
            [third(i, len(item.steps)) == number for i in range(len(item.steps))] for item in items
        ]
        if name in STEP_METRICS:
            table = step_table(items, scores, threshold, kept)
            chosen = [index for index, row in enumerate(kept) if any(row)]
        else:
            table = first_table(items, scores, threshold)
            chosen = [
                index
                for index, item in enumerate(items)
                if item.first_error not in (None, -1) and kept[index][item.first_error or 0]
            ]
        if not chosen:
            continue
        inside = [items[index] for index in chosen]
        places = clusters([item.problem_key for item in inside])
        yield Slice(
            by="position",
            name=text,
            solutions=len(inside),
            problems=int(places.max()) + 1,
            steps=sum(sum(kept[index]) for index in chosen),
            metric=metric,
            estimate=sums_estimate(by_cluster(table[chosen], places), statistic, seed),
            small=len(inside) < SMALL,
        )


def tertiles(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Bounds of the thirds of some sizes, both inclusive, without those that ties leave empty.

    The first third ends at the smallest size that a third of them do not exceed, the second
    likewise at two thirds.
    """
    ordered = sorted(sizes)
    if not ordered:
        return []
    ends = [ordered[-(-len(ordered) * part // 3) - 1] for part in (1, 2, 3)]
    starts = [ordered[0], ends[0] + 1, ends[1] + 1]
    return [(low, high) for low, high in zip(starts, ends, strict=True) if low <= high]


def third(index: int, steps: int) -> int:
    """In which third of a solution the middle of a step lies; the only step is in the middle."""
    return (2 * index + 1) * 3 // (2 * steps)


def _generator(item: Item) -> str:
    return item.generator


def _subset(item: Item) -> str:
    return item.subset


def _steps(item: Item) -> int:
    return len(item.steps)


def _characters(item: Item) -> int:
    return sum(map(len, item.steps))
