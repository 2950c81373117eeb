"""What a search is made of: paths, and rounds of what to write and what to score.

A search is a generator. It yields a round, is sent what came of it, and returns paths; no engine
is inside. So a search can be walked through by hand, and many are one (`together`): a round asks
for all of them at once.

                   ┌── grow: a path, how many ways ──▶ the policy writes a step ──┐
    search ──round─┤                                                              ├─▶ search
                   └── score: paths ──▶ the reward model reads the new steps ─────┘
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from prm.aggregation import Aggregation, aggregate
from prm.records import Problem

T = TypeVar("T")
Asked = TypeVar("Asked")
Told = TypeVar("Told")

TURN = "turn"
"""The end of a solution: the policy ended its turn. All others are cut short."""
EMPTY = "empty"
REPEATS = "repeats"
STEPS = "steps"
BEATEN = "beaten"
NOT_SCORED = "not scored"


@dataclass(frozen=True, kw_only=True)
class Path:
    """A solution as far as it is written.

    Attributes:
        problem: what it solves.
        texts: what the policy wrote, word for word, a step each with what ends it.
        scores: of the steps that are scored so far.
        tokens: written for it.
        end: why it goes no further; empty while it may. `turn`: the policy ended its turn.
            `length`: a step or the solution reached its limit of tokens, or the context its end.
            `too_long`: the prompt did not fit. `empty`: nothing was written. `repeats`: a step
            stands there for the third time. `steps`: the limit of steps. `beaten`: no end of it
            could be chosen any more. `not scored (…)`: the reward model's reason. Or the engine's
            own word.
        count: how many draws came out as this one.
    """

    problem: Problem
    texts: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    tokens: int = 0
    end: str = ""
    count: int = 1

    @property
    def text(self) -> str:
        """All that is written."""
        return "".join(self.texts)

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps, without white space around them."""
        return tuple(text.strip() for text in self.texts)

    @property
    def scored(self) -> bool:
        """Whether every step has its score, and there is one."""
        return 0 < len(self.scores) == len(self.texts)

    def reward(self, method: Aggregation) -> float:
        """See `aggregate`; of a path that is scored."""
        return aggregate(self.scores, method)


@dataclass(frozen=True, kw_only=True)
class Growth:
    """What to write.

    Attributes:
        path: what is there already; not at its end.
        count: how many ways to go on.
        key: part of the seed; growths of one path that are to differ have different ones.
        whole: to the solution's end, in place of one step.
    """

    path: Path
    count: int
    key: str = ""
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class Round:
    """What a search asks for at a time."""

    grow: tuple[Growth, ...] = ()
    score: tuple[Path, ...] = ()


Grown = list[Path]
"""As many paths as a growth's count, each with one step more, or at its end."""
Scores = tuple[float, ...] | str
"""The scores of all steps of a path, or why there are none."""
Search = Generator[Round, tuple[list[Grown], list[Scores]], T]
"""Yields rounds, is sent what came of each growth and of each path to score, in their order."""


@dataclass(frozen=True)
class Done(Generic[T]):
    """What came of a generator."""

    value: T


def advance(course: Generator[Asked, Told, T], told: Told | None) -> Asked | Done[T]:
    """Tell a generator what it asked for (None begins it): what it asks next, or its end."""
    try:
        return next(course) if told is None else course.send(told)
    except StopIteration as end:
        return Done(end.value)


def together(searches: Sequence[Search[T]]) -> Search[list[T]]:
    """Searches as one: a round asks what all that are not at their end ask next.

    Returns:
        What came of each, in their order.
    """
    done: dict[int, T] = {}
    asked: dict[int, Round] = {}

    def go_on(index: int, answer: tuple[list[Grown], list[Scores]] | None) -> None:
        found = advance(searches[index], answer)
        if isinstance(found, Done):
            asked.pop(index, None)
            done[index] = found.value
        else:
            asked[index] = found

    for index in range(len(searches)):
        go_on(index, None)
    while asked:
        grown, scores = yield Round(
            grow=tuple(growth for own in asked.values() for growth in own.grow),
            score=tuple(path for own in asked.values() for path in own.score),
        )
        growths, scored = iter(grown), iter(scores)
        for index, own in list(asked.items()):
            go_on(index, ([next(growths) for _ in own.grow], [next(scored) for _ in own.score]))
    return [done[index] for index in range(len(searches))]


def merged(paths: Sequence[Path]) -> list[Path]:
    """Paths without those that read the same and end the same; the first stands for all."""
    first: dict[tuple[tuple[str, ...], str], Path] = {}
    for path in paths:
        key = (path.steps, path.end)
        known = first.get(key)
        first[key] = path if known is None else replace(known, count=known.count + path.count)
    return list(first.values())


def grow(growths: Sequence[Growth]) -> Search[list[Path]]:
    """Let paths be written on, merge what is the same, and have the new steps scored.

    A path whose new step cannot be scored ends before it.
    """
    grown, _ = yield Round(grow=tuple(growths))
    paths = merged([path for own in grown for path in own])
    fresh = [index for index, path in enumerate(paths) if len(path.scores) < len(path.texts)]
    if fresh:
        _, scores = yield Round(score=tuple(paths[index] for index in fresh))
        for index, own in zip(fresh, scores, strict=True):
            paths[index] = _with_scores(paths[index], own)
    return paths


def _with_scores(path: Path, scores: Scores) -> Path:
    if isinstance(scores, str):
        known = path.texts[: len(path.scores)]
        return replace(path, texts=known, end=f"{NOT_SCORED} ({scores})")
    if len(scores) != len(path.texts):
        raise ValueError(f"{len(scores)} scores for {len(path.texts)} steps")
    return replace(path, scores=scores)


def best(paths: Sequence[Path], count: int, method: Aggregation) -> list[Path]:
    """The paths with the greatest rewards, the first of equal ones first."""
    return sorted(paths, key=lambda path: path.reward(method), reverse=True)[:count]


def ends(paths: Sequence[Path]) -> dict[str, int]:
    """How many draws ended how; see `Path.end`, reasons left out."""
    counts: Counter[str] = Counter()
    for path in paths:
        counts[path.end.split(" (")[0]] += path.count
    return dict(counts)


def live(asked: Round) -> Iterator[tuple[Problem, tuple[str, ...]]]:
    """Problem and steps of each path that a round goes on from: it pays to remember those."""
    for growth in asked.grow:
        yield growth.path.problem, growth.path.steps
    for path in asked.score:
        yield path.problem, path.steps[:-1]
