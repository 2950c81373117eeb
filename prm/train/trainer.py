"""The Hugging Face trainer with a loss over step ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction, Trainer, TrainerCallback

from prm import metrics
from prm.train.data import StepDataset
from prm.train.losses import IGNORE, squared_error


class PRMTrainer(Trainer):
    """`transformers.Trainer` whose loss is `squared_error` over raw scores.

    N is counted by the Trainer over all devices and accumulated batches, so a run's gradients
    do not depend on how a batch is cut up.
    """

    def __init__(self, **arguments: Any) -> None:
        # Handing over a loss function is what makes the Trainer count labels and scale by them.
        super().__init__(compute_loss_func=squared_error, **arguments)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """As the base class; the loss also sees the weights of the solutions."""
        rest = {key: value for key, value in inputs.items() if key not in ("labels", "weights")}
        outputs = model(**rest)
        loss = squared_error(
            outputs.logits[..., 0], inputs["labels"], inputs["weights"], num_items_in_batch
        )
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over devices
        return (loss, outputs) if return_outputs else loss


class EpochCallback(TrainerCallback):
    """Tells the data set which epoch it is, also after resuming."""

    def __init__(self, dataset: StepDataset) -> None:
        self._dataset = dataset

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._dataset.epoch = int(state.epoch or 0)


def step_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Step metrics on held-out data: AUROC, and F1 of wrong steps at its best threshold.

    They mean nothing unless `wrong_steps` lies between 0 and `steps`.
    """
    labels = np.asarray(prediction.label_ids)
    raw = prediction.predictions
    # In double precision a threshold may lie between neighbouring scores.
    scores = np.asarray(raw[0] if isinstance(raw, tuple) else raw, dtype=float)[..., 0]
    there = labels != IGNORE
    wrong, values = labels[there] < 0.5, scores[there]
    threshold = metrics.best_step_threshold(wrong, values)
    return {
        "auroc": metrics.auroc(wrong, values),
        "best_f1": metrics.step_f1(wrong, values < threshold).f1,
        "best_threshold": threshold,
        "wrong_steps": float(wrong.sum()),
        "steps": float(wrong.size),
    }
