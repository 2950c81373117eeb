"""The one interface between the project and whatever writes text.

Policies, judges and generative reward models hand `Request`s to an `Engine` and get
`Completion`s back; they never see a library, a tokenizer or a device. Imports neither torch
nor vLLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol

TOO_LONG = "too_long"
"""The finish reason of a request whose prompt does not fit the model's context."""


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


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One answer.

    Attributes:
        text: what was written after the prefill, without the stop string.
        finish_reason: `stop`, `length` (cut at `max_tokens` or the context's end),
            `too_long` (the prompt did not fit, nothing was written), or the engine's own word.
        prompt_tokens: tokens of the prompt, prefill included.
        completion_tokens: tokens written, those that ended the text included.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


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


@dataclass
class EngineConfig:
    """Which engine to load, as a part of a stage's configuration.

    Attributes:
        model: a model folder or a Hugging Face model id.
        kind: the library that runs it.
        revision: the commit, tag or branch of a model id.
        dtype: the weights' type; `auto` is the checkpoint's own.
        max_model_len: the context in tokens; null is the model's own.
        trust_remote_code: run Python code that the checkpoint brings along.
        options: passed to the library as they are: to `vllm.LLM`, or to `from_pretrained`.
    """

    model: str
    kind: Literal["vllm", "transformers"] = "vllm"
    revision: str | None = None
    dtype: str = "auto"
    max_model_len: int | None = None
    trust_remote_code: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        twice = sorted({item.name for item in fields(self)} & set(self.options))
        if twice:
            raise ValueError(f"options holds {', '.join(twice)}; set that key beside options")

    @property
    def name(self) -> str:
        """The model and, where one is set, its revision."""
        return f"{self.model}@{self.revision}" if self.revision else self.model
