"""The searches themselves, against brute force on small trees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searching import PROBLEM, World

from prm.aggregation import AGGREGATIONS
from prm.search.beam import FALLING, beam
from prm.search.choice import choose
from prm.search.dvts import dvts
from prm.search.tree import (
    BEATEN,
    STEPS,
    TURN,
    Growth,
    Path,
    Round,
    best,
    grow,
    merged,
    together,
)
from prm.search.whole import best_of_n

worlds = st.builds(
    World,
    seed=st.integers(0, 10_000),
    letters=st.integers(1, 4),
    ending=st.sampled_from([0.0, 0.2, 0.5]),
    cutting=st.sampled_from([0.0, 0.2]),
    failing=st.sampled_from([0.0, 0.1]),
)
sizes = {
    "width": st.integers(1, 3),
    "expansions": st.integers(1, 3),
    "steps": st.integers(1, 5),
    "aggregation": st.sampled_from(AGGREGATIONS),
}


def path(*texts: str, **fields: Any) -> Path:
    return Path(problem=PROBLEM, texts=texts, **fields)


@given(worlds, st.booleans(), *(sizes[name] for name in sizes))
def test_a_beam_keeps_the_best(world, by_reward, width, expansions, steps, aggregation):
    found = world.run(
        beam(
            PROBLEM,
            width=width,
            expansions=expansions,
            steps=steps,
            aggregation=aggregation,
            by_reward=by_reward,
        )
    )
    grows = [asked for asked in world.rounds if asked.grow]
    assert 1 <= len(grows) <= steps
    # The same again, from the rules alone.
    alive, ended, cut = [Path(problem=PROBLEM)], [], []
    for index, asked in enumerate(grows):
        assert list(asked.grow) == [
            Growth(path=one, count=expansions * (width if index == 0 else 1)) for one in alive
        ]
        assert sum(growth.count for growth in asked.grow) <= width * expansions
        able = []
        for one in merged([new for growth in asked.grow for new in world.grow(growth)]):
            scores = world.score(one)
            if isinstance(scores, str):
                cut.append(replace(one, texts=one.texts[:-1], end=f"not scored ({scores})"))
                continue
            one = replace(one, scores=scores)
            (able if one.end in ("", TURN) else cut).append(one)
        order = sorted(range(len(able)), key=lambda at: (-able[at].reward(aggregation), at))
        kept = [able[at] for at in order[: width - len(ended)]]
        ended += [one for one in kept if one.end]
        alive = [one for one in kept if not one.end]
    reached = {(one.texts, one.end) for one in [*ended, *cut]}
    assert {(one.texts, one.end) for one in found if one.end not in (STEPS, BEATEN)} == reached
    left = [one for one in found if one.end in (STEPS, BEATEN)]
    assert [one.texts for one in left] == [one.texts for one in alive]
    if left and left[0].end == BEATEN:
        assert by_reward
        assert aggregation in FALLING
        most = max(one.reward(aggregation) for one in ended)
        assert all(one.reward(aggregation) <= most for one in left)
    elif left:
        assert len(grows) == steps
    assert all(one.end for one in found)


@given(worlds, st.sampled_from(FALLING), st.integers(1, 3), st.integers(1, 3))
def test_an_early_end_changes_no_choice(world, aggregation, width, expansions):
    chosen = []
    for by_reward in (True, False):
        search = beam(
            PROBLEM,
            width=width,
            expansions=expansions,
            steps=6,
            aggregation=aggregation,
            by_reward=by_reward,
        )
        chosen.append(choose(world.run(search), aggregation, "reward", str.__eq__))
    one, other = chosen
    assert (one is None) == (other is None)
    if one is not None:
        assert (one.texts, one.end) == (other.texts, other.end)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 4), st.sampled_from(FALLING))
def test_a_beam_that_drops_nothing_finds_the_best_there_is(seed, letters, steps, aggregation):
    world = World(seed=seed, letters=letters, exhaustive=True)
    search = beam(
        PROBLEM, width=letters**steps, expansions=letters, steps=steps, aggregation=aggregation
    )
    chosen = choose(world.run(search), aggregation, "reward", str.__eq__)
    leaves, level = [], [Path(problem=PROBLEM)]
    for _ in range(steps):
        level = [world.child(one, number) for one in level for number in range(letters)]
        leaves += [one for one in level if one.end]
        level = [one for one in level if not one.end]
    every = [replace(one, scores=world.score(one)) for one in leaves or level]
    assert chosen.reward(aggregation) == max(one.reward(aggregation) for one in every)


@given(worlds, st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), sizes["aggregation"])
def test_subtrees_never_mix(world, subtrees, expansions, steps, aggregation):
    world.marks = True
    numbers = {"expansions": expansions, "steps": steps, "aggregation": aggregation}
    found = world.run(dvts(PROBLEM, subtrees=subtrees, **numbers))
    for one in found:
        assert len({step.partition("<")[2] for step in one.steps}) <= 1
    for asked in world.rounds:
        counts = {growth.key: growth.count for growth in asked.grow}
        assert len(counts) == len(asked.grow)  # one path a subtree
        assert sum(counts.values()) <= subtrees * expansions
    assert sum(bool(asked.grow) for asked in world.rounds) <= steps
    alone = [
        world.run(beam(PROBLEM, width=1, key=f"subtree {index}", **numbers))
        for index in range(subtrees)
    ]
    assert found == [one for paths in alone for one in paths]


@given(worlds, st.lists(st.sampled_from(["beam", "dvts", "best"]), min_size=0, max_size=4))
def test_searches_together_find_what_each_finds_alone(world, kinds):
    world.ending = max(world.ending, 0.2)  # whole solutions come to an end

    def search(index, kind):
        own = replace(PROBLEM, id=str(index))
        if kind == "best":
            return best_of_n(own, n=index + 2)
        numbers = {"expansions": 2, "steps": 2 + index, "aggregation": "last"}
        if kind == "beam":
            return beam(own, width=2, **numbers)
        return dvts(own, subtrees=2, **numbers)

    searches = [search(index, kind) for index, kind in enumerate(kinds)]
    found = world.run(together(searches))
    count = len(world.rounds)
    alone, lengths = [], [0]
    for index, kind in enumerate(kinds):
        other = World(**(vars(world) | {"rounds": []}))
        alone.append(other.run(search(index, kind)))
        lengths.append(len(other.rounds))
    assert found == alone
    assert count == max(lengths)  # a round serves all


@given(worlds, st.integers(1, 8))
def test_best_of_n_draws_n_and_scores_each_once(world, n):
    world.ending = max(world.ending, 0.2)
    found = world.run(best_of_n(PROBLEM, n=n))
    assert sum(one.count for one in found) == n
    assert [growth.count for asked in world.rounds for growth in asked.grow] == [n]
    scored = [one.texts for asked in world.rounds for one in asked.score]
    assert len(scored) == len(set(scored))


def test_what_reads_the_same_is_one_path_with_a_count():
    paths = [path("a\n\n"), path("b"), path("a"), path("a", end=TURN), path(" a ", count=2)]
    assert [(one.texts, one.end, one.count) for one in merged(paths)] == [
        (("a\n\n",), "", 4),
        (("b",), "", 1),
        (("a",), TURN, 1),
    ]


def test_the_first_of_equal_paths_is_better():
    paths = [path("a", scores=(0.5,)), path("b", scores=(1.0,)), path("c", scores=(0.5,))]
    assert [one.texts for one in best(paths, 2, "min")] == [("b",), ("a",)]


def test_a_step_without_a_score_is_taken_back():
    root = path("a", scores=(0.5,))
    search = grow([Growth(path=root, count=2)])
    next(search)
    ended = replace(root, end=TURN)  # nothing new: not to be scored
    asked = search.send(([[path("a", "b", scores=(0.5,)), ended]], []))
    assert [one.texts for one in asked.score] == [("a", "b")]
    with pytest.raises(StopIteration) as stopped:
        search.send(([], ["1,025 tokens"]))
    first, second = stopped.value.value
    assert first == path("a", scores=(0.5,), end="not scored (1,025 tokens)")
    assert second == ended


def test_scores_for_other_steps_are_a_bug():
    search = grow([Growth(path=Path(problem=PROBLEM), count=1)])
    assert next(search) == Round(grow=(Growth(path=Path(problem=PROBLEM), count=1),))
    search.send(([[path("a")]], []))
    with pytest.raises(ValueError, match="2 scores for 1 steps"):
        search.send(([], [(0.1, 0.2)]))


# The choice


def solution(answer: str, *scores: float, end: str = TURN, count: int = 1) -> Path:
    steps = [f"step {index}\n\n" for index in range(len(scores) - 1)]
    return path(*steps, f"The answer is {answer}.", scores=scores, end=end, count=count)


@pytest.mark.parametrize(
    ("choice", "best_one"), [("reward", "7"), ("majority", "5"), ("weighted", "6")]
)
def test_choices(choice, best_one):
    paths = [
        solution("7", 0.9),
        solution("5", 0.1, count=3),
        solution("6", 0.5),
        solution("6", 0.6),
        solution("8", 1.0, end="length"),  # cut: no candidate where others are whole
        path("no idea", scores=(0.2,), end=TURN),
    ]
    chosen = choose(paths, "min", choice, str.__eq__)
    assert chosen.steps[-1] == f"The answer is {best_one}."
    assert chosen.reward("min") == max(
        one.reward("min") for one in paths if one.steps == chosen.steps or best_one in one.text
    )


def test_a_cut_solution_is_chosen_where_there_is_no_other():
    paths = [path(end="too_long"), solution("8", 0.2, end="length"), solution("9", 0.3, end=STEPS)]
    assert choose(paths, "min", "majority", str.__eq__).steps[-1] == "The answer is 8."
    assert choose(paths, "min", "reward", str.__eq__).steps[-1] == "The answer is 9."
    assert choose(paths[:1], "min", "reward", str.__eq__) is None
    assert choose([], "min", "reward", str.__eq__) is None


def test_negative_rewards_are_no_votes_and_without_answers_the_reward_chooses():
    paths = [solution("5", -2.0), solution("5", -1.0), solution("6", 0.1)]
    assert choose(paths, "last", "weighted", str.__eq__).steps == ("The answer is 6.",)
    silent = [path("hm", scores=(0.1,), end=TURN), path("well", scores=(0.2,), end=TURN)]
    assert choose(silent, "last", "majority", str.__eq__).steps == ("well",)
