"""Where a predictor's threshold comes from; every table says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prm import metrics
from prm.errors import ConfigError
from universalbench.predictors import Predictor, PredictorConfig
from universalbench.tasks import Task


@dataclass(frozen=True)
class Chosen:
    """A threshold and how it was chosen."""

    value: float
    source: str


def check(config: PredictorConfig, tasks: Sequence[str]) -> None:
    """Refuse a threshold that is neither a number, nor `declared`, nor one of the tasks' names.

    Raises:
        ConfigError: names the predictor and the tasks.
    """
    if isinstance(config.threshold, str) and config.threshold not in ("declared", *tasks):
        raise ConfigError(
            f"predictor {config.name!r}: threshold {config.threshold!r} is neither a number nor "
            f"declared nor a task ({', '.join(tasks)})"
        )


def choose(
    predictor: Predictor, tasks: Sequence[Task], scores: Mapping[str, list[list[float]]]
) -> Chosen:
    """The threshold that a predictor uses on all tasks of a run.

    Args:
        predictor: whose configuration names a number, `declared`, or a task.
        tasks: the run's tasks.
        scores: task name → this predictor's scores there.

    Raises:
        ConfigError: see `check`.
    """
    check(predictor.config, [task.name for task in tasks])
    wanted = predictor.config.threshold
    if not isinstance(wanted, str):
        return Chosen(float(wanted), "given")
    if wanted == "declared":
        value, split = predictor.declared_threshold
        return Chosen(value, split)
    task = next(task for task in tasks if task.name == wanted)
    return Chosen(tune(task, scores[task.name]), f"best on {task.name} itself")


def tune(task: Task, scores: list[list[float]]) -> float:
    """The threshold with the best metric of the task's kind."""
    if task.wrong is None:
        return metrics.best_first_error_threshold(task.first_errors, scores)
    wrong = [value for row in task.wrong for value in row]
    return metrics.best_step_threshold(wrong, [value for row in scores for value in row])
