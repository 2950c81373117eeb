"""A test double: an engine whose answers a function writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from prm.engines.base import TOO_LONG, Completion, Request


class ScriptedEngine:
    """Answers with what `reply` says, under the rules of a real engine.

    A word counts as a token: `max_tokens` cuts words off, `stop` strings end the text. Real
    engines cannot break a regex, so a whole reply that does is a mistake of the test.

    Args:
        reply: called once per completion.
        name: the model's name.
        context: the most words a prompt may have; None is no limit.
        constrains: False is an engine that ignores `regex`.

    Attributes:
        calls: how often `generate` was called.
        requests: all requests so far, in order.
    """

    def __init__(
        self,
        reply: Callable[[Request], str],
        *,
        name: str = "scripted",
        context: int | None = None,
        constrains: bool = True,
    ) -> None:
        self.name = name
        self.calls = 0
        self.requests: list[Request] = []
        self._reply = reply
        self._context = context
        self._constrains = constrains

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """See `Engine.generate`."""
        self.calls += 1
        self.requests += requests
        return [[self._answer(request) for _ in range(request.n)] for request in requests]

    def close(self) -> None:
        """Nothing to free."""

    def _answer(self, request: Request) -> Completion:
        prompt = [*(message.content for message in request.messages), request.prefill]
        prompt_tokens = sum(len(text.split()) for text in prompt)
        if self._context is not None and prompt_tokens >= self._context:
            return Completion(
                text="", finish_reason=TOO_LONG, prompt_tokens=prompt_tokens, completion_tokens=0
            )
        text, finish_reason, stopped_at = self._reply(request), "stop", ""
        words = list(re.finditer(r"\S+", text))
        if len(words) > request.max_tokens:
            text, finish_reason = text[: words[request.max_tokens - 1].end()], "length"
        stops = [(at, stop) for stop in request.stop if (at := text.find(stop)) >= 0]
        if stops:
            at, stopped_at = min(stops)
            text, finish_reason = text[:at], "stop"
        if request.regex is not None and self._constrains and finish_reason == "stop":
            assert re.fullmatch(request.regex, text), f"{text!r} breaks {request.regex!r}"
        return Completion(
            text=text,
            finish_reason=finish_reason,
            prompt_tokens=prompt_tokens,
            completion_tokens=len(text.split()),
            stopped_at=stopped_at,
        )
