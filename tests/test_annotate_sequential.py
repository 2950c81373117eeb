"""Sequential voting: it stops exactly where the open votes can change nothing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.judge import JudgeSettings, Sequential, judge
from annotate.sequential import NOT_ASKED, SequentialConfig, settled
from prm.engines import Request
from prm.engines.fake import ScriptedEngine
from prm.records import Judgment, Solution
from verify import votes

STRATEGIES = ["p1", "p3", "p0", "p2"]


def said(*verdicts: float | None, strategy: str = "p0") -> Judgment:
    return Judgment(judge="j", strategy=strategy, verdicts=verdicts)


@pytest.mark.parametrize(
    ("cast", "waiting", "done"),
    [
        ([], 4, False),
        ([1.0], 3, False),
        ([1.0, 1.0], 2, True),  # 2 of 4 is one half, which counts as right
        ([0.0, 0.0], 2, False),  # two more would make it one half
        ([0.0, 0.0, 0.0], 1, True),
        ([1.0, 0.0], 2, False),
        ([0.9, 0.9, 0.1], 1, False),  # 1.9 of 4 without the last
        ([None, None], 2, False),
        ([None], 0, False),
    ],
)
def test_one_step_by_hand(cast: list[float | None], waiting: int, done: bool) -> None:
    judgments = [said(verdict) for verdict in cast]
    assert settled(judgments, ["p0"] * waiting, 1, SequentialConfig()) == done


def test_every_step_must_be_settled() -> None:
    cast = [said(1.0, 0.0), said(1.0, 1.0)]
    assert not settled(cast, ["p0", "p0"], 2, SequentialConfig())
    assert settled([cast[1], cast[1]], ["p0", "p0"], 2, SequentialConfig())


def test_a_margin_asks_for_more() -> None:
    cast = [said(1.0)] * 3  # the mean ends between 3/4 and 1
    assert settled(cast, ["p0"], 1, SequentialConfig(margin=0.25))
    assert not settled(cast, ["p0"], 1, SequentialConfig(margin=0.26))


def test_weights_count_as_verification_counts_them() -> None:
    heavy = SequentialConfig(weights={"p0": 3.0})
    assert settled([said(0.0)], ["p1", "p3"], 1, heavy)
    assert not settled([said(0.0)], ["p1", "p3"], 1, SequentialConfig())


votes_of = st.lists(
    st.lists(st.sampled_from([0.0, 0.3, 0.5, 1.0, None]), min_size=3, max_size=3),
    min_size=1,
    max_size=6,
)


@given(votes_of, st.integers(0, 5), st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_whatever_the_open_votes_say_a_settled_label_stays_on_its_side(
    rows: list[list[float | None]], asked: int, cut: float
) -> None:
    cast = [said(*row) for row in rows]
    before, after = cast[:asked], cast[asked:]
    if not settled(before, ["p0"] * len(after), 3, SequentialConfig(cut=cut)):
        return
    labels = votes.count(before, 3).labels
    open_votes = [[said(*[value] * 3) for _ in after] for value in (0.0, 1.0, None)]
    for others in [*open_votes, after]:
        finally_ = votes.count([*before, *others], 3).labels
        for early, late in zip(labels, finally_, strict=True):
            assert early is not None
            assert late is not None
            assert (early >= cut) == (late >= cut)


def solution(name: str, steps: int = 2) -> Solution:
    return Solution(id=name, problem="What is 1 + 1?", steps=("a step",) * steps, answer="2")


def reply(request: Request) -> str:
    """p1 and p3 find everything right but in solutions whose id begins with d."""
    if request.regex is None:
        return "Fine."
    return (
        "[0,1]" if request.group.startswith("d") and "Do not explain" in str(request) else "[1,1]"
    )


def test_a_settled_solution_is_asked_about_no_more_and_the_rest_is() -> None:
    engine = ScriptedEngine(reply)
    items = [solution("clear"), solution("doubtful"), solution("clear too")]
    turn = Sequential(config=SequentialConfig(), earlier=itertools.repeat(()))
    cast = list(
        judge(items, engine, STRATEGIES, settings=JudgeSettings(), chunk=2, sequential=turn)
    )
    asked = [[one.strategy for one in row if one.finish_reason != NOT_ASKED] for row in cast]
    assert asked == [["p1", "p3"], ["p1", "p3", "p0", "p2"], ["p1", "p3"]]
    assert [one.strategy for one in cast[0]] == STRATEGIES
    assert cast[0][2].verdicts == (None, None)
    assert cast[0][2].error is None
    assert {request.group for request in engine.requests if request.regex is None} == {"doubtful"}
    whole = list(judge(items, ScriptedEngine(reply), STRATEGIES, settings=JudgeSettings()))
    for early, late in zip(cast, whole, strict=True):
        ends = zip(votes.count(early, 2).labels, votes.count(late, 2).labels, strict=True)
        assert all((a >= 0.5) == (b >= 0.5) for a, b in ends)


def test_earlier_and_later_voters_count() -> None:
    rules = (said(1.0, 1.0, strategy="reference"),)
    alone = Sequential(config=SequentialConfig(), earlier=itertools.repeat(rules))
    (row,) = judge(
        [solution("a")], ScriptedEngine(reply), ["p1"], settings=JudgeSettings(), sequential=alone
    )
    assert row[0].finish_reason == NOT_ASKED  # 1 of 2 at the worst
    more = Sequential(config=SequentialConfig(), earlier=itertools.repeat(rules), later=["p0"])
    (row,) = judge(
        [solution("a")], ScriptedEngine(reply), ["p1"], settings=JudgeSettings(), sequential=more
    )
    assert row[0].finish_reason != NOT_ASKED
