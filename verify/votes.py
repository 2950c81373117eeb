"""Votes to labels: the average of those who did not abstain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from prm.records import Judgment


@dataclass(frozen=True)
class Ballot:
    """The outcome of a vote over the steps of one solution.

    Attributes:
        labels: for each step the mean verdict, or None where everyone abstained.
        agreement: for each step the share of voters on the side of the majority, 0.5 to 1, or
            None likewise. A verdict of exactly one half counts half for each side.
    """

    labels: tuple[float | None, ...]
    agreement: tuple[float | None, ...]


def count(judgments: Sequence[Judgment], steps: int) -> Ballot:
    """Average the verdicts for each step.

    Soft labels by averaged votes: AURORA (arXiv 2502.11520). Abstentions do not count, neither
    for nor against.

    Args:
        judgments: the voters.
        steps: how many steps the solution has.
    """
    labels: list[float | None] = []
    agreement: list[float | None] = []
    for index in range(steps):
        cast = [item.verdicts[index] for item in judgments]
        votes = [vote for vote in cast if vote is not None]
        if not votes:
            labels.append(None)
            agreement.append(None)
            continue
        labels.append(min(1.0, math.fsum(votes) / len(votes)))
        right = math.fsum(1.0 if vote > 0.5 else 0.5 if vote == 0.5 else 0.0 for vote in votes)
        share = right / len(votes)
        agreement.append(max(share, 1.0 - share))
    return Ballot(tuple(labels), tuple(agreement))
