"""Searches through the server: those of `prm solve`, told of as they go, and how they may end."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import endpoint
import httpx
import pytest
from endpoint import FAULTS, serving
from fastapi.testclient import TestClient
from served import serve
from test_prm_search_prefix import made, write_aurora
from test_prm_serve_process import HEADERS, running
from vllm_served import vllm_serve
from writing import STEPS, Writer, write

from prm import engines, jsonl
from prm.client import AsyncClient, Client, SearchResult, SearchRound
from prm.engines import EndpointConfig, EngineConfig
from prm.engines.fake import ScriptedEngine
from prm.errors import ClientError, EngineError
from prm.records import Problem, Solution
from prm.scorers import ModelScorer, ScorerConfig, load
from prm.scorers.base import Batching
from prm.search import online
from prm.search.online import SearchConfig
from prm.search.policy import PolicyConfig
from prm.serve import course as courses
from prm.serve import events as server_events
from prm.serve.app import make_app
from prm.serve.desk import Desk
from prm.serve.policy import Policy, PolicyEndpoint, PolicyEngine
from prm.serve.schemas import Limits
from prm.sources import Place

ROOT = Path(__file__).parents[1]
MICRO = ROOT / "examples" / "micro" / "models" / "plain-weak"
QUESTION = "What is 2 + 3?"
BEAM = {"question": QUESTION, "method": "beam", "n": 6, "width": 2}
WAYS: list[dict[str, Any]] = [
    {"method": "beam", "n": 6, "width": 2},
    {"method": "dvts", "n": 6, "width": 2, "choice": "majority", "aggregation": "last"},
    {"method": "best_of_n", "n": 6, "choice": "weighted", "aggregation": "mean"},
]


@pytest.fixture(scope="module")
def running_writer() -> Iterator[Writer]:
    with serving(Writer(ScriptedEngine(write))) as server:
        assert isinstance(server, Writer)
        yield server


@pytest.fixture
def writer(running_writer: Writer) -> Writer:
    running_writer.plan = endpoint.no_fault
    running_writer.held = lambda number: False
    running_writer.requests.clear()
    running_writer.left = 0
    return running_writer


@pytest.fixture(scope="module")
def url(tiny_prm: Path, running_writer: Writer) -> Iterator[str]:
    policy = ("policy.model=writer", f"policy.endpoint.urls=[{running_writer.url}]")
    with serve(tiny_prm, *policy, "policy.endpoint.retries=0", "limits.max_searches=2") as found:
        yield found


@pytest.fixture(scope="module")
def scorer(tiny_prm: Path) -> ModelScorer:
    return load(ScorerConfig(str(tiny_prm)))


def make_desk(scorer: Any, writer: Writer, **settings: Any) -> Desk:
    asked = PolicyEndpoint([writer.url], **({"retries": 0} | settings))
    return Desk(scorer, Limits(), policy=Policy(PolicyEngine("writer", endpoint=asked)))


def parse(text: str) -> list[tuple[str, Any]]:
    """Events of a stream, by the rules of the format."""
    found = []
    for block in text.split("\n\n")[:-1]:
        lines = [line for line in block.split("\n") if not line.startswith(":")]
        if lines:
            name, data = lines
            assert name.startswith("event: ")
            assert data.startswith("data: ")
            found.append((name[7:], json.loads(data[6:])))
    return found


def stream(url: str, body: dict[str, Any]) -> list[tuple[str, Any]]:
    answer = httpx.post(f"{url}/v1/prm/search", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    return parse(answer.text)


def offline(
    folder: Path, writer_url: str, model: Path, ways: list[dict[str, Any]], **writing: Any
) -> list[Solution]:
    """What `prm solve` finds for the question, in each way."""
    jsonl.write(folder / "problems.jsonl", [Problem(id="mine", problem=writing.pop("question"))])
    online.run(
        online.Config(
            out=str(folder / "run"),
            problems=Place(path=str(folder / "problems.jsonl")),
            policy=PolicyConfig(
                engine=EngineConfig("writer", "openai", endpoint=EndpointConfig([writer_url])),
                **writing,
            ),
            scorer=ScorerConfig(str(model)),
            searches=[SearchConfig(**way) for way in ways],
            seed=3,
        )
    )
    found = {item.generator: item for item in jsonl.read(folder / "run/solutions.jsonl", Solution)}
    return [found[SearchConfig(**way).name] for way in ways]


def check_same(result: dict[str, Any], expected: Solution) -> None:
    best = result["best"]
    assert tuple(best["steps"]) == expected.steps
    assert best["scores"] == pytest.approx(expected.metadata["scores"], abs=1e-5)
    assert best["reward"] == pytest.approx(expected.metadata["reward"], abs=1e-5)
    assert best["end"] == expected.metadata["end"]
    assert result["budget"] == expected.metadata["budget"]


# The same as offline


def test_it_finds_what_prm_solve_finds(
    url: str, writer: Writer, tiny_prm: Path, tmp_path: Path
) -> None:
    writing = {"system": "Be brief.", "template": "Solve: {problem}"}
    expected = offline(tmp_path, writer.url, tiny_prm, WAYS, question=QUESTION, **writing)
    for way, solution in zip(WAYS, expected, strict=True):
        body = {"id": "mine", "question": QUESTION, "seed": 3, **writing, **way}
        events = stream(url, body)
        check_same(events[-1][1], solution)
        answer = httpx.post(f"{url}/v1/prm/search", json=body | {"stream": False}, timeout=60)
        assert answer.status_code == 200
        check_same(answer.json(), solution)
    other = stream(url, {"id": "mine", "question": QUESTION, "seed": 4, **writing, **WAYS[0]})
    assert tuple(other[-1][1]["best"]["steps"]) != expected[0].steps


def test_rounds_come_in_order_and_the_result_is_last(url: str, writer: Writer) -> None:
    *rounds, (last, result) = stream(url, BEAM)
    assert last == "result"
    assert [name for name, _ in rounds] == ["round"] * STEPS
    told = [data for _, data in rounds]
    assert [one["round"] for one in told] == list(range(1, STEPS + 1))
    assert [one["live"] for one in told] == [2, 2, 2, 0]
    assert [one["ended"] for one in told] == [0, 0, 0, 6]
    for number, one in enumerate(told, 1):
        assert len(one["best"]["steps"]) == len(one["best"]["scores"]) == number
        assert one["best"]["reward"] == min(one["best"]["scores"])
    spent = [one["budget"] for one in told]
    for name in ("prompt", "written", "read", "whole", "requests"):
        values = [budget[name] for budget in spent]
        assert values == sorted(values)
        assert values[0] > 0
    assert spent[-1] == result["budget"]
    assert told[-1]["best"]["steps"] == result["best"]["steps"]
    assert result["rounds"] == STEPS
    assert result["best"]["answer"] in {"4", "5", "6"}
    assert result["ends"] == {"turn": result["best"]["count"] + result["others"][0]["count"]}
    assert result["policy"] == "writer"
    rewards = [one["reward"] for one in [result["best"], *result["others"]]]
    assert rewards == sorted(rewards, reverse=True)


def test_what_was_read_is_not_read_again(url: str, writer: Writer) -> None:
    budget = stream(url, BEAM | {"n": 8})[-1][1]["budget"]
    assert budget["read"] < 0.5 * budget["whole"]


def test_tokens_are_in_the_metrics(url: str, writer: Writer) -> None:
    def count(name: str) -> float:
        lines = httpx.get(f"{url}/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(name)).split()[-1])

    before = count("prm_tokens_total "), count('prm_policy_tokens_total{kind="completion"}')
    budget = stream(url, BEAM)[-1][1]["budget"]
    assert count("prm_tokens_total ") - before[0] == budget["read"]
    assert count('prm_policy_tokens_total{kind="completion"}') - before[1] == budget["written"]


# What is refused before it begins


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        ({"n": 65}, "n", "more than 64"),
        ({"steps": 65}, "steps", "more than 64"),
        ({"max_tokens": 8193}, "max_tokens", "more than 8192"),
        ({"width": None}, "body", "width is for beam and dvts, which need it"),
        ({"method": "best_of_n"}, "body", "width is for beam and dvts"),
        ({"width": 4}, "body", "width 4 does not divide n 6"),
        ({"step_tokens": 9, "max_tokens": 8}, "body", "step_tokens goes from 1 to max_tokens"),
        ({"template": "Solve it."}, "body", "template must hold {problem} once"),
        ({"temperature": 0}, "temperature", "set n to 1"),
        ({"boundaries": []}, "boundaries", "at least 1"),
        ({"boundaries": [""]}, "boundaries.0", "at least 1"),
        ({"question": " "}, "question", "is blank"),
        ({"question": "x" * 200_001}, "question", "characters in all"),
        ({"method": "walk"}, "method", "'best_of_n', 'beam' or 'dvts'"),
        ({"widht": 2}, "body", "did you mean 'width'"),
        ({"seed": 2**70}, "seed", "less than"),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_a_wrong_request_is_refused_with_its_place(
    url: str, writer: Writer, change: dict[str, Any], where: str, message: str, streamed: bool
) -> None:
    body = BEAM | {"stream": streamed} | change
    answer = httpx.post(f"{url}/v1/prm/search", json=body, timeout=60)
    assert answer.status_code == 422
    problem = answer.json()["error"]
    assert problem["where"] == where
    assert message in problem["message"]
    assert not writer.requests


def test_without_a_policy_or_a_model_nothing_begins(scorer: ModelScorer, writer: Writer) -> None:
    client = TestClient(make_app(Desk(scorer, Limits())))
    answer = client.post("/v1/prm/search", json=BEAM)
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "no_policy"
    answer = TestClient(make_app(make_desk(None, writer))).post("/v1/prm/search", json=BEAM)
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "loading"
    assert not writer.requests


# How it may end


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def begun(url: str, headers: dict[str, str]) -> tuple[threading.Thread, list[str]]:
    """A search that is being streamed: its thread, and the lines it has got so far."""
    lines: list[str] = []

    def read() -> None:
        with httpx.stream(
            "POST", f"{url}/v1/prm/search", json=BEAM, headers=headers, timeout=60
        ) as answer:
            lines.extend(answer.iter_lines())

    thread = threading.Thread(target=read)
    thread.start()
    return thread, lines


def test_a_client_that_leaves_ends_its_search(url: str, writer: Writer) -> None:
    writer.held = lambda number: number >= 6
    with httpx.stream("POST", f"{url}/v1/prm/search", json=BEAM, timeout=60) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: round"
        wait_for(lambda: writer.holding == 6)  # two paths, three ways each
    wait_for(lambda: writer.left == 6)
    assert writer.holding == 0
    assert len(writer.requests) == 6  # those of the first round
    writer.held = lambda number: False
    metrics = httpx.get(f"{url}/metrics").text
    assert 'prm_policy_requests_total{outcome="left"} 6.0' in metrics
    assert "prm_waiting_requests 0.0" in metrics
    for _ in range(3):  # its place is free: there are two
        assert stream(url, BEAM)[-1][0] == "result"


def test_a_client_that_waits_for_the_whole_may_leave_too(url: str, writer: Writer) -> None:
    writer.held = lambda number: number >= 6
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/prm/search", json=BEAM | {"stream": False}, timeout=2)
    wait_for(lambda: writer.left == 6)


def test_too_many_searches_are_sent_away(url: str, writer: Writer) -> None:
    writer.held = lambda number: True
    clients = [httpx.Client(timeout=60) for _ in range(2)]
    answers = [
        client.send(client.build_request("POST", f"{url}/v1/prm/search", json=BEAM), stream=True)
        for client in clients
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    third = httpx.post(f"{url}/v1/prm/search", json=BEAM, timeout=60)
    assert third.status_code == 503
    assert third.json()["error"]["message"].startswith("2 searches are under way already")
    assert third.headers["retry-after"] == "5"
    item = {"question": QUESTION, "steps": ["2 + 3 = 5"]}
    scored = httpx.post(f"{url}/v1/prm/score", json={"items": [item]}, timeout=60)
    assert scored.status_code == 200  # others are served on
    for answer, client in zip(answers, clients, strict=True):
        answer.close()
        client.close()
    wait_for(lambda: writer.left == 12)


def test_a_policy_that_dies_in_the_middle_is_an_error_event(url: str, writer: Writer) -> None:
    writer.plan = lambda number, body: FAULTS["server error"] if number >= 6 else None
    *rounds, (name, data) = stream(url, BEAM)
    assert [one for one, _ in rounds] == ["round"]
    assert name == "error"
    assert (data["error"]["where"], data["error"]["type"]) == ("policy", "policy_failed")
    assert "500" in data["error"]["message"]
    writer.requests.clear()
    answer = httpx.post(f"{url}/v1/prm/search", json=BEAM | {"stream": False}, timeout=60)
    assert answer.status_code == 502
    assert answer.json() == data
    writer.plan = endpoint.no_fault
    assert stream(url, BEAM)[-1][0] == "result"


def test_a_policy_that_hangs_is_an_error_event(scorer: ModelScorer, writer: Writer) -> None:
    writer.held = lambda number: number >= 6
    client = TestClient(make_app(make_desk(scorer, writer, timeout=1.0)))
    events = parse(client.post("/v1/prm/search", json=BEAM).text)
    assert [name for name, _ in events] == ["round", "error"]
    assert events[-1][1]["error"]["type"] == "policy_late"
    assert client.post("/v1/prm/search", json=BEAM | {"stream": False}).status_code == 504


@pytest.mark.parametrize(
    ("text", "status", "kind"),
    [
        ("", 502, "no_candidate"),
        ("half a pair: \\ud800", 502, "no_candidate"),
        ("word " * 20, 200, ""),  # cut at its length, but all there is
    ],
)
def test_what_a_policy_may_write(
    scorer: ModelScorer, writer: Writer, text: str, status: int, kind: str
) -> None:
    reason = "length" if status == 200 else "stop"
    choice = {"finish_reason": reason, "message": {"role": "assistant", "content": "TEXT"}}
    usage = {"prompt_tokens": 7, "completion_tokens": 512}
    said = json.dumps({"choices": [choice], "usage": usage}).replace("TEXT", text)
    writer.plan = lambda number, body: endpoint.Fault(text=said)
    client = TestClient(make_app(make_desk(scorer, writer)))
    answer = client.post("/v1/prm/search", json=BEAM | {"stream": False})
    assert answer.status_code == status, answer.text
    if status == 200:
        assert answer.json()["best"]["end"] == "length"
    else:
        assert answer.json()["error"]["type"] == kind


def test_a_prompt_that_does_not_fit_is_the_questions_fault(
    scorer: ModelScorer, writer: Writer
) -> None:
    refusal = endpoint.refusal(400, "too long", "context_length_exceeded")
    writer.plan = lambda number, body: refusal
    events = parse(
        TestClient(make_app(make_desk(scorer, writer))).post("/v1/prm/search", json=BEAM).text
    )
    (_, _), (name, data) = events
    assert name == "error"
    assert (data["error"]["where"], data["error"]["type"]) == ("question", "too_large")


class Dying:
    """A scorer whose engine dies at its second batch."""

    name = "dying"

    def __init__(self, error: Exception) -> None:
        self.tokens = 0
        self.calls = 0
        self.error = error

    def score_each(self, batch: Any) -> Any:
        self.calls += 1
        if self.calls > 1:
            raise self.error
        from prm.records import StepScores, steps_digest

        return [
            StepScores(
                solution_id=item.id,
                steps_digest=steps_digest(item),
                model="dying",
                scores=(0.5,) * len(item.steps),
            )
            for item in batch
        ]


@pytest.mark.parametrize(
    ("error", "kind", "state"),
    [(EngineError("dead"), "dead", "dead"), (RuntimeError("a matter"), "internal", "ready")],
)
def test_a_reward_model_that_fails_is_an_error_event(
    writer: Writer, error: Exception, kind: str, state: str
) -> None:
    desk = make_desk(Dying(error), writer)
    events = parse(TestClient(make_app(desk)).post("/v1/prm/search", json=BEAM).text)
    assert [name for name, _ in events] == ["round", "error"]
    assert events[-1][1]["error"]["type"] == kind
    assert "matter" not in events[-1][1]["error"]["message"]
    assert desk.batcher.state == state


def test_a_mistake_of_ours_is_an_error_event(
    scorer: ModelScorer, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a private matter")

    monkeypatch.setattr(courses.Course, "_note", fail)
    events = parse(
        TestClient(make_app(make_desk(scorer, writer))).post("/v1/prm/search", json=BEAM).text
    )
    assert [name for name, _ in events] == ["error"]
    assert events[0][1]["error"]["type"] == "internal"
    assert "private" not in str(events)


def test_silence_is_broken_by_comments(
    scorer: ModelScorer, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_events, "KEEP_ALIVE", 0.05)
    writer.plan = lambda number, body: endpoint.Fault(delay=0.3) if number == 0 else None
    client = TestClient(make_app(make_desk(scorer, writer)))
    text = client.post("/v1/prm/search", json=BEAM).text
    assert text.startswith(": at work\n\n")
    assert text.count(": at work\n\n") > 2
    assert [name for name, _ in parse(text)] == ["round"] * STEPS + ["result"]


def test_what_was_read_is_freed_with_the_search(
    scorer: ModelScorer, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Any]] = []

    def remembered(*args: Any) -> Any:
        found = path_scorer(*args)
        made.append(weakref.ref(found))
        return found

    path_scorer = courses.path_scorer
    monkeypatch.setattr(courses, "path_scorer", remembered)
    client = TestClient(make_app(make_desk(scorer, writer)))
    assert client.post("/v1/prm/search", json=BEAM | {"stream": False}).status_code == 200
    writer.plan = lambda number, body: FAULTS["server error"] if number >= 30 else None
    client.post("/v1/prm/search", json=BEAM)
    gc.collect()
    assert len(made) == 2
    assert [one() for one in made] == [None, None]


def test_a_round_of_many_tokens_is_read_in_parts(
    scorer: ModelScorer, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = BEAM | {"stream": False}
    whole = TestClient(make_app(make_desk(scorer, writer))).post("/v1/prm/search", json=asked)
    monkeypatch.setattr(scorer, "batching", Batching(40, pads=True))
    desk = make_desk(scorer, writer)
    costs = []
    run = desk.batcher.run

    async def counted(*args: Any, **keys: Any) -> Any:
        costs.append(keys.get("cost", 1))
        return await run(*args, **keys)

    desk.batcher.run = counted  # type: ignore[method-assign]
    parts = TestClient(make_app(desk)).post("/v1/prm/search", json=asked)
    assert len(costs) > 1 + STEPS
    assert max(costs) <= 40
    for name in ("steps", "end", "answer", "count"):
        assert parts.json()["best"][name] == whole.json()["best"][name]
    assert parts.json()["best"]["scores"] == pytest.approx(whole.json()["best"]["scores"], abs=1e-5)


# Our own client


def test_both_clients_tell_typed_events(url: str, writer: Writer) -> None:
    raw = stream(url, BEAM | {"seed": 5})

    async def ask() -> list[Any]:
        async with AsyncClient(url) as other:
            return [one async for one in other.search(QUESTION, **WAYS[0], seed=5)]

    with Client(url) as client:
        found = list(client.search(QUESTION, **WAYS[0], seed=5))
    assert [type(one) for one in found] == [SearchRound] * STEPS + [SearchResult]
    for one, other, (_, data) in zip(found, asyncio.run(ask()), raw, strict=True):
        for told in (asdict(one), asdict(other)):
            assert told["best"]["steps"] == tuple(data["best"]["steps"])
            assert told["best"]["scores"] == pytest.approx(data["best"]["scores"], abs=1e-5)
            assert told["budget"] == data["budget"]
            assert told.keys() == data.keys()
    assert found[-1].best.answer == raw[-1][1]["best"]["answer"]
    assert [one.count for one in found[-1].others] == [one["count"] for one in raw[-1][1]["others"]]


def test_who_stops_reading_ends_the_search(url: str, writer: Writer) -> None:
    writer.held = lambda number: number >= 6
    with Client(url) as client:
        events = client.search(QUESTION, **WAYS[0])
        assert isinstance(next(events), SearchRound)
        wait_for(lambda: writer.holding == 6)
        events.close()  # type: ignore[attr-defined]  # it is a generator
        wait_for(lambda: writer.left == 6)


def test_the_client_raises_what_the_server_tells(url: str, writer: Writer) -> None:
    with Client(url, retries=0) as client:
        with pytest.raises(ClientError, match=r"status 422 \(n\): 65, more than 64") as refused:
            next(client.search(QUESTION, method="best_of_n", n=65))
        assert (refused.value.status, refused.value.where) == (422, "n")
        with pytest.raises(ClientError, match="did you mean 'boundaries'"):
            next(client.search(QUESTION, method="best_of_n", n=1, boundarys=["."]))
        writer.plan = lambda number, body: FAULTS["server error"] if number >= 6 else None
        events = client.search(QUESTION, **WAYS[0])
        assert isinstance(next(events), SearchRound)
        with pytest.raises(ClientError, match=r"broke off \(policy\): .*500") as broken:
            list(events)
        assert (broken.value.status, broken.value.where) == (None, "policy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ended without a result"),
        ("event: other\ndata: 1\n\n: at work\n\n", "ended without a result"),
        ("event: round\ndata: {}\n\n", "is not what `prm serve` gives"),
        ("event: result\ndata: <html>\n\n", "is not what `prm serve` gives"),
        ("event: round\ndata: [1]\n\n", "is not what `prm serve` gives"),
    ],
)
def test_a_stream_that_is_not_ours_is_an_error(text: str, message: str) -> None:
    plan = lambda number, body: endpoint.Fault(  # noqa: E731
        text=text, headers={"content-type": "text/event-stream"}
    )
    with serving(endpoint.Server(plan)) as server:
        server.app.post("/v1/prm/search")(server._answer)
        client = Client(server.url.removesuffix("/v1"), retries=0)
        with client, pytest.raises(ClientError, match=message):
            list(client.search(QUESTION, method="best_of_n", n=1))


def test_the_example_runs(url: str, writer: Writer) -> None:
    done = subprocess.run(
        [sys.executable, "examples/serving/step_search.py"],
        cwd=ROOT,
        env={**os.environ, "PRM_URL": url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:STEPS]] == [
        f"round {number}" for number in range(1, STEPS + 1)
    ]
    assert lines[-2].startswith("answer ")
    assert re.fullmatch(r"\d+ of \d+ tokens read to score it", lines[-1])


# The process


@pytest.mark.slow
@pytest.mark.parametrize("drain", [1.0, 30.0])
def test_sigterm_lets_a_search_end_or_tells_it(
    tiny_prm: Path, writer: Writer, tmp_path: Path, drain: float
) -> None:
    overrides = ("policy.model=writer", f"policy.endpoint.urls=[{writer.url}]", f"drain_s={drain}")
    with running(tiny_prm, tmp_path / "log", *overrides) as server:
        if drain == 1.0:
            writer.held = lambda number: number >= 6
        else:
            writer.plan = lambda number, body: endpoint.Fault(delay=0.5)
        thread, lines = begun(server.url, HEADERS)
        wait_for(lambda: "event: round" in lines)
        server.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert server.process.wait(40) == 0
        thread.join()
        events = parse("\n".join([*lines, "", ""]))
        if drain == 1.0:
            assert time.monotonic() - began < 8
            assert [name for name, _ in events] == ["round", "error"]
            assert events[-1][1]["error"]["type"] == "draining"
            assert writer.left == 6
            assert [one["error"] for one in server.lines() if "error" in one] == ["draining"]
        else:
            assert [name for name, _ in events] == ["round"] * STEPS + ["result"]
        assert "Traceback" not in server.log.read_text()


# Real policies


MICRO_QUESTION = "Ben has 8 cups. Then Ben gets 11 more cups. How many cups does Ben have?"
MICRO_WRITING: dict[str, Any] = {
    "question": MICRO_QUESTION,
    "boundaries": [". "],
    "step_tokens": 64,
    "max_tokens": 320,
    "temperature": 1.0,
}
MICRO_WAYS: list[dict[str, Any]] = [
    {"method": "beam", "n": 6, "width": 2, "steps": 12},
    {"method": "dvts", "n": 4, "width": 2, "steps": 12},
    {"method": "best_of_n", "n": 4},
]


def check_real(folder: Path, policy: str, model: Path) -> None:
    expected = offline(folder, policy, model, MICRO_WAYS, **MICRO_WRITING)
    settings = ("policy.model=writer", f"policy.endpoint.urls=[{policy}]")
    with serve(model, *settings) as url:
        for way, solution in zip(MICRO_WAYS, expected, strict=True):
            events = stream(url, {"id": "mine", "seed": 3, **MICRO_WRITING, **way})
            result = events[-1][1]
            assert events[-1][0] == "result"
            told, known = result["budget"], dict(solution.metadata["budget"])
            known["cached"] = told["cached"]  # vLLM has more of it the second time
            solution.metadata["budget"] = known
            check_same(result, solution)
            if way["method"] != "best_of_n":
                assert told["read"] < 0.5 * told["whole"]


@pytest.mark.slow
def test_a_real_policy_on_transformers(tmp_path: Path) -> None:
    engine = engines.load(EngineConfig(str(MICRO), "transformers", dtype="float32"))
    try:
        with serving(Writer(engine)) as server:
            check_real(tmp_path, server.url, write_aurora(tmp_path / "model"))
    finally:
        engine.close()


@pytest.mark.slow
def test_a_real_policy_on_vllm_serve(tmp_path: Path) -> None:
    with vllm_serve(MICRO, "writer") as url:
        check_real(tmp_path, url, write_aurora(tmp_path / "model"))


@pytest.mark.slow
def test_a_reward_model_on_vllm_scores_the_newest_step(tmp_path: Path, writer: Writer) -> None:
    pytest.importorskip("vllm")
    ours = made("Qwen2.5-Math-PRM-7B", tmp_path)
    expected = TestClient(make_app(make_desk(ours, writer))).post(
        "/v1/prm/search", json=BEAM | {"stream": False}
    )
    overrides = (
        *("policy.model=writer", f"policy.endpoint.urls=[{writer.url}]"),
        *("scorer.backend=vllm", "scorer.dtype=float32"),
        "scorer.options={block_size: 32, enable_prefix_caching: true}",
    )
    with serve(tmp_path / "Qwen2.5-Math-PRM-7B", *overrides) as url:
        result = stream(url, BEAM)[-1][1]
    for name in ("steps", "end", "answer", "count"):
        assert result["best"][name] == expected.json()["best"][name]
    assert result["best"]["scores"] == pytest.approx(expected.json()["best"]["scores"], abs=1e-4)
    assert result["budget"]["read"] < result["budget"]["whole"]
