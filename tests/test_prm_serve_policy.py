"""The policy behind the server: what it is asked, how its faults are told, what is broken off."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any

import endpoint
import pytest
from endpoint import FAULTS, Fault, Server, refusal, serving

from prm import config
from prm.engines import TOO_LONG, Completion, EngineConfig, Message, Request
from prm.engines import endpoint as http
from prm.errors import ConfigError
from prm.serve.desk import Desk
from prm.serve.policy import Policy, PolicyEndpoint, PolicyEngine
from prm.serve.schemas import Limits, Refusal
from prm.serve.stage import Config


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_pause", http.wait_random_exponential(multiplier=0.001, max=0.01))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as running:
        yield running


def policy(*urls: str, **settings: Any) -> Policy:
    return Policy(PolicyEngine("writer", endpoint=PolicyEndpoint(list(urls), **settings)))


def ask(content: str = "What is 2 + 3?", n: int = 1, **settings: Any) -> Request:
    settings = {"max_tokens": 16, "temperature": 0.8, "seed": 0} | settings
    return Request(messages=(Message(role="user", content=content),), n=n, **settings)


def written(asked: Policy, *requests: Request) -> list[list[Completion]]:
    return asyncio.run(asked.generate(requests))


def refused(asked: Policy, *requests: Request) -> Refusal:
    with pytest.raises(Refusal) as caught:
        written(asked, *(requests or [ask()]))
    assert caught.value.problem.where == "policy"
    assert "\n" not in caught.value.problem.message
    return caught.value


class Silent:
    """A server that never answers; tells how many requests came, and how many were broken off."""

    def __init__(self) -> None:
        self.came = self.ended = 0

    async def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        self.came += 1
        while await reader.read(4096):
            pass
        self.ended += 1
        writer.close()

    def run(self, test: Callable[[str], Awaitable[None]]) -> None:
        async def work() -> None:
            listening = await asyncio.start_server(self._hold, "127.0.0.1", 0)
            async with listening:
                await test(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1")

        asyncio.run(work())

    async def all_ended(self) -> None:
        """What was under way at the time comes in late, and ends too."""
        async with asyncio.timeout(5):
            while self.ended != self.came:
                await asyncio.sleep(0.01)

    async def wait(self, *, came: int, ended: int) -> None:
        async with asyncio.timeout(5):
            while (self.came, self.ended) != (came, ended):
                await asyncio.sleep(0.01)


# The configuration


def test_a_model_and_a_url_are_enough() -> None:
    overrides = ["scorer.model=m", "policy.model=writer", "policy.endpoint.urls=[http://a]"]
    found = config.load(Config, None, overrides).policy
    assert found is not None
    assert found.endpoint is not None
    assert (found.kind, found.endpoint.retries, found.endpoint.timeout) == ("openai", 2, 300.0)
    assert Policy(found).name == "writer"


@pytest.mark.parametrize("kind", ["vllm", "transformers"])
def test_another_kind_is_refused_with_what_to_do(kind: Any) -> None:
    with pytest.raises(ConfigError, match=rf"policy.kind is '{kind}'.*`vllm serve`.*urls=") as told:
        Policy(EngineConfig("m", kind=kind))
    assert "\n" not in str(told.value)


def test_what_the_engine_refuses_is_a_configuration_error() -> None:
    wrong = PolicyEngine("m", endpoint=PolicyEndpoint(["http://a"]), options={"n": 3})
    with pytest.raises(ConfigError, match="policy: options holds n"):
        Policy(wrong)


# What it writes


def test_completions_come_in_order_and_differ_by_seed(server: Server) -> None:
    asked = policy(server.url)
    first, second = written(asked, ask("a", n=3, seed=5), ask("b"))
    assert [len(first), len(second)] == [3, 1]
    bodies = [seen.body for seen in server.requests]
    by_seed = {body["seed"]: endpoint.reply(body) for body in bodies if body["seed"] != 0}
    assert [one.text for one in first] == [by_seed[seed] for seed in (5, 6, 7)]
    assert written(asked, ask("a", n=3, seed=5)) == [first]  # in another event loop, too


def test_concurrency_is_of_all_calls_together() -> None:
    with serving(Server(delay=0.05)) as server:
        asked = policy(server.url, concurrency=2)

        async def both() -> None:
            await asyncio.gather(asked.generate([ask(n=4)]), asked.generate([ask("b", n=4)]))

        asyncio.run(both())
        assert (server.most_at_once, len(server.requests)) == (2, 8)


def test_calls_and_tokens_are_counted(server: Server) -> None:
    desk = Desk(None, Limits(), policy=policy(server.url))
    found = written(desk.require_policy(), ask(n=3), ask("b"))
    server.plan = lambda number, body: FAULTS["server error"]
    refused(desk.require_policy(), ask(n=2))
    every = [completion for own in found for completion in own]
    lines = desk.metrics.text(ready=True).decode().splitlines()
    assert 'prm_policy_requests_total{outcome="ok"} 4.0' in lines
    assert 'prm_policy_requests_total{outcome="failed"} 2.0' in lines
    prompt = sum(one.prompt_tokens for one in every)
    assert f'prm_policy_tokens_total{{kind="prompt"}} {prompt}.0' in lines
    wrote = sum(one.completion_tokens for one in every)
    assert f'prm_policy_tokens_total{{kind="completion"}} {wrote}.0' in lines


def test_a_desk_without_one_says_how_to_get_one() -> None:
    with pytest.raises(Refusal, match=r"no policy; start it with policy.model=") as caught:
        Desk(None, Limits()).require_policy()
    assert (caught.value.status, caught.value.problem.type) == (404, "no_policy")


# Faults


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_passes_is_borne(server: Server, name: str) -> None:
    server.plan = endpoint.first(FAULTS[name])
    assert written(policy(server.url), ask())[0][0].text == endpoint.reply(server.requests[-1].body)


@pytest.mark.parametrize("name", sorted(FAULTS.keys() - {"slow"}))
def test_a_fault_that_stays_is_a_502_that_tells_it(server: Server, name: str) -> None:
    server.plan = lambda number, body: FAULTS[name]
    told = refused(policy(server.url))
    assert (told.status, told.problem.type) == (502, "policy_failed")
    assert told.problem.message.endswith(", after 3 attempts")
    assert server.url not in told.problem.message
    assert len(server.requests) == 3


def test_a_policy_that_is_down_is_told_of_soon() -> None:
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))  # nobody listens
        began = time.monotonic()
        told = refused(policy(f"http://127.0.0.1:{reserved.getsockname()[1]}"), ask(n=16))
    assert time.monotonic() - began < 5
    assert told.status == 502
    assert re.search(r"cannot be reached.*after 3 attempts", told.problem.message)


def test_the_second_url_is_tried_where_the_first_fails() -> None:
    with serving(Server(lambda *_: FAULTS["server error"])) as bad, serving(Server()) as good:
        asked = policy(bad.url, good.url)
        assert all(own[0].text for own in written(asked, *(ask(str(n)) for n in range(8))))
        assert len(bad.requests) > 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (refusal(400, "Unsupported parameter"), "refuses a request: 400: Unsupported parameter"),
        (refusal(404, "No such model."), "404: No such model.; is 'writer' the name"),
        (
            Fault(307, "", {"location": "https://b/v1?token=abc"}),
            "sends requests on to [url]; name",
        ),
    ],
)
def test_a_refusal_is_a_502_at_once(server: Server, fault: Fault, message: str) -> None:
    server.plan = lambda number, body: fault
    told = refused(policy(server.url))
    assert told.status == 502
    assert message in told.problem.message
    assert len(server.requests) == 1


def test_neither_key_nor_address_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRITER_KEY", "sk-secret")
    address = server.url.removesuffix("/v1")
    for status in (401, 400, 500):
        said = f"Key sk-secret is wrong, see {address}/keys?key=sk-secret."
        server.plan = lambda number, body, status=status, said=said: refusal(status, said)
        told = str(refused(policy(server.url, key_env="WRITER_KEY")))
        assert "Key [key] is wrong, see [url]" in told
        assert "secret" not in told
        assert address not in told
    assert server.requests[0].headers["authorization"] == "Bearer sk-secret"


def test_a_prompt_that_is_too_long_is_data(server: Server) -> None:
    server.plan = lambda *_: refusal(400, "too long", "context_length_exceeded")
    assert written(policy(server.url), ask())[0][0].finish_reason == TOO_LONG


# What is broken off


def test_a_policy_that_hangs_is_a_504_and_its_connections_end() -> None:
    silent = Silent()

    async def test(url: str) -> None:
        began = time.monotonic()
        with pytest.raises(Refusal, match=r"not answered within 4 s") as caught:
            await policy(url, timeout=4).generate([ask(n=3)])
        assert time.monotonic() - began < 10  # attempts included
        assert (caught.value.status, caught.value.problem.where) == (504, "policy")
        assert silent.came > 0
        await silent.all_ended()

    silent.run(test)


def test_waiting_for_a_slot_counts_too() -> None:
    silent = Silent()

    async def test(url: str) -> None:
        asked = policy(url, timeout=0.3, concurrency=1)
        calls = [asked.generate([ask()]) for _ in range(3)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [one.status for one in found if isinstance(one, Refusal)] == [504] * 3

    silent.run(test)


def test_a_call_that_is_cancelled_leaves_nothing_under_way() -> None:
    silent = Silent()

    async def test(url: str) -> None:
        desk = Desk(None, Limits(), policy=policy(url))
        call = asyncio.create_task(desk.require_policy().generate([ask(n=4)]))
        await silent.wait(came=4, ended=0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await silent.wait(came=4, ended=4)
        assert b'prm_policy_requests_total{outcome="left"} 4.0' in desk.metrics.text(ready=True)

    silent.run(test)


def test_a_server_that_ends_breaks_calls_off_and_takes_no_more() -> None:
    silent = Silent()

    async def test(url: str) -> None:
        desk = Desk(None, Limits(), policy=policy(url))
        asked = desk.require_policy()
        call = asyncio.create_task(asked.generate([ask(n=2)]))
        await silent.wait(came=2, ended=0)
        await asyncio.to_thread(desk.batcher.give_up)
        for waiting in (call, asked.generate([ask()])):
            with pytest.raises(Refusal, match="the server ends") as caught:
                await waiting
            assert (caught.value.status, caught.value.problem.type) == (503, "draining")
        await silent.wait(came=2, ended=2)

    silent.run(test)
