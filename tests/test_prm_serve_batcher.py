"""Batches of many requests: order, likeness, neighbours, clients that leave, engines that die."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm.errors import EngineError
from prm.records import Failure, Solution, StepScores, steps_digest
from prm.scorers.base import Batching
from prm.serve.batcher import Batcher
from prm.serve.metrics import Metrics
from prm.serve.outcomes import Outcome
from prm.serve.schemas import Refusal
from prm.serve.waiting import ALIKE, Entry, Waiting

# The queue


def names(batch: Sequence[Entry[Any]]) -> list[Any]:
    return [entry.item for entry in batch]


def everything(queue: Waiting[Any]) -> list[list[Any]]:
    batches = []
    while batch := queue.take():
        batches.append(names(batch))
    return batches


COSTS = st.lists(st.integers(1, 300), min_size=1, max_size=8)


@given(st.lists(COSTS, min_size=1, max_size=8), st.integers(1, 500), st.booleans())
def test_everything_is_taken_once_and_no_batch_is_too_large(
    requests: list[list[int]], budget: int, pads: bool
) -> None:
    queue: Waiting[tuple[int, int]] = Waiting(Batching(budget, pads))
    for number, costs in enumerate(requests):
        queue.add(number, [(number, index) for index in range(len(costs))], costs)
    assert len(queue) == sum(map(len, requests))
    taken = []
    while batch := queue.take():
        taken += names(batch)
        costs = [entry.cost for entry in batch]
        if len(batch) > 1 and pads:
            assert max(costs) * len(costs) <= budget
            assert costs[0] / ALIKE <= min(costs)
            assert max(costs) <= costs[0] * ALIKE
        elif len(batch) > 1:
            assert sum(costs) <= budget
    assert sorted(taken) == [(n, i) for n, costs in enumerate(requests) for i in range(len(costs))]
    assert not queue.requests


@given(st.lists(st.integers(1, 300), min_size=1, max_size=20), st.integers(1, 1000))
def test_single_items_have_their_turn_in_the_order_of_arrival(
    costs: list[int], budget: int
) -> None:
    queue: Waiting[int] = Waiting(Batching(budget, pads=True))
    for number, cost in enumerate(costs):
        queue.add(number, [number], [cost])
    left = set(range(len(costs)))
    while batch := queue.take():
        assert batch[0].item == min(left)
        left -= set(names(batch))
    assert not left


def test_a_large_request_shares_with_those_that_come_later() -> None:
    queue: Waiting[str] = Waiting(Batching(100, pads=True))
    queue.add("large", [f"large {index}" for index in range(50)], [100] * 50)
    assert names(queue.take()) == ["large 0"]
    queue.add("small", ["small"], [100])
    queue.add("pair", ["pair 0", "pair 1"], [100, 100])
    later = [queue.take()[0].item for _ in range(8)]
    assert set(later) > {"small", "pair 0", "pair 1"}
    assert later.index("small") <= 1
    assert later.index("pair 1") <= 6
    assert len(queue) == 50 + 3 - 1 - 8


def test_nothing_starves_under_a_stream_of_newcomers() -> None:
    queue: Waiting[str] = Waiting(Batching(100, pads=True))
    queue.add("large", [f"large {index}" for index in range(20)], [100] * 20)
    rounds = 0
    while "large" in queue.requests:
        queue.add(rounds, ["small"], [100])  # as many come as are served
        queue.take()
        rounds += 1
        # Every item of the large one leaves a newcomer waiting, so its share falls to 1/2 … 1/21.
        assert rounds < 1.2 * sum(range(2, 22))
    # Not before the newcomers either: those that came early are through.
    assert min(key for key in queue.requests if isinstance(key, int)) > 0


def test_short_ones_are_not_padded_to_a_long_one() -> None:
    queue: Waiting[str] = Waiting(Batching(1000, pads=True))
    for name, cost in (("long", 900), ("a", 100), ("b", 110), ("huge", 5000), ("c", 90)):
        queue.add(name, [name], [cost])
    assert everything(queue) == [["long"], ["a", "b", "c"], ["huge"]]
    queue.batching = Batching(1000, pads=False)
    for name, cost in (("long", 800), ("a", 100), ("huge", 7000), ("c", 90)):
        queue.add(name, [name], [cost])
    assert everything(queue) == [["long", "a"], ["huge"], ["c"]]


@given(
    st.lists(st.tuples(COSTS, st.booleans()), min_size=1, max_size=8),
    st.integers(1, 500),
    st.booleans(),
)
def test_what_is_to_be_alone_is_alone_and_in_its_turn(
    requests: list[tuple[list[int], bool]], budget: int, pads: bool
) -> None:
    queue: Waiting[int] = Waiting(Batching(budget, pads))
    for number, (costs, alone) in enumerate(requests):
        queue.add(number, [number] * len(costs), costs, alone=alone)
    taken = []
    while batch := queue.take():
        if any(entry.alone for entry in batch):
            assert len(batch) == 1
        taken += names(batch)
    assert sorted(taken) == [n for n, (costs, _) in enumerate(requests) for _ in costs]


def test_neither_kind_starves_the_other() -> None:
    for kind in (False, True):
        queue: Waiting[str] = Waiting(Batching(100, pads=True))
        queue.add("first", ["first"] * 10, [100] * 10, alone=kind)
        rounds = 0
        while "first" in queue.requests:
            queue.add(rounds, ["other"], [100], alone=not kind)  # as many come as are served
            queue.take()
            rounds += 1
            assert rounds < 1.2 * sum(range(2, 12))
        assert rounds > 20  # nor do those that come later wait for all of the first


def test_what_is_dropped_is_gone() -> None:
    queue: Waiting[str] = Waiting(Batching(100, pads=True))
    queue.add("one", ["a", "b"], [1, 1])
    queue.add("two", ["c"], [1])
    queue.drop("one")
    queue.drop("none")
    assert (len(queue), queue.requests) == (1, {"two": 1})
    assert everything(queue) == [["c"]]


# The way to the model


class Scorer:
    """Scores a step by its length; a step's text can make it fail. It waits where it is told to."""

    name = "scorer"

    def __init__(self) -> None:
        self.tokens = 0
        self.batches: list[list[str]] = []
        self.release = threading.Event()
        self.release.set()
        self.entered = threading.Semaphore(0)
        self.closed = False
        self.batching = Batching(16384, pads=True)

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        self.batches.append([solution.problem for solution in batch])
        self.entered.release()
        assert self.release.wait(20)
        texts = " ".join(step for solution in batch for step in solution.steps)
        if "DIE" in texts:
            raise EngineError("the engine died")
        if "RAISE" in texts:
            raise RuntimeError(texts)
        self.tokens += 7 * len(batch)
        return [self._score(solution) for solution in batch]

    def _score(self, solution: Solution) -> StepScores | Failure:
        if "LONG" in solution.steps:
            return Failure(id=solution.id, reason="too many tokens")
        scores = tuple(float(len(step)) for step in solution.steps)
        digest = steps_digest(solution)
        return StepScores(solution_id="x", steps_digest=digest, model=self.name, scores=scores)

    def close(self) -> None:
        self.closed = True


def solution(problem: str, *steps: str) -> Solution:
    return Solution(id="x", problem=problem, steps=steps or ("step",))


def make(scorer: Scorer | None, max_waiting: int = 100) -> Batcher:
    return Batcher(scorer, max_waiting=max_waiting, metrics=Metrics())


def play(scenario: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(scenario(), 30)

    return asyncio.run(bounded())


async def blocked(batcher: Batcher, scorer: Scorer) -> asyncio.Task[Any]:
    """A request that keeps the model busy until `scorer.release` is set."""
    scorer.release.clear()
    task = asyncio.create_task(batcher.score([solution("first")]))
    await asyncio.to_thread(scorer.entered.acquire)
    return task


def test_what_waits_is_merged_and_comes_back_to_its_request() -> None:
    scorer = Scorer()
    batcher = make(scorer)

    async def scenario() -> None:
        first = await blocked(batcher, scorer)
        tasks = [
            asyncio.create_task(
                batcher.score([solution("q", "a" * size), solution("q", "b", "c" * size)])
            )
            for size in range(1, 9)
        ]
        await asyncio.sleep(0.05)
        scorer.release.set()
        for size, task in enumerate(tasks, 1):
            outcomes, tokens = await task
            assert [outcome.scores for outcome in outcomes] == [(size,), (1.0, size)]
            assert tokens > 0
        await first

    play(scenario)
    assert len(scorer.batches) <= 4
    assert sum(map(len, scorer.batches)) == 17


def test_shares_of_a_batch_add_up_to_its_tokens() -> None:
    scorer = Scorer()
    batcher = make(scorer)

    async def scenario() -> int:
        first = await blocked(batcher, scorer)
        tasks = [
            asyncio.create_task(batcher.score([solution("q", "a" * (40 + size))]))
            for size in range(10)
        ]
        await asyncio.sleep(0.05)
        scorer.release.set()
        return sum([(await task)[1] for task in [first, *tasks]])

    assert play(scenario) == scorer.tokens == 77


def require_failures_alone(batcher: Batcher, caplog: pytest.LogCaptureFixture) -> int:
    """Score good and bad solutions together; the tokens that were counted."""
    batch = [solution("q", text) for text in ("a", "RAISE", "bb", "LONG", "ccc")]
    outcomes, tokens = play(lambda: batcher.score(batch, "r-1"))
    assert outcomes == [
        Outcome(scores=(1.0,)),
        Outcome(error="the server failed; its log tells of r-1", broken=True),
        Outcome(scores=(2.0,)),
        Outcome(error="too many tokens"),
        Outcome(scores=(3.0,)),
    ]
    assert batcher.state == "ready"
    assert "RuntimeError" in caplog.text
    assert "RAISE" not in caplog.text
    return int(tokens)


def test_a_solution_that_raises_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    require_failures_alone(make(Scorer()), caplog)


def test_who_leaves_takes_what_waits_with_him() -> None:
    scorer = Scorer()
    batcher = make(scorer)

    async def scenario() -> None:
        first = await blocked(batcher, scorer)
        leaving = asyncio.create_task(batcher.score([solution("leaving")] * 3))
        staying = asyncio.create_task(batcher.score([solution("staying")]))
        await asyncio.sleep(0.05)
        leaving.cancel()
        first.cancel()  # its batch is under way; its outcome goes nowhere
        await asyncio.gather(first, leaving, return_exceptions=True)
        scorer.release.set()
        assert (await staying)[0] == [Outcome(scores=(4.0,))]

    play(scenario)
    assert scorer.batches == [["first"], ["staying"]]


def test_too_many_are_sent_away() -> None:
    scorer = Scorer()
    batcher = make(scorer, max_waiting=2)

    async def scenario() -> None:
        first = await blocked(batcher, scorer)
        tasks = [asyncio.create_task(batcher.score([solution("q")])) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(Refusal, match="2 requests wait already") as refused:
            await batcher.score([solution("q")])
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
        scorer.release.set()
        await asyncio.gather(first, *tasks)

    play(scenario)


def test_a_dead_engine_answers_everybody_and_says_so() -> None:
    scorer = Scorer()
    scorer.batching = Batching(50, pads=True)  # so that it dies with much undone
    batcher = make(scorer)
    deaths: list[int] = []
    batcher.on_death = lambda: deaths.append(1)

    async def scenario() -> None:
        first = await blocked(batcher, scorer)
        tasks = [
            asyncio.create_task(batcher.score([solution("q", "DIE" if index == 3 else "a")] * 40))
            for index in range(6)
        ]
        await asyncio.sleep(0.05)
        scorer.release.set()
        assert (await first)[0][0].scores == (4.0,)
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, Refusal) and end.status == 503 for end in ends)
        with pytest.raises(Refusal, match="the engine died"):
            await batcher.score([solution("late")])

    play(scenario)
    assert (batcher.state, deaths) == ("dead", [1])
    assert isinstance(batcher.failure, EngineError)
    with pytest.raises(Refusal):
        _ = batcher.name


def test_a_model_that_loads_is_waited_for() -> None:
    batcher = make(None)
    go = threading.Event()

    def load() -> Scorer:
        assert go.wait(20)
        return Scorer()

    batcher.load(load)
    assert batcher.state == "loading"
    with pytest.raises(Refusal, match="being loaded") as refused:
        play(lambda: batcher.score([solution("q")]))
    assert refused.value.status == 503
    go.set()
    while batcher.state == "loading":
        threading.Event().wait(0.01)
    assert (batcher.state, batcher.name) == ("ready", "scorer")
    assert play(lambda: batcher.score([solution("q")]))[0] == [Outcome(scores=(4.0,))]


def test_a_model_that_cannot_be_loaded_is_the_failure() -> None:
    batcher = make(None)
    died = threading.Event()
    batcher.on_death = died.set

    def load() -> Scorer:
        raise EngineError("no memory")

    batcher.load(load)
    assert died.wait(10)
    assert str(batcher.failure) == "no memory"


def test_the_end() -> None:
    scorer = Scorer()
    batcher = make(scorer)

    async def scenario() -> None:
        first = await blocked(batcher, scorer)
        second = asyncio.create_task(batcher.score([solution("q")]))
        await asyncio.sleep(0.05)
        batcher.drain()
        assert batcher.state == "draining"
        batcher.give_up()
        for task in (first, second):
            with pytest.raises(Refusal, match="before this is done"):
                await task
        assert not batcher.close(0.05)  # its thread is at the first
        scorer.release.set()

    play(scenario)
    while not scorer.closed:
        threading.Event().wait(0.01)
    assert scorer.batches == [["first"]]


# Work of another kind


def test_work_has_its_turn_between_batches_with_the_scorer_in_its_thread() -> None:
    scorer = Scorer()
    batcher = make(scorer)
    order: list[str] = []
    threads: set[str] = set()

    def work(found: Any) -> int:
        order.append("work")
        threads.add(threading.current_thread().name)
        assert found is scorer
        scorer.tokens += 5
        return len(scorer.batches)

    async def scenario() -> int:
        first = await blocked(batcher, scorer)
        tasks = [asyncio.create_task(batcher.score([solution("before")]))]
        await asyncio.sleep(0)
        done = asyncio.create_task(batcher.run(work, cost=20))
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(batcher.score([solution("after", "DIFFERENT" * 40)])))
        await asyncio.sleep(0.05)
        scorer.release.set()
        found = await done
        await asyncio.gather(first, *tasks)
        return found

    assert play(scenario) == 2
    assert scorer.batches == [["first"], ["before"], ["after"]]
    assert order == ["work"]
    assert len(threads) == 1
    assert threads.pop().startswith("scorer")
    assert b"prm_tokens_total 26.0" in batcher._metrics.text(ready=True)


def test_work_that_fails_ends_its_request_alone(caplog: pytest.LogCaptureFixture) -> None:
    batcher = make(Scorer())

    def fail(_: Any) -> None:
        raise RuntimeError("a private matter")

    async def scenario() -> None:
        with pytest.raises(Refusal, match="its log tells of r-1") as refused:
            await batcher.run(fail, request_id="r-1")
        assert (refused.value.status, refused.value.problem.type) == (500, "internal")
        assert (await batcher.score([solution("q")]))[0] == [Outcome(scores=(4.0,))]

    play(scenario)
    assert batcher.state == "ready"
    assert "RuntimeError" in caplog.text
    assert "private" not in caplog.text


def test_work_that_finds_the_engine_dead_ends_the_server() -> None:
    batcher = make(Scorer())
    died = threading.Event()
    batcher.on_death = died.set

    def die(_: Any) -> None:
        raise EngineError("the engine died")

    async def scenario() -> None:
        ends = await asyncio.gather(
            batcher.run(die), batcher.run(lambda _: 1), return_exceptions=True
        )
        for end in ends:
            assert isinstance(end, Refusal)
            assert (end.status, end.problem.type) == (503, "dead")
        with pytest.raises(Refusal, match="the engine died"):
            await batcher.run(lambda _: 1, admitted=True)

    play(scenario)
    assert died.wait(10)
    assert batcher.state == "dead"


def test_work_whose_client_left_is_not_begun() -> None:
    scorer = Scorer()
    batcher = make(scorer)
    done: list[str] = []

    async def scenario() -> None:
        first = await blocked(batcher, scorer)
        leaving = asyncio.create_task(batcher.run(lambda _: done.append("leaving")))
        staying = asyncio.create_task(batcher.run(lambda _: done.append("staying")))
        await asyncio.sleep(0.05)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        scorer.release.set()
        await asyncio.gather(first, staying)

    play(scenario)
    assert done == ["staying"]


def test_work_is_sent_away_as_requests_are_unless_it_was_admitted() -> None:
    with pytest.raises(Refusal, match="being loaded"):
        play(lambda: make(None).run(lambda _: 1, admitted=True))
    scorer = Scorer()
    batcher = make(scorer, max_waiting=1)

    async def scenario() -> None:
        first = await blocked(batcher, scorer)
        second = asyncio.create_task(batcher.score([solution("q")]))
        await asyncio.sleep(0.05)
        with pytest.raises(Refusal, match="1 requests wait already"):
            await batcher.run(lambda _: 1)
        third = asyncio.create_task(batcher.run(lambda _: 1, admitted=True))
        scorer.release.set()
        assert await third == 1
        await asyncio.gather(first, second)
        batcher.drain()
        assert await batcher.run(lambda _: 2) == 2  # what was accepted goes on
        batcher.give_up()
        for late in (batcher.run(lambda _: 1, admitted=True), batcher.score([solution("q")])):
            with pytest.raises(Refusal, match="the server ends"):
                await late

    play(scenario)
