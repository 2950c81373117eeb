"""`POST /v1/rerank` and `/v2/rerank`: candidates of a question, best first.

The fields are those of Cohere's v2 and of Jina's rerank, in one request and one response, so that
clients of either need another address only; what is not theirs is marked as an extension.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag

from prm.aggregation import Aggregation, aggregate
from prm.records import Solution
from prm.serve.desk import Desk, solution
from prm.serve.schemas import REFUSALS, Refusal, Steps, Strict, Text


class TextDocument(Strict):
    """A solution as one text; the server separates its steps by rules."""

    text: Text


class StepsDocument(Strict):
    """A solution in steps (extension)."""

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


class RerankRequest(Strict):
    """Candidate solutions of one question.

    Attributes:
        model: if given, must be the model that runs here.
        query: the question.
        documents: the candidates.
        top_n: how many results to return; null returns all.
        max_tokens_per_doc: Cohere's; refused where it would cut a document.
        return_documents: whether results hold their document (Jina's).
        aggregation: how step scores become the relevance score (extension).
        reference: the reference answer or solution, where known (extension).
    """

    model: Text | None = None
    query: Text
    documents: Annotated[list[Document], Field(min_length=1, fail_fast=True)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    max_tokens_per_doc: Annotated[int, Field(ge=1)] | None = None
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


class Usage(BaseModel):
    """What the model read for the request: `Batcher.score` tells how it is counted."""

    total_tokens: int


class Version(BaseModel):
    """Whose numbering: Cohere's."""

    version: str


class BilledUnits(BaseModel):
    """Cohere's price unit: a query with up to a hundred documents is one."""

    search_units: int


class Meta(BaseModel):
    """What Cohere's clients find beside the results."""

    api_version: Version
    billed_units: BilledUnits


class RerankResponse(BaseModel):
    """Candidates, best first, equal ones in the order of the request."""

    id: str
    model: str
    results: list[RerankResult]
    usage: Usage
    meta: Meta


def router(desk: Desk) -> APIRouter:
    """The routes; they differ in nothing but the version that they name."""
    routes = APIRouter(responses=REFUSALS)

    @routes.post("/v1/rerank", response_model_exclude_none=True)
    async def rerank(body: RerankRequest, request: Request) -> RerankResponse:
        return await _rerank(desk, body, request, "1")

    @routes.post("/v2/rerank", response_model_exclude_none=True)
    async def rerank_v2(body: RerankRequest, request: Request) -> RerankResponse:
        return await _rerank(desk, body, request, "2")

    return routes


async def _rerank(
    desk: Desk, body: RerankRequest, request: Request, version: str
) -> RerankResponse:
    name = desk.batcher.name
    if body.model not in (None, name):
        message = f"no such model here; name {name!r}, or leave the field out"
        raise Refusal(422, message, "model", "invalid_request")
    batch = await _candidates(desk, body)
    results = []
    for index, outcome in enumerate(await desk.score(request, batch)):
        if outcome.scores is None:
            message = f"cannot be scored: {outcome.error}"
            kind = "internal" if outcome.broken else "unscorable"
            status = 500 if outcome.broken else 422
            raise Refusal(status, message, f"documents.{index}", kind)
        results.append(
            RerankResult(
                index=index,
                relevance_score=aggregate(outcome.scores, body.aggregation),
                scores=list(outcome.scores),
                document=body.documents[index] if body.return_documents else None,
            )
        )
    # The sort is stable: equal candidates keep the order of the request.
    results.sort(key=lambda result: -result.relevance_score)
    return RerankResponse(
        id=request.state.request_id,
        model=name,
        results=results[: body.top_n],
        usage=Usage(total_tokens=request.state.account["tokens"]),
        meta=Meta(
            api_version=Version(version=version),
            billed_units=BilledUnits(search_units=-(-len(body.documents) // 100)),
        ),
    )


async def _candidates(desk: Desk, body: RerankRequest) -> list[Solution]:
    limits = desk.limits
    limits.check_count(len(body.documents), "documents")
    for index, document in enumerate(body.documents):
        where = f"documents.{index}"
        texts = document.steps if isinstance(document, StepsDocument) else [document.text]
        limits.check_item(where, texts, body.query, body.reference)
        most = body.max_tokens_per_doc
        if most is not None and (count := sum(map(desk.count, texts))) > most:
            message = f"{where} may have {count}, and nothing is ever cut here; leave the field out"
            raise Refusal(422, message, "max_tokens_per_doc", "too_large")
    separated = iter(
        await desk.separate([d.text for d in body.documents if isinstance(d, TextDocument)])
    )
    batch = []
    for index, document in enumerate(body.documents):
        where = f"documents.{index}"
        steps = next(separated) if isinstance(document, TextDocument) else document.steps
        limits.check_item(where, steps)  # what the splitter found has not been counted yet
        batch.append(solution(where, body.query, steps, body.reference))
    return batch
