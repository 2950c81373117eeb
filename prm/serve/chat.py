"""`POST /v1/chat/completions`: the best of N answers of the policy, for clients of OpenAI.

The policy sees the whole chat; the reward model judges each answer as a solution of the last
message, which must be the user's. What thinking the policy's server parsed off is not judged.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from prm import engines
from prm.serve.candidates import drawn, in_order
from prm.serve.completions import (
    Answer,
    ChatChoice,
    ChatCompletion,
    ChatRequest,
    ChatUsage,
    Chosen,
)
from prm.serve.desk import Desk
from prm.serve.policy import Policy
from prm.serve.schemas import POLICY_REFUSALS, Limits, Refusal

TEMPERATURE = 0.8
"""Where a request names none: candidates are to differ."""


def router(desk: Desk) -> APIRouter:
    """The route."""
    routes = APIRouter(responses=POLICY_REFUSALS)
    streams: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}

    @routes.post("/v1/chat/completions", response_model=ChatCompletion, responses=streams)
    async def chat(body: ChatRequest, request: Request) -> Any:
        found = await _answer(desk, body, request)
        if not body.stream:
            return found
        usage = body.stream_options is not None and body.stream_options.include_usage
        return StreamingResponse(_events(found, usage), media_type="text/event-stream")

    return routes


async def _answer(desk: Desk, body: ChatRequest, request: Request) -> ChatCompletion:
    policy = desk.require_policy()
    scorer = desk.batcher.name  # what cannot be scored now need not be written
    asked, how = _asked(policy, desk.limits, body), body.best_of_n
    question = asked.messages[-1].content
    candidates, prompt, written = await drawn(desk, request, asked, question, how.aggregation)
    ranking = await in_order(
        candidates, how.aggregation, how.vote, question, answers=how.return_candidates
    )
    best = candidates[ranking[0]]
    assert best.reward is not None
    return ChatCompletion(
        id=f"chatcmpl-{request.state.request_id}",
        created=int(time.time()),
        model=policy.name,
        choices=[
            ChatChoice(index=place, message=Answer(content=candidates[index].text))
            for place, index in enumerate(ranking[: body.n or 1])
        ],
        usage=ChatUsage(
            prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written
        ),
        best_of_n=Chosen(
            index=ranking[0],
            reward=best.reward,
            aggregation=how.aggregation,
            vote=how.vote,
            ranking=ranking,
            scorer=scorer,
            scorer_tokens=request.state.account["tokens"],
            candidates=candidates if how.return_candidates else None,
        ),
    )


def _asked(policy: Policy, limits: Limits, body: ChatRequest) -> engines.Request:
    """What the policy is asked, once it is known to be within the limits."""
    if body.model not in (None, policy.name):
        message = f"no such model here; name {policy.name!r}, or leave the field out"
        raise Refusal(422, message, "model", "invalid_request")
    last = body.messages[-1]
    if last.role != "user" or not last.text.strip():
        message = "the last message must be the user's and hold text: it is the question"
        raise Refusal(422, message, f"messages.{len(body.messages) - 1}", "invalid_request")
    limits.check_item("messages", (), *(turn.text for turn in body.messages))
    count = limits.candidates if body.best_of_n.n is None else body.best_of_n.n
    if count > limits.max_candidates:
        message = f"{count} candidates, more than {limits.max_candidates}"
        raise Refusal(422, message, "best_of_n.n", "too_large")
    if (body.n or 1) > count:
        message = f"{body.n} answers out of {count} candidates; raise best_of_n.n"
        raise Refusal(422, message, "n", "invalid_request")
    temperature = TEMPERATURE if body.temperature is None else body.temperature
    if temperature == 0 and count > 1:
        message = f"0 writes the same {count} times; raise it, or set best_of_n.n to 1"
        raise Refusal(422, message, "temperature", "invalid_request")
    old = body.max_completion_tokens is None
    tokens = (body.max_tokens if old else body.max_completion_tokens) or limits.max_tokens
    if tokens > limits.max_tokens:
        message = f"{tokens} tokens for a candidate, more than {limits.max_tokens}"
        where = "max_tokens" if old else "max_completion_tokens"
        raise Refusal(422, message, where, "too_large")
    return engines.Request(
        messages=tuple(
            engines.Message(role=turn.role, content=turn.text) for turn in body.messages
        ),
        max_tokens=tokens,
        n=count,
        temperature=temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=tuple(body.stop or ()),
    )


def _events(found: ChatCompletion, usage: bool) -> Iterator[str]:
    """A finished answer as a stream; its last event with choices tells how it was chosen."""
    told = {"usage": None} if usage else {}
    last = len(found.choices) - 1
    for choice in found.choices:
        delta = choice.message.model_dump()
        yield _event(found, [_piece(choice.index, delta, None)], told)
        chosen = {"best_of_n": found.best_of_n.model_dump()} if choice.index == last else {}
        yield _event(found, [_piece(choice.index, {}, choice.finish_reason)], told | chosen)
    if usage:
        yield _event(found, [], {"usage": found.usage.model_dump()})
    yield "data: [DONE]\n\n"


def _piece(index: int, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": reason}


def _event(found: ChatCompletion, choices: list[dict[str, Any]], beside: dict[str, Any]) -> str:
    chunk = {
        "id": found.id,
        "object": "chat.completion.chunk",
        "created": found.created,
        "model": found.model,
        "choices": choices,
    }
    return f"data: {json.dumps(chunk | beside)}\n\n"
