"""`POST /get_reward`: the remote reward model that OpenRLHF's trainers ask.

They send `{"query": […], "prompts": […], "labels": […]}`, where a query is its prompt with the
response behind it, and read `{"rewards", "scores", "extra_logs"}`, a number for each query. What
their body has no field for stands in the address:

    --remote_rm_url "http://127.0.0.1:8000/get_reward?aggregation=last&unscorable=0"

The prompt is taken for the question as it is. Trainers that put it into a chat template send that
too; so let the policy's template be applied behind the reward, or train on plain prompts.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from prm.aggregation import Aggregation, aggregate
from prm.serve.desk import Desk, solution
from prm.serve.schemas import REFUSALS, MaybeBlank, Refusal, Strict, Text


class RewardRequest(Strict):
    """Responses to reward.

    Attributes:
        query: each its prompt with the response behind it.
        prompts: the questions.
        labels: the reference answers; a blank one is none.
    """

    query: Annotated[list[Text], Field(min_length=1, fail_fast=True)]
    prompts: Annotated[list[Text], Field(fail_fast=True)]
    labels: Annotated[list[MaybeBlank | None], Field(fail_fast=True)] | None = None


class ExtraLogs(BaseModel):
    """What a trainer may plot, a number for each query.

    Attributes:
        steps: how many steps were found.
        unscorable: 1 where the reward is not the model's, else 0.
    """

    steps: list[float]
    unscorable: list[float]


class RewardResponse(BaseModel):
    """One number for each query.

    Attributes:
        rewards: what is trained on.
        scores: the same; trainers filter prompts by it.
    """

    rewards: list[float]
    scores: list[float]
    extra_logs: ExtraLogs


def router(desk: Desk) -> APIRouter:
    """The route."""
    routes = APIRouter(responses=REFUSALS)

    @routes.post("/get_reward")
    async def get_reward(
        body: RewardRequest,
        request: Request,
        aggregation: Annotated[
            Aggregation, Query(description="How step scores become the reward.")
        ] = "min",
        unscorable: Annotated[
            float | None,
            Query(
                allow_inf_nan=False,
                description="The reward of a response that says nothing or cannot be scored; "
                "without it the request is refused.",
            ),
        ] = None,
    ) -> RewardResponse:
        responses = _responses(desk, body)
        written = [index for index, text in enumerate(responses) if text.strip()]
        separated = await desk.separate([responses[index] for index in written])
        batch = []
        for index, steps in zip(written, separated, strict=True):
            desk.limits.check_item(f"query.{index}", steps)
            label = body.labels[index] if body.labels else None
            reference = label if label and label.strip() else None
            batch.append(solution(f"query.{index}", body.prompts[index], steps, reference))
        outcomes = await desk.score(request, batch) if batch else []
        rewards: dict[int, float] = {}
        reasons = {
            index: "no response behind the prompt"
            for index, text in enumerate(responses)
            if not text.strip()
        }
        for index, outcome in zip(written, outcomes, strict=True):
            if outcome.scores is not None:
                rewards[index] = aggregate(outcome.scores, aggregation)
            elif outcome.broken:
                raise Refusal(500, outcome.error or "", f"query.{index}", "internal")
            else:
                reasons[index] = f"cannot be scored: {outcome.error}"
        if reasons and unscorable is None:
            index = min(reasons)
            message = f"{reasons[index]}; add ?unscorable=NUMBER for such a reward"
            raise Refusal(422, message, f"query.{index}", "unscorable")
        rewards |= {index: unscorable for index in reasons if unscorable is not None}
        found = [rewards[index] for index in range(len(responses))]
        counts = dict(zip(written, map(len, separated), strict=True))
        return RewardResponse(
            rewards=found,
            scores=found,
            extra_logs=ExtraLogs(
                steps=[counts.get(index, 0) for index in range(len(responses))],
                unscorable=[float(index in reasons) for index in range(len(responses))],
            ),
        )

    return routes


def _responses(desk: Desk, body: RewardRequest) -> list[str]:
    """What stands behind the prompts."""
    desk.limits.check_count(len(body.query), "query")
    for name, values in (("prompts", body.prompts), ("labels", body.labels)):
        if values is not None and len(values) != len(body.query):
            message = f"{len(values)} for {len(body.query)} queries"
            raise Refusal(422, message, name, "invalid_request")
    responses = []
    for index, (query, prompt) in enumerate(zip(body.query, body.prompts, strict=True)):
        where = f"query.{index}"
        label = body.labels[index] if body.labels else None
        desk.limits.check_item(where, [query], label)
        if not query.startswith(prompt):
            raise Refusal(422, "does not begin with its prompt", where, "invalid_request")
        responses.append(query[len(prompt) :])
    return responses
