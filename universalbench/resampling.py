"""Chance: intervals, p-values and splits, all by whole problems and all from one seed.

Solutions of one problem succeed and fail together, and so do the steps of one solution. So what
is drawn, exchanged or split is always a problem with all its solutions (a cluster); drawing
solutions or steps would make intervals too narrow.

Metrics here are statistics of column sums: a table holds what each cluster adds, and a function
turns sums `[..., columns]` into values `[...]`, NaN where the metric is not defined.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from universalbench.results import Estimate

DRAWS = 2000
"""Bootstrap draws."""

PERMUTATIONS = 10_000
"""Exchanges drawn for a p-value; where there are no more than that in all, each is tried."""

MISSING = 0.05
"""An interval is given where at most this share of the draws has no value: from there on, what is
missing would weigh as much as the tails that are cut off."""

BLOCK = 500
"""Draws held in memory at once."""

Statistic = Callable[[np.ndarray], np.ndarray]
"""From column sums `[..., columns]` to values `[...]`."""


def clusters(keys: Sequence[str]) -> np.ndarray:
    """The cluster of each item, numbered from 0 in the order of appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=int)


def by_cluster(table: ArrayLike, places: np.ndarray) -> np.ndarray:
    """What each cluster adds, `[clusters, columns]`, from what each item adds."""
    rows = np.asarray(table, dtype=float)
    summed = np.zeros((int(places.max()) + 1 if places.size else 0, rows.shape[1]))
    np.add.at(summed, places, rows)
    return summed


@lru_cache(maxsize=8)
def draws(count: int, seed: int) -> np.ndarray:
    """How often each of `count` clusters is drawn, `[DRAWS, count]`; the same for a seed."""
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=DRAWS).astype(float)
    drawn.flags.writeable = False  # callers share it
    return drawn


def estimate(value: float, drawn: np.ndarray, why: str = "not defined here") -> Estimate:
    """A metric with its 95 % percentile interval.

    Args:
        value: on what there is; NaN where the metric is not defined.
        drawn: its values on the draws. NaN ones are left out and counted; where more than
            `MISSING` of them are, there is no interval.
        why: what to say where there is no value.
    """
    if np.isnan(value):
        return Estimate(value=None, why=why)
    there = drawn[~np.isnan(drawn)]
    undefined = drawn.size - there.size
    if undefined > MISSING * drawn.size:
        return Estimate(
            value=float(value),
            undefined=undefined,
            why=f"no interval: not defined in {undefined} of {drawn.size} draws",
        )
    low, high = np.percentile(there, [2.5, 97.5])
    return Estimate(value=float(value), interval=(float(low), float(high)), undefined=undefined)


def sums_estimate(
    table: np.ndarray, statistic: Statistic, seed: int, why: str = "not defined here"
) -> Estimate:
    """As `estimate`, for a statistic of the sums of a table `[clusters, columns]`."""
    if not len(table):
        return Estimate(value=None, why="nothing to measure")
    drawn = statistic(draws(len(table), seed) @ table)
    return estimate(float(statistic(table.sum(axis=0))), drawn, why)


def difference_estimate(
    one: np.ndarray, other: np.ndarray, statistic: Statistic, seed: int
) -> Estimate:
    """`one` less `other`, both on the same drawn clusters (a paired bootstrap).

    Args:
        one, other: tables `[clusters, columns]` of the same clusters in the same order.
    """
    if not len(one):
        return Estimate(value=None, why="nothing to measure")
    weights = draws(len(one), seed)
    drawn = statistic(weights @ one) - statistic(weights @ other)
    value = float(statistic(one.sum(axis=0)) - statistic(other.sum(axis=0)))
    return estimate(value, drawn)


@dataclass(frozen=True)
class PValue:
    """A two-sided permutation p-value, and whether all exchanges were tried."""

    value: float | None
    exact: bool


def permutation_p(one: np.ndarray, other: np.ndarray, statistic: Statistic, seed: int) -> PValue:
    """How often the difference is at least as large if chance exchanges the two per cluster.

    Under the null hypothesis the two predictors are alike, so within a cluster it is a matter of
    chance whose output is whose. With few clusters all 2^clusters exchanges are tried and the
    p-value is exact. Otherwise `PERMUTATIONS` are drawn and it is (1 + hits) / (1 + draws), which
    is never 0 and keeps its level (Phipson and Smyth 2010). An exchange after which the
    difference is not defined counts as a hit: it cannot be shown to be smaller.

    Args:
        one, other: tables `[clusters, columns]` of the same clusters in the same order.

    Returns:
        No value where the difference itself is not defined.
    """
    observed = abs(float(statistic(one.sum(axis=0)) - statistic(other.sum(axis=0))))
    exact = 2 ** min(len(one), 64) <= PERMUTATIONS
    if np.isnan(observed):
        return PValue(None, exact)
    change = other - one
    hits = tried = 0
    for swapped in _exchanges(len(one), exact, seed):
        moved = swapped @ change
        difference = statistic(one.sum(axis=0) + moved) - statistic(other.sum(axis=0) - moved)
        # Sums in another order may differ in their last bits; they are as large still.
        hits += int((~(np.abs(difference) < observed - 1e-9)).sum())
        tried += len(swapped)
    return PValue(hits / tried if exact else (1 + hits) / (1 + tried), exact)


def _exchanges(count: int, exact: bool, seed: int) -> Iterator[np.ndarray]:
    """Blocks `[exchanges, count]`, 1 where a cluster is exchanged."""
    if exact:
        numbers = np.arange(2**count)[:, None]
        yield (numbers >> np.arange(count) & 1).astype(float)
        return
    generator = np.random.default_rng(seed)
    for _ in range(PERMUTATIONS // BLOCK):
        yield generator.integers(0, 2, size=(BLOCK, count), dtype=np.int8).astype(float)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """P-values after Holm's step-down correction, in the order given; None stays None.

    The k-th smallest of m (from 0) is multiplied by m − k; none falls below a smaller one's,
    none exceeds 1.
    """
    there = sorted((value, index) for index, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    least = 0.0
    for rank, (value, index) in enumerate(there):
        least = max(least, min(1.0, value * (len(there) - rank)))
        corrected[index] = least
    return corrected


def part(keys: Sequence[str], share: float, seed: int) -> set[str]:
    """A seeded part of the problems: round(share · n) of the n different keys, at least 1.

    By a hash of seed and key, so a problem's place does not hang on which others there are in
    what order, and any library's generator.
    """
    different = sorted(set(keys), key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())
    return set(different[: max(1, round(share * len(different)))])


def ranked_draws(
    wrong: np.ndarray, scores: np.ndarray, places: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """AUROC and average precision of wrong steps on every draw of clusters.

    Args:
        wrong: truth, one boolean per step.
        scores: one per step; a wrong step should have a low one. Infinity stands for a step that
            is below no threshold: its precision is 0.
        places: the cluster of each step, numbered from 0 without a gap.
        seed: of the draws, as in `draws`.

    Returns:
        two arrays `[DRAWS]`: `prm.metrics.auroc` and, but for infinite scores,
        `average_precision` of the steps, each as often as drawn. NaN where a draw has no wrong
        step, of AUROC where it has no right one too.
    """
    order = np.argsort(scores, kind="stable")
    truth, places = wrong[order], places[order]
    values = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    weights = draws(int(places.max()) + 1, seed)
    areas, precisions = [], []
    for block in np.array_split(weights, max(1, len(weights) // 100)):
        drawn = block[:, places]
        # [draws, distinct scores]: how many wrong and right steps have each score.
        bad = np.add.reduceat(drawn * truth, starts, axis=1)
        good = np.add.reduceat(drawn * ~truth, starts, axis=1)
        below, reached = np.cumsum(bad, axis=1), np.cumsum(bad + good, axis=1)
        total = below[:, -1]
        pairs = total * good.sum(axis=1)
        ordered = (good * (below - bad / 2)).sum(axis=1)
        areas.append(ratio(ordered, pairs))
        precise = np.where(values[starts] < np.inf, below / np.maximum(reached, 1), 0.0)
        precisions.append(ratio((bad * precise).sum(axis=1), total))
    return np.concatenate(areas), np.concatenate(precisions)


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> np.ndarray:
    """The quotient, NaN where the denominator is 0."""
    top, bottom = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    return np.where(bottom == 0, np.nan, top / np.where(bottom == 0, 1, bottom))
