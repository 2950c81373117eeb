"""What becomes of labels on which a check fails."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm.records import Annotation, Judgment, LabelledSolution, Rejection, Solution
from verify.checker_pool import Comparison
from verify.decision import CHECKS, NO_VOTE, Rules, decide
from verify.votes import Voting

EQUAL = Comparison("equal", "number", "the numbers agree")
DIFFERENT = Comparison("different", "number", "the numbers differ")
UNKNOWN = Comparison("unknown", "timeout", "no verdict within 5 s")
KEEP = dict.fromkeys(CHECKS, "keep")
NEVER = "reference_never_met"
"""Off, as long as nothing else is said."""


def annotation(*verdicts: tuple[float | None, ...], identity: str = "a") -> Annotation:
    steps = tuple(f"step {index}" for index in range(len(verdicts[0])))
    return Annotation(
        solution=Solution(id=identity, problem="p", steps=steps),
        judgments=tuple(
            Judgment(judge=str(index), strategy="s", verdicts=cast)
            for index, cast in enumerate(verdicts)
        ),
    )


def decided(
    item: Annotation, outcome: Comparison | None, **rules: object
) -> LabelledSolution | Rejection:
    [found] = decide([item], [outcome], Rules(**rules))  # type: ignore[arg-type]
    return found


def kept(item: Annotation, outcome: Comparison | None, **rules: object) -> LabelledSolution:
    found = decided(item, outcome, **rules)
    assert isinstance(found, LabelledSolution)
    return found


def evidence(item: LabelledSolution | Rejection) -> dict[str, str]:
    return {found.check: found.verdict for found in item.evidence}


@pytest.mark.parametrize(
    ("verdicts", "outcome", "weight", "failed"),
    [
        ((1.0, 1.0), EQUAL, 1.0, set()),
        ((1.0, 0.0), DIFFERENT, 1.0, {"outcome"}),
        ((1.0, 0.0), EQUAL, 0.5, {"wrong_step_but_answer_right"}),
        ((0.5, 0.5), EQUAL, 1.0, {"low_agreement"}),
        ((0.2, 0.5), EQUAL, 0.5, {"wrong_step_but_answer_right", "low_agreement"}),
        ((1.0, 1.0), UNKNOWN, 1.0, set()),
        ((1.0, 0.0), UNKNOWN, 1.0, set()),
        ((0.0, 0.0), None, 1.0, set()),
    ],
)
def test_kept(
    verdicts: tuple[float, ...], outcome: Comparison | None, weight: float, failed: set[str]
) -> None:
    found = kept(annotation(verdicts), outcome)
    assert found.labels == verdicts
    assert found.weight == weight
    assert {name for name, verdict in evidence(found).items() if verdict == "fail"} == failed
    assert list(evidence(found)) == ["outcome", *(name for name in CHECKS if name != NEVER)]


def test_all_right_with_a_wrong_answer_is_rejected() -> None:
    item = annotation((1.0, 0.6))
    found = decided(item, DIFFERENT)
    assert isinstance(found, Rejection)
    assert found.annotation == item
    assert found.rule == "all_right_but_answer_wrong"
    assert found.reason == "the answer is wrong, yet the lowest label is 0.60"
    assert evidence(found)["all_right_but_answer_wrong"] == "fail"


@pytest.mark.parametrize(
    ("verdicts", "outcome", "rule", "labels"),
    [
        ((1.0, 1.0), DIFFERENT, "all_right_but_answer_wrong", (1.0, 0.0)),
        ((1.0, 0.4), EQUAL, "wrong_step_but_answer_right", (1.0, 1.0)),
    ],
)
def test_every_action_of_a_rule(
    verdicts: tuple[float, ...], outcome: Comparison, rule: str, labels: tuple[float, ...]
) -> None:
    item = annotation(verdicts)
    same = kept(item, outcome, **KEEP | {rule: "keep"})
    assert (same.weight, same.labels, same.corrections) == (1.0, verdicts, ())
    lighter = kept(item, outcome, **KEEP | {rule: "down_weight", "down_weight": 0.25})
    assert (lighter.weight, lighter.labels) == (0.25, verdicts)
    rejected = decided(item, outcome, **KEEP | {rule: "reject"})
    assert isinstance(rejected, Rejection)
    assert rejected.rule == rule
    assert evidence(same) == evidence(lighter) == evidence(rejected)  # kept, not forgotten
    mended = kept(item, outcome, **KEEP | {rule: "correct"})
    assert (mended.weight, mended.labels) == (1.0, labels)
    assert {change.rule for change in mended.corrections} == {rule}
    for change in mended.corrections:
        assert (change.old, change.new) == (verdicts[change.step], labels[change.step])
    unseen = kept(item, outcome, **KEEP | {rule: "skip"})
    assert rule not in evidence(unseen)


def test_a_check_sees_what_those_before_it_corrected() -> None:
    solution = Solution(id="a", problem="p", steps=("2 + 2 = 5", "The answer is 5."), answer="4")
    vote = Judgment(judge="j", strategy="s", verdicts=(1.0, 1.0))
    item = Annotation(solution=solution, judgments=(vote,))
    found = kept(item, DIFFERENT)
    assert found.labels == (0.0, 1.0)
    assert evidence(found)["all_right_but_answer_wrong"] == "pass"
    blind = decided(item, DIFFERENT, false_equation_called_right="keep")
    assert isinstance(blind, Rejection)


def test_corrections_undone_are_the_votes() -> None:
    steps = ("2 + 2 = 5", "3 + 5 = 9", "The answer is 9.")
    solution = Solution(
        id="a", problem="p", steps=steps, answer="7", reference="2 + 2 = 4, 4 + 3 = 7"
    )
    vote = Judgment(judge="j", strategy="s", verdicts=(0.9, 1.0, 0.8))
    found = kept(Annotation(solution=solution, judgments=(vote,)), DIFFERENT)
    labels = list(found.labels)
    for change in reversed(found.corrections):
        assert labels[change.step] == change.new
        labels[change.step] = change.old
    assert tuple(labels) == vote.verdicts
    assert labels != list(found.labels)


def test_a_step_without_a_vote_is_rejected() -> None:
    found = decided(annotation((1.0, None, None), (1.0, 0.0, None)), EQUAL)
    assert isinstance(found, Rejection)
    assert (found.rule, found.reason) == (NO_VOTE, "nobody voted on step 2")
    nobody = Annotation(solution=annotation((1.0,)).solution, judgments=())
    assert decided(nobody, None).reason == "nobody voted on step 0"  # type: ignore[union-attr]


def test_votes_are_averaged_and_abstentions_left_out() -> None:
    found = kept(annotation((1.0, None), (0.0, 0.9), (1.0, None)), UNKNOWN)
    assert found.labels == (pytest.approx(2 / 3), 0.9)
    assert found.agreement == (pytest.approx(2 / 3), 1.0)


def test_hard_labels() -> None:
    item = annotation((1.0, 0.0), (1.0, 0.9), (0.0, 0.0))
    [found] = decide([item], [None], Rules(), Voting(labels="hard"))
    assert isinstance(found, LabelledSolution)
    assert found.labels == (1.0, 0.0)


@pytest.mark.parametrize("name", ["reference_never_met", "low_agreement"])
def test_what_knows_no_better_cannot_correct(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot tell better labels"):
        Rules(**{name: "correct"})  # type: ignore[arg-type]


@pytest.mark.parametrize("margin", [0.4, 1.1, float("nan")])
def test_refused_margins(margin: float) -> None:
    with pytest.raises(ValueError, match=r"margin is .*; it must lie between"):
        Rules(margin=margin)


votes = st.none() | st.floats(0, 1)
actions = st.sampled_from(["skip", "keep", "correct", "down_weight", "reject"])


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(votes, votes), max_size=3),
            st.sampled_from([EQUAL, DIFFERENT, UNKNOWN, None]),
        ),
        max_size=5,
    ),
    st.lists(actions, min_size=7, max_size=7),
)
def test_every_annotation_comes_out_once(
    items: list[tuple[list[tuple[float | None, ...]], Comparison | None]], chosen: list[str]
) -> None:
    annotations = [
        dataclasses.replace(
            annotation((None, None), *cast),
            solution=Solution(
                id=str(index),
                problem="2 and 3",
                steps=("2 + 3 = 6", "It is 6."),
                reference="2 + 3 = 5",
            ),
        )
        for index, (cast, _) in enumerate(items)
    ]
    rules = Rules(**dict(zip(CHECKS, chosen, strict=False)))  # type: ignore[arg-type]
    found = list(decide(annotations, [outcome for _, outcome in items], rules))
    assert [item.id for item in found] == [str(index) for index in range(len(items))]
    for item in found:
        assert "outcome" in evidence(item)
