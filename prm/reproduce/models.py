"""Reward models beside one another: how the figures that train measure what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prm.reproduce.figure import Claim, Row
from prm.reproduce.lab import Lab
from prm.reproduce.measured import Ranked, Steps, Sums, f1, read_scores, read_steps, step_sums
from prm.zoo.aurora import read_declaration

Build = Callable[[int], str]
"""From a seed to the cell of its model."""


@dataclass(frozen=True)
class Measured:
    """A model of every seed on the test solutions.

    Attributes:
        f1: at the cut that each model declares: the best one for the labels of those of its own
            training problems that were held out. No true label has a say in it.
        auroc: which needs no cut.
    """

    f1: Sums
    auroc: Ranked

    def rows(self, name: str, **more: object) -> list[Row]:
        """A row of each metric."""
        return [self.f1.row(name, **more), self.auroc.row(name, **(more | {"headline": False}))]

    def claims(self, text: str, other: Measured, paper: str = "") -> list[Claim]:
        """That it is better than another, in each metric."""
        return [self.f1.claim(text, other.f1, paper), self.auroc.claim(text, other.auroc, paper)]


def declare(lab: Lab, models: Mapping[str, Build], reference: str = "worked") -> None:
    """Declare the cells of models and of their scores on the test solutions."""
    for build in models.values():
        for seed in lab.seeds:
            lab.scores(seed, build(seed), reference=reference)


def measure(
    lab: Lab,
    build: Build,
    reference: str = "worked",
    kept: Callable[[Steps], Steps] | None = None,
) -> Measured:
    """Measure what a model of every seed says of the test solutions.

    Args:
        lab: whose cells have run.
        build: which model.
        reference: what it was told: `worked` or `none`.
        kept: which of the solutions count; all by default.
    """
    tables, parts = {}, {}
    for seed in lab.seeds:
        steps = read_steps(lab.path(lab.true(seed, "test")))
        steps = steps if kept is None else kept(steps)
        model = build(seed)
        scores = read_scores(lab.path(lab.scores(seed, model, reference=reference)), steps)
        declared = read_declaration(lab.path(model))
        cut = declared.threshold
        if reference == "none" and declared.threshold_without_reference is not None:
            cut = declared.threshold_without_reference
        assert cut is not None, f"{model} declares no threshold"
        tables[seed] = step_sums(steps, scores, cut.value)
        parts[seed] = (steps, scores)
    return Measured(f1(tables), Ranked(parts))


def counted(lab: Lab) -> tuple[int, int]:
    """How many test solutions and problems there are, all seeds together."""
    steps = [read_steps(lab.path(lab.true(seed, "test"))) for seed in lab.seeds]
    return sum(len(own.items) for own in steps), sum(len(set(own.problems)) for own in steps)
