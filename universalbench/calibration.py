"""Calibration: whether a score of 0.8 means that eight of ten such steps are right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prm.metrics import bin_places
from universalbench.measures import Scores
from universalbench.resampling import by_cluster, clusters, ratio, sums_estimate
from universalbench.results import Bin, Calibration, Estimate, Item

BINS = 15
"""Of equal width over [0, 1]."""


def calibrate(items: Sequence[Item], scores: Scores, seed: int) -> Calibration:
    """Calibration of scores as probabilities that steps are right.

    Only steps with scores enter; a score that does not exist says nothing.

    Args:
        items: what is measured.
        scores: of the items.
        seed: of the intervals.
    """
    if any(item.wrong is None for item in items):
        return _nothing("only the first error of a solution is known")
    pairs = [(item, row) for item, row in zip(items, scores, strict=True) if row is not None]
    if not pairs:
        return _nothing("no scores")
    said = np.array([value for _, row in pairs for value in row], dtype=float)
    if said.min() < 0 or said.max() > 1:
        return _nothing(
            f"the scores are no probabilities: they lie from {said.min():.4g} to {said.max():.4g}"
        )
    right = np.array([not wrong for item, _ in pairs for wrong in item.wrong or ()], dtype=float)
    owner = np.repeat(clusters([item.problem_key for item, _ in pairs]), [len(r) for _, r in pairs])
    places = bin_places(said, BINS)

    # What each step adds: to its bin right − said, then to the squared error and the steps.
    table = np.zeros((len(said), BINS + 2))
    table[np.arange(len(said)), places] = right - said
    table[:, BINS], table[:, BINS + 1] = (right - said) ** 2, 1
    summed = by_cluster(table, owner)
    return Calibration(
        ece=sums_estimate(
            summed, lambda sums: ratio(np.abs(sums[..., :BINS]).sum(-1), sums[..., -1]), seed
        ),
        brier=sums_estimate(summed, lambda sums: ratio(sums[..., BINS], sums[..., -1]), seed),
        bins=tuple(
            _bin(index, said[places == index], right[places == index]) for index in range(BINS)
        ),
    )


def _bin(index: int, said: np.ndarray, right: np.ndarray) -> Bin:
    return Bin(
        low=index / BINS,
        high=(index + 1) / BINS,
        steps=len(said),
        mean_score=float(said.mean()) if len(said) else None,
        share_right=float(right.mean()) if len(said) else None,
    )


def _nothing(why: str) -> Calibration:
    absent = Estimate(value=None, why=why)
    return Calibration(ece=absent, brier=absent, bins=(), why=why)
