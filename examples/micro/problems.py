"""Problems of the micro world: lists of operations, with a wording drawn around each.

Texts use a small vocabulary and integers from 2 to 99. Everything is deterministic in the seed and
independent of Python's hash seed.
"""

from __future__ import annotations

import itertools
import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from prm.records import Problem

LOW, HIGH = 2, 99
"""Bounds of every number in problems and solutions, right or wrong."""
SMALL = range(2, 7)
"""Multipliers and divisors, in right and wrong steps alike."""
HELD_OUT = 8
"""One problem in so many is held out, by its numbers and operations."""
HELD_OUT_WORDING = 5
"""One sentence in so many is held out."""
NAMES = ("Tom", "Ann", "Ben", "Eva", "Max", "Lea")
THINGS = ("apples", "eggs", "books", "coins", "cards", "pens", "cups")
Wording = Literal["train", "held_out"]

# A line is `kind: sentence`. {o} is the owner, {b} the second person, {c} somebody whose things are
# not counted; of `[x|y]` one is said. What comes first in time is said first.
_WHEN = "[|then |next |after that ]"
_TEXT = """
start: [|at the start ]{o} [has|owns|keeps|holds] {n} [|of the ]{t}.
start: {o} [starts|begins] with {n} [|of the ]{t}.
start: with {n} [|of the ]{t} {o} [starts|begins].
start: the number of {t} [of {o}|{o} has|{o} owns] [|at the start ]is {n}.
groups: [|at the start ]{o} [has|owns|keeps|holds] {m} {box} [with|of] {n} {t}[| in each| each].
groups: {o} [starts|begins] with {m} {box} of {n} {t}[| in each| each].
groups: each of [|the ]{m} {box} [of {o}|{o} has|{o} owns] [is of|holds] {n} {t}.
groups: in each of [|the ]{m} {box} {o} [has|owns|keeps|holds] {n} {t}.
add: <when>{o} [buys|finds|gets|takes] {n} [more|{t}|more {t}|of the {t}][| from {c}].
add: <when>{c} [gives|sells] {o} {n} [more|{t}|more {t}].
add: <when>{o} [gets|takes|buys] all of the {n} {t} {c} [finds|has|owns].
sub: <when>{o} [loses|sells|gives away] {n}[| {t}| of the {t}].
sub: <when>{o} [gives|sells] {c} {n}[| {t}| of the {t}].
sub: <when>{c} [gets|buys|takes] {n}[| {t}| of the {t}] from {o}.
mul: <when>{o} [has|owns|makes it] {n} times as many[| {t}][| as before].
mul: <when>it is {n} times [as many {t}|the number of {t}][| now].
div: <when>{o} [keeps|has] one of {n} equal [parts|{box}|piles].
div: <when>of {n} equal [parts|{box}|piles] {o} [keeps|loses all but|sells all but] one.
div: <when>{o} [gives away|loses|sells] all but one of {n} equal [parts|{box}|piles].
half: <when>{o} [keeps|loses|sells|gives away] half of [it|the {t}].
half: <when>{o} gives half of [it|the {t}] [away|to {c}].
merge_add: <when>{o} [gets|takes|buys] all [|of ]the {t} [of {b}|from {b}|{b} has].
merge_add: <when>{b} [gives|sells] all [|of ]the {t} to {o}.
merge_add: <when>all [|of ]the {t} [of {b}|from {b}|{b} has] is with {o}.
merge_sub: <when>{o} [loses|sells|gives away] as many[| {t}] as {b} [has|owns].
merge_sub: <when>{o} [gives|sells] {c} as many[| {t}] as {b} [has|owns].
merge_sub: <when>as many[| {t}] as {b} [has|owns] {o} [loses|sells|gives away].
question: how many[| {t}] does {o} have[| now| in the end| after that]?
question: [now|in the end|after that] how many[| {t}] does {o} have?
question: what is the number of {t} {o} [has|owns][| now| in the end| after that]?
"""


def _wordings(text: str) -> dict[tuple[str, Wording], list[list[str]]]:
    """The sentences of each kind by the set they belong to, a list for each line.

    One in `HELD_OUT_WORDING` is held out. It differs from those known in what its parts are said
    together with; each part is known.
    """
    found: dict[tuple[str, Wording], list[list[str]]] = {}
    for line in text.strip().splitlines():
        kind, pattern = line.replace("<when>", _WHEN).split(": ")
        parts = [part.split("|") for part in re.split(r"[\[\]]", pattern)]
        said = ["".join(chosen) for chosen in itertools.product(*parts)]
        for wording in get_args(Wording):
            own = [
                sentence[0].upper() + sentence[1:]
                for sentence in said
                if (zlib.crc32(sentence.encode()) % HELD_OUT_WORDING == 0) == (wording != "train")
            ]
            if own:
                found.setdefault((kind, wording), []).append(own)
    return found


WORDINGS = _wordings(_TEXT)
SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}

Operand = tuple[Literal["given", "result"], int]
"""A number the problem states, or the result of the operation with this index from 0."""
Equation = tuple[str, int, int, int]
"""kind, left, right, result."""


@dataclass(frozen=True)
class Operation:
    """`owner` has `left kind right` things; `equation` is it worked out without error."""

    kind: str
    left: Operand
    right: Operand
    owner: str
    equation: Equation


@dataclass(frozen=True)
class MicroProblem:
    """A problem's record together with the operations it was worded from."""

    record: Problem
    operations: tuple[Operation, ...]
    thing: str
    wording: Wording


def apply(kind: str, left: int, right: int) -> int | None:
    """The operation's result; None where it is inexact or leaves the number range."""
    if kind == "div":
        result = left // right if left % right == 0 else -1
    else:
        result = {"add": left + right, "sub": left - right, "mul": left * right}[kind]
    return result if LOW <= result <= HIGH else None


def canonical(equation: Equation) -> Equation:
    """The equation with the smaller operand first where order does not matter."""
    kind, left, right, result = equation
    swap = kind in ("add", "mul") and left > right
    return (kind, right, left, result) if swap else equation


def value_of(operand: Operand, results: Sequence[int]) -> int:
    """The number an operand stands for, given the results so far."""
    return operand[1] if operand[0] == "given" else results[operand[1]]


def show(equation: Equation) -> str:
    """The equation as a solution writes it: `18 + 7 = 25`."""
    kind, left, right, result = equation
    return f"{left} {SYMBOLS[kind]} {right} = {result}"


class _Story:
    """A problem while it is drawn: its sentences and operations so far."""

    def __init__(self, rng: random.Random, wording: Wording) -> None:
        self.rng, self.wording = rng, wording
        self.owner, self.other, self.trader = rng.sample(NAMES, 3)
        self.thing, self.box = rng.choice(THINGS), rng.choice(("bags", "boxes"))
        self.text: list[str] = []
        self.operations: list[Operation] = []
        self.results: list[int] = []

    def say(self, key: str, owner: str, n: int = 0, m: int = 0) -> None:
        sentence = self.rng.choice(self.rng.choice(WORDINGS[key, self.wording]))
        names = {"o": owner, "b": self.other, "c": self.trader, "t": self.thing, "box": self.box}
        self.text.append(sentence.format(n=n, m=m, **names))

    def operate(self, kind: str, left: Operand, right: Operand, owner: str) -> Operand:
        numbers = value_of(left, self.results), value_of(right, self.results)
        result = apply(kind, *numbers)
        assert result is not None, "only feasible operations are drawn"
        self.operations.append(Operation(kind, left, right, owner, (kind, *numbers, result)))
        self.results.append(result)
        return ("result", len(self.results) - 1)

    def begin(self, owner: str) -> Operand:
        """States what `owner` starts with; where that is in groups, it is an operation."""
        if self.rng.random() < 0.5:
            number = self.rng.randint(6, 50)
            self.say("start", owner, number)
            return ("given", number)
        each, groups = self.rng.randint(3, 12), self.rng.choice(SMALL)
        self.say("groups", owner, each, groups)
        return self.operate("mul", ("given", each), ("given", groups), owner)

    def change(self, held: Operand, owner: str) -> Operand:
        """Changes what `owner` holds, with every feasible kind equally likely."""
        before = value_of(held, self.results)
        options = {
            kind: [
                number
                for number in (SMALL if kind in ("mul", "div") else range(LOW, 31))
                if apply(kind, before, number) is not None
            ]
            for kind in SYMBOLS
        }
        kind = self.rng.choice([kind for kind, numbers in options.items() if numbers])
        number = self.rng.choice(options[kind])
        half = kind == "div" and number == 2 and self.rng.random() < 0.5
        self.say("half" if half else kind, owner, number)
        return self.operate(kind, held, ("given", number), owner)

    def merge(self, held: Operand) -> Operand | None:
        """Works out a second person's things apart from the owner's, then joins the two.

        So a step can follow an error without resting on it. None where no join is feasible.
        """
        side = self.begin(self.other)
        if side[0] == "given":
            side = self.change(side, self.other)
        pair = value_of(held, self.results), value_of(side, self.results)
        kinds = [kind for kind in ("add", "sub") if apply(kind, *pair) is not None]
        if not kinds:
            return None
        kind = self.rng.choice(kinds)
        self.say(f"merge_{kind}", self.owner)
        return self.operate(kind, held, side, self.owner)


def make_problem(
    rng: random.Random, *, wording: Wording | None = None, problem_id: str = "micro"
) -> MicroProblem:
    """Draws a problem of 2 to 5 operations.

    Args:
        rng: the only source of chance.
        wording: the set of wordings; None draws one of the two.
        problem_id: the record's id.
    """
    if wording is None:
        wording = "train" if rng.random() < 0.5 else "held_out"
    story = None
    while story is None:
        story = _tell(_Story(rng, wording))
    lines = [f"{o.owner} has {show(o.equation)} {story.thing}." for o in story.operations]
    answer = str(story.results[-1])
    record = Problem(
        id=problem_id,
        problem=" ".join(story.text),
        answer=answer,
        reference="\n".join([*lines, f"#### {answer}"]),
        source="micro",
    )
    return MicroProblem(record, tuple(story.operations), story.thing, wording)


def _tell(story: _Story) -> _Story | None:
    """Fills the story; None where two people's things cannot be joined within the range."""
    count = story.rng.randint(2, 5)
    # The second person takes two operations, after at least one and at most all others.
    merge_at = story.rng.randint(1, count - 2) if count > 2 and story.rng.random() < 0.6 else None
    held = story.begin(story.owner)
    while len(story.operations) < count:
        if len(story.operations) == merge_at:
            joined = story.merge(held)
            if joined is None:
                return None
            held = joined
        else:
            held = story.change(held, story.owner)
    story.say("question", story.owner)
    return story


def micro_problems(seed: int, count: int, *, held_out: bool = False) -> list[MicroProblem]:
    """Problems that differ from each other in numbers or operations.

    One signature in `HELD_OUT` belongs to the held-out problems, whatever the seed, so a model
    trained on any train problems has seen none of them. Every fourth held-out problem has
    held-out wordings too.
    """
    rng = random.Random(f"micro problems {seed} {held_out}")
    taken: set[str] = set()
    found: list[MicroProblem] = []
    while len(found) < count:
        wording: Wording = "held_out" if held_out and len(found) % 4 == 3 else "train"
        name = f"micro-{seed}-{'h' if held_out else ''}{len(found)}"
        problem = make_problem(rng, wording=wording, problem_id=name)
        signature = _signature(problem)
        if is_held_out(problem) == held_out and signature not in taken:
            taken.add(signature)
            found.append(problem)
    return found


def is_held_out(problem: MicroProblem) -> bool:
    """Whether a problem belongs to those that no model is trained on."""
    return zlib.crc32(_signature(problem).encode()) % HELD_OUT == 0


def _signature(problem: MicroProblem) -> str:
    return str([(o.kind, o.left, o.right) for o in problem.operations])
