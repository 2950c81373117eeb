"""Shares and kappas of votes that say right or wrong, with their intervals.

What cannot be told is None with the reason, never 1 and never NaN. Intervals are 95 % percentile
bootstrap intervals; whole groups of solutions are drawn, since the steps of one are not
independent. An interval is None where a single group, or a draw without votes of both kinds,
leaves it open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prm import metrics

Split = tuple[int, int]
"""How many voters called a step right, and how many called it wrong."""

Splits = Mapping[Split, int]
"""How many steps of a group of solutions split the voters so."""


@dataclass(frozen=True)
class Share:
    """`count` of `total`; the share is None where the total is 0."""

    count: int
    total: int
    share: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Estimate:
    """A number over so many steps, or why there is none."""

    value: float | None
    steps: int
    interval: tuple[float, float] | None = None
    undefined: str | None = None


def share(count: int, total: int) -> Share:
    """A share without an interval."""
    return Share(count, total, count / total if total else None)


def share_of(groups: Sequence[tuple[int, int]]) -> Share:
    """A share with its interval, from the `(count, total)` of each group."""
    plain = share(sum(count for count, _ in groups), sum(total for _, total in groups))
    if plain.share is None:
        return plain
    interval = _interval(np.array(groups), lambda sums: _quotient(sums[:, 0], sums[:, 1]))
    return Share(plain.count, plain.total, plain.share, interval)


def dissent(groups: Sequence[Splits]) -> Share:
    """The share of steps with at least one dissenting vote, of those with two votes or more."""
    return share_of(
        [
            (
                sum(count for split, count in splits.items() if min(split) > 0),
                sum(count for split, count in splits.items() if sum(split) > 1),
            )
            for splits in groups
        ]
    )


def mean_agreement(groups: Sequence[Splits]) -> Estimate:
    """The share of a step's votes on the side of the majority, averaged over steps with two
    votes or more; 0.5 to 1."""

    def mean(counts: np.ndarray, right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
        return _quotient(counts @ (np.maximum(right, wrong) / (right + wrong)), counts.sum(axis=1))

    return _estimate(groups, mean)


def fleiss(groups: Sequence[Splits]) -> Estimate:
    """Fleiss' kappa of two classes, over the steps with two votes or more.

    With n_i votes on step i, x_i of which say right, p the share of all votes that say right and
    q = 1 - p:

        kappa = 1 - sum_i x_i (n_i - x_i) / n_i  /  (p q sum_i (n_i - 1))

    Where every step has the same number of votes this is the kappa of Fleiss (1971, Psychological
    Bulletin 76, 378-382), (P - P_e) / (1 - P_e); numbers that differ are the generalisation of
    Fleiss and Cuzick (1979, Applied Psychological Measurement 3, 537-542). Lies between -1 and 1;
    0 is what votes cast by chance in these proportions give. Undefined where all votes say the
    same: then chance alone would agree on everything, and nothing can be said beyond it.
    """

    def kappa(counts: np.ndarray, right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
        number = right + wrong
        split = counts @ (right * wrong / number)
        says_right, says_wrong, votes = counts @ right, counts @ wrong, counts @ number
        chance = says_right * says_wrong / np.maximum(votes, 1) ** 2 * (counts @ (number - 1))
        return 1 - _quotient(split, chance)

    return _estimate(groups, kappa)


def cohen(both_right: int, first_right: int, second_right: int, both_wrong: int) -> Estimate:
    """Cohen's kappa of two voters (1960, Educational and Psychological Measurement 20, 37-46).

    With P the share of steps on which they agree and P_e that expected of two who vote by chance,
    each in its own proportions: (P - P_e) / (1 - P_e), here over whole numbers of steps.

    Args:
        both_right, both_wrong: steps on which they agree.
        first_right, second_right: steps that only this one calls right.
    """
    steps = both_right + first_right + second_right + both_wrong
    if not steps:
        return Estimate(None, 0, undefined="no step has a vote of both")
    chance = (both_right + first_right) * (both_right + second_right)
    chance += (second_right + both_wrong) * (first_right + both_wrong)
    if chance == steps * steps:
        said = "right" if both_right else "wrong"
        return Estimate(None, steps, undefined=f"all votes say {said}")
    agree = both_right + both_wrong
    return Estimate((steps * agree - chance) / (steps * steps - chance), steps)


_Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""From counts `[draws, splits]` and the splits' right and wrong votes to values `[draws]`."""


def _estimate(groups: Sequence[Splits], statistic: _Statistic) -> Estimate:
    known = sorted({split for splits in groups for split in splits if sum(split) > 1})
    table = np.array([[splits.get(split, 0) for split in known] for splits in groups])
    if not table.sum():
        return Estimate(None, 0, undefined="no step has two votes")
    right, wrong = np.array(known).T

    def of(counts: np.ndarray) -> np.ndarray:
        return statistic(counts, right, wrong)

    steps = int(table.sum())
    value = float(of(table.sum(axis=0, keepdims=True))[0])
    if math.isnan(value):
        said = "right" if right.sum() else "wrong"
        return Estimate(None, steps, undefined=f"all votes say {said}")
    return Estimate(value, steps, _interval(table, of))


def _interval(
    table: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float] | None:
    if len(table) < 2:
        return None
    low, high = metrics.sums_interval(table, statistic)
    return None if math.isnan(low) or math.isnan(high) else (low, high)


def _quotient(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """NaN where the bottom is 0."""
    return np.divide(top, bottom, out=np.full(len(bottom), np.nan), where=bottom > 0)
