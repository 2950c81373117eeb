"""What a request holds while it waits for the model's thread."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from prm.serve.outcomes import Outcome
from prm.serve.schemas import Refusal


class Ticket:
    """A request's solutions, or a piece of its work: how far they are, and who waits for them.

    Made in the event loop of whoever waits.

    Args:
        request_id: under which the log tells of trouble.
        count: how many solutions there are.

    Attributes:
        outcomes: of the solutions; those of `missing` ones are still to come.
        tokens: that the model read for them so far.
        done: gets the work's result; None for solutions.
    """

    def __init__(self, request_id: str, count: int = 0) -> None:
        self.request_id = request_id
        self.outcomes: list[Outcome | None] = [None] * count
        self.missing = count
        self.tokens = 0
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Any] = self._loop.create_future()

    def add(self, index: int, outcome: Outcome, tokens: int) -> None:
        """Enter a solution's outcome; with the last one the request is done."""
        self.outcomes[index] = outcome
        self.tokens += tokens
        self.missing -= 1
        if self.missing == 0:
            self.wake(None)

    def wake(self, found: Any) -> None:
        """Hand over a result, or a `Refusal`, from any thread; whoever left misses nothing."""

        def wake() -> None:
            if self.done.done():
                return  # the client left, or was refused
            if isinstance(found, Refusal):
                self.done.set_exception(found)
            else:
                self.done.set_result(found)

        with contextlib.suppress(RuntimeError):  # the loop has ended, and its clients with it
            self._loop.call_soon_threadsafe(wake)
