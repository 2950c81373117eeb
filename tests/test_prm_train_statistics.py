"""Statistics of training data: counts by hand, percentiles, the table, and warnings."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import sums
from hypothesis import given
from hypothesis import strategies as st

from prm.records import LabelledSolution, Solution
from prm.train.losses import LossConfig
from prm.train.statistics import Classes, Spread, Statistics, summary, text, warnings


def item(*labels: float, generator: str = "a", answer: str | None = None, **keys: Any) -> Any:
    solution = Solution(
        id="1",
        problem="1 + 1?",
        steps=tuple("step" for _ in labels),
        generator=generator,
        answer=answer,
        reference=keys.pop("reference", None),
    )
    return LabelledSolution(solution=solution, labels=labels, **keys)


ITEMS = [
    item(1.0, 0.7, 0.5, answer="2", reference="1 + 1 = 2"),
    item(1.0, 0.0, 0.25, 1.0, generator="b", weight=0.5, agreement=(1.0, 0.75, 0.75, 1.0)),
    item(0.0, generator="b", answer="2"),
    item(1.0, 1.0),
    item(1.0, 1.0),
]
LENGTHS = [30, 50, 10, 20, 20]


def found(items: list[Any], loss: LossConfig | None = None) -> Statistics:
    return summary(items, [10] * len(items), loss or LossConfig())


def test_summary_by_hand() -> None:
    assert summary(iter(ITEMS), iter(LENGTHS), LossConfig()) == Statistics(
        generators={
            "a": Classes(solutions=3, with_error=0, right=7, wrong=0, soft=2),
            "b": Classes(solutions=2, with_error=2, right=2, wrong=3, soft=1),
        },
        left_out=0,
        answers=2,
        references=1,
        tokens=Spread(minimum=10, median=20, p95=50, maximum=50),
        steps=Spread(minimum=1, median=2, p95=4, maximum=4),
        weights=Spread(minimum=0.5, median=1.0, p95=1.0, maximum=1.0),
    )


def test_generators_stand_by_their_solutions_then_by_name() -> None:
    items = [item(1.0, generator=name) for name in "cbbca"]
    assert list(found(items).generators) == ["b", "c", "a"]


def test_all_adds_the_generators_up() -> None:
    everything = summary(ITEMS, LENGTHS, LossConfig()).all
    assert everything == Classes(solutions=5, with_error=2, right=9, wrong=3, soft=3)
    assert everything.steps == 12


@pytest.mark.parametrize(
    ("loss", "classes", "left_out"),
    [
        (LossConfig(after_first_error="ignore"), (9 - 1, 3 - 1, 3 - 1), 2),
        (LossConfig(steps="last"), (4, 1, 1), 7),
    ],
)
def test_classes_are_those_that_the_loss_sees(
    loss: LossConfig, classes: tuple[int, int, int], left_out: int
) -> None:
    statistics = found(ITEMS, loss)
    everything = statistics.all
    assert (everything.right, everything.wrong, everything.soft) == classes
    assert statistics.left_out == left_out
    assert statistics.steps.maximum == 4  # of the whole solutions all the same


def test_weights_are_those_of_labelled_steps() -> None:
    loss = LossConfig(agreement="weigh", last_step_weight=4)
    spread = found([ITEMS[1]], loss).weights
    assert (spread.minimum, spread.median, spread.maximum) == (0.25, 0.25, 2.0)
    loss.after_first_error = "ignore"
    assert found([ITEMS[1]], loss).weights.maximum == 0.5


@given(st.lists(st.integers(1, 9), min_size=1, max_size=120))
def test_percentiles_are_nearest_ranks(lengths: list[int]) -> None:
    spread = summary([item(1.0)] * len(lengths), lengths, LossConfig()).tokens
    order = sorted(lengths)
    assert (spread.minimum, spread.maximum) == (order[0], order[-1])
    for percent, value in ((50, spread.median), (95, spread.p95)):
        assert value == order[math.ceil(percent * len(order) / 100) - 1]


def test_percentiles_of_a_hundred() -> None:
    spread = summary([item(1.0)] * 100, range(100, 0, -1), LossConfig()).tokens
    assert spread == Spread(minimum=1, median=50, p95=95, maximum=100)


def test_the_order_of_solutions_changes_nothing() -> None:
    items = sums.labelled(30)
    lengths = [len(entry.solution.problem) for entry in items]
    pairs = list(zip(items, lengths, strict=True))
    random.Random(0).shuffle(pairs)
    shuffled = summary((pair[0] for pair in pairs), (pair[1] for pair in pairs), LossConfig())
    assert shuffled == summary(items, lengths, LossConfig())


def test_nothing_to_describe() -> None:
    with pytest.raises(ValueError, match="no solutions"):
        summary([], [], LossConfig())
    with pytest.raises(ValueError, match="shorter"):
        summary(ITEMS, [1], LossConfig())


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([item(1.0, 0.7)], "no step is wrong: a model can learn no more than to call every step r"),
        ([item(0.0), item(0.4)], "no step is right: a model can learn no more than to call every"),
        ([item(*[1.0] * 10, 0.0)], "90.9% of the steps are right: the model may call every step r"),
        ([item(*[0.0] * 11, 0.6)], "91.7% of the steps are wrong"),
    ],
)
def test_warnings_of_one_sided_classes(items: list[Any], message: str) -> None:
    [warning] = warnings(found(items))
    assert message in warning


@pytest.mark.parametrize(
    "items",
    [
        [item(*[1.0] * 9, 0.0)],  # nine in ten, and not more
        [item(*[0.0] * 9, 1.0)],
        [item(1.0, 0.0)],  # hard labels are fine
        [item(0.6, 0.4)],
    ],
)
def test_no_warnings(items: list[Any]) -> None:
    assert warnings(found(items)) == []


def test_a_warning_is_of_what_the_loss_sees() -> None:
    items = [item(1.0, 0.0, 0.0, 0.0, 1.0)]
    assert warnings(found(items)) == []
    [warning] = warnings(found(items, LossConfig(steps="last")))
    assert "no step is wrong" in warning


def test_the_table() -> None:
    items = [*ITEMS, item(0.0, 0.0, generator="")]
    assert text(summary(items, [*LENGTHS, 1200], LossConfig())).splitlines() == [
        "generator  solutions  with error  steps   right   wrong   soft",
        "a                  3        0.0%      7  100.0%    0.0%  28.6%",
        "b                  2      100.0%      5   40.0%   60.0%  20.0%",
        "(no name)          1      100.0%      2    0.0%  100.0%   0.0%",
        "all                6       50.0%     14   64.3%   35.7%  21.4%",
        "",
        "of each           min  median   p95   max",
        "solution: tokens   10      20  1200  1200",
        "solution: steps     1       2     4     4",
        "step: weight      0.5       1     1     1",
        "",
        "reference 16.7%, answer 33.3% of the solutions; 0 steps left out by the loss",
    ]


def test_many_generators_are_added_up() -> None:
    items = [item(1.0, 0.0, generator=f"policy {number:02}") for number in range(20)]
    lines = text(found(items)).splitlines()
    assert [line.split("  ")[0] for line in lines[1:10]] == [
        *(f"policy {number:02}" for number in range(7)),
        "13 others",
        "all",
    ]
    assert lines[8].split()[2:4] == ["13", "100.0%"]
    assert lines[9].split()[1] == "20"


def test_one_generator_needs_no_sum() -> None:
    assert "all" not in [line.split()[0] for line in text(found([ITEMS[0]])).splitlines() if line]
