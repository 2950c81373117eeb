"""A micro world: short arithmetic word problems, and policies that solve them with known errors.

Every label is exact, so a whole pipeline (annotate, verify, train, evaluate, search) can be
checked against the truth without a large model. Texts use a small vocabulary and integers
from 2 to 99, so that a tiny language model can learn them too.

A problem is a list of operations; its wording is drawn around them. A policy works through
the operations and sometimes errs: a slip (18 + 7 = 26), the wrong operation, an operand
copied from elsewhere in the problem, or an operation left out. All but the slip write
equations that are true as arithmetic and wrong for the problem.

Label rules: a step is right (1.0) if and only if its equation is one of the problem's own. A
step that rests on a wrong value is wrong (0.0); one that rests on none stays right. A wrong
turn that the policy takes back is wrong; its correction, worked out again from the operands,
is right unless those rest on another error. The last step is right if its answer is.

Everything is deterministic in the seed and independent of Python's hash seed.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prm.jsonl import write as write_records
from prm.records import Evidence, LabelledSolution, Problem, Solution

LOW, HIGH = 2, 99
"""Bounds of every number in problems and solutions, right or wrong."""
SMALL = range(2, 7)
"""Multipliers and divisors, in right and wrong steps alike."""
NAMES = ("Tom", "Ann", "Ben", "Eva", "Max", "Lea")
THINGS = ("apples", "eggs", "books", "coins", "cards", "pens", "cups")
Wording = Literal["train", "held_out"]

# A line is `key, wordings: sentences`. {o} is the owner, {b} the second person, {c} somebody whose
# things are not counted. Held-out sentences recombine words of the train ones: no unknown words.
_TEXT = """
start, train: {o} has {n} {t}. | {o} starts with {n} {t}. | At the start {o} has {n} {t}.
start, held_out: With {n} {t} {o} starts. | {o} has {n} of the {t} at the start.
groups, train: {o} has {m} {box} with {n} {t} in each. | {o} starts with {m} {box} of {n} {t} each.
groups, held_out: Each of the {m} {box} of {o} has {n} {t} in it.
add, train: {o} buys {n} more. | {o} finds {n} more {t}. | {c} gives {o} {n} {t}.
add, held_out: {o} gets {n} {t} from {c}. | {o} gets all of the {n} {t} {c} finds.
sub, train: {o} loses {n}. | {o} gives {c} {n} {t}. | {c} gets {n} {t} from {o}.
sub, held_out: {c} buys {n} {t} from {o}. | {o} gives {n} of the {t} away.
mul, train: Then {o} has {n} times as many. | {o} makes it {n} times as many {t}.
mul, held_out: It is {n} times as many {t} now.
div, train: {o} keeps one of {n} equal parts. | {o} gives away all but one of {n} equal {box}.
div, held_out: Of {n} equal parts {o} gives away all but one.
half, train: {o} keeps half of the {t}. | Then {o} loses half of it.
half, held_out: {o} gives half of the {t} away.
merge_add, train: {o} gets all the {t} of {b}. | {b} gives all the {t} to {o}.
merge_add, held_out: All the {t} from {b} is now with {o}.
merge_sub, train: {o} loses as many {t} as {b} has. | {o} gives {c} as many as {b} has.
merge_sub, held_out: As many {t} as {b} has is what {o} gives away.
question, train: How many {t} does {o} have now? | What is the number of {t} {o} has?
question, held_out: Now how many does {o} have?
"""
WORDINGS = {
    tuple(key.split(", ")): sentences.split(" | ")
    for key, sentences in (line.split(": ") for line in _TEXT.strip().splitlines())
}
STEPS = {
    "plain": ("{o} has {e} {t}.", "Then {o} has {e} {t}.", "Now {o} has {e} {t}."),
    "long": (
        "Look at {o}. The numbers are {l} and {r}. We get {e}, so {o} has {v} {t}.",
        "Next we take {l} and {r}. That is {e}, so now {o} has {v} {t}.",
    ),
    "retake": ("{e}, so {o} has {v} {t}.", "We get {e}. {o} has {v} {t}."),
}
ERRORS = ("slip", "operation", "operand", "skip")
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


@dataclass(frozen=True)
class Policy:
    """A way to solve problems and to err.

    Attributes:
        name: becomes the solutions' `generator`.
        style: `plain` writes one short step an operation; `long` restates the numbers and
            sometimes works an operation out twice.
        slip, operation, operand, skip: chance of each error at an operation. One that would
            lead to an impossible number does not happen, so such numbers give nothing away.
        retake: chance that an operation is worked out twice (the first time with an even
            chance of a wrong turn), for the long style.
    """

    name: str
    style: Literal["plain", "long"]
    slip: float
    operation: float
    operand: float
    skip: float
    retake: float = 0.0


POLICIES = (
    Policy("plain-weak", "plain", slip=0.07, operation=0.09, operand=0.11, skip=0.05),
    Policy("plain-middle", "plain", slip=0.03, operation=0.05, operand=0.06, skip=0.02),
    Policy("plain-strong", "plain", slip=0.01, operation=0.02, operand=0.015, skip=0.005),
    Policy("long-middle", "long", slip=0.03, operation=0.05, operand=0.06, skip=0.02, retake=0.2),
)


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


def _number(operand: Operand, results: Sequence[int]) -> int:
    return operand[1] if operand[0] == "given" else results[operand[1]]


def _show(equation: Equation) -> str:
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
        sentence = self.rng.choice(WORDINGS[key, self.wording])
        names = {"o": owner, "b": self.other, "c": self.trader, "t": self.thing, "box": self.box}
        self.text.append(sentence.format(n=n, m=m, **names))

    def operate(self, kind: str, left: Operand, right: Operand, owner: str) -> Operand:
        numbers = _number(left, self.results), _number(right, self.results)
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
        before = _number(held, self.results)
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
        pair = _number(held, self.results), _number(side, self.results)
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
    lines = [f"{o.owner} has {_show(o.equation)} {story.thing}." for o in story.operations]
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


def micro_problems(
    seed: int, count: int, wordings: Wording = "train", exclude: Iterable[MicroProblem] = ()
) -> list[MicroProblem]:
    """Problems that differ from each other and from `exclude` in numbers or operations."""
    rng = random.Random(f"micro problems {seed} {wordings}")
    taken = {_signature(problem) for problem in exclude}
    found: list[MicroProblem] = []
    while len(found) < count:
        name = f"micro-{seed}-{'h' if wordings == 'held_out' else ''}{len(found)}"
        problem = make_problem(rng, wording=wordings, problem_id=name)
        if (signature := _signature(problem)) not in taken:
            taken.add(signature)
            found.append(problem)
    return found


def _signature(problem: MicroProblem) -> tuple[tuple[str, Operand, Operand], ...]:
    return tuple((o.kind, o.left, o.right) for o in problem.operations)


def problems(seed: int, count: int, wordings: Wording = "train") -> list[Problem]:
    """The records of `micro_problems`."""
    return [problem.record for problem in micro_problems(seed, count, wordings)]


def _work_out(operation: Operation, results: Sequence[int]) -> Equation | None:
    """The operation on a policy's results so far; None where it leaves the number range."""
    left, right = _number(operation.left, results), _number(operation.right, results)
    result = apply(operation.kind, left, right)
    return None if result is None else (operation.kind, left, right, result)


def _rests_on(operation: Operation, wrong: set[int]) -> bool:
    return any(
        kind == "result" and number in wrong for kind, number in (operation.left, operation.right)
    )


def _hidden(problem: MicroProblem, results: list[int], wrong: set[int]) -> bool:
    """Whether work can go on after a wrong last result, with no step that looks right again.

    So "rests on a wrong value" and "is not one of the problem's equations" come to the same.
    """
    truth = {canonical(o.equation) for o in problem.operations}
    results, wrong = list(results), {*wrong, len(results) - 1}
    for index, operation in list(enumerate(problem.operations))[len(results) :]:
        equation = _work_out(operation, results)
        if equation is None:
            return False
        if _rests_on(operation, wrong):
            if canonical(equation) in truth or equation[3] == operation.equation[3]:
                return False
            wrong.add(index)
        results.append(equation[3])
    return True


def _errors(
    error: str, problem: MicroProblem, results: list[int], wrong: set[int]
) -> list[Equation]:
    """Every equation by which this kind of error can stand at the next operation.

    A skipped operation is the equation of kind `skip`, whose result is its left operand.
    """
    operation = problem.operations[len(results)]
    honest = _work_out(operation, results)
    assert honest is not None, "`_hidden` lets no error pass that makes a later one infeasible"
    kind, left, right, result = honest
    stated = [int(number) for number in re.findall(r"\d+", problem.record.problem)]
    tries: list[tuple[str, int, int, int | None]]
    if error == "slip":
        tries = [(kind, left, right, result + by) for by in (-10, -2, -1, 1, 2, 10)]
    elif error == "skip":
        tries = [("skip", left, right, left)]
    elif error == "operation":
        tries = [(k, left, right, apply(k, left, right)) for k in SYMBOLS if k != kind]
    else:
        pairs = [(number, right) for number in stated if operation.left[0] == "given"]
        pairs += [(left, number) for number in stated if operation.right[0] == "given"]
        tries = [(kind, *pair, apply(kind, *pair)) for pair in pairs]
    truth = {canonical(o.equation) for o in problem.operations}
    return [
        (k, a, b, c)
        for k, a, b, c in tries
        if c is not None
        and LOW <= c <= HIGH
        and c not in (result, operation.equation[3])
        and (k not in ("mul", "div") or b in SMALL)
        and canonical((k, a, b, c)) not in truth
        and _hidden(problem, [*results, c], wrong)
    ]


def solve(
    problem: MicroProblem, policy: Policy, rng: random.Random, solution_id: str = "micro"
) -> LabelledSolution:
    """One solution with exact labels; `evidence` names the errors made, by step from 0."""
    steps: list[str] = []
    labels: list[float] = []
    reasons: list[str] = []
    results: list[int] = []
    wrong: set[int] = set()
    rates = {name: getattr(policy, name) for name in ERRORS}
    for index, operation in enumerate(problem.operations):
        retaken = rng.random() < policy.retake
        equation: Equation | None = None
        for turn in range(2 if retaken else 1):
            if retaken and turn == 0:
                error = rng.choice(["slip", "operation", "operand", "", "", ""])
            else:  # a retake errs as often as any step: it is no proof of being right
                error = rng.choices([*rates, ""], [*rates.values(), 1 - sum(rates.values())])[0]
                error = "" if retaken and error == "skip" else error
            made = _errors(error, problem, results, wrong) if error else []
            before = equation
            equation = rng.choice(made) if made else _work_out(operation, results)
            assert equation is not None, "see `_hidden`"
            bad = bool(made) or _rests_on(operation, wrong)
            if made:
                reasons.append(f"step {len(steps)}: {error}")
            if equation[0] != "skip":
                words = STEPS["retake" if turn else policy.style]
                text = rng.choice(words).format(
                    o=operation.owner, t=problem.thing, e=_show(equation),
                    l=equation[1], r=equation[2], v=equation[3],
                )  # fmt: skip
                if turn:  # swapped operands say the same again
                    same = before is not None and canonical(equation) == canonical(before)
                    text = ("Wait, check that. " if same else "Wait, that is wrong. ") + text
                steps.append(text)
                labels.append(0.0 if bad else 1.0)
        assert equation is not None
        results.append(equation[3])
        if bad:
            wrong.add(index)
    correct = str(results[-1]) == problem.record.answer
    solution = Solution(
        id=solution_id,
        problem=problem.record.problem,
        steps=(*steps, f"The answer is {results[-1]}."),
        answer=problem.record.answer,
        reference=problem.record.reference,
        generator=policy.name,
        source="micro",
        final_answer_correct=correct,
        metadata={"problem_id": problem.record.id, "wording": problem.wording},
    )
    reason = "; ".join(reasons) or "no error"
    return LabelledSolution(
        solution=solution,
        labels=(*labels, float(correct)),
        evidence=(Evidence(check="micro_world", verdict="pass", reason=reason),),
    )


def solutions(
    problems: Sequence[MicroProblem],
    policies: Sequence[Policy] = POLICIES,
    samples: int = 8,
    seed: int = 0,
) -> list[LabelledSolution]:
    """`samples` solutions for each problem and policy, each with its own chance by its id."""
    return [
        solve(problem, policy, random.Random(f"micro solution {seed} {name}"), name)
        for problem in problems
        for policy in policies
        for name in (f"{problem.record.id}/{policy.name}/{k}" for k in range(samples))
    ]


def write(
    folder: str | Path,
    *,
    problems: int = 600,
    test_problems: int = 200,
    samples: int = 8,
    seed: int = 0,
    policies: Sequence[Policy] = POLICIES,
) -> None:
    """Writes `{train,test}_{problems,solutions,truth}.jsonl`; `solutions` hold no labels.

    No test problem has the numbers and operations of a train problem, and the second half
    of the test problems has held-out wordings.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    held_out = test_problems // 2
    drawn = micro_problems(seed, problems + test_problems - held_out)
    train, test = drawn[:problems], drawn[problems:]
    test += micro_problems(seed, held_out, "held_out", exclude=drawn)
    for split, chosen in (("train", train), ("test", test)):
        truth = solutions(chosen, policies, samples, seed)
        write_records(folder / f"{split}_problems.jsonl", [problem.record for problem in chosen])
        write_records(folder / f"{split}_solutions.jsonl", [item.solution for item in truth])
        write_records(folder / f"{split}_truth.jsonl", truth)


def main() -> None:
    """The command line of `write`."""
    parser = argparse.ArgumentParser(description="Write micro-world problems and solutions.")
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--problems", type=int, default=600, help="train problems")
    parser.add_argument("--test-problems", type=int, default=200)
    parser.add_argument("--samples", type=int, default=8, help="for each problem and policy")
    parser.add_argument("--seed", type=int, default=0)
    options = vars(parser.parse_args())
    write(options.pop("out"), **options)


if __name__ == "__main__":
    main()
