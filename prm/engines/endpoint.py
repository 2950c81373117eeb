"""Requests to OpenAI-compatible servers: which server, when again, and what its errors mean.

What a request asks for and what an answer says is the business of `prm.engines.openai`.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from prm.engines.base import EndpointConfig
from prm.errors import EngineError

T = TypeVar("T")

TRIES_PER_URL = 3
"""Failed attempts at one url after which a request moves on to the next; fewer where it would else
not come to all of them."""
CONNECT_TIMEOUT = 10.0
LONGEST_PAUSE = 60.0
LONGEST_RETRY_AFTER = 120.0
"""Seconds; a server that asks for more is asked earlier."""

_AGAIN = {408, 409, 425, 429}
_pause = wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE)


class Unusable(Exception):
    """An answer that another attempt may better."""


class Refused(Exception):
    """A server will not answer this request, however often it is asked.

    Attributes:
        status: of HTTP.
        message: the server's own, shortened to one line.
        code: the server's word for it, if it has one.
    """

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


class Unanswered(EngineError):
    """The servers failed too often.

    Attributes:
        problem: of the last attempt, without the url.
        attempts: how many there were.
    """

    def __init__(self, url: str, problem: str, attempts: int) -> None:
        super().__init__(
            f"{url}: {problem}, after {attempts} attempts; run the same command again to resume"
        )
        self.problem = problem
        self.attempts = attempts


class Endpoint:
    """The servers of an `EndpointConfig`.

    Args:
        config: where they are and how patient to be.
        model: the name they serve the model under, for errors.

    Raises:
        EngineError: the key in the environment cannot be one.
    """

    def __init__(self, config: EndpointConfig, model: str) -> None:
        self._config = config
        self._model = model
        self._urls = [_base(url) for url in config.urls]
        share = (config.retries + 1) // len(self._urls)
        self._tries_per_url = min(max(share, 1), TRIES_PER_URL)
        self._key = os.environ.get(config.key_env, "").strip()
        if not (self._key.isascii() and self._key.replace(" ", "").isprintable()):
            raise EngineError(f"the value of {config.key_env} is no key: a header cannot hold it")
        # Reading the certificates takes longer than a request to a server near by.
        self._tls = httpx.create_ssl_context()

    def client(self) -> httpx.AsyncClient:
        """A client for `post`, to be closed by the event loop that used it."""
        most = self._config.concurrency
        return httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
            # The time of a whole answer is limited below.
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT),
            verify=self._tls,
        )

    async def post(
        self,
        client: httpx.AsyncClient,
        path: str,
        body: dict[str, Any],
        read: Callable[[Any], T],
        *,
        group: str,
    ) -> T:
        """Send a request until it is answered.

        Args:
            client: from `client`.
            path: below the base url.
            body: sent as JSON.
            read: makes the result out of the answer's JSON; raises `Unusable`, `LookupError`,
                `TypeError` or `ValueError` where that is not what it should be.
            group: requests of one group go to the same url.

        Raises:
            Refused: the fault lies with this request.
            Unanswered: the servers failed too often.
            EngineError: the fault lies with the configuration.
        """
        first = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8])
        tries = AsyncRetrying(
            stop=stop_after_attempt(self._config.retries + 1),
            wait=_wait,
            retry=retry_if_exception_type(_Failed),
            reraise=True,
        )
        try:
            async for attempt in tries:
                with attempt:
                    failed = attempt.retry_state.attempt_number - 1
                    url = self._urls[(first + failed // self._tries_per_url) % len(self._urls)]
                    return await self._once(client, url, path, body, read)
        except _Failed as error:
            raise Unanswered(error.url, error.problem, self._config.retries + 1) from error
        raise AssertionError("an attempt neither answered nor failed")

    async def _once(
        self,
        client: httpx.AsyncClient,
        url: str,
        path: str,
        body: dict[str, Any],
        read: Callable[[Any], T],
    ) -> T:
        try:
            async with asyncio.timeout(self._config.timeout):
                response = await client.post(f"{url}/{path}", json=body)
        except TimeoutError:
            raise _Failed(url, f"no answer within {self._config.timeout:g} s") from None
        except httpx.RequestError as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise _Failed(url, f"cannot be reached, or broke off ({reason})") from error
        status = response.status_code
        if status != 200:
            raise self._refusal(response, url)
        try:
            return read(response.json())
        except (Unusable, LookupError, TypeError, ValueError) as error:
            said = self._shown(f"{type(error).__name__}: {error}; it reads: {response.text}")
            raise _Failed(url, f"its answer is of no use ({said})") from error

    def _refusal(self, response: httpx.Response, url: str) -> Exception:
        status = response.status_code
        complaint, code = _complaint(response)
        message = self._shown(complaint)
        said = f"{url}: {status}: {message}"
        if (status in _AGAIN or status >= 500) and code != "insufficient_quota":
            return _Failed(url, f"{status}: {message}", retry_after(response))
        if status in (401, 403):
            name = self._config.key_env
            what = "is not accepted" if self._key else "is not set"
            return EngineError(f"{said}; the key is read from {name} in the environment: it {what}")
        if status == 404:
            return EngineError(f"{said}; is {self._model!r} the name it is served under?")
        if 400 <= status < 500 and status != 429:
            return Refused(status, message, code)
        return EngineError(said)

    def _shown(self, text: str) -> str:
        """A server's words in one short line, without the key that some repeat."""
        line = " ".join((text.replace(self._key, "[key]") if self._key else text).split())
        return (line if len(line) <= 300 else f"{line[:300]}…") or "nothing said"


class _Failed(Exception):
    """An attempt that is worth another one."""

    def __init__(self, url: str, problem: str, after: float | None = None) -> None:
        super().__init__(problem)
        self.url = url
        self.problem = problem
        self.after = after


def _base(url: str) -> str:
    """The url that paths are added to: a server's `/v1`, unless it was given with a path."""
    base = url.rstrip("/")
    return base if urlsplit(base).path else f"{base}/v1"


def _wait(state: RetryCallState) -> float:
    """Seconds until the next attempt: a random share of a growing pause, after what was asked."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, _Failed) else None
    return _pause(state) if asked is None else asked + random.random()


def retry_after(response: httpx.Response) -> float | None:
    """Seconds until a server wants to be asked again, from either form of the header."""
    value = response.headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def _complaint(response: httpx.Response) -> tuple[str, str]:
    """A server's message and its code; servers differ in where they put them."""
    if response.is_redirect:
        return f"it sends requests on to {response.headers.get('location')}; name that url", ""
    try:
        found = response.json()
    except ValueError:
        return response.text, ""
    found = found.get("error", found) if isinstance(found, dict) else found
    if not isinstance(found, dict):
        return str(found), ""
    message = found.get("message", found.get("detail", response.text))
    return str(message), str(found.get("code") or found.get("type") or "")
