"""Rules as voters: they vote on what they can check and abstain, with a reason, on the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from annotate.rules import RULES, vote
from prm.records import Judgment, Solution
from verify.arithmetic import TRUE

RIGHT = Solution(
    id="a",
    problem="Tom has 2 eggs and gets 3 more. Then he has 4 times as many. How many has he?",
    steps=("Tom has 2 + 3 = 5 eggs.", "Then he has 5 * 4 = 20 eggs.", "The answer is 20."),
    answer="20",
    reference="2 + 3 = 5\n5 * 4 = 20\n#### 20",
)
SLIP = replace(
    RIGHT,
    id="b",
    steps=("Tom has 2 + 3 = 6 eggs.", "Then he has 6 * 4 = 24 eggs.", "The answer is 24."),
)


def votes(solution: Solution, *rules: str) -> dict[str, Judgment]:
    [found] = vote([solution], rules or RULES)
    return {judgment.strategy: judgment for judgment in found}


def test_a_right_solution() -> None:
    found = votes(RIGHT)
    assert found["arithmetic"].verdicts == (TRUE, TRUE, None)
    assert found["reference"].verdicts == (1.0, 1.0, 1.0)
    assert all(judgment.judge == "rules" for judgment in found.values())
    assert all(judgment.error is None for judgment in found.values())


def test_a_slip() -> None:
    found = votes(SLIP)
    assert found["arithmetic"].verdicts == (0.0, 0.0, None)
    assert found["reference"].verdicts == (0.0, 0.0, 0.0)
    assert "step 0: false: 2 + 3 = 6" in found["arithmetic"].text
    assert "step 0: leaves the reference: 2 + 3 = 6" in found["reference"].text


def test_without_the_true_answer_the_rule_abstains_and_says_so() -> None:
    found = votes(replace(SLIP, answer=None))
    assert found["reference"].verdicts == (None, None, None)
    assert found["reference"].text == "the true answer is not known"
    assert found["arithmetic"].verdicts == (0.0, 0.0, None)


@pytest.mark.parametrize(
    ("solution", "verdicts"), [(RIGHT, (1.0, 1.0, 1.0)), (SLIP, (None, None, 0.0))]
)
def test_a_final_answer_without_a_worked_solution_judges_what_states_it(
    solution: Solution, verdicts: tuple[float | None, ...]
) -> None:
    found = votes(replace(solution, reference=None))
    assert found["reference"].verdicts == verdicts


def test_words_alone_get_no_vote_of_arithmetic() -> None:
    found = votes(replace(RIGHT, steps=("He buys eggs.", "\x00 ((((")), "arithmetic")
    assert found["arithmetic"].verdicts == (None, None)


def test_rules_come_in_the_order_they_were_named() -> None:
    for rules in (("arithmetic", "reference"), ("reference", "arithmetic"), ("arithmetic",)):
        assert tuple(votes(RIGHT, *rules)) == rules


def test_solutions_do_not_influence_each_other() -> None:
    bare = replace(RIGHT, id="c", answer=None, reference=None)
    batch = [RIGHT, bare, SLIP, replace(SLIP, steps=("So.",))]
    assert vote(batch, RULES) == [vote([item], RULES)[0] for item in batch]


def test_no_solutions() -> None:
    assert vote([], RULES) == []
