"""What becomes of the solutions of a batch; one that makes the scorer fail harms no other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from prm.errors import EngineError
from prm.records import Failure, Solution, StepScores
from prm.scorers import StepScorer
from prm.serve.logs import log_failure

log = logging.getLogger("prm.serve")


@dataclass(frozen=True)
class Outcome:
    """What became of one solution.

    Attributes:
        scores: one finite score per step; None with an error.
        error: why there are none.
        broken: whether that is the server's fault, not the solution's.
    """

    scores: tuple[float, ...] | None = None
    error: str | None = None
    broken: bool = False


def outcomes_of(
    scorer: StepScorer, batch: Sequence[Solution], request_ids: Sequence[str]
) -> list[Outcome]:
    """Score a batch; where that raises, its halves, so that one solution alone bears it.

    Halves also get a batch through that was too large for the memory.

    Args:
        scorer: what scores.
        batch: at least one solution.
        request_ids: of each, whose it is; under it the log tells of trouble.

    Raises:
        EngineError: the engine died, or the device does not recover.
    """
    try:
        results = scorer.score_each(batch)
    except EngineError:
        raise
    except Exception as error:  # noqa: BLE001 - it harms no other solution
        if len(batch) > 1 and not unrecoverable(error):
            middle = len(batch) // 2
            return outcomes_of(scorer, batch[:middle], request_ids[:middle]) + outcomes_of(
                scorer, batch[middle:], request_ids[middle:]
            )
        return [broken(error, request_ids[0])]
    return [outcome_of(solution, result) for solution, result in zip(batch, results, strict=True)]


def outcome_of(solution: Solution, result: StepScores | Failure) -> Outcome:
    """What a scorer's result makes of a solution."""
    if isinstance(result, Failure):
        return Outcome(error=result.reason)
    if len(result.scores) != len(solution.steps):
        return Outcome(error=f"{len(result.scores)} scores for {len(solution.steps)} steps")
    return Outcome(scores=tuple(result.scores))


def broken(error: Exception, request_id: str) -> Outcome:
    """What becomes of a solution that made the scorer fail; the log tells of it.

    Raises:
        EngineError: the device does not recover.
    """
    if unrecoverable(error):
        raise EngineError(f"the device failed ({type(error).__name__})") from error
    log_failure(log, "a solution made the scorer fail", error, request_id)
    return Outcome(error=f"the server failed; its log tells of {request_id}", broken=True)


def unrecoverable(error: Exception) -> bool:
    """Whether a GPU is of no more use to this process."""
    import torch

    return isinstance(error, torch.AcceleratorError) and not isinstance(
        error, torch.OutOfMemoryError
    )
