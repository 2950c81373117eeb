"""What both clients send, how they read the answers, and when they ask again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from tenacity import (
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from prm.client.search import NOT_OURS
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


class Again(Exception):
    """An answer, or none, that another attempt may better."""

    def __init__(self, error: ClientError, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


class Requests:
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
            "retry": retry_if_exception_type(Again),
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
            raise ClientError(NOT_OURS) from None
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
            raise ClientError(NOT_OURS) from None

    def _search_body(
        self, question: str, method: str, n: int, width: int | None, settings: dict[str, Any]
    ) -> dict[str, Any]:
        asked = {"question": question, "method": method, "n": n, "width": width, "stream": True}
        return settings | asked


def alone(results: list[Scored]) -> Scored:
    (result,) = results
    if result.error is not None:
        raise ClientError(f"the solution cannot be scored: {result.error}")
    return result


def read(response: httpx.Response) -> dict[str, Any]:
    """The body of a good answer.

    Raises:
        Again: the server failed, or is busy.
        ClientError: it refuses the request.
    """
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.is_success:
        if not isinstance(body, dict):
            raise ClientError(NOT_OURS)
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
    raise Again(error, retry_after(response))


def streams(response: httpx.Response) -> bool:
    kind = response.headers.get("content-type", "")
    return response.is_success and kind.startswith("text/event-stream")


def lost(error: httpx.HTTPError, url: httpx.URL) -> Again:
    reason = str(error) or type(error).__name__
    return Again(ClientError(f"{url}: no answer ({reason}); is the server running?"))


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, Again) else None
    return _pause(state) if asked is None else asked


def _give_up(state: RetryCallState) -> Any:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, Again)
    raise error.error from None
