"""Records: their invariants hold from construction on, and derived values are functions."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm import jsonl
from prm.errors import RecordError
from prm.records import (
    Annotation,
    Grade,
    Judgment,
    LabelledSolution,
    Prediction,
    Problem,
    Ranking,
    Solution,
    StepScores,
    first_error,
    problem_key,
    steps_digest,
)

SOLUTION = Solution(id="a", problem="1 + 1?", steps=("1 + 1 = 2.", "The answer is 2."))
SCORES = {"solution_id": "a", "steps_digest": "d", "model": "m", "scores": (0.5,)}
GRADE = {
    "id": "a",
    "answer": "2",
    "found": "2.0",
    "found_by": "last number",
    "verdict": "equal",
    "rule": "number",
    "reason": "the same number",
}
VOTE = Judgment(judge="j", strategy="p0", verdicts=(1.0, None))


@pytest.mark.parametrize(
    ("record", "values", "message"),
    [
        (Problem, {"id": "", "problem": "p"}, "id is empty"),
        (Problem, {"id": "a", "problem": " \n"}, "problem is empty"),
        (Solution, {"id": "", "problem": "p", "steps": ("s",)}, "id is empty"),
        (Solution, {"id": "a", "problem": "", "steps": ("s",)}, "problem is empty"),
        (Solution, {"id": "a", "problem": "p", "steps": ()}, "at least one step"),
        (Solution, {"id": "a", "problem": "p", "steps": ("s", "\t")}, r"steps\[1\] is blank"),
        (
            Solution,
            {"id": "a", "problem": "p", "steps": ("s",), "metadata": {"x": math.nan}},
            "metadata is not plain JSON",
        ),
        (
            Solution,
            {"id": "a", "problem": "p", "steps": ("s",), "metadata": {"x": object()}},
            "metadata is not plain JSON",
        ),
        (
            Judgment,
            {"judge": "j", "strategy": "s", "verdicts": (1.0, 1.1)},
            r"verdicts\[1\] is 1.1; it must lie between 0 and 1",
        ),
        (Judgment, {"judge": "j", "strategy": "s", "verdicts": (-0.1,)}, r"verdicts\[0\]"),
        (Judgment, {"judge": "j", "strategy": "s", "verdicts": (math.nan,)}, "nan"),
        (
            Judgment,
            {"judge": "j", "strategy": "s", "verdicts": (None, 1.0), "error": "cut"},
            "must abstain on every step",
        ),
        (
            Annotation,
            {"solution": SOLUTION, "judgments": (dataclasses.replace(VOTE, verdicts=(1.0,)),)},
            "strategy 'p0' has 1 verdicts for 2 steps",
        ),
        (LabelledSolution, {"solution": SOLUTION, "labels": (1.0,)}, "1 labels for 2 steps"),
        (LabelledSolution, {"solution": SOLUTION, "labels": (1.0, -100.0)}, r"labels\[1\]"),
        (
            LabelledSolution,
            {"solution": SOLUTION, "labels": (1.0, 0.0), "agreement": (1.0,)},
            "1 agreement values for 2 steps",
        ),
        (
            LabelledSolution,
            {"solution": SOLUTION, "labels": (1.0, 0.0), "weight": 0.0},
            r"weight is 0.0; it must lie in \(0, 1\]",
        ),
        (
            LabelledSolution,
            {"solution": SOLUTION, "labels": (1.0, 0.0), "weight": math.nan},
            "weight is nan",
        ),
        (Prediction, {"id": "", "prediction": "2"}, "id is empty"),
        (Grade, GRADE | {"id": ""}, "id is empty"),
        (Grade, GRADE | {"answer": None}, "verdict is 'equal'; where an answer is missing"),
        (
            Grade,
            GRADE | {"found": None, "verdict": "different"},
            "verdict is 'different'; where an answer is missing it must be 'unknown'",
        ),
        (StepScores, SCORES | {"scores": ()}, "scores is empty"),
        (StepScores, SCORES | {"scores": (math.inf,)}, "finite"),
        (
            Ranking,
            {"id": "a", "problem": "p", "method": "min", "solution_ids": (), "rewards": ()},
            "at least one candidate",
        ),
        (
            Ranking,
            {"id": "a", "problem": "p", "method": "min", "solution_ids": ("x",), "rewards": ()},
            "one reward per candidate",
        ),
    ],
)
def test_invariants(record: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record(**values)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"verdict": "right"}, "verdict"), ({"reasons": "x"}, "reasons"), ({"found": 2}, "found")],
)
def test_a_grade_is_decoded_strictly(change: dict[str, Any], field: str) -> None:
    grade = Grade(**GRADE)  # type: ignore[arg-type]
    assert jsonl.decode(jsonl.encode(grade), Grade) == grade
    with pytest.raises(RecordError) as caught:
        jsonl.convert(GRADE | change, Grade)
    assert caught.value.field == field


def test_a_grade_may_be_unknown_for_want_of_an_answer() -> None:
    for missing in ({"answer": None}, {"found": None, "found_by": "none"}):
        assert Grade(**(GRADE | missing | {"verdict": "unknown"})).verdict == "unknown"  # type: ignore[arg-type]


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SOLUTION.id = "b"  # type: ignore[misc]


def test_ids_are_those_of_the_solution() -> None:
    assert Annotation(solution=SOLUTION, judgments=(VOTE,)).id == "a"
    assert LabelledSolution(solution=SOLUTION, labels=(1.0, 0.0)).id == "a"
    assert StepScores(**SCORES).id == "a"  # type: ignore[arg-type]


def test_a_digest_is_of_the_problem_and_the_steps_alone() -> None:
    digest = steps_digest(SOLUTION)
    assert digest == "d45126e035f91725"  # stands in files
    other = {"id": "b", "answer": "2", "generator": "g", "metadata": {"x": 1}}
    assert steps_digest(dataclasses.replace(SOLUTION, **other)) == digest  # type: ignore[arg-type]
    joined = (" ".join(SOLUTION.steps),)
    for change in ({"problem": "1 + 1"}, {"steps": SOLUTION.steps[:1]}, {"steps": joined}):
        assert steps_digest(dataclasses.replace(SOLUTION, **change)) != digest


def test_stepwise_columns_keep_soft_labels_unless_a_cut_is_named() -> None:
    item = LabelledSolution(solution=SOLUTION, labels=(0.7, 0.5))
    assert item.to_stepwise() == {
        "prompt": "1 + 1?",
        "completions": ["1 + 1 = 2.", "The answer is 2."],
        "labels": [0.7, 0.5],
    }
    assert item.to_stepwise(cut=0.5)["labels"] == [True, True]
    assert item.to_stepwise(cut=0.6)["labels"] == [True, False]


@given(st.lists(st.floats(0, 1)), st.floats(0, 1))
def test_first_error_is_the_first_hard_zero(labels: list[float], cut: float) -> None:
    hard = [int(label >= cut) for label in labels]
    assert first_error(labels, cut) == (hard.index(0) if 0 in hard else -1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Janet’s ducks lay 16 eggs.", "Janet's  ducks\nlay 16 Eggs"),
        ("STRASSE 1", "straße 1"),
    ],
)
def test_equal_questions_share_a_key(one: str, other: str) -> None:
    assert problem_key(one) == problem_key(other)


def test_different_numbers_have_different_keys() -> None:
    assert problem_key("16 eggs") != problem_key("17 eggs")
