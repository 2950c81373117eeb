"""What `POST /v1/prm/search` is asked, and what it tells."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from prm.aggregation import Aggregation
from prm.search.budget import Budget
from prm.search.choice import Choice
from prm.search.policy import PROBLEM
from prm.serve.schemas import MaybeBlank, Strict, Text

Count = Annotated[int, Field(ge=1)]
Boundary = Annotated[MaybeBlank, Field(min_length=1, max_length=64)]


class SearchRequest(Strict):
    """What to solve and how to search; settings are those of `prm solve`.

    Attributes:
        id: comes back with the result; the sampling depends on it, as on the problem's id in
            `prm solve`. Null: a digest of the question.
        question: the problem; the reward model is told no reference.
        method: `best_of_n` draws n solutions and scores them once. `beam` keeps the best `width`
            paths of each step's n draws. `dvts` keeps the best path of each of `width` subtrees.
        n: draws: of solutions, or of steps in a round.
        width: how many paths go on, each in n / width ways; for `beam` and `dvts`.
        aggregation: how step scores become a reward.
        choice: the solution that is taken at the end: `reward`, `majority` of the final answers,
            or `weighted` by reward.
        steps: the most of a solution of `beam` or `dvts`; null: 40, or the server's limit.
        max_tokens: the most of one solution; null: 4096, or the server's limit.
        step_tokens: the most of one step; null: 512, or `max_tokens`.
        temperature: of the sampling, as is `top_p`; 0 writes the same every time, so then `n` is 1.
        boundaries: texts that end a step.
        system: the system message; empty leaves it out.
        template: the user message; `{problem}` is replaced by the question.
        stream: tell of each round; else the answer is the result alone.
    """

    id: Text | None = None
    question: Text
    method: Literal["best_of_n", "beam", "dvts"]
    n: Count
    width: Count | None = None
    aggregation: Aggregation = "min"
    choice: Choice = "reward"
    steps: Count | None = None
    max_tokens: Count | None = None
    step_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.8
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=-(2**62), lt=2**62)] = 0
    boundaries: Annotated[
        list[Boundary], Field(min_length=1, max_length=16, fail_fast=True, default=["\n\n"])
    ]
    system: MaybeBlank = ""
    template: Text = PROBLEM
    stream: bool = True


class SearchPath(BaseModel):
    """A solution as far as it is written.

    Attributes:
        scores: raw ones of its steps.
        reward: their aggregation; null where a step has none.
        end: why it goes no further, empty while it may: `turn` where the policy ended its turn;
            see `prm.search.tree.Path`.
    """

    steps: list[str]
    scores: list[float]
    reward: float | None
    end: str


class SearchSolution(SearchPath):
    """A path at its end.

    Attributes:
        answer: the final answer found in it, if any.
        count: how many draws came out as this one.
    """

    answer: str | None
    count: int


class SearchRound(BaseModel):
    """What stands after a step of all paths was written and scored.

    Attributes:
        round: from 1.
        live: paths that go on.
        ended: draws that came to their end so far.
        best: the path with the greatest reward, of those that go on and all that ended their turn
            so far, which the search need not have kept; in the last round of what it ended with.
            Null where none has one.
        budget: tokens so far; see `prm.search.budget.Budget`.
    """

    round: int
    live: int
    ended: int
    best: SearchPath | None
    budget: Budget


class SearchResult(BaseModel):
    """What a search found.

    Attributes:
        id: as given, or what stood in for it.
        model: the reward model.
        policy: the model that wrote.
        best: the solution chosen.
        others: what else it ended with, best first; as many as there were draws a round, at most.
        ends: how many draws ended how.
        rounds: how many there were.
        budget: tokens of all of it; see `prm.search.budget.Budget`.
    """

    id: str
    model: str
    policy: str
    best: SearchSolution
    others: list[SearchSolution]
    ends: dict[str, int]
    rounds: int
    budget: Budget
