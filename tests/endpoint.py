"""A server that speaks OpenAI's HTTP interface, with no model behind it and faults on demand.

What it answers depends on the request's body alone, so two runs that ask the same get the same.
A plan may spoil answers: `faults(seed, rate)` is one that spoils some of every kind.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse


@dataclass(frozen=True)
class Fault:
    """How one answer is spoilt.

    Attributes:
        status: of HTTP.
        text: the whole body; None is the right answer.
        headers: that go with it.
        delay: seconds before it comes.
        keep: the share of the body that is sent, as if it were all.
        breaks_off: the connection ends in the middle of the body.
    """

    status: int = 200
    text: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    keep: float = 1.0
    breaks_off: bool = False


FAULTS = {
    "too many requests": Fault(429, '{"error": {"message": "slow down"}}', {"retry-after": "0"}),
    "server error": Fault(500, "Internal Server Error"),
    "a page": Fault(200, "<html><body>Sign in</body></html>"),
    "cut JSON": Fault(keep=0.5),
    "no choices": Fault(200, '{"choices": [], "usage": {}}'),
    "slow": Fault(delay=0.2),
    "closed connection": Fault(breaks_off=True),
}

Plan = Callable[[int, dict[str, Any]], Fault | None]
"""The fault of the n-th request (from 0), which has this body; None is no fault."""


def no_fault(number: int, body: dict[str, Any]) -> Fault | None:
    """A plan without faults."""
    return None


def faults(seed: int, rate: float) -> Plan:
    """A plan that spoils this share of the answers, each in one of all ways."""

    def plan(number: int, body: dict[str, Any]) -> Fault | None:
        chance = random.Random(f"{seed} {number}")
        return chance.choice(list(FAULTS.values())) if chance.random() < rate else None

    return plan


def first(*planned: Fault) -> Plan:
    """A plan that spoils the first answers."""
    return lambda number, body: planned[number] if number < len(planned) else None


def refusal(status: int, message: str, code: str | None = None) -> Fault:
    """An error as servers write it."""
    said = {"error": {"message": message, "type": "invalid_request_error", "code": code}}
    return Fault(status, json.dumps(said))


@dataclass(frozen=True)
class Seen:
    """A request, and when it came."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    at: float


class Server:
    """The server; `serving` runs one.

    Args:
        plan: what goes wrong.
        delay: seconds that every answer takes.
        names: names of a text's tokens where log-probabilities are asked for; one for each
            character by default.

    Attributes:
        url: its base url.
        requests: all that came, in order.
        most_at_once: the most requests that were under way together.
    """

    def __init__(
        self,
        plan: Plan = no_fault,
        *,
        delay: float = 0.0,
        names: Callable[[str], list[str]] = list,
    ) -> None:
        self.url = ""
        self.requests: list[Seen] = []
        self.most_at_once = 0
        self.plan = plan
        self._delay = delay
        self._names = names
        self._under_way = 0
        self._bells: list[tuple[int, threading.Event]] = []
        self.app = FastAPI()
        self.app.post("/v1/completions")(self._answer)
        self.app.post("/v1/chat/completions")(self._answer)

    def after(self, count: int) -> threading.Event:
        """An event that is set when this many more requests have come."""
        bell = threading.Event()
        self._bells.append((len(self.requests) + count, bell))
        return bell

    async def _answer(self, request: Request) -> Response:
        body = await request.json()
        number = len(self.requests)
        path = request.url.path.removeprefix("/v1/")
        self.requests.append(Seen(path, body, dict(request.headers), time.monotonic()))
        for count, bell in self._bells:
            if len(self.requests) >= count:
                bell.set()
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            fault = self.plan(number, body) or Fault()
            await asyncio.sleep(self._delay + fault.delay)
        finally:
            self._under_way -= 1
        text = json.dumps(self._right(path, body)) if fault.text is None else fault.text
        content = text.encode()[: int(len(text.encode()) * fault.keep)]
        if fault.breaks_off:
            return StreamingResponse(
                _broken(content), headers={"content-length": f"{len(content)}"}
            )
        return Response(content, fault.status, {"content-type": "application/json"} | fault.headers)

    def _right(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        text = reply(body)
        prompt = body.get("prompt") or re.findall(r"\S+", json.dumps(body["messages"]))
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
        if path == "completions":
            choice["text"] = text
        else:
            choice["message"] = {"role": "assistant", "content": text, "reasoning": "Let me see."}
        if body.get("logprobs"):
            choice["logprobs"] = _told(path, self._names(text))
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": len(text),
            "prompt_tokens_details": {"cached_tokens": len(prompt) // 2},
        }
        return {"model": body["model"], "choices": [choice], "usage": usage}


def reply(body: dict[str, Any]) -> str:
    """A text that depends on the body alone: a list of verdicts where a regex asks for one."""
    number = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()[0]
    asked = re.search(r'"(?:regex|pattern)": "(.*?[^\\])"', json.dumps(body))
    if asked is None:
        return f"The answer is {number}."
    steps = int((re.findall(r"\{(\d+)\}", asked[1]) or ["0"])[-1]) + 1
    verdicts = "[" + ",".join(str(number >> index % 8 & 1) for index in range(steps)) + "]"
    return json.dumps({"answer": verdicts}) if "response_format" in body else verdicts


def _told(path: str, names: list[str]) -> dict[str, Any]:
    """Every token with itself and another as alternatives."""
    if path == "completions":
        others = [{name: -0.25, "other": -1.5} for name in names]
        return {"tokens": names, "token_logprobs": [-0.25] * len(names), "top_logprobs": others}
    other = {"token": "other", "logprob": -1.5}
    return {
        "content": [
            {"token": name, "logprob": -0.25, "top_logprobs": [other, {**other, "logprob": -2.0}]}
            for name in names
        ]
    }


async def _broken(content: bytes) -> AsyncIterator[bytes]:
    yield content[: len(content) // 2]
    raise ConnectionError("as planned")


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Run a server on a free port, in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        config = uvicorn.Config(server.app, log_level="critical", lifespan="off")
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        try:
            while not running.started:
                time.sleep(0.01)
            yield server
        finally:
            running.should_exit = running.force_exit = True
            thread.join()
