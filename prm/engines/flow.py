"""Courses side by side in an engine that takes requests up while others are under way.

A course (`prm.zoo.critique`) asks, is answered, asks again and comes to an end. In a batch, all
would wait for the slowest; here each goes on as soon as what it asked is answered, and another
begins whenever there is room.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, Protocol, TypeVar

Ask = TypeVar("Ask")
Ask_contra = TypeVar("Ask_contra", contravariant=True)
Answer = TypeVar("Answer")
T = TypeVar("T")

Course = Generator[list[Ask], list[Answer], T]
"""Yields requests, is sent the answer to each, returns what came of it."""


def asking(ask: Ask) -> Course[Ask, Answer, Answer]:
    """The course that asks for one thing and ends with its answer."""
    (answer,) = yield [ask]
    return answer


class Feed(Protocol[Ask_contra, Answer]):
    """What answers requests in whatever order it gets done with them. For one thread."""

    def begin(self, ask: Ask_contra, /) -> int:
        """Hand in a request; returns its number."""
        ...

    def advance(self) -> list[tuple[int, Answer]]:
        """Wait a little for answers; those that have come, with their requests' numbers.

        None may have come yet, and where nothing is under way none will.
        """
        ...

    def drop(self, number: int, /) -> None:
        """Break a request off; it gets no answer."""
        ...


@dataclass(eq=False)
class _Running(Generic[Ask, Answer, T]):
    course: Course[Ask, Answer, T]
    numbers: list[int] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)


class Flow(Generic[Ask, Answer, T]):
    """Runs courses on a feed, whose only user it is. For one thread."""

    def __init__(self, feed: Feed[Ask, Answer]) -> None:
        self._feed = feed
        self._numbers = count()
        self._running: dict[int, _Running[Ask, Answer, T]] = {}
        self._askers: dict[int, int] = {}  # a request's number → its course's
        self._ended: dict[int, T | Exception] = {}
        self._news: dict[int, None] = {}  # those that ended and were not told, in order

    def begin(self, course: Course[Ask, Answer, T]) -> int:
        """Begin a course; returns its number.

        Raises:
            EngineError: the engine died.
        """
        number = next(self._numbers)
        self._running[number] = _Running(course)
        self._go_on(number, None)
        return number

    def advance(self) -> list[int]:
        """Wait a little for courses to end; those that have, each told once.

        Raises:
            EngineError: the engine died.
        """
        if not self._news and self._running:
            self._step()
        news = [*self._news]
        self._news.clear()
        return news

    def collect(self, number: int) -> T:
        """What came of a course that ended, handed out once.

        Raises:
            Exception: the course raised it.
        """
        found = self._ended.pop(number)
        if isinstance(found, Exception):
            raise found
        return found

    def drop(self, number: int) -> None:
        """Break a course off, or forget what came of it."""
        if running := self._running.pop(number, None):
            for asked in running.numbers:
                if self._askers.pop(asked, None) is not None:
                    self._feed.drop(asked)
            running.course.close()
        self._ended.pop(number, None)
        self._news.pop(number, None)

    def run(self, courses: Iterable[Course[Ask, Answer, T]]) -> list[T]:
        """Run courses to their ends; others that are under way go on meanwhile.

        Raises:
            EngineError: the engine died.
            Exception: a course raised it.
        """
        numbers: list[int] = []
        try:
            numbers.extend(map(self.begin, courses))
            missing = set(numbers)
            while missing := missing - self._ended.keys():
                self._step()
            return [self.collect(number) for number in numbers]
        finally:
            for number in numbers:
                self.drop(number)

    def _step(self) -> None:
        for asked, answer in self._feed.advance():
            number = self._askers.pop(asked, None)
            if number is None:  # of a course that was dropped
                continue
            running = self._running[number]
            running.answers[asked] = answer
            if len(running.answers) == len(running.numbers):
                self._go_on(number, [running.answers[one] for one in running.numbers])

    def _go_on(self, number: int, answers: list[Answer] | None) -> None:
        """Let a course ask what it asks next, or end."""
        running = self._running[number]
        try:
            asked = next(running.course) if answers is None else running.course.send(answers)
        except StopIteration as end:
            self._end(number, end.value)
        except Exception as error:  # noqa: BLE001 - it is this course's, told by `collect`
            self._end(number, error)
        else:
            assert asked, "a course asks for something or ends"
            running.numbers, running.answers = [], {}
            for one in asked:
                running.numbers.append(self._feed.begin(one))
                self._askers[running.numbers[-1]] = number

    def _end(self, number: int, found: T | Exception) -> None:
        del self._running[number]
        self._ended[number] = found
        self._news[number] = None
