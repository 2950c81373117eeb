"""Losses over step scores, each a sum over steps divided by the labelled steps of a whole batch.

    loss                    Σ over the labelled steps                              score
    squared_error           ½ w (r − r̂)²                                           r̂, raw
    binary_cross_entropy    w [−r log σ(s) − (1 − r) log σ(−s)]                    σ(s)
    two_class               the same of s = z₁ − z₀, two outputs, class 1 is right σ(s)
    ranking                 comparisons within a solution, see `ranking`           σ(s)

r is the soft label, w the weight; r̂ and s are raw scores, and what the finished checkpoint says of
a step is the last column. The functions take flat vectors of raw scores, one entry per labelled
step; `StepLoss` picks those out of a batch, so padding and packing make no difference, and divides
by N, the labelled steps over all devices and accumulated batches, so neither does how a batch is
cut up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from prm.zoo.aurora import LOGITS, raw_scores

IGNORE = -100.0
"""Label of a position that the loss leaves out. No label equals it: labels lie in [0, 1]."""

_NOTHING = -1e30
"""A logit whose exponential is 0. Finite, so that no gradient meets infinity less infinity."""


@dataclass
class LossConfig:
    """What a step's score is trained to be.

    Attributes:
        kind: the loss; see this module's head.
        after_first_error: `ignore` leaves out the steps after the first whose label is below
            0.5. Source: the labels of PRM800K end there (arXiv 2305.20050).
        steps: `last` trains on the label of a solution's last step alone: an outcome model
            (arXiv 2211.14275).
        agreement: `weigh` gives a step the weight 2 a − 1, a being the share of votes on the
            majority's side: the majority's lead. A tie then weighs 0. Ours.
        last_step_weight: the weight of a solution's last step against 1 for the others. Ours.
        margin: for `ranking`, how far above the wrong steps the right ones should lie; ζ in
            the source of `ranking`.
    """

    kind: Literal["squared_error", "binary_cross_entropy", "two_class", "ranking"] = "squared_error"
    after_first_error: Literal["keep", "ignore"] = "keep"
    steps: Literal["all", "last"] = "all"
    agreement: Literal["ignore", "weigh"] = "ignore"
    last_step_weight: float = 1.0
    margin: float = 4.0

    def __post_init__(self) -> None:
        if not 0.0 < self.last_step_weight < math.inf:
            raise ValueError(f"last_step_weight is {self.last_step_weight}; it must be above 0")
        if not 0.0 <= self.margin < math.inf:
            raise ValueError(f"margin is {self.margin}; it must be at least 0")
        if self.steps == "last" and self.after_first_error == "ignore":
            raise ValueError(
                "steps: last with after_first_error: ignore would leave solutions without a "
                "label; take one of them"
            )

    @property
    def labels(self) -> int:
        """How many outputs the model's head has."""
        return 2 if self.kind == "two_class" else 1

    @property
    def meaning(self) -> str:
        """What a score is, in words; for the checkpoint's declaration."""
        return {
            "squared_error": "raw score; about the probability that the step is right",
            "binary_cross_entropy": "sigmoid of the output; about the probability that the step "
            "is right",
            "two_class": "sigmoid of right less wrong; about the probability that the step is "
            "right",
            "ranking": "sigmoid of PQM's Q-value; orders the steps of a solution, 0.5 is its "
            "start, and as a probability it is not calibrated",
        }[self.kind]


class StepLoss:
    """The loss of a batch under one configuration.

    Args:
        config: see `LossConfig`. Of its fields `kind` and `margin` matter here; the others
            shape the targets (`prm.train.targets`).
    """

    def __init__(self, config: LossConfig) -> None:
        self.config = config

    def __call__(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor,
        groups: torch.Tensor,
        count: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """The loss, a float32 scalar.

        Args:
            logits: the model's outputs, any float type, `[rows, tokens, 1 or 2]`.
            labels: soft labels in [0, 1], `IGNORE` where there is none, `[rows, tokens]`.
            weights: the weight of each labelled step, `[rows, tokens]`.
            groups: the number of the solution at its step ends, `[rows, tokens]`.
            count: N, the labelled steps over all devices and accumulated batches; None counts
                this batch alone.
        """
        # Ignored positions go before any arithmetic, so an overflow there cannot leak in.
        labelled = labels != IGNORE
        scores = raw_scores(logits[labelled])
        target, weight = labels[labelled].float(), weights[labelled].float()
        match self.config.kind:
            case "squared_error":
                total = squared_error(scores, target, weight)
            case "binary_cross_entropy" | "two_class":
                total = cross_entropy(scores, target, weight)
            case "ranking":
                total = ranking(scores, target, weight, groups[labelled], self.config.margin)
        return total / torch.as_tensor(len(scores) if count is None else count).clamp(min=1)

    def scores(self, raw: torch.Tensor) -> torch.Tensor:
        """What the finished checkpoint says of a step: `prm.zoo.aurora` reads it likewise."""
        return raw.sigmoid() if self.config.kind in LOGITS else raw

    def probabilities(self, scores: torch.Tensor) -> torch.Tensor | None:
        """What scores say of the probability that a step is right; None where it is an order."""
        return None if self.config.kind == "ranking" else scores.clamp(0.0, 1.0)


def squared_error(
    scores: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """½ Σ w (r − r̂)² over steps, `[steps]` each.

    Source: AURORA (arXiv 2502.11520); the weights are ours and 1 there.
    """
    return (weights * (scores - labels).square()).sum() / 2


def cross_entropy(
    scores: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Σ w [−r log σ(s) − (1 − r) log σ(−s)] over steps, `[steps]` each; r may be soft.

    Two classes need no function of their own: a softmax over (z₀, z₁) depends on s = z₁ − z₀
    alone, log softmax₁ = log σ(s) and log softmax₀ = log σ(−s).

    Source: Math-Shepherd (arXiv 2312.08935), with hard and with soft labels; the weights are
    ours and 1 there.
    """
    return torch.nn.functional.binary_cross_entropy_with_logits(
        scores, labels, weights, reduction="sum"
    )


def ranking(
    scores: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    groups: torch.Tensor,
    margin: float,
) -> torch.Tensor:
    """Right steps above wrong ones, later right steps above earlier ones.

    A step is right from a label of 0.5 on. Of a solution, let c₁, c₂, … be the right steps in
    order, W the wrong ones, and c₀ its start, whose score is fixed at 0. Each c_t is compared
    with its right predecessors and with all wrong steps, those lifted by the margin ζ:

        ℓ_t = −log [ exp s_{c_t} / ( Σ_{q ≤ t} exp s_{c_q} + Σ_{j ∈ W} exp(s_j + ζ) ) ]

    for t ≥ 1, and for t = 0 where W is not empty. The solution's loss is the mean of w_t ℓ_t over
    these comparisons, w_0 being the mean weight of its wrong steps. A step of weight 0 takes no
    part. Returned is Σ over solutions of (labelled steps) × (loss): divided by N this is the
    mean over solutions, each weighed by its steps, and a batch may be cut between solutions.

    Source: the comparative loss of PQM (arXiv 2410.11287) in its practical form, which does not
    order the wrong steps among themselves. There s is the Q-value, the logit of the probability
    that the right answer is still reached; the loss compares, so nothing makes σ(s) that
    probability but for the start, fixed at σ(0) = ½. Ours are the weights, the soft labels' cut
    and the weighing of solutions by their steps (there: equal). Its published code counts
    exp s_{c_t} twice in the denominator from the second step on; here it counts once.

    Args:
        scores, labels, weights: `[steps]` each.
        groups: the number of each step's solution; a solution's steps stand in order, `[steps]`.
        margin: ζ.
    """
    row, column, shape = by_solution(groups)

    def table(values: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
        return values.new_full(shape, fill).index_put((row, column), values)

    weight, score = table(weights), table(scores)
    there = weight > 0
    right = there & (table(labels) >= 0.5)
    wrong = there & ~right
    # One column more than steps: the start stands first.
    up = torch.where(right, score, _NOTHING)
    up = torch.cat([up.new_zeros(len(up), 1), up], 1)
    against = torch.where(wrong, score + margin, _NOTHING).logsumexp(1, keepdim=True)
    losses = torch.logaddexp(up.logcumsumexp(1), against) - up
    wrong_steps = wrong.sum(1, keepdim=True)
    start = (weight * wrong).sum(1, keepdim=True) / wrong_steps.clamp(min=1)
    compared = torch.cat([wrong_steps > 0, right], 1)
    weighed = torch.where(compared, torch.cat([start, weight], 1) * losses, 0.0)
    means = weighed.sum(1) / compared.sum(1).clamp(min=1)
    return (torch.bincount(row, minlength=len(means)) * means).sum()


def by_solution(groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """Where steps belong in a table of one row per solution, one column per step.

    Args:
        groups: the number of each step's solution; any numbers, solutions in any order, the
            steps of one in theirs, `[steps]`.

    Returns:
        row and column of each step, `[steps]` each, and the table's shape.
    """
    _, row = groups.unique(return_inverse=True)
    sizes = torch.bincount(row)
    order = row.argsort(stable=True)
    column = torch.empty_like(row)
    places = torch.arange(len(row), device=row.device)
    column[order] = places - (sizes.cumsum(0) - sizes)[row[order]]
    return row, column, (len(sizes), int(sizes.max()) if len(sizes) else 0)
