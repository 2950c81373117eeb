"""PRMBench (arXiv 2501.03124): solutions into which an error of a known class was written.

Every row gives its modified solution. Rows of class `redundency` (the data's spelling) give their
original one too, as class `correct`; each occurs once, whatever the file repeats. Ids are those of
the authors' evaluation, `CLASS_IDX`.

The metrics are those of the authors (`mr_eval`, task `prmtest_classified`). Unlike elsewhere here,
the positive class is *right*, an undefined value is -1, and undefined parts enter F1 as -1. A
solution without scores is left out of all but `validity_rate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from prm.errors import ConfigError
from prm.sources import Source, prmbench
from universalbench.tasks.steps import fully_labelled
from universalbench.tasks.task import Task

CORRECT = "correct"
"""The class of the original solutions; totals leave it out."""

CATEGORIES = {
    "simplicity": ("redundency", "circular"),
    "soundness": ("counterfactual", "step_contradiction", "domain_inconsistency", "confidence"),
    "sensitivity": ("missing_condition", "deception", "multi_solutions"),
}
"""What the classes are grouped into."""

UNDEFINED = -1.0
"""What stands where a metric is 0/0."""

FLAWLESS = ("multi_solutions",)
"""Classes without a wrong step: their PRMScore is F1 alone."""


def load(name: str, source: Source) -> Task:
    """The solutions by class, and for each step whether it is wrong."""
    if source.format != "prmbench":
        raise ConfigError(f"{source}: kind prmbench needs source.format prmbench")
    items = list(prmbench(source))
    classes = [item.solution.metadata["classification"] for item in items]
    return fully_labelled(name, "prmbench", items, classes, source)


@dataclass
class Tally:
    """What the steps of some solutions add up to; positive is right.

    Attributes:
        true_positive: right steps called right.
        false_positive: wrong steps called right.
        true_negative: wrong steps called wrong.
        false_negative: right steps called wrong.
        first_errors: whether each first wrong step was called wrong.
        differences: of each solution, how far the share of its steps called right lies from that
            of its original.
    """

    true_positive: int = 0
    false_positive: int = 0
    true_negative: int = 0
    false_negative: int = 0
    first_errors: list[bool] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)

    def add(self, wrong: Sequence[bool], called: Sequence[bool], first: int | None) -> None:
        """Count a solution; `first` is the index of its first wrong step."""
        for truth, said in zip(wrong, called, strict=True):
            self.true_positive += not truth and not said
            self.false_positive += truth and not said
            self.true_negative += truth and said
            self.false_negative += not truth and said
        if first is not None:
            self.first_errors.append(called[first])

    def metrics(self) -> dict[str, float]:
        """The authors' metrics, by their names."""
        tp, fp = self.true_positive, self.false_positive
        tn, fn = self.true_negative, self.false_negative
        precision, recall = _share(tp, tp + fp), _share(tp, tp + fn)
        negative_precision, negative_recall = _share(tn, tn + fn), _share(tn, tn + fp)
        return {
            "precision": precision,
            "recall": recall,
            "f1": _harmonic(precision, recall),
            "negative_precision": negative_precision,
            "negative_recall": negative_recall,
            "negative_f1": _harmonic(negative_precision, negative_recall),
            "correct_step_acc": recall,
            "wrong_step_acc": negative_recall,
            "total_step_acc": _share(tp + tn, tp + fp + tn + fn),
            "first_error_acc": fmean(self.first_errors) if self.first_errors else -1.0,
            "similarity": fmean(self.differences) if self.differences else -1.0,
        }


def _right(called_wrong: Sequence[bool]) -> float:
    """The share of steps called right."""
    return sum(not said for said in called_wrong) / len(called_wrong)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else UNDEFINED


def _harmonic(precision: float, recall: float) -> float:
    """Their F1: an undefined part enters as -1, and where the sum is 0 the whole is -1."""
    total = precision + recall
    return 2 * precision * recall / total if total else -1.0


def measure(task: Task, called_wrong: Sequence[Sequence[bool] | None]) -> dict[str, Any]:
    """The authors' evaluation.

    Args:
        task: of kind `prmbench`.
        called_wrong: for each solution one boolean per step, or None where it was not scored.

    Returns:
        `classes` (class, `correct` included → metrics, and PRMScore but for `correct`), `total`
        (metrics over all steps of all classes but `correct`, and PRMScore), `categories` (category
        → the plain mean of its classes' PRMScores; only those with all their classes),
        `validity_rate` (scored solutions, of those of all classes but `correct`).

        PRMScore is the mean of `f1` and `negative_f1`, and `f1` alone for classes of `FLAWLESS`.
    """
    assert task.wrong is not None
    shares = {
        solution.metadata["idx"]: _right(said)
        for solution, name, said in zip(task.solutions, task.subsets, called_wrong, strict=True)
        if name == CORRECT and said is not None
    }
    classes: dict[str, Tally] = {}
    total, scored, modified = Tally(), 0, 0
    rows = zip(task.solutions, task.subsets, task.wrong, called_wrong, strict=True)
    for solution, name, wrong, said in rows:
        own = classes.setdefault(name, Tally())
        modified += name != CORRECT
        if said is None:
            continue
        tallies = [own] if name == CORRECT else [own, total]
        first = _first(wrong, solution.metadata.get("absent_error_steps", ()))
        for tally in tallies:
            tally.add(wrong, said, first)
        if name == CORRECT:
            continue
        scored += 1
        original = shares.get(solution.metadata["idx"])
        if original:  # theirs: an original of which no step was called right does not count
            for tally in tallies:
                tally.differences.append(abs(_right(said) - original))
    by_class = {name: _scored(tally, name) for name, tally in classes.items()}
    return {
        "classes": by_class,
        "total": _scored(total, "total"),
        "categories": {
            category: fmean(by_class[name]["prm_score"] for name in members)
            for category, members in CATEGORIES.items()
            if set(members) <= set(by_class)
        },
        "validity_rate": _share(scored, modified),
    }


def _scored(tally: Tally, name: str) -> dict[str, float]:
    found = tally.metrics()
    if name == CORRECT:
        return found
    both = (found["f1"] + found["negative_f1"]) / 2
    return found | {"prm_score": found["f1"] if name in FLAWLESS else both}


def _first(wrong: Sequence[bool], absent: Iterable[int]) -> int | None:
    """The first step that the row calls wrong, None where the solution does not have it.

    Rows name steps that are not there; where such a one (numbered from 1) comes before all others,
    the authors do not look at the first error at all.
    """
    numbers = [index + 1 for index, value in enumerate(wrong) if value]
    first = min([*numbers, *absent], default=None)
    return first - 1 if first is not None and first in numbers else None
