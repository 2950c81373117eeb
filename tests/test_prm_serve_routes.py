"""What further routes answer: texts, Cohere's and Jina's fields, rewards, readiness, figures."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient
from test_prm_serve import BrokenScorer, LengthScorer, client, item, refusal

from prm.errors import EngineError
from prm.serve.app import make_app
from prm.serve.desk import Desk
from prm.serve.schemas import Limits

# Text in place of steps


def test_the_steps_of_a_text_are_separated_and_shown() -> None:
    items = [{"question": "q", "text": "ab\n\nabcd\n\na"}, item("ab")]
    first, second = client().post("/v1/prm/score", json={"items": items}).json()["results"]
    assert first["steps"] == ["ab", "abcd", "a"]
    assert first["scores"] == [0.5, 0.25, 1.0]
    assert second["steps"] is None


def test_the_steps_of_a_text_are_counted() -> None:
    body = {"items": [item("a"), {"question": "q", "text": "a\n\nb\n\nc"}]}
    assert "3 steps" in refusal(
        client(max_steps=2).post("/v1/prm/score", json=body), 422, "items.1"
    )
    body = {"items": [{"question": "q", "text": "a" * 20}]}
    assert "21 char" in refusal(
        client(max_chars=20).post("/v1/prm/score", json=body), 422, "items.0"
    )


def test_an_item_that_raises_harms_no_neighbour() -> None:
    class Delicate(LengthScorer):
        def score_each(self, batch):
            if any("BAD" in solution.steps for solution in batch):
                raise RuntimeError("private")
            return super().score_each(batch)

    items = [item("a"), item("BAD"), item("cc")]
    first, bad, last = (
        client(Delicate())
        .post("/v1/prm/score", json={"items": items}, headers={"X-Request-ID": "r-1"})
        .json()["results"]
    )
    assert (first["scores"], last["scores"]) == ([1.0], [0.5])
    assert bad["error"] == "the server failed; its log tells of r-1"
    body = {"query": "q", "documents": ["a", {"steps": ["BAD"]}]}
    refusal(client(Delicate()).post("/v1/rerank", json=body), 500, "documents.1")


# Rerank


@pytest.mark.parametrize("version", ["1", "2"])
def test_rerank_says_what_clients_of_cohere_and_jina_read(version: str) -> None:
    class Counting(LengthScorer):
        tokens = 0

        def score_each(self, batch):
            self.tokens += 5 * len(batch)
            return super().score_each(batch)

    body = {"query": "q", "documents": ["ab"] * 101}
    answer = client(Counting()).post(f"/v{version}/rerank", json=body).json()
    assert set(answer) == {"id", "model", "results", "usage", "meta"}
    assert answer["usage"] == {"total_tokens": 505}
    assert answer["meta"] == {
        "api_version": {"version": version},
        "billed_units": {"search_units": 2},
    }
    assert answer["results"][0] == {"index": 0, "relevance_score": 0.5, "scores": [0.5]}


# Rewards


def reward(body: dict[str, Any], query: str = "", scorer: Any = None, **limits: int) -> Any:
    return client(scorer, **limits).post(f"/get_reward{query}", json=body)


BODY = {
    "query": ["What?ab\n\nabcd", "Why? a"],
    "prompts": ["What?", "Why?"],
    "labels": ["5", ""],
}


def test_rewards_as_openrlhf_reads_them() -> None:
    assert reward(BODY).json() == {
        "rewards": [0.25, 1.0],
        "scores": [0.25, 1.0],
        "extra_logs": {"steps": [2, 1], "unscorable": [0, 0]},
    }
    assert reward(BODY, "?aggregation=mean").json()["rewards"] == [0.375, 1.0]


def test_labels_are_references_and_may_be_left_out() -> None:
    seen = []

    class Recorder(LengthScorer):
        def score_each(self, batch):
            seen.extend(batch)
            return super().score_each(batch)

    assert reward(BODY, scorer=Recorder()).is_success
    bare = {name: BODY[name] for name in ("query", "prompts")}
    assert reward(bare, scorer=Recorder()).is_success
    assert [one.reference for one in seen] == ["5", None, None, None]
    assert [one.problem for one in seen] == ["What?", "Why?"] * 2


def test_a_response_without_a_score_needs_a_word_on_its_reward() -> None:
    body = {"query": ["q", "qUNSCORABLE", "qab"], "prompts": ["q"] * 3}
    assert "no response" in refusal(reward(body), 422, "query.0")
    assert "too many tokens; add ?unscorable=NUMBER" in refusal(
        reward({"query": body["query"][1:], "prompts": ["q"] * 2}), 422, "query.0"
    )
    assert reward(body, "?unscorable=-2.5").json() == {
        "rewards": [-2.5, -2.5, 0.5],
        "scores": [-2.5, -2.5, 0.5],
        "extra_logs": {"steps": [0, 1, 1], "unscorable": [1, 1, 0]},
    }
    assert reward({"query": ["q"], "prompts": ["q"]}, "?unscorable=0").json()["rewards"] == [0]


@pytest.mark.parametrize(
    ("change", "where", "part"),
    [
        ({"prompts": ["What?"]}, "prompts", "1 for 2 queries"),
        ({"labels": ["5"]}, "labels", "1 for 2 queries"),
        ({"query": ["What?a", "Who?b"]}, "query.1", "does not begin with its prompt"),
        ({"query": "What?a"}, "query", "list"),
        ({"prompts": ["What?", None]}, "prompts.1", "string"),
        ({"promts": []}, "body", "did you mean 'prompts'?"),
        ({"query": ["What?" + "a\n\n" * 9, "Why? b"]}, "query.0", "9 steps, more than 5"),
    ],
)
def test_rewards_refuse(change: dict[str, Any], where: str, part: str) -> None:
    assert part in refusal(reward(BODY | change, max_steps=5), 422, where)


def test_rewards_need_numbers() -> None:
    refusal(reward(BODY, "?unscorable=nan"), 422, "query parameter unscorable")
    refusal(reward(BODY, "?aggregation=max"), 422, "query parameter aggregation")
    refusal(reward(BODY, scorer=BrokenScorer()), 500, "")


# Whether it is there


def test_readiness_follows_the_model() -> None:
    desk = Desk(None, Limits())
    caller = TestClient(make_app(desk, "secret"))
    headers = {"Authorization": "Bearer secret"}
    go = threading.Event()

    def load() -> LengthScorer:
        assert go.wait(10)
        return LengthScorer()

    desk.batcher.load(load)
    assert caller.get("/health").json() == {"status": "ok"}
    assert refusal(caller.get("/ready"), 503, "") == "not ready: loading"
    early = caller.post("/v1/prm/score", json={"items": [item("a")]}, headers=headers)
    assert "being loaded" in refusal(early, 503, "")
    assert early.headers["Retry-After"]
    assert "prm_ready 0.0" in caller.get("/metrics", headers=headers).text
    go.set()
    while desk.batcher.state == "loading":
        threading.Event().wait(0.01)
    assert caller.get("/ready").json() == {"status": "ready"}
    assert "prm_ready 1.0" in caller.get("/metrics", headers=headers).text
    desk.batcher.drain()
    assert refusal(caller.get("/ready"), 503, "") == "not ready: draining"
    # What was accepted is still served.
    body = {"items": [item("a")]}
    assert caller.post("/v1/prm/score", json=body, headers=headers).is_success


def test_a_dead_engine_is_not_ready() -> None:
    class Dying(LengthScorer):
        def score_each(self, batch):
            raise EngineError("gone")

    caller = client(Dying())
    assert caller.get("/ready").is_success
    for _ in range(2):
        answer = caller.post("/v1/prm/score", json={"items": [item("a")]})
        assert "the engine died" in refusal(answer, 503, "")
    assert refusal(caller.get("/ready"), 503, "") == "not ready: dead"
    assert caller.get("/health").is_success


# Figures


def test_metrics_count_what_was_done_and_tell_no_text() -> None:
    caller = client(key="geheim")
    headers = {"Authorization": "Bearer geheim"}
    items = [item("ab", "secret words"), item("UNSCORABLE")]
    assert caller.post("/v1/prm/score", json={"items": items}, headers=headers).is_success
    caller.get("/v1/secret%20path", headers=headers)
    caller.request("SECRET", "/health")
    caller.post("/v1/rerank", json={}, headers=headers)
    caller.post("/v1/rerank", json={})
    refusal(caller.get("/metrics"), 401, "header Authorization")
    answer = caller.get("/metrics", headers=headers)
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    text = answer.text
    for line in (
        'prm_requests_total{method="POST",route="/v1/prm/score",status="200"} 1.0',
        'prm_requests_total{method="GET",route="other",status="404"} 1.0',
        'prm_requests_total{method="other",route="/health",status="405"} 1.0',
        'prm_requests_total{method="POST",route="/v1/rerank",status="422"} 1.0',
        'prm_requests_total{method="POST",route="/v1/rerank",status="401"} 1.0',
        'prm_request_seconds_count{route="/v1/prm/score"} 1.0',
        'prm_items_total{status="ok"} 1.0',
        'prm_items_total{status="error"} 1.0',
        "prm_steps_total 2.0",
        "prm_score_count 2.0",
        'prm_score_bucket{le="0.5"} 2.0',
        "prm_waiting_requests 0.0",
        "prm_waiting_items 0.0",
    ):
        assert line in text, line
    assert not re.search("secret|geheim", text, re.IGNORECASE)


# The OpenAPI page


def test_the_page_needs_nothing_from_elsewhere() -> None:
    caller = client()
    page = caller.get("/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(sources) >= 2
    for source in sources:
        assert source.startswith("/")
        if not source.endswith(".png"):  # an icon is nothing that the page needs
            assert len(caller.get(source).content) > 10_000
    assert "://" not in page
