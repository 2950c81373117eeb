"""From step scores to one reward for a solution, by a named aggregation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

Aggregation = Literal["min", "product", "last", "mean"]

AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)


def aggregate(scores: Sequence[float], method: Aggregation) -> float:
    """The reward of a solution.

    - `min`: the weakest step decides (Lightman et al., arXiv 2305.20050, as is `product`).
    - `product`: the probability that all steps are right, if they were independent; raw scores
      are first clamped to [0, 1], or two negative ones would make a good product.
    - `last`: the score after the last step.
    - `mean`: the average step.

    Args:
        scores: raw step scores, at least one.
        method: the aggregation's name.
    """
    if not scores:
        raise ValueError("no scores to aggregate")
    if method == "min":
        return min(scores)
    if method == "product":
        return math.prod(min(max(score, 0.0), 1.0) for score in scores)
    if method == "last":
        return scores[-1]
    return math.fsum(scores) / len(scores)
