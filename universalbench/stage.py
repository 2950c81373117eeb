"""`prm bench`: predictors on benchmarks, one table, one JSON file, one page.

Every number comes with the threshold it rests on and where that was chosen.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from prm import jsonl, metrics
from prm.errors import ConfigError
from prm.progress import track
from prm.records import first_error
from prm.run import Counts, Run, fingerprint
from prm.sources import identify
from prm.zoo import aurora
from prm.zoo.aurora import Threshold
from universalbench.predictors import Predictions, Predictor, PredictorConfig, Scores
from universalbench.report.page import write_page
from universalbench.report.table import format_table
from universalbench.tasks import Task, TaskConfig, load
from universalbench.thresholds import Chosen, check, choose

NEVER = -2
"""A first error that no solution has."""


@dataclass
class Config:
    """`prm bench`.

    Attributes:
        out: the run folder; gets `results.json` and `report.html`.
        tasks: benchmarks.
        predictors: what is compared on them.
    """

    out: str
    tasks: list[TaskConfig] = field(default_factory=list)
    predictors: list[PredictorConfig] = field(default_factory=list)


def run(config: Config) -> Counts:
    """Run all predictors on all tasks and print the table."""
    for name, entries in (("tasks", config.tasks), ("predictors", config.predictors)):
        names = [entry.name for entry in entries]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"bench needs `{name}`, each with a name of its own")
    for entry in config.predictors:
        check(entry, [task.name for task in config.tasks])
    with Run(config.out, "bench", config, _inputs(config)) as folder:
        if folder.counts is None:
            tasks = [load(task) for task in config.tasks]
            # Rows that differ in nothing but their threshold share one pass of one model.
            scored: dict[str, tuple[dict[str, Predictions], Threshold | None]] = {}
            rows: list[dict[str, Any]] = []
            for entry in track(config.predictors, "bench", "predictor"):
                key = repr(replace(entry, name="", threshold=None))
                if key not in scored:
                    predictor = Predictor(entry)
                    found = {task.name: predictor.predict(task) for task in tasks}
                    scored[key] = found, predictor.declared
                rows += _measure(entry, tasks, *scored[key])
            results = {"tasks": [_describe(task) for task in tasks], "rows": rows}
            text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
            jsonl.write_text(folder.path("results.json"), text + "\n")
            write_page(folder.path("report.html"), results)
            read = sum(len(task.solutions) for task in tasks)
            folder.finish(Counts(read=read, written=read), ["results.json", "report.html"])
        assert folder.counts is not None
        print(format_table(json.loads(folder.path("results.json").read_text())))
        return folder.counts


def _inputs(config: Config) -> dict[str, str]:
    inputs = {f"tasks.{task.name}": identify(task.source) for task in config.tasks}
    for entry in config.predictors:
        if entry.checkpoint is not None:
            inputs[f"predictors.{entry.name}"] = aurora.identify(entry.checkpoint.model)
        elif entry.annotations is not None:
            inputs[f"predictors.{entry.name}"] = fingerprint(entry.annotations)
    return inputs


def _describe(task: Task) -> dict[str, Any]:
    steps = sum(len(item.steps) for item in task.solutions)
    described = {
        "name": task.name,
        "kind": task.kind,
        "solutions": len(task.solutions),
        "steps": steps,
        "erroneous": sum(first != -1 for first in task.first_errors),
        "with_reference": sum(item.reference is not None for item in task.solutions),
    }
    if task.wrong is not None:
        described["wrong_steps"] = sum(sum(row) for row in task.wrong)
    return described


def _measure(
    entry: PredictorConfig,
    tasks: list[Task],
    predictions: dict[str, Predictions],
    declared: Threshold | None,
) -> list[dict[str, Any]]:
    scores = {name: prediction.scores for name, prediction in predictions.items()}
    threshold = choose(entry, declared, tasks, scores)
    rows = []
    for task in tasks:
        row: dict[str, Any] = {
            "task": task.name,
            "predictor": entry.name,
            "threshold": threshold.value,
            "threshold_source": threshold.source,
            "abstained_steps": predictions[task.name].abstained,
            "unscored": predictions[task.name].unscored,
            "unscored_reason": predictions[task.name].unscored_reason,
        }
        rows.append(row | measure(task, scores[task.name], threshold))
    return rows


def measure(task: Task, scores: Scores, threshold: Chosen) -> dict[str, Any]:
    """All metrics of one predictor on one task.

    A solution without scores stays in every count and is a miss: its first error counts as not
    found, and where it has none, that was not said; its steps count as called right, with a
    score above all others, so that its wrong ones are missed and its right ones earn nothing
    in precision, recall and F1.

    Returns:
        `first_error` (ProcessBench's accuracies and F1, with an interval), and, where every
        step's truth is known, `steps` (counts, precision, recall, F1, with an interval, AUROC).
    """
    said = [NEVER if row is None else first_error(row, threshold.value) for row in scores]
    first = metrics.first_error_f1(task.first_errors, said)
    measured: dict[str, Any] = {
        "first_error": asdict(first)
        | {"f1": first.f1, "interval": metrics.first_error_interval(task.first_errors, said)}
    }
    if task.wrong is None:
        return measured
    filled = [
        [math.inf] * len(truth) if row is None else row
        for row, truth in zip(scores, task.wrong, strict=True)
    ]
    called = [[value < threshold.value for value in row] for row in filled]
    wrong = [value for row in task.wrong for value in row]
    steps = metrics.step_f1(wrong, [value for row in called for value in row])
    measured["steps"] = asdict(steps) | {
        "precision": steps.precision,
        "recall": steps.recall,
        "f1": steps.f1,
        "interval": metrics.step_f1_interval(task.wrong, called),
        "auroc": metrics.auroc(wrong, [value for row in filled for value in row]),
    }
    return measured
