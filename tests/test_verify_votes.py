"""Votes: an average of those who voted, whatever their order."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm.records import Judgment
from verify.votes import Ballot, Voting, count

verdicts = st.none() | st.floats(0, 1)
STEPS = 4
juries = st.lists(st.tuples(*[verdicts] * STEPS), max_size=6)


def judges(*cast: tuple[float | None, ...]) -> list[Judgment]:
    return [
        Judgment(judge=str(index), strategy="s", verdicts=one) for index, one in enumerate(cast)
    ]


@pytest.mark.parametrize(
    ("cast", "label", "agreement"),
    [
        ([], None, None),
        ([None, None], None, None),
        ([1.0], 1.0, 1.0),
        ([0.0], 0.0, 1.0),
        ([1.0, None], 1.0, 1.0),
        ([1.0, 0.0], 0.5, 0.5),
        ([1.0, 1.0, 0.0], 2 / 3, 2 / 3),
        ([0.0, 0.0, 1.0], 1 / 3, 2 / 3),
        ([0.7, 0.7, 0.4], 0.6, 2 / 3),
        ([0.5], 0.5, 0.5),
        ([0.5, 1.0], 0.75, 0.75),
    ],
)
def test_table(cast: list[float | None], label: float | None, agreement: float | None) -> None:
    found = count(judges(*((one,) for one in cast)), 1)
    assert found.labels == (label if label is None else pytest.approx(label),)
    assert found.agreement == (agreement if agreement is None else pytest.approx(agreement),)


@given(juries, st.randoms())
def test_order_does_not_matter(jury: list[tuple[float | None, ...]], random: object) -> None:
    shuffled = list(jury)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert count(judges(*jury), STEPS) == count(judges(*shuffled), STEPS)


@given(juries)
def test_bounds(jury: list[tuple[float | None, ...]]) -> None:
    found = count(judges(*jury), STEPS)
    assert len(found.labels) == len(found.agreement) == STEPS
    for index, (label, share) in enumerate(zip(found.labels, found.agreement, strict=True)):
        cast = [one[index] for one in jury if one[index] is not None]
        assert (label is None) == (share is None) == (not cast)
        if label is None or share is None:
            continue
        assert 0.0 <= label <= 1.0
        assert min(cast) <= label + 1e-12
        assert label - 1e-12 <= max(cast)
        assert 0.5 <= share <= 1.0
        if len(set(cast)) == 1 and cast[0] != 0.5:
            assert math.isclose(share, 1.0)


@given(juries)
def test_who_abstains_changes_nothing(jury: list[tuple[float | None, ...]]) -> None:
    silent = (None,) * STEPS
    assert count(judges(*jury, silent), STEPS) == count(judges(*jury), STEPS)


@given(juries)
def test_swapping_right_and_wrong_keeps_the_agreement(
    jury: list[tuple[float | None, ...]],
) -> None:
    # Binary votes: one half of a tiny float is not exactly a mirror image.
    binary = [tuple(None if one is None else float(one > 0.5) for one in cast) for cast in jury]
    mirrored = [tuple(None if one is None else 1.0 - one for one in cast) for cast in binary]
    one, other = count(judges(*binary), STEPS), count(judges(*mirrored), STEPS)
    for left, right in zip(one.agreement, other.agreement, strict=True):
        assert left == (None if right is None else pytest.approx(right))


def test_nobody_votes() -> None:
    assert count([], 2) == Ballot((None, None), (None, None))


def test_weights_count_and_a_weight_of_zero_leaves_a_voter_out() -> None:
    judgments = [
        Judgment(judge="j", strategy=name, verdicts=(verdict,))
        for name, verdict in (("p0", 1.0), ("p1", 0.0), ("p2", 0.0))
    ]
    ballot = count(judgments, 1, {"p0": 3.0, "p2": 0.0})
    assert ballot.labels == (0.75,)
    assert ballot.agreement == (0.75,)
    assert count(judgments, 1, {}) == count(judgments, 1)
    assert count(judgments[2:], 1, {"p2": 0.0}).labels == (None,)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight of 'p0'"):
        Voting(weights={"p0": weight})
