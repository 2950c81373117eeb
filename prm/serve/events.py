"""Server-sent events: what a piece of work tells while it goes on.

Once the first byte of an answer is sent its status stands, so what fails later is an event too.
Source of the format: WHATWG HTML, section 9.2.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from prm.serve.logs import log_failure
from prm.serve.schemas import ErrorResponse, Problem, Refusal

log = logging.getLogger("prm.serve")

KEEP_ALIVE = 10.0
"""Seconds of silence after which a comment is sent: proxies end connections that seem idle."""

T = TypeVar("T")


class EventStream(StreamingResponse):
    """Models as events. However the answer ends, the work behind it has ended too.

    Args:
        request: whose answer it is; what failed stands in its account.
        events: the models, each with the name of its event. A `Refusal` that it raises is the
            event `error`, and the last.
    """

    media_type = "text/event-stream"

    def __init__(
        self, request: Request, events: AsyncGenerator[tuple[str, BaseModel], None]
    ) -> None:
        self._request = request
        self._events = events
        self._coming: asyncio.Task[tuple[str, BaseModel] | None] | None = None
        # nginx gathers answers unless it is told not to.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._texts(), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them, for as long as the client is there."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._coming is not None:
                self._coming.cancel()
                await asyncio.wait({self._coming})
            await self._events.aclose()

    async def _texts(self) -> AsyncIterator[str]:
        while True:
            # In a task, for the wait for it to end at times without ending it.
            self._coming = asyncio.create_task(following(self._events))
            while not (await asyncio.wait({self._coming}, timeout=KEEP_ALIVE))[0]:
                yield ": at work\n\n"
            try:
                event = self._coming.result()
            except Refusal as refusal:
                event = "error", self._failed(refusal.problem)
            except Exception as error:  # noqa: BLE001 - the last resort, as in `Gate`
                request_id = self._request.state.request_id
                log_failure(log, "a request failed", error, request_id)
                message = f"the server failed; its log tells of {request_id}"
                event = "error", self._failed(Problem(message=message, where="", type="internal"))
            if event is None:
                return
            name, model = event
            yield f"event: {name}\ndata: {model.model_dump_json()}\n\n"
            if name == "error":
                return

    def _failed(self, problem: Problem) -> ErrorResponse:
        self._request.state.account["error"] = problem.type
        return ErrorResponse(error=problem)


async def following(events: AsyncGenerator[T, None]) -> T | None:
    """What comes next, or None at the end; a coroutine, which `anext` is not."""
    return await anext(events, None)
