"""Benchmarks end to end: tasks, predictors, thresholds, and what the reports say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import sums
from hypothesis import given
from hypothesis import strategies as st
from page import Page

from prm import jsonl
from prm.config import load as load_config
from prm.errors import CheckpointError, ConfigError, RecordError
from prm.records import Annotation, Failure, Judgment, LabelledSolution, Solution, StepScores
from prm.scorers import ScorerConfig, score_all
from prm.scorers import load as load_scorer
from prm.scorers.transformers import TransformersScorer
from prm.sources import Place, Source
from prm.zoo import aurora
from universalbench import results, stage
from universalbench.evaluation import items_of
from universalbench.predictors import Predictor, PredictorConfig, baseline_scores
from universalbench.report.runs import gather, read
from universalbench.report.table import format_table
from universalbench.results import PredictorRecord, Results, Row
from universalbench.rows import shifted
from universalbench.tasks import TaskConfig, load
from universalbench.thresholds import Labelled, choose, tune

GOLDEN = Path(__file__).parent / "golden" / "bench_table.txt"

ROWS = [
    # id, steps, first wrong step
    ("p-0", ["1 + 1 = 2", "2 + 2 = 5", "so 5"], 1),
    ("p-1", ["3 + 3 = 6", "so 6"], -1),
    ("p-2", ["4 + 4 = 9"], 0),
    ("p-3", ["5 + 5 = 10", "10 + 1 = 11", "so 11"], -1),
]

VOTES = {
    # Strategy → verdicts per solution; the rule abstains where it sees no equation.
    "rule": [(1.0, 0.0, None), (1.0, None), (0.0,), (1.0, 1.0, None)],
    "judge": [(1.0, 1.0, 0.0), (1.0, 0.0), (0.0,), (1.0, 1.0, 1.0)],
}


def processbench_row(id: str, steps: list[str], label: int) -> dict:
    return {
        "id": id,
        "generator": "some-model",
        "problem": f"Problem {id}?",
        "steps": steps,
        "final_answer_correct": label == -1,
        "label": label,
    }


@pytest.fixture
def processbench(tmp_path):
    path = tmp_path / "processbench.json"
    path.write_text(json.dumps([processbench_row(*row) for row in ROWS]))
    return TaskConfig("first", "processbench", Source(format="processbench", path=str(path)))


@pytest.fixture
def full(tmp_path):
    """The same solutions with a label for every step; after an error all is wrong."""
    items = [
        LabelledSolution(
            solution=Solution(id=id, problem=f"Problem {id}?", steps=tuple(steps), reference="r"),
            labels=tuple(float(first == -1 or index < first) for index in range(len(steps))),
        )
        for id, steps, first in ROWS
    ]
    jsonl.write(tmp_path / "full.jsonl", items)
    return TaskConfig("full", "steps", Source(path=str(tmp_path / "full.jsonl")))


@pytest.fixture
def annotations(tmp_path):
    items = [
        Annotation(
            solution=Solution(id=id, problem=f"Problem {id}?", steps=tuple(steps)),
            judgments=tuple(
                Judgment(judge="rules", strategy=strategy, verdicts=verdicts[index])
                for strategy, verdicts in VOTES.items()
            ),
        )
        for index, (id, steps, _) in enumerate(ROWS)
    ]
    jsonl.write(tmp_path / "annotations.jsonl", items)
    return tmp_path / "annotations.jsonl"


def bench(out: Path, tasks, *predictors: PredictorConfig) -> Results:
    stage.run(stage.Config(out=str(out), tasks=list(tasks), predictors=list(predictors)))
    return results.read(out / "results.json")


def value(row: Row, metric: str) -> float | None:
    return row.metrics[metric].value


# ── tasks ────────────────────────────────────────────────────────────────────────────────────


def test_processbench_task(processbench):
    task = load(processbench)
    assert (task.name, task.kind, task.wrong) == ("first", "processbench", None)
    assert task.first_errors == [1, -1, 0, -1]
    assert [list(item.steps) for item in task.solutions] == [steps for _, steps, _ in ROWS]


def test_processbench_task_with_references_joined(processbench, tmp_path):
    problem = {"id": "x", "problem": "problem P-0", "answer": "4", "reference": "2 + 2 = 4"}
    (tmp_path / "problems.jsonl").write_text(json.dumps(problem) + "\n")
    processbench.source.references = Place(path=str(tmp_path / "problems.jsonl"))
    assert [item.reference for item in load(processbench).solutions] == ["2 + 2 = 4", *[None] * 3]


def test_processbench_task_needs_its_format(full):
    with pytest.raises(ConfigError, match=r"needs source\.format processbench"):
        load(TaskConfig("x", "processbench", full.source))


@pytest.mark.parametrize("label", [3, -2, None, "1"])
def test_processbench_labels_that_name_no_step(tmp_path, label):
    row = processbench_row("p", ["a", "b", "c"], 0) | {"label": label}
    (tmp_path / "bad.json").write_text(json.dumps([row]))
    source = Source(format="processbench", path=str(tmp_path / "bad.json"))
    with pytest.raises(RecordError, match=r"bad\.json:1: .*label"):
        load(TaskConfig("x", "processbench", source))


def test_steps_task(full):
    task = load(full)
    assert task.first_errors == [1, -1, 0, -1]
    assert task.wrong == [[False, True, True], [False] * 2, [True], [False] * 3]


def test_steps_task_refuses_opinions(tmp_path):
    [soft] = sums.labelled(1)
    jsonl.write(
        tmp_path / "soft.jsonl", [LabelledSolution(solution=soft.solution, labels=(1.0, 0.5, 0.0))]
    )
    with pytest.raises(RecordError, match="'sum-0' has soft labels; a benchmark needs 0 or 1"):
        load(TaskConfig("x", "steps", Source(path=str(tmp_path / "soft.jsonl"))))


def test_an_empty_benchmark_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(RecordError, match="no solutions"):
        load(TaskConfig("x", "steps", Source(path=str(tmp_path / "empty.jsonl"))))


# ── predictors ───────────────────────────────────────────────────────────────────────────────


def test_baselines_by_hand():
    solution = Solution(id="1", problem="p", steps=("a", "abc", "ab"))
    assert baseline_scores(solution, "always_right") == [1.0, 1.0, 1.0]
    assert baseline_scores(solution, "first_wrong") == [0.0, 0.0, 0.0]
    assert baseline_scores(solution, "long_steps") == [-1.0, -3.0, -2.0]
    assert baseline_scores(solution, "short_steps") == [1.0, 3.0, 2.0]


def test_a_predictor_is_exactly_one_thing(annotations):
    with pytest.raises(ConfigError, match="'x' needs exactly one of"):
        Predictor(PredictorConfig("x"))
    with pytest.raises(ConfigError, match="'x' needs exactly one of"):
        Predictor(PredictorConfig("x", baseline="first_wrong", annotations=str(annotations)))


def test_annotations_vote(annotations, processbench):
    task = load(processbench)
    every = Predictor(PredictorConfig("all", annotations=str(annotations))).score(task.solutions)
    assert [item.scores for item in every] == [(1, 0.5, 0), (1, 0), (0,), (1, 1, 1)]
    assert [item.abstained for item in every] == [0] * 4
    rule = PredictorConfig("rule", annotations=str(annotations), voters=["rule"])
    alone = Predictor(rule).score(task.solutions)
    assert [item.scores for item in alone] == [(1, 0, 1), (1, 1), (0,), (1, 1, 1)]
    # Where nobody votes, a step counts as right.
    assert [item.abstained for item in alone] == [1, 1, 0, 1]


def test_a_voter_that_nobody_is(annotations):
    config = PredictorConfig("x", annotations=str(annotations), voters=["rule", "jugde"])
    with pytest.raises(ConfigError, match="no annotation has a voter 'jugde'; there are judge"):
        Predictor(config)


@pytest.mark.parametrize("change", ["missing", "other steps"])
def test_annotations_of_other_solutions_are_refused(annotations, processbench, change):
    rows = [json.loads(line) for line in annotations.read_text().splitlines()]
    if change == "missing":
        del rows[2]
    else:
        rows[2]["solution"]["steps"] = ["4 + 4 = 8"]
    annotations.write_text("".join(json.dumps(row) + "\n" for row in rows))
    predictor = Predictor(PredictorConfig("x", annotations=str(annotations)))
    with pytest.raises(RecordError, match="no annotation of solution 'p-2' with these steps"):
        predictor.score(load(processbench).solutions)


def test_a_checkpoint_predicts_its_scores(tiny_prm, processbench):
    task = load(processbench)
    config = ScorerConfig(str(tiny_prm))
    expected = [list(row.scores) for row in score_all(load_scorer(config), task.solutions)]
    said = Predictor(PredictorConfig("m", checkpoint=config)).score(task.solutions)
    assert [list(item.scores or ()) for item in said] == expected


# ── thresholds ───────────────────────────────────────────────────────────────────────────────


def test_a_threshold_is_tuned_on_the_task_named_and_used_on_all(processbench, full, tmp_path):
    other = tmp_path / "other.json"
    rows = [
        processbench_row("o-0", ["long wrong step", "ab"], 0),
        processbench_row("o-1", ["abc"], -1),
    ]
    other.write_text(json.dumps(rows))
    second = TaskConfig("other", "processbench", Source(format="processbench", path=str(other)))
    length = PredictorConfig("length", baseline="long_steps", threshold="other")
    rows = by_task(bench(tmp_path / "run", [processbench, second], length))
    # Between -15 (the long wrong step) and -3: perfect there, and applied to the first task.
    assert [row.threshold.value for row in rows.values()] == [-9.0, -9.0]
    assert rows["other"].threshold.source == "best on other itself"
    assert rows["first"].threshold.source == "best on other"
    # Only where it was chosen does it flatter.
    assert {name: row.tuned_on for name, row in rows.items()} == {"first": 0, "other": 2}
    assert value(rows["other"], "first_error_f1") == 1.0
    # `4 + 4 = 9`, `2 + 2 = 5` and the others have nine characters or fewer, `5 + 5 = 10` more.
    assert value(rows["first"], "error_accuracy") == 0.0
    assert value(rows["first"], "correct_accuracy") == 0.5


def test_steps_are_tuned_by_step_f1(full):
    scores = [[0.9, 0.2, 0.4], [0.8, 0.6], [0.3], [0.7, 0.9, 0.5]]
    assert tune("f1_wrong", items_of(load(full)), scores) == pytest.approx(0.45)


def test_a_number_is_taken_as_it_is(processbench):
    task = load(processbench)
    config = PredictorConfig("x", baseline="always_right", threshold=0.25)
    record = PredictorRecord(id="x", kind="baseline", model="always_right")
    chosen = choose(config, record, {"first": Labelled(task.kind, items_of(task), [])}, 0)
    assert (chosen.cut.value, chosen.cut.source) == (0.25, "given")
    assert not chosen.problems


def test_the_default_threshold_says_so(processbench, annotations, tmp_path):
    predictors = [
        PredictorConfig("all wrong", baseline="first_wrong"),
        PredictorConfig("votes", annotations=str(annotations)),
    ]
    rows = bench(tmp_path / "run", [processbench], *predictors).rows
    assert [(row.threshold.value, row.threshold.source) for row in rows] == [(0.5, "default")] * 2


@pytest.mark.parametrize("baseline", ["long_steps", "short_steps"])
def test_a_length_has_no_default_threshold(processbench, tmp_path, baseline):
    message = rf"'b': {baseline} has no default threshold; give a task to choose it on \(first\)"
    with pytest.raises(ConfigError, match=message):
        bench(tmp_path / "run", [processbench], PredictorConfig("b", baseline=baseline))
    assert not (tmp_path / "run").exists()
    config = PredictorConfig("b", baseline=baseline, threshold=-10.5)  # a number of one's own is
    [row] = bench(tmp_path / "run", [processbench], config).rows
    assert row.threshold.source == "given"


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("1", 1.0), ("-2", -2.0), ("0.5", 0.5)])
def test_whole_numbers_are_thresholds_too(text, value):
    line = f"predictors=[{{name: a, baseline: long_steps, threshold: {text}}}]"
    config = load_config(stage.Config, None, ["out=x", line])
    assert config.predictors[0].threshold == value
    assert not isinstance(config.predictors[0].threshold, str)


def test_the_declared_threshold(tiny_prm, full, tmp_path):
    config = PredictorConfig("m", checkpoint=ScorerConfig(str(tiny_prm)), threshold="declared")
    [row] = bench(tmp_path / "run", [full], config).rows
    declared = aurora.read_declaration(tiny_prm).threshold
    assert declared is not None
    assert (row.threshold.value, row.threshold.source) == (declared.value, declared.split)


def test_the_declared_threshold_is_another_without_references(tiny_prm, processbench, tmp_path):
    checkpoint = ScorerConfig(str(tiny_prm), reference="none")
    config = PredictorConfig("m", checkpoint=checkpoint, threshold="declared")
    [row] = bench(tmp_path / "run", [processbench], config).rows
    declaration = aurora.read_declaration(tiny_prm)
    withheld = declaration.threshold_without_reference
    assert withheld is not None
    assert withheld.split.endswith("references withheld)")
    assert (row.threshold.value, row.threshold.source) == (withheld.value, withheld.split)


@pytest.fixture
def mixed(tmp_path):
    """A task on which half of the solutions have a reference, one on which none has, one on which
    there are answers alone, and one on which all have references."""
    items = sums.labelled(8)
    bare = [
        replace(item, solution=replace(item.solution, reference=None, answer=None))
        for item in items
    ]
    answered = [
        replace(item, solution=replace(item.solution, reference=None, answer="7")) for item in items
    ]
    files = {"half": [*items[:4], *bare[4:]], "bare": bare, "answered": answered, "all": items}
    for name, content in files.items():
        sums.write(tmp_path / f"{name}.jsonl", content)
    return [TaskConfig(n, "steps", Source(path=str(tmp_path / f"{n}.jsonl"))) for n in files]


def with_cuts(folder: Path, out: Path, told: float, untold: float | None) -> Path:
    """A copy of a checkpoint that declares other thresholds."""
    shutil.copytree(folder, out)
    text = json.loads((out / "prm.json").read_text())
    text["threshold"]["value"] = told
    if untold is None:
        text["threshold_without_reference"] = None
    else:
        text["threshold_without_reference"]["value"] = untold
    (out / "prm.json").write_text(json.dumps(text))
    return out


def test_the_declared_threshold_is_that_of_what_each_solution_tells(
    tiny_prm, mixed, tmp_path, capsys
):
    """Below every score with a reference and above every one without: the calls say which was
    used."""
    folder = with_cuts(tiny_prm, tmp_path / "model", -1e6, 1e6)
    config = PredictorConfig("m", checkpoint=ScorerConfig(str(folder)), threshold="declared")
    rows = by_task(bench(tmp_path / "run", mixed, config))

    def called(row: Row) -> int:
        return row.counts.true_positive + row.counts.false_positive

    steps = rows["all"].steps
    assert {name: called(row) for name, row in rows.items()} == {
        "half": sum(len(s.steps) for s in load(mixed[0]).solutions[4:]),
        "bare": steps,
        "answered": 0,
        "all": 0,
    }
    cuts = {name: row.threshold for name, row in rows.items()}
    assert {name: cut.value for name, cut in cuts.items()} == {
        "half": -1e6, "bare": 1e6, "answered": -1e6, "all": -1e6
    }  # fmt: skip
    assert cuts["half"].untold == 1e6
    assert cuts["half"].source.endswith("; 1e+06 for the 4 told of nothing")
    assert "references withheld" in cuts["bare"].source
    assert all(cut.misfits == 0 for cut in cuts.values())
    sees = {name: row.sees_reference for name, row in rows.items()}
    assert sees == {"half": "worked", "bare": "none", "answered": "answer", "all": "worked"}
    # A report works the same out again from what was written.
    (half, *_) = gather(read([tmp_path / "run"]))
    said = [row for row in half.entries[0].part.decided if row is not None]
    assert [max(row) < -1e6 for row in said] == [False] * 4 + [True] * 4


def test_a_declared_threshold_for_references_alone_says_so(tiny_prm, mixed, tmp_path, capsys):
    folder = with_cuts(tiny_prm, tmp_path / "model", -1e6, None)
    config = PredictorConfig("m", checkpoint=ScorerConfig(str(folder)), threshold="declared")
    rows = by_task(bench(tmp_path / "run", mixed, config))
    misfits = {name: row.threshold.misfits for name, row in rows.items()}
    assert misfits == {"half": 4, "bare": 8, "answered": 0, "all": 0}
    note = "m: its checkpoint declares no threshold for solutions without a reference"
    assert capsys.readouterr().out.count(note) == 2
    assert Page((tmp_path / "run" / "report.html").read_text()).text.count(note) == 2


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1),
    st.floats(-1e9, 1e9),
    st.floats(-1e9, 1e9),
)
def test_shifted_scores_lie_below_the_one_cut_where_they_lay_below_the_other(scores, own, cut):
    moved = shifted(scores, own, cut)
    assert [value < cut for value in moved] == [value < own for value in scores]


def test_a_baseline_declares_nothing(processbench, tmp_path):
    config = PredictorConfig("b", baseline="first_wrong", threshold="declared")
    with pytest.raises(CheckpointError, match="'b' declares no threshold for this use"):
        bench(tmp_path / "run", [processbench], config)


def test_an_unknown_threshold_is_refused_before_anything_runs(processbench, tmp_path):
    config = PredictorConfig("b", baseline="first_wrong", threshold="gms8k")
    with pytest.raises(ConfigError, match=r"'gms8k' is neither a number nor declared nor a task"):
        bench(tmp_path / "run", [processbench], config)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_is_not_there(processbench, tmp_path):
    config = PredictorConfig("m", checkpoint=ScorerConfig(str(tmp_path / "nowhere")))
    with pytest.raises(CheckpointError, match="nowhere: no such model folder; give a folder"):
        bench(tmp_path / "run", [processbench], config)


# ── solutions that cannot be scored ──────────────────────────────────────────────────────────


@pytest.fixture
def forgetful(tiny_prm, monkeypatch):
    """Takes ids; returns a checkpoint that cannot score those, and finds all errors elsewhere."""

    def make(*ids: str, threshold: float | str = 0.5) -> PredictorConfig:
        first_errors = {id: first for id, _, first in ROWS}

        def score_each(self, batch):
            return [
                Failure(id=item.id, reason="600 tokens")
                if item.id in ids
                else StepScores(
                    solution_id=item.id,
                    steps_digest="",
                    model="m",
                    scores=tuple(
                        0.9 if first_errors[item.id] == -1 or index < first_errors[item.id] else 0.2
                        for index in range(len(item.steps))
                    ),
                )
                for item in batch
            ]

        monkeypatch.setattr(TransformersScorer, "score_each", score_each)
        return PredictorConfig("m", checkpoint=ScorerConfig(str(tiny_prm)), threshold=threshold)

    return make


def by_task(found: Results) -> dict[str, Row]:
    return {row.task: row for row in found.rows}


def test_an_unscored_error_is_missed(processbench, full, forgetful, tmp_path, capsys):
    rows = by_task(bench(tmp_path / "run", [processbench, full], forgetful("p-0")))
    first, steps = rows["first"], rows["full"]
    assert first.solutions == steps.solutions == 4  # nothing is left out
    assert value(first, "error_accuracy") == 0.5
    assert value(first, "correct_accuracy") == 1.0
    # p-0 has one right step and two wrong ones; each counts as called what it is not.
    assert steps.counts == results.StepCounts(
        true_positive=1, false_positive=1, false_negative=2, true_negative=5
    )
    assert value(steps, "auroc") == pytest.approx(5 / 18)  # p-2's wrong step below five right ones
    assert value(steps, "average_precision") == pytest.approx(1 / 2 / 3)
    assert first.unscored == steps.unscored == 1
    assert first.unscored_reason == "solution 'p-0': 600 tokens"
    assert steps.calibration.bins  # of what is scored
    assert sum(part.steps for part in steps.calibration.bins) == 6
    note = "m: 1 not scored, counted as missed (solution 'p-0': 600 tokens)"
    assert capsys.readouterr().out.splitlines().count(note) == 2
    page = Page((tmp_path / "run" / "report.html").read_text())
    assert page.text.count(note) == 2
    counts = json.loads((tmp_path / "run" / "run.json").read_text())["counts"]
    assert counts["failed"] == {"not scored by m": 2}


def test_an_unscored_right_solution_is_missed_too(processbench, full, forgetful, tmp_path):
    rows = by_task(bench(tmp_path / "run", [processbench, full], forgetful("p-3")))
    first, steps = rows["first"], rows["full"]
    assert value(first, "error_accuracy") == 1.0
    assert value(first, "correct_accuracy") == 0.5
    # The three right steps of p-3 count as called wrong, beside the three that are.
    assert (value(steps, "precision_wrong"), value(steps, "recall_wrong")) == (0.5, 1.0)


def test_thresholds_are_tuned_on_what_is_scored(processbench, full, forgetful, tmp_path):
    for task in ("first", "full"):
        config = forgetful("p-0", "p-3", threshold=task)
        rows = by_task(bench(tmp_path / task, [processbench, full], config))
        assert rows["first"].threshold.value == pytest.approx(0.55)
        assert rows["first"].threshold.solutions == 2
        assert (rows["first"].unscored, value(rows["first"], "first_error_f1")) == (2, 0.5)


def test_more_than_half_unscored_is_an_error(processbench, full, forgetful, tmp_path):
    message = "task 'first': predictor 'm' cannot score 3 of 4 solutions; the first: solution 'p-1'"
    advice = "more than half unscored is no measurement: leave out the predictor or the task"
    with pytest.raises(RecordError, match=f"{message}: 600 tokens; {advice}"):
        bench(tmp_path / "run", [processbench, full], forgetful("p-1", "p-2", "p-3"))


# ── the stage and its reports ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("keys", [{"tasks": []}, {"predictors": []}, {"twice": "tasks"}])
def test_tasks_and_predictors_have_names_of_their_own(processbench, tmp_path, keys):
    config = stage.Config(
        out=str(tmp_path / "run"),
        tasks=keys.get("tasks", [processbench] * (2 if keys.get("twice") else 1)),
        predictors=keys.get("predictors", [PredictorConfig("b", baseline="first_wrong")]),
    )
    message = "two of `tasks` are called 'first'" if keys.get("twice") else "needs `.*`; none are"
    with pytest.raises(ConfigError, match=message):
        stage.run(config)


def test_results(processbench, full, annotations, tmp_path, capsys):
    predictors = [
        PredictorConfig("all wrong", baseline="first_wrong"),
        PredictorConfig("rule", annotations=str(annotations), voters=["rule"]),
        PredictorConfig("votes", annotations=str(annotations), threshold="full"),
    ]
    found = bench(tmp_path / "run", [processbench, full], *predictors)
    first, steps = found.tasks
    assert (first.name, first.kind, first.headline) == ("first", "processbench", "first_error_f1")
    assert (first.solutions, first.problems, first.steps) == (4, 4, 9)
    assert (first.erroneous, first.wrong_steps, first.with_reference) == (2, None, 0)
    assert (first.correct, first.generators, first.subsets) == (2, {"some-model": 4}, {})
    assert (steps.with_reference, steps.wrong_steps, steps.correct) == (4, 3, None)
    rows = {(row.task, row.predictor): row for row in found.rows}
    assert len(rows) == 6

    wrong = rows["first", "all wrong"]
    assert value(wrong, "error_accuracy") == 0.5  # p-2, whose first step is wrong
    assert value(wrong, "correct_accuracy") == value(wrong, "first_error_f1") == 0.0
    assert "f1_wrong" not in wrong.metrics
    wrong = rows["full", "all wrong"]
    assert (wrong.counts.true_positive, wrong.counts.false_positive) == (3, 6)
    assert value(wrong, "precision_wrong") == 1 / 3
    assert (value(wrong, "recall_wrong"), value(wrong, "f1_wrong")) == (1.0, 0.5)
    assert value(wrong, "auroc") == 0.5  # all scores are equal

    rule = rows["full", "rule"]
    assert value(rule, "first_error_f1") == 1.0
    assert (value(rule, "recall_wrong"), value(rule, "precision_wrong")) == (2 / 3, 1.0)
    assert rule.abstained_steps == 3
    votes = rows["full", "votes"]
    # Best at 0.75: three hits, one false alarm (p-1's last step).
    assert (votes.threshold.value, votes.threshold.source) == (0.75, "best on full itself")
    assert value(votes, "f1_wrong") == pytest.approx(6 / 7)
    assert value(votes, "first_error_f1") == pytest.approx(2 * 1 * 0.5 / 1.5)
    # Both tasks hold the same problems, so the other row is flattered as well.
    other = rows["first", "votes"]
    assert other.threshold.value == 0.75
    assert other.threshold.source == "best on full, sharing 4 problems"
    assert other.tuned_on == 4

    assert capsys.readouterr().out == format_table(found) + "\n"
    before = (tmp_path / "run" / "results.json").stat().st_mtime_ns
    assert bench(tmp_path / "run", [processbench, full], *predictors) == found
    assert (tmp_path / "run" / "results.json").stat().st_mtime_ns == before
    assert capsys.readouterr().out == format_table(found) + "\n"  # and the table once more


def test_golden_table(processbench, full, annotations, tmp_path, capsys):
    predictors = [
        PredictorConfig("always right", baseline="always_right"),
        PredictorConfig("long steps", baseline="long_steps", threshold="first"),
        PredictorConfig("votes", annotations=str(annotations), threshold=0.75),
    ]
    bench(tmp_path / "run", [processbench, full], *predictors)
    assert capsys.readouterr().out == GOLDEN.read_text()


@pytest.mark.data
def test_always_right_on_the_real_processbench(data_dir, tmp_path, capsys):
    path = data_dir / "processbench" / "gsm8k.json"
    task = TaskConfig("gsm8k", "processbench", Source(format="processbench", path=str(path)))
    found = bench(
        tmp_path / "run",
        [task],
        PredictorConfig("always right", baseline="always_right"),
        PredictorConfig("long steps", baseline="long_steps", threshold="gsm8k"),
    )
    assert (found.tasks[0].solutions, found.tasks[0].erroneous) == (400, 207)
    right, long = found.rows
    assert value(right, "error_accuracy") == 0.0
    assert value(right, "correct_accuracy") == 1.0
    assert value(right, "first_error_f1") == 0.0
    assert 0.1 < value(long, "first_error_f1") < 0.4  # what a look at the length alone earns
    low, high = long.metrics["first_error_f1"].interval
    assert low < value(long, "first_error_f1") < high
    [pair] = found.comparisons
    assert pair.p_holm == pair.p < 0.001
    labels = [row["label"] for row in json.loads(path.read_bytes())]
    assert sum(label != -1 for label in labels) == 207
