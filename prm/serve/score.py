"""`POST /v1/prm/score`: a score for every step of many solutions."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from prm.aggregation import Aggregation, aggregate
from prm.serve.desk import Desk, solution
from prm.serve.outcomes import Outcome
from prm.serve.schemas import REFUSALS, Steps, Strict, Text


class ScoreItem(Strict):
    """One solution to score, in `steps` or as one `text` whose steps the server separates.

    Attributes:
        id: comes back with the result; the server does not interpret it.
        reference: the reference answer or solution, where known.
    """

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["steps"]}, {"required": ["text"]}]}
    )

    id: Text | None = None
    question: Text
    steps: Steps | None = None
    text: Text | None = None
    reference: Text | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> ScoreItem:
        if (self.steps is None) == (self.text is None):
            raise ValueError("give `steps` or `text`, one of the two")
        return self


class ScoreRequest(Strict):
    """Solutions to score, and how step scores become a reward."""

    items: Annotated[list[ScoreItem], Field(min_length=1, fail_fast=True)]
    aggregation: Aggregation = "min"


class ScoreResult(BaseModel):
    """One item's outcome, in the order of the request.

    Attributes:
        steps: what the scores are of, where the item came as text; else null.
        scores: one finite raw score per step; null with an error.
        reward: the scores' aggregation; null with an error.
        error: why the item cannot be scored.
    """

    id: str | None
    status: Literal["ok", "error"]
    steps: list[str] | None
    scores: list[float] | None
    reward: float | None
    error: str | None


class ScoreResponse(BaseModel):
    """As many results as items, in their order."""

    model: str
    results: list[ScoreResult]


def router(desk: Desk) -> APIRouter:
    """The route."""
    routes = APIRouter(responses=REFUSALS)

    @routes.post("/v1/prm/score")
    async def score(body: ScoreRequest, request: Request) -> ScoreResponse:
        name = desk.batcher.name
        desk.limits.check_count(len(body.items), "items")
        for index, item in enumerate(body.items):
            texts = item.steps if item.text is None else [item.text]
            desk.limits.check_item(f"items.{index}", texts or (), item.question, item.reference)
        separated = iter(await desk.separate([i.text for i in body.items if i.text is not None]))
        batch = []
        for index, item in enumerate(body.items):
            where = f"items.{index}"
            steps = next(separated) if item.steps is None else item.steps
            desk.limits.check_item(where, steps)  # what came as text has not been counted yet
            batch.append(solution(where, item.question, steps, item.reference))
        results = [
            _result(item, one.steps, outcome, body.aggregation)
            for item, one, outcome in zip(
                body.items, batch, await desk.score(request, batch), strict=True
            )
        ]
        return ScoreResponse(model=name, results=results)

    return routes


def _result(
    item: ScoreItem, steps: tuple[str, ...], outcome: Outcome, method: Aggregation
) -> ScoreResult:
    scores = outcome.scores
    return ScoreResult(
        id=item.id,
        status="error" if scores is None else "ok",
        steps=None if item.text is None else list(steps),
        scores=None if scores is None else list(scores),
        reward=None if scores is None else aggregate(scores, method),
        error=outcome.error,
    )
