"""Courses side by side in an engine that takes requests up while others are under way.

A course (`prm.zoo.critique`) asks, is answered, asks again and comes to an end. In a batch, all
would wait for the slowest; here each goes on as soon as what it asked is answered, and another
begins whenever there is room.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, Protocol, TypeVar

from prm.errors import EngineError

Ask = TypeVar("Ask")
Ask_contra = TypeVar("Ask_contra", contravariant=True)
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)
T = TypeVar("T")

Course = Generator[list[Ask], list[Answer], T]
"""Yields requests, is sent the answer to each, returns what came of it."""


def asking(ask: Ask) -> Course[Ask, Answer, Answer]:
    """The course that asks for one thing and ends with its answer."""
    (answer,) = yield [ask]
    return answer


class Feed(Protocol[Ask_contra, Answer_co]):
    """What answers requests in whatever order it gets done with them. For one thread."""

    def begin(self, ask: Ask_contra, /) -> int:
        """Hand in a request; returns its number."""
        ...

    def advance(self) -> Sequence[tuple[int, Answer_co | Exception]]:
        """Wait a little for answers; those that have come, with their requests' numbers.

        None may have come yet, and where nothing is under way none will. An exception is an answer
        of one request alone.

        Raises:
            EngineError: there will be no more answers.
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

    def advance(self, *, wait: bool = True) -> list[int]:
        """Courses that ended, each told once.

        Args:
            wait: a little, where none has ended yet.

        Raises:
            EngineError: the engine died.
        """
        if wait and not self._news and self._running:
            self._step()
        news = [*self._news]
        self._news.clear()
        return news

    def collect(self, number: int) -> T:
        """What came of a course that ended, handed out once.

        Raises:
            Exception: the course raised it, or one of its requests brought it about.
        """
        found = self._ended.pop(number)
        if isinstance(found, Exception):
            raise found
        return found

    def drop(self, number: int) -> None:
        """Break a course off, or forget what came of it."""
        if running := self._running.pop(number, None):
            self._break_off(running)
        self._ended.pop(number, None)
        self._news.pop(number, None)

    def run(self, courses: Iterable[Course[Ask, Answer, T]]) -> list[T]:
        """Run courses to their ends; others that are under way go on meanwhile.

        Raises:
            EngineError: the engine died.
            Exception: of a course, see `collect`.
        """
        numbers: list[int] = []
        try:
            numbers.extend(map(self.begin, courses))
            missing = set(numbers)
            while missing:
                for number in missing & self._ended.keys():
                    missing.discard(number)
                    if isinstance(self._ended[number], Exception):
                        self.collect(number)  # raises it; nobody waits for the others
                if missing:
                    self._step()
            return [self.collect(number) for number in numbers]
        finally:
            with contextlib.suppress(EngineError):  # one that died has nothing under way
                for number in numbers:
                    self.drop(number)

    def _step(self) -> None:
        for asked, answer in self._feed.advance():
            number = self._askers.pop(asked, None)
            if number is None:  # of a course that was dropped
                continue
            running = self._running[number]
            if isinstance(answer, Exception):
                self._end(number, answer)
                continue
            running.answers[asked] = answer
            if len(running.answers) == len(running.numbers):
                self._go_on(number, [running.answers[one] for one in running.numbers])

    def _go_on(self, number: int, answers: list[Answer] | None) -> None:
        """Let a course ask what it asks next, or end."""
        running = self._running[number]
        running.numbers, running.answers = [], {}
        try:
            asked = next(running.course) if answers is None else running.course.send(answers)
            assert asked, "a course asks for something or ends"
            for one in asked:
                begun = self._feed.begin(one)
                running.numbers.append(begun)
                self._askers[begun] = number
        except StopIteration as end:
            self._end(number, end.value)
        except EngineError:
            raise
        except Exception as error:  # noqa: BLE001 - it is this course's, told by `collect`
            self._end(number, error)

    def _end(self, number: int, found: T | Exception) -> None:
        self._break_off(self._running.pop(number))
        self._ended[number] = found
        self._news[number] = None

    def _break_off(self, running: _Running[Ask, Answer, T]) -> None:
        running.course.close()
        for asked in running.numbers:
            if self._askers.pop(asked, None) is not None:
                self._feed.drop(asked)
