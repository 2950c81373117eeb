"""Votes held against the truth, at cuts that no label of their own has chosen.

The labels of a seed's solutions choose nothing for that seed: neither the cut below which a step
counts as wrong nor the best of several voters. Both come from the other seeds.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from prm import jsonl
from prm.records import Annotation, Judgment
from prm.reproduce.figure import Claim, Row
from prm.reproduce.measured import Ranked, Steps, Sums, f1, made, step_sums
from universalbench import measures, resampling
from verify.votes import count

Labels = Sequence[Sequence[float] | None]
"""For each solution a label per step, or None where it has none."""

Parts = Mapping[int, tuple[Steps, Labels]]
"""Seed → its solutions and their labels."""

Tables = Mapping[int, np.ndarray]
"""Seed → what each of its problems adds, `[problems, columns]`."""

Name = TypeVar("Name", bound=Hashable)

HALF = 0.5
WRONG = "F1 of wrong steps"

CUTS = tuple(sorted(((2 * k + 1) / 32 for k in range(16)), key=lambda cut: abs(cut - HALF)))
"""Where soft labels may be cut: between the sixteenths, so no mean of 2, 4, 8 or 16 votes is one;
those nearest to one half first."""


@dataclass(frozen=True)
class Ballots:
    """What voters said of the solutions of one seed.

    Attributes:
        steps: the solutions.
        cast: the judgments on each.
    """

    steps: Steps
    cast: Sequence[Sequence[Judgment]]

    def of(self, *strategies: str) -> Ballots:
        """Those of some strategies alone."""
        kept = [[one for one in own if one.strategy in strategies] for own in self.cast]
        return replace(self, cast=kept)

    def labels(self) -> list[tuple[float, ...]]:
        """The mean vote on each step; one on which all abstain counts as right."""
        pairs = zip(self.steps.items, self.cast, strict=True)
        found = [count(own, len(item.labels)).labels for item, own in pairs]
        return [tuple(1.0 if label is None else label for label in labels) for labels in found]

    def tokens(self) -> np.ndarray:
        """Of prompts and answers together, for each solution `[solutions]`."""
        return np.array([sum(map(_tokens, own)) for own in self.cast], dtype=float)


def read_ballots(steps: Steps, *paths: Path) -> Ballots:
    """The judgments of some files of annotations together."""
    files = [{note.id: note.judgments for note in jsonl.read(path, Annotation)} for path in paths]
    return Ballots(steps, [[one for file in files for one in file[i.id]] for i in steps.items])


def drawn(ballots: Ballots, share: float, seed: int) -> Ballots:
    """Some of the votes, as if only they had been asked for.

    Each is, by itself, with a chance of `share`; where none is, one of them at random. So the
    votes cost at least that share of all, on average.
    """
    rng = random.Random(f"votes {seed}")
    kept = []
    for own in ballots.cast:
        some = [one for one in own if rng.random() < share]
        kept.append(some or [rng.choice(own)])
    return replace(ballots, cast=kept)


def _tokens(judgment: Judgment) -> int:
    return sum(judgment.usage.values())


def elsewhere(candidates: Mapping[Name, Tables]) -> tuple[Tables, tuple[Name, ...]]:
    """For each seed the table of the candidate with the best F1 on all other seeds.

    Where there is one seed alone, each half of its problems (every second one) has the candidate
    that is best on the other half.

    Args:
        candidates: name → tables as `step_sums` makes them, of the same problems. Of equally good
            ones the first is taken.

    Returns:
        the tables, and which candidate each seed (or half) has.
    """
    some = next(iter(candidates.values()))
    if len(some) > 1:
        best = {seed: _best(candidates, [one for one in some if one != seed]) for seed in some}
        return {seed: candidates[best[seed]][seed] for seed in some}, tuple(best.values())
    ((seed, table),) = some.items()
    halves = {
        name: {half: tables[seed][half::2] for half in (0, 1)}
        for name, tables in candidates.items()
    }
    chosen = (_best(halves, [1]), _best(halves, [0]))
    joined = np.empty_like(table)
    for half, name in enumerate(chosen):
        joined[half::2] = halves[name][half]
    return {seed: joined}, chosen


def _best(candidates: Mapping[Name, Tables], places: Sequence[int]) -> Name:
    def value(name: Name) -> float:
        sums = np.sum([candidates[name][place].sum(axis=0) for place in places], axis=0)
        return float(np.nan_to_num(measures.f1_macro(sums), nan=-1.0))

    return max(candidates, key=value)


@dataclass(frozen=True)
class Voter:
    """Labels of every seed, measured.

    Attributes:
        tables: at the cuts.
        cuts: of each seed, or the one of all.
        parts: the labels of the solutions that count.
        cost: tokens that they took; None where that is not asked.
    """

    tables: Tables
    cuts: tuple[float, ...]
    parts: Parts
    cost: float | None = None

    @property
    def f1(self) -> Sums:
        """The mean F1 of right and wrong steps."""
        return f1(self.tables)

    @cached_property
    def auroc(self) -> Ranked:
        """Which needs no cut."""
        return Ranked(self.parts)

    def rows(self, name: str, **more: object) -> list[Row]:
        """F1 with the tokens, and F1 of wrong steps."""
        wrong = Sums(self.tables, measures.f1_wrong, WRONG)
        plain = more | {"paper": None, "headline": False}
        return [self.f1.row(name, cost=self.cost, **more), wrong.row(name, **plain)]

    def claims(self, text: str, other: Voter, paper: str = "", margin: float = 0.0) -> list[Claim]:
        """That it is better than another, or worse by less than a margin, in F1 and AUROC."""
        pair = self.f1.claim(text, other.f1, paper), self.auroc.claim(text, other.auroc, paper)
        return [raised(claim, margin) for claim in pair]


def voter(
    parts: Parts,
    cut: float | None = None,
    cost: float | None = None,
    weights: Mapping[int, Sequence[float]] | None = None,
) -> Voter:
    """Measure labels.

    Args:
        parts: the labels.
        cut: a step is wrong where its label lies below; by default that of `CUTS` which is best
            elsewhere.
        cost: in tokens.
        weights: seed → how much each solution's steps count in F1; 0 leaves it out altogether.
    """

    def at(cut: float) -> Tables:
        return {
            seed: step_sums(*part, cut, None if weights is None else weights[seed])
            for seed, part in parts.items()
        }

    counted = parts if weights is None else {s: _kept(*parts[s], weights[s]) for s in parts}
    if cut is not None:
        return Voter(at(cut), (cut,), counted, cost)
    tables, cuts = elsewhere({cut: at(cut) for cut in CUTS})
    return Voter(tables, cuts, counted, cost)


def _kept(steps: Steps, labels: Labels, weights: Sequence[float]) -> tuple[Steps, Labels]:
    triples = zip(steps.items, labels, weights, strict=True)
    left = [(item, own) for item, own, weight in triples if weight > 0]
    return Steps([item for item, _ in left]), [own for _, own in left]


def polled(polls: Mapping[int, Ballots], cut: float | None = None) -> Voter:
    """Measure the mean votes of every seed."""
    parts = {seed: (poll.steps, poll.labels()) for seed, poll in polls.items()}
    return voter(parts, cut, float(sum(poll.tokens().sum() for poll in polls.values())))


def mean_f1(voters: Sequence[Voter]) -> Sums:
    """The plain mean of several voters' F1."""
    seeds = voters[0].tables
    wide = {seed: np.concatenate([one.tables[seed] for one in voters], axis=1) for seed in seeds}
    mean = measures.subset_mean(measures.f1_macro, len(voters))
    return Sums(wide, mean, voters[0].f1.metric)


def shares(metric: str, counts: Mapping[int, tuple[Steps, np.ndarray]]) -> Sums:
    """A share, from what each solution adds to both its sides `[solutions, 2]`."""
    tables = {
        seed: resampling.by_cluster(table, resampling.clusters(steps.problems))
        for seed, (steps, table) in counts.items()
    }
    return Sums(tables, lambda sums: resampling.ratio(sums[..., 0], sums[..., 1]), metric)


def raised(claim: Claim, margin: float) -> Claim:
    """That a difference is above `-margin`: all its numbers are raised by the margin."""
    found = claim.difference
    interval = None if found.interval is None else tuple(end + margin for end in found.interval)
    value = None if found.value is None else found.value + margin
    return made(
        claim.text,
        claim.paper,
        claim.metric,
        replace(found, value=value, interval=interval),  # type: ignore[arg-type]
        tuple(None if seed is None else seed + margin for seed in claim.seeds),
    )
