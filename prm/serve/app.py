"""The HTTP interface of a step scorer.

A request passes the gate (id, key, size, time), is decoded strictly, waits its turn at the batcher
and is scored in the one thread that may touch the model. Every refusal has the shape
`{"error": {"message", "where", "type"}}`. No log line and no metric holds text of a request.

| route | |
|---|---|
| `POST /v1/prm/score` | a score for every step (`prm.serve.score`) |
| `POST /v1/rerank`, `/v2/rerank` | candidates, best first (`prm.serve.rerank`) |
| `POST /get_reward` | OpenRLHF's remote reward (`prm.serve.reward`) |
| `POST /v1/chat/completions` | the best of N answers of a policy (`prm.serve.chat`) |
| `POST /v1/prm/search` | a step search with a policy, told of as it goes (`prm.serve.search`) |
| `GET /v1/models` | what requests may name (`prm.serve.models`) |
| `GET /` | a page to try it on (`prm.serve.playground`) |
| `GET /health` | the process lives |
| `GET /ready` | it can score: 503 while the model loads, on the way down, or once it died |
| `GET /metrics` | Prometheus |
| `GET /docs`, `/openapi.json` | the interface, from this machine alone |
"""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from prm.serve import chat, models, playground, rerank, reward, score, search
from prm.serve.desk import Desk
from prm.serve.gate import Gate, http_error, invalid
from prm.serve.schemas import REFUSALS, ErrorResponse, Health, Ready, Refusal

ROUTERS = (
    score.router,
    rerank.router,
    reward.router,
    chat.router,
    search.router,
    models.router,
)
"""What is served behind the key; each makes its routes for a desk."""


def make_app(desk: Desk, key: str | None = None) -> FastAPI:
    """The application around a desk.

    Args:
        desk: the limits, and the way to the model.
        key: the key that clients must show; None asks for none.
    """
    # FastAPI's own page loads its script from elsewhere.
    app: FastAPI = FastAPIOffline(title="Aurora PRM", redoc_url=None, redirect_slashes=False)
    # The gate checks the key; this only tells the OpenAPI page that there is one.
    documented = [] if key is None else [Depends(HTTPBearer(auto_error=False))]
    app.add_middleware(Gate, key=key, limits=desk.limits, metrics=desk.metrics)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.include_router(_probes(desk))
    app.include_router(playground.router(desk, keyed=key is not None))
    app.include_router(_metrics(desk), dependencies=documented)
    for make in ROUTERS:
        app.include_router(make(desk), dependencies=[*documented, Depends(_no_other_parameters)])
    return app


def _no_other_parameters(request: Request) -> None:
    """Refuse what a `POST`'s query string holds and its route does not take: it would do nothing.

    A `GET` does the same with it or without, and probes and caches add some of their own.

    Raises:
        Refusal: with the parameter's name.
    """
    if request.method != "POST":
        return
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    for name in request.query_params:
        if name not in known:
            takes = f"; known: {', '.join(sorted(known))}" if known else "; it takes none"
            where = f"query parameter {name[:64]}"
            raise Refusal(422, f"unknown query parameter{takes}", where, "invalid_request")


def _probes(desk: Desk) -> APIRouter:
    routes = APIRouter()

    @routes.get("/health")
    async def health() -> Health:
        return Health()

    @routes.get("/ready", responses={503: {"model": ErrorResponse}})
    async def ready() -> Ready:
        state = desk.batcher.state
        if state != "ready":
            raise Refusal(503, f"not ready: {state}", "", state, Retry_After="5")
        return Ready()

    return routes


def _metrics(desk: Desk) -> APIRouter:
    routes = APIRouter(responses={401: REFUSALS[401]})

    @routes.get(
        "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}
    )
    async def metrics() -> Response:
        text = desk.metrics.text(ready=desk.batcher.state == "ready")
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return routes
