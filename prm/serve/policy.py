"""The policy: a model behind an OpenAI-compatible server, which writes what is chosen from.

Unlike a stage, which waits for its servers overnight, a client of ours wants to be told soon: few
attempts, and one limit of time for all that a call asks for.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from prm.config import MAY_CHANGE
from prm.engines import TOO_LONG, Completion, EndpointConfig, EngineConfig, Request, missing
from prm.errors import ConfigError, EngineError
from prm.serve.schemas import Refusal

if TYPE_CHECKING:
    from prm.engines.openai import Line

_URL = re.compile(r"\bhttps?://[^\s'\"<>]*[^\s'\"<>.,:;)]")


@dataclass
class PolicyEndpoint(EndpointConfig):
    """The policy's servers.

    Attributes:
        timeout: seconds that all completions of one call may take, with attempts and waiting.
        retries: see `EndpointConfig`; pauses double from half a second.
    """

    timeout: float = field(default=300.0, metadata=MAY_CHANGE)
    retries: int = field(default=2, metadata=MAY_CHANGE)


@dataclass
class PolicyEngine(EngineConfig):
    """The policy: `model` is the name that its servers serve it under."""

    kind: Literal["vllm", "transformers", "openai"] = "openai"
    endpoint: PolicyEndpoint | None = None


class Policy:
    """Asks the policy's servers, for all requests of this server.

    Args:
        config: of kind `openai`.

    Attributes:
        name: the model's.
        counted: told of every call: what became of it (`ok`, `failed`, `late`, `left`), how many
            completions it asked for, and the tokens read and written. `stopped`: see `give_up`.

    Raises:
        ConfigError: it is of another kind, or its options or key cannot be used.
        CheckpointError: the endpoint's tokenizer cannot be read.
        EngineError: a library is missing.
    """

    def __init__(self, config: EngineConfig) -> None:
        if config.kind != "openai" or config.endpoint is None:
            raise ConfigError(
                f"policy.kind is {config.kind!r}, but the reward model has this process to itself; "
                "run the policy as a server (`vllm serve`) and name it: policy.kind=openai "
                "policy.endpoint.urls=[http://HOST:PORT/v1]"
            )
        try:
            from prm.engines.openai import OpenAIEngine
        except ImportError as error:
            raise missing("openai", error) from error
        try:
            self._engine = OpenAIEngine(config)
        except EngineError as error:
            raise ConfigError(f"policy: {error}") from error
        self.name = self._engine.name
        self.counted: Callable[[str, int, int, int], None] = lambda *_: None
        self._patience = config.endpoint.timeout
        self._line: tuple[asyncio.AbstractEventLoop, Line] | None = None
        self._calls: set[asyncio.Task[list[list[Completion]]]] = set()
        self._stopped: Callable[[], Refusal] | None = None

    async def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """Completions of each request; none but all. Whoever is cancelled leaves nothing under way.

        Raises:
            Refusal: 502, the servers cannot be reached, fail, answer nonsense or refuse; 504,
                they take too long. Their words are told, but neither key nor address. Or what
                `give_up` says.
        """
        if self._stopped is not None:
            raise self._stopped()
        outcome, prompt, written = "left", 0, 0
        call = asyncio.create_task(self._ask(requests))
        self._calls.add(call)
        try:
            async with asyncio.timeout(self._patience):
                found = await call
            outcome = "ok"
            every = [completion for own in found for completion in own]
            prompt = sum(completion.prompt_tokens for completion in every)
            written = sum(completion.completion_tokens for completion in every)
            return found
        except TimeoutError:
            outcome = "late"
            message = f"the policy has not answered within {self._patience:g} s"
            raise Refusal(504, message, "policy", "policy_late") from None
        except EngineError as error:
            outcome = "failed"
            raise Refusal(502, _told(error), "policy", "policy_failed") from error
        except asyncio.CancelledError:
            if self._stopped is None:
                raise
            outcome = "stopped"
            raise self._stopped() from None
        finally:
            self._calls.discard(call)
            self.counted(outcome, sum(request.n for request in requests), prompt, written)

    def give_up(self, why: Callable[[], Refusal]) -> None:
        """Break off all calls, from any thread, and refuse those to come: the server ends."""
        self._stopped = why
        for call in list(self._calls):
            call.get_loop().call_soon_threadsafe(call.cancel)

    async def _ask(self, requests: Sequence[Request]) -> list[list[Completion]]:
        loop = asyncio.get_running_loop()
        if self._line is None or self._line[0] is not loop:  # a server has one loop, tests many
            self._line = loop, self._engine.line()
        return await self._engine.generate_on(self._line[1], requests)


def nothing_to_choose(
    reasons: Sequence[str], told: Sequence[str], noun: str, *, where: str
) -> Refusal:
    """Why nothing that the policy wrote can be chosen; asking again would cost as much.

    Args:
        reasons: how each ended, as engines say it.
        told: the same in words.
        noun: what they are.
        where: the field that holds what the policy was asked.
    """
    from prm.engines.openai import UNSAFE  # its library is there, as a policy is

    if set(reasons) == {TOO_LONG}:
        return Refusal(422, f"{told[0]}; send less", where, "too_large")
    if set(reasons) == {UNSAFE}:
        message = "a text spells a special token of language models, so it was not sent; reword it"
        return Refusal(422, message, where, "unsafe_text")
    counts = ", ".join(f"{count} × {words}" for words, count in Counter(told).most_common(5))
    message = f"none of {len(told)} {noun} can be chosen: {counts}"
    return Refusal(502, message, "policy", "no_candidate", x_should_retry="false")


def _told(error: EngineError) -> str:
    """What a client may know: an address may be nobody's business, or hold a secret in its path."""
    from prm.engines.endpoint import Unanswered

    said = str(error)
    if isinstance(error, Unanswered):
        said = f"{error.problem}, after {error.attempts} attempts"
    return f"the policy fails: {_URL.sub('[url]', said)}"
