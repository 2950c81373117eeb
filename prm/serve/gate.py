"""What holds for every request: an id, the key, a size, a time, a line in the log, and no
traceback for an answer.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
import uuid
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prm.serve.desk import left
from prm.serve.logs import log_failure
from prm.serve.metrics import Metrics
from prm.serve.schemas import ErrorResponse, Limits, Refusal

log = logging.getLogger("prm.serve")

OPEN = frozenset({"/", "/health", "/ready"})
"""What needs no key: a supervisor asks, or a browser, for a page that holds no data."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Gate:
    """The middleware before all routes.

    Args:
        app: what stands behind the gate.
        key: the key that all but `OPEN` must show; None lets everybody in.
        limits: of size and time; a body is never read beyond, whatever its headers say.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, *, key: str | None, limits: Limits, metrics: Metrics) -> None:
        self._app = app
        self._key = None if key is None else key.encode()
        self._limits = limits
        self._metrics = metrics
        self._paths: frozenset[str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        account = {"items": 0, "steps": 0, "tokens": 0}
        scope.setdefault("state", {}).update(request_id=request_id, account=account)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if account["tokens"]:  # what the model read; of a stream it is not known yet
                    headers["X-PRM-Tokens"] = str(account["tokens"])
            await send(message)

        try:
            self._check_key(scope)
            body = await self._read(receive)
            await self._app(scope, _replay(body, receive), send_with_id)
        except Refusal as refusal:
            await answer(refusal)(scope, receive, send_with_id)
        except Exception as error:  # noqa: BLE001 - the last resort; logged, the server lives on
            log_failure(log, "a request failed", error, request_id)
            broken = Refusal(
                500, f"the server failed; its log tells of {request_id}", "", "internal"
            )
            await answer(broken)(scope, receive, send_with_id)
        finally:
            seconds = time.monotonic() - began
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = self._route(scope)
            self._metrics.request(method, route, status, seconds)
            line = {"id": request_id, "method": method, "route": route, "status": status}
            line |= {"ms": round(1000 * seconds, 1), **account}
            log.info("request", extra={"fields": line})

    def _route(self, scope: Scope) -> str:
        """The path, if it is one of ours: others are a client's words."""
        if self._paths is None:
            routes = scope["app"].routes
            self._paths = frozenset(str(getattr(route, "path", "")) for route in routes)
        return scope["path"] if scope["path"] in self._paths else "other"

    def _check_key(self, scope: Scope) -> None:
        if self._key is None or scope["path"] in OPEN:
            return
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(
            given.strip().encode("latin-1"), self._key
        ):
            message = "no valid key; send `Authorization: Bearer KEY`"
            raise Refusal(
                401, message, "header Authorization", "unauthorized", WWW_Authenticate="Bearer"
            )

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        most = self._limits.max_body_bytes
        try:
            async with asyncio.timeout(self._limits.max_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise left()
                    body += message.get("body", b"")
                    if len(body) > most:
                        limit = f"more than {most} bytes; send fewer items at a time"
                        raise Refusal(413, limit, "body", "too_large")
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            limit = f"not here within {self._limits.max_seconds} s; send it faster, or in parts"
            raise Refusal(408, limit, "body", "timeout") from None


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def answer(refusal: Refusal) -> JSONResponse:
    """The response that tells of a refusal."""
    body = ErrorResponse(error=refusal.problem)
    return JSONResponse(body.model_dump(), refusal.status, refusal.headers)


def invalid(request: Request, error: Exception) -> JSONResponse:
    """The answer to a body or a query that is not what its route takes."""
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = error.errors()[0]
    if first["type"] == "json_invalid":
        message = f"not valid JSON: {first['ctx']['error']}"
        return answer(Refusal(400, message, f"character {first['loc'][-1]}", "invalid_json"))
    # The name of a document's kind is no part of the request.
    path = [str(part) for part in first["loc"][1:] if not str(part).startswith("<")]
    message = first["msg"].removeprefix("Value error, ")
    if not path and first["type"] != "value_error":
        message = "send a JSON object with `Content-Type: application/json`"
    where = ".".join(path) or "body"
    if first["loc"][0] == "query":
        where = f"query parameter {where}"
    return answer(Refusal(422, message, where, "invalid_request"))


def http_error(request: Request, error: Exception) -> JSONResponse:
    """The answer where there is no such route or method."""
    assert isinstance(error, HTTPException)
    kind = HTTPStatus(error.status_code).name.lower()
    refusal = Refusal(error.status_code, error.detail, "", kind)
    refusal.headers |= error.headers or {}
    return answer(refusal)
