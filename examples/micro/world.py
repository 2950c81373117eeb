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
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# The script runs from a checkout, which need not be installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.micro.problems import (
    HIGH,
    LOW,
    SMALL,
    SYMBOLS,
    Equation,
    MicroProblem,
    Operation,
    apply,
    canonical,
    micro_problems,
    show,
    value_of,
)
from prm.jsonl import write as write_records
from prm.records import Evidence, LabelledSolution, Solution

STEPS = {
    "plain": ("{o} has {e} {t}.", "Then {o} has {e} {t}.", "Now {o} has {e} {t}."),
    "long": (
        "Look at {o}. The numbers are {l} and {r}. We get {e}, so {o} has {v} {t}.",
        "Next we take {l} and {r}. That is {e}, so now {o} has {v} {t}.",
    ),
    "retake": ("{e}, so {o} has {v} {t}.", "We get {e}. {o} has {v} {t}."),
}
ERRORS = ("slip", "operation", "operand", "skip")


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


def _work_out(operation: Operation, results: Sequence[int]) -> Equation | None:
    """The operation on a policy's results so far; None where it leaves the number range."""
    left, right = value_of(operation.left, results), value_of(operation.right, results)
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
                    o=operation.owner, t=problem.thing, e=show(equation),
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

    The test problems are held-out ones (see `micro_problems`).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    train = micro_problems(seed, problems)
    test = micro_problems(seed, test_problems, held_out=True)
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
