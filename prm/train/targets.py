"""From a labelled solution to what each step is trained on: a target and a weight."""

from __future__ import annotations

from prm.errors import RecordError
from prm.records import LabelledSolution, first_error
from prm.train.losses import IGNORE, LossConfig


def targets(item: LabelledSolution, loss: LossConfig) -> tuple[list[float], list[float]]:
    """Targets and weights of a solution's steps.

    The weight of step i of K is w · a_i · l_i: w the solution's, a_i = 2 · agreement_i − 1 with
    `agreement: weigh`, else 1, and l_i = `last_step_weight` for i = K, else 1. For the sources
    of the options see `LossConfig`.

    Args:
        item: the solution. Labels stay as soft as they are.
        loss: of its fields, `after_first_error`, `steps`, `agreement` and `last_step_weight`.

    Returns:
        one target per step, `IGNORE` where the loss leaves the step out, and one weight per
        step. Every solution keeps at least one target.

    Raises:
        RecordError: weights by agreement, and the solution has none, or one below 0.5.
    """
    steps = len(item.labels)
    labels = list(item.labels)
    if loss.after_first_error == "ignore" and (first := first_error(labels)) >= 0:
        labels[first + 1 :] = [IGNORE] * (steps - first - 1)
    if loss.steps == "last":
        labels[:-1] = [IGNORE] * (steps - 1)
    weights = [item.weight] * steps
    if loss.agreement == "weigh":
        weights = [weight * lead for weight, lead in zip(weights, _leads(item), strict=True)]
    weights[-1] *= loss.last_step_weight
    return labels, weights


def _leads(item: LabelledSolution) -> list[float]:
    """By how much of all votes the majority leads, per step."""
    if item.agreement is None:
        raise RecordError(
            f"solution {item.id!r} has no agreement values; set loss.agreement: ignore",
            field="agreement",
        )
    for index, share in enumerate(item.agreement):
        if share < 0.5:
            raise RecordError(
                f"solution {item.id!r}: {share} is no majority's share; it starts at 0.5",
                field=f"agreement.{index}",
            )
    return [2 * share - 1 for share in item.agreement]
