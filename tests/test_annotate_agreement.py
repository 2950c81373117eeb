"""Agreement: kappas as by hand and as published, whatever the order of voters and solutions."""

from __future__ import annotations

import dataclasses
import random
import tracemalloc
from collections.abc import Iterator, Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.agreement import GROUPS, measure
from annotate.estimates import cohen, dissent, fleiss, mean_agreement
from annotate.sequential import NOT_ASKED
from annotate.voters import disagreement, names
from prm.records import Annotation, Judgment, Solution

Votes = Sequence[float | None]


def annotated(
    number: int, *cast: Votes, generator: str = "policy", judges: Sequence[str] = ()
) -> Annotation:
    """A solution with one judgment for each row of verdicts, by the strategies p0, p1, …"""
    judgments = tuple(
        Judgment(
            judge=judges[index] if judges else "model",
            strategy=f"p{index}",
            verdicts=tuple(verdicts),
        )
        for index, verdicts in enumerate(cast)
    )
    steps = tuple(f"step {index}" for index in range(len(cast[0])))
    solution = Solution(id=f"s{number}", problem="p", steps=steps, generator=generator)
    return Annotation(solution=solution, judgments=judgments)


# Kappas by hand


def test_fleiss_with_as_many_votes_on_every_step() -> None:
    # Three voters, steps 3:0, 2:1, 0:3. Pairs of votes that agree, of 3 pairs each: 3, 1, 3, so
    # P = 7/9. Right: 5 of 9 votes, so P_e = (25 + 16) / 81. (63/81 - 41/81) / (40/81) = 22/40.
    found = fleiss([{(3, 0): 1, (2, 1): 1}, {(0, 3): 1}])
    assert found.value == pytest.approx(22 / 40)
    assert found.steps == 3


def test_fleiss_with_numbers_of_votes_that_differ() -> None:
    # Steps 3:0, 1:1, 0:2. sum x (n - x) / n = 0 + 1/2 + 0. sum (n - 1) = 4. Right: 4 of 7 votes,
    # so p q = 12/49. 1 - (1/2) / (4 * 12/49) = 1 - 49/96 = 47/96.
    assert fleiss([{(3, 0): 1, (1, 1): 1, (0, 2): 1}]).value == pytest.approx(47 / 96)


def test_a_single_vote_on_a_step_does_not_count() -> None:
    plain = fleiss([{(3, 0): 1, (2, 1): 1, (0, 3): 1}])
    assert fleiss([{(3, 0): 1, (2, 1): 1, (0, 3): 1, (1, 0): 9, (0, 0): 9}]) == plain


FLEISS_1971 = """
    00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
    00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006
"""
"""Table 1 of Fleiss (1971): for 30 patients how many of six psychiatrists chose depression,
personality disorder, schizophrenia, neurosis, another diagnosis."""


@pytest.mark.parametrize(
    ("category", "published"), [(0, 0.245), (1, 0.245), (2, 0.520), (3, 0.471), (4, 0.566)]
)
def test_fleiss_as_published_for_each_diagnosis_against_the_others(
    category: int, published: float
) -> None:
    chosen = [int(row[category]) for row in FLEISS_1971.split()]
    assert len(chosen) == 30
    assert fleiss([{(count, 6 - count): 1} for count in chosen]).value == pytest.approx(
        published, abs=0.0005
    )


def test_cohen_by_hand() -> None:
    # Agreement (20 + 15) / 50 = 0.7. By chance: first right 25/50, second right 30/50, so
    # 0.5 * 0.6 + 0.5 * 0.4 = 0.5. (0.7 - 0.5) / 0.5 = 0.4.
    assert cohen(20, 5, 10, 15).value == pytest.approx(0.4)
    assert cohen(0, 3, 3, 0).value == -1.0
    assert cohen(4, 0, 0, 2).value == 1.0
    assert cohen(4, 2, 0, 0).value == 0.0  # one who always says right agrees by chance alone


def test_unanimity_on_everything_is_undefined_and_never_perfect() -> None:
    for found in (fleiss([{(4, 0): 5}, {(3, 0): 2}]), cohen(7, 0, 0, 0)):
        assert (found.value, found.interval, found.undefined) == (None, None, "all votes say right")
        assert found.steps == 7
    for found in (fleiss([{(0, 4): 5}]), cohen(0, 0, 0, 5)):
        assert (found.value, found.undefined) == (None, "all votes say wrong")
    assert fleiss([{(1, 0): 3}]).undefined == fleiss([]).undefined == "no step has two votes"
    assert cohen(0, 0, 0, 0).undefined == "no step has a vote of both"


def test_dissent_and_mean_agreement_by_hand() -> None:
    groups = [{(4, 0): 2, (3, 1): 1}, {(1, 1): 1, (1, 0): 5, (0, 0): 1}]
    found = dissent(groups)
    assert (found.count, found.total, found.share) == (2, 4, 0.5)
    assert mean_agreement(groups).value == pytest.approx((1 + 1 + 0.75 + 0.5) / 4)
    assert dissent([{(1, 0): 1}]).share is None
    assert mean_agreement([{(1, 0): 1}]).value is None


def test_an_interval_has_the_width_of_theory() -> None:
    # 400 independent steps, half with dissent: 2 * 1.96 * sqrt(0.25 / 400) = 0.098.
    items = [annotated(n, (1.0,), (float(n % 2),)) for n in range(400)]
    low, high = measure(items).all.dissent.interval or (0.0, 0.0)
    assert low < 0.5 < high
    assert high - low == pytest.approx(0.098, rel=0.15)


def test_an_interval_draws_whole_solutions() -> None:
    # Steps of one solution that all say the same tell no more than one of them.
    one = measure(annotated(n, (1.0,), (float(n % 2),)) for n in range(60))
    ten = measure(annotated(n, (1.0,) * 10, (float(n % 2),) * 10) for n in range(60))
    assert ten.all.dissent.interval == pytest.approx(one.all.dissent.interval)
    assert ten.all.agreement.interval == pytest.approx(one.all.agreement.interval)


def test_no_interval_where_a_draw_would_be_undefined() -> None:
    items = [annotated(n, (1.0,), (1.0,)) for n in range(3)] + [annotated(3, (0.0,), (0.0,))]
    found = measure(items).all.complete
    assert (found.value, found.interval) == (1.0, None)
    assert measure(items[:1]).all.dissent.interval is None  # one solution cannot be drawn from


# Properties

verdicts = st.none() | st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0])


@st.composite
def files(draw: st.DrawFn, verdict: st.SearchStrategy[float | None] = verdicts) -> list[Annotation]:
    voters = draw(st.integers(1, 4))
    found = []
    for number in range(draw(st.integers(0, 6))):
        steps = draw(st.integers(1, 5))
        row = st.lists(verdict, min_size=steps, max_size=steps)
        cast = draw(st.lists(row, min_size=voters, max_size=voters))
        generator = draw(st.sampled_from(["a", "b"]))
        found.append(annotated(number, *cast, generator=generator))
    return found


def permuted(item: Annotation, order: Sequence[int]) -> Annotation:
    """The same votes, cast by other voters."""
    judgments = tuple(
        dataclasses.replace(item.judgments[index], strategy=f"p{place}")
        for place, index in enumerate(order)
    )
    return dataclasses.replace(item, judgments=judgments)


@settings(max_examples=40)
@given(files(), st.randoms())
def test_who_casts_a_vote_does_not_matter(items: list[Annotation], shuffle: random.Random) -> None:
    others = []
    for item in items:
        order = list(range(len(item.judgments)))
        shuffle.shuffle(order)
        others.append(permuted(item, order))
    assert measure(others).all == measure(items).all


@settings(max_examples=40)
@given(files(), st.randoms())
def test_the_order_of_solutions_and_of_judgments_does_not_matter(
    items: list[Annotation], shuffle: random.Random
) -> None:
    others = [
        dataclasses.replace(item, judgments=tuple(reversed(item.judgments))) for item in items
    ]
    shuffle.shuffle(others)
    assert measure(others) == measure(items)


@settings(max_examples=60)
@given(files())
def test_all_numbers_stay_within_their_bounds(items: list[Annotation]) -> None:
    found = measure(items)
    for kappa in (found.all.complete, found.all.varying, *(pair.kappa for pair in found.pairs)):
        assert (kappa.value is None) == (kappa.undefined is not None)
        for value in (kappa.value, *(kappa.interval or ())):
            assert value is None or -1 - 1e-9 <= value <= 1 + 1e-9
    if found.all.agreement.value is not None:
        assert 0.5 <= found.all.agreement.value <= 1
    assert sum(found.all.splits.values()) == found.steps == sum(found.labels) + found.unlabelled
    assert sum(part.solutions for part in found.by_length) == found.solutions
    for classes in (found.by_length, found.by_position):
        assert sum(part.dissent.count for part in classes) == found.all.dissent.count
        assert sum(part.dissent.total for part in classes) == found.all.dissent.total
    assert sum(item.steps for item in found.generators) == found.steps


@settings(max_examples=60)
@given(files(st.sampled_from([0.0, 1.0])))
def test_fleiss_is_the_agreement_of_pairs_of_votes_beyond_chance(items: list[Annotation]) -> None:
    rows = [
        [judgment.verdicts[step] for judgment in item.judgments]
        for item in items
        for step in range(len(item.solution.steps))
    ]
    found = measure(items).all
    assert found.complete.value == found.varying.value
    if not rows or len(rows[0]) < 2 or len({vote for row in rows for vote in row}) < 2:
        assert found.complete.value is None
        return
    pairs = [
        (row[one], row[other])
        for row in rows
        for one in range(len(row))
        for other in range(len(row))
        if one != other
    ]
    agree = Fraction(sum(one == other for one, other in pairs), len(pairs))
    right = Fraction(sum(vote == 1.0 for row in rows for vote in row), sum(map(len, rows)))
    chance = right**2 + (1 - right) ** 2
    assert found.complete.value == pytest.approx(float((agree - chance) / (1 - chance)))


# Voters


def test_abstentions_and_halves_are_no_votes() -> None:
    item = annotated(0, (1.0, None, 0.9, 0.5), (0.0, 1.0, 0.5, 0.5), (0.4, None, 0.6, None))
    found = measure([item])
    assert found.all.splits == {"1:2": 1, "2:0": 1, "1:0": 1, "0:0": 1}
    # All three voted on the first step alone; two or more on the first and the third.
    assert (found.all.complete.steps, found.all.varying.steps) == (1, 2)
    assert (found.all.dissent.count, found.all.dissent.total) == (1, 2)
    assert [(voter.coverage.count, voter.wrong.count) for voter in found.voters] == [
        (3, 0),
        (4, 1),
        (2, 1),
    ]
    assert [voter.wrong.total for voter in found.voters] == [2, 2, 2]
    first, second, _ = found.pairs
    assert (first.first, first.second) == ("p0", "p1")
    assert (first.agreement.count, first.agreement.total) == (0, 1)
    assert (second.agreement.count, second.agreement.total) == (1, 2)
    assert second.kappa.value == 0.0
    assert found.unlabelled == 0  # one half is a verdict, and a label
    assert disagreement(item.judgments, 4) == pytest.approx((1 / 3 + 0) / 2)


def test_rules_are_no_language_models() -> None:
    items = [
        annotated(0, (1.0, 0.0), (1.0, 0.0), (0.0, 1.0), judges=["m", "m", "rules"]),
        annotated(1, (1.0, 1.0), (0.0, 1.0), (None, 1.0), judges=["m", "m", "rules"]),
    ]
    found = measure(items)
    assert [voter.model_free for voter in found.voters] == [False, False, True]
    assert (found.all.voters, found.llm.voters) == (3, 2)
    assert found.llm.splits == {"2:0": 2, "1:1": 1, "0:2": 1}
    assert (found.all.complete.steps, found.llm.complete.steps) == (3, 4)
    # Language models alone: sum x (n - x) / n = 1/2, sum (n - 1) = 4, p q = 5/8 * 3/8.
    assert found.llm.complete.value == pytest.approx(1 - 0.5 / (4 * 15 / 64))


def test_kappas_need_two_voters_who_meet() -> None:
    alone = measure([annotated(0, (1.0, 0.0))])
    assert alone.all.complete.undefined == alone.all.varying.undefined == "fewer than two voters"
    assert alone.pairs == []
    apart = measure([annotated(0, (1.0, None), (None, 0.0))])
    assert apart.all.complete.undefined == "no step has a vote of all 2 voters"
    assert apart.all.varying.undefined == "no step has two votes"
    assert apart.pairs[0].kappa.undefined == "no step has a vote of both"
    nobody = measure([])
    assert (nobody.solutions, nobody.voters, nobody.all.splits) == (0, [], {})


def test_a_voter_who_comes_late_is_compared_like_any_other() -> None:
    early = [annotated(n, (1.0,), (0.0,)) for n in range(3)]
    late = [annotated(n, (1.0,), (0.0,), (0.0,)) for n in range(3, 5)]
    for items in ([*early, *late], [*late, *early]):
        found = measure(items)
        assert found.all.complete.steps == 2
        assert [voter.coverage.count for voter in found.voters] == [5, 5, 2]


def test_samples_of_a_strategy_are_voters_of_their_own() -> None:
    item = annotated(0, (1.0, 0.0), (1.0, 1.0), (0.0, 0.0))
    first, second, third = item.judgments
    sampled = (first, dataclasses.replace(second, strategy="p0"), third)
    found = measure([dataclasses.replace(item, judgments=sampled)])
    assert [(voter.name, voter.sample) for voter in found.voters] == [
        ("p0 #1", 1),
        ("p0 #2", 2),
        ("p2", 1),
    ]


def test_names_are_as_short_as_they_can_be() -> None:
    def named(*voters: tuple[str, str]) -> list[str]:
        item = Annotation(
            solution=Solution(id="s", problem="p", steps=("a",)),
            judgments=tuple(
                Judgment(judge=judge, strategy=strategy, verdicts=(None,))
                for judge, strategy in voters
            ),
        )
        return [voter.name for voter in measure([item]).voters]

    assert named(("x/a", "p0"), ("x/a", "p1"), ("rules", "arithmetic")) == [
        "p0",
        "p1",
        "arithmetic",
    ]
    assert named(("x/a", "p0"), ("x/b", "p0")) == ["a p0", "b p0"]
    assert named(("x/a", "p0"), ("y/a", "p0")) == ["x/a p0", "y/a p0"]
    assert names([]) == {}


def test_unusable_answers_by_reason_and_answers_not_asked_for() -> None:
    item = annotated(0, (1.0, 0.0), (None, None), (None, None), (None, None))
    kept, *others = item.judgments
    errors = ["reasoning cut at 4096 tokens", "3 verdicts for 2 steps", None]
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "cached_tokens": 5}
    ends = ["length", "stop", NOT_ASKED]
    judgments = [dataclasses.replace(kept, usage=usage)] + [
        dataclasses.replace(judgment, strategy="p1", error=error, finish_reason=end, usage={})
        for judgment, error, end in zip(others, errors, ends, strict=True)
    ]
    items = [
        Annotation(
            solution=dataclasses.replace(item.solution, id=f"s{number}"),
            judgments=(judgments[0], judgment),
        )
        for number, judgment in enumerate(judgments[1:])
    ]
    found = measure(items)
    voter = found.voters[1]
    assert voter.reasons == {"reasoning cut at … tokens": 1, "… verdicts for … steps": 1}
    assert (voter.unusable.count, voter.unusable.total, voter.not_asked) == (2, 2, 1)
    assert (found.unusable.count, found.unusable.total, found.not_asked) == (2, 5, 1)
    assert found.voters[0].usage == {name: 3 * count for name, count in usage.items()}
    assert found.tokens == 36  # what was cached is a part of the prompts


# Where, and what of


def test_steps_by_position_and_by_length() -> None:
    items = [
        annotated(0, (1.0,) * 4, (0.0, 1.0, 1.0, 1.0)),  # middles at 12.5, 37.5, 62.5, 87.5 %
        annotated(1, (1.0,), (0.0,)),  # its middle at 50 %
        annotated(2, (1.0,) * 51, (None,) * 51),  # no two votes
    ]
    found = measure(items)
    places = [(part.name, part.dissent.count, part.dissent.total) for part in found.by_position]
    assert [place for place in places if place[2]] == [
        ("10–20 %", 1, 1),
        ("30–40 %", 0, 1),
        ("50–60 %", 1, 1),
        ("60–70 %", 0, 1),
        ("80–90 %", 0, 1),
    ]
    lengths = [(part.name, part.solutions, part.dissent.share) for part in found.by_length]
    assert lengths == [
        ("1–3", 1, 1.0),
        ("4–6", 1, 0.25),
        ("7–10", 0, None),
        ("11–20", 0, None),
        ("21–50", 0, None),
        ("51+", 1, None),
    ]


def test_labels_and_generators() -> None:
    items = [
        annotated(0, (1.0, 1.0, 0.0), (1.0, 0.0, 0.0), generator="b"),  # 1, 0.5 (right), 0
        annotated(1, (0.3, 0.9), (0.1, None), generator="b"),  # 0.2, 0.9
        annotated(2, (0.0, None), (0.0, None), generator="b"),  # 0, none
        annotated(3, (1.0,), (1.0,), generator="a"),
    ]
    found = measure(items)
    assert found.labels == [2, 0, 1, 0, 0, 1, 0, 0, 0, 3]
    assert found.unlabelled == 1
    good, bad = found.generators
    assert (good.name, good.wrong.share, good.median_first_error) == ("a", 0.0, None)
    assert (bad.solutions, bad.steps) == (3, 7)
    assert (bad.wrong.count, bad.wrong.total) == (3, 6)
    # The third has a step without a label, so whether it is right is not known.
    assert (bad.erroneous.count, bad.erroneous.total) == (2, 2)
    assert {name: count for name, count in bad.first_errors.items() if count} == {"1": 1, "3": 1}
    assert bad.median_first_error == 1


def test_memory_does_not_grow_with_the_file() -> None:
    source = random.Random(0)
    patterns = [
        [[float(source.random() < 0.7) for _ in range(steps)] for _ in range(4)]
        for steps in (3, 4, 5)
        for _ in range(10)
    ]

    def made(number: int) -> Iterator[Annotation]:
        kept = [annotated(0, *cast) for cast in patterns]
        for index in range(number):
            item = kept[index % len(kept)]
            solution = dataclasses.replace(item.solution, id=str(index))
            yield Annotation(solution=solution, judgments=item.judgments)

    peaks = []
    for number in (GROUPS * 2, GROUPS * 20):
        tracemalloc.start()
        try:
            assert measure(made(number)).solutions == number
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    # Most of it is the drawing of groups at the end, 1000 times 1000 numbers.
    assert peaks[1] < 32 * 2**20
    assert peaks[1] < 1.2 * peaks[0]
