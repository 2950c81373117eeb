"""The engine for OpenAI-compatible servers, `vllm serve` and hosted models alike.

Each completion is a request of its own, as many under way as `concurrency` says. What
`prm.engines.dialects` puts in a server's words goes out through `prm.engines.endpoint`.

Without `endpoint.tokenizer` the server makes tokens out of texts, and one that spells a special
token could end its turn: such a request is not sent, and its completion says `unsafe_text`.

A `vllm serve` with `--reasoning-parser` heeds a regex only after thinking; where answers have
none, start it with `--structured-outputs-config.enable_in_reasoning true` too. It tells cached
tokens with `--enable-prompt-tokens-details`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from prm.engines.base import TOO_LONG, Completion, EngineConfig, Request
from prm.engines.dialects import Body, dialect
from prm.engines.endpoint import Endpoint, Refused
from prm.engines.errands import Errands
from prm.engines.flow import Flow
from prm.errors import EngineError

T = TypeVar("T")

UNSAFE = "unsafe_text"
"""The finish reason of a request that was not sent, because a text in it could forge a turn."""

_OURS = {"messages", "n", "prompt", "stream"}
"""Fields that decide what is asked, or how the answer reads."""

_FULL = re.compile(
    r"context[ _](length|size|window)|max_model_len|max_tokens must be at least 1, got 0", re.I
)
_CONTEXT = re.compile(r"context length is (\d+)|max_model_len=(\d+)", re.I)
_PROMPT = re.compile(
    r"(\d+) input tokens|(\d+) in the messages|resulted in (\d+) tokens|input length \((\d+)\)",
    re.I,
)
_FLAGGED = {"content_filter", "content_policy_violation", "invalid_prompt"}
"""Codes of servers that will not have a text in the request."""


@dataclass(frozen=True)
class Line:
    """Connections to an engine's servers, which belong to one event loop.

    Attributes:
        client: holds them.
        slots: room for as many requests as may be under way at once.
    """

    client: httpx.AsyncClient
    slots: asyncio.Semaphore


class OpenAIEngine:
    """Sends requests to the servers of `config.endpoint`.

    Args:
        config: its `options` are fields of every request; null leaves out one that would be sent
            (`temperature: null` for models that take none).

    Attributes:
        flow: see `FlowingEngine`.

    Raises:
        EngineError: the options or the key cannot be used.
        CheckpointError: the tokenizer cannot be read or does not suit (see `ChatEncoder`).
    """

    def __init__(self, config: EngineConfig) -> None:
        if config.endpoint is None:
            raise AssertionError("EngineConfig lets kind openai pass without an endpoint")
        taken = sorted(_OURS & set(config.options))
        if taken:
            raise EngineError(f"options holds {', '.join(taken)}, which a request decides itself")
        self.name = config.name
        self._options = config.options
        self._concurrency = config.endpoint.concurrency
        self._endpoint = Endpoint(config.endpoint, config.model)
        self._dialect = dialect(config.endpoint)
        self._flow_line: Line | None = None
        self._errands: Errands[Request, list[Completion]] = Errands(self._one, self._hang_up)
        self.flow: Flow[Request, list[Completion], Any] = Flow(self._errands)

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """See `Engine.generate`; on connections of its own, so from any thread."""
        return _run(self._generate(requests))

    def line(self) -> Line:
        """A line for `generate_on`; whoever is done with it closes its client."""
        return Line(self._endpoint.client(), asyncio.Semaphore(self._concurrency))

    async def generate_on(self, line: Line, requests: Sequence[Request]) -> list[list[Completion]]:
        """As `generate`, for an event loop, on a line that calls may share.

        Where it is cancelled or one request fails, all others of this call are broken off.
        """

        async def answer(request: Request, sample: int) -> Completion:
            async with line.slots:
                return await self._answer(line.client, request, sample)

        tasks = [
            [asyncio.create_task(answer(request, sample)) for sample in range(request.n)]
            for request in requests
        ]
        every = [task for own in tasks for task in own]
        try:
            await asyncio.gather(*every)
        finally:
            for task in every:
                task.cancel()
            await asyncio.gather(*every, return_exceptions=True)
        return [[task.result() for task in own] for own in tasks]

    def close(self) -> None:
        """Close the connections of `flow`; each `generate` closes its own."""
        self._errands.close()

    async def _one(self, request: Request) -> list[Completion]:
        """Answer a request of `flow`, in its event loop."""
        if self._flow_line is None:
            self._flow_line = self.line()
        (found,) = await self.generate_on(self._flow_line, [request])
        return found

    async def _hang_up(self) -> None:
        if self._flow_line is not None:
            await self._flow_line.client.aclose()
            self._flow_line = None

    async def _generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        line = self.line()
        async with line.client:
            return await self.generate_on(line, requests)

    async def _answer(self, client: httpx.AsyncClient, request: Request, sample: int) -> Completion:
        """One of a request's completions.

        Servers tell usage for all completions of a request together, and an answer that got lost
        would have to be asked for with all the others.
        """
        if self._dialect.unsafe(request):
            return _nothing(UNSAFE)
        body = self._body(request, sample)
        group = request.group or repr(request.messages)
        while True:
            try:
                return await self._endpoint.post(
                    client,
                    self._dialect.path,
                    body,
                    lambda found: self._dialect.read(request, found),
                    group=group,
                )
            except Refused as refused:
                room = self._room(refused, body)
                if room is None:
                    return self._refused(refused, body)
                body[self._dialect.limit] = room

    def _body(self, request: Request, sample: int) -> Body:
        body = self._dialect.body(request)
        body |= {"model": self.name, "temperature": request.temperature, "top_p": request.top_p}
        if request.temperature > 0 and request.seed is not None:
            body["seed"] = request.seed + sample
        return {key: value for key, value in (body | self._options).items() if value is not None}

    def _room(self, refused: Refused, body: Body) -> int | None:
        """To how many tokens a completion must be cut, where that is all the server minds.

        A completion ends with the context, but servers differ in whether one may ask for more.
        """
        context = _number(_CONTEXT, refused.message)
        if context is None:
            return None
        room = context - _prompt_tokens(refused, body)
        return room if 1 <= room < body.get(self._dialect.limit, 0) else None

    def _refused(self, refused: Refused, body: Body) -> Completion:
        """What a refusal of a request says of it."""
        if refused.code in _FLAGGED:
            return _nothing("content_filter")
        too_long = refused.status == 413 or refused.code == "context_length_exceeded"
        if too_long or (refused.status == 400 and _FULL.search(refused.message)):
            return _nothing(TOO_LONG, _prompt_tokens(refused, body))
        raise EngineError(
            f"{self.name}: its server refuses a request: {refused.status}: {refused.message}"
        ) from None


def _nothing(reason: str, prompt_tokens: int = 0) -> Completion:
    return Completion(
        text="", finish_reason=reason, prompt_tokens=prompt_tokens, completion_tokens=0
    )


def _prompt_tokens(refused: Refused, body: Body) -> int:
    """How many the server counted; 0 where it does not say."""
    return len(body.get("prompt", ())) or _number(_PROMPT, refused.message) or 0


def _number(pattern: re.Pattern[str], message: str) -> int | None:
    """The number in the first match of a pattern with alternatives."""
    found = pattern.search(message)
    return int(found[found.lastindex]) if found and found.lastindex else None


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; in a thread of its own where an event loop is at work in this one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
