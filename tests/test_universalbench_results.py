"""What a run folder says, and that a report can work it out again from the folder alone."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import sums
from benchmark import benchmarks, item, literal_f1, literal_first_f1
from hypothesis import given, settings
from hypothesis import strategies as st

from prm import jsonl, metrics
from prm.config import load as load_config
from prm.engines.fake import ScriptedEngine
from prm.errors import ConfigError, RecordError
from prm.records import Annotation, Judgment, LabelledSolution, Solution
from prm.scorers import CritiqueConfig, ScorerConfig
from prm.scorers.generative import GenerativeScorer
from prm.sources import Source
from prm.zoo import catalog
from universalbench import form, results, stage
from universalbench.comparison import Side, compare
from universalbench.measures import (
    DEFINITIONS,
    HEADLINES,
    STEP_METRICS,
    first_error_f1,
    first_table,
    measure,
    measured,
    sweep,
)
from universalbench.predictors import Predictor, PredictorConfig
from universalbench.resampling import DRAWS, PERMUTATIONS, part
from universalbench.results import Item, ItemScores, PredictorRecord, Results
from universalbench.rows import POINTS, Measured, build
from universalbench.tasks import TaskConfig
from universalbench.thresholds import Chosen, tune

MICRO = Path(__file__).parents[1] / "universalbench" / "data" / "micro.jsonl"
CUT = 0.5


def micro(name: str = "all", generators: tuple[str, ...] = ()) -> TaskConfig:
    return TaskConfig(name, "steps", Source(path=str(MICRO)), list(generators))


def bench(out: Path, tasks, *predictors: PredictorConfig, seed: int = 0) -> Results:
    stage.run(stage.Config(out=str(out), tasks=list(tasks), predictors=list(predictors), seed=seed))
    return results.read(out / "results.json")


LONG = {"baseline": "long_steps"}
SHORT = {"baseline": "short_steps"}


# ── the files ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "run"
    bench(
        out,
        [micro(), micro("long", ("long-middle",))],
        PredictorConfig("always wrong", baseline="first_wrong"),
        PredictorConfig("long", **LONG, threshold="all"),
        PredictorConfig("long, half", **LONG, threshold="all", threshold_split=0.5),
        PredictorConfig("short", **SHORT, threshold="all"),
    )
    return out


def test_the_f1s_are_those_of_the_first_release(folder):
    """Values that `prm bench` gave for these scores before its results had this form."""
    found = {(row.task, row.predictor): row for row in results.read(folder / "results.json").rows}
    expected = {
        ("all", "always wrong"): (0.5, 0.4448078495502862, 0.5),
        ("long", "always wrong"): (0.5, 0.38125, 0.5),
        ("all", "long"): (-15.999999999999998, 0.4448078495502862, 0.4708542244217275),
        ("long", "long"): (-15.999999999999998, 0.38125, 0.5144684550422255),
        ("all", "short"): (64.5, 0.4494274809160305, 0.5291457755782726),
        ("long", "short"): (64.5, 0.33793103448275863, 0.48553154495777445),
    }
    for key, (threshold, f1, auroc) in expected.items():
        row = found[key]
        assert row.threshold.value == threshold
        assert row.metrics["f1_wrong"].value == pytest.approx(f1, abs=1e-15)
        assert row.metrics["auroc"].value == pytest.approx(auroc, abs=1e-15)
        assert row.metrics["first_error_f1"].value == 0.0


def test_the_folder_alone_tells_how_every_number_came(folder):
    found = results.read(folder / "results.json")
    items: dict[str, list[Item]] = {}
    for entry in jsonl.read(folder / "items.jsonl", Item):
        items.setdefault(entry.task, []).append(entry)
    scores: dict[tuple[str, str], dict[str, ItemScores]] = {}
    for entry in jsonl.read(folder / "scores.jsonl", ItemScores):
        scores.setdefault((entry.predictor, entry.task), {})[entry.solution_id] = entry
    assert [task.solutions for task in found.tasks] == [len(rows) for rows in items.values()]
    for row in found.rows:
        chosen = items[row.task]
        if row.threshold.how == "split":
            out = part([entry.problem_key for entry in items[row.threshold.task]], 0.5, 0)
            chosen = [entry for entry in chosen if entry.problem_key not in out]
        said = scores[row.scores_of, row.task]
        rows = [said[entry.solution_id].scores for entry in chosen]
        cut = row.threshold.value
        assert row.solutions == len(chosen)
        assert row.metrics["f1_wrong"].value == pytest.approx(literal_f1(chosen, rows, cut))
        right = literal_f1(chosen, rows, cut, positive=False)
        assert row.metrics["f1_right"].value == pytest.approx(right)
        first = literal_first_f1(chosen, rows, cut)
        assert row.metrics["first_error_f1"].value == pytest.approx(first)


def test_items_say_what_is_known(folder):
    source = list(jsonl.read(MICRO, LabelledSolution))
    items = list(jsonl.read(folder / "items.jsonl", Item))
    for entry, known in zip(items, source, strict=False):
        assert (entry.task, entry.solution_id) == ("all", known.solution.id)
        assert (entry.problem, entry.steps) == (known.solution.problem, known.solution.steps)
        assert entry.wrong == tuple(label == 0.0 for label in known.labels)
        assert entry.first_error == (entry.wrong.index(True) if True in entry.wrong else -1)
        assert entry.generator == known.solution.generator
        assert entry.has_reference
        assert entry.has_answer
    assert len(items) == 500  # the second task holds a hundred of them again
    assert {entry.task for entry in items[400:]} == {"long"}


def test_how_the_results_were_made_is_said(folder):
    found = results.read(folder / "results.json")
    assert (found.sampling.seed, found.sampling.draws) == (0, DRAWS)
    assert (found.sampling.permutations, found.sampling.cluster) == (PERMUTATIONS, "problem")
    assert {"aurora-prm", "torch", "transformers"} <= set(found.versions)
    assert "out" not in found.config
    assert found.config["predictors"][2]["threshold_split"] == 0.5
    shown = {name for row in found.rows for name in row.metrics}
    shown |= {part.metric for row in found.rows for part in row.slices} | {"ece", "brier"}
    assert shown <= set(found.definitions)
    # Rows that differ in their thresholds alone share one pass.
    assert [record.id for record in found.predictors] == ["always wrong", "long", "short"]
    assert [row.scores_of for row in found.rows if row.predictor == "long, half"] == ["long"] * 2
    assert {cost.task for cost in found.costs} == {None, "all", "long"}
    assert all(cost.solutions == 400 for cost in found.costs if cost.task == "all")


def test_results_are_read_as_they_were_written(folder, tmp_path):
    found = results.read(folder / "results.json")
    results.write(tmp_path / "again.json", found)
    assert (tmp_path / "again.json").read_bytes() == (folder / "results.json").read_bytes()


def test_results_that_are_not_ours_are_refused(folder, tmp_path):
    text = json.loads((folder / "results.json").read_text())
    path = tmp_path / "results.json"
    with pytest.raises(RecordError, match=r"no such file; give the folder of a `prm bench` run"):
        results.read(path)
    path.write_text(json.dumps(text | {"extra": 1}))
    with pytest.raises(RecordError, match="'extra': unknown field"):
        results.read(path)
    path.write_text(json.dumps(text | {"version": 99}))
    with pytest.raises(RecordError, match="version 99; this is"):
        results.read(path)
    text["rows"][0]["metrics"]["f1_wrong"]["value"] = "0.5"
    path.write_text(json.dumps(text))
    with pytest.raises(RecordError, match=r"rows\.0\.metrics\.f1_wrong\.value"):
        results.read(path)


def test_another_truth_is_another_task():
    items = [item(i, [True, False]) for i in range(3)]
    assert results.digest(items) == results.digest(list(items))
    relabelled = [*items[:2], replace(items[2], wrong=(True, True))]
    others = [items[:2], items[::-1], relabelled, [*items[:2], replace(items[2], digest="0" * 16)]]
    assert len({results.digest(found) for found in [items, *others]}) == 5


def test_a_score_has_a_reason_or_a_value():
    with pytest.raises(ValueError, match="exactly one of scores and reason"):
        ItemScores(predictor="p", task="t", solution_id="s", scores=None)
    with pytest.raises(ValueError, match="exactly one of scores and reason"):
        ItemScores(predictor="p", task="t", solution_id="s", scores=(1.0,), reason="r")


# ── metrics of a row ─────────────────────────────────────────────────────────────────────────

RECORD = PredictorRecord(id="p", kind="baseline", model="m")


def row_of(items, scores, *, kind="steps", cut=CUT):
    rows = [
        ItemScores(
            predictor="p",
            task="t",
            solution_id=entry.solution_id,
            scores=None if row is None else tuple(row),
            reason="too long" if row is None else None,
        )
        for entry, row in zip(items, scores, strict=True)
    ]
    given = results.Cut(value=cut, how="given", source="given")
    part = Measured("t", kind, items, items, rows, 0, 0, given, Chosen(given))
    return build("p", RECORD, part, measure(HEADLINES[kind], items), None, 0)


@settings(max_examples=40)
@given(benchmarks(most=10))
def test_every_step_metric_is_counted_literally(case):
    items, scores = case
    row = row_of(items, scores)
    pairs = [
        (wrong, said[index] < CUT if said is not None else not wrong)
        for entry, said in zip(items, scores, strict=True)
        for index, wrong in enumerate(entry.wrong)
    ]
    hit = pairs.count((True, True))
    alarm, missed = pairs.count((False, True)), pairs.count((True, False))
    rest = pairs.count((False, False))
    counts = row.counts
    assert (counts.true_positive, counts.false_positive) == (hit, alarm)
    assert (counts.false_negative, counts.true_negative) == (missed, rest)

    def share(top, bottom):
        return pytest.approx(top / bottom) if bottom else None

    shown = {name: found.value for name, found in row.metrics.items()}
    assert shown["f1_wrong"] == share(2 * hit, 2 * hit + alarm + missed)
    assert shown["f1_right"] == share(2 * rest, 2 * rest + alarm + missed)
    assert shown["accuracy"] == share(hit + rest, len(pairs))
    assert shown["precision_wrong"] == share(hit, hit + alarm)
    assert shown["recall_wrong"] == share(hit, hit + missed)
    assert shown["false_alarm_rate"] == share(alarm, alarm + rest)
    if shown["f1_wrong"] is None or shown["f1_right"] is None:
        assert shown["f1_macro"] is None
    else:
        assert shown["f1_macro"] == pytest.approx((shown["f1_wrong"] + shown["f1_right"]) / 2)
    first = literal_first_f1(items, scores, CUT)
    assert shown["first_error_f1"] == (None if first is None else pytest.approx(first))
    # And as the functions that training uses count them, which put 0 for 0/0.
    there = metrics.step_f1([wrong for wrong, _ in pairs], [said for _, said in pairs])
    assert (shown["f1_wrong"] or 0.0) == pytest.approx(there.f1)
    assert (shown["f1_right"] or 0.0) == pytest.approx(there.f1_right)


@settings(max_examples=100)
@given(benchmarks(most=8), st.data())
def test_not_scoring_a_solution_never_raises_a_metric(case, data):
    items, scores = case
    place = data.draw(st.integers(0, len(items) - 1))
    fewer = [None if index == place else row for index, row in enumerate(scores)]
    before, after = row_of(items, scores).metrics, row_of(items, fewer).metrics
    for name in before:
        one, other = before[name].value, after[name].value
        if one is None or other is None:  # 0/0 where nothing was called wrong
            continue
        if name == "false_alarm_rate":
            one, other = -one, -other
        assert other <= one + 1e-12, name
    assert {"f1_macro", "accuracy", "auroc", "average_precision", "first_error_f1"} < set(before)


@settings(max_examples=40)
@given(benchmarks(most=10))
def test_a_mean_over_subsets_is_the_plain_mean_of_what_each_has(case):
    items, scores = case
    row = row_of(items, scores, kind="universalbench")
    assert row.headline == "subset_mean_f1_wrong"
    parts = []
    for name in dict.fromkeys(entry.subset for entry in items):
        inside = [i for i, entry in enumerate(items) if entry.subset == name]
        parts.append(literal_f1([items[i] for i in inside], [scores[i] for i in inside], CUT))
    found = row.metrics["subset_mean_f1_wrong"].value
    assert found == (None if None in parts else pytest.approx(sum(parts) / len(parts)))


def test_a_mean_over_subsets_by_hand():
    items = [item(0, [True, True], subset="a"), item(1, [True, False], subset="b")]
    scores = [[0.1, 0.9], [0.1, 0.1]]
    row = row_of(items, scores, kind="universalbench")
    # 2/3 in either; over all steps together: 2 · 2 / (4 + 1 + 1).
    assert row.metrics["subset_mean_f1_wrong"].value == pytest.approx(2 / 3)
    row = row_of(items, [[0.1, 0.1], [0.1, 0.1]], kind="universalbench")
    assert row.metrics["subset_mean_f1_wrong"].value == pytest.approx((1 + 2 / 3) / 2)
    assert row.metrics["f1_wrong"].value == pytest.approx(6 / 7)


def test_the_headline_stands_first():
    items = [item(i, [True, False], subset="ab"[i]) for i in range(2)]
    for kind, name in HEADLINES.items():
        if kind != "candidates":
            row = row_of(items, [[0.1, 0.9]] * 2, kind=kind)
            assert next(iter(row.metrics)) == row.headline == name
            assert name in DEFINITIONS


def test_processbench_is_its_authors_definition_on_every_small_case():
    """All truths and all that can be said of up to four samples of one to three steps.

    What is said comes from scores: the first one below the threshold. The order of samples is of
    no account.
    """
    kinds = [
        (steps, truth, said)
        for steps in (1, 2, 3)
        for truth in range(-1, steps)
        for said in range(-1, steps)
    ]
    table = {}
    for number, (steps, truth, said) in enumerate(kinds):
        entry = item(number, None, first=truth, steps=[f"{i}" for i in range(steps)])
        # Below the threshold at the step said and, as a trap, at every one after it.
        row = [0.1 if 0 <= said <= index else 0.9 for index in range(steps)]
        [table[number]] = first_table([entry], [row], CUT)
    cases = 0
    for count in (1, 2, 3, 4):
        for chosen in itertools.combinations_with_replacement(range(len(kinds)), count):
            found = float(first_error_f1(sum(table[number] for number in chosen)))
            error = [
                truth == said for _, truth, said in map(kinds.__getitem__, chosen) if truth >= 0
            ]
            right = [said == -1 for _, truth, said in map(kinds.__getitem__, chosen) if truth == -1]
            cases += 1
            if not error or not right:  # a mean of nothing
                assert math.isnan(found)
                continue
            first, second = sum(error) / len(error), sum(right) / len(right)
            expected = 2 * first * second / (first + second) if first + second else 0.0
            assert found == pytest.approx(expected, abs=1e-15)
    assert cases == 29 + 435 + 4495 + 35960


# ── candidates ───────────────────────────────────────────────────────────────────────────────


def candidates(right: str, problem: str, start: int = 0) -> list[Item]:
    """Candidates of a problem: `1` right, `0` wrong, `?` unknown."""
    known = {"1": True, "0": False, "?": None}
    return [
        replace(item(start + i, None, problem=problem), final_answer_correct=known[mark])
        for i, mark in enumerate(right)
    ]


def test_the_best_of_all_candidates_by_hand():
    items = [*candidates("010", "a"), *candidates("110", "b", 10), *candidates("1?", "c", 20)]
    scores = [
        *([0.9, 0.2, 0.9], [0.5, 0.6, 0.7], [0.5, 0.5, 0.9]),  # by the weakest step: .2, .5, .5
        *([0.4, 0.4, 0.4], [0.1, 0.9, 0.9], None),
        *([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]),
    ]
    row = row_of(items, scores, kind="candidates")
    # a: a right and a wrong one tie for the best; b: the right one; c: not known, left out.
    assert row.headline == "best_of_all"
    assert row.metrics["best_of_all"].value == pytest.approx((0.5 + 1.0) / 2)
    assert list(row.metrics) == ["best_of_all"]
    assert row.threshold is row.sweep is row.calibration is row.counts is None
    assert row.slices == ()
    nothing = [None] * 3 + list(scores[3:])
    found = row_of(items, nothing, kind="candidates").metrics["best_of_all"]
    assert found.value == 0.5  # a problem without any score is not solved
    assert (
        row_of(candidates("?", "c"), [[0.5] * 3], kind="candidates").metrics["best_of_all"].value
        is None
    )


@given(
    st.lists(
        st.lists(
            st.tuples(st.booleans(), st.sampled_from([0.1, 0.5, 0.9])), min_size=1, max_size=4
        ),
        min_size=1,
        max_size=5,
    )
)
def test_the_best_of_all_is_a_mean_over_problems_of_the_best_ones(problems):
    items, scores, expected = [], [], []
    for number, rows in enumerate(problems):
        items += candidates("".join("01"[r] for r, _ in rows), f"p{number}", 10 * number)
        scores += [[0.9, reward, 0.9] for _, reward in rows]
        top = [right for right, reward in rows if reward == max(value for _, value in rows)]
        expected.append(sum(top) / len(top))
    found = row_of(items, scores, kind="candidates").metrics["best_of_all"].value
    assert found == pytest.approx(sum(expected) / len(expected))


def test_candidates_are_compared_by_whole_problems():
    items = [c for n in range(8) for c in candidates("10", f"p{n}", 2 * n)]
    good = {entry.solution_id: [0.9 if entry.final_answer_correct else 0.1] for entry in items}
    poor = {id: [1 - row[0]] for id, row in good.items()}
    [pair] = compare(
        "t",
        items,
        [Side("good", "none", 0.5, good), Side("poor", "none", 0.5, poor)],
        lambda rows: measure("best_of_all", rows),
        0,
    )
    assert (pair.difference.value, pair.difference.interval) == (1.0, (1.0, 1.0))
    assert (pair.problems, pair.exact, pair.p) == (8, True, 2 / 2**8)


def test_the_class_of_right_originals_stays_out_of_prmbench():
    wrong = [item(0, [True, False], subset="circular"), item(1, [True, True], subset="correct")]
    assert [measured("prmbench", entry) for entry in wrong] == [True, False]
    assert measured("steps", wrong[1])


@pytest.fixture
def choices(tmp_path) -> Path:
    """Four candidates of each of twelve problems; the longer a step, the likelier it is right."""
    path = tmp_path / "candidates.jsonl"
    jsonl.write(
        path,
        [
            Solution(
                id=f"c{problem}-{number}",
                problem=f"What is {problem} + {problem}?",
                steps=("x" * (1 + (number * 7 + problem * 3) % 5), f"The answer is {answer}."),
                answer=str(2 * problem),
                generator="policy",
            )
            for problem in range(1, 13)
            for number, answer in enumerate(
                [2 * problem, 2 * problem + problem % 2, 2 * problem + 1, 2 * problem + problem % 3]
            )
        ],
    )
    return path


def test_candidates_are_measured_beside_tasks_with_labels(choices, tmp_path):
    found = bench(
        tmp_path / "run",
        [TaskConfig("chosen", "candidates", Source(path=str(choices))), micro()],
        PredictorConfig("short", **SHORT, threshold="all"),
        PredictorConfig("long", **LONG, threshold="all"),
        PredictorConfig("alike", baseline="always_right"),
    )
    task = found.tasks[0]
    assert (task.kind, task.headline, task.erroneous) == ("candidates", "best_of_all", None)
    assert (task.solutions, task.problems, task.wrong_steps) == (48, 12, None)
    rows = {row.predictor: row for row in found.rows if row.task == "chosen"}
    for row in rows.values():
        # Of all four by the weakest step: what the curve says for its largest N.
        [best] = [
            part["accuracy"]
            for part in row.details["rows"]
            if part["method"] == "best of N (min)" and part["n"] == 4
        ]
        assert row.metrics["best_of_all"].value == pytest.approx(best)
        assert row.threshold is None
    [single] = [
        part["accuracy"]
        for part in rows["alike"].details["rows"]
        if part["method"] == "pass@1" and part["n"] == 1
    ]
    assert rows["alike"].metrics["best_of_all"].value == pytest.approx(single)
    assert task.correct == round(48 * single)
    pairs = [pair for pair in found.comparisons if pair.task == "chosen"]
    assert len(pairs) == 3
    assert all(pair.metric == "best_of_all" and pair.exact for pair in pairs)
    difference = (
        rows["short"].metrics["best_of_all"].value - rows["long"].metrics["best_of_all"].value
    )
    assert pairs[0].difference.value == pytest.approx(difference)
    items = [e for e in jsonl.read(tmp_path / "run" / "items.jsonl", Item) if e.task == "chosen"]
    assert {entry.first_error for entry in items} == {None}
    assert [entry.final_answer_correct for entry in items[:4]] == [True, False, False, False]


def test_candidates_alone_need_no_threshold(choices, tmp_path, capsys):
    task = TaskConfig("chosen", "candidates", Source(path=str(choices)))
    found = bench(tmp_path / "run", [task], PredictorConfig("long", **LONG))
    assert found.rows[0].threshold is None
    assert "none needed" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="none has labels to choose it on"):
        bench(tmp_path / "no", [task], PredictorConfig("long", **LONG, threshold="chosen"))


def test_a_mean_over_subsets_is_the_headline_of_universalbench(tmp_path):
    path = tmp_path / "universal.jsonl"
    jsonl.write(
        path,
        [
            replace(
                known,
                solution=replace(
                    known.solution,
                    metadata={
                        "subset": "AB"[number % 2],
                        "length": ["long", "short"][number // 50],
                    },
                ),
            )
            for number, known in enumerate(
                itertools.islice(jsonl.read(MICRO, LabelledSolution), 100)
            )
        ],
    )
    [row] = bench(
        tmp_path / "run",
        [TaskConfig("u", "universalbench", Source(path=str(path)))],
        PredictorConfig("short", **SHORT, threshold="u"),
    ).rows
    parts = [part for part in row.slices if part.by == "subset"]
    assert {part.name for part in parts} == {"A long", "B long", "A short", "B short"}
    assert {part.metric for part in parts} == {"f1_wrong"}
    found = row.metrics["subset_mean_f1_wrong"]
    assert row.headline == "subset_mean_f1_wrong" == row.sweep.metric
    assert found.value == pytest.approx(sum(part.estimate.value for part in parts) / 4)
    assert found.interval[0] < found.value < found.interval[1]


@pytest.mark.data
def test_prmbench_by_its_own_metrics_and_ours(data_dir, tmp_path):
    source = Source(format="prmbench", path=str(data_dir / "prmbench" / "subset394.jsonl"))
    found = bench(
        tmp_path / "run",
        [TaskConfig("prmbench", "prmbench", source)],
        PredictorConfig("long", **LONG, threshold="prmbench"),
        PredictorConfig("right", baseline="always_right"),
    )
    [task] = found.tasks
    row, _ = found.rows
    assert row.headline == "f1_macro"
    total = row.details["total"]
    assert row.metrics["f1_macro"].value == pytest.approx(total["prm_score"])
    assert row.metrics["f1_right"].value == pytest.approx(total["f1"])
    assert row.metrics["f1_wrong"].value == pytest.approx(total["negative_f1"])
    assert row.metrics["accuracy"].value == pytest.approx(total["total_step_acc"])
    assert row.solutions == task.solutions - task.subsets["correct"]
    assert {part.name for part in row.slices if part.by == "subset"} == set(task.subsets) - {
        "correct"
    }
    low, high = row.metrics["f1_macro"].interval
    assert low < row.metrics["f1_macro"].value < high


# ── thresholds ───────────────────────────────────────────────────────────────────────────────


def every_cut(scores):
    values = sorted({value for row in scores if row is not None for value in row})
    return [*values, math.nextafter(values[-1], math.inf)]


def sweepable(case):
    return any(row is not None for row in case[1])


@settings(max_examples=40)
@given(benchmarks(most=8).filter(sweepable), st.sampled_from(sorted(HEADLINES.values())))
def test_a_sweep_holds_every_threshold(case, name):
    if name == "best_of_all":
        return
    items, scores = case
    cuts, sums = sweep(name, items, scores)
    found = measure(name, items)
    assert (cuts[:-1] < cuts[1:]).all()
    for cut, row in zip(cuts, sums, strict=True):
        assert row.tolist() == found.table(items, scores, cut).sum(axis=0).tolist()
    # Every way of cutting the scores in two is there.
    values = [value for row in scores if row is not None for value in row]
    ways = {tuple(value < cut for value in values) for cut in cuts}
    assert ways == {tuple(value < cut for value in values) for cut in every_cut(scores)}


@settings(max_examples=40)
@given(benchmarks(most=8).filter(sweepable))
def test_the_oracle_is_the_best_of_all_thresholds(case):
    items, scores = case
    row = row_of(items, scores)
    values = [literal_f1(items, scores, cut) or 0.0 for cut in every_cut(scores)]
    assert (row.sweep.oracle.values["f1_wrong"] or 0.0) == pytest.approx(max(values))
    # It never stands in for the headline, which rests on the threshold given.
    assert row.metrics["f1_wrong"].value == pytest.approx(literal_f1(items, scores, CUT))
    for point in row.sweep.points:
        expected = literal_f1(items, scores, point.threshold)
        assert point.values["f1_wrong"] == (None if expected is None else pytest.approx(expected))


def test_a_curve_has_at_most_a_hundred_and_one_points():
    items = [item(i, [i % 3 == 0]) for i in range(300)]
    curve = row_of(items, [[i * 7 % 300 / 300] for i in range(300)]).sweep
    assert len(curve.points) == POINTS == 101
    thresholds = [point.threshold for point in curve.points]
    assert thresholds == sorted(set(thresholds))
    # It begins where nothing is called wrong and ends where all is.
    assert curve.points[0].values["recall_wrong"] == 0.0
    assert curve.points[-1].values["recall_wrong"] == 1.0
    assert curve.points[-1].values["false_alarm_rate"] == 1.0
    few = row_of(items, [[0.5]] * 300).sweep
    assert len(few.points) == 2


@settings(max_examples=60)
@given(benchmarks(most=8, unscored=False))
def test_tuning_finds_what_the_metrics_of_training_find(case):
    items, scores = case
    wrong = [value for entry in items for value in entry.wrong]
    flat = [value for row in scores for value in row]
    assert tune("f1_wrong", items, scores) == metrics.best_step_threshold(wrong, flat)
    firsts = [entry.first_error for entry in items]
    expected = metrics.best_first_error_threshold(firsts, scores)
    assert tune("first_error_f1", items, scores) == expected


def test_a_threshold_is_chosen_on_a_part_and_measured_on_the_rest(folder):
    found = {(row.task, row.predictor): row for row in results.read(folder / "results.json").rows}
    row, other = found["all", "long, half"], found["long", "long, half"]
    cut = row.threshold
    assert (cut.how, cut.task, cut.share) == ("split", "all", 0.5)
    assert (cut.problems, cut.solutions, cut.source) == (
        50,
        200,
        "best on 50 of 100 problems of all",
    )
    assert (row.solutions, row.problems, row.set_aside, row.tuned_on) == (200, 50, 200, 0)
    # The same problems are left out of the other task, which holds them too.
    assert (other.solutions, other.set_aside, other.tuned_on) == (50, 50, 0)
    assert found["all", "long"].tuned_on == found["long", "long"].tuned_on == 100
    assert found["all", "always wrong"].tuned_on == 0
    assert found["all", "always wrong"].threshold.how == "default"


def test_candidates_ask_for_no_threshold_and_lose_none_to_it(choices, tmp_path):
    source = Source(path=str(choices))
    found = bench(
        tmp_path / "run",
        [micro(), TaskConfig("choose", "candidates", source)],
        PredictorConfig("half", **SHORT, threshold="all", threshold_split=0.5),
        PredictorConfig("whole", **SHORT, threshold="all"),
    )
    half, whole = (row for row in found.rows if row.task == "choose")
    assert half.set_aside == 0
    assert (half.solutions, half.details) == (whole.solutions, whole.details)
    assert next(row for row in found.rows if row.task == "all").set_aside > 0


def test_another_seed_splits_otherwise(tmp_path):
    half = PredictorConfig("half", **SHORT, threshold="all", threshold_split=0.5)
    values = {
        bench(tmp_path / str(seed), [micro()], half, seed=seed).rows[0].metrics["f1_wrong"].value
        for seed in range(3)
    }
    assert len(values) > 1


def test_a_split_is_measured_where_it_says(tmp_path):
    """The threshold is the best on the one half, and the value is that on the other."""
    [row] = bench(
        tmp_path / "run",
        [micro()],
        PredictorConfig("half", **SHORT, threshold="all", threshold_split=0.25),
    ).rows
    items = list(jsonl.read(tmp_path / "run" / "items.jsonl", Item))
    chosen = part([entry.problem_key for entry in items], 0.25, 0)
    assert len(chosen) == row.threshold.problems == 25
    halves = {True: ([], []), False: ([], [])}
    for entry, said in zip(
        items, jsonl.read(tmp_path / "run" / "scores.jsonl", ItemScores), strict=True
    ):
        side = halves[entry.problem_key in chosen]
        side[0].append(entry)
        side[1].append(said.scores)
    assert row.threshold.value == tune("f1_wrong", *halves[True])
    expected = literal_f1(*halves[False], row.threshold.value)
    assert row.metrics["f1_wrong"].value == pytest.approx(expected)
    assert row.solutions == len(halves[False][0])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"threshold": 0.5}, "threshold_split needs a task as its threshold"),
        ({"threshold": "declared"}, "threshold_split needs a task as its threshold"),
        ({}, "threshold_split needs a task as its threshold"),
        (
            {"threshold": "all", "threshold_split": 1.0},
            r"threshold_split is 1\.0; it must lie between 0 and 1",
        ),
        (
            {"threshold": "all", "threshold_split": 0.0},
            r"threshold_split is 0\.0; it must lie between 0 and 1",
        ),
    ],
)
def test_a_split_that_makes_no_sense(tmp_path, keys, message):
    keys = {"threshold_split": 0.5} | keys
    with pytest.raises(ConfigError, match=f"predictor 'b': {message}"):
        bench(tmp_path / "run", [micro()], PredictorConfig("b", baseline="first_wrong", **keys))
    assert not (tmp_path / "run").exists()


def test_a_split_of_a_single_problem(tmp_path):
    [one, *_] = jsonl.read(MICRO, LabelledSolution)
    jsonl.write(tmp_path / "one.jsonl", [one])
    task = TaskConfig("one", "steps", Source(path=str(tmp_path / "one.jsonl")))
    half = PredictorConfig("b", baseline="first_wrong", threshold="one", threshold_split=0.5)
    with pytest.raises(RecordError, match="task 'one': 1 problems leave nothing to choose"):
        bench(tmp_path / "run", [task], half)


def test_the_split_can_be_written_in_a_configuration():
    line = "predictors=[{name: a, baseline: long_steps, threshold: x, threshold_split: 0.5}]"
    config = load_config(stage.Config, None, ["out=y", line])
    assert config.predictors[0].threshold_split == 0.5


@pytest.mark.parametrize(("key", "message"), [("chunk=0", "chunk starts"), ("seed=-1", "seed at")])
def test_chunks_and_seeds_below_their_least(key, message):
    with pytest.raises(ConfigError, match=message):
        load_config(stage.Config, None, ["out=y", key])


# ── what a predictor was told ────────────────────────────────────────────────────────────────


def annotated(path: Path, *, reference: str | None, answer: str | None) -> Path:
    jsonl.write(
        path,
        [
            Annotation(
                solution=Solution(
                    id=f"s{i}",
                    problem=f"p{i}",
                    steps=("a", "b"),
                    reference=reference,
                    answer=answer,
                ),
                judgments=tuple(
                    Judgment(judge="judge", strategy=name, verdicts=(1.0, float(i % 2)))
                    for name in ("p0", "arithmetic")
                ),
            )
            for i in range(4)
        ],
    )
    return path


@pytest.mark.parametrize(
    ("reference", "answer", "voters", "told"),
    [
        ("r", "a", [], "worked"),
        (None, "a", [], "answer"),
        (None, None, [], "none"),
        ("r", "a", ["arithmetic"], "none"),  # the rule looks at the step alone
        ("r", "a", ["p0"], "worked"),
    ],
)
def test_annotators_were_told_what_their_annotations_hold(
    tmp_path, reference, answer, voters, told
):
    path = annotated(tmp_path / "annotations.jsonl", reference=reference, answer=answer)
    source = tmp_path / "items.jsonl"
    jsonl.write(
        source,
        [
            LabelledSolution(solution=replace(a.solution, reference=None), labels=(1.0, 0.0))
            for a in jsonl.read(path, Annotation)
        ],
    )
    task = TaskConfig("t", "steps", Source(path=str(source)))
    found = bench(
        tmp_path / "run",
        [task],
        PredictorConfig("votes", annotations=str(path), voters=voters),
        PredictorConfig("wrong", baseline="first_wrong"),
    )
    votes, wrong = found.rows
    assert votes.sees_reference == told
    assert votes.references_given == (0 if told == "none" else 4)
    assert (wrong.sees_reference, wrong.references_given) == ("none", 0)
    assert [pair.across_reference for pair in found.comparisons] == [told != "none"]
    assert found.predictors[0].fingerprint is not None
    assert found.predictors[0].model == "judge"


def test_a_checkpoint_was_told_what_it_takes_and_there_is(tiny_prm, tmp_path):
    tiny = ScorerConfig(str(tiny_prm), batch_tokens=2048)
    few = tmp_path / "few.jsonl"
    sums.write(few, sums.labelled(6))
    bare = tmp_path / "bare.jsonl"
    jsonl.write(
        bare,
        [
            replace(item, solution=replace(item.solution, reference=None, answer=None))
            for item in jsonl.read(few, LabelledSolution)
        ],
    )
    found = bench(
        tmp_path / "run",
        [TaskConfig(path.stem, "steps", Source(path=str(path))) for path in (few, bare)],
        PredictorConfig("with", checkpoint=tiny, threshold="declared"),
        PredictorConfig("without", checkpoint=replace(tiny, reference="none")),
    )
    told = {(row.task, row.predictor): row.sees_reference for row in found.rows}
    assert told == {
        ("few", "with"): "worked",
        ("few", "without"): "none",
        ("bare", "with"): "none",  # there is nothing to tell
        ("bare", "without"): "none",
    }
    assert [pair.across_reference for pair in found.comparisons] == [True, False]
    first, second = found.predictors
    assert (first.reference, second.reference) == ("worked", "none")
    assert first.family == second.family == "aurora"
    assert first.fingerprint is not None
    assert first.fingerprint == second.fingerprint
    assert first.format == second.format
    assert len(first.format) == 16
    assert first.declared is not None
    assert next(row for row in found.rows if row.predictor == "with").threshold.how == "declared"
    read = {(cost.predictor, cost.task): cost.tokens for cost in found.costs}
    assert 0 < read["with", "few"] != read["without", "few"] > 0
    counts = json.loads((tmp_path / "run" / "run.json").read_text())["counts"]
    assert counts["tokens"] == sum(read.values())


def test_other_token_ids_are_another_format(tiny_prm, tmp_path):
    import shutil

    hashes = []
    for name, change in [
        ("same", {}),
        ("system", {"system": "Judge."}),
        ("end", {"step_end": "\n"}),
    ]:
        copy = tmp_path / name
        shutil.copytree(tiny_prm, copy)
        declaration = json.loads((copy / "prm.json").read_text())
        declaration["render"] |= change
        (copy / "prm.json").write_text(json.dumps(declaration))
        predictor = Predictor(PredictorConfig("m", checkpoint=ScorerConfig(str(copy))))
        hashes.append(predictor.record("m", None).format)
        predictor.close()
    assert len(set(hashes)) == 3
    original = Predictor(PredictorConfig("m", checkpoint=ScorerConfig(str(tiny_prm))))
    assert original.record("m", None).format == hashes[0]


def test_other_questions_are_another_format():
    def digest(**settings) -> str | None:
        config = ScorerConfig("m", family="thinkprm", critique=CritiqueConfig(**settings))
        family = catalog.family("thinkprm")
        scorer = GenerativeScorer(config, family, ScriptedEngine(lambda request: ""))
        return form.digest(scorer, config)

    first = digest()
    assert first == digest()
    assert len({first, digest(max_tokens=7), digest(samples=2, temperature=1.0)}) == 3


def test_every_step_metric_has_a_definition():
    assert set(STEP_METRICS) <= set(DEFINITIONS)
    assert set(HEADLINES.values()) <= set(DEFINITIONS)
