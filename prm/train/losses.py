"""Losses over step scores, each normalised by the number of labelled steps of the whole batch."""

from __future__ import annotations

import torch

IGNORE = -100.0
"""Label of a position that is no step end. No label equals it: labels lie in [0, 1]."""


def squared_error(
    scores: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    count: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Half the mean squared distance of raw scores from soft labels.

        L = 1 / (2 N) Σ w (r − r̂)²

    Source: AURORA (arXiv 2502.11520); the weights w are ours and 1 there.

    Args:
        scores: raw model outputs, `[batch, tokens]`.
        labels: soft labels in [0, 1], `IGNORE` where there is none, `[batch, tokens]`.
        weights: trust in each solution, `[batch]`.
        count: N, the labelled steps over all devices and accumulated batches; None counts
            this batch alone.
    """
    labelled = labels != IGNORE
    # Ignored positions are masked before the subtraction, so an overflow there cannot leak in.
    error = torch.where(labelled, scores.float() - labels, 0.0)
    total = (weights[:, None] * error.square()).sum() / 2
    if count is None:
        count = labelled.sum().clamp(min=1)
    return total / count
