"""`GET /v1/models`: what OpenAI's clients ask first."""

from __future__ import annotations

import time
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from prm.serve.desk import Desk
from prm.serve.schemas import REFUSALS, ErrorResponse, Refusal


class Model(BaseModel):
    """A model that requests may name.

    Attributes:
        created: when the server began, in seconds since 1970.
        role: the policy writes (`/v1/chat/completions`); the scorer scores (`/v1/rerank`).
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "aurora-prm"
    role: Literal["policy", "scorer"]


class Models(BaseModel):
    """All of them, the policy first: clients that let a person choose take the first."""

    object: Literal["list"] = "list"
    data: list[Model]


def router(desk: Desk) -> APIRouter:
    """The routes."""
    routes = APIRouter(responses={code: REFUSALS[code] for code in (401, 503)})
    began = int(time.time())

    def served() -> list[Model]:
        scorer = Model(id=desk.batcher.name, created=began, role="scorer")
        if desk.policy is None:
            return [scorer]
        return [Model(id=desk.policy.name, created=began, role="policy"), scorer]

    @routes.get("/v1/models")
    async def models() -> Models:
        return Models(data=served())

    # A Hub id holds a slash.
    @routes.get("/v1/models/{name:path}", responses={404: {"model": ErrorResponse}})
    async def model(name: str) -> Model:
        for one in served():
            if one.id == name:
                return one
        message = "no such model here; GET /v1/models lists them"
        raise Refusal(404, message, "path", "not_found")

    return routes
