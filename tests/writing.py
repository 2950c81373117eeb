"""A policy's server for tests of searches: any engine behind OpenAI's interface."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

from endpoint import Plan, Server, no_fault
from fastapi import Request, Response

from prm import engines
from prm.engines import Engine

STEPS = 4


def write(request: engines.Request) -> str:
    """Three steps and an answer that is often wrong, all by the seed."""
    text = ""
    for index in range(request.prefill.count("\n\n"), STEPS):
        draw = hashlib.sha256(f"{request.seed} {index}".encode()).digest()[0]
        step = f"Step {index} goes by way {draw % 3}.\n\n"
        text += f"The answer is {draw % 3 + 4}." if index == STEPS - 1 else step
    return text


class Writer(Server):
    """Answers as an engine does; holds requests that are to be held until their client leaves.

    Attributes:
        held: tells of a request's number, from 0, whether it gets no answer.
        holding: requests without an answer whose clients wait.
        left: those whose clients left.
    """

    def __init__(self, engine: Engine, plan: Plan = no_fault, *, delay: float = 0.0) -> None:
        super().__init__(plan, delay=delay)
        self.held: Callable[[int], bool] = lambda number: False
        self.holding = self.left = 0
        self._engine = engine

    async def _answer(self, request: Request) -> Response:
        if not self.held(len(self.requests)):
            return await super()._answer(request)
        await request.body()
        self.holding += 1
        while not await request.is_disconnected():
            await asyncio.sleep(0.005)
        self.holding -= 1
        self.left += 1
        return Response()

    def _right(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        asked = [engines.Message(**turn) for turn in body["messages"]]
        prefill = asked.pop().content if body.get("continue_final_message") else ""
        [[found]] = self._engine.generate(
            [
                engines.Request(
                    messages=tuple(asked),
                    prefill=prefill,
                    max_tokens=body["max_completion_tokens"],
                    temperature=body["temperature"],
                    top_p=body["top_p"],
                    seed=body.get("seed"),
                    stop=tuple(body.get("stop", ())),
                )
            ]
        )
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": found.text},
            "finish_reason": found.finish_reason,
            "stop_reason": found.stopped_at or None,
        }
        usage = {
            "prompt_tokens": found.prompt_tokens,
            "completion_tokens": found.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": found.cached_tokens},
        }
        return {"model": body["model"], "choices": [choice], "usage": usage}
