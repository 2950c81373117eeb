"""The benchmarks of step separation: what they count, and the bars on the public data."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotate.pieces import RulesConfig
from benchmarks.split_cost import boundary_answer, rewrite_answer
from benchmarks.split_quality import boundaries, measure, texts_of

STEPS = ("We add 3. Then 4.", "So  it is 7.", "End.")


def test_boundaries_are_places_among_the_characters_that_are_no_white_space() -> None:
    assert boundaries(STEPS) == {13, 21}
    assert boundaries(["We add 3.Then 4.", "So it is\n7.", "End."]) == {13, 21}
    assert boundaries(["One."]) == set()


@pytest.mark.parametrize(
    ("setting", "found", "found_true", "exact"),
    [("blank", 2, 2, 1), ("line", 2, 2, 1), ("mixed", 1, 1, 0), ("space", 3, 2, 0)],
)
def test_a_score_counts_the_boundaries_of_all_texts(
    setting: str, found: int, found_true: int, exact: int
) -> None:
    score = measure([STEPS, ("One.",)], setting, RulesConfig())
    assert (score.found, score.found_true, score.true) == (found, found_true, 2)
    assert (score.exact, score.texts) == (exact + 1, 2)
    assert len(score.wrong) == found + 2 - 2 * found_true
    row = score.row()
    assert row["precision"] == found_true / found
    assert row["recall"] == found_true / 2
    assert row["f1"] == pytest.approx(2 * found_true / (found + 2))


def test_answers_are_those_that_give_the_true_steps() -> None:
    assert boundary_answer(STEPS) == ("[1,3,4]", 0)
    # The formula joins the words before it, so no piece begins at the second step.
    assert boundary_answer(("We see", "$$x$$", "End.")) == ("[1,2]", 1)
    assert rewrite_answer(STEPS[1:]) == ' "So  it is 7.", "Step 2": "End."}'


@pytest.mark.data
def test_rules_find_the_steps_that_blank_lines_or_line_ends_separate(data_dir: Path) -> None:
    bars = {"processbench gsm8k": 0.98, "processbench math": 0.93, "prmbench": 0.99}
    for name, texts in texts_of(data_dir).items():
        assert measure(texts, "blank", RulesConfig()).row()["f1"] > 0.99
        assert measure(texts, "line", RulesConfig()).row()["f1"] > bars[name]
