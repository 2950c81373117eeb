"""Numbers with intervals out of what cells left, paired by problem, over all seeds.

A table holds what each problem of each seed adds to a metric's sums; problems of different seeds
are different ones. Intervals are of `universalbench.resampling`: by problem.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from prm import jsonl, metrics
from prm.records import LabelledSolution, StepScores
from prm.reproduce.figure import Claim, Row, verdict
from universalbench import measures, resampling
from universalbench.resampling import Statistic
from universalbench.results import Estimate

DRAWS_SEED = 0
F1 = "F1 (mean of right and wrong steps)"
AUROC = "AUROC of wrong steps"


@dataclass(frozen=True)
class Steps:
    """Solutions of one seed with the truth about their steps.

    Attributes:
        items: the solutions.
    """

    items: Sequence[LabelledSolution]

    @property
    def problems(self) -> list[str]:
        """The key of each solution's problem."""
        return [item.solution.problem for item in self.items]

    @property
    def wrong(self) -> list[list[bool]]:
        """Of each solution, whether each step is wrong."""
        return [[label < 0.5 for label in item.labels] for item in self.items]


def read_steps(path: Path) -> Steps:
    """From a file of true labels."""
    return Steps(list(jsonl.read(path, LabelledSolution)))


def read_scores(path: Path, steps: Steps) -> list[tuple[float, ...] | None]:
    """One row per solution, None where a model gave none, in their order."""
    found = {row.id: row.scores for row in jsonl.read(path, StepScores)}
    return [found.get(item.id) for item in steps.items]


def step_sums(
    steps: Steps,
    scores: Sequence[Sequence[float] | None],
    cut: float,
    weights: Sequence[float] | None = None,
) -> np.ndarray:
    """Right and wrong decisions of each problem `[problems, 4]`, see `measures.step_table`.

    With `weights`, one per solution, its steps count so much.
    """
    table = measures.decisions(steps.wrong, scores, cut)
    if weights is not None:
        table *= np.asarray(weights)[:, None]
    return resampling.by_cluster(table, resampling.clusters(steps.problems))


@dataclass(frozen=True)
class Sums:
    """A predictor's tables, one per seed, and the metric that is a statistic of their sums.

    Attributes:
        tables: seed → `[problems, columns]`.
        statistic: see `universalbench.resampling`.
        metric: its name.
    """

    tables: Mapping[int, np.ndarray]
    statistic: Statistic
    metric: str

    @property
    def every(self) -> np.ndarray:
        """The problems of all seeds."""
        return np.concatenate(list(self.tables.values()))

    def row(self, name: str, **more: object) -> Row:
        """Its value; `more` are further attributes of the row."""
        value = resampling.sums_estimate(self.every, self.statistic, DRAWS_SEED)
        row = Row(name=name, metric=self.metric, value=value, seeds=self._seeds())
        return replace(row, **more)  # type: ignore[arg-type]

    def claim(self, text: str, other: Sums, paper: str = "") -> Claim:
        """That it is better than another, on the same problems."""
        assert (self.metric, *self.tables) == (other.metric, *other.tables)
        difference = resampling.difference_estimate(
            self.every, other.every, self.statistic, DRAWS_SEED
        )
        pairs = zip(self._seeds(), other._seeds(), strict=True)
        seeds = tuple(None if None in pair else pair[0] - pair[1] for pair in pairs)  # type: ignore[operator]
        return made(text, paper, self.metric, difference, seeds)

    def _seeds(self) -> tuple[float | None, ...]:
        return _defined(
            [float(self.statistic(table.sum(axis=0))) for table in self.tables.values()]
        )


def _defined(values: Sequence[float]) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else value for value in values)


def f1(tables: Mapping[int, np.ndarray]) -> Sums:
    """Of tables as `step_sums` makes them."""
    return Sums(tables, measures.f1_macro, F1)


@dataclass(frozen=True)
class Ranked:
    """How a predictor orders steps: AUROC, per seed and over all.

    Over all seeds steps are compared within a seed alone: the value is the seeds' mean, and a draw
    draws problems of every seed. A seed whose steps are all right, or all wrong, has no value.

    Attributes:
        parts: seed → steps and their scores.
    """

    parts: Mapping[int, tuple[Steps, Sequence[Sequence[float] | None]]]

    def row(self, name: str, **more: object) -> Row:
        """Its value; `more` are further attributes of the row."""
        values, drawn = self._drawn
        value = resampling.estimate(float(np.mean(values)), drawn)
        row = Row(name=name, metric=AUROC, value=value, seeds=_defined(values))
        return replace(row, **more)  # type: ignore[arg-type]

    def claim(self, text: str, other: Ranked, paper: str = "") -> Claim:
        """That it is better than another, on the same problems."""
        assert self._problems() == other._problems()
        (ours, drawn), (theirs, others) = self._drawn, other._drawn
        difference = resampling.estimate(float(np.mean(ours) - np.mean(theirs)), drawn - others)
        seeds = _defined([a - b for a, b in zip(ours, theirs, strict=True)])
        return made(text, paper, AUROC, difference, seeds)

    def _problems(self) -> dict[int, list[str]]:
        return {seed: steps.problems for seed, (steps, _) in self.parts.items()}

    @cached_property
    def _drawn(self) -> tuple[list[float], np.ndarray]:
        # Dear, and asked for by a row and by every claim.
        values, drawn = [], []
        for seed, (steps, scores) in self.parts.items():
            wrong = np.array([step for own in steps.wrong for step in own])
            flat = measures.ordered(steps.wrong, scores)
            sizes = [len(item.labels) for item in steps.items]
            places = np.repeat(resampling.clusters(steps.problems), sizes)
            areas, _ = resampling.ranked_draws(wrong, flat, places, seed)
            both = 0 < wrong.sum() < len(wrong)
            values.append(float(metrics.auroc(wrong, flat)) if both else np.nan)
            drawn.append(areas)
        return values, np.mean(drawn, axis=0)


def made(
    text: str,
    paper: str,
    metric: str,
    difference: Estimate,
    seeds: tuple[float | None, ...],
) -> Claim:
    """A claim with its verdict."""
    return Claim(
        text=text,
        paper=paper,
        metric=metric,
        difference=difference,
        seeds=seeds,
        verdict=verdict(difference, seeds),
    )
