"""What `/openapi.json` promises, held against the application with made-up requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from endpoint import Server, serving
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from prm.scorers import ScorerConfig, load
from prm.serve.app import make_app
from prm.serve.desk import Desk
from prm.serve.policy import Policy, PolicyEndpoint, PolicyEngine
from prm.serve.schemas import Limits

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
"""That a request which the schema refuses is refused, and the other way round, is not among them:
no schema says that text must not be blank, or that a query begins with its prompt."""


@pytest.fixture(scope="module")
def api(tiny_prm: Path) -> Iterator[Any]:
    with serving(Server()) as writer:
        policy = Policy(PolicyEngine("writer", endpoint=PolicyEndpoint([writer.url])))
        desk = Desk(load(ScorerConfig(str(tiny_prm))), Limits(), policy=policy)
        yield schemathesis.openapi.from_asgi("/openapi.json", make_app(desk))


UNSAID = ("/get_reward", "/v1/chat/completions", "/v1/prm/search")
"""No schema says that a query begins with its prompt, that the last message is the user's, or that
a width divides n."""
POSTS = ("/v1/prm/score", "/v1/rerank", "/v2/rerank", *UNSAID)
GETS = ("/health", "/ready", "/metrics", "/v1/models")
NAMED = "/v1/models/{name}"


def ask(api: Any, method: str, path: str, mode: schemathesis.GenerationMode) -> set[int]:
    """Check made-up requests; returns the statuses that they got."""
    seen = set()

    @settings(
        max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(api[path][method].as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        seen.add(case.call_and_validate(checks=CHECKS).status_code)

    check()
    return seen


@pytest.mark.parametrize("path", POSTS)
def test_no_request_breaks_the_server_or_the_promise(api: Any, path: str) -> None:
    seen = ask(api, "POST", path, schemathesis.GenerationMode.POSITIVE)
    assert (422 if path in UNSAID else 200) in seen
    assert 422 in ask(api, "POST", path, schemathesis.GenerationMode.NEGATIVE)


@pytest.mark.parametrize("path", GETS)
def test_what_takes_nothing_answers(api: Any, path: str) -> None:
    assert ask(api, "GET", path, schemathesis.GenerationMode.POSITIVE) == {200}


def test_a_model_that_is_not_there_is_told(api: Any) -> None:
    assert ask(api, "GET", NAMED, schemathesis.GenerationMode.POSITIVE) == {404}


def test_all_routes_are_promised(api: Any) -> None:
    paths = {operation.ok().path for operation in api.get_all_operations()}
    assert paths == {*POSTS, *GETS, NAMED}


def test_the_promise_tells_of_the_key(tiny_prm: Path) -> None:
    app = make_app(Desk(load(ScorerConfig(str(tiny_prm))), Limits()), "secret")
    headers = {"Authorization": "Bearer secret"}
    paths = TestClient(app).get("/openapi.json", headers=headers).json()["paths"]
    open_paths = {
        path for path, methods in paths.items() for one in methods.values() if "security" not in one
    }
    assert open_paths == {"/health", "/ready"}
