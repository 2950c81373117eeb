"""Requests to servers under way in a thread of their own, so that more may set out at any time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from prm.errors import EngineError

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")

PATIENCE = 0.05
"""Seconds that `advance` waits for an answer: so long may others have to wait to set out."""


class Errands(Generic[Ask, Answer]):
    """A `Feed` whose requests are coroutines. For one thread.

    Args:
        run: answers a request; called in the event loop of the thread.
        close: called there at the end.
    """

    def __init__(
        self,
        run: Callable[[Ask], Coroutine[Any, Any, Answer]],
        close: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._run = run
        self._close = close
        self._numbers = count()
        self._under_way: dict[int, Future[Answer]] = {}
        self._back: SimpleQueue[int] = SimpleQueue()
        self._thread: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None

    def begin(self, ask: Ask, /) -> int:
        """See `Feed.begin`."""
        number = next(self._numbers)
        errand = asyncio.run_coroutine_threadsafe(self._run(ask), self._started())
        self._under_way[number] = errand
        errand.add_done_callback(lambda _: self._back.put(number))
        return number

    def advance(self) -> list[tuple[int, Answer | Exception]]:
        """See `Feed.advance`.

        Raises:
            EngineError: a request found its servers gone.
        """
        found: list[tuple[int, Answer | Exception]] = []
        while self._under_way:
            try:
                number = self._back.get(block=not found, timeout=PATIENCE)
            except Empty:
                break
            errand = self._under_way.pop(number, None)
            if errand is None:  # it was dropped
                continue
            try:
                found.append((number, errand.result()))
            except EngineError:
                raise
            except Exception as error:  # noqa: BLE001 - it is this request's answer
                found.append((number, error))
        return found

    def drop(self, number: int, /) -> None:
        """See `Feed.drop`."""
        if errand := self._under_way.pop(number, None):
            errand.cancel()

    def close(self) -> None:
        """Break off what is under way, and end the thread."""
        for number in [*self._under_way]:
            self.drop(number)
        if self._thread is not None:
            loop, thread = self._thread
            self._thread = None
            try:
                asyncio.run_coroutine_threadsafe(self._end(), loop).result()
            finally:
                loop.call_soon_threadsafe(loop.stop)
                thread.join()
                loop.close()

    async def _end(self) -> None:
        # What was broken off gives back its connections first.
        broken_off = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*broken_off, return_exceptions=True)
        await self._close()

    def _started(self) -> asyncio.AbstractEventLoop:
        """The thread's event loop; it begins with the first request."""
        if self._thread is None:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="errands", daemon=True)
            self._thread = loop, thread
            thread.start()
        return self._thread[0]
