"""Items and scores of small benchmarks, and metrics of steps counted literally."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from prm.records import Solution, steps_digest
from universalbench.results import Item

VALUES = [-0.25, 0.0, 0.25, 0.5, 0.75, 1.0]
"""Few different scores, so that ties are the rule."""


def item(
    index: int,
    wrong: Sequence[bool] | None,
    *,
    first: int | None = None,
    problem: str | None = None,
    generator: str = "",
    subset: str = "",
    steps: Sequence[str] = (),
) -> Item:
    """An item whose truth is given for every step, or, with `first`, of the first error alone."""
    if wrong is not None:
        first = list(wrong).index(True) if True in wrong else -1
    texts = tuple(steps) or tuple(f"step {number}" for number in range(len(wrong or ()) or 3))
    solution = Solution(id=f"s{index}", problem=problem or f"problem {index}", steps=texts)
    return Item(
        task="t",
        solution_id=solution.id,
        problem=solution.problem,
        steps=solution.steps,
        digest=steps_digest(solution),
        generator=generator,
        subset=subset,
        has_reference=False,
        has_answer=False,
        first_error=first,
        wrong=None if wrong is None else tuple(wrong),
        final_answer_correct=None,
    )


def literal_f1(items: Sequence[Item], scores, cut: float, positive: bool = True) -> float | None:
    """Per-step F1 counted step by step; None where it is 0/0. Positive is wrong unless False.

    What has no scores is called what it is not."""
    hit = said = there = 0
    for entry, row in zip(items, scores, strict=True):
        for index, wrong in enumerate(entry.wrong or ()):
            called = row[index] < cut if row is not None else not wrong
            hit += called == positive and wrong == positive
            said += called == positive
            there += wrong == positive
    return 2 * hit / (said + there) if said + there else None


def literal_first_f1(items: Sequence[Item], scores, cut: float) -> float | None:
    """ProcessBench's F1 counted sample by sample; None where a kind of sample is absent."""
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for entry, row in zip(items, scores, strict=True):
        below = [index for index, value in enumerate(row or ()) if value < cut]
        said = None if row is None else below[0] if below else -1
        hits[entry.first_error != -1].append(said == entry.first_error)
    if not hits[True] or not hits[False]:
        return None
    error, correct = (sum(found) / len(found) for found in hits.values())
    return 2 * error * correct / (error + correct) if error + correct else 0.0


@st.composite
def benchmarks(draw: st.DrawFn, most: int = 8, unscored: bool = True):
    """Up to `most` items of a few problems in two subsets, with scores."""
    items, scores = [], []
    for index in range(draw(st.integers(1, most))):
        wrong = draw(st.lists(st.booleans(), min_size=1, max_size=4))
        row = draw(st.lists(st.sampled_from(VALUES), min_size=len(wrong), max_size=len(wrong)))
        items.append(
            item(
                index,
                wrong,
                problem=f"problem {draw(st.integers(0, 3))}",
                subset=draw(st.sampled_from(["a", "b"])),
                generator=draw(st.sampled_from(["x", "y"])),
            )
        )
        scores.append(None if unscored and draw(st.integers(0, 5)) == 0 else row)
    return items, scores
