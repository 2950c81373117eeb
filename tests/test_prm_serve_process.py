"""`prm serve` as a process under real clients: load, drain, death, and people of ill will."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cohere
import httpx
import pytest
import requests
import sums
from test_prm_serve import make_checkpoint

from prm.errors import CheckpointError
from prm.records import Failure, Solution
from prm.scorers import ScorerConfig, StepScorer, load
from prm.serve.app import make_app
from prm.serve.desk import Desk
from prm.serve.process import serve
from prm.serve.schemas import Limits

ROOT = Path(__file__).parents[1]
KEY = "secret"
HEADERS = {"Authorization": f"Bearer {KEY}"}


class Server:
    """A process, where it listens, and what it logs."""

    def __init__(self, model: Path, log: Path, *overrides: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        command = [sys.executable, "-m", "prm", "serve", f"scorer.model={model}"]
        command += [f"port={self.port}", "api_key_env=TEST_KEY", *overrides]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TEST_KEY": KEY}
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
            )

    def wait(self) -> None:
        """Wait until it is ready."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert f" at {self.url} (key from $TEST_KEY)" in line, self.log.read_text()

    def post(self, path: str, body: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, headers=HEADERS, timeout=120)

    def line(self, request_id: str) -> dict[str, Any]:
        """The log's line of a request, which is written after its answer."""
        for _ in range(500):
            found = [one for one in self.lines() if one.get("id") == request_id]
            if found:
                break
            time.sleep(0.01)
        (line,) = found
        return line

    def lines(self) -> list[dict[str, Any]]:
        """The log's JSON lines; what libraries print on starting is none."""
        whole = self.log.read_text().rpartition("\n")[0]  # the last may be half written
        return [json.loads(x) for x in whole.splitlines() if x.startswith("{")]


@contextmanager
def running(model: Path, log: Path, *overrides: str, ready: bool = True) -> Iterator[Server]:
    server = Server(model, log, *overrides)
    try:
        if ready:
            server.wait()
        yield server
    finally:
        server.process.kill()
        server.process.wait()
        assert server.process.stdout is not None
        server.process.stdout.close()


@pytest.fixture(scope="module")
def server(tiny_prm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("serve") / "log"
    with running(tiny_prm, log, "limits.max_seconds=2") as found:
        yield found


def items(count: int, repeat: int = 1) -> list[dict[str, Any]]:
    """Solutions of unlike lengths."""
    made = []
    for index, labelled in enumerate(sums.labelled(count)):
        solution = labelled.solution
        steps = list(solution.steps) * (1 + index % repeat)
        made.append({"id": str(index), "question": solution.problem, "steps": steps})
    return made


def offline(model: Path, sent: list[dict[str, Any]]) -> list[tuple[float, ...] | None]:
    scorer = load(ScorerConfig(str(model)))
    batch = [
        Solution(id=one["id"], problem=one["question"], steps=tuple(one["steps"])) for one in sent
    ]
    return [None if isinstance(one, Failure) else one.scores for one in scorer.score_each(batch)]


def test_64_clients_get_the_scores_of_the_model(server: Server, tiny_prm: Path) -> None:
    sent = items(256, repeat=12)
    expected = offline(tiny_prm, sent)
    assert None in expected  # some are too long, and harm no other
    results: dict[str, Any] = {}

    async def ask() -> None:
        left = iter(range(0, len(sent)))

        async def client(size: int) -> None:
            async with httpx.AsyncClient(headers=HEADERS, timeout=120) as http:
                while part := [sent[index] for _, index in zip(range(size), left, strict=False)]:
                    answer = await http.post(f"{server.url}/v1/prm/score", json={"items": part})
                    assert answer.status_code == 200, answer.text
                    assert answer.json()["results"].__len__() == len(part)
                    results.update({one["id"]: one for one in answer.json()["results"]})

        await asyncio.gather(*(client(1 + number % 4) for number in range(64)))

    asyncio.run(ask())
    assert len(results) == len(sent)
    for one, want in zip(sent, expected, strict=True):
        found = results[one["id"]]
        if want is None:
            assert "more than max_length" in found["error"]
        else:
            assert found["scores"] == pytest.approx(want, abs=1e-5)


def test_cohere_s_client_reranks(server: Server, tiny_prm: Path) -> None:
    client = cohere.ClientV2(api_key=KEY, base_url=server.url)
    name = requests.post(
        f"{server.url}/v1/prm/score", json={"items": items(1)}, headers=HEADERS, timeout=60
    ).json()["model"]
    documents = ["2 + 3 = 6.", "2 + 3 = 5.\n\nIt is 5.", "It is 5."]
    answer = client.rerank(
        model=name, query="What is 2 + 3?", documents=documents, top_n=2, max_tokens_per_doc=4096
    )
    assert len(answer.results) == 2
    assert answer.results[0].relevance_score >= answer.results[1].relevance_score
    assert answer.meta is not None
    assert answer.meta.billed_units is not None
    assert answer.meta.billed_units.search_units == 1
    # Tokens are counted by the model's own tokenizer.
    few = "a limit that a document does not keep"
    with pytest.raises(cohere.errors.UnprocessableEntityError, match=r"documents\.1 may have \d+,"):
        client.rerank(model=name, query=few, documents=documents, max_tokens_per_doc=12)
    with pytest.raises(cohere.errors.UnauthorizedError):
        cohere.ClientV2(api_key="wrong", base_url=server.url).rerank(
            model=name, query="q", documents=["a"]
        )


def speak(server: Server, *parts: bytes, pause: float = 0.0, most: float = 20.0) -> bytes:
    """What a connection gets that sends these parts, until the server closes it."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=most) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except OSError:
            pass  # it was closed already
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


HEAD = b"POST /v1/prm/score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n"


def test_who_drips_is_shown_out_and_keeps_nobody_waiting(server: Server) -> None:
    answers: dict[str, bytes] = {}
    body = HEAD + b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"

    def drip(name: str, *parts: bytes) -> None:
        answers[name] = speak(server, *parts, pause=0.25)

    parts = {"head": [HEAD, *[b"X: y\r\n"] * 40], "body": [body, *[b"a"] * 40], "nothing": [b""]}
    threads = [threading.Thread(target=drip, args=(name, *part)) for name, part in parts.items()]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert server.post("/v1/prm/score", {"items": items(1)}).status_code == 200
        assert time.monotonic() - began < 20
        time.sleep(0.2)
    assert answers["head"] == answers["nothing"] == b""
    assert b" 408 " in answers["body"]
    assert b"not here within 2 s" in answers["body"]


def test_an_idle_connection_is_kept(server: Server) -> None:
    with httpx.Client(base_url=server.url) as http:
        for _ in range(2):
            assert http.get("/health").is_success
            time.sleep(3)  # longer than a head may take
        assert http.get("/health").is_success
        pool = http._transport._pool  # type: ignore[attr-defined]
        assert len(pool.connections) == 1


def raw(body: bytes) -> bytes:
    head = HEAD + b"Content-Type: application/json\r\nConnection: close\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


STEPS = json.dumps({"items": [{"question": "q", "steps": ["a"] * 100_000}]}).encode()
DEEP = b'{"items": ' + b"[" * 500_000


@pytest.mark.parametrize(
    ("sent", "status", "part"),
    [
        (os.urandom(1 << 20), b" 400 ", b"Invalid HTTP request"),
        (b"GET /health HTTP/1.1\r\n" + b"X: " + b"y" * (1 << 20), b" 400 ", b"Invalid HTTP"),
        (raw(os.urandom(1 << 20)), b" 400 ", b'"error"'),
        (raw(b"x" * (9 << 20)), b" 413 ", b"more than 8388608 bytes"),
        (raw(STEPS), b" 422 ", b"100000 steps, more than 1024"),
        (raw(DEEP), b" 400 ", b'"error"'),
        (raw(b'{"items": {"a": 1}}'), b" 422 ", b'"where":"items"'),
        (raw(b'{"items": [{"question": 1, "steps": ["a"]}]}'), b" 422 ", b'"items.0.question"'),
    ],
)
def test_what_is_no_request_gets_an_answer(
    server: Server, sent: bytes, status: bytes, part: bytes
) -> None:
    answer = speak(server, sent)
    # A server that closes while much is under way may cut its own answer off.
    if answer or len(sent) < 1 << 20:
        assert status in answer.partition(b"\r\n")[0]
        assert part in answer
    assert httpx.get(f"{server.url}/ready").is_success


def test_the_log_is_json_and_tells_no_text(server: Server) -> None:
    secret = {"question": "a private matter?", "steps": ["so private", "that it hurts"]}
    headers = {**HEADERS, "X-Request-ID": "find-me"}
    url = f"{server.url}/v1/prm/score"
    refused = httpx.post(f"{url}?private=1", json={"items": [secret]}, headers=HEADERS, timeout=60)
    assert refused.status_code == 422
    assert httpx.post(url, json={"items": [secret]}, headers=headers, timeout=60).is_success
    line = server.line("find-me")
    assert (line["route"], line["status"]) == ("/v1/prm/score", 200)
    assert (line["items"], line["steps"]) == (1, 2)
    assert line["tokens"] > 10
    assert line["ms"] > 0
    assert "private" not in server.log.read_text()
    assert KEY not in server.log.read_text()


@pytest.mark.slow
def test_it_is_not_ready_while_it_loads(tiny_prm: Path, tmp_path: Path) -> None:
    with running(tiny_prm, tmp_path / "log", ready=False) as server:
        seen = set()
        for _ in range(6000):
            try:
                health = httpx.get(f"{server.url}/health")
                seen.add(httpx.get(f"{server.url}/ready").status_code)
            except httpx.ConnectError:
                time.sleep(0.002)
                continue
            assert health.status_code == 200
            if 200 in seen:
                break
        assert seen == {503, 200}
        server.wait()


def in_flight(server: Server, count: int) -> tuple[list[threading.Thread], list[httpx.Response]]:
    """Requests that are under way: how they end."""
    answers: list[httpx.Response] = []
    body = {"items": items(256)}

    def ask() -> None:
        answers.append(server.post("/v1/prm/score", body))

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        figures = httpx.get(f"{server.url}/metrics", headers=HEADERS).text
        if f"prm_waiting_requests {float(count)}" in figures:
            return threads, answers
    raise AssertionError(figures)


@pytest.mark.slow
def test_on_sigterm_what_was_accepted_is_answered(tiny_prm: Path, tmp_path: Path) -> None:
    with running(tiny_prm, tmp_path / "log", "scorer.batch_tokens=256", "drain_s=240") as server:
        threads, answers = in_flight(server, 6)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.4)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/health")
        assert server.process.wait(230) == 0
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200] * 6
        for answer in answers:
            assert [one["status"] for one in answer.json()["results"]] == ["ok"] * 256
        assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_a_drain_takes_no_longer_than_it_may(tiny_prm: Path, tmp_path: Path) -> None:
    overrides = ("scorer.batch_tokens=256", "drain_s=0.3")
    with running(tiny_prm, tmp_path / "log", *overrides) as server:
        threads, answers = in_flight(server, 12)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert time.monotonic() - began < 10.3
        for thread in threads:
            thread.join()
        ends = {answer.status_code for answer in answers}
        assert ends <= {200, 503}
        assert 503 in ends
        (late, *_) = [answer for answer in answers if answer.status_code == 503]
        assert late.json()["error"]["type"] == "draining"


@pytest.mark.slow
def test_sigterm_while_loading_is_an_orderly_end(tiny_prm: Path, tmp_path: Path) -> None:
    with running(tiny_prm, tmp_path / "log", ready=False) as server:
        for _ in range(10_000):
            try:
                httpx.get(f"{server.url}/health")
                break
            except httpx.ConnectError:
                time.sleep(0.002)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


@pytest.mark.slow
def test_a_killed_engine_ends_the_server(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    import psutil

    model = make_checkpoint(tmp_path / "model", hidden_size=64)  # vLLM on a CPU needs heads of 32
    with running(model, tmp_path / "log", "scorer.backend=vllm") as server:
        first = server.post("/v1/prm/score", {"items": items(4)})
        assert [one["status"] for one in first.json()["results"]] == ["ok"] * 4
        answers: list[int] = []

        def ask() -> None:
            for _ in range(200):
                try:
                    answers.append(server.post("/v1/prm/score", {"items": items(64)}).status_code)
                except httpx.HTTPError:
                    return

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        while answers.count(200) < 8:
            time.sleep(0.05)
        for child in psutil.Process(server.process.pid).children(recursive=True):
            if "EngineCore" in " ".join(child.cmdline()):
                child.kill()
        assert server.process.wait(60) == 2
        for thread in threads:
            thread.join()
        assert set(answers) == {200, 503}
        (last,) = [
            line for line in server.log.read_text().splitlines() if line.startswith("prm serve: ")
        ]
        assert "the engine died" in last


def test_a_model_that_failed_before_anybody_listened_ends_the_server() -> None:
    def fail() -> StepScorer:
        raise CheckpointError("no such folder")

    desk = Desk(None, Limits())
    desk.batcher.load(fail)
    while desk.batcher.state != "dead":
        time.sleep(0.01)
    ends = threading.Timer(20, os.kill, (os.getpid(), signal.SIGTERM))
    ends.start()
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(CheckpointError):
        serve(make_app(desk), desk.batcher, listener, drain=1.0, patience=1.0)
    ends.cancel()
    assert time.monotonic() - began < 10
