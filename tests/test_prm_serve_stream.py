"""Solutions join those under way in an engine that takes them at any time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from test_prm_serve_batcher import make, play, require_failures_alone, solution

from prm.engines.flow import Course, Flow
from prm.errors import EngineError
from prm.records import Failure, Solution, StepScores, steps_digest
from prm.scorers.base import Batching, Scored
from prm.serve.metrics import Metrics
from prm.serve.outcomes import Outcome
from prm.serve.schemas import Refusal


class Feed:
    """Answers to problems that were let go, in that order."""

    def __init__(self) -> None:
        self.under_way: dict[int, str] = {}
        self.asked: list[str] = []
        self.dropped: list[str] = []
        self._go: list[str] = []

    def let(self, *problems: str) -> None:
        self._go += problems

    def begin(self, ask: str, /) -> int:
        self.asked.append(ask)
        self.under_way[len(self.asked)] = ask
        return len(self.asked)

    def advance(self) -> list[tuple[int, str]]:
        time.sleep(0.001)
        for problem in [*self._go]:
            if problem == "DIE":
                raise EngineError("the engine died")
            for number, ask in self.under_way.items():
                if ask == problem:
                    self._go.remove(problem)
                    del self.under_way[number]
                    return [(number, ask)]
        return []

    def drop(self, number: int, /) -> None:
        self.dropped.append(self.under_way.pop(number))


class Flowing:
    """Scores a step by its length once its problem is let go."""

    name = "flowing"

    def __init__(self, tokens: int = 10_000) -> None:
        self.feed = Feed()
        self.flow: Flow[str, str, Scored] = Flow(self.feed)
        self.tokens = 0
        self.closed = False
        self.batching = Batching(tokens, pads=False)

    def course(self, solution: Solution) -> Course[str, str, Scored]:
        if "LONG" in solution.steps:
            return Failure(id=solution.id, reason="too many tokens"), 0
        yield [solution.problem]
        if "RAISE" in solution.steps:
            raise RuntimeError(solution.steps)
        self.tokens += 7
        scores = tuple(float(len(step)) for step in solution.steps)
        digest = steps_digest(solution)
        return StepScores(solution_id="x", steps_digest=digest, model="m", scores=scores), 7

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        return [found for found, _ in self.flow.run(map(self.course, batch))]

    def close(self) -> None:
        self.closed = True


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.001)


def test_a_newcomer_joins_and_is_answered_first() -> None:
    scorer = Flowing()
    batcher = make(scorer)  # type: ignore[arg-type]

    async def scenario() -> None:
        slow = asyncio.create_task(batcher.score([solution("slow"), solution("slow too")]))
        await until(lambda: len(scorer.feed.under_way) == 2)
        quick = asyncio.create_task(batcher.score([solution("quick", "a", "bb")]))
        await until(lambda: len(scorer.feed.under_way) == 3)
        scorer.feed.let("quick")
        assert await quick == ([Outcome(scores=(1.0, 2.0))], 7)
        assert not slow.done()
        scorer.feed.let("slow too", "slow")
        assert await slow == ([Outcome(scores=(4.0,))] * 2, 14)

    play(scenario)
    assert scorer.tokens == 21
    assert batcher._stream is not None
    assert (len(batcher._stream), batcher._stream.held) == (0, 0)


def test_no_more_are_under_way_than_there_is_room_for() -> None:
    scorer = Flowing(tokens=25)
    batcher = make(scorer)  # type: ignore[arg-type]
    step = "x" * 24  # nine tokens, with the problem's

    async def scenario() -> None:
        tasks = [asyncio.create_task(batcher.score([solution(str(i), step)])) for i in range(4)]
        await until(lambda: len(scorer.feed.under_way) == 2)
        await asyncio.sleep(0.03)
        assert scorer.feed.asked == ["0", "1"]
        scorer.feed.let("1")
        await until(lambda: len(scorer.feed.asked) == 3)
        huge = asyncio.create_task(batcher.score([solution("huge", step * 9)]))
        scorer.feed.let("0", "2", "3")
        await asyncio.gather(*tasks)
        scorer.feed.let("huge")  # larger than the room, but alone in it
        assert (await huge)[0] == [Outcome(scores=(216.0,))]

    play(scenario)


def test_what_cannot_be_asked_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    scorer = Flowing()
    batcher = make(scorer)  # type: ignore[arg-type]
    begin = scorer.feed.begin

    def refusing(ask: str, /) -> int:
        if ask == "bad":
            raise UnicodeEncodeError("utf-8", ask, 0, 1, "no text")
        return begin(ask)

    scorer.feed.begin = refusing  # type: ignore[method-assign]
    scorer.feed.let("good")
    outcomes, _ = play(lambda: batcher.score([solution("bad"), solution("good")], "r-2"))
    assert [outcome.broken for outcome in outcomes] == [True, False]
    assert "r-2" in (outcomes[0].error or "")
    assert batcher.state == "ready"


def test_what_fails_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    scorer = Flowing()
    batcher = make(scorer)  # type: ignore[arg-type]
    scorer.feed.let(*"qqqq")
    assert require_failures_alone(batcher, caplog) == 21


def test_who_leaves_takes_what_is_under_way_with_him() -> None:
    scorer = Flowing()
    batcher = make(scorer)  # type: ignore[arg-type]

    async def scenario() -> None:
        leaving = asyncio.create_task(batcher.score([solution("done"), solution("leaving")]))
        staying = asyncio.create_task(batcher.score([solution("staying")]))
        await until(lambda: len(scorer.feed.under_way) == 3)
        scorer.feed.let("done")
        await until(lambda: len(scorer.feed.under_way) == 2)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await until(lambda: scorer.feed.dropped == ["leaving"])
        scorer.feed.let("staying")
        assert (await staying)[0] == [Outcome(scores=(4.0,))]

    play(scenario)


def test_work_has_its_turn_while_others_go_on() -> None:
    scorer = Flowing()
    batcher = make(scorer)  # type: ignore[arg-type]

    async def scenario() -> None:
        slow = asyncio.create_task(batcher.score([solution("slow")]))
        await until(lambda: len(scorer.feed.under_way) == 1)
        scorer.feed.let("slow", "of the work")  # the first ends while the work waits for its own
        own = [solution("of the work", "abc")]
        [scored] = await batcher.run(lambda scorer: scorer.score_each(own))
        assert isinstance(scored, StepScores)
        assert scored.scores == (3.0,)
        assert await slow == ([Outcome(scores=(4.0,))], 7)

    play(scenario)


def test_what_ends_during_work_does_not_wait_for_more_work() -> None:
    scorer = Flowing()
    batcher = make(scorer)  # type: ignore[arg-type]
    go = threading.Event()

    def second(scorer: Any) -> None:
        assert go.wait(20)

    async def scenario() -> None:
        slow = asyncio.create_task(batcher.score([solution("slow")]))
        await until(lambda: len(scorer.feed.under_way) == 1)
        scorer.feed.let("slow", "work")
        works = [
            asyncio.create_task(batcher.run(work))
            for work in (lambda scorer: scorer.score_each([solution("work")]), second)
        ]
        await slow  # answered, though the second piece of work holds the thread
        assert not works[1].done()
        go.set()
        await asyncio.gather(*works)

    play(scenario)


def test_a_dead_engine_answers_everybody() -> None:
    scorer = Flowing()
    batcher = make(scorer)  # type: ignore[arg-type]

    async def scenario() -> None:
        tasks = [asyncio.create_task(batcher.score([solution(str(i))] * 3)) for i in range(3)]
        await until(lambda: len(scorer.feed.under_way) == 9)
        scorer.feed.let("DIE")
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, Refusal) and end.status == 503 for end in ends)

    play(scenario)
    assert batcher.state == "dead"


def test_the_end_breaks_off_what_is_under_way() -> None:
    scorer = Flowing()
    batcher = make(scorer)  # type: ignore[arg-type]

    async def scenario() -> None:
        task = asyncio.create_task(batcher.score([solution("never")]))
        await until(lambda: len(scorer.feed.under_way) == 1)
        batcher.drain()
        batcher.give_up()
        with pytest.raises(Refusal, match="before this is done"):
            await task
        assert batcher.close(10)

    play(scenario)
    assert scorer.closed
    assert scorer.feed.dropped == ["never"]


def test_tokens_are_counted_once() -> None:
    counted: list[int] = []

    class Counting(Metrics):
        def tokens(self, read: int) -> None:
            counted.append(read)

    scorer = Flowing()
    from prm.serve.batcher import Batcher

    batcher: Any = Batcher(scorer, max_waiting=9, metrics=Counting())
    entered = threading.Event()

    def work(scorer: Any) -> None:
        entered.set()
        scorer.score_each([solution("work")])

    async def scenario() -> None:
        slow = asyncio.create_task(batcher.score([solution("slow")] * 2))
        await until(lambda: len(scorer.feed.under_way) == 2)
        scorer.feed.let("slow", "slow", "work")
        await batcher.run(work)
        await slow

    play(scenario)
    assert entered.is_set()
    assert sum(counted) == scorer.tokens == 21
