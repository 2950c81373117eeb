"""A client for `prm serve`: scores and rankings as typed results, with retries.

    from prm.client import Client

    with Client("http://127.0.0.1:8000") as client:
        result = client.score("What is 2 + 3?", ["2 + 3 = 5", "The answer is 5."])
        print(result.scores, result.reward)

`AsyncClient` has the same methods, to be awaited. Scoring changes nothing on the server, so a
request whose answer was lost is sent again. What the server refuses is an error that says where;
an item that cannot be scored alone is a result with its `error`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from prm.engines.endpoint import retry_after
from prm.errors import ClientError

_AGAIN = {408, 429, 500, 502, 503, 504}
_pause = wait_random_exponential(multiplier=0.2, max=10)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One solution to score: in steps, or as a text whose steps the server separates."""

    question: str
    steps: Sequence[str] | None = None
    text: str | None = None
    reference: str | None = None
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One solution's outcome.

    Attributes:
        id: as given.
        scores: one per step; None where it could not be scored.
        reward: their aggregation; likewise.
        error: why there are none.
    """

    id: str | None
    scores: tuple[float, ...] | None
    reward: float | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One candidate of a ranking: its place in the request, its reward and its step scores."""

    index: int
    reward: float
    scores: tuple[float, ...]


class _Again(Exception):
    """An answer, or none, that another attempt may better."""

    def __init__(self, error: ClientError, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


class _Requests:
    """What both clients send and how they read the answers.

    Args:
        url: of the server.
        key: the bearer key; None reads the environment variable `PRM_API_KEY`, where it is set.
        timeout: seconds that an answer may take.
        retries: how often a request is sent again where the server or the network failed.
    """

    def __init__(
        self, url: str, *, key: str | None = None, timeout: float = 600.0, retries: int = 5
    ) -> None:
        key = key if key is not None else os.environ.get("PRM_API_KEY")
        self._settings: dict[str, Any] = {
            "base_url": url,
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "timeout": httpx.Timeout(timeout, connect=10.0),
        }
        self._retry: dict[str, Any] = {
            "retry": retry_if_exception_type(_Again),
            "stop": stop_after_attempt(retries + 1),
            "wait": _wait,
            "retry_error_callback": _give_up,
        }

    def _score_body(self, items: Sequence[Item], aggregation: str) -> dict[str, Any]:
        fields = ("id", "question", "steps", "text", "reference")
        sent = []
        for item in items:
            values = {name: getattr(item, name) for name in fields}
            if item.steps is not None:
                values["steps"] = list(item.steps)
            sent.append({name: value for name, value in values.items() if value is not None})
        return {"items": sent, "aggregation": aggregation}

    def _scored(self, answer: dict[str, Any], items: Sequence[Item]) -> list[Scored]:
        try:
            results = [
                Scored(
                    id=entry["id"],
                    scores=None if entry["scores"] is None else tuple(entry["scores"]),
                    reward=entry["reward"],
                    error=entry["error"],
                )
                for entry in answer["results"]
            ]
        except (KeyError, TypeError):
            raise ClientError("the answer is not what `prm serve` gives; is it one?") from None
        if len(results) != len(items):
            raise ClientError(f"{len(results)} results for {len(items)} items")
        return results

    def _rerank_body(
        self,
        query: str,
        documents: Sequence[str | Sequence[str]],
        top_n: int | None,
        aggregation: str,
        reference: str | None,
    ) -> dict[str, Any]:
        sent = [item if isinstance(item, str) else {"steps": list(item)} for item in documents]
        body = {
            "query": query,
            "documents": sent,
            "top_n": top_n,
            "aggregation": aggregation,
            "reference": reference,
        }
        return {name: value for name, value in body.items() if value is not None}

    def _ranked(self, answer: dict[str, Any]) -> list[Ranked]:
        try:
            return [
                Ranked(
                    index=entry["index"],
                    reward=entry["relevance_score"],
                    scores=tuple(entry["scores"]),
                )
                for entry in answer["results"]
            ]
        except (KeyError, TypeError):
            raise ClientError("the answer is not what `prm serve` gives; is it one?") from None


class Client(_Requests):
    """A client that waits for its answers; see the module."""

    def __init__(self, url: str, **settings: Any) -> None:
        super().__init__(url, **settings)
        self._http = httpx.Client(**self._settings)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def score(
        self,
        question: str,
        steps: Sequence[str],
        *,
        reference: str | None = None,
        aggregation: str = "min",
    ) -> Scored:
        """Score one solution.

        Raises:
            ClientError: the server refuses the request, cannot score the solution, or does not
                answer.
        """
        item = Item(question=question, steps=steps, reference=reference)
        return _alone(self.score_each([item], aggregation=aggregation))

    def score_each(self, items: Sequence[Item], *, aggregation: str = "min") -> list[Scored]:
        """Score solutions: one result each, in order.

        Raises:
            ClientError: the server refuses the request as a whole, or does not answer.
        """
        answer = self._post("/v1/prm/score", self._score_body(items, aggregation))
        return self._scored(answer, items)

    def rerank(
        self,
        query: str,
        documents: Sequence[str | Sequence[str]],
        *,
        top_n: int | None = None,
        aggregation: str = "min",
        reference: str | None = None,
    ) -> list[Ranked]:
        """Candidates of a question, best first; a candidate is a text or a list of steps.

        Raises:
            ClientError: the server refuses the request, or does not answer.
        """
        body = self._rerank_body(query, documents, top_n, aggregation, reference)
        return self._ranked(self._post("/v1/rerank", body))

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        def attempt() -> dict[str, Any]:
            try:
                return _read(self._http.post(path, json=body))
            except httpx.HTTPError as error:
                raise _lost(error, self._http.base_url) from None

        return Retrying(**self._retry)(attempt)


class AsyncClient(_Requests):
    """As `Client`, to be awaited."""

    def __init__(self, url: str, **settings: Any) -> None:
        super().__init__(url, **settings)
        self._http = httpx.AsyncClient(**self._settings)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def score(
        self,
        question: str,
        steps: Sequence[str],
        *,
        reference: str | None = None,
        aggregation: str = "min",
    ) -> Scored:
        """See `Client.score`."""
        item = Item(question=question, steps=steps, reference=reference)
        return _alone(await self.score_each([item], aggregation=aggregation))

    async def score_each(self, items: Sequence[Item], *, aggregation: str = "min") -> list[Scored]:
        """See `Client.score_each`."""
        answer = await self._post("/v1/prm/score", self._score_body(items, aggregation))
        return self._scored(answer, items)

    async def rerank(
        self,
        query: str,
        documents: Sequence[str | Sequence[str]],
        *,
        top_n: int | None = None,
        aggregation: str = "min",
        reference: str | None = None,
    ) -> list[Ranked]:
        """See `Client.rerank`."""
        body = self._rerank_body(query, documents, top_n, aggregation, reference)
        return self._ranked(await self._post("/v1/rerank", body))

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        async def attempt() -> dict[str, Any]:
            try:
                return _read(await self._http.post(path, json=body))
            except httpx.HTTPError as error:
                raise _lost(error, self._http.base_url) from None

        return await AsyncRetrying(**self._retry)(attempt)


def _alone(results: list[Scored]) -> Scored:
    (result,) = results
    if result.error is not None:
        raise ClientError(f"the solution cannot be scored: {result.error}")
    return result


def _read(response: httpx.Response) -> dict[str, Any]:
    """The body of a good answer.

    Raises:
        _Again: the server failed, or is busy.
        ClientError: it refuses the request.
    """
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.is_success:
        if not isinstance(body, dict):
            raise ClientError("the answer is not what `prm serve` gives; is it one?")
        return body
    told = body.get("error") if isinstance(body, dict) else None
    told = told if isinstance(told, dict) else {}
    where = str(told.get("where") or "")
    message = str(told.get("message") or response.reason_phrase)
    place = f" ({where})" if where else ""
    error = ClientError(
        f"status {response.status_code}{place}: {message}", response.status_code, where
    )
    if response.status_code not in _AGAIN:
        raise error
    raise _Again(error, retry_after(response))


def _lost(error: httpx.HTTPError, url: httpx.URL) -> _Again:
    reason = str(error) or type(error).__name__
    return _Again(ClientError(f"{url}: no answer ({reason}); is the server running?"))


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, _Again) else None
    return _pause(state) if asked is None else asked


def _give_up(state: RetryCallState) -> Any:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, _Again)
    raise error.error from None
