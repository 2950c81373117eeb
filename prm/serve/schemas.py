"""What all requests share: limits, strict text and fields, and the shape of a refusal.

Requests are strict: an unknown field, a wrong type, blank text or text that is no Unicode is
refused with its place. Nothing is coerced, cut or dropped.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


@dataclass
class Limits:
    """How much one client may ask for; more is refused, never cut.

    How many tokens a solution may have is the scorer's affair: see its `max_length`.

    Attributes:
        max_items: items or documents of one request.
        max_steps: steps of one item.
        max_chars: characters of one item: question, steps and reference together.
        max_body_bytes: size of one request.
        max_waiting: requests that wait while others are scored; further ones get a 503.
        max_seconds: how long a request may take to arrive.
        candidates: how many solutions the policy writes where a request does not say.
        max_candidates: how many a request may have it write.
        max_tokens: tokens of one that the policy writes, and how many it may where a request does
            not say.
        max_rounds: steps of a solution that a search may write.
        max_searches: searches at a time, each of which keeps what it read in the model's memory;
            further ones get a 503.
    """

    max_items: int = 256
    max_steps: int = 1024
    max_chars: int = 200_000
    max_body_bytes: int = 8 * 2**20
    max_waiting: int = 128
    max_seconds: int = 30
    candidates: int = 8
    max_candidates: int = 64
    max_tokens: int = 8192
    max_rounds: int = 64
    max_searches: int = 8

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.candidates > self.max_candidates:
            raise ValueError(
                f"candidates is {self.candidates}, more than max_candidates, {self.max_candidates}"
            )

    def check_count(self, count: int, where: str) -> None:
        """Refuse too many items or documents."""
        if count > self.max_items:
            message = f"{count} {where}, more than {self.max_items}; send fewer at a time"
            raise Refusal(422, message, where, "too_large")

    def check_item(self, where: str, steps: Sequence[str], *others: str | None) -> None:
        """Refuse one item for its steps, or for its size together with the `others`."""
        if len(steps) > self.max_steps:
            message = f"{len(steps)} steps, more than {self.max_steps}"
            raise Refusal(422, message, where, "too_large")
        chars = sum(len(text or "") for text in (*steps, *others))
        if chars > self.max_chars:
            message = f"{chars} characters in all, more than {self.max_chars}"
            raise Refusal(422, message, where, "too_large")


def sound(text: str) -> str:
    """The text, if any tokenizer and any JSON writer can take it; raises `ValueError` if not."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half a surrogate pair at character {error.start}: no Unicode") from None
    if "\0" in text:
        raise ValueError(f"a NUL at character {text.index(chr(0))}; remove it")
    return text


def _something(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank; give text, or leave it out")
    return text


MaybeBlank = Annotated[str, AfterValidator(sound)]
"""Text that may hold nothing."""

Text = Annotated[
    MaybeBlank, AfterValidator(_something), Field(json_schema_extra={"pattern": r"\S"})
]
"""Text with something in it."""

# A list stops at its first error: a body full of errors would else fill the memory with them.
Steps = Annotated[list[Text], Field(min_length=1, fail_fast=True)]


class Strict(BaseModel):
    """A request, or a part of one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, value: Any) -> Any:
        # `extra="forbid"` alone reports every unknown key, of which a body may hold a million.
        for key in value if isinstance(value, dict) else ():
            if key not in cls.model_fields:
                close = difflib.get_close_matches(key[:40], cls.model_fields, n=1)
                known = f"known: {', '.join(cls.model_fields)}"
                hint = f"did you mean {close[0]!r}?" if close else known
                raise ValueError(f"unknown field {key[:40]!a}; {hint}")
        return value


class Problem(BaseModel):
    """What was wrong, where in the request, and of what kind."""

    message: str
    where: str
    type: str


class ErrorResponse(BaseModel):
    """The body of every answer that is not a success."""

    error: Problem


class Refusal(Exception):
    """A request that gets an error for an answer; keywords are headers of the answer."""

    def __init__(self, status: int, message: str, where: str, kind: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.problem = Problem(message=message, where=where, type=kind)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse} for status in (400, 401, 408, 413, 422, 500, 503)
}
"""What OpenAPI says of every router's refusals."""

POLICY_REFUSALS: dict[int | str, dict[str, Any]] = REFUSALS | {
    status: {"model": ErrorResponse} for status in (404, 502, 504)
}
"""And of those of routers that ask the policy."""


class Health(BaseModel):
    """The answer of a living server."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """The answer of a server whose model is there."""

    status: Literal["ready"] = "ready"
