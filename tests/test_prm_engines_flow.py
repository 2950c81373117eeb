"""Courses side by side: each as if alone, whatever order answers come in, and none for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm.engines.errands import Errands
from prm.engines.flow import Course, Flow, asking


class Slow:
    """A feed that answers a number with its double, in the order that it is told to."""

    def __init__(self, picks: Sequence[int] = ()) -> None:
        self.under_way: dict[int, int] = {}
        self.asked: list[int] = []
        self.dropped: list[int] = []
        self._picks = list(picks)

    def begin(self, ask: int, /) -> int:
        if ask == 101:
            raise ValueError("cannot be asked")
        self.asked.append(ask)
        self.under_way[len(self.asked)] = ask
        return len(self.asked)

    def advance(self) -> list[tuple[int, int | Exception]]:
        if not self.under_way:
            return []
        pick = self._picks.pop() if self._picks else 0
        if pick == 7:
            return []  # nothing has come yet
        number = sorted(self.under_way)[pick % len(self.under_way)]
        ask = self.under_way.pop(number)
        return [(number, ValueError("no answer") if ask == 100 else 2 * ask)]

    def drop(self, number: int, /) -> None:
        self.dropped.append(self.under_way.pop(number))


def course(name: str, rounds: Sequence[Sequence[int]]) -> Course[int, int, tuple[str, list[int]]]:
    """Asks what each round says; ends with its name and all answers."""
    answers: list[int] = []
    for asked in rounds:
        if -1 in asked:
            raise ValueError(name)
        answers += yield list(asked)
    return name, answers


ROUNDS = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=3), max_size=4)


def ends(flow: Flow[int, int, Any], numbers: Sequence[int]) -> dict[int, Any]:
    """What came of courses, each told once."""
    found: dict[int, Any] = {}
    while set(numbers) - found.keys():
        for number in flow.advance():
            assert number not in found
            found[number] = flow.collect(number)
    return found


@given(st.lists(ROUNDS, max_size=6), st.lists(st.integers(0, 7), max_size=60))
def test_each_course_goes_as_if_alone(rounds: list[list[list[int]]], picks: list[int]) -> None:
    flow: Flow[int, int, Any] = Flow(Slow(picks))
    first = {flow.begin(course(str(i), own)): (str(i), own) for i, own in enumerate(rounds[::2])}
    told = flow.run(course(f"run {i}", own) for i, own in enumerate(rounds[1::2]))
    assert told == [
        (f"run {i}", [2 * one for asked in own for one in asked])
        for i, own in enumerate(rounds[1::2])
    ]
    assert ends(flow, [*first]) == {
        number: (name, [2 * one for asked in own for one in asked])
        for number, (name, own) in first.items()
    }
    assert flow.advance() == []


def test_a_short_one_that_begins_later_ends_first() -> None:
    feed = Slow([0, 0, 1])  # the newcomer is answered first
    flow: Flow[int, int, Any] = Flow(feed)
    long = flow.begin(course("long", [[1], [2], [3]]))
    short = flow.begin(course("short", [[9]]))
    assert flow.advance() == [short]
    assert flow.collect(short) == ("short", [18])
    assert ends(flow, [long]) == {long: ("long", [2, 4, 6])}


def test_an_error_is_its_own_courses() -> None:
    flow: Flow[int, int, Any] = Flow(Slow())
    bad = flow.begin(course("bad", [[1], [-1]]))
    good = flow.begin(course("good", [[2], [3]]))
    told: list[int] = []
    while len(told) < 2:
        told += flow.advance()
    with pytest.raises(ValueError, match="bad"):
        flow.collect(bad)
    assert flow.collect(good) == ("good", [4, 6])
    with pytest.raises(ValueError, match="bad"):
        flow.run([course("good", [[1]]), course("bad", [[-1]])])
    assert flow.advance() == []


@pytest.mark.parametrize(("ask", "told"), [(100, "no answer"), (101, "cannot be asked")])
def test_a_request_that_fails_ends_its_course_alone(ask: int, told: str) -> None:
    feed = Slow([0, 1, 0])
    flow: Flow[int, int, Any] = Flow(feed)
    stays = flow.begin(course("stays", [[1], [2]]))
    fails = flow.begin(course("fails", [[3, ask, 4]]))
    order: list[int] = []
    while fails not in order:
        order += flow.advance()
    with pytest.raises(ValueError, match=told):
        flow.collect(fails)
    assert [*feed.under_way.values()] in ([1], [2])  # the rest of its round is broken off
    assert ends(flow, [stays]) == {stays: ("stays", [2, 4])}
    with pytest.raises(ValueError, match=told):
        flow.run([course("good", [[1]]), course("fails", [[ask]])])
    assert not feed.under_way
    assert flow.advance() == []


def test_what_has_ended_is_told_without_waiting() -> None:
    feed = Slow([0])
    flow: Flow[int, int, Any] = Flow(feed)
    other = flow.begin(asking(5))
    assert flow.advance(wait=False) == []
    assert flow.run([asking(6)]) == [12]
    assert flow.advance(wait=False) == [other]


def test_what_is_dropped_is_broken_off_and_not_told() -> None:
    feed = Slow()
    flow: Flow[int, int, Any] = Flow(feed)
    gone, stays = flow.begin(course("gone", [[1, 2], [3]])), flow.begin(course("stays", [[4]]))
    assert flow.advance() == []  # of two answers one has come
    flow.drop(gone)
    assert feed.dropped == [2]
    assert flow.advance() == [stays]
    flow.drop(stays)  # what came of it is not wanted
    empty = flow.begin(course("at once", []))
    flow.drop(empty)
    assert flow.advance() == []
    assert not feed.under_way


def test_what_was_interrupted_leaves_nothing_under_way() -> None:
    class Broken(Slow):
        def advance(self) -> list[tuple[int, int | Exception]]:
            raise KeyboardInterrupt

    feed = Broken()
    flow: Flow[int, int, Any] = Flow(feed)
    with pytest.raises(KeyboardInterrupt):
        flow.run(asking(number) for number in range(3))
    assert sorted(feed.dropped) == [0, 1, 2]


# Errands


def errands() -> tuple[Errands[float, float], list[float], list[str]]:
    begun: list[float] = []
    told: list[str] = []

    async def run(seconds: float) -> float:
        begun.append(seconds)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            told.append(f"cancelled {seconds}")
            raise
        if seconds == 0.125:
            raise ValueError("no answer")
        return seconds

    async def close() -> None:
        told.append("closed")

    return Errands(run, close), begun, told


def test_errands_come_back_in_their_own_time() -> None:
    feed, begun, finished = errands()
    flow: Flow[float, float, float] = Flow(feed)
    assert flow.advance() == []
    slow, quick = flow.begin(asking(1.5)), flow.begin(asking(0.01))
    told = [flow.advance()]
    while [slow] not in told:
        told.append(flow.advance())
    assert [news for news in told if news] == [[quick], [slow]]
    assert [] in told  # others may set out meanwhile
    assert flow.run(map(asking, [0.02, 0.01, 0.0])) == [0.02, 0.01, 0.0]
    with pytest.raises(ValueError, match="no answer"):
        flow.run(map(asking, [0.125, 30.0]))
    flow.begin(asking(40.0))
    feed.advance()
    feed.close()
    assert finished == ["cancelled 30.0", "cancelled 40.0", "closed"]
    assert not any(thread.name == "errands" for thread in threading.enumerate())
    feed.close()  # twice does no harm
    assert flow.run([asking(0.0)]) == [0.0]  # it begins anew
    feed.close()
    assert begun[0] == 1.5
