"""The Hugging Face trainer with a loss over step ends, and what it measures on held-out steps."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader
from transformers import EvalPrediction, Trainer, TrainerCallback, TrainingArguments

from prm import metrics
from prm.errors import TrainingError
from prm.records import first_error
from prm.train import sequence
from prm.train.batches import BatchConfig, train_loader
from prm.train.data import StepDataset
from prm.train.losses import IGNORE, StepLoss, by_solution
from prm.train.pace import Pace, device_peak
from prm.zoo.aurora import raw_scores

_TARGETS = ("labels", "weights", "groups")
"""Columns of a batch that the loss sees and the model does not."""


class PRMTrainer(Trainer):
    """`transformers.Trainer` with a `StepLoss`.

    N is counted by the Trainer over all devices and accumulated batches, so a run's gradients
    do not depend on how a batch is cut up. Batches may be padded or packed; evaluation batches
    hold `per_device_eval_batch_size` solutions either way, since the Trainer drops by that
    count what it repeated to give every process as much.

    A loss that is no number stops the run; see `TrainingError`. Its batch is kept in
    `<output_dir>/bad_batch.safetensors` (`bad_batch_1.safetensors` from process 1). Each process
    looks at its own loss alone, which costs no exchange; the launcher ends the others.

    Args:
        loss: what a step's score is trained to be.
        batches: how many tokens a training batch holds; None, or without `tokens`: as many
            solutions as `per_device_train_batch_size`.
        arguments: those of `transformers.Trainer`, but for the loss and the metrics.
    """

    def __init__(
        self, *, loss: StepLoss, batches: BatchConfig | None = None, **arguments: Any
    ) -> None:
        # Handing over a loss function is what makes the Trainer count labels and scale by them.
        super().__init__(
            compute_loss_func=loss, compute_metrics=partial(step_metrics, loss=loss), **arguments
        )
        self._loss = loss
        self._batches = batches
        self._ranks = sequence.ranks_of(self.accelerator)
        if self._ranks > 1:
            sequence.take_over(self.accelerator)
        self._groups = self.accelerator.num_processes // self._ranks
        self._pace = Pace(
            arguments["model"], groups=self._groups, ranks=self._ranks, peak=device_peak()
        )
        self.add_callback(self._pace)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """As the base class, or batches of so many tokens; the devices of a row get the same."""
        if self._batches is None or self._batches.tokens is None:
            loader = super().get_train_dataloader()
        else:
            data: Any = self.train_dataset
            collate: Any = self.data_collator
            loader = train_loader(
                data, self._batches, self.args, collate, self.accelerator, self._groups
            )
        return loader if self._ranks == 1 else sequence.deal(loader, self._ranks)

    def get_sp_size(self) -> int:
        """1: the base class takes it that the devices of a row load a batch each, and would count
        that many times the batches that there are. What it would divide by it is divided here."""
        return 1

    def get_total_train_batch_size(self, args: TrainingArguments) -> int:
        """As the base class, a shared row counting once."""
        size: int = super().get_total_train_batch_size(args)
        return size // self._ranks

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of a batch; everything but its targets goes to the model.

        Raises:
            TrainingError: the loss is NaN or infinite.
        """
        if self._ranks > 1 and model.training:  # an evaluation gives every device its own rows
            rank = self.accelerator.process_index % self._ranks
            outputs = model(**sequence.cut(inputs, rank, self._ranks))
            outputs.logits = sequence.gather(outputs.logits, inputs["input_ids"].shape[1])
        else:
            outputs = model(**_without_targets(inputs))
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            num_items_in_batch = num_items_in_batch // self._ranks  # all of a group counted them
        labels, weights, groups = (inputs[name] for name in _TARGETS)
        loss = self._loss(outputs.logits, labels, weights, groups, num_items_in_batch)
        if not torch.isfinite(loss).all():
            self._stop(inputs, f"the loss is {float(loss.detach().mean())}")
        if model.training:
            self._pace.count(inputs)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self._groups  # gradients are averaged over the groups of devices
        return (loss, outputs) if return_outputs else loss

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """As the base class, which under DeepSpeed casts what is no integer to the model's type:
        soft labels would be rounded (0.7 to 0.6992 in bfloat16), so targets only move."""
        targets = {name: inputs[name].to(self.args.device) for name in _TARGETS if name in inputs}
        return super()._prepare_inputs(_without_targets(inputs)) | targets

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor | None, Any, Any]:
        """Scores at the step ends alone, one row per solution: never `[rows, tokens]`.

        Returns:
            no loss, which `step_metrics` computes over all held-out steps; raw scores `[solutions,
            steps]`; labels and weights, likewise, `IGNORE` where a solution has fewer steps.

        Raises:
            TrainingError: a score is NaN or infinite.
        """
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            if prediction_loss_only:
                return self.compute_loss(model, inputs).detach(), None, None
            logits = model(**_without_targets(inputs)).logits
        ends = inputs["groups"] >= 0
        scores = raw_scores(logits[ends])
        labels, weights, groups = (inputs[name][ends] for name in _TARGETS)
        if not torch.isfinite(scores[labels != IGNORE]).all():
            self._stop(inputs, "the score of a held-out step is no finite number")
        row, column, shape = by_solution(groups)

        def table(values: torch.Tensor) -> torch.Tensor:
            return values.new_full(shape, IGNORE).index_put((row, column), values)

        return None, table(scores), (table(labels), table(weights))

    def evaluate(self, *arguments: Any, **keys: Any) -> dict[str, float]:
        """As the base class."""
        start = time.perf_counter()
        measured: dict[str, float] = super().evaluate(*arguments, **keys)
        self._pace.leave_out(time.perf_counter() - start)
        return measured

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As the base class; the log of a training step also says how fast the run goes."""
        if "loss" in logs:
            earlier = (row["tokens"] for row in reversed(self.state.log_history) if "tokens" in row)
            logs |= self._pace.read(next(earlier, 0))
        super().log(logs, start_time)

    def _stop(self, inputs: dict[str, Any], what: str) -> NoReturn:
        """Keep the batch and end the run."""
        process, step = self.args.process_index, self.state.global_step + 1
        name = f"bad_batch_{process}.safetensors" if process else "bad_batch.safetensors"
        assert self.args.output_dir is not None  # the Trainer sets one
        path = Path(self.args.output_dir) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {
            key: value.detach().cpu().contiguous()
            for key, value in inputs.items()
            if isinstance(value, torch.Tensor)
        }
        save_file(tensors, path, metadata={"step": str(step), "what": what})
        raise TrainingError(
            f"step {step}: {what}; its batch is kept in {path}. Try a lower "
            "trainer.learning_rate, and trainer.bf16 rather than fp16"
        )


class EpochCallback(TrainerCallback):
    """Tells the data set which epoch it is, also after resuming."""

    def __init__(self, dataset: StepDataset) -> None:
        self._dataset = dataset

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._dataset.epoch = int(state.epoch or 0)


def step_metrics(prediction: EvalPrediction, loss: StepLoss) -> dict[str, float]:
    """Metrics of held-out steps; a step is wrong from a label below 0.5.

    `auroc`, the F1s and the threshold mean nothing unless `wrong_steps` lies between 0 and
    `steps`.

    Scores are taken as the finished checkpoint gives them (`StepLoss.scores`), so a threshold is
    one for what `prm score` says. Where they are sigmoids this calls the same steps wrong as the
    best cut of the raw scores, but for those so far out that float32 holds one number for them.

    Args:
        prediction: raw scores, and labels and weights, as `PRMTrainer.prediction_step` gives them.
        loss: of the run.

    Returns:
        loss: over all steps at once, so it does not depend on batches.
        auroc, best_f1, best_threshold: of finding wrong steps, the threshold the best for F1.
        macro_f1: the mean F1 of wrong and of right steps at that threshold.
        first_error_f1: ProcessBench's F1 of first wrong steps, at its own best threshold.
        ece: expected calibration error against the soft labels; absent where a score says
            nothing of a probability.
        wrong_steps, steps: how many there are.
    """
    raw = np.asarray(prediction.predictions)
    labels, weights = (np.asarray(part) for part in prediction.label_ids)
    there = labels != IGNORE
    scores = loss.scores(torch.from_numpy(raw)).numpy()
    # In double precision a threshold may lie between neighbouring scores.
    wrong, values = labels[there] < 0.5, scores[there].astype(float)
    threshold = metrics.best_step_threshold(wrong, values)
    counted = metrics.step_f1(wrong, values < threshold)
    rows = [scores[row][mask].astype(float) for row, mask in enumerate(there) if mask.any()]
    first = [first_error(labels[row][mask]) for row, mask in enumerate(there) if mask.any()]
    cut = metrics.best_first_error_threshold(first, rows)
    said = [first_error(row, cut) for row in rows]
    measured = {
        "loss": _whole(loss, raw, labels, weights),
        "auroc": metrics.auroc(wrong, values),
        "best_f1": counted.f1,
        "best_threshold": threshold,
        "macro_f1": counted.macro_f1,
        "first_error_f1": metrics.first_error_f1(first, said).f1,
        "wrong_steps": float(wrong.sum()),
        "steps": float(wrong.size),
    }
    probabilities = loss.probabilities(torch.from_numpy(values))
    if probabilities is not None:
        measured["ece"] = metrics.calibration_error(labels[there], probabilities.numpy())
    return measured


def _whole(loss: StepLoss, raw: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """The loss of all held-out solutions as one batch."""
    groups = np.broadcast_to(np.arange(len(labels))[:, None], labels.shape)
    targets = (torch.from_numpy(part.copy()) for part in (labels, weights, groups))
    return float(loss(torch.from_numpy(raw)[..., None], *targets))


def _without_targets(inputs: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in inputs.items() if key not in _TARGETS}
