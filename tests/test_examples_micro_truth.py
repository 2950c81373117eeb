"""Exact labels of free text: those of the generator on its own, hand-made ones elsewhere."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.micro import truth, world
from examples.micro.problems import make_problem
from prm.records import Solution

REFERENCE = """Tom has 12 * 3 = 36 eggs.
Tom has 36 + 8 = 44 eggs.
Ann has 20 - 5 = 15 eggs.
Tom has 44 + 15 = 59 eggs.
#### 59"""


def told(*steps: str) -> Solution:
    return Solution(id="s", problem="p", steps=steps, answer="59", reference=REFERENCE)


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.sampled_from(world.POLICIES))
def test_a_generators_own_solutions_get_its_own_labels_and_steps(seed, policy):
    item = world.solve(make_problem(random.Random(seed)), policy, random.Random(seed + 1))
    assert truth.label(item.solution) == item.labels
    assert truth.true_steps(" ".join(item.solution.steps)) == item.solution.steps
    for step in truth.explain(item.solution):
        assert step.right == (step.claimed == step.due)


@pytest.mark.parametrize(
    ("step", "right"),
    [
        ("Tom has 36 + 8 = 44 eggs.", True),
        ("Then Tom has 8 + 36 = 44 eggs.", True),
        ("Tom has 36 + 8 = 45 eggs.", False),
        ("Tom has 36 + 9 = 45 eggs.", False),
        ("Tom has 20 - 5 = 15 eggs.", False),  # Ann's
        ("Ann has 5 - 20 = 15 eggs.", False),
        ("Look at Ann. The numbers are 20 and 5. We get 20 - 5 = 15, so Ann has 15 eggs.", True),
        ("Look at Tom. The numbers are 20 and 5. We get 20 - 5 = 15, so Ann has 15 eggs.", False),
        ("Look at Ann. The numbers are 20 and 4. We get 20 - 5 = 15, so Ann has 15 eggs.", False),
        ("Next we take 44 and 15. That is 44 + 15 = 59, so now Tom has 58 eggs.", False),
        ("Wait, that is wrong. 36 + 8 = 44, so Tom has 44 eggs.", True),
        ("Wait, check that. We get 36 + 8 = 44. Tom has 44 eggs.", True),
        ("Wait, check that. We get 36 + 8 = 44. Tom has 36 eggs.", False),
        ("Tom has 36 eggs.", True),
        ("Ann has 36 eggs.", False),
        ("Look at Tom.", True),
        ("Wait, check that.", True),
        ("The answer is 59.", True),
        ("The answer is 44.", False),
        ("The answer is 59. The answer is 44.", False),
        ("Tom Tom 36 + = 44.", False),
        ("Max has 36 + 8 = 44 eggs", False),
        ("Tom has 36 + 8 = 44 eggs and that is fine.", False),
    ],
)
def test_a_step_is_right_if_all_it_says_is_true(step, right):
    assert truth.label(told(step)) == (float(right),)


def test_what_is_due():
    steps = truth.explain(
        told(
            "Tom has 12 * 3 = 35 eggs.",  # a slip
            "Tom has 35 - 8 = 27 eggs.",  # another operation
            "Wait, that is wrong. We get 36 + 8 = 44. Tom has 44 eggs.",
            "Tom has 45 + 14 = 59 eggs.",  # the right number by wrong ones; Ann's comes next
            "The answer is 44.",
            "Nobody knows.",
        )
    )
    assert [(step.right, step.claimed, step.due) for step in steps] == [
        (False, 35, 36),
        (False, 27, 44),
        (True, 44, 44),
        (False, 59, 15),
        (False, 44, 59),
        (False, None, 59),
    ]


def test_a_step_that_is_wrong_with_the_due_number_has_none_due():
    (step,) = truth.explain(told("Tom has 6 * 6 = 36 eggs."))
    assert (step.right, step.claimed, step.due) == (False, 36, None)


def test_text_that_stops_early_keeps_its_end():
    text = "Tom has 36 + 8 = 44 eggs. Look at Ann. The numbers are 20 and"
    assert truth.true_steps(text) == (
        "Tom has 36 + 8 = 44 eggs.",
        "Look at Ann. The numbers are 20 and",
    )


def test_another_worlds_reference_is_refused():
    with pytest.raises(ValueError, match="'s' has no reference of the micro world"):
        truth.label(Solution(id="s", problem="p", steps=("One.",), answer="1", reference="No."))
