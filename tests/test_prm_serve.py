"""The HTTP server: what it answers, what it refuses, and that it runs as a process."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from prm import config as configuration
from prm.errors import CheckpointError, ConfigError
from prm.records import Failure, Solution, StepScores, steps_digest
from prm.render import RenderSettings
from prm.scorers import ScorerConfig
from prm.scorers import load as load_scorer
from prm.serve import stage
from prm.serve.app import make_app
from prm.serve.desk import Desk
from prm.serve.logs import JSONFormatter
from prm.serve.schemas import Limits
from prm.train.scratch import ScratchConfig, make_model, make_tokenizer
from prm.zoo.aurora import Declaration, write_declaration


class LengthScorer:
    """Scores a step by its length; cannot score a solution that says `UNSCORABLE`."""

    name = "length"

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        return [self._score(solution) for solution in batch]

    def _score(self, solution: Solution) -> StepScores | Failure:
        if any("UNSCORABLE" in step for step in solution.steps):
            return Failure(id=solution.id, reason="too many tokens")
        scores = tuple(1 / len(step) for step in solution.steps)
        digest = steps_digest(solution)
        return StepScores(
            solution_id=solution.id, steps_digest=digest, model=self.name, scores=scores
        )


class ShortScorer(LengthScorer):
    """Loses the last score, as a model that cut its input would."""

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        cut = StepScores(solution_id="x", steps_digest="x", model=self.name, scores=(0.5,))
        return [cut for _ in batch]


class BrokenScorer(LengthScorer):
    """Raises, and quotes the request, as libraries do."""

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        raise RuntimeError(f"cannot take {batch[0].problem}")


class SlowScorer(LengthScorer):
    """Waits to be released; notices if it is entered twice at a time."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.entered = threading.Semaphore(0)
        self.calls = 0
        self.overlapped = False
        self._busy = threading.Lock()

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        self.overlapped |= not self._busy.acquire(blocking=False)
        self.calls += 1
        self.entered.release()
        assert self.release.wait(20)
        self._busy.release()
        return super().score_each(batch)


def client(scorer: Any = None, *, key: str | None = None, **limits: int) -> TestClient:
    return TestClient(make_app(Desk(scorer or LengthScorer(), Limits(**limits)), key))


def item(*steps: str, **more: Any) -> dict[str, Any]:
    return {"question": "1 + 1?", "steps": list(steps), **more}


def refusal(response: httpx.Response, status: int, where: str) -> str:
    """Check an error's shape; returns its message."""
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "where", "type"}
    assert error["where"] == where
    assert error["type"]
    return str(error["message"])


def result(**fields: Any) -> dict[str, Any]:
    blank = dict.fromkeys(("id", "steps", "scores", "reward", "error"))
    return {**blank, "status": "error" if "error" in fields else "ok", **fields}


# Scores


def test_scores_one_per_step_and_the_reward() -> None:
    items = [item("ab", "abcd", id="first"), item("a")]
    answer = client().post("/v1/prm/score", json={"items": items}).json()
    assert answer == {
        "model": "length",
        "results": [
            result(id="first", scores=[0.5, 0.25], reward=0.25),
            result(scores=[1.0], reward=1.0),
        ],
    }


@pytest.mark.parametrize(
    ("method", "reward"), [("min", 0.25), ("product", 0.125), ("last", 0.25), ("mean", 0.375)]
)
def test_aggregation(method: str, reward: float) -> None:
    body = {"items": [item("ab", "abcd")], "aggregation": method}
    results = client().post("/v1/prm/score", json=body).json()["results"]
    assert results[0]["reward"] == reward


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/get_reward?agregation=last", "unknown query parameter; known: aggregation, unscorable"),
        ("/v1/prm/score?aggregation=last", "unknown query parameter; it takes none"),
    ],
)
def test_a_query_parameter_that_would_do_nothing_is_refused(path: str, message: str) -> None:
    rewards = {"query": ["q a"], "prompts": ["q "], "labels": ["1"]}
    body = rewards if "reward" in path else {"items": [item("ab")]}
    answer = client().post(path, json=body)
    assert answer.status_code == 422
    name = path.partition("?")[2].partition("=")[0]
    assert answer.json()["error"] == {
        "message": message,
        "where": f"query parameter {name}",
        "type": "invalid_request",
    }
    assert client().post(path.partition("?")[0], json=body).status_code == 200
    assert client().get("/health?of=a-proxy").status_code == 200


def test_reference_reaches_the_scorer_as_answer_and_as_solution() -> None:
    seen: list[Solution] = []

    class Recorder(LengthScorer):
        def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
            seen.extend(batch)
            return super().score_each(batch)

    caller = client(Recorder())
    caller.post("/v1/prm/score", json={"items": [item("a", reference="2"), item("a")]})
    caller.post("/v1/rerank", json={"query": "q", "documents": ["a"], "reference": "3"})
    assert [solution.answer for solution in seen] == ["2", None, "3"]
    assert [solution.reference for solution in seen] == ["2", None, "3"]


def test_an_unscorable_item_does_not_harm_its_neighbours() -> None:
    items = [item("a"), item("b", "UNSCORABLE", id="x"), item("cc")]
    response = client().post("/v1/prm/score", json={"items": items})
    assert response.status_code == 200
    first, second, third = response.json()["results"]
    assert (first["reward"], third["reward"]) == (1.0, 0.5)
    assert second == result(id="x", error="too many tokens")


def test_a_partial_score_is_an_error() -> None:
    results = client(ShortScorer()).post("/v1/prm/score", json={"items": [item("a", "b")]}).json()
    assert results["results"][0]["scores"] is None
    assert results["results"][0]["error"] == "1 scores for 2 steps"


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
STEPS = st.lists(TEXT.filter(str.strip), min_size=1, max_size=4)


@settings(max_examples=50)
@given(st.lists(STEPS, min_size=1, max_size=6))
def test_as_many_results_as_items_in_their_order(many: list[list[str]]) -> None:
    items = [item(*steps, id=f"id-{index}") for index, steps in enumerate(many)]
    results = client().post("/v1/prm/score", json={"items": items}).json()["results"]
    assert [result["id"] for result in results] == [entry["id"] for entry in items]
    for steps, result in zip(many, results, strict=True):
        unscorable = any("UNSCORABLE" in step for step in steps)
        assert unscorable or result["scores"] == [1 / len(step) for step in steps]


# Rerank


def test_rerank_takes_all_kinds_of_documents_and_sorts() -> None:
    documents = ["long long text", {"text": "ab"}, {"steps": ["a", "abcd"]}, {"steps": ["ab"]}]
    body = {"model": "length", "query": "q", "documents": documents, "return_documents": True}
    response = client().post("/v1/rerank", json=body, headers={"X-Request-ID": "r-1"})
    answer = response.json()
    assert (answer["id"], answer["model"]) == ("r-1", "length")
    # Documents 1 and 3 are equally good and keep their order.
    assert [result["index"] for result in answer["results"]] == [1, 3, 2, 0]
    assert [result["document"] for result in answer["results"]] == [
        {"text": "ab"},
        {"steps": ["ab"]},
        {"steps": ["a", "abcd"]},
        {"text": "long long text"},
    ]
    assert answer["results"][2]["scores"] == [1.0, 0.25]


def test_rerank_separates_the_steps_of_a_text() -> None:
    body = {"query": "q", "documents": ["ab\n\nabcd\n\na"], "aggregation": "last"}
    (found,) = client().post("/v1/rerank", json=body).json()["results"]
    assert found == {"index": 0, "relevance_score": 1.0, "scores": [0.5, 0.25, 1.0]}


def test_rerank_top_n() -> None:
    body = {"query": "q", "documents": ["abc", "a", "ab"], "top_n": 2}
    results = client().post("/v1/rerank", json=body).json()["results"]
    assert [result["index"] for result in results] == [1, 2]


@pytest.mark.parametrize("most", [None, 3, 4096])
def test_rerank_takes_cohere_s_limit_where_it_cuts_nothing(most: int | None) -> None:
    body = {"query": "q", "documents": ["a", "abc"], "max_tokens_per_doc": most}
    assert client().post("/v1/rerank", json=body).status_code == 200


def test_rerank_refuses_cohere_s_limit_where_it_would_cut() -> None:
    body = {"query": "q", "documents": ["a", {"steps": ["ab", "cd"]}], "max_tokens_per_doc": 3}
    message = refusal(client().post("/v2/rerank", json=body), 422, "max_tokens_per_doc")
    assert message.startswith("documents.1 may have 4, and nothing is ever cut")


def test_rerank_names_the_document_that_cannot_be_scored() -> None:
    body = {"query": "q", "documents": ["a", "UNSCORABLE"]}
    message = refusal(client().post("/v1/rerank", json=body), 422, "documents.1")
    assert message == "cannot be scored: too many tokens"


def test_rerank_counts_steps_after_separating_them() -> None:
    body = {"query": "q", "documents": ["a\n\nb\n\nc"]}
    refusal(client(max_steps=2).post("/v1/rerank", json=body), 422, "documents.0")


@pytest.mark.parametrize(
    ("change", "where", "part"),
    [
        ({"model": "other"}, "model", "length"),
        ({"top_n": 0}, "top_n", "greater than or equal to 1"),
        ({"top_n": True}, "top_n", "integer"),
        ({"documents": []}, "documents", "at least 1"),
        ({"documents": [3]}, "documents.0", "a document is"),
        ({"documents": ["a", " "]}, "documents.1.text", "blank"),
        ({"documents": [{"steps": ["a", ""]}]}, "documents.0.steps.1", "blank"),
        ({"documents": [{"text": "a", "steps": ["a"]}]}, "documents.0", "a document is"),
        ({"documents": [{"stps": ["a"]}]}, "documents.0", '{"text": …} or {"steps": […]}'),
        ({"documents": [{"text": "a", "title": "b"}]}, "documents.0", "a document is"),
        ({"documents": [{}]}, "documents.0", "a document is"),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc", "greater than or equal to 1"),
        ({"query": ""}, "query", "blank"),
    ],
)
def test_rerank_refuses(change: dict[str, Any], where: str, part: str) -> None:
    body = {"query": "q", "documents": ["a"]} | change
    assert part in refusal(client().post("/v1/rerank", json=body), 422, where)


# Refusals


@pytest.mark.parametrize(
    ("body", "where", "part"),
    [
        ({"items": [item("a", " \n")]}, "items.0.steps.1", "blank"),
        ({"items": [item("a"), item()]}, "items.1.steps", "at least 1"),
        ({"items": [item("a") | {"question": "\t"}]}, "items.0.question", "blank"),
        ({"items": [item("a") | {"question": None}]}, "items.0.question", "string"),
        ({"items": [item("a", reference="")]}, "items.0.reference", "blank"),
        ({"items": [item("a\0b")]}, "items.0.steps.0", "NUL at character 1"),
        ({"items": [item("a", id="\0")]}, "items.0.id", "NUL"),
        ({"items": [item("a") | {"steps": "a"}]}, "items.0.steps", "list"),
        ({"items": [item("a") | {"steps": [1]}]}, "items.0.steps.0", "string"),
        ({"items": [{"question": "q"}]}, "items.0", "give `steps` or `text`"),
        ({"items": [item("a", text="x")]}, "items.0", "give `steps` or `text`"),
        ({"items": [{"question": "q", "text": " "}]}, "items.0.text", "blank"),
        ({"items": []}, "items", "at least 1"),
        (
            {"items": [item("a", zz="x")]},
            "items.0",
            "unknown field 'zz'; known: id, question, steps, text, reference",
        ),
        ({"items": [item("a", stps=[])]}, "items.0", "unknown field 'stps'; did you mean 'steps'?"),
        ({"items": [item("a")], "agregation": "min"}, "body", "did you mean 'aggregation'?"),
        ({"items": [item("a")], "aggregation": "max"}, "aggregation", "'min'"),
        ([item("a")], "body", "JSON object"),
        ({}, "items", "required"),
    ],
)
def test_refuses_what_is_no_request(body: Any, where: str, part: str) -> None:
    assert part in refusal(client().post("/v1/prm/score", json=body), 422, where)


def send(body: bytes, kind: str = "application/json", **limits: int) -> httpx.Response:
    headers = {"Content-Type": kind}
    return client(**limits).post("/v1/prm/score", content=body, headers=headers)


VALID = json.dumps({"items": [item("a")]}).encode()


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        (b'{"items": [', 400, "character 11"),
        (VALID.replace(b"1 + 1", b"\xc3("), 400, ""),
        (b"[" * 100_000, 400, ""),
        (b"1" * 5000, 400, ""),
        (VALID.replace(b'"a"', b'"\\ud800"'), 422, "items.0.steps.0"),
        (VALID.replace(b'"1 + 1?"', b'"x\\udfff"'), 422, "items.0.question"),
        (VALID.replace(b'"items"', b'"\\ud800"'), 422, "body"),
        (VALID.replace(b'"a"', b"NaN"), 422, "items.0.steps.0"),
        (VALID.replace(b"{", b'{"x": Infinity, ', 1), 422, "body"),
        (b"", 422, "body"),
        (b"null", 422, "body"),
    ],
)
def test_refuses_what_is_no_clean_json(body: bytes, status: int, where: str) -> None:
    refusal(send(body), status, where)


def test_refuses_another_content_type() -> None:
    assert "application/json" in refusal(send(VALID, "text/plain"), 422, "body")


def test_a_body_full_of_errors_gets_one() -> None:
    many_keys = json.dumps({str(number): 1 for number in range(200_000)}).encode()
    assert "unknown field '0'" in refusal(send(many_keys), 422, "body")
    many_steps = VALID.replace(b'"a"', b"1" + b",1" * 200_000)
    refusal(send(many_steps), 422, "items.0.steps.0")


def test_paths_and_methods_that_do_not_exist() -> None:
    refusal(client().get("/v1/none"), 404, "")
    response = client().get("/v1/prm/score")
    refusal(response, 405, "")
    assert response.headers["Allow"] == "POST"


def speak(app: FastAPI, messages: Iterator[dict[str, Any]]) -> int:
    """What the application answers to a request that arrives in these messages."""
    statuses = []

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def answer(message: Any) -> None:
        statuses.append(message.get("status"))

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/prm/score",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    asyncio.run(app(scope, receive, answer))
    return int(statuses[0])


# Limits


def test_limits_hold_up_to_their_value() -> None:
    caller = client(max_items=2, max_steps=2, max_chars=10)

    def answer(*items: dict[str, Any]) -> httpx.Response:
        return caller.post("/v1/prm/score", json={"items": items})

    assert answer(item("a", "b"), item("abcd")).status_code == 200
    refusal(answer(item("a"), item("a"), item("a")), 422, "items")
    refusal(answer(item("a"), item("a", "b", "c")), 422, "items.1")
    refusal(answer(item("abcde")), 422, "items.0")
    refusal(answer(item("a", reference="wxyz")), 422, "items.0")
    body: dict[str, Any] = {"query": "q", "documents": ["a", "b", "c"]}
    refusal(caller.post("/v1/rerank", json=body), 422, "documents")
    body["documents"] = ["abc", "abcdefghij"]
    refusal(caller.post("/v1/rerank", json=body), 422, "documents.1")


def test_body_size_is_enforced_while_reading() -> None:
    assert send(VALID, max_body_bytes=len(VALID)).status_code == 200
    refusal(send(VALID, max_body_bytes=len(VALID) - 1), 413, "body")
    # Endless, and without a Content-Length.
    chunk = {"type": "http.request", "body": b"x" * 100, "more_body": True}
    messages = itertools.repeat(chunk, 1000)
    app = make_app(Desk(LengthScorer(), Limits(max_body_bytes=1000)))
    assert speak(app, messages) == 413
    assert len(list(messages)) == 1000 - 11


@pytest.mark.parametrize("limit", ["max_items", "max_waiting"])
def test_a_limit_of_nothing_is_a_configuration_error(limit: str) -> None:
    with pytest.raises(ConfigError, match=f"{limit} is 0"):
        configuration.load(stage.Config, None, ["scorer.model=x", f"limits.{limit}=0"])


# The key


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/prm/score"),
        ("POST", "/v1/rerank"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/none"),
        ("GET", "/health/"),
        ("GET", "//health"),
    ],
)
@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer ", "Bearer wrong", "Basic secret", "secret", "Bearer sécret"]
)
def test_everything_but_liveness_needs_the_key(method: str, path: str, header: str | None) -> None:
    headers = [] if header is None else [(b"Authorization", header.encode("latin-1"))]
    url = f"http://testserver{path}"
    response = client(key="secret").request(method, url, headers=headers)
    refusal(response, 401, "header Authorization")
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_the_key_opens() -> None:
    caller = client(key="secret")
    assert caller.get("/health").json() == {"status": "ok"}
    headers = {"Authorization": "bearer secret"}
    for path in ("/docs", "/openapi.json"):
        assert caller.get(path, headers=headers).status_code == 200
    body = {"items": [item("a")]}
    assert caller.post("/v1/prm/score", json=body, headers=headers).status_code == 200


def test_openapi_shows_requests_and_errors() -> None:
    api = client().get("/openapi.json").json()
    assert set(api["paths"]) == {
        *("/health", "/ready", "/metrics"),
        *("/v1/prm/score", "/v1/rerank", "/v2/rerank", "/get_reward"),
        *("/v1/chat/completions", "/v1/prm/search", "/v1/models", "/v1/models/{name}"),
    }
    answers = api["paths"]["/v1/rerank"]["post"]["responses"]
    schema = answers["422"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/ErrorResponse"}
    document = api["components"]["schemas"]["RerankRequest"]["properties"]["documents"]["items"]
    assert {"type": "string"} in document["anyOf"]


# Running


def test_request_id_is_echoed_or_made() -> None:
    caller = client(key="secret")
    assert caller.get("/health", headers={"X-Request-ID": "a-1"}).headers["X-Request-ID"] == "a-1"
    refused = caller.get("/docs", headers={"X-Request-ID": "a-2"})
    assert refused.headers["X-Request-ID"] == "a-2"
    made = {
        caller.get("/health", headers={"X-Request-ID": bad}).headers["X-Request-ID"]
        for bad in ("", "two words", "x" * 129, "<script>")
    }
    assert len(made) == 4
    assert all(len(name) == 32 for name in made)


def test_a_bug_is_a_500_whose_log_holds_no_text(caplog: pytest.LogCaptureFixture) -> None:
    headers = {"X-Request-ID": "r-9"}
    body = {"items": [item("a") | {"question": "a private matter"}]}
    with caplog.at_level(logging.DEBUG):
        response = client(BrokenScorer()).post("/v1/prm/score", json=body, headers=headers)
    assert "r-9" in refusal(response, 500, "")
    logged = [JSONFormatter().format(r) for r in caplog.records if r.name == "prm.serve"]
    failure, line = map(json.loads, logged)
    assert (failure["id"], failure["error"]) == ("r-9", "RuntimeError")
    assert "score_each" in failure["frames"][-1]
    assert line | {"ms": 0, "time": ""} == {
        **{"time": "", "level": "info", "message": "request", "id": "r-9", "method": "POST"},
        **{"route": "/v1/prm/score", "status": 500, "ms": 0, "items": 1, "steps": 1, "tokens": 0},
    }
    assert "private" not in caplog.text + "".join(logged) + response.text


def local(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def test_one_at_a_time_the_rest_wait_and_too_many_are_sent_away() -> None:
    scorer = SlowScorer()
    app = make_app(Desk(scorer, Limits(max_waiting=2)))

    async def scenario() -> None:
        async with local(app) as caller:

            def ask(step: str) -> asyncio.Task[httpx.Response]:
                body = {"items": [item(step)]}
                return asyncio.create_task(caller.post("/v1/prm/score", json=body))

            tasks = [ask("a")]
            await asyncio.to_thread(scorer.entered.acquire)
            tasks += [ask("ab"), ask("abc" * 9)]
            await asyncio.sleep(0.05)
            busy = await ask("abcd")
            refusal(busy, 503, "")
            assert busy.headers["Retry-After"] == "1"
            # Liveness does not wait for the model.
            assert (await asyncio.wait_for(caller.get("/health"), 1)).status_code == 200
            assert scorer.calls == 1
            scorer.release.set()
            answers = await asyncio.wait_for(asyncio.gather(*tasks), 20)
            rewards = [answer.json()["results"][0]["reward"] for answer in answers]
            assert rewards == [1, 1 / 2, 1 / 27]
            assert (await ask("abcd")).status_code == 200

    asyncio.run(scenario())
    # What waited was merged, but for the one that is too long for the others.
    assert scorer.calls == 4
    assert not scorer.overlapped


def test_nothing_is_scored_for_a_client_that_left() -> None:
    scorer = SlowScorer()
    scorer.release.set()
    app = make_app(Desk(scorer, Limits()))
    body = {"type": "http.request", "body": VALID, "more_body": False}
    leave = {"type": "http.disconnect"}
    speak(app, iter([body, leave]))
    # Half a body that is itself valid must not be taken for the whole.
    speak(app, iter([body | {"more_body": True}, leave]))
    assert scorer.calls == 0


# The stage


def load(*overrides: str) -> stage.Config:
    return configuration.load(stage.Config, None, ["scorer.model=/none", *overrides])


def test_defaults_are_private() -> None:
    config = load()
    assert (config.host, config.port, config.api_key_env) == ("127.0.0.1", 8000, None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "is not set"),
        ("", "is empty"),
        ("key\n", "line end"),
        ("ke y", "space"),
        ("kéy", "header"),
    ],
)
def test_an_unusable_key_is_refused(
    value: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PRM_TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("PRM_TEST_KEY", value)
    with pytest.raises(ConfigError, match=message):
        stage.run(load("api_key_env=PRM_TEST_KEY"))


@pytest.mark.parametrize("package", ["fastapi", "fastapi_offline", "prometheus_client", "uvicorn"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"needs {package}: pip install 'aurora-prm\[serve\]'"):
        stage.run(load())


def test_an_address_that_cannot_be_had() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port} \(Address already in use\)"):
            stage.run(load(f"port={port}"))
    with pytest.raises(ConfigError, match="cannot listen on no-such-host"):
        stage.run(load("host=no-such-host.invalid"))
    with pytest.raises(ConfigError, match="port is 65536"):
        load("port=65536")


def test_a_missing_checkpoint_is_named() -> None:
    with pytest.raises(CheckpointError, match="/none"):
        stage.run(load("port=0"))


def make_checkpoint(folder: Path, hidden_size: int = 32) -> Path:
    """A small model with random weights; heads are half as wide as what is hidden."""
    tokenizer = make_tokenizer(["What is 1 + 1? It is 2, which we know."], 300)
    size = ScratchConfig(
        vocab_size=300, hidden_size=hidden_size, layers=2, heads=2, intermediate_size=64
    )
    make_model(size, tokenizer, context=256, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    declaration = Declaration(
        render=RenderSettings(max_length=256),
        reference="worked",
        reference_drop=0.0,
        loss="mse",
        base="scratch",
    )
    write_declaration(folder, declaration)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("serve") / "model")


@pytest.fixture
def server(checkpoint: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`prm serve` on a free port, with its address."""
    arguments = [f"scorer.model={checkpoint}", "scorer.device=cpu", "port=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "prm", "serve", *arguments, "api_key_env=PRM_TEST_KEY"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PRM_TEST_KEY": "secret"},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "key from $PRM_TEST_KEY" in line, process.communicate(timeout=10)
        yield process, line.split(" at ")[1].split()[0]
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_real_server_scores_as_the_model_does(
    checkpoint: Path, server: tuple[subprocess.Popen[str], str]
) -> None:
    process, url = server
    items = [
        item("1 + 1 = 2", "It is 2.", reference="2"),
        item("x", "<|im_end|>", "ки"),
        item("far too long " * 200),
    ]
    solutions = [
        Solution(
            id=str(index),
            problem=entry["question"],
            steps=tuple(entry["steps"]),
            answer=entry.get("reference"),
            reference=entry.get("reference"),
        )
        for index, entry in enumerate(items)
    ]
    expected = load_scorer(ScorerConfig(str(checkpoint), device="cpu")).score_each(solutions)
    headers = {"Authorization": "Bearer secret"}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as caller:
        results = caller.post("/v1/prm/score", json={"items": items}).json()["results"]
        assert caller.post("/v1/rerank", json={"query": "q", "documents": ["a", "b"]}).is_success
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}
    assert httpx.post(f"{url}/v1/prm/score", json={"items": items}).status_code == 401
    for result, want in zip(results[:2], expected[:2], strict=True):
        assert isinstance(want, StepScores)
        assert result["scores"] == pytest.approx(want.scores, abs=1e-5)
    assert isinstance(expected[2], Failure)
    assert results[2]["error"] == expected[2].reason
    assert results[2]["scores"] is None

    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=15)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.slow
def test_a_taken_port_is_one_line(checkpoint: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        overrides = [f"scorer.model={checkpoint}", f"port={port}"]
        done = subprocess.run(
            [sys.executable, "-m", "prm", "serve", *overrides],
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"127.0.0.1:{port}" in done.stderr
