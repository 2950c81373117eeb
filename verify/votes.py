"""Votes to labels: the weighted average of those who did not abstain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from prm.records import Judgment


@dataclass
class Voting:
    """How votes become labels.

    Attributes:
        labels: `soft` keeps the average, `hard` makes it 1 from one half on, else 0.
        weights: of strategies; 1 where none is given, 0 leaves a strategy's votes out.
    """

    labels: Literal["soft", "hard"] = "soft"
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_weights(self.weights)


@dataclass(frozen=True)
class Ballot:
    """The outcome of a vote over the steps of one solution.

    Attributes:
        labels: for each step the mean verdict, or None where everyone abstained.
        agreement: for each step the share of votes on the side of the majority, 0.5 to 1, or
            None likewise. A verdict of exactly one half counts half for each side.
    """

    labels: tuple[float | None, ...]
    agreement: tuple[float | None, ...]


def require_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights of strategies that are negative or no numbers.

    Raises:
        ValueError: naming the strategy.
    """
    for strategy, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0.0):
            raise ValueError(f"the weight of {strategy!r} is {weight}; it starts at 0")


def labels_of(judgments: Sequence[Judgment], steps: int, voting: Voting) -> Ballot:
    """The outcome of a vote, as `voting` has it."""
    ballot = count(judgments, steps, voting.weights)
    if voting.labels == "soft":
        return ballot
    hard = tuple(None if label is None else float(label >= 0.5) for label in ballot.labels)
    return Ballot(hard, ballot.agreement)


def count(
    judgments: Sequence[Judgment], steps: int, weights: Mapping[str, float] | None = None
) -> Ballot:
    """Average the verdicts for each step.

    Soft labels by averaged votes: AURORA (arXiv 2502.11520). Abstentions do not count, neither
    for nor against.

    Args:
        judgments: the voters.
        steps: how many steps the solution has.
        weights: of strategies; 1 where none is given.
    """
    voters = [(1.0 if weights is None else weights.get(j.strategy, 1.0), j) for j in judgments]
    labels: list[float | None] = []
    agreement: list[float | None] = []
    for index in range(steps):
        votes = [
            (weight, vote)
            for weight, judgment in voters
            if weight > 0.0 and (vote := judgment.verdicts[index]) is not None
        ]
        if not votes:
            labels.append(None)
            agreement.append(None)
            continue
        whole = math.fsum(weight for weight, _ in votes)
        labels.append(min(1.0, math.fsum(weight * vote for weight, vote in votes) / whole))
        right = math.fsum(weight * _side(vote) for weight, vote in votes)
        share = min(1.0, right / whole)
        agreement.append(max(share, 1.0 - share))
    return Ballot(tuple(labels), tuple(agreement))


def _side(vote: float) -> float:
    return 0.5 if vote == 0.5 else float(vote > 0.5)
