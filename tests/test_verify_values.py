"""The reference strategy, and what both strategies without a model reach on ProcessBench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm.records import first_error, problem_key
from verify.answers import extract_answer
from verify.arithmetic import check_arithmetic
from verify.equivalence import equivalent
from verify.quantities import MAX_CHARS
from verify.values import Outcome, check_values

PROBLEM = "Ducks lay 16 eggs. Janet eats three, bakes with 4 and sells the rest at $2. How much?"
REFERENCE = "She sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\nShe makes 9 * 2 = $<<9*2=18>>18.\n#### 18"


def _verdicts(*steps: str, outcome: Outcome = "different") -> list[float | None]:
    return [step.verdict for step in check_values(steps, PROBLEM, REFERENCE, outcome)]


def test_an_equal_answer_makes_every_step_right() -> None:
    assert _verdicts("5 * 5 = 25", "So 18.", outcome="equal") == [1.0, 1.0]


def test_an_unknown_outcome_gives_no_verdict() -> None:
    assert _verdicts("5 * 5 = 25", "So 18.", outcome="unknown") == [None, None]


def test_steps_are_wrong_from_the_first_foreign_result_on() -> None:
    steps = ("There are 16 eggs.", "16 - 3 - 4 = 9", "9 * 3 = 27 dollars", "9 * 2 = 18", "27")
    assert _verdicts(*steps) == [1.0, 1.0, 0.0, 0.0, 0.0]
    reasons = [step.reason for step in check_values(steps, PROBLEM, REFERENCE, "different")]
    assert reasons[2] == "leaves the reference: 9 * 3 = 27"
    assert reasons[3] == "rests on a wrong step"


def test_a_result_that_equals_a_given_number_is_no_result_of_the_reference() -> None:
    assert _verdicts("4 * 4 = 16", "so 16") == [0.0, 0.0]
    assert _verdicts("the eggs = 16", "9 * 2 = 19") == [1.0, 0.0]


def test_a_foreign_number_in_prose_leaves_the_reference() -> None:
    assert _verdicts("1. She has 16 eggs, 7 days a week.", "She sells 35 eggs.") == [1.0, 0.0]


@pytest.mark.parametrize("same", ["0.09 * 100 = 9", "4.5 * 2 = 9.00", "9 / 1 = 900%"])
def test_rounding_and_conversions_stay_with_the_reference(same: str) -> None:
    reference = "Half of 9 is <<9/2=4.5>>4.5 and 0.09 * 100 = 9\n#### 9"
    verdicts = check_values([same, "7 * 7 = 49"], "9?", reference, "different")
    assert [step.verdict for step in verdicts] == [1.0, 0.0]


def test_with_no_departure_the_step_that_first_works_out_the_answer_is_wrong() -> None:
    assert _verdicts("Think.", "16 - 3 - 4 = 9", "We are done.", "The answer is 9.") == [
        1.0,
        0.0,
        0.0,
        0.0,
    ]


def test_with_nothing_to_go_by_the_last_step_is_wrong() -> None:
    assert _verdicts("Think.", "Done.") == [1.0, 0.0]


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("By symmetry.", "without a number"),
        ("1 " * MAX_CHARS, "longer than"),
        (" ".join(map(str, range(1000))), "too many numbers"),
    ],
)
def test_an_unusable_reference_gives_no_verdict_and_a_reason(reference: str, reason: str) -> None:
    verdict = check_values(["1 + 1 = 3"], "?", reference, "different")[0]
    assert verdict.verdict is None
    assert reason in verdict.reason


def test_a_step_too_long_to_read_gives_no_verdict() -> None:
    assert _verdicts("16 - 3 = 13", "7 " * MAX_CHARS) == [None, None]


def test_a_reference_in_prose_offers_all_its_numbers() -> None:
    verdicts = check_values(["3 * 4 = 12", "12 + 8 = 21"], "?", "First 12, then 20.", "different")
    assert [step.verdict for step in verdicts] == [1.0, 0.0]


@given(st.lists(st.text(max_size=60), max_size=6), st.text(max_size=60), st.text(max_size=60))
def test_any_text_gives_ones_then_zeros(steps: list[str], problem: str, reference: str) -> None:
    found = [step.verdict for step in check_values(steps, problem, reference, "different")]
    assert len(found) == len(steps)
    if None in found:
        assert set(found) == {None}
    else:
        numeric = [value for value in found if value is not None]
        assert numeric == sorted(numeric, reverse=True)
        assert not steps or numeric[-1] == 0.0


def _outcome(steps: list[str], reference: str) -> Outcome:
    answer = extract_answer(steps).text
    return "unknown" if answer is None else equivalent(answer, reference.split("####")[1]).verdict


def _mean(votes: list[float | None]) -> float:
    cast = [vote for vote in votes if vote is not None]
    return sum(cast) / len(cast) if cast else 1.0


def _predict(sample: dict[str, Any], reference: str) -> int:
    steps = sample["steps"]
    arithmetic = [step.verdict for step in check_arithmetic(steps)]
    outcome = _outcome(steps, reference)
    values = [step.verdict for step in check_values(steps, sample["problem"], reference, outcome)]
    return first_error([_mean(list(votes)) for votes in zip(arithmetic, values, strict=True)])


@pytest.mark.data
def test_both_strategies_reach_the_bar_on_processbench_gsm8k(data_dir: Path) -> None:
    """F1 of ProcessBench (arXiv 2412.06559), with GSM8K's solutions as references."""
    lines = (data_dir / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    references = {problem_key(row["question"]): row["answer"] for row in rows}
    file = data_dir / "processbench" / "gsm8k.json"
    samples = json.loads(file.read_text(encoding="utf-8"))
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for sample in samples:
        found = _predict(sample, references[problem_key(sample["problem"])])
        hits[sample["label"] == -1].append(found == sample["label"])
    error_free, erroneous = (100 * sum(hits[key]) / len(hits[key]) for key in (True, False))
    f1 = 2 * error_free * erroneous / (error_free + erroneous)
    print(f"erroneous {erroneous:.1f}, error-free {error_free:.1f}, F1 {f1:.1f}")
    assert error_free >= 99.0
    assert f1 >= 64.0  # 67.6 when it was written
