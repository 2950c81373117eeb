"""What goes over the wire: requests, responses and limits of the HTTP server.

Requests are strict: an unknown field, a wrong type, blank text or text that is no Unicode is
refused with its place. Nothing is coerced, cut or dropped.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    Tag,
    model_validator,
)

from prm.search.aggregate import Aggregation, aggregate


@dataclass
class Limits:
    """How much one client may ask for; more is refused, never cut.

    Attributes:
        max_items: items or documents of one request.
        max_steps: steps of one item.
        max_chars: characters of one item: question, steps and reference together.
        max_body_bytes: size of one request.
        max_waiting: requests that wait while another is scored; further ones get a 503.
    """

    max_items: int = 256
    max_steps: int = 1024
    max_chars: int = 200_000
    max_body_bytes: int = 8 * 2**20
    max_waiting: int = 32

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")

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


def _sound(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half a surrogate pair at character {error.start}: no Unicode") from None
    if "\0" in text:
        raise ValueError(f"a NUL at character {text.index(chr(0))}; remove it")
    if not text.strip():
        raise ValueError("is blank; give text, or leave it out")
    return text


Text = Annotated[str, AfterValidator(_sound)]
"""Text with something in it that any tokenizer and any JSON writer can take."""

# A list stops at its first error: a body full of errors would else fill the memory with them.
Steps = Annotated[list[Text], FailFast(), Field(min_length=1)]


class _Request(BaseModel):
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


class ScoreItem(_Request):
    """One solution to score.

    Attributes:
        id: comes back with the result; the server does not interpret it.
        reference: the reference answer or solution, where known.
    """

    id: Text | None = None
    question: Text
    steps: Steps
    reference: Text | None = None


class ScoreRequest(_Request):
    """Solutions to score, and how step scores become a reward."""

    items: Annotated[list[ScoreItem], FailFast(), Field(min_length=1)]
    aggregation: Aggregation = "min"


class ScoreResult(BaseModel):
    """One item's outcome, in the order of the request.

    Attributes:
        scores: one finite raw score per step; null with an error.
        reward: the scores' aggregation; null with an error.
        error: why the item cannot be scored.
    """

    id: str | None
    status: Literal["ok", "error"]
    scores: list[float] | None
    reward: float | None
    error: str | None

    @classmethod
    def of(cls, id: str | None, outcome: list[float] | str, method: Aggregation) -> ScoreResult:
        """The result for an outcome: scores, or the reason why there are none."""
        if isinstance(outcome, str):
            return cls(id=id, status="error", scores=None, reward=None, error=outcome)
        reward = aggregate(outcome, method)
        return cls(id=id, status="ok", scores=outcome, reward=reward, error=None)


class ScoreResponse(BaseModel):
    """As many results as items, in their order."""

    model: str
    results: list[ScoreResult]


class TextDocument(_Request):
    """A solution as one text; the server separates its steps by rules."""

    text: Text


class StepsDocument(_Request):
    """A solution in steps."""

    steps: Steps


def _kind(document: Any) -> str | None:
    if isinstance(document, dict) and len(document) == 1:
        return {"text": "<text>", "steps": "<steps>"}.get(*document)
    return None


Document = Annotated[
    Annotated[TextDocument, Tag("<text>")] | Annotated[StepsDocument, Tag("<steps>")],
    Discriminator(
        _kind,
        custom_error_type="document",
        custom_error_message='a document is a string, {"text": …} or {"steps": […]}, no more',
    ),
    BeforeValidator(
        lambda document: {"text": document} if isinstance(document, str) else document,
        json_schema_input_type=str | TextDocument | StepsDocument,
    ),
]
"""One candidate; a plain string stands for `{"text": …}`."""


def _refuse_cut(value: Any) -> None:
    if value is not None:
        raise ValueError("nothing is ever cut here; leave the field out")


class RerankRequest(_Request):
    """Candidate solutions of one question: the fields of Cohere's v2 and Jina's rerank.

    Attributes:
        model: if given, must be the model that runs here.
        query: the question.
        documents: the candidates.
        top_n: how many results to return; null returns all.
        max_tokens_per_doc: Cohere's; documents are never cut, so only null will do.
        return_documents: whether results hold their document.
        aggregation: how step scores become the relevance score (extension).
        reference: the reference answer or solution, where known (extension).
    """

    model: Text | None = None
    query: Text
    documents: Annotated[list[Document], FailFast(), Field(min_length=1)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    max_tokens_per_doc: Annotated[None, BeforeValidator(_refuse_cut)] = None
    return_documents: bool = False
    aggregation: Aggregation = "min"
    reference: Text | None = None


class RerankResult(BaseModel):
    """One candidate.

    Attributes:
        index: its place in the request.
        relevance_score: its reward; raw, so it may leave [0, 1].
        scores: one raw score per step (extension).
    """

    index: int
    relevance_score: float
    scores: list[float]
    document: TextDocument | StepsDocument | None = None


class RerankResponse(BaseModel):
    """Candidates, best first, equal ones in the order of the request."""

    id: str
    model: str
    results: list[RerankResult]


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


class Health(BaseModel):
    """The answer of a living server."""

    status: Literal["ok"] = "ok"
