"""How much a file holds, or will hold once an earlier stage has made it.

A file that is there is read; of one that is not, a policy's part has the lengths that `Guess` says.
Both are summed up in the same way, so that a stage is estimated by one rule. Tokens are counted
as 3.5 characters each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from annotate.forecast import CHARACTERS
from prm import jsonl, sources
from prm.errors import ConfigError
from prm.estimate.hardware import Guess
from prm.records import Annotation, Problem, Solution
from prm.sources import Place, Source

SENTENCE = 20
"""Tokens of a sentence, in text that stands for what is not written yet."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What one policy wrote, or will write; or problems, without solutions.

    Attributes:
        items: how many.
        problem, reference, tokens: of a problem, its reference solution (0: there is none) and a
            solution, on average.
        steps: of a solution, on average; 1 before it is split.
        generator: the policy's name.
    """

    items: float
    problem: float
    reference: float
    tokens: float = 0.0
    steps: float = 1.0
    generator: str = ""

    def read(self, *, told: float) -> float:
        """Tokens that a reward model reads of a solution, told the reference so often."""
        return self.problem + told * self.reference + self.tokens + self.steps


Volume = Sequence[Expected]


_WITHOUT_REFERENCE = ("processbench", "prmbench", "stepwise", "math_shepherd")
"""Formats of solutions that hold none."""


class Shelf:
    """The files of a recipe: those that stages will have made, and those that are there.

    Args:
        guess: lengths where no file tells them.
    """

    def __init__(self, guess: Guess) -> None:
        self._guess = guess
        self._made: dict[Path, Volume] = {}

    def put(self, path: str | Path, volume: Volume) -> None:
        """A stage will have made this file."""
        self._made[Path(path).resolve()] = volume

    def problems(self, place: Place, key: str) -> Volume:
        """What is to be solved."""
        if _readable(place):
            return _averaged(map(_problem, sources.problems(place)))
        return [self._limited(place, key, reference=True)]

    def solutions(self, source: Source, key: str, *, labelled: bool = False) -> Volume:
        """Solutions by policy.

        Args:
            source: where they are, or will be.
            key: the source's, for errors.
            labelled: read as labelled solutions, which some formats alone are.

        Raises:
            ConfigError: nothing says how many there are.
        """
        joined = source.references
        if _readable(source):
            known = joined is None or _readable(joined)
            source = source if known else replace(source, references=None)
            if labelled:
                found = _averaged(_solution(i.solution) for i in sources.labelled(source, []))
            else:
                found = _averaged(map(_solution, sources.solutions(source)))
            if known:
                return found
            return [replace(one, reference=self._guess.reference) for one in found]
        if (made := self._found(source.path)) is not None:
            total = sum(one.items for one in made)
            share = 1.0 if source.limit is None or not total else min(1.0, source.limit / total)
            return [replace(one, items=one.items * share) for one in made]
        told = joined is not None or source.format not in _WITHOUT_REFERENCE
        one = self._limited(source, key, reference=told)
        return [replace(one, steps=max(1.0, one.tokens / self._guess.step))]

    def annotations(self, path: str) -> Volume:
        """The solutions in a file of annotations."""
        if Path(path).exists():
            return _averaged(_solution(item.solution) for item in jsonl.read(path, Annotation))
        if (made := self._found(path)) is None:
            raise ConfigError(f"annotations: {path}: no such file, and no stage before makes it")
        return made

    def _found(self, path: str | None) -> Volume | None:
        return None if path is None else self._made.get(Path(path).resolve())

    def _limited(self, place: Place, key: str, *, reference: bool) -> Expected:
        """As many as a place is limited to, since it is not here to be counted."""
        if place.limit is None:
            reason = "no such file" if place.path else "not fetched for an estimate"
            raise ConfigError(
                f"{key}: {place}: {reason}; a `limit` there would stand for the number of rows"
            )
        return Expected(
            items=place.limit,
            problem=self._guess.problem,
            reference=self._guess.reference if reference else 0,
            tokens=self._guess.answer,
        )


def stand_in(one: Expected, number: int) -> Solution:
    """A solution of these lengths; those of another number begin differently.

    Its sentences are of equal length, so it can be split as a solution can.
    """
    steps = max(1, round(one.steps))
    step = _text(one.tokens / steps, number)
    return Solution(
        id=str(number),
        problem=_text(one.problem, number),
        steps=(step,) * steps,
        reference=_text(one.reference, number) if one.reference else None,
        answer="1",
    )


def _text(tokens: float, number: int) -> str:
    """Sentences that together have so many tokens."""
    size = max(1, round(tokens * CHARACTERS))
    begin = f"{number} "
    sentence = begin + "x" * (round(SENTENCE * CHARACTERS) - len(begin) - 2) + ". "
    return (sentence * (size // len(sentence) + 1))[:size].strip() or "x"


def _readable(place: Place) -> bool:
    return place.path is not None and Path(place.path).exists()


def _tokens(text: str | None) -> float:
    return len(text or "") / CHARACTERS


def _problem(item: Problem) -> Expected:
    return Expected(items=1, problem=_tokens(item.problem), reference=_tokens(item.reference))


def _solution(item: Solution) -> Expected:
    return Expected(
        items=1,
        problem=_tokens(item.problem),
        reference=_tokens(item.reference),
        tokens=sum(map(_tokens, item.steps)),
        steps=len(item.steps),
        generator=item.generator,
    )


def _averaged(items: Iterable[Expected]) -> list[Expected]:
    """Averages by policy; solutions of several steps stand apart from those that are not split."""
    sums: dict[tuple[str, bool], Expected] = {}
    for one in items:
        key = one.generator, one.steps > 1
        so_far = sums.get(key, Expected(items=0, problem=0, reference=0, steps=0))
        sums[key] = Expected(
            items=so_far.items + 1,
            problem=so_far.problem + one.problem,
            reference=so_far.reference + one.reference,
            tokens=so_far.tokens + one.tokens,
            steps=so_far.steps + one.steps,
            generator=one.generator,
        )
    return [
        replace(
            total,
            problem=total.problem / total.items,
            reference=total.reference / total.items,
            tokens=total.tokens / total.items,
            steps=total.steps / total.items,
        )
        for total in sums.values()
    ]
