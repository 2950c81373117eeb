"""Where a predictor's threshold comes from; every table says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prm import metrics
from prm.errors import CheckpointError, ConfigError
from prm.zoo.aurora import Threshold
from universalbench.predictors import PredictorConfig, Scores
from universalbench.tasks import Task

DEFAULT = 0.5
"""The cut on probabilities where none is given."""


@dataclass(frozen=True)
class Chosen:
    """A threshold and how it was chosen."""

    value: float
    source: str


def check(config: PredictorConfig, tasks: Sequence[str]) -> None:
    """Refuse a threshold that is neither a number, nor `declared`, nor one of the tasks' names,
    and a step's length without one: its scores have no natural cut.

    Raises:
        ConfigError: names the predictor and the tasks.
    """
    if config.threshold is None and config.baseline in ("long_steps", "short_steps"):
        raise ConfigError(
            f"predictor {config.name!r}: {config.baseline} has no default threshold; give a task "
            f"to choose it on ({', '.join(tasks)})"
        )
    if isinstance(config.threshold, str) and config.threshold not in ("declared", *tasks):
        raise ConfigError(
            f"predictor {config.name!r}: threshold {config.threshold!r} is neither a number nor "
            f"declared nor a task ({', '.join(tasks)})"
        )


def choose(
    config: PredictorConfig,
    declared: Threshold | None,
    tasks: Sequence[Task],
    scores: Mapping[str, Scores],
) -> Chosen:
    """The threshold that a predictor uses on all tasks of a run.

    Args:
        config: names a number, `declared`, or a task; or nothing, for `DEFAULT`.
        declared: the checkpoint's own threshold, if it has one.
        tasks: the run's tasks.
        scores: task name → this predictor's scores there; only what is scored is tuned on.

    Raises:
        ConfigError: see `check`.
        CheckpointError: the checkpoint declares no threshold.
    """
    check(config, [task.name for task in tasks])
    wanted = config.threshold
    if wanted is None:
        return Chosen(DEFAULT, "default")
    if not isinstance(wanted, str):
        return Chosen(float(wanted), "given")
    if wanted == "declared":
        if declared is None:
            raise CheckpointError(
                f"predictor {config.name!r} declares no threshold for this use; give a number "
                "or a task"
            )
        return Chosen(declared.value, declared.split)
    task = next(task for task in tasks if task.name == wanted)
    return Chosen(tune(task, scores[task.name]), f"best on {task.name} itself")


def tune(task: Task, scores: Scores) -> float:
    """The threshold with the best metric of the task's kind, over the solutions with scores."""
    scored = [(index, row) for index, row in enumerate(scores) if row is not None]
    rows = [row for _, row in scored]
    if task.wrong is None:
        first_errors = [task.first_errors[index] for index, _ in scored]
        return metrics.best_first_error_threshold(first_errors, rows)
    wrong = [value for index, _ in scored for value in task.wrong[index]]
    return metrics.best_step_threshold(wrong, [value for row in rows for value in row])
