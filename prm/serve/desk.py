"""What every router works with: the limits, the way to the model, and the request's account."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import Request

from annotate.pieces import split_steps
from prm.records import Solution
from prm.scorers import StepScorer
from prm.serve.batcher import Batcher
from prm.serve.metrics import Metrics
from prm.serve.outcomes import Outcome
from prm.serve.policy import Policy
from prm.serve.schemas import Limits, Refusal

T = TypeVar("T")


class Desk:
    """One server's parts.

    Args:
        scorer: what scores; None where `batcher.load` will bring it.
        limits: how much a request may ask for.
        policy: what writes solutions; None where the server has none.

    Attributes:
        count: an upper bound of a text's tokens; of bytes until it is known better.
    """

    def __init__(
        self, scorer: StepScorer | None, limits: Limits, *, policy: Policy | None = None
    ) -> None:
        self.limits = limits
        self.policy = policy
        self.metrics = Metrics()
        self.batcher = Batcher(scorer, max_waiting=limits.max_waiting, metrics=self.metrics)
        self.count: Callable[[str], int] = lambda text: len(text.encode())
        if policy is not None:
            policy.counted = self.metrics.policy
            self.batcher.on_failing = policy.give_up

    def require_policy(self) -> Policy:
        """The policy.

        Raises:
            Refusal: the server has none.
        """
        if self.policy is None:
            message = (
                "this server has no policy; start it with policy.model=NAME "
                "policy.endpoint.urls=[http://HOST:PORT/v1]"
            )
            raise Refusal(404, message, "", "no_policy")
        return self.policy

    async def score(self, request: Request, batch: Sequence[Solution]) -> list[Outcome]:
        """Score solutions for a request, and enter them into its account.

        Raises:
            Refusal: see `Batcher.score`; or all were beyond the server's power; or the client left.
        """
        account = request.state.account
        outcomes, tokens = await until_gone(
            request, self.batcher.score(batch, request.state.request_id)
        )
        account["items"] += len(batch)
        account["steps"] += sum(len(solution.steps) for solution in batch)
        account["tokens"] += tokens
        for outcome in outcomes:
            self.metrics.outcome(outcome.scores)
        if all(outcome.broken for outcome in outcomes):
            raise Refusal(500, outcomes[0].error or "", "", "internal")
        return outcomes

    async def separate(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        """The steps of solutions that came as texts."""
        # Long ones take a while, in which others must be answered.
        return await asyncio.to_thread(lambda: [split_steps(text) for text in texts])


def solution(where: str, question: str, steps: Sequence[str], reference: str | None) -> Solution:
    """The record of a solution; its id is its place in the request, for callers' may be twice."""
    return Solution(
        id=where, problem=question, steps=tuple(steps), answer=reference, reference=reference
    )


async def until_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do work for a client as long as it is there.

    Raises:
        Refusal: the client left; the work is cancelled.
    """
    gone = asyncio.create_task(_gone(request))
    await asyncio.sleep(0)  # who has left already is noticed before anything is begun
    if gone.done():
        work.close()
        raise left()
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise left()
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def left() -> Refusal:
    """What stands in the log for a client that did not wait; nobody reads the answer."""
    return Refusal(499, "the client left", "", "gone")
