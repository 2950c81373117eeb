"""Merges the solutions of many requests into batches for the one thread that may touch the model.

While a batch is scored, the next gathers; nothing waits for company. Which solutions make a batch,
and in which order, stands in `prm.serve.waiting`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass
from typing import Literal

from prm.errors import EngineError
from prm.records import Solution
from prm.scorers import StepScorer
from prm.search.budget import shared_out
from prm.serve.logs import log_failure
from prm.serve.metrics import Metrics
from prm.serve.outcomes import Outcome, outcomes_of
from prm.serve.schemas import Refusal
from prm.serve.waiting import Entry, Waiting

log = logging.getLogger("prm.serve")

State = Literal["loading", "ready", "draining", "dead"]

BYTES_PER_TOKEN = 3
"""Of text with formulas, about; lengths are estimated, for the scorer alone can count tokens."""


@dataclass(eq=False)
class _Ticket:
    """A request's solutions: how far they are, and who waits for them."""

    outcomes: list[Outcome | None]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]
    request_id: str
    missing: int
    tokens: int = 0


_Entry = Entry[Solution]


class Batcher:
    """The way to the model, for every router.

    Args:
        scorer: what scores; None where `load` will bring it.
        max_waiting: how many requests may wait; further ones are refused.
        metrics: where batches are counted.

    Attributes:
        state: what `/ready` tells.
        failure: what made it dead.
        on_death: called once, from the model's thread, when it died.
    """

    def __init__(self, scorer: StepScorer | None, *, max_waiting: int, metrics: Metrics) -> None:
        self.state: State = "loading" if scorer is None else "ready"
        self.failure: BaseException | None = None
        self.on_death: Callable[[], None] = lambda: None
        self._scorer = scorer
        self._max_waiting = max_waiting
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: Waiting[Solution] = Waiting()
        self._scoring: set[_Ticket] = set()
        # Some libraries tie a model to the thread that used it first: it is loaded there too.
        self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="scorer")
        metrics.watch(lambda: len(self._waiting.requests), lambda: len(self._waiting))

    @property
    def name(self) -> str:
        """The model's name.

        Raises:
            Refusal: there is no model yet, or no longer.
        """
        return self._require().name

    def configure(self, *, budget: int, pads: bool) -> None:
        """Say what batches suit the model: `budget` tokens of one forward, and whether it pads."""
        self._waiting.pads = pads
        self._waiting.budget = budget

    def load(self, load: Callable[[], StepScorer]) -> None:
        """Load the model in its thread; `state` tells when that is done, or failed."""

        def work() -> None:
            try:
                self._scorer = load()
            except BaseException as error:  # noqa: BLE001 - handed to whoever runs the server
                self._die(error)
            else:
                if self.state == "loading":
                    self.state = "ready"

        self._thread.submit(work)

    def drain(self) -> None:
        """Say that the server is about to end; what has been accepted is still scored."""
        if self.state != "dead":
            self.state = "draining"

    def give_up(self) -> None:
        """Refuse everything that has not been answered."""
        self._fail(lambda: _stopped())

    def close(self, wait: float) -> bool:
        """Free the model; returns whether its thread got to it within so many seconds."""
        freed = self._thread.submit(self._free)
        self._thread.shutdown(wait=False)
        return not futures.wait([freed], wait).not_done

    async def score(
        self, batch: Sequence[Solution], request_id: str = ""
    ) -> tuple[list[Outcome], int]:
        """Score solutions: one outcome each, in order.

        Whoever stops waiting (is cancelled) takes those with him that have not been begun.

        Args:
            batch: at least one solution.
            request_id: under which the log tells of trouble.

        Returns:
            the outcomes, and how many tokens the model read for them: of a batch that was shared,
            their part by length.

        Raises:
            Refusal: no model is ready, too many wait, or the engine died.
        """
        loop = asyncio.get_running_loop()
        ticket = _Ticket(
            outcomes=[None] * len(batch),
            loop=loop,
            done=loop.create_future(),
            request_id=request_id,
            missing=len(batch),
        )
        self._enter(ticket, batch)
        try:
            await ticket.done
        finally:
            self._leave(ticket)
        return [outcome for outcome in ticket.outcomes if outcome is not None], ticket.tokens

    def _require(self) -> StepScorer:
        if self.state == "dead":
            raise _dead()
        if self._scorer is None:
            message = "the model is being loaded; try again later"
            raise Refusal(503, message, "", "loading", Retry_After="5")
        return self._scorer

    def _enter(self, ticket: _Ticket, batch: Sequence[Solution]) -> None:
        with self._lock:
            self._require()
            if len(self._waiting.requests) >= self._max_waiting:
                message = f"{self._max_waiting} requests wait already; try again later"
                raise Refusal(503, message, "", "busy", Retry_After="1")
            self._waiting.add(ticket, batch, [_cost(solution) for solution in batch])
        self._thread.submit(self._work)

    def _leave(self, ticket: _Ticket) -> None:
        with self._lock:
            self._waiting.drop(ticket)

    # In the model's thread

    def _free(self) -> None:
        scorer, self._scorer = self._scorer, None
        if scorer is not None and hasattr(scorer, "close"):
            scorer.close()

    def _work(self) -> None:
        while entries := self._take():
            began = time.monotonic()
            scorer = self._scorer
            assert scorer is not None
            before = getattr(scorer, "tokens", 0)
            try:
                outcomes = outcomes_of(
                    scorer,
                    [entry.item for entry in entries],
                    [_ticket(entry).request_id for entry in entries],
                )
            except BaseException as error:  # noqa: BLE001 - the server ends with it
                self._die(error)
                return
            tokens = getattr(scorer, "tokens", 0) - before
            self._metrics.batch(len(entries), tokens, time.monotonic() - began)
            self._give(entries, outcomes, tokens)

    def _take(self) -> list[_Entry]:
        """The next batch; empty where nothing waits."""
        with self._lock:
            entries = self._waiting.take()
            self._scoring = {_ticket(entry) for entry in entries}
            return entries

    def _give(self, entries: list[_Entry], outcomes: list[Outcome], tokens: int) -> None:
        """Bring outcomes to their requests."""
        shares = shared_out(tokens, [entry.cost for entry in entries])
        for entry, outcome, share in zip(entries, outcomes, shares, strict=True):
            ticket = _ticket(entry)
            ticket.tokens += share
            ticket.outcomes[entry.index] = outcome
            ticket.missing -= 1
            if ticket.missing == 0:
                _wake(ticket, None)

    def _die(self, error: BaseException) -> None:
        if not isinstance(error, EngineError):
            log_failure(log, "the scorer died", error)
        self.failure = error
        self.state = "dead"
        self._fail(_dead)
        self.on_death()

    def _fail(self, why: Callable[[], Refusal]) -> None:
        with self._lock:
            tickets = {*self._waiting.requests, *self._scoring}
            self._waiting.clear()
            self._scoring = set()
        for ticket in tickets:
            assert isinstance(ticket, _Ticket)
            _wake(ticket, why())


def _ticket(entry: _Entry) -> _Ticket:
    assert isinstance(entry.request, _Ticket)
    return entry.request


def _wake(ticket: _Ticket, refusal: Refusal | None) -> None:
    def wake() -> None:
        if ticket.done.done():
            return  # the client left, or was refused
        if refusal is None:
            ticket.done.set_result(None)
        else:
            ticket.done.set_exception(refusal)

    with contextlib.suppress(RuntimeError):  # the loop has ended, and its clients with it
        ticket.loop.call_soon_threadsafe(wake)


def _cost(solution: Solution) -> int:
    """About how many tokens a solution has."""
    texts = (solution.problem, *solution.steps, solution.reference or "")
    return 1 + sum(len(text.encode()) for text in texts) // BYTES_PER_TOKEN


def _dead() -> Refusal:
    return Refusal(503, "the engine died; the server ends", "", "dead", Retry_After="30")


def _stopped() -> Refusal:
    return Refusal(503, "the server ends before this is done", "", "draining", Retry_After="5")
