"""Candidates that the policy writes and the reward model judges, and the order of the best."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from fastapi import Request
from pydantic import BaseModel

from prm import engines
from prm.aggregation import Aggregation, aggregate
from prm.best_of_n import Equal
from prm.engines import Completion, unfinished
from prm.records import Problem
from prm.search.choice import Choice, ranked
from prm.search.tree import TURN, Path
from prm.serve.desk import Desk, solution, until_gone
from prm.serve.policy import nothing_to_choose
from prm.serve.schemas import Refusal, sound
from verify.answers import extract_answer
from verify.equivalence import equivalent

COMPARING = 20.0
"""Seconds that the comparison of all final answers may take: each pair may need computer algebra.
Beyond, only the same text is the same answer."""


class Candidate(BaseModel):
    """One answer of the policy.

    Attributes:
        text: as it was written.
        steps: what the scores are of; empty where it was not judged.
        scores: one finite raw score per step; null with an error.
        reward: the scores' aggregation; null with an error.
        answer: the final answer found in it, if any.
        finish_reason: the policy's.
        error: why it cannot be chosen.
    """

    text: str
    steps: list[str]
    scores: list[float] | None = None
    reward: float | None = None
    answer: str | None = None
    finish_reason: str
    error: str | None = None


async def drawn(
    desk: Desk,
    request: Request,
    asked: engines.Request,
    question: str,
    aggregation: Aggregation,
) -> tuple[list[Candidate], int, int]:
    """Have the policy write, and the reward model judge.

    Args:
        desk: has a policy.
        request: the client's, who may leave.
        asked: of the policy.
        question: that the answers are solutions of.
        aggregation: how step scores become a reward.

    Returns:
        the candidates, at least one with a reward, and the tokens that the policy read and wrote.

    Raises:
        Refusal: see `Policy.generate` and `Desk.score`; or no candidate can be chosen.
    """
    (completions,) = await until_gone(request, desk.require_policy().generate([asked]))
    candidates = [_candidate(completion) for completion in completions]
    whole = [candidate for candidate in candidates if candidate.error is None]
    separated = await desk.separate([candidate.text for candidate in whole])
    for candidate, steps in zip(whole, separated, strict=True):
        candidate.steps = list(steps)
        try:
            desk.limits.check_item("", steps, question)
        except Refusal as refusal:
            candidate.error = str(refusal)
    await _judge(desk, request, question, candidates, aggregation)
    if all(candidate.error for candidate in candidates):
        raise nothing_to_choose(
            [completion.finish_reason for completion in completions],
            [candidate.error or "" for candidate in candidates],
            "candidates",
            where="messages",
        )
    prompt = sum(completion.prompt_tokens for completion in completions)
    return candidates, prompt, sum(completion.completion_tokens for completion in completions)


async def in_order(
    candidates: Sequence[Candidate],
    aggregation: Aggregation,
    vote: Choice,
    question: str,
    *,
    answers: bool,
) -> list[int]:
    """The candidates that have a reward, by their places, best first: see `ranked`.

    Args:
        candidates: from `drawn`; `answers` says whether they are told their final answers.
        aggregation: how step scores become a reward.
        vote: how to choose.
        question: what they solve.
    """
    paths = {
        index: Path(
            problem=Problem(id=str(index), problem=question),
            texts=tuple(candidate.steps),
            scores=tuple(candidate.scores),
            end=TURN,
        )
        for index, candidate in enumerate(candidates)
        if candidate.scores is not None
    }

    def work() -> list[int]:
        if answers:
            for index, path in paths.items():
                candidates[index].answer = extract_answer(path.steps).text
        best = ranked(list(paths.values()), aggregation, vote, comparison())
        return [int(path.problem.id) for path in best]

    return await asyncio.to_thread(work)


def comparison() -> Equal:
    """Whether two final answers are the same, from now on; see `COMPARING`."""
    deadline = time.monotonic() + COMPARING

    def equal(one: str, other: str) -> bool:
        left = deadline - time.monotonic()
        if one == other or left <= 0:
            return one == other
        return equivalent(one, other, deadline_s=min(left, 2.0)).verdict == "equal"

    return equal


def _candidate(completion: Completion) -> Candidate:
    text, error = completion.text, unfinished(completion, "answer", "policy")
    try:
        sound(text)
    except ValueError as unsound:
        text = text.encode(errors="replace").decode()
        error = error or str(unsound)
    if not error and not text.strip():
        error = "nothing was written"
    return Candidate(text=text, steps=[], finish_reason=completion.finish_reason, error=error)


async def _judge(
    desk: Desk,
    request: Request,
    question: str,
    candidates: Sequence[Candidate],
    aggregation: Aggregation,
) -> None:
    """Give candidates without an error their scores, or one; what was written twice is read once.

    A candidate that cannot be judged is no reason to have the others fail.
    """
    places: dict[tuple[str, ...], list[Candidate]] = {}
    for candidate in candidates:
        if candidate.error is None:
            places.setdefault(tuple(candidate.steps), []).append(candidate)
    if not places:
        return
    batch = [
        solution(f"candidates.{index}", question, steps, None) for index, steps in enumerate(places)
    ]
    outcomes = await desk.score(request, batch)
    for same, outcome in zip(places.values(), outcomes, strict=True):
        for candidate in same:
            if outcome.scores is None:
                candidate.error = outcome.error or "no scores"
            else:
                candidate.scores = list(outcome.scores)
                candidate.reward = aggregate(outcome.scores, aggregation)
