"""The worst disagreements: where two predictors, or a predictor and the truth, differ most.

Scores of different predictors lie on different scales, so what is compared is how far a step's
score lies on its side of the threshold, among the predictor's own scores: its *margin*, from -1
(called wrong, no score is lower) to 1 (called right, none is higher).

| task             | two predictors differ by              | a predictor and the truth differ by   |
|------------------|---------------------------------------|---------------------------------------|
| with step labels | their margins at a step that only one | the margin at a step that is called   |
|                  | of them calls wrong                   | what it is not                        |
| candidates       | the ranks of their rewards            | the rank of a wrong answer's reward,  |
|                  |                                       | what a right answer's lacks to the top|
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from universalbench.report.runs import Entry, TaskReport
from universalbench.results import Item

AROUND = 12
"""Steps shown before and after the one in question."""

LENGTH = 1200
"""Characters shown of a step or a problem."""


@dataclass(frozen=True)
class Said:
    """What a predictor says of a step.

    Attributes:
        text: its score, or why there is none.
        wrong: whether it calls the step wrong; None where it does not say.
        shade: from 0, far on the side of wrong, to 4, far on that of right; None without a score.
    """

    text: str
    wrong: bool | None
    shade: int | None


@dataclass(frozen=True)
class StepView:
    """A step.

    Attributes:
        number: from 1.
        text: of the step.
        truth: in words, "" where it is not known.
        here: whether this is where they differ most.
        said: one per predictor shown.
    """

    number: int
    text: str
    truth: str
    here: bool
    said: list[Said]


@dataclass(frozen=True)
class Example:
    """A solution on which somebody errs.

    Attributes:
        solution_id, generator, subset, problem: of the solution.
        between: the names of those who differ; one name: that predictor and the truth.
        how: in words.
        labelled: whether anything is known of the truth of steps.
        answer: whether the final answer is right, in words; "" where that is not known.
        predictors: names of all that scored this solution.
        steps: with what they say; long solutions around the step in question.
        before, after: steps that are not shown.
    """

    solution_id: str
    generator: str
    subset: str
    problem: str
    between: tuple[str, ...]
    how: str
    labelled: bool
    answer: str
    predictors: list[str]
    steps: list[StepView]
    before: int
    after: int


@dataclass(frozen=True)
class _Found:
    """How much somebody differs on an item, where and how."""

    much: float
    place: int
    step: int
    between: tuple[str, ...]
    how: str


def worst(task: TaskReport, number: int) -> tuple[list[Example], list[Example]]:
    """Where two predictors differ most, and where a predictor and the truth do.

    Baselines are left out where there is any other predictor, and of predictors that differ in
    their thresholds alone all but the first. Pairs, and predictors, take turns; no problem is
    shown twice.

    Args:
        task: with its predictors.
        number: of examples of each sort, at most.
    """
    views = [_View(entry, task) for entry in task.entries]
    each = {(view.entry.run.folder, view.entry.record.id): view for view in reversed(views)}
    different = list(reversed(each.values()))
    real = [view for view in different if view.entry.record.kind != "baseline"] or different
    pairs = [list(_apart(one, other, task.items)) for one, other in combinations(real, 2)]
    alone = [list(_errs(view, task.items)) for view in real]
    taken: set[str] = set()
    return (
        [_show(item, task.items, views) for item in _turns(pairs, task.items, number, taken)],
        [_show(item, task.items, views) for item in _turns(alone, task.items, number, taken)],
    )


def _turns(
    lists: Sequence[list[_Found]], items: Sequence[Item], number: int, taken: set[str]
) -> list[_Found]:
    """The worst of each list, then the next worst of each, each problem once."""
    waiting = [sorted(found, key=lambda item: (-item.much, item.place)) for found in lists]
    chosen: list[_Found] = []
    while any(waiting) and len(chosen) < number:
        for found in waiting:
            while found and items[found[0].place].problem_key in taken:
                del found[0]
            if found and len(chosen) < number:
                taken.add(items[found[0].place].problem_key)
                chosen.append(found.pop(0))
    return chosen


class _View:
    """A predictor's scores, those it decides by (see `Measured.decided`) and margins, item by item
    of the task; None where it has none."""

    def __init__(self, entry: Entry, task: TaskReport) -> None:
        self.entry = entry
        self.cut = None if task.record.kind == "candidates" else entry.part.cut.value
        pairs = zip(entry.part.items, entry.part.rows, strict=True)
        said = {item.solution_id: row for item, row in pairs}
        rows = [said.get(item.solution_id) for item in task.items]
        self.there = [row is not None for row in rows]
        self.reasons = [row.reason if row else None for row in rows]
        self.scores = [row.scores if row else None for row in rows]
        decided = dict(
            zip([item.solution_id for item in entry.part.items], entry.part.decided, strict=True)
        )
        self.decided = [decided.get(item.solution_id) for item in task.items]
        known = [row for row in self.decided if row is not None]
        every = (
            np.sort(np.concatenate([np.asarray(row) for row in known])) if known else np.zeros(0)
        )
        self.margins = [
            None if row is None else _margins(np.asarray(row), every, self.cut)
            for row in self.decided
        ]
        rewards = [None if row is None else min(row) for row in self.scores]
        there = np.sort(np.array([value for value in rewards if value is not None]))
        self.ranks = [None if value is None else _rank(value, there) for value in rewards]


def _rank(value: np.ndarray | float, of: np.ndarray) -> np.ndarray | float:
    """The share of sorted values that lie below, ties counting half."""
    return (np.searchsorted(of, value, "left") + np.searchsorted(of, value, "right")) / 2 / len(of)


def _margins(row: np.ndarray, every: np.ndarray, cut: float | None) -> np.ndarray:
    """See the module; without a threshold the rank, stretched to the same range."""
    ranks = np.asarray(_rank(row, every))
    if cut is None:
        return 2 * ranks - 1
    below = np.searchsorted(every, cut, "left") / len(every)
    return np.where(
        row < cut,
        (ranks - below) / max(below, 1 / len(every)),
        (ranks - below) / max(1 - below, 1 / len(every)),
    )


def _apart(one: _View, other: _View, items: Sequence[Item]) -> Iterator[_Found]:
    names = one.entry.name, other.entry.name
    for place in range(len(items)):
        first, second = one.margins[place], other.margins[place]
        if first is None or second is None:
            continue
        if one.cut is None or other.cut is None:
            ranks = [_float(view.ranks[place]) for view in (one, other)]
            if ranks[0] == ranks[1]:
                continue
            step = int(np.argmax(np.abs(first - second)))
            how = " and ".join(
                f"{name} ranks this candidate above {100 * rank:.0f} %"
                for name, rank in zip(names, ranks, strict=True)
            )
            how += " of all"
            yield _Found(abs(ranks[0] - ranks[1]), place, step, names, how)
            continue
        # A margin of 0 is on the side of right: the score is not below the threshold.
        split = (first < 0) != (second < 0)
        if split.any():
            gaps = np.where(split, np.abs(first - second), -1.0)
            step = int(np.argmax(gaps))
            accuser, other_name = names if first[step] < 0 else names[::-1]
            how = f"{accuser} calls step {step + 1} wrong, {other_name} calls it right"
            yield _Found(float(gaps[step]), place, step, names, how)


def _errs(view: _View, items: Sequence[Item]) -> Iterator[_Found]:
    name = view.entry.name
    for place, item in enumerate(items):
        margins = view.margins[place]
        if margins is None:
            continue
        if view.cut is None:
            if item.final_answer_correct is None:
                continue
            rank, right = _float(view.ranks[place]), item.final_answer_correct
            if (1 - rank if right else rank) <= 0.5:
                continue
            step = int(np.argmin(margins))
            how = (
                f"{name} ranks this candidate above {100 * rank:.0f} % of all, and its answer is "
                + ("right" if right else "wrong")
            )
            yield _Found(1 - rank if right else rank, place, step, (name,), how)
            continue
        truth = truths(item)
        off = [
            abs(margin) if known is not None and known == (margin >= 0) else -1.0
            for margin, known in zip(margins, truth, strict=True)
        ]
        step = int(np.argmax(off))
        if off[step] >= 0:
            said, known = ("right", "wrong") if margins[step] >= 0 else ("wrong", "right")
            how = f"{name} calls step {step + 1} {said}, and it is {known}"
            yield _Found(float(off[step]), place, step, (name,), how)


def truths(item: Item) -> list[bool | None]:
    """For each step whether it is wrong, None where that is not known."""
    if item.wrong is not None:
        return list(item.wrong)
    if item.first_error is None:
        return [None] * len(item.steps)
    if item.first_error == -1:
        return [False] * len(item.steps)
    after = len(item.steps) - item.first_error - 1
    return [*[False] * item.first_error, True, *[None] * after]


def _show(found: _Found, items: Sequence[Item], views: Sequence[_View]) -> Example:
    item = items[found.place]
    shown = [view for view in views if view.there[found.place]]
    low, high = max(0, found.step - AROUND), min(len(item.steps), found.step + AROUND + 1)
    known = truths(item)
    words = {True: "wrong", False: "right", None: ""}
    return Example(
        solution_id=item.solution_id,
        generator=item.generator,
        subset=item.subset,
        problem=_short(item.problem),
        between=found.between,
        how=found.how,
        labelled=item.first_error is not None,
        answer=words[None if (right := item.final_answer_correct) is None else not right],
        predictors=[view.entry.name for view in shown],
        steps=[
            StepView(
                number=index + 1,
                text=_short(item.steps[index]),
                truth=words[known[index]],
                here=index == found.step,
                said=[_said(view, found.place, index) for view in shown],
            )
            for index in range(low, high)
        ],
        before=low,
        after=len(item.steps) - high,
    )


def _said(view: _View, place: int, step: int) -> Said:
    scores, margins, decided = view.scores[place], view.margins[place], view.decided[place]
    if scores is None or margins is None or decided is None:
        return Said(view.reasons[place] or "", None, None)
    margin = float(margins[step])
    shade = 0 if margin < -0.5 else 1 if margin < 0 else 3 if margin < 0.5 else 4
    wrong = None if view.cut is None else decided[step] < view.cut
    return Said(f"{scores[step]:.4g}", wrong, shade)


def _short(text: str) -> str:
    """A long text without its middle, and with a word on what is missing."""
    if len(text) <= LENGTH:
        return text
    half = LENGTH // 2
    return f"{text[:half]} […{len(text) - LENGTH:,} characters…] {text[-half:]}"


def _float(value: object) -> float:
    return float(value)  # type: ignore[arg-type]
