"""Where a predictor's threshold comes from; every table says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prm.errors import CheckpointError, ConfigError, RecordError
from prm.zoo.entry import Threshold
from universalbench.measures import HEADLINES, Scores, measure, measured, sweep
from universalbench.predictors import PredictorConfig
from universalbench.resampling import part
from universalbench.results import Cut, Item, PredictorRecord

DEFAULT = 0.5
"""The cut on probabilities where none is given."""


@dataclass(frozen=True)
class Labelled:
    """The items of a task whose steps' truth is known, and a predictor's scores of them."""

    kind: str
    items: Sequence[Item]
    scores: Scores


@dataclass(frozen=True)
class Chosen:
    """A threshold, and the problems it was chosen on.

    Attributes:
        cut: see `Cut`.
        problems: keys of the problems that it was chosen on, or is kept from on their account.
        held_out: whether what is measured must leave those problems out.
        untold: a checkpoint's own for solutions of which it is told nothing; None where `cut` is
            for those too, or where there is none.
        for_told: whether `cut` is for solutions of which something is told.
    """

    cut: Cut
    problems: frozenset[str] = frozenset()
    held_out: bool = False
    untold: Cut | None = None
    for_told: bool = False

    def keeps_out(self, problem: str) -> bool:
        """Whether what is measured must leave a problem out, by its key."""
        return self.held_out and problem in self.problems


def check(config: PredictorConfig, tasks: Sequence[str]) -> None:
    """Refuse a threshold that is neither a number, nor `declared`, nor one of the tasks' names,
    and a step's length without one: its scores have no natural cut.

    Args:
        config: the predictor.
        tasks: names of the tasks that know the truth of steps; without any there is nothing to
            cut.

    Raises:
        ConfigError: names the predictor and the tasks.
    """
    where = f"predictor {config.name!r}"
    if tasks and config.threshold is None and config.baseline in ("long_steps", "short_steps"):
        raise ConfigError(
            f"{where}: {config.baseline} has no default threshold; give a task "
            f"to choose it on ({', '.join(tasks)})"
        )
    if isinstance(config.threshold, str) and config.threshold not in ("declared", *tasks):
        raise ConfigError(
            f"{where}: threshold {config.threshold!r} is neither a number nor "
            f"declared nor a task ({', '.join(tasks) or 'none has labels to choose it on'})"
        )
    if config.threshold_split is None:
        return
    if not isinstance(config.threshold, str) or config.threshold == "declared":
        raise ConfigError(f"{where}: threshold_split needs a task as its threshold")
    if not 0 < config.threshold_split < 1:
        raise ConfigError(
            f"{where}: threshold_split is {config.threshold_split}; it must lie between 0 and 1"
        )


def refuse_undeclared(config: PredictorConfig, declared: Threshold | None) -> None:
    """Refuse `declared` where nothing is.

    Raises:
        CheckpointError: the predictor declares no threshold.
    """
    if config.threshold == "declared" and declared is None:
        raise CheckpointError(
            f"predictor {config.name!r} declares no threshold for this use; give a number or a task"
        )


def choose(
    config: PredictorConfig,
    record: PredictorRecord,
    tasks: Mapping[str, Labelled],
    seed: int,
) -> Chosen:
    """The threshold that a predictor uses on all tasks of a run.

    Args:
        config: names a number, `declared`, or a task; or nothing, for `DEFAULT`.
        record: of the predictor; says what thresholds its checkpoint declares.
        tasks: name → what this predictor said there; only what is scored is tuned on.
        seed: of a split.

    Raises:
        ConfigError: see `check`.
        CheckpointError: the checkpoint declares no threshold.
        RecordError: a split leaves nothing to choose on or to measure.
    """
    check(config, list(tasks))
    refuse_undeclared(config, record.declared)
    wanted = config.threshold
    if wanted is None:
        return Chosen(Cut(value=DEFAULT, how="default", source="default"))
    if not isinstance(wanted, str):
        return Chosen(Cut(value=float(wanted), how="given", source="given"))
    if wanted == "declared":
        return as_declared(record)
    return _best(config, tasks[wanted], seed)


def as_declared(record: PredictorRecord) -> Chosen:
    """The thresholds that a checkpoint declares for the use made of it."""
    cuts = [
        None if found is None else Cut(value=found.value, how="declared", source=found.split)
        for found in (record.declared, record.declared_untold)
    ]
    assert cuts[0] is not None  # see `refuse_undeclared`
    return Chosen(cuts[0], untold=cuts[1], for_told=record.reference != "none")


def _best(config: PredictorConfig, task: Labelled, seed: int) -> Chosen:
    name, share = str(config.threshold), config.threshold_split
    keys = [item.problem_key for item in task.items]
    kept = set(keys) if share is None else part(keys, share, seed)
    used = [
        index
        for index, (key, row) in enumerate(zip(keys, task.scores, strict=True))
        if key in kept and row is not None and measured(task.kind, task.items[index])
    ]
    if not used or (share is not None and kept == set(keys)):
        raise RecordError(
            f"task {name!r}: {len(set(keys))} problems leave nothing to choose the threshold of "
            f"predictor {config.name!r} on, or nothing to measure; change threshold_split"
        )
    value = tune(
        HEADLINES[task.kind],
        [task.items[index] for index in used],
        [task.scores[index] for index in used],
    )
    problems = len({keys[index] for index in used})
    if share is None:
        source = f"best on {name}"
    else:
        source = f"best on {problems} of {len(set(keys))} problems of {name}"
    cut = Cut(
        value=value,
        how="task" if share is None else "split",
        source=source,
        task=name,
        share=share,
        solutions=len(used),
        problems=problems,
    )
    return Chosen(cut, frozenset(kept), held_out=share is not None)


def tune(metric: str, items: Sequence[Item], scores: Scores) -> float:
    """The exact best threshold of a metric, the lowest of several.

    All thresholds between two neighbouring scores say the same, so their midpoint stands for them.
    """
    cuts, sums = sweep(metric, items, scores)
    return float(cuts[best(measure(metric, items).statistic(sums))])


def best(values: np.ndarray) -> int:
    """Where a metric is best, the first of several; 0/0 earns nothing."""
    # Equal values may differ in their last bits where they are means.
    return int(np.argmax(np.round(np.nan_to_num(values, nan=0.0), 12)))
