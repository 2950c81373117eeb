"""The server as a process: connections that keep a client waiting no longer than need be, and an
end that loses nothing.

SIGTERM or SIGINT: `/ready` turns false, no further connection is taken, idle ones are closed, and
requests that were accepted are answered; what is not done after the time that was given gets a
503. An engine that died ends the server in the same way, but as a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from prm.serve.batcher import Batcher

AFTERWARDS = 5.0
"""Seconds that answers already written have to reach their clients, and that the model's thread has
to end, once the time to drain is over."""


def serve(
    app: FastAPI, batcher: Batcher, listener: socket.socket, *, drain: float, patience: float
) -> None:
    """Serve until a signal comes or the engine dies.

    Args:
        app: see `make_app`.
        batcher: the one that `app` uses.
        listener: a bound socket.
        drain: seconds that requests have to end in.
        patience: seconds that the head of a request may take to arrive.

    Raises:
        BaseException: what made the engine die.
    """
    config = uvicorn.Config(
        app,
        # h11 bounds what it holds of a head that does not end; the faster parser does not.
        http=_protocol(patience),
        ws="none",
        lifespan="off",
        log_config=None,
        # It would hold query strings, which are the client's text.
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than clients keep idle connections, so that they end them
        timeout_graceful_shutdown=int(drain + AFTERWARDS),
    )
    with contextlib.suppress(KeyboardInterrupt):
        _Server(config, batcher, drain).run(sockets=[listener])
    failure = batcher.failure
    if not batcher.close(AFTERWARDS):
        # At once, and the model's thread with it: Python would wait for what that is at.
        if failure is not None:
            print(f"prm serve: {failure}", file=sys.stderr)
        for child in multiprocessing.active_children():
            child.kill()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0 if failure is None else 2)
    if failure is not None:
        raise failure


class _Server(uvicorn.Server):
    """Tells the batcher of the end, and the other way round."""

    def __init__(self, config: uvicorn.Config, batcher: Batcher, drain: float) -> None:
        super().__init__(config)
        self._batcher = batcher
        self._drain = drain
        batcher.on_death = self._died
        if batcher.failure is not None:  # while nobody listened: a model that cannot be loaded
            self._died()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not uvicorn's own, which raises the signal again in the end: to stop is no failure.
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
            return
        self._batcher.drain()
        if not self.should_exit:
            self._loop.call_soon_threadsafe(
                self._loop.call_later, self._drain, self._batcher.give_up
            )
        self.should_exit = True

    def _died(self) -> None:
        self.should_exit = True


def _protocol(patience: float) -> type[H11Protocol]:
    """uvicorn's protocol, which waits for ever for what drips in; this does not.

    It waits for so many seconds where a head has begun, or the rest of a body comes that was
    refused already. The body of a request under way has a time of its own (`Gate`), and a
    connection on which nothing comes is closed by uvicorn.
    """

    class Protocol(H11Protocol):
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect()

        def connection_lost(self, exc: Exception | None) -> None:
            self._expect_nothing()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._expect_nothing()
            elif self._late is None:
                self._expect()

        def _expect(self) -> None:
            self._late = self.loop.call_later(patience, self.transport.close)

        def _expect_nothing(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

    return Protocol
