"""Each check of labels: when it passes, fails and cannot tell, and the labels it knows better."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm.records import Judgment, Solution
from verify import checks
from verify.checker_pool import Comparison
from verify.checks import Finding
from verify.votes import Voting

EQUAL = Comparison("equal", "number", "the numbers agree")
DIFFERENT = Comparison("different", "number", "the numbers differ")
UNKNOWN = Comparison("unknown", "timeout", "no verdict within 5 s")
RIGHT, WRONG, OPEN = (Finding(verdict, "") for verdict in ("pass", "fail", "unknown"))  # type: ignore[arg-type]

REFERENCE = "He picks 3 * 4 = 12 apples. After lunch 12 - 2 = 10 are left. So 10 * 5 = 50."


def solution(*steps: str, reference: str | None = REFERENCE, answer: str | None = "50") -> Solution:
    return Solution(
        id="s",
        problem="He fills 3 bags with 4 apples, eats 2 and sells the others for 5 each.",
        steps=steps,
        reference=reference,
        answer=answer,
    )


def cast(*verdicts: float | None, strategy: str = "p0", judge: str = "j") -> Judgment:
    return Judgment(judge=judge, strategy=strategy, verdicts=verdicts)


# The outcome


@pytest.mark.parametrize(
    ("comparison", "claimed", "verdict"),
    [
        (EQUAL, None, "pass"),
        (DIFFERENT, None, "fail"),
        (UNKNOWN, None, "unknown"),
        (None, None, "unknown"),
        (None, True, "pass"),
        (None, False, "fail"),
        (UNKNOWN, True, "pass"),
        (EQUAL, True, "pass"),
        (EQUAL, False, "unknown"),  # one of the two errs: neither is believed
        (DIFFERENT, True, "unknown"),
    ],
)
def test_outcome(comparison: Comparison | None, claimed: bool | None, verdict: str) -> None:
    assert checks.outcome(comparison, claimed).verdict == verdict


def test_labels_against_the_outcome() -> None:
    missed = checks.all_right_but_answer_wrong((1.0, 0.6), WRONG)
    assert (missed.verdict, missed.better) == ("fail", {1: 0.0})
    assert missed.reason == "the answer is wrong, yet the lowest label is 0.60"
    assert checks.all_right_but_answer_wrong((1.0, 0.4), WRONG).verdict == "pass"
    assert checks.all_right_but_answer_wrong((1.0, 1.0), RIGHT).verdict == "pass"
    assert checks.all_right_but_answer_wrong((1.0, 1.0), OPEN).verdict == "unknown"
    turned = checks.wrong_step_but_answer_right((1.0, 0.4, 0.0), RIGHT)
    assert (turned.verdict, turned.better) == ("fail", {1: 1.0, 2: 1.0})
    assert turned.reason == "the answer is right, yet step 1 is labelled 0.40"
    assert checks.wrong_step_but_answer_right((1.0, 0.5), RIGHT).verdict == "pass"
    assert checks.wrong_step_but_answer_right((0.0,), WRONG).verdict == "pass"
    assert checks.wrong_step_but_answer_right((0.0,), OPEN).verdict == "unknown"


# The votes


def test_a_promise_that_is_kept_or_broken_or_not_given() -> None:
    free, held = cast(1.0, 0.0, 1.0), cast(1.0, 0.0, 1.0, strategy="backward")
    labels = (1.0, 0.0, 1.0)
    assert checks.not_monotone(labels, [free], ["backward"], Voting()).verdict == "unknown"
    broken = checks.not_monotone(labels, [held], ["backward"], Voting())
    assert (broken.verdict, broken.better) == ("fail", {2: 0.0})
    both = checks.not_monotone(labels, [free, held], ["backward"], Voting())
    assert (both.verdict, both.better) == ("fail", {2: 0.5})  # the other vote stays as it was
    good = cast(1.0, None, 0.0, None, 0.0, strategy="backward")
    assert checks.not_monotone((1.0,) * 5, [good], ["backward"], Voting()).verdict == "pass"


@given(st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=6))
def test_better_labels_keep_the_promise(verdicts: list[float | None]) -> None:
    held = cast(*verdicts, strategy="backward")
    labels = [1.0 if verdict is None else verdict for verdict in verdicts]
    found = checks.not_monotone(labels, [held], ["backward"], Voting())
    mended = [found.better.get(index, label) for index, label in enumerate(labels)]
    said = [label for label, verdict in zip(mended, verdicts, strict=True) if verdict is not None]
    wrong = next((index for index, label in enumerate(said) if label < 0.5), len(said))
    assert all(label < 0.5 for label in said[wrong:])
    assert (found.verdict == "fail") == (mended != labels)


def test_agreement() -> None:
    assert checks.low_agreement((1.0, 0.6), 0.6).verdict == "pass"
    found = checks.low_agreement((1.0, 0.5, 0.75), 0.6)
    assert (found.verdict, found.reason) == ("fail", "on step 1 0.50 of the votes agree")


def test_a_judge_asked_backwards() -> None:
    labels, asked = (1.0, 0.0, 0.0), ["backward"]

    def found(*judgments: Judgment) -> Finding:
        return checks.backward_judge_disagrees(labels, judgments, asked)

    assert found().verdict == found(cast(1.0, 1.0, 1.0)).verdict == "unknown"
    assert found(cast(None, None, None, strategy="backward")).verdict == "unknown"
    assert found(cast(1.0, 0.0, 0.0, strategy="backward")).verdict == "pass"
    other = found(
        cast(1.0, 0.0, 0.0, strategy="backward"), cast(1.0, 1.0, 1.0, strategy="backward")
    )
    assert other.verdict == "fail"
    assert other.reason == "asked backwards: no step is wrong; the labels: wrong from step 1"


# The steps


def test_a_false_equation() -> None:
    steps = ("3 * 4 = 13", "13 - 2 = 11", "2 + 2 = 4")
    found = checks.false_equation_called_right((1.0, 1.0, 1.0), steps)
    assert (found.verdict, found.better) == ("fail", {0: 0.0, 1: 0.0})
    assert found.reason == "step 0 is labelled 1.00: false: 3 * 4 = 13"
    assert checks.false_equation_called_right((0.0, 0.2, 1.0), steps).verdict == "pass"
    assert checks.false_equation_called_right((1.0,), ("No equation.",)).verdict == "unknown"


def test_leaving_the_reference() -> None:
    item = solution("3 * 4 = 12", "12 + 2 = 14", "14 * 5 = 70", "The answer is 70.")
    found = checks.departure_called_right((1.0, 1.0, 0.0, 1.0), item, WRONG)
    assert (found.verdict, found.better) == ("fail", {1: 0.0, 3: 0.0})
    assert found.reason == "step 1 is labelled 1.00: leaves the reference: 12 + 2 = 14"
    assert checks.departure_called_right((1.0, 0.0, 0.0, 0.0), item, WRONG).verdict == "pass"
    assert checks.departure_called_right((0.0, 1.0, 1.0, 1.0), item, WRONG).verdict == "pass"
    assert checks.departure_called_right((1.0,) * 4, item, RIGHT).verdict == "unknown"
    bare = solution("x", reference=None)
    assert checks.departure_called_right((1.0,), bare, WRONG).verdict == "unknown"
    wordy = solution("x", reference="As everybody knows.")
    assert checks.departure_called_right((1.0,), wordy, WRONG).reason == (
        "the reference is without a number"
    )


def test_a_result_of_the_reference_called_wrong() -> None:
    item = solution("3 * 4 = 12", "12 - 2 = 10", "10 * 4 = 40")
    found = checks.met_result_called_wrong((1.0, 0.2, 0.0), item)
    assert (found.verdict, found.better) == ("fail", {1: 1.0})
    assert found.reason == "step 1 is labelled 0.20, and works out 10.0 as the reference does"
    assert checks.met_result_called_wrong((1.0, 1.0, 0.0), item).verdict == "pass"
    assert checks.met_result_called_wrong((1.0, 1.0, 1.0), item).verdict == "pass"
    slip = solution("3 * 5 = 12")  # the value is right, the way to it is not
    assert checks.met_result_called_wrong((0.0,), slip).verdict == "pass"
    assert (
        checks.met_result_called_wrong((0.0,), solution("x", reference=None)).verdict == "unknown"
    )


def test_results_of_the_reference_met_or_never_met() -> None:
    met = checks.reference_never_met(solution("3 * 4 = 12", "The answer is 50."), RIGHT)
    assert (met.verdict, met.reason) == ("pass", "meets 1 of 2 results of the reference")
    guess = checks.reference_never_met(solution("The answer is 50."), RIGHT)
    assert (guess.verdict, guess.reason) == ("fail", "meets 0 of 2 results of the reference")
    assert checks.reference_never_met(solution("The answer is 7."), WRONG).verdict == "unknown"
    short = solution("The answer is 50.", reference="5 * 10 = 50")
    assert checks.reference_never_met(short, RIGHT).verdict == "unknown"


# Backwards from the answer

DETOUR = solution("3 * 4 = 12", "7 + 8 = 15, no, that is not asked.", "12 - 2 = 10", "10 * 5 = 50")


def test_a_right_answer_rests_on_a_step_labelled_wrong() -> None:
    found = checks.answer_rests_elsewhere((1.0, 1.0, 0.3, 1.0), DETOUR, RIGHT)
    assert (found.verdict, found.better) == ("fail", {2: 1.0})
    assert found.reason == "the right answer rests on step 2, labelled 0.30 (on 0, 2, 3)"


def test_a_wrong_turn_beside_the_way_is_none() -> None:
    assert checks.answer_rests_elsewhere((1.0, 0.0, 1.0, 1.0), DETOUR, RIGHT).verdict == "pass"
    # For a wrong answer the error must lie on the way, and here it lies beside it.
    found = checks.answer_rests_elsewhere((1.0, 0.0, 1.0, 1.0), DETOUR, WRONG)
    assert (found.verdict, found.better) == ("fail", {3: 0.0})
    assert checks.answer_rests_elsewhere((1.0, 1.0, 0.0, 1.0), DETOUR, WRONG).verdict == "pass"


def test_what_cannot_be_followed_is_unknown() -> None:
    for item, ending in (
        (DETOUR, OPEN),
        (solution("The answer is fifty."), RIGHT),
        (solution("The answer is 50."), RIGHT),
        (solution("1 + " * 10_000 + "1 = 50", "The answer is 50."), RIGHT),
    ):
        found = checks.answer_rests_elsewhere((1.0,) * len(item.steps), item, ending)
        assert found.verdict == "unknown"


def test_a_step_without_equations_may_be_the_wrong_one() -> None:
    item = solution("He buys the apples, so they cost him.", "3 * 4 = 12", "The answer is 12.")
    assert checks.answer_rests_elsewhere((0.0, 1.0, 1.0), item, WRONG).verdict == "pass"
