"""A client for `prm serve`: scores, rankings and searches as typed results, with retries.

    from prm.client import Client

    with Client("http://127.0.0.1:8000") as client:
        result = client.score("What is 2 + 3?", ["2 + 3 = 5", "The answer is 5."])
        print(result.scores, result.reward)

`AsyncClient` has the same methods, to be awaited. Scoring changes nothing on the server, so a
request whose answer was lost is sent again; a search is not, once it has begun. What the server
refuses is an error that says where; an item that cannot be scored alone is a result with its
`error`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Any

import httpx
from tenacity import AsyncRetrying, Retrying

from prm.client.exchange import Item, Ranked, Requests, Scored, alone, lost, read, streams
from prm.client.search import NOT_OURS, Reader, SearchPath, SearchResult, SearchRound
from prm.errors import ClientError

__all__ = [
    "AsyncClient",
    "Client",
    "Item",
    "Ranked",
    "Scored",
    "SearchPath",
    "SearchResult",
    "SearchRound",
]

_SEARCH = "/v1/prm/search"
_CUT = "the search ended without a result; was the server stopped?"


class Client(Requests):
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
        return alone(self.score_each([item], aggregation=aggregation))

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

    def search(
        self, question: str, *, method: str, n: int, width: int | None = None, **settings: Any
    ) -> Iterator[SearchRound | SearchResult]:
        """Search for a solution with the server's policy; whoever stops reading ends the search.

        Args:
            question: what to solve.
            method: `best_of_n`, `beam` or `dvts`.
            n: draws, of solutions or of steps in a round.
            width: how many paths go on, for `beam` and `dvts`.
            settings: further fields of the request, such as `seed`, `steps` or `boundaries`: see
                `prm.serve.searches.SearchRequest`.

        Yields:
            a `SearchRound` after each round, at last the `SearchResult`.

        Raises:
            ClientError: the server refuses the request or does not answer; or the search broke off.
        """
        body = self._search_body(question, method, n, width, settings)
        answer = Retrying(**self._retry)(self._begin, body)
        reader = Reader()
        try:
            for line in answer.iter_lines():
                event = reader.read(line)
                if event is not None:
                    yield event
                if isinstance(event, SearchResult):
                    return
        except httpx.HTTPError as error:
            raise lost(error, self._http.base_url).error from None
        finally:
            answer.close()
        raise ClientError(_CUT)

    def _begin(self, body: dict[str, Any]) -> httpx.Response:
        asked = self._http.build_request("POST", _SEARCH, json=body)
        try:
            answer = self._http.send(asked, stream=True)
            if not streams(answer):
                answer.read()
                read(answer)
                raise ClientError(NOT_OURS)
        except httpx.HTTPError as error:
            raise lost(error, self._http.base_url) from None
        return answer

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        def attempt() -> dict[str, Any]:
            try:
                return read(self._http.post(path, json=body))
            except httpx.HTTPError as error:
                raise lost(error, self._http.base_url) from None

        return Retrying(**self._retry)(attempt)


class AsyncClient(Requests):
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
        return alone(await self.score_each([item], aggregation=aggregation))

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

    async def search(
        self, question: str, *, method: str, n: int, width: int | None = None, **settings: Any
    ) -> AsyncIterator[SearchRound | SearchResult]:
        """See `Client.search`."""
        body = self._search_body(question, method, n, width, settings)
        answer: httpx.Response = await AsyncRetrying(**self._retry)(self._begin, body)
        reader = Reader()
        try:
            async for line in answer.aiter_lines():
                event = reader.read(line)
                if event is not None:
                    yield event
                if isinstance(event, SearchResult):
                    return
        except httpx.HTTPError as error:
            raise lost(error, self._http.base_url).error from None
        finally:
            await answer.aclose()
        raise ClientError(_CUT)

    async def _begin(self, body: dict[str, Any]) -> httpx.Response:
        asked = self._http.build_request("POST", _SEARCH, json=body)
        try:
            answer = await self._http.send(asked, stream=True)
            if not streams(answer):
                await answer.aread()
                read(answer)
                raise ClientError(NOT_OURS)
        except httpx.HTTPError as error:
            raise lost(error, self._http.base_url) from None
        return answer

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        async def attempt() -> dict[str, Any]:
            try:
                return read(await self._http.post(path, json=body))
            except httpx.HTTPError as error:
                raise lost(error, self._http.base_url) from None

        return await AsyncRetrying(**self._retry)(attempt)
