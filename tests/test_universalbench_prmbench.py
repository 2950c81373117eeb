"""PRMBench: its items, and the authors' metrics against a plain rendering of them."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm.errors import ConfigError, RecordError
from prm.sources import Source
from universalbench import results, stage
from universalbench.evaluation import Choosing, Said
from universalbench.evaluation import evaluate as evaluate_ours
from universalbench.predictors import PredictorConfig
from universalbench.report.table import COLUMNS, format_table, shown
from universalbench.results import ItemScores, PredictorRecord
from universalbench.tasks import Task, TaskConfig, load, restrict
from universalbench.tasks.prmbench import CATEGORIES, measure

CLASSES = [name for members in CATEGORIES.values() for name in members]


def row(idx: str, name: str, modified: int, errors: list[int], original: int = 2) -> dict[str, Any]:
    return {
        "idx": idx,
        "classification": name,
        "original_question": f"Question {idx}?",
        "modified_question": f"Question {idx}, changed?",
        "original_process": [f"original {number}" for number in range(original)],
        "modified_process": [f"{name} {number}" for number in range(modified)],
        "error_steps": errors,
    }


def task_of(folder: Path, rows: list[dict[str, Any]]) -> Task:
    path = folder / "prmbench.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in rows))
    return load(TaskConfig("p", "prmbench", Source(format="prmbench", path=str(path))))


# ── the authors' evaluation, rendered plainly ────────────────────────────────────────────────


def ratio(part: float, whole: float) -> float:
    return -1 if whole == 0 else part / whole


def f1(matrix: dict[str, int], negative: bool) -> float:
    hit, wrong = ("TN", "FN") if negative else ("TP", "FP")
    missed = "FP" if negative else "FN"
    precision = ratio(matrix[hit], matrix[hit] + matrix[wrong])
    recall = ratio(matrix[hit], matrix[hit] + matrix[missed])
    return -1 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def evaluate(
    rows: list[dict[str, Any]], labels: dict[str, list[int] | None]
) -> dict[str, dict[str, float]]:
    """From rows and labels (id → one 1, right, or 0 per step; None: invalid) to metrics by class.

    The metrics of all classes but `correct` together stand under `total`.
    """
    items: dict[str, tuple[str, list[int]]] = {}
    for item in rows:
        if item["classification"] == "redundency":
            items.setdefault(f"correct_{item['idx']}", ("correct", []))
        name = item["classification"]
        items.setdefault(f"{name}_{item['idx']}", (name, item["error_steps"]))
    groups: dict[str, list[str]] = {}
    for id, (name, _) in items.items():
        groups.setdefault(name, []).append(id)
        if name != "correct":
            groups.setdefault("total", []).append(id)
    found = {}
    for name, ids in groups.items():
        matrix = dict.fromkeys(("TP", "FP", "TN", "FN"), 0)
        firsts, differences, hits = [], [], []
        for id in ids:
            said = labels[id]
            if said is None:
                continue
            own, errors = items[id]
            for number, label in enumerate(said, start=1):
                truth = number not in errors
                matrix[("TP" if label else "FN") if truth else ("FP" if label else "TN")] += 1
                hits.append(label == truth)
                if errors and number == min(errors):
                    firsts.append(1 - label)
            if own != "correct":
                pair = labels.get("correct_" + id.removeprefix(f"{own}_"))
                if pair is not None and sum(pair) > 0:
                    differences.append(abs(sum(said) / len(said) - sum(pair) / len(pair)))
        found[name] = {
            "precision": ratio(matrix["TP"], matrix["TP"] + matrix["FP"]),
            "recall": ratio(matrix["TP"], matrix["TP"] + matrix["FN"]),
            "f1": f1(matrix, negative=False),
            "negative_precision": ratio(matrix["TN"], matrix["TN"] + matrix["FN"]),
            "negative_recall": ratio(matrix["TN"], matrix["TN"] + matrix["FP"]),
            "negative_f1": f1(matrix, negative=True),
            "correct_step_acc": ratio(matrix["TP"], matrix["TP"] + matrix["FN"]),
            "wrong_step_acc": ratio(matrix["TN"], matrix["TN"] + matrix["FP"]),
            "total_step_acc": ratio(sum(hits), len(hits)),
            "first_error_acc": ratio(sum(firsts), len(firsts)),
            "similarity": ratio(sum(differences), len(differences)),
        }
        if name == "multi_solutions":
            found[name]["prm_score"] = found[name]["f1"]
        elif name != "correct":
            found[name]["prm_score"] = 0.5 * found[name]["f1"] + 0.5 * found[name]["negative_f1"]
    return found


def compare(task: Task, rows: list[dict[str, Any]], labels: dict[str, list[int] | None]) -> None:
    called = []
    for item in task.solutions:
        said = labels[item.id]
        called.append(None if said is None else [label == 0 for label in said])
    found = measure(task, called)
    expected = evaluate(rows, labels)
    assert set(found["classes"]) | {"total"} == set(expected) | {"total"}
    for name, values in expected.items():
        ours = found["total"] if name == "total" else found["classes"][name]
        assert ours == pytest.approx(values, abs=1e-12), name


# ── items ────────────────────────────────────────────────────────────────────────────────────


def test_items_are_those_of_the_authors_loader(tmp_path):
    rows = [
        row("a", "redundency", 2, [2]),
        row("a", "circular", 3, [1, 3]),
        row("b", "redundency", 1, []),
        row("a", "redundency", 2, [1]),  # again: passed over, and so is its original
    ]
    task = task_of(tmp_path, rows)
    ids = [item.id for item in task.solutions]
    assert ids == ["correct_a", "redundency_a", "circular_a", "correct_b", "redundency_b"]
    assert task.subsets == ["correct", "redundency", "circular", "correct", "redundency"]
    assert task.first_errors == [-1, 1, 0, -1, -1]
    assert task.wrong is not None
    assert task.wrong[2] == [True, False, True]
    assert task.solutions[0].problem == "Question a?"
    assert task.solutions[0].steps == ("original 0", "original 1")
    assert task.solutions[1].problem == "Question a, changed?"


def test_processes_may_be_texts(tmp_path):
    item = row("a", "redundency", 2, [2])
    for name in ("original_process", "modified_process"):
        item[name] = json.dumps(item[name])
    assert [len(each.steps) for each in task_of(tmp_path, [item]).solutions] == [2, 2]


def test_the_kind_needs_its_format(tmp_path):
    with pytest.raises(ConfigError, match=r"kind prmbench needs source\.format prmbench"):
        load(TaskConfig("p", "prmbench", Source(path=str(tmp_path / "x.jsonl"))))


def test_a_row_without_its_original_is_refused(tmp_path):
    item = row("a", "redundency", 2, [2])
    del item["original_process"]
    with pytest.raises(RecordError, match=r"prmbench\.jsonl:1: missing column 'original_process'"):
        task_of(tmp_path, [item])


# ── metrics ──────────────────────────────────────────────────────────────────────────────────


def test_all_small_cases(tmp_path):
    """Every set of wrong steps and every prediction, up to 2 + 2 steps of two solutions and the
    original of one of them."""
    seen = 0
    for one, other in itertools.product((1, 2), repeat=2):
        marks = (range(1, one + 2), range(1, other + 2))  # one more than there are steps
        for errors in itertools.product(*(subsets(list(mark)) for mark in marks)):
            rows = [
                row("a", "redundency", one, errors[0]),
                row("a", "missing_condition", other, errors[1]),
            ]
            task = task_of(tmp_path, rows)
            for bits in itertools.product((0, 1), repeat=one + other + 2):
                said = list(bits)
                labels: dict[str, list[int] | None] = {
                    "correct_a": said[:2],
                    "redundency_a": said[2 : 2 + one],
                    "missing_condition_a": said[2 + one :],
                }
                compare(task, rows, labels)
                seen += 1
    assert seen == 16 * 16 + 2 * 32 * 32 + 64 * 64


def subsets(values: list[int]) -> list[list[int]]:
    sizes = range(len(values) + 1)
    return [list(found) for size in sizes for found in itertools.combinations(values, size)]


@st.composite
def benchmarks(draw: st.DrawFn) -> list[dict[str, Any]]:
    pairs = st.tuples(st.sampled_from("abc"), st.sampled_from(CLASSES))
    rows = []
    for idx, name in draw(st.lists(pairs, min_size=1, max_size=12)):
        steps = draw(st.integers(1, 4))
        errors = draw(st.lists(st.integers(0, steps + 1), unique=True, max_size=3))
        rows.append(row(idx, name, steps, errors, original=draw(st.integers(1, 3))))
    return rows


@given(benchmarks(), st.data())
def test_the_authors_metrics(tmp_path_factory, rows, data):
    task = task_of(tmp_path_factory.mktemp("p"), rows)
    labels = {
        item.id: data.draw(
            st.none()
            | st.lists(st.integers(0, 1), min_size=len(item.steps), max_size=len(item.steps))
        )
        for item in task.solutions
    }
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for item in rows:
        kept.setdefault((item["idx"], item["classification"]), item)
    compare(task, list(kept.values()), labels)


def test_rows_that_name_no_step_of_theirs_are_counted_and_said(tmp_path):
    rows = [
        row("a", "circular", 2, [3]),
        row("b", "circular", 2, [1, 3]),
        row("c", "circular", 2, []),
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in rows))
    config = TaskConfig("p", "prmbench", Source(format="prmbench", path=str(path)))
    found = bench(tmp_path / "run", config)
    assert (found.tasks[0].misnamed, found.tasks[0].erroneous) == (1, 1)
    assert "1 called erroneous for steps that they do not have" in format_table(found)


def bench(out, task):
    stage.run(
        stage.Config(
            out=str(out),
            tasks=[task],
            predictors=[PredictorConfig("wrong", baseline="first_wrong")],
        )
    )
    return results.read(out / "results.json")


def test_prmscore_is_one_number_and_the_headline_another(tmp_path):
    """The authors leave out what is not scored; the headline counts it as missed."""
    items = [row("a", "circular", 3, [2]), row("b", "circular", 3, [1])]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    config = TaskConfig("p", "prmbench", Source(format="prmbench", path=str(path)))
    task = load(config)
    record = PredictorRecord(id="m", kind="baseline", model="m")

    def said(scores):
        return [
            ItemScores(predictor="m", task="p", solution_id=item.id, scores=own,
                       reason=None if own else "too long")
            for item, own in zip(task.solutions, scores, strict=True)
        ]  # fmt: skip

    def row_of(scores):
        own = Said(PredictorConfig("m", baseline="first_wrong"), record, {"p": said(scores)})
        (found,) = evaluate_ours([task], [own], Choosing(["min"], [1]), 0)[1]
        return found

    whole = row_of([(1.0, 0.0, 1.0), (1.0, 0.0, 1.0)])
    assert shown(whole, "prm_score").value == pytest.approx(whole.metrics["f1_macro"].value)
    fewer = row_of([(1.0, 0.0, 1.0), None])
    assert shown(fewer, "prm_score").value == fewer.details["total"]["prm_score"] == 1.0
    assert fewer.metrics["f1_macro"].value <= whole.metrics["f1_macro"].value
    assert [name for name, _ in COLUMNS["prmbench"] if name == "PRMScore"] == ["PRMScore"]


def test_undefined_parts_enter_f1(tmp_path):
    # All steps are wrong and all are called so: precision and recall of right steps are 0/0.
    task = task_of(tmp_path, [row("a", "circular", 2, [1, 2])])
    own = measure(task, [[True, True]])["classes"]["circular"]
    assert (own["precision"], own["recall"], own["f1"], own["negative_f1"]) == (-1, -1, -1, 1.0)
    assert own["prm_score"] == 0.0
    # All are right and all are called wrong: precision -1 and recall 0 give an F1 of 0.
    task = task_of(tmp_path, [row("a", "circular", 2, [])])
    own = measure(task, [[True, True]])["classes"]["circular"]
    assert (own["precision"], own["recall"], own["f1"]) == (-1, 0, 0)
    assert (own["negative_precision"], own["negative_recall"], own["negative_f1"]) == (0, -1, 0)


def test_scores_categories_and_the_unscored(tmp_path):
    rows = [row("a", name, 2, [] if name == "multi_solutions" else [2]) for name in CLASSES]
    task = task_of(tmp_path, rows)
    called = [[False, wrong[1]] for wrong in task.wrong or []]
    found = measure(task, called)
    assert found["validity_rate"] == 1.0
    assert {name: values["prm_score"] for name, values in found["classes"].items()
            if name != "correct"} == dict.fromkeys(CLASSES, 1.0)  # fmt: skip
    assert found["categories"] == dict.fromkeys(CATEGORIES, 1.0)
    assert found["classes"]["multi_solutions"]["negative_f1"] == -1  # and still its score is 1
    assert found["total"]["similarity"] == pytest.approx(8 * 0.5 / 9)
    # Without the original there is nothing to be similar to; without one class, no category.
    unscored: list[list[bool] | None] = list(called)
    unscored[0] = None
    assert measure(task, unscored)["total"]["similarity"] == -1
    assert measure(task, unscored)["validity_rate"] == 1.0
    unscored[1] = None
    assert measure(task, unscored)["validity_rate"] == pytest.approx(8 / 9)
    assert measure(task, unscored)["classes"]["redundency"]["prm_score"] == -1
    part = restrict(task, [1, 2, 3])
    assert set(measure(part, called[1:4])["categories"]) == {"simplicity"}


def test_a_first_error_before_the_first_step_is_not_looked_at(tmp_path):
    rows = [row("a", "circular", 2, [0, 2]), row("b", "circular", 2, [2, 3])]
    task = task_of(tmp_path, rows)
    assert task.first_errors == [1, 1]
    found = measure(task, [[False, False], [False, True]])["classes"]["circular"]
    assert found["first_error_acc"] == 1.0  # of the second row alone
    assert found["wrong_step_acc"] == 0.5


def test_an_original_called_all_wrong_is_no_yardstick(tmp_path):
    task = task_of(tmp_path, [row("a", "redundency", 2, [2])])
    assert measure(task, [[True, True], [False, False]])["total"]["similarity"] == -1
    assert measure(task, [[True, False], [False, False]])["total"]["similarity"] == 0.5


@pytest.mark.data
def test_prmbench_as_published(data_dir):
    path = str(data_dir / "prmbench/subset394.jsonl")
    task = load(TaskConfig("p", "prmbench", Source(format="prmbench", path=path)))
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert len(task.solutions) == 394 + 48
    counts = {name: task.subsets.count(name) for name in set(task.subsets)}
    assert counts == {
        name: 10 if name == "multi_solutions" else 48 for name in [*CLASSES, "correct"]
    }
    labels: dict[str, list[int] | None] = {
        item.id: [int(len(step) % 3 > 0) for step in item.steps] for item in task.solutions
    }
    compare(task, rows, labels)
    perfect = measure(task, task.wrong or [])
    assert perfect["total"]["prm_score"] == 1.0
    assert all(math.isclose(value, 1.0) for value in perfect["categories"].values())
