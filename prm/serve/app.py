"""The HTTP interface of a step scorer: `/v1/prm/score`, `/v1/rerank`, `/health`.

A request passes the gate (id, key, size), is decoded strictly (`prm.serve.schemas`), waits
its turn and is scored in the one thread that may touch the model. Every refusal has the shape
`{"error": {"message", "where", "type"}}`. No log line holds text of a request.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import traceback
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from annotate.pieces import split_steps
from prm.records import Failure, Solution
from prm.score import StepScorer
from prm.search.aggregate import aggregate
from prm.serve.schemas import (
    ErrorResponse,
    Health,
    Limits,
    Refusal,
    RerankRequest,
    RerankResponse,
    RerankResult,
    ScoreRequest,
    ScoreResponse,
    ScoreResult,
    StepsDocument,
    TextDocument,
)

T = TypeVar("T")

log = logging.getLogger("prm.serve")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse} for status in (400, 401, 413, 422, 500, 503)
}


def _answer(refusal: Refusal) -> JSONResponse:
    body = ErrorResponse(error=refusal.problem)
    return JSONResponse(body.model_dump(), refusal.status, refusal.headers)


def _gone() -> Refusal:
    return Refusal(499, "the client left", "", "gone")  # nobody reads it


class Gate:
    """What holds for every request: an id, the key, a size, and no traceback for an answer.

    Args:
        app: what stands behind the gate.
        key: the key that all but `/health` must show; None lets everybody in.
        max_body_bytes: the most that is read of a body, whatever its headers say.
    """

    def __init__(self, app: ASGIApp, *, key: str | None, max_body_bytes: int) -> None:
        self._app = app
        self._key = None if key is None else key.encode()
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            self._check_key(scope)
            body = await self._read(receive)
            await self._app(scope, _replay(body, receive), send_with_id)
        except Refusal as refusal:
            await _answer(refusal)(scope, receive, send_with_id)
        except Exception as error:  # noqa: BLE001 - the last resort; logged, the server lives on
            # An exception's message may quote the request: only its type and place are logged.
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("request %s failed: %s\n%s", request_id, type(error).__name__, frames)
            broken = Refusal(
                500, f"the server failed; its log tells of {request_id}", "", "internal"
            )
            await _answer(broken)(scope, receive, send_with_id)

    def _check_key(self, scope: Scope) -> None:
        if self._key is None or scope["path"] == "/health":
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
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _gone()
            body += message.get("body", b"")
            if len(body) > self._max_body_bytes:
                limit = f"more than {self._max_body_bytes} bytes; send fewer items at a time"
                raise Refusal(413, limit, "body", "too_large")
            if not message.get("more_body", False):
                return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


class Queue:
    """Lets one piece of work at a time reach the model, in the order of arrival.

    Args:
        max_waiting: how many may wait; further ones are refused.
    """

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._present = 0
        self._turn = asyncio.Lock()
        # A model is not reentrant, and some libraries tie it to the thread that used it first.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")

    async def run(self, request: Request, work: Callable[[], T]) -> T:
        """Do `work` when its turn comes.

        Raises:
            Refusal: too many wait, or the client has left meanwhile.
        """
        if self._present > self._max_waiting:
            message = f"{self._max_waiting} requests wait already; try again later"
            raise Refusal(503, message, "", "busy", Retry_After="1")
        self._present += 1
        try:
            async with self._turn:
                if await request.is_disconnected():
                    raise _gone()
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._present -= 1


def make_app(scorer: StepScorer, limits: Limits, key: str | None = None) -> FastAPI:
    """The application around a scorer.

    Args:
        scorer: what scores; used by one thread at a time.
        limits: how much a request may ask for.
        key: the key that clients must show; None asks for none.
    """
    app = FastAPI(
        title="Aurora PRM",
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
    )
    # The gate checks the key; this only tells the OpenAPI page that there is one.
    documented = [] if key is None else [Depends(HTTPBearer(auto_error=False))]
    v1 = APIRouter(prefix="/v1", dependencies=documented, responses=_REFUSALS)
    app.add_middleware(Gate, key=key, max_body_bytes=limits.max_body_bytes)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    queue = Queue(limits.max_waiting)

    @app.get("/health")
    async def health() -> Health:
        return Health()

    @v1.post("/prm/score")
    async def score(body: ScoreRequest, request: Request) -> ScoreResponse:
        limits.check_count(len(body.items), "items")
        batch = []
        for index, item in enumerate(body.items):
            where = f"items.{index}"
            limits.check_item(where, item.steps, item.question, item.reference)
            batch.append(_solution(where, item.question, item.steps, item.reference))
        outcomes = await queue.run(request, partial(_outcomes, scorer, batch))
        results = [
            ScoreResult.of(item.id, outcome, body.aggregation)
            for item, outcome in zip(body.items, outcomes, strict=True)
        ]
        return ScoreResponse(model=scorer.name, results=results)

    @v1.post("/rerank", response_model_exclude_none=True)
    async def rerank(body: RerankRequest, request: Request) -> RerankResponse:
        if body.model not in (None, scorer.name):
            message = f"no such model here; name {scorer.name!r}, or leave the field out"
            raise Refusal(422, message, "model", "invalid_request")
        limits.check_count(len(body.documents), "documents")
        for index, document in enumerate(body.documents):
            texts = document.steps if isinstance(document, StepsDocument) else [document.text]
            limits.check_item(f"documents.{index}", texts, body.query, body.reference)
        results = await queue.run(request, partial(_rank, scorer, body, limits))
        return RerankResponse(id=request.state.request_id, model=scorer.name, results=results)

    app.include_router(v1)
    return app


def _solution(where: str, question: str, steps: Sequence[str], reference: str | None) -> Solution:
    # The caller's id need not be unique; the place in the request is.
    return Solution(
        id=where, problem=question, steps=tuple(steps), answer=reference, reference=reference
    )


def _outcomes(scorer: StepScorer, batch: Sequence[Solution]) -> list[list[float] | str]:
    """For each solution one score per step, or the reason why there are none."""
    outcomes: list[list[float] | str] = []
    for solution, result in zip(batch, scorer.score_each(batch), strict=True):
        if isinstance(result, Failure):
            outcomes.append(result.reason)
        elif len(result.scores) != len(solution.steps):
            outcomes.append(f"{len(result.scores)} scores for {len(solution.steps)} steps")
        else:
            outcomes.append(list(result.scores))
    return outcomes


def _rank(scorer: StepScorer, body: RerankRequest, limits: Limits) -> list[RerankResult]:
    batch = []
    for index, document in enumerate(body.documents):
        where = f"documents.{index}"
        steps = split_steps(document.text) if isinstance(document, TextDocument) else document.steps
        limits.check_item(where, steps)  # what the splitter found has not been counted yet
        batch.append(_solution(where, body.query, steps, body.reference))
    results: list[RerankResult] = []
    for index, outcome in enumerate(_outcomes(scorer, batch)):
        if isinstance(outcome, str):
            message = f"cannot be scored: {outcome}"
            raise Refusal(422, message, f"documents.{index}", "unscorable")
        results.append(
            RerankResult(
                index=index,
                relevance_score=aggregate(outcome, body.aggregation),
                scores=outcome,
                document=body.documents[index] if body.return_documents else None,
            )
        )
    # The sort is stable: equal candidates keep the order of the request.
    return sorted(results, key=lambda result: -result.relevance_score)[: body.top_n]


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        message = f"not valid JSON: {first['ctx']['error']}"
        return _answer(Refusal(400, message, f"character {first['loc'][-1]}", "invalid_json"))
    # The name of a document's kind is no part of the request.
    path = [str(part) for part in first["loc"][1:] if not str(part).startswith("<")]
    message = first["msg"].removeprefix("Value error, ")
    if not path and first["type"] != "value_error":
        message = "send a JSON object with `Content-Type: application/json`"
    return _answer(Refusal(422, message, ".".join(path) or "body", "invalid_request"))


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = HTTPStatus(error.status_code).name.lower()
    refusal = Refusal(error.status_code, error.detail, "", kind)
    refusal.headers |= error.headers or {}
    return _answer(refusal)
