"""The client against a real server: the same numbers as in process, typed, and what goes wrong."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import served

from annotate.pieces import split_steps
from prm.client import AsyncClient, Client, Item
from prm.errors import ClientError
from prm.scorers import ScorerConfig, load, score

QUESTION = "What is 2 + 3?"
STEPS = ["2 + 3 = 5", "The answer is 5."]
TEXT = "First, 2 + 3 = 5.\n\nSo the answer is 5."


@pytest.fixture(scope="module")
def url(tiny_prm: Path) -> Iterator[str]:
    with served.serve(tiny_prm, key="secret") as found:
        yield found


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, key="secret") as found:
        yield found


@pytest.fixture(scope="module")
def scorer(tiny_prm: Path):
    return load(ScorerConfig(str(tiny_prm)))


def test_scores_are_those_of_the_model(client, scorer):
    result = client.score(QUESTION, STEPS, reference="5", aggregation="mean")
    expected = score(scorer, QUESTION, STEPS, "5")
    assert result.scores == pytest.approx(expected, abs=1e-6)
    assert result.reward == pytest.approx(sum(expected) / 2, abs=1e-6)
    assert result.error is None


def test_items_keep_their_order_and_fail_alone(client, scorer):
    long = ["1 2 3 4 5 6 7 8 9 " * 60]
    items = [
        Item(question=QUESTION, steps=STEPS, id="a"),
        Item(question=QUESTION, steps=long, id="b"),
        Item(question=QUESTION, text=TEXT, id="c"),
    ]
    first, second, third = client.score_each(items)
    assert (first.id, second.id, third.id) == ("a", "b", "c")
    assert second.scores is second.reward is None
    assert "more than max_length" in (second.error or "")
    assert third.scores == pytest.approx(score(scorer, QUESTION, split_steps(TEXT)), abs=1e-6)
    with pytest.raises(ClientError, match=r"cannot be scored: .*max_length"):
        client.score(QUESTION, long)


def test_a_ranking_is_best_first(client):
    ranked = client.rerank(QUESTION, [TEXT, STEPS, "Nothing."], aggregation="last")
    assert sorted(item.index for item in ranked) == [0, 1, 2]
    rewards = [item.reward for item in ranked]
    assert rewards == sorted(rewards, reverse=True)
    assert all(item.reward == item.scores[-1] for item in ranked)
    assert client.rerank(QUESTION, [TEXT, STEPS], top_n=1, aggregation="last")[0].index in (0, 1)


def test_both_clients_say_the_same(client, url):
    async def ask():
        async with AsyncClient(url, key="secret") as other:
            return await asyncio.gather(
                other.score(QUESTION, STEPS),
                other.score_each([Item(question=QUESTION, steps=STEPS)] * 3),
                other.rerank(QUESTION, [TEXT, STEPS]),
            )

    one, many, ranked = asyncio.run(ask())
    assert one.scores == pytest.approx(client.score(QUESTION, STEPS).scores, abs=1e-6)
    assert [item.scores for item in many] == [pytest.approx(one.scores, abs=1e-6)] * 3
    again = client.rerank(QUESTION, [TEXT, STEPS])
    assert [item.index for item in ranked] == [item.index for item in again]
    assert [item.reward for item in ranked] == pytest.approx([item.reward for item in again])


def test_a_refusal_says_where(client):
    with pytest.raises(ClientError, match=r"status 422 \(items\.0\.steps\.1\): .*blank") as caught:
        client.score(QUESTION, ["x", " "])
    assert (caught.value.status, caught.value.where) == (422, "items.0.steps.1")


def test_a_wrong_key_is_not_tried_again(url):
    begin = time.monotonic()
    with Client(url, key="wrong") as other, pytest.raises(ClientError, match="status 401"):
        other.score(QUESTION, STEPS)
    assert time.monotonic() - begin < 5


def test_no_server():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    gone = pytest.raises(ClientError, match=r"no answer .* is the server running")
    with Client(f"http://127.0.0.1:{port}", retries=1) as other, gone as caught:
        other.score(QUESTION, STEPS)
    assert caught.value.status is None


def answering(*answers: bytes) -> tuple[str, list[bytes]]:
    """A server that gives these raw answers, one a connection; what it was sent is gathered."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def run() -> None:
        with listener:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    asked.append(connection.recv(65536))
                    connection.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", asked


def raw(status: str, body: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


GOOD = raw(
    "200 OK",
    '{"model": "m", "results": [{"id": null, "status": "ok", "scores": [0.5], "reward": 0.5, '
    '"error": null}]}',
)


def test_a_busy_or_broken_server_is_asked_again_when_it_says_so():
    url, asked = answering(raw("503 Busy", "{}", "Retry-After: 1"), b"", raw("500 x", "<p>"), GOOD)
    begin = time.monotonic()
    with Client(url, retries=3) as other:
        assert other.score(QUESTION, ["x"]).scores == (0.5,)
    assert time.monotonic() - begin >= 1
    assert len(asked) == 4


def test_what_is_no_answer_of_ours_is_refused():
    for answer in (raw("200 OK", "<html>"), raw("200 OK", "[]"), raw("200 OK", '{"results": 1}')):
        url, _ = answering(answer)
        with Client(url) as other, pytest.raises(ClientError, match="is not what `prm serve`"):
            other.score(QUESTION, ["x"])
    url, _ = answering(raw("200 OK", '{"results": []}'))
    with Client(url) as other, pytest.raises(ClientError, match="0 results for 1 items"):
        other.score(QUESTION, ["x"])
