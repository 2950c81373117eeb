"""The one interface between the project and whatever writes text.

Policies, judges and generative reward models hand `Request`s to an `Engine` and get
`Completion`s back; they never see a library, a tokenizer or a device. Imports neither torch
nor vLLM.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from prm.config import MAY_CHANGE
from prm.engines.flow import Flow

TOO_LONG = "too_long"
"""The finish reason of a request whose prompt does not fit the model's context."""
MOST_ALTERNATIVES = 20
"""What servers grant by default."""
CPU_TOKENS = 2048
"""Tokens that a model is best handed at a time on a CPU. Activations of more leave its caches: of
16,384 tokens, models of 20 million weights read 13 to 32 % fewer a second than of 4,096, and of
1,024 about as many."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a chat. Its content is plain text: special tokens in it stay text."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to write, and how.

    Attributes:
        messages: the chat so far.
        max_tokens: the most tokens one completion may have.
        n: how many completions; more than one needs a temperature.
        temperature: 0 is greedy.
        top_p: the share of probability that sampling may draw from.
        seed: makes sampling repeatable; completion `i` of `n` uses `seed + i`.
        stop: strings that end a completion; they are not part of its text.
        prefill: text that the assistant's turn already starts with; not part of the
            completion's text.
        regex: what the completion, after the prefill, must match as a whole.
        alternatives: how many of the likeliest tokens are told, with their log-probabilities, at
            each place of the completion; 0 tells none.
        group: requests of one group begin alike (they are about one solution): an engine of
            several replicas sends them to the same one, which has read that beginning already.
            One without a prefix cache of its own looks among what it kept of the group.
        continues: whether a later request may go on from a completion that a stop string ended:
            such an engine keeps what it computed.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    prefill: str = ""
    regex: str | None = None
    alternatives: int = 0
    group: str = ""
    continues: bool = False

    def __post_init__(self) -> None:
        if not self.messages:
            raise ValueError("a request needs at least one message")
        if self.max_tokens < 1 or self.n < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}, n is {self.n}; both start at 1")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"temperature is {self.temperature} (from 0), top_p is {self.top_p} (above 0, to 1)"
            )
        if self.n > 1 and self.temperature == 0:
            raise ValueError(f"n is {self.n} but temperature 0 writes the same text every time")
        if "" in self.stop:
            raise ValueError("a stop string is empty")
        if not 0 <= self.alternatives <= MOST_ALTERNATIVES:
            raise ValueError(
                f"alternatives is {self.alternatives}; it goes from 0 to {MOST_ALTERNATIVES}"
            )


@dataclass(frozen=True)
class Token:
    """One token of a completion.

    Attributes:
        text: what it adds to the text.
        alternatives: log-probabilities of the likeliest tokens here, by their text, before
            temperature and `top_p` had a say; the token itself is always among them. A regex had
            one under vLLM, which masks first, and none under transformers: compare them with one
            another, not with all that the model might have written.
    """

    text: str
    alternatives: dict[str, float]

    @classmethod
    def of(cls, text: str, told: Iterable[tuple[str, float]]) -> Token:
        """From texts and log-probabilities; of two tokens with one text the likelier counts."""
        alternatives: dict[str, float] = {}
        for other, found in told:
            alternatives[other] = max(found, alternatives.get(other, found))
        return cls(text, alternatives)


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One answer.

    Attributes:
        text: what was written after the prefill, without the stop string.
        finish_reason: `stop`, `length` (cut at `max_tokens` or the context's end),
            `too_long` (the prompt did not fit, nothing was written), or the engine's own word.
        prompt_tokens: tokens of the prompt, prefill included.
        completion_tokens: tokens written, those that ended the text included.
        cached_tokens: those of the prompt that the engine had in its cache.
        reasoning: what a server's own parser took out of the text as the model's thinking; empty
            where thinking stands in the text.
        tokens: the text's tokens, where the request asked for alternatives.
        stopped_at: the stop string that ended the text; empty where none did; None where a server
            does not tell which of the two it was.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning: str = ""
    tokens: tuple[Token, ...] = ()
    stopped_at: str | None = ""


def unfinished(answer: Completion, what: str, reader: str = "model") -> str | None:
    """Why a completion is no whole one, if so.

    Args:
        answer: the completion.
        what: it should have been.
        reader: whose context a prompt must fit.
    """
    if answer.finish_reason == "stop":
        return None
    if answer.finish_reason == TOO_LONG:
        return f"prompt of {answer.prompt_tokens} tokens exceeds the {reader}'s context"
    if answer.finish_reason == "length":
        return f"{what} cut at {answer.completion_tokens} tokens"
    return f"{what} ended by {answer.finish_reason!r}"


class Engine(Protocol):
    """Whatever answers requests.

    Attributes:
        name: the model, as judgments and solutions record it.
    """

    name: str

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """Answer all requests: one list of `n` completions each, in their order.

        Raises:
            EngineError: the engine died. What a single request brings about (a prompt that is
                too long) is a completion that says so, never an error.
        """
        ...

    def close(self) -> None:
        """Free the model's memory; the engine is of no use afterwards."""
        ...


class FlowingEngine(Engine, Protocol):
    """An engine that takes requests up while others are under way.

    Attributes:
        flow: runs courses of requests, for one thread.
    """

    flow: Flow[Request, list[Completion], Any]


@dataclass
class Prices:
    """What tokens cost, per million.

    Attributes:
        input: of a prompt.
        output: of what is written.
        cached: of a prompt's tokens that the engine had in its cache; null: as any others.
    """

    input: float
    output: float
    cached: float | None = None

    def __post_init__(self) -> None:
        if min(self.input, self.output, self.cached or 0.0) < 0:
            raise ValueError("a price is negative")

    def cost(self, prompt: int, cached: int, completion: int) -> float:
        """Of so many tokens; `cached` ones are among those of the prompt."""
        known = self.input if self.cached is None else self.cached
        return ((prompt - cached) * self.input + cached * known + completion * self.output) / 1e6


@dataclass
class EndpointConfig:
    """The servers that answer for engine `openai`: any that speak OpenAI's HTTP interface.

    Attributes:
        urls: of servers of one and the same model, such as `http://localhost:8000/v1`.
        key_env: the environment variable that holds the key; where it is not set none is sent.
        dialect: `vllm` for `vllm serve`, whose server takes a regex and a prefill; `openai` for
            others, where a JSON schema and a turn of the user stand in for them.
        tokenizer: a folder or model id, for dialect `vllm`: chats are sent as token ids, so that
            text which spells a special token stays text. Without it such a request is refused.
        concurrency: the most requests under way at once, at all urls together.
        timeout: seconds that an answer may take.
        retries: how often a request is sent again where the server or the network failed.
    """

    urls: list[str] = field(metadata=MAY_CHANGE)
    key_env: str = field(default="OPENAI_API_KEY", metadata=MAY_CHANGE)
    dialect: Literal["vllm", "openai"] = "vllm"
    tokenizer: str | None = None
    concurrency: int = field(default=64, metadata=MAY_CHANGE)
    timeout: float = field(default=600.0, metadata=MAY_CHANGE)
    retries: int = field(default=8, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if not self.urls:
            raise ValueError("urls is empty; name at least one server")
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{url!r} is no url of a server; write http://HOST:PORT/v1")
            if parts.username is not None or parts.query or parts.fragment:
                raise ValueError(
                    f"url of {parts.hostname!r} holds more than an address; a key belongs into "
                    "the environment, under the name that key_env gives"
                )
        if self.tokenizer is not None and self.dialect != "vllm":
            raise ValueError("tokenizer is for dialect vllm alone: no other takes token ids")
        if self.concurrency < 1 or self.retries < 0 or not self.timeout > 0:
            raise ValueError("concurrency starts at 1, retries at 0, timeout is above 0")


@dataclass
class ReplicasConfig:
    """An engine that runs as many, each a Ray actor that loads the model for itself.

    The nodes must be there, with this package on each; a model folder must lie on all under the
    same path.

    Attributes:
        count: how many.
        gpus: what each takes of its node; as many as its engine uses, and no engine that runs on
            a GPU takes 0.
        cpus: likewise; a replica on the CPU computes with so many threads.
        address: the Ray cluster's; null joins the one that `RAY_ADDRESS` names or that this
            machine belongs to, or starts one here.
        restarts: how often a replica that died is started again, and how often a call that was
            lost with it is made again.
    """

    count: int
    gpus: float = 0
    cpus: float = 1
    address: str | None = None
    restarts: int = 3

    def __post_init__(self) -> None:
        if self.count < 1 or min(self.gpus, self.cpus, self.restarts) < 0:
            raise ValueError("count starts at 1; gpus, cpus and restarts start at 0")


@dataclass
class EngineConfig:
    """Which engine to load, as a part of a stage's configuration.

    Attributes:
        model: a model folder or a Hugging Face model id; for `openai` the name it is served under.
        kind: the library that runs it, or `openai` for servers that do.
        revision: the commit, tag or branch of a model id.
        dtype: the weights' type; `auto` is the checkpoint's own.
        max_model_len: the context in tokens; null is the model's own.
        trust_remote_code: run Python code that the checkpoint brings along.
        options: passed to the library as they are: to `vllm.LLM`, or to `from_pretrained`; for
            `openai` fields of every request, where null leaves out one that would be sent.
        prices: of its tokens, for progress and estimates.
        endpoint: the servers of engine `openai`.
        replicas: run so many of it on a Ray cluster.
    """

    model: str
    kind: Literal["vllm", "transformers", "openai"] = "vllm"
    revision: str | None = None
    dtype: str = "auto"
    max_model_len: int | None = None
    trust_remote_code: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    prices: Prices | None = field(default=None, metadata=MAY_CHANGE)
    endpoint: EndpointConfig | None = None
    replicas: ReplicasConfig | None = field(default=None, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        twice = sorted({item.name for item in fields(self)} & set(self.options))
        if twice:
            raise ValueError(f"options holds {', '.join(twice)}; set that key beside options")
        if self.kind != "openai":
            if self.endpoint is not None:
                raise ValueError(f"endpoint is of use to kind openai alone; kind is {self.kind}")
            return
        if self.endpoint is None:
            raise ValueError("kind openai needs endpoint.urls, such as [http://localhost:8000/v1]")
        if self.replicas is not None:
            raise ValueError("replicas are the servers' own with kind openai; name several urls")
        local = (self.revision, self.dtype, self.max_model_len, self.trust_remote_code)
        if local != (None, "auto", None, False):
            raise ValueError(
                "revision, dtype, max_model_len and trust_remote_code are the server's to choose; "
                "leave them out with kind openai"
            )

    @property
    def name(self) -> str:
        """The model and, where one is set, its revision."""
        return f"{self.model}@{self.revision}" if self.revision else self.model
