"""Sequential voting: who votes no more because it would change nothing.

Voters are asked one after the other. A step's label is the weighted mean of those who voted, so
with the votes still open it can only end within known bounds. Once these lie on one side of the
cut for every step, nobody else is asked about the solution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from prm.records import Judgment
from verify.votes import require_weights

NOT_ASKED = "not_asked"
"""The finish reason of a judgment that was never asked for."""


@dataclass
class SequentialConfig:
    """When to stop asking.

    Attributes:
        cut: where labels are cut into right (from it on) and wrong (below).
        margin: how far from the cut a label must stay, whatever the open votes say.
        weights: of strategies, as `prm verify` will weigh them; 1 where none is given.
    """

    cut: float = 0.5
    margin: float = 0.0
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.0 < self.cut <= 1.0 or self.margin < 0.0:
            raise ValueError(f"cut is {self.cut} (above 0, to 1), margin is {self.margin} (from 0)")
        require_weights(self.weights)

    def weight(self, strategy: str) -> float:
        """Of one strategy's votes."""
        return self.weights.get(strategy, 1.0)


def settled(
    cast: Sequence[Judgment], waiting: Sequence[str], steps: int, config: SequentialConfig
) -> bool:
    """Whether no vote still open can move any step's label over the cut.

    Args:
        cast: the judgments so far.
        waiting: the strategies that have not voted yet, one entry for each vote.
        steps: how many steps the solution has.
        config: the cut, the margin and the weights.
    """
    still = math.fsum(config.weight(strategy) for strategy in waiting)
    for index in range(steps):
        votes = [
            (config.weight(judgment.strategy), verdict)
            for judgment in cast
            if (verdict := judgment.verdicts[index]) is not None
        ]
        whole = math.fsum(weight for weight, _ in votes)
        if whole <= 0.0:
            return False
        right = math.fsum(weight * verdict for weight, verdict in votes)
        low, high = right / (whole + still), (right + still) / (whole + still)
        if low < config.cut + config.margin and high >= config.cut - config.margin:
            return False
    return True


def not_asked(judge: str, strategy: str, steps: int) -> Judgment:
    """What stands for a vote that nobody asked for: an abstention that cost nothing."""
    return Judgment(
        judge=judge, strategy=strategy, verdicts=(None,) * steps, finish_reason=NOT_ASKED
    )
