"""A small world to search in, with no model: what is written and what it is worth are functions.

A step is a letter; what may follow a path is drawn from its text, so it is the same for whoever
asks. Scores are few, so that many paths tie.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from prm.records import Problem
from prm.search.tree import TURN, Growth, Path, Round, Search

T = TypeVar("T")

PROBLEM = Problem(id="p", problem="What is 2 + 3?", answer="5")
SCORES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass
class World:
    """Plays policy and reward model, and writes down what it was asked.

    Attributes:
        seed: of everything.
        letters: how many different steps may follow a path.
        ending: the chance that a step ends the solution; `cutting`: that it is cut short instead.
        failing: the chance that a path cannot be scored.
        marks: whether a step tells the key of its growth.
        exhaustive: growth `i` of a path is its `i`-th letter, none drawn twice before all.
        rounds: all rounds so far.
    """

    seed: int = 0
    letters: int = 3
    ending: float = 0.3
    cutting: float = 0.0
    failing: float = 0.0
    marks: bool = False
    exhaustive: bool = False
    rounds: list[Round] = field(default_factory=list)

    def run(self, search: Search[T]) -> T:
        answer = None
        while True:
            try:
                asked = next(search) if answer is None else search.send(answer)
            except StopIteration as end:
                return end.value
            self.rounds.append(asked)
            answer = [self.grow(one) for one in asked.grow], [self.score(p) for p in asked.score]

    def grow(self, growth: Growth) -> list[Path]:
        assert not growth.path.end
        drawing = random.Random(f"{self.seed} draw {growth.key} {growth.path.text}")
        found = []
        for index in range(growth.count):
            path = growth.path
            number = index if self.exhaustive else drawing.randrange(self.letters)
            path = self.child(path, number % self.letters, growth.key)
            while growth.whole and not path.end:
                path = self.child(path, drawing.randrange(self.letters), growth.key)
            found.append(path)
        return found

    def child(self, path: Path, number: int, key: str = "") -> Path:
        letter = "abcdefgh"[number] + (f"<{key}>" if self.marks else "")
        texts = (*path.texts, f"{letter}\n\n")
        end = self.chance("end", texts)
        how = TURN if end < self.ending else "length" if end < self.ending + self.cutting else ""
        return replace(path, texts=texts, tokens=path.tokens + 1, end=how)

    def score(self, path: Path) -> tuple[float, ...] | str:
        if self.chance("fail", path.texts) < self.failing:
            return "too long"
        return tuple(self.worth(path.texts[: k + 1]) for k in range(len(path.texts)))

    def worth(self, texts: Sequence[str]) -> float:
        return random.Random(f"{self.seed} score {texts}").choice(SCORES)

    def chance(self, what: str, texts: Sequence[str]) -> float:
        return random.Random(f"{self.seed} {what} {texts}").random()
