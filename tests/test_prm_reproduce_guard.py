"""Numbers that must not fall, and two runs of other seeds beside each other."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reproduced import F1, best_of_n, claim, estimate, figure, judge, results, row, search

from prm.cli import main
from prm.errors import ConfigError, PRMError
from prm.reproduce import agreement, guard, stage
from prm.reproduce.figure import Results, Row, read
from prm.reproduce.guard import check, compare
from universalbench.results import Estimate

# ── the guard ────────────────────────────────────────────────────────────────────────────────


def one_row(value: Estimate, headline: bool = True, name: str = "soft") -> Results:
    made = Row(name=name, metric="F1", value=value, seeds=(value.value,) * 3, headline=headline)
    return results(figure("judge", [made]))


@given(st.floats(0, 1), st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted))
def test_a_headline_falls_below_the_lower_end_alone(value: float, interval: list[float]) -> None:
    recorded = one_row(Estimate(value=sum(interval) / 2, interval=tuple(interval)))
    findings = compare(recorded, one_row(estimate(value)))
    assert bool(findings.wrong) == (value < interval[0])
    assert findings.told == ()


def test_the_same_results_are_no_finding() -> None:
    made = results(judge(), best_of_n(), search())
    assert compare(made, made) == guard.Findings((), ())
    check(compare(made, made), "short.json")


def test_a_fall_is_told_in_one_line() -> None:
    recorded = one_row(Estimate(value=0.8, interval=(0.75, 0.85)))
    findings = compare(recorded, one_row(estimate(0.7)))
    with pytest.raises(PRMError) as caught:
        check(findings, "configs/short.json")
    assert str(caught.value) == (
        "figure judge, soft, F1: 0.700 now, recorded as 0.800 [0.750, 0.850]: find what changed, "
        "or, if it is meant, copy results.json to configs/short.json and say why in docs/log.md"
    )
    two = guard.Findings((*findings.wrong, "another"), ())
    with pytest.raises(PRMError, match=r"0\.850\] \(and 1 more\): find"):
        check(two, "x")


def test_what_is_no_headline_may_fall() -> None:
    recorded = one_row(estimate(0.8), headline=False)
    assert compare(recorded, one_row(estimate(0.1))) == guard.Findings((), ())


def test_no_change_of_a_figure_takes_a_headline_out_of_the_guard() -> None:
    recorded, now = one_row(estimate(0.8)), one_row(estimate(0.7), headline=False)
    assert compare(recorded, now).wrong == (
        "figure judge, soft, F1: 0.700 now, recorded as 0.800 [0.780, 0.820]",
    )


def test_a_number_that_is_gone_is_an_error() -> None:
    recorded = one_row(estimate(0.8), headline=False)
    gone = "figure judge, soft, F1: recorded as 0.800 [0.780, 0.820], and no longer measured"
    assert compare(recorded, one_row(estimate(0.8), name="other")).wrong == (gone,)
    assert compare(recorded, results()).wrong == (gone,)
    without = one_row(Estimate(value=None, why="nothing to measure"))
    assert compare(one_row(estimate(0.8)), without).wrong == (
        "figure judge, soft, F1: no value now, recorded as 0.800 [0.780, 0.820]",
    )


def test_what_is_new_or_guards_nothing_is_told() -> None:
    recorded = one_row(estimate(0.8))
    now = results(*recorded.figures, best_of_n())
    assert compare(recorded, now) == guard.Findings(
        (),
        ("figure best_of_n, candidates, majority at 1, right answers (and 20 more): new; record "
         "anew to guard it",),
    )  # fmt: skip
    bare = one_row(Estimate(value=0.8, why="few"))
    assert "without an interval" in compare(bare, bare).told[0]
    assert "other seeds or sizes" in compare(recorded, replace(recorded, seeds=(1,))).told[0]
    assert "other seeds or sizes" in compare(recorded, replace(recorded, size={"pool": 1})).told[0]


def test_rows_that_cannot_be_told_apart_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="soft"):
        results(figure("judge", [row("soft", 0.8), row("soft", 0.7)])).rows()


# ── the command ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A figure whose number stands in its module, of one cell that trains nothing."""
    module = types.ModuleType("prm.reproduce.figures.toy")
    module.value = 0.8  # type: ignore[attr-defined]
    module.declare = lambda lab: lab.add("cell", "cell_stage")  # type: ignore[attr-defined]
    module.measure = lambda lab: figure(  # type: ignore[attr-defined]
        "toy", [row("soft", module.value, headline=True)], [claim("better", 0.1)]
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(stage, "FIGURES", ("toy",))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "world.yaml").write_text(
        "{problems: x, labels: x, policies: [{name: p, engine: {model: x}}], chooser: p, "
        "judge: {model: x}, prompts: x, base: x}"
    )
    return module


def test_the_command_guards_its_numbers_and_writes_them_first(
    toy: types.ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reproduce", "out=out", "world=world.yaml", "jobs=1"]
    assert main([*command, "recorded=kept.json"]) == 2
    assert "kept.json: cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()  # before anything is computed

    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "The toy (2,016 solutions)\n  Holds here: better\n" in shown
    assert "0.800 [0.780, 0.820]" in shown
    (tmp_path / "out/results.json").rename("kept.json")
    assert main([*command, "recorded=kept.json"]) == 0
    fine = "recorded: no headline number fell below its interval in kept.json"
    assert capsys.readouterr().out.count("recorded:") == 1
    assert main([*command, "recorded=kept.json"]) == 0
    assert fine in capsys.readouterr().out

    toy.value = 0.5  # type: ignore[attr-defined]
    (tmp_path / "out/report.html").unlink()
    assert main([*command, "recorded=kept.json"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("prm reproduce: figure toy, soft, F1 (mean of right and wrong steps): ")
    assert "0.500 now, recorded as 0.800 [0.780, 0.820]" in error
    assert "copy results.json to kept.json" in error
    (made,) = read("out/results.json").figures
    assert made.rows[0].value.value == 0.5
    assert "0.500" in (tmp_path / "out/report.html").read_text()
    assert "0.500" in (tmp_path / "out/report.md").read_text()


# ── two seed sets ────────────────────────────────────────────────────────────────────────────

A = results(
    figure(
        "judge",
        [
            row("both", 0.80, headline=True),
            row("neither", 0.70),
            Row(name="wide", metric=F1, value=estimate(0.5, 0.2), seeds=(0.5,) * 3),
            row("gone", 0.6),
            Row(name="bare", metric=F1, value=Estimate(value=0.5, why="few"), seeds=(0.5,) * 3),
        ],
        [claim("same", 0.1), claim("turned", 0.1), claim("less", 0.1)],
    )
)
B = results(
    figure(
        "judge",
        [
            row("both", 0.81, headline=True),
            row("neither", 0.75),
            Row(name="wide", metric=F1, value=estimate(0.6, 0.05), seeds=(0.6,) * 3),
            row("bare", 0.5),
        ],
        [claim("same", 0.2), claim("turned", -0.1), claim("less", 0.0)],
    ),
    seeds=(21, 22, 23),
)


def test_rows_and_verdicts_are_compared_both_ways() -> None:
    found = agreement.compare(A, B)
    assert {pair.one.name: pair.inside for pair in found.pairs} == {
        "both": (True, True),
        "neither": (False, False),
        "wide": (False, True),  # 0.5 is not in [.55, .65]; 0.6 is in [.3, .7]
        "bare": None,
    }
    back = agreement.compare(B, A)
    assert {pair.one.name: pair.inside for pair in back.pairs}["wide"] == (True, False)
    assert found.alone == back.alone == [f"judge, gone, {F1}"]
    assert found.told == [
        "1 of 3 rows lie within each other's interval; one by one 3 of 6 (50 %) of the values lie "
        "in the other's",
        "1 of 1 headline rows lie within each other's interval; one by one 2 of 2 (100 %) of the "
        "values lie in the other's",
        "1 of 3 claims got the same verdict; 1 hold in one run and fail in the other",
        f"1 rows stand in one run alone, as judge, gone, {F1}",
    ]


def test_the_report_is_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, made in (("A", A), ("B", B)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(made.json())
    assert main(["report", "reproduce", "A", "B", "out=agreed"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("1 of 3 rows lie within each other's interval")
    assert shown.endswith("report reproduce → agreed/agreement.md\n")
    text = (tmp_path / "agreed/agreement.md").read_text()
    assert "A: A (seeds 11, 12, 13)" in text
    assert "| judge | neither, F1 (mean of right and wrong steps) | 0.700" in text
    assert "| turned F1 (mean of right and wrong steps) | holds | fails | +0.100" in text


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(B, seeds=(21, 12)), "both have seed 12"),
        (replace(B, size={"pool": 1}), "other worlds or sizes"),
        (replace(B, world="w"), "other worlds or sizes"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(
    tmp_path: Path, other: Results, message: str
) -> None:
    for name, made in (("A", A), ("B", other)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(made.json())
    runs = [str(tmp_path / "A"), str(tmp_path / "B")]
    with pytest.raises(ConfigError, match=message):
        agreement.run(agreement.Config(runs=runs, out=str(tmp_path / "out")))
    with pytest.raises(ConfigError, match="two folders of prm reproduce, got 1"):
        agreement.run(agreement.Config(runs=runs[:1]))


def test_chance_alone_leaves_five_values_in_six_inside() -> None:
    """What the report says to expect, drawn: two means of one truth with the same error."""
    import numpy as np

    draw = np.random.default_rng(1).normal(size=(2, 200_000))
    inside = np.abs(draw[0] - draw[1]) < 1.96
    assert 100 * inside.mean() == pytest.approx(agreement.EXPECTED, abs=0.5)
