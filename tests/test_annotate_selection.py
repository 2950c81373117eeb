"""Which sampled solutions are kept."""

from __future__ import annotations

from collections import Counter

from annotate.selection import set_aside
from prm.records import Solution


def written(
    name: str, text: str, generator: str = "a", problem: str = "What is 1 + 1?"
) -> Solution:
    return Solution(id=name, problem=problem, steps=(text,), generator=generator)


def test_equal_texts_about_one_problem_are_kept_once_whoever_wrote_them() -> None:
    items = [
        written("1", "It is 2."),
        written("2", "It  is\n2.", generator="b"),
        written("3", "It is 3."),
        written("4", "It is 2.", problem="What is 4 / 2?"),
    ]
    assert set_aside(items, distinct=True, balanced=False, seed=0) == {"2": "the same text as 1"}
    assert set_aside(items, distinct=False, balanced=False, seed=0) == {}


def test_words_do_not_run_from_the_problem_into_the_solution() -> None:
    items = [written("1", "b c", problem="a"), written("2", "c", problem="a b")]
    assert set_aside(items, distinct=True, balanced=False, seed=0) == {}


def test_generators_are_balanced_by_a_seeded_lot() -> None:
    items = [
        written(f"{name}{i}", f"It is {i}.", name) for name in "abc" for i in range(ord(name) - 90)
    ]
    left = set_aside(items, distinct=False, balanced=True, seed=0)
    kept = Counter(item.generator for item in items if item.id not in left)
    assert kept == {"a": 7, "b": 7, "c": 7}
    assert left == set_aside(list(reversed(items)), distinct=False, balanced=True, seed=0)
    assert left != set_aside(items, distinct=False, balanced=True, seed=1)


def test_duplicates_do_not_count_when_generators_are_balanced() -> None:
    items = [written("1", "x"), written("2", "x"), written("3", "y", "b"), written("4", "z", "b")]
    left = set_aside(items, distinct=True, balanced=True, seed=0)
    assert left["2"] == "the same text as 1"
    assert len(left) == 2
    assert set(left) & {"3", "4"}
