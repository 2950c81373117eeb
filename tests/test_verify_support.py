from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verify.support import Support, support

STEPS = (
    "There are 3 * 4 = 12 apples.",
    "Pears are another matter: 5 + 6 = 11.",
    "So 12 - 2 = 10 are left.",
    "The answer is 10.",
)
GIVEN = {Fraction(value) for value in (2, 3, 4, 5, 6)}


def rests_on(steps: tuple[str, ...], answer: int, given: set[Fraction] = GIVEN) -> Support | None:
    return support(steps, Fraction(answer), given)


def test_the_way_back_leaves_out_what_does_not_matter() -> None:
    assert rests_on(STEPS, 10) == Support((0, 2), frozenset({3}))
    assert rests_on(STEPS, 11) == Support((1,), frozenset({3}))


def test_a_value_that_no_equation_comes_out_at() -> None:
    assert rests_on(STEPS, 13) is None
    assert rests_on(("The answer is 10.",), 10) is None
    assert rests_on(("So x = 10.",), 10) is None  # stated, not worked out


def test_the_nearest_source_before_counts() -> None:
    steps = ("2 + 2 = 4", "3 + 3 = 6", "5 - 1 = 4", "4 * 10 = 40", "1 + 3 = 4")
    found = rests_on(steps, 40, set())
    assert found is not None
    assert found.steps == (2, 3)


def test_numbers_of_the_question_are_not_asked_after() -> None:
    steps = ("2 + 2 = 4", "4 * 10 = 40")
    assert rests_on(steps, 40, {Fraction(4)}) == Support((1,), frozenset())
    assert rests_on(steps, 40, set()) == Support((0, 1), frozenset())


def test_a_chain_within_a_step_and_a_value_that_comes_back() -> None:
    chain = rests_on(("3 * 4 = 12", "12 + 8 = 20 = 2 * 10"), 20, set())
    assert chain is not None
    assert chain.steps == (0, 1)
    circle = rests_on(("5 * 2 = 10", "10 / 2 = 5", "5 * 2 = 10"), 10, set())
    assert circle is not None
    assert circle.steps == (0, 1, 2)


@given(st.lists(st.tuples(st.integers(11, 30), st.integers(11, 30)), min_size=1, max_size=8))
def test_a_running_sum_rests_on_all_its_steps(pairs: list[tuple[int, int]]) -> None:
    total, steps = 1000, []
    for first, second in pairs:
        steps.append(f"{total} + {first * second} = {total + first * second}")
        total += first * second
    found = support(steps, Fraction(total), set())
    assert found == Support(tuple(range(len(steps))), frozenset())


@pytest.mark.parametrize("text", ["", "=", "1 = ", "= 1", "x = y = 3", "1 + 1 = 2 = "])
def test_nothing_raises(text: str) -> None:
    support((text, text), Fraction(2), set())
