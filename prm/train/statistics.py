"""What training data holds, as the loss sees it: classes, lengths, weights, generators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prm.records import LabelledSolution
from prm.train.losses import IGNORE, LossConfig
from prm.train.targets import targets

_SKEWED = 0.9
"""Share of one class from which on a warning is due."""

_ROWS = 8
"""Generators in the table; the others are added up."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How values are spread: the least, the middle, the 95th percentile, the greatest.

    The percentiles are nearest ranks: values that occur.
    """

    minimum: float
    median: float
    p95: float
    maximum: float


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Labelled steps by class, and the solutions that they belong to.

    A step is right from a label of 0.5 on, as in the trainer's metrics.

    Attributes:
        solutions: how many.
        with_error: those with a wrong step.
        right, wrong: labelled steps.
        soft: those of both whose label is neither 0 nor 1.
    """

    solutions: int = 0
    with_error: int = 0
    right: int = 0
    wrong: int = 0
    soft: int = 0

    @property
    def steps(self) -> int:
        """All labelled steps."""
        return self.right + self.wrong

    def __add__(self, other: Classes) -> Classes:
        return Classes(
            solutions=self.solutions + other.solutions,
            with_error=self.with_error + other.with_error,
            right=self.right + other.right,
            wrong=self.wrong + other.wrong,
            soft=self.soft + other.soft,
        )


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What `summary` finds.

    Attributes:
        generators: the classes by the policy that wrote the solutions, most solutions first.
        left_out: steps that the loss leaves out; no class counts them.
        answers, references: solutions with a final answer, with a worked reference.
        tokens: of a solution, the longer form.
        steps: of a solution, those left out too.
        weights: of a labelled step.
    """

    generators: Mapping[str, Classes]
    left_out: int
    answers: int
    references: int
    tokens: Spread
    steps: Spread
    weights: Spread

    @property
    def all(self) -> Classes:
        """The classes of all generators together."""
        return sum(self.generators.values(), Classes())


def summary(
    items: Iterable[LabelledSolution], lengths: Iterable[int], loss: LossConfig
) -> Statistics:
    """Count in one pass over the solutions; they are not kept.

    Args:
        items: the solutions, at least one.
        lengths: tokens of each.
        loss: which steps carry which label and weight.

    Raises:
        ValueError: there are no solutions, or not one length for each.
    """
    generators: dict[str, Classes] = {}
    tokens: Counter[float] = Counter()
    steps: Counter[float] = Counter()
    weights: Counter[float] = Counter()
    left_out = answers = references = 0
    for item, length in zip(items, lengths, strict=True):
        labels, weighed = targets(item, loss)
        found = [label for label in labels if label != IGNORE]
        weights.update(
            weight for label, weight in zip(labels, weighed, strict=True) if label != IGNORE
        )
        name = item.solution.generator
        generators[name] = generators.get(name, Classes()) + _classes(found)
        tokens[length] += 1
        steps[len(labels)] += 1
        left_out += len(labels) - len(found)
        answers += item.solution.answer is not None
        references += item.solution.reference is not None
    if not generators:
        raise ValueError("no solutions to describe")
    return Statistics(
        generators=dict(sorted(generators.items(), key=lambda pair: (-pair[1].solutions, pair[0]))),
        left_out=left_out,
        answers=answers,
        references=references,
        tokens=_spread(tokens),
        steps=_spread(steps),
        weights=_spread(weights),
    )


def _classes(labels: list[float]) -> Classes:
    """The classes of one solution."""
    wrong = sum(label < 0.5 for label in labels)
    return Classes(
        solutions=1,
        with_error=int(wrong > 0),
        right=len(labels) - wrong,
        wrong=wrong,
        soft=sum(0.0 < label < 1.0 for label in labels),
    )


def _spread(values: Counter[float]) -> Spread:
    order = sorted(values)

    def percentile(percent: int) -> float:
        rank = -(-values.total() * percent // 100)  # rounded up, from 1
        for value in order:
            rank -= values[value]
            if rank <= 0:
                return value
        raise AssertionError("ranks end with the greatest value")

    return Spread(minimum=order[0], median=percentile(50), p95=percentile(95), maximum=order[-1])


def warnings(statistics: Statistics) -> list[str]:
    """What of the class balance makes a model learn little, in words."""
    everything = statistics.all
    for name, count in (("wrong", everything.wrong), ("right", everything.right)):
        other = "right" if name == "wrong" else "wrong"
        if count == 0:
            return [
                f"no step is {name}: a model can learn no more than to call every step {other}; "
                "add solutions of both kinds"
            ]
        if (share := 1 - count / everything.steps) > _SKEWED:
            return [
                f"{share:.1%} of the steps are {other}: the model may call every step {other}; "
                "look at AUROC and the F1 of wrong steps, not at the loss"
            ]
    return []


def text(statistics: Statistics) -> str:
    """A small table for people, without the warnings; no newline at its end."""
    everything = statistics.all
    shown = list(statistics.generators.items())
    if len(shown) > _ROWS:
        rest = sum((classes for _, classes in shown[_ROWS - 1 :]), Classes())
        shown = [*shown[: _ROWS - 1], (f"{len(shown) - _ROWS + 1} others", rest)]
    rows = [["generator", "solutions", "with error", "steps", "right", "wrong", "soft"]]
    rows += [_row(name or "(no name)", classes) for name, classes in shown]
    if len(shown) > 1:
        rows.append(_row("all", everything))
    spreads = [["of each", "min", "median", "p95", "max"]]
    spreads += [
        [name, *(f"{value:g}" for value in (of.minimum, of.median, of.p95, of.maximum))]
        for name, of in (
            ("solution: tokens", statistics.tokens),
            ("solution: steps", statistics.steps),
            ("step: weight", statistics.weights),
        )
    ]
    facts = (
        f"reference {_share(statistics.references, everything.solutions)}, "
        f"answer {_share(statistics.answers, everything.solutions)} of the solutions; "
        f"{statistics.left_out:,} steps left out by the loss"
    )
    return "\n".join([*_aligned(rows), "", *_aligned(spreads), "", facts])


def _row(name: str, classes: Classes) -> list[str]:
    return [
        name,
        f"{classes.solutions:,}",
        _share(classes.with_error, classes.solutions),
        f"{classes.steps:,}",
        _share(classes.right, classes.steps),
        _share(classes.wrong, classes.steps),
        _share(classes.soft, classes.steps),
    ]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _aligned(rows: list[list[str]]) -> list[str]:
    """Columns of equal width: the first to the left, figures to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
