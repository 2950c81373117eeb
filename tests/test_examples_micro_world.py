"""The micro world's problems are sound, its labels exact and its errors not given away."""

from __future__ import annotations

import operator
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.micro import world
from examples.micro.problems import is_held_out, make_problem, micro_problems
from prm.jsonl import read
from prm.records import LabelledSolution, Problem, Solution, problem_key

ROOT = Path(__file__).parents[1]

OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
KINDS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")
Shown = tuple[int, str, int, int]


def shown(text: str) -> Shown:
    """The one equation of a step."""
    [(left, symbol, right, result)] = EQUATION.findall(text)
    return normal(int(left), symbol, int(right), int(result))


def normal(left: int, symbol: str, right: int, result: int) -> Shown:
    if symbol in "+*":
        left, right = sorted((left, right))
    return left, symbol, right, result


def is_true(equation: Shown) -> bool:
    left, symbol, right, result = equation
    return OPERATORS[symbol](Fraction(left), Fraction(right)) == result


def interpret(problem) -> list[Shown]:
    """The problem's equations from its operations alone, without the world's arithmetic."""
    results: list[Fraction] = []
    equations = []
    for item in problem.operations:
        left, right = (
            Fraction(number) if source == "given" else results[number]
            for source, number in (item.left, item.right)
        )
        symbol = KINDS[item.kind]
        results.append(OPERATORS[symbol](left, right))
        assert results[-1].denominator == 1
        equations.append(normal(int(left), symbol, int(right), int(results[-1])))
    return equations


def truth_of(problem, labelled: LabelledSolution) -> tuple[float, ...]:
    """The labels, judged again from the text of the steps."""
    equations = interpret(problem)
    *steps, last = labelled.solution.steps
    labels = [float(shown(step) in equations) for step in steps]
    return (*labels, float(last == f"The answer is {equations[-1][-1]}."))


@pytest.fixture(scope="module")
def problems():
    return micro_problems(3, 250)


@pytest.fixture(scope="module")
def sampled(problems):
    """1,000 solutions of each policy, in the order problem, policy, sample."""
    return world.solutions(problems, world.POLICIES, samples=4, seed=3)


def of_style(sampled, style: str) -> list[LabelledSolution]:
    return [item for item in sampled if item.solution.generator.startswith(style)]


def worked_steps(items) -> list[tuple[str, float]]:
    """Steps with an equation, and their labels."""
    return [
        pair
        for item in items
        for pair in zip(item.solution.steps[:-1], item.labels[:-1], strict=True)
    ]


def auroc(steps: list[tuple[str, float]], feature: Callable[[str], float]) -> float:
    """Chance that a right step has more of `feature` than a wrong one; ties count half."""
    right, wrong = (Counter(feature(text) for text, y in steps if y == label) for label in (1, 0))
    wins = sum(
        a * b * (1.0 if x > y else 0.5 if x == y else 0.0)
        for x, a in right.items()
        for y, b in wrong.items()
    )
    return wins / (right.total() * wrong.total())


@settings(max_examples=200)
@given(st.integers(0, 2**32), st.sampled_from(["train", "held_out", None]))
def test_problem_is_sound(seed, wording):
    problem = make_problem(random.Random(seed), wording=wording)
    assert problem == make_problem(random.Random(seed), wording=wording)
    assert wording in (None, problem.wording)
    equations = interpret(problem)
    assert 2 <= len(equations) <= 5
    assert all(2 <= equation[-1] <= 99 for equation in equations)
    *worked, last = problem.record.reference.splitlines()
    assert [shown(line) for line in worked] == equations
    assert last == f"#### {equations[-1][-1]}"
    assert problem.record.answer == str(equations[-1][-1])
    # The text states what the operations use, and nothing else.
    stated = Counter(int(number) for number in re.findall(r"\d+", problem.record.problem))
    stated[2] += problem.record.problem.count("half")
    operands = [operand for item in problem.operations for operand in (item.left, item.right)]
    assert stated == Counter(number for source, number in operands if source == "given")
    # Every result but the last is used once, so every operation bears on the answer.
    used = sorted(number for source, number in operands if source == "result")
    assert used == list(range(len(equations) - 1))


@settings(max_examples=200)
@given(st.integers(0, 2**32), st.sampled_from(world.POLICIES), st.booleans())
def test_labels_agree_with_independent_evaluation(seed, policy, wild):
    if wild:  # many errors on top of each other, retakes in most operations
        policy = world.Policy("wild", policy.style, 0.2, 0.25, 0.25, 0.2, policy.retake * 3)
    problem = make_problem(random.Random(seed))
    labelled = world.solve(problem, policy, random.Random(seed + 1))
    assert labelled.labels == truth_of(problem, labelled)
    solution = labelled.solution
    assert solution.final_answer_correct == (labelled.labels[-1] == 1.0)
    assert (solution.generator, solution.source) == (policy.name, "micro")
    assert (solution.problem, solution.answer, solution.reference) == (
        problem.record.problem,
        problem.record.answer,
        problem.record.reference,
    )
    numbers = [int(number) for step in solution.steps for number in re.findall(r"\d+", step)]
    assert all(2 <= number <= 99 for number in numbers)
    assert (min(labelled.labels) == 1.0) == (labelled.evidence[0].reason == "no error")


def test_every_word_of_held_out_problems_occurs_in_train(problems):
    def words(items):
        return {w for item in items for w in re.findall("[a-z]+", item.record.problem.lower())}

    held_out = micro_problems(3, 250, held_out=True)
    assert [item.wording for item in held_out[:8]] == (["train"] * 3 + ["held_out"]) * 2
    assert words(held_out) <= words(problems)
    assert len(words(problems)) <= 64


def test_a_problem_is_held_out_whatever_the_seed(problems):
    def shape(item):
        return [(o.kind, o.left, o.right) for o in item.operations]

    held_out = [item for seed in range(4) for item in micro_problems(seed, 100, held_out=True)]
    train = [*problems, *micro_problems(9, 1000)]
    assert all(is_held_out(item) for item in held_out)
    assert not any(is_held_out(item) for item in train)
    assert not {str(shape(item)) for item in held_out} & {str(shape(item)) for item in train}


def test_solutions_do_not_depend_on_their_neighbours(problems, sampled):
    alone = world.solutions(problems[7:8], world.POLICIES[1:2], samples=2, seed=3)
    assert [item.id for item in alone] == [
        f"{problems[7].record.id}/plain-middle/{k}" for k in "01"
    ]
    assert all(item in sampled for item in alone)
    assert alone != world.solutions(problems[7:8], world.POLICIES[1:2], samples=2, seed=4)
    assert len({item.id for item in sampled}) == len(sampled) == 4000


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("plain-weak", 0.35, 0.45),
        ("plain-middle", 0.60, 0.70),
        ("plain-strong", 0.85, 0.92),
        ("long-middle", 0.60, 0.70),
    ],
)
def test_accuracy_lies_in_its_band(sampled, name, low, high):
    correct = [item.solution.final_answer_correct for item in of_style(sampled, name)]
    assert len(correct) == 1000
    assert low <= sum(correct) / len(correct) <= high


@pytest.mark.parametrize("style", ["plain", "long"])
def test_most_wrong_steps_hold_a_true_equation(sampled, style):
    steps = worked_steps(of_style(sampled, style))
    assert all(is_true(shown(text)) for text, label in steps if label == 1.0)
    wrong = [is_true(shown(text)) for text, label in steps if label == 0.0]
    assert 0.6 < sum(wrong) / len(wrong) < 0.95


def test_every_kind_of_error_occurs_in_every_policy(sampled):
    for policy in world.POLICIES:
        reasons = " ".join(item.evidence[0].reason for item in of_style(sampled, policy.name))
        assert all(kind in reasons for kind in ("slip", "operation", "operand", "skip"))


def test_a_step_that_does_not_rest_on_an_error_stays_right(sampled):
    pairs = [p for item in of_style(sampled, "plain") for p in pairwise(item.labels)]
    assert pairs.count((0.0, 1.0)) > 50


def test_taken_back_turns(sampled):
    seen: Counter[tuple[float, float]] = Counter()
    rescued = 0
    for item in of_style(sampled, "long"):
        for index, step in enumerate(item.solution.steps):
            if step.startswith("Wait, that is wrong."):
                assert shown(step) != shown(item.solution.steps[index - 1])
                seen[item.labels[index - 1], item.labels[index]] += 1
            elif step.startswith("Wait, check that."):
                assert shown(step) == shown(item.solution.steps[index - 1])
                assert item.labels[index - 1] == item.labels[index]
        rescued += bool(item.solution.final_answer_correct) and min(item.labels) == 0.0
    assert seen[0.0, 1.0] > 100
    assert min(seen[1.0, 0.0], seen[0.0, 0.0]) > 0  # a retake is no proof of being right
    assert rescued > 50


@pytest.mark.parametrize("style", ["plain", "long"])
@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("length", len),
        ("left", lambda text: shown(text)[0]),
        ("right", lambda text: shown(text)[2]),
        ("result", lambda text: shown(text)[3]),
    ],
)
def test_surface_does_not_give_errors_away(sampled, style, name, feature):
    assert 0.42 < auroc(worked_steps(of_style(sampled, style)), feature) < 0.58, name


def test_command_writes_the_same_bytes_whatever_the_hash_seed(tmp_path):
    world.write(tmp_path / "0", problems=40, test_problems=21, samples=2, seed=5)
    for hash_seed in "12":
        script = [sys.executable, str(ROOT / "examples/micro/world.py"), "--seed", "5"]
        sizes = ["--problems", "40", "--test-problems", "21", "--samples", "2"]
        subprocess.run(
            [*script, *sizes, "--out", str(tmp_path / hash_seed)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            check=True,
        )
    files = sorted(path.name for path in (tmp_path / "0").iterdir())
    assert len(files) == 6
    for file in files:
        assert len({(tmp_path / folder / file).read_bytes() for folder in "012"}) == 1


def test_written_splits_share_no_problem(tmp_path):
    world.write(tmp_path, problems=120, test_problems=41, samples=1, seed=0)
    keys, numbers = [], []
    for split, count in (("train", 120), ("test", 41)):
        records = list(read(tmp_path / f"{split}_problems.jsonl", Problem))
        keys.append({problem_key(item.problem) for item in records})
        numbers.append({tuple(EQUATION.findall(item.reference)) for item in records})
        assert len(records) == len(keys[-1]) == len(numbers[-1]) == count
        plain = list(read(tmp_path / f"{split}_solutions.jsonl", Solution))
        truth = list(read(tmp_path / f"{split}_truth.jsonl", LabelledSolution))
        assert [item.solution for item in truth] == plain
        assert {problem_key(item.problem) for item in plain} == keys[-1]
    assert not keys[0] & keys[1]
    assert not numbers[0] & numbers[1]
    assert Counter(item.metadata["wording"] for item in plain) == {"train": 124, "held_out": 40}
