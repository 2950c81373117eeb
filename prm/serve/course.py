"""A search under way: the policy's requests and the reward model's work, and what it tells.

    prm.search ──round─┬─ grow ──▶ Policy.generate, cancelled with the client
                       └─ score ─▶ Batcher.run, in parts, between other requests' batches

What the reward model read is kept from round to round for this search alone, and is freed with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from fastapi import Request

from prm.aggregation import Aggregation
from prm.engines import TOO_LONG, Completion
from prm.records import Problem
from prm.scorers import ModelScorer, StepScorer
from prm.search.budget import Budget
from prm.search.choice import ranked
from prm.search.online import SearchConfig
from prm.search.policy import Writer, WritingConfig
from prm.search.scoring import PathScorer, path_scorer
from prm.search.solve import Priced, priced
from prm.search.tree import (
    BEATEN,
    STEPS,
    TURN,
    Done,
    Grown,
    Growth,
    Path,
    Round,
    Scores,
    advance,
    ends,
    live,
)
from prm.serve.batcher import tokens_of
from prm.serve.candidates import comparison
from prm.serve.desk import Desk
from prm.serve.policy import nothing_to_choose
from prm.serve.schemas import Refusal, sound
from prm.serve.searches import SearchPath, SearchResult, SearchRound, SearchSolution
from verify.answers import extract_answer

UNSOUND = "unsound_text"
"""How a path ends whose next text is none that a tokenizer can take."""


class Places:
    """Room for so many searches at a time."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._count = count

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            Refusal: all are taken.
        """
        if self._left < 1:
            message = f"{self._count} searches are under way already; try again later"
            raise Refusal(503, message, "", "busy", Retry_After="5")
        self._left -= 1
        try:
            yield
        finally:
            self._left += 1


class Course:
    """One search.

    Args:
        desk: has a policy.
        request: whose account it is.
        problem: what to solve.
        way: how to search.
        writing: how the policy writes.
        seed: of the sampling.
    """

    def __init__(
        self,
        desk: Desk,
        request: Request,
        problem: Problem,
        way: SearchConfig,
        writing: WritingConfig,
        seed: int,
    ) -> None:
        self._policy = desk.require_policy()
        self._model = desk.batcher.name
        self._desk = desk
        self._request_id: str = request.state.request_id
        self._account: dict[str, Any] = request.state.account
        self._problem = problem
        self._way = way
        self._writer = Writer(writing, seed)
        self._spent = {problem.id: Budget()}
        self._rounds = 0
        self._ended = 0
        self._solved: list[Path] = []

    async def events(
        self, places: Places
    ) -> AsyncGenerator[tuple[str, SearchRound | SearchResult], None]:
        """Begin, tell `begun`, search, tell each `round`, and tell the `result`.

        Raises:
            Refusal: no place or no model, before `begun`; later a model failed or the server ends,
                or nothing that was found can be chosen.
        """
        with places.one():
            reader = await self._desk.batcher.run(
                # What a server scores with is a model, whatever tests hand to it.
                lambda scorer: path_scorer(cast(ModelScorer, scorer)),
                request_id=self._request_id,
            )
            yield "begun", self._round([], 0)
            course = priced(self._way.search(self._problem), self._spent)
            told: Priced | None = None
            # Steps and answers are looked for in long texts: others must be answered meanwhile.
            while not isinstance(asked := await asyncio.to_thread(advance, course, told), Done):
                if asked.grow and self._rounds:
                    best = [*self._solved, *(growth.path for growth in asked.grow)]
                    yield "round", self._round(best, _count(asked))
                reader.keep(live(asked))
                grown = await self._grow(asked.grow) if asked.grow else []
                scores = await self._score(reader, asked.score) if asked.score else []
                self._note(asked, grown, scores)
                told = grown, scores
            del reader
        paths = asked.value
        self._ended += sum(path.count for path in paths if path.end in (BEATEN, STEPS))
        self._account["items"] += len(paths)
        for path in paths:
            self._desk.metrics.outcome(path.scores if path.scored else None)
        yield "round", self._round(paths, 0)
        yield "result", await asyncio.to_thread(self._result, paths)

    async def _grow(self, growths: Sequence[Growth]) -> list[tuple[Grown, Budget]]:
        writing = self._writer.grow(growths)
        answers: list[list[Completion]] | None = None
        while not isinstance(asked := await asyncio.to_thread(advance, writing, answers), Done):
            found = await self._policy.generate(asked)
            answers = [[_sound(completion) for completion in own] for own in found]
        self._rounds += 1
        return asked.value

    async def _score(
        self, reader: PathScorer, paths: Sequence[Path]
    ) -> list[tuple[Scores, Budget]]:
        found: list[tuple[Scores, Budget]] = []
        for part, cost in _parts(paths, self._desk.batcher.batching.tokens):
            found += await self._desk.batcher.run(
                partial(_read, reader, part),
                cost=cost,
                request_id=self._request_id,
                admitted=True,
            )
        return found

    def _note(
        self,
        asked: Round,
        grown: Sequence[tuple[Grown, Budget]],
        scores: Sequence[tuple[Scores, Budget]],
    ) -> None:
        """Enter what came of a round into what is told and into the request's account."""
        self._ended += sum(bool(path.end) for paths, _ in grown for path in paths)
        for path, (own, budget) in zip(asked.score, scores, strict=True):
            self._account["tokens"] += budget.read
            if isinstance(own, str):
                self._ended += 0 if path.end else path.count
                continue
            self._account["steps"] += len(own) - len(path.scores)
            if path.end == TURN:
                self._solved.append(replace(path, scores=own))
        self._solved = _best(self._solved, self._way.aggregation)

    def _round(self, paths: Sequence[Path], going_on: int) -> SearchRound:
        best = _best(paths, self._way.aggregation)
        return SearchRound(
            round=self._rounds,
            live=going_on,
            ended=self._ended,
            best=SearchPath(**self._told(best[0])) if best else None,
            budget=self._spent[self._problem.id],
        )

    def _result(self, paths: Sequence[Path]) -> SearchResult:
        way = self._way
        order = ranked(paths, way.aggregation, way.choice, comparison())
        if not order:
            reasons = [path.end for path in paths]
            long = "the prompt exceeds the policy's context"
            told = [long if reason == TOO_LONG else reason for reason in reasons]
            raise nothing_to_choose(reasons, told, "paths", where="question")
        best, *others = [*order, *(path for path in paths if path not in order)]
        return SearchResult(
            id=self._problem.id,
            model=self._model,
            policy=self._policy.name,
            best=self._solution(best),
            others=[self._solution(path) for path in others[: way.n]],
            ends=ends(paths),
            rounds=self._rounds,
            budget=self._spent[self._problem.id],
        )

    def _solution(self, path: Path) -> SearchSolution:
        answer = extract_answer(path.steps).text
        return SearchSolution(answer=answer, count=path.count, **self._told(path))

    def _told(self, path: Path) -> dict[str, Any]:
        return {
            "steps": list(path.steps),
            "scores": list(path.scores),
            "reward": path.reward(self._way.aggregation) if path.scored else None,
            "end": path.end,
        }


def _read(reader: PathScorer, paths: Sequence[Path], _: StepScorer) -> list[tuple[Scores, Budget]]:
    return reader.score(paths)


def _parts(paths: Sequence[Path], most: int) -> Iterator[tuple[list[Path], int]]:
    """Paths that the model reads at a time, and about how many tokens they have.

    As if each were read from its start: what is kept of it takes room in the model's batch, too.
    """
    part: list[Path] = []
    total = 0
    for path in paths:
        cost = tokens_of(path.problem.problem, path.text)
        if part and total + cost > most:
            yield part, total
            part, total = [], 0
        part.append(path)
        total += cost
    yield part, total


def _count(asked: Round) -> int:
    """How many paths a round goes on from, those whose newest step is still to be scored too."""
    return len(asked.grow) + sum(not path.end for path in asked.score)


def _best(paths: Sequence[Path], method: Aggregation) -> list[Path]:
    """The first with the greatest reward; empty where none has one."""
    able = [path for path in paths if path.scored]
    return [max(able, key=lambda path: path.reward(method))] if able else []


def _sound(completion: Completion) -> Completion:
    try:
        sound(completion.text)
    except ValueError:
        return replace(completion, text="", finish_reason=UNSOUND)
    return completion
