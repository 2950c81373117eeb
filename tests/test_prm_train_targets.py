"""What each step is trained on: targets and weights by hand, for every option and its refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm.errors import RecordError
from prm.records import LabelledSolution, Solution
from prm.train.losses import IGNORE, LossConfig
from prm.train.targets import targets


def item(*labels: float, agreement=None, weight: float = 1.0) -> LabelledSolution:
    solution = Solution(id="s1", problem="1 + 1?", steps=tuple("abcdefgh"[: len(labels)]))
    return LabelledSolution(solution=solution, labels=labels, agreement=agreement, weight=weight)


def test_soft_labels_pass_as_they_are_with_the_weight_of_the_solution():
    given = item(0.7, 0.25, 1.0, weight=0.3)
    assert targets(given, LossConfig()) == ([0.7, 0.25, 1.0], [0.3, 0.3, 0.3])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((1.0, 0.4, 1.0, 0.0), [1.0, 0.4, IGNORE, IGNORE]),
        ((0.0, 1.0), [0.0, IGNORE]),
        ((1.0, 0.5, 0.5), [1.0, 0.5, 0.5]),  # a half is not below a half
        ((1.0, 0.49), [1.0, 0.49]),
    ],
)
def test_steps_after_the_first_error_can_be_left_out(labels, expected):
    assert targets(item(*labels), LossConfig(after_first_error="ignore"))[0] == expected


def test_an_outcome_model_learns_the_last_steps_own_label():
    config = LossConfig(steps="last")
    assert targets(item(0.0, 1.0, 0.8), config)[0] == [IGNORE, IGNORE, 0.8]
    assert targets(item(0.6), config)[0] == [0.6]


def test_weights_by_agreement():
    agreement = (1.0, 0.75, 0.5)
    given = item(1.0, 0.25, 0.5, agreement=agreement, weight=0.5)
    labels, weights = targets(given, LossConfig(agreement="weigh"))
    # 2 a − 1 = 1, ½, 0, times the solution's ½. A tie keeps its label and weighs nothing.
    assert (labels, weights) == ([1.0, 0.25, 0.5], [0.5, 0.25, 0.0])
    assert targets(given, LossConfig())[1] == [0.5, 0.5, 0.5]


def test_the_last_step_can_weigh_more():
    config = LossConfig(last_step_weight=3.0, agreement="weigh")
    given = item(1.0, 1.0, agreement=(0.75, 0.75), weight=0.5)
    assert targets(given, config)[1] == [0.25, 0.75]
    # The last step of the solution, also where it is left out.
    masked = LossConfig(last_step_weight=3.0, after_first_error="ignore")
    assert targets(item(0.0, 1.0), masked) == ([0.0, IGNORE], [1.0, 3.0])


def test_weights_by_agreement_need_agreement():
    config = LossConfig(agreement="weigh")
    with pytest.raises(RecordError, match=r"'s1' has no agreement.*loss\.agreement: ignore"):
        targets(item(1.0), config)
    with pytest.raises(RecordError, match=r"field 'agreement\.1': .*'s1': 0\.4 is no majority"):
        targets(item(1.0, 0.0, agreement=(1.0, 0.4)), config)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
    st.sampled_from(["keep", "ignore"]),
    st.sampled_from(["all", "last"]),
    st.floats(0.1, 5.0),
)
def test_every_solution_keeps_a_target_and_no_label_changes(labels, after, steps, last):
    if (after, steps) == ("ignore", "last"):
        after = "keep"
    config = LossConfig(after_first_error=after, steps=steps, last_step_weight=last)
    made, weights = targets(item(*labels), config)
    assert len(made) == len(weights) == len(labels)
    assert all(new in (old, IGNORE) for new, old in zip(made, labels, strict=True))
    assert any(new != IGNORE for new in made)
    assert min(weights) > 0
