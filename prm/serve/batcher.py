"""Merges the solutions of many requests into batches for the one thread that may touch the model.

While a batch is scored, the next gathers; nothing waits for company. An engine that takes solutions
up at any time has them join those under way. Which solutions make a batch, and in which order,
stands in `prm.serve.waiting`. Work of another kind has its turn in the same order, alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from prm.errors import EngineError
from prm.records import Solution
from prm.scorers import StepScorer
from prm.scorers.base import GPU_TOKENS, Batching, flowing
from prm.search.budget import shared_out
from prm.serve.logs import log_failure
from prm.serve.metrics import Metrics
from prm.serve.outcomes import Outcome, outcomes_of, unrecoverable
from prm.serve.schemas import Refusal
from prm.serve.stream import Stream
from prm.serve.ticket import Ticket
from prm.serve.waiting import Entry, Waiting

log = logging.getLogger("prm.serve")

T = TypeVar("T")
State = Literal["loading", "ready", "draining", "dead"]

UNKNOWN = Batching(GPU_TOKENS, pads=True)
"""Of a scorer that does not say."""

BYTES_PER_TOKEN = 3
"""Of text with formulas, about; lengths are estimated, for the scorer alone can count tokens."""


@dataclass(frozen=True)
class _Work:
    """Something to do with the scorer."""

    do: Callable[[StepScorer], Any]


_Entry = Entry[Solution | _Work]


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
        on_failing: told, from any thread, why all that wait are being refused.
    """

    def __init__(self, scorer: StepScorer | None, *, max_waiting: int, metrics: Metrics) -> None:
        self.state: State = "loading" if scorer is None else "ready"
        self.failure: BaseException | None = None
        self.on_death: Callable[[], None] = lambda: None
        self.on_failing: Callable[[Callable[[], Refusal]], None] = lambda _: None
        self._scorer: StepScorer | None = None
        self._max_waiting = max_waiting
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: Waiting[Solution | _Work] = Waiting(UNKNOWN)
        self._stream: Stream | None = None
        self._scoring: set[Ticket] = set()
        self._left: set[Ticket] = set()  # of which something may be under way
        self._read = 0  # tokens, by the model
        self._ended: Callable[[], Refusal] | None = None
        # Some libraries tie a model to the thread that used it first: it is loaded there too.
        self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="scorer")
        metrics.watch(lambda: len(self._waiting.requests), lambda: len(self._waiting))
        if scorer is not None:
            self._use(scorer)

    @property
    def batching(self) -> Batching:
        """What the model is handed at a time; work of more tokens is better done in parts."""
        return self._waiting.batching

    @property
    def name(self) -> str:
        """The model's name.

        Raises:
            Refusal: there is no model yet, or no longer.
        """
        return self._require().name

    def load(self, load: Callable[[], StepScorer]) -> None:
        """Load the model in its thread; `state` tells when that is done, or failed."""

        def work() -> None:
            try:
                self._use(load())
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
        """Refuse everything that has not been answered, and what is still to come."""
        self._fail(_stopped)

    def close(self, wait: float) -> bool:
        """Free the model; returns whether its thread got to it within so many seconds."""
        freed = self._thread.submit(self._free)
        self._thread.shutdown(wait=False)
        return not futures.wait([freed], wait).not_done

    async def score(
        self, batch: Sequence[Solution], request_id: str = ""
    ) -> tuple[list[Outcome], int]:
        """Score solutions: one outcome each, in order.

        Whoever stops waiting (is cancelled) takes those with him that have not been begun, or that
        an engine breaks off.

        Args:
            batch: at least one solution.
            request_id: under which the log tells of trouble.

        Returns:
            the outcomes, and how many tokens the model read (and wrote) for them: of a batch that
            was shared, their part by length.

        Raises:
            Refusal: no model is ready, too many wait, or the engine died.
        """
        ticket = Ticket(request_id, len(batch))
        with self._lock:
            self._admit()
            self._waiting.add(ticket, batch, [_cost(solution) for solution in batch])
        await self._served(ticket)
        return [outcome for outcome in ticket.outcomes if outcome is not None], ticket.tokens

    async def run(
        self,
        work: Callable[[StepScorer], T],
        *,
        cost: int = 1,
        request_id: str = "",
        admitted: bool = False,
    ) -> T:
        """Do a piece of work in the model's thread, once it is its turn.

        Whoever stops waiting (is cancelled) takes it with him unless it has been begun; then its
        result goes nowhere. An exception ends this request alone, unless the engine or its device
        is of no more use.

        Args:
            work: handed the scorer; others wait meanwhile.
            cost: about how many tokens the model will read, at least 1.
            request_id: under which the log tells of trouble.
            admitted: whether it belongs to something begun, which is not sent away for the number
                of those that wait.

        Returns:
            what the work returned.

        Raises:
            Refusal: see `score`; or the work raised.
        """
        ticket = Ticket(request_id)
        with self._lock:
            self._admit(begun=admitted)
            self._waiting.add(ticket, [_Work(work)], [cost], alone=True)
        found: T = await self._served(ticket)
        return found

    async def _served(self, ticket: Ticket) -> Any:
        self._thread.submit(self._work)
        try:
            return await ticket.done
        finally:
            with self._lock:
                self._waiting.drop(ticket)
                if ticket.missing:
                    self._left.add(ticket)

    def _require(self) -> StepScorer:
        if self._ended is not None:
            raise self._ended()
        if self._scorer is None:
            message = "the model is being loaded; try again later"
            raise Refusal(503, message, "", "loading", Retry_After="5")
        return self._scorer

    def _admit(self, *, begun: bool = False) -> None:
        self._require()
        if not begun and len(self._waiting.requests) >= self._max_waiting:
            message = f"{self._max_waiting} requests wait already; try again later"
            raise Refusal(503, message, "", "busy", Retry_After="1")

    # In the model's thread

    def _free(self) -> None:
        scorer, self._scorer = self._scorer, None
        if scorer is not None and hasattr(scorer, "close"):
            scorer.close()

    def _use(self, scorer: StepScorer) -> None:
        self._waiting.batching = getattr(scorer, "batching", UNKNOWN)
        if (found := flowing(scorer)) is not None:
            self._stream = Stream(found, self._metrics)
        self._read = _tokens(scorer)
        self._scorer = scorer

    def _work(self) -> None:
        try:
            while (entries := self._take()) or self._stream:
                self._go_on(entries)
        except BaseException as error:  # noqa: BLE001 - the server ends with it
            self._die(error)

    def _go_on(self, entries: list[_Entry]) -> None:
        """Begin what was taken; where more may join it, do not wait for its end."""
        scorer, stream = self._scorer, self._stream
        assert scorer is not None
        work = entries[0].item if entries else None
        if isinstance(work, _Work):
            self._do(scorer, work, entries.pop().request)
        elif stream is None:
            self._score(scorer, entries)
        if stream is None:
            return
        for entry in entries:
            stream.begin(entry)
        # What ended during the work is not to wait for more to end.
        ended = stream.advance(wait=not isinstance(work, _Work))
        self._count(scorer)
        for entry, outcome, tokens in ended:
            entry.request.add(entry.index, outcome, tokens)

    def _score(self, scorer: StepScorer, entries: list[_Entry]) -> None:
        began = time.monotonic()
        outcomes = outcomes_of(
            scorer,
            [entry.item for entry in entries if isinstance(entry.item, Solution)],
            [entry.request.request_id for entry in entries],
        )
        self._metrics.batch(len(entries), time.monotonic() - began)
        self._give(entries, outcomes, self._count(scorer))

    def _do(self, scorer: StepScorer, work: _Work, ticket: Ticket) -> None:
        began = time.monotonic()
        try:
            found = work.do(scorer)
        except EngineError:
            raise
        except Exception as error:
            if unrecoverable(error):
                raise EngineError(f"the device failed ({type(error).__name__})") from error
            log_failure(log, "a request's work failed", error, ticket.request_id)
            message = f"the server failed; its log tells of {ticket.request_id}"
            found = Refusal(500, message, "", "internal")
        self._metrics.work(time.monotonic() - began)
        self._count(scorer)
        ticket.wake(found)

    def _count(self, scorer: StepScorer) -> int:
        """How many tokens the model has read since the last call, which are counted now."""
        read = _tokens(scorer)
        new, self._read = read - self._read, read
        self._metrics.tokens(new)
        return new

    def _take(self) -> list[_Entry]:
        """What is begun next; empty where nothing waits, or where what goes on leaves no room."""
        stream = self._stream
        with self._lock:
            if stream:
                stream.drop(stream.tickets if self._ended is not None else self._left)
            self._left = set()
            entries = self._waiting.take(stream.held if stream else 0)
            self._scoring = {entry.request for entry in entries}
            if stream:
                self._scoring |= stream.tickets
            return entries

    def _give(self, entries: list[_Entry], outcomes: list[Outcome], tokens: int) -> None:
        """Bring outcomes to their requests."""
        shares = shared_out(tokens, [entry.cost for entry in entries])
        for entry, outcome, share in zip(entries, outcomes, shares, strict=True):
            entry.request.add(entry.index, outcome, share)

    def _die(self, error: BaseException) -> None:
        if not isinstance(error, EngineError):
            log_failure(log, "the scorer died", error)
        self.failure = error
        self.state = "dead"
        self._stream = None
        self._fail(_dead)
        self.on_death()

    def _fail(self, why: Callable[[], Refusal]) -> None:
        with self._lock:
            self._ended = why
            tickets = {*self._waiting.requests, *self._scoring}
            self._waiting.clear()
            self._scoring = set()
        for ticket in tickets:
            assert isinstance(ticket, Ticket)
            ticket.wake(why())
        self.on_failing(why)


def _tokens(scorer: StepScorer) -> int:
    """How many tokens the model has read so far."""
    return int(getattr(scorer, "tokens", 0))


def tokens_of(*texts: str) -> int:
    """About how many tokens texts have, at least 1."""
    return 1 + sum(len(text.encode()) for text in texts) // BYTES_PER_TOKEN


def _cost(solution: Solution) -> int:
    return tokens_of(solution.problem, *solution.steps, solution.reference or "")


def _dead() -> Refusal:
    return Refusal(503, "the engine died; the server ends", "", "dead", Retry_After="30")


def _stopped() -> Refusal:
    return Refusal(503, "the server ends before this is done", "", "draining", Retry_After="5")
