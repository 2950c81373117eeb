"""`POST /v1/prm/search`: a search of `prm solve` for one question, told of as it goes.

With the same settings, `id`, seed and models it finds what `prm solve` finds. As a stream, an
event `round` comes after each, then the `result`, or an `error` of the shape of all refusals;
comments in between keep the connection. A client that leaves ends its search.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request

from prm.records import Problem
from prm.search.online import SearchConfig
from prm.search.policy import WritingConfig
from prm.serve.course import Course, Places
from prm.serve.desk import Desk, until_gone
from prm.serve.events import EventStream, following
from prm.serve.schemas import POLICY_REFUSALS, Limits, Refusal
from prm.serve.searches import SearchRequest, SearchResult, SearchRound


def router(desk: Desk) -> APIRouter:
    """The route."""
    routes = APIRouter(responses=POLICY_REFUSALS)
    places = Places(desk.limits.max_searches)
    streams: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}

    @routes.post("/v1/prm/search", response_model=SearchResult, responses=streams)
    async def search(body: SearchRequest, request: Request) -> Any:
        desk.require_policy()
        way, writing = _settings(body, desk.limits)
        name = body.id or hashlib.sha256(body.question.encode()).hexdigest()[:16]
        problem = Problem(id=name, problem=body.question)
        events = Course(desk, request, problem, way, writing, body.seed).events(places)
        await until_gone(request, following(events))  # begun, or refused
        if body.stream:
            return EventStream(request, events)
        return await until_gone(request, _result(events))

    return routes


async def _result(
    events: AsyncGenerator[tuple[str, SearchRound | SearchResult], None],
) -> SearchRound | SearchResult:
    try:
        last = [found async for _, found in events][-1]
    finally:
        await events.aclose()
    return last


def _settings(body: SearchRequest, limits: Limits) -> tuple[SearchConfig, WritingConfig]:
    """What is asked for, once it is known to be within the limits.

    Raises:
        Refusal: it is not, or makes no sense.
    """
    steps = body.steps or min(40, limits.max_rounds)
    tokens = body.max_tokens or min(4096, limits.max_tokens)
    bounds = {"n": limits.max_candidates, "steps": limits.max_rounds}
    for name, most in (bounds | {"max_tokens": limits.max_tokens}).items():
        asked = getattr(body, name) or 0
        if asked > most:
            raise Refusal(422, f"{asked}, more than {most}", name, "too_large")
    limits.check_item("question", (), body.question, body.system, body.template)
    if body.temperature == 0 and body.n > 1:
        message = f"0 writes the same {body.n} times; raise it, or set n to 1"
        raise Refusal(422, message, "temperature", "invalid_request")
    try:
        way = SearchConfig(
            method=body.method,
            n=body.n,
            width=body.width,
            aggregation=body.aggregation,
            choice=body.choice,
            steps=steps,
        )
        writing = WritingConfig(
            system=body.system,
            template=body.template,
            boundaries=body.boundaries,
            step_tokens=body.step_tokens or min(512, tokens),
            max_tokens=tokens,
            temperature=body.temperature,
            top_p=body.top_p,
        )
    except ValueError as error:
        raise Refusal(422, str(error), "body", "invalid_request") from None
    return way, writing
