"""How fast a training run goes: tokens a second, and the share of the device's peak."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback

_PEAKS = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H200 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
}
"""Dense bfloat16 operations a second by a part of the device's name, the longer parts first.
Source: NVIDIA's data sheets."""


class Pace(TrainerCallback):
    """Counts what a process trains on, and says how fast.

    The trainer asks for the figures when it logs: what a callback adds in its `on_log` comes too
    late for the log's history and for reporters that stand before it.

    Args:
        model: the model before it is wrapped or spread over devices.
        groups: of processes that train on batches of their own.
        ranks: how many processes of a group share a batch.
        peak: operations a second of one device at most, see `peak`; None says nothing of it.
        clock: seconds, from any start.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        groups: int,
        ranks: int,
        peak: float | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._token_cost, self._pair_cost = costs(model)
        self._groups = groups
        self._ranks = ranks
        self._peak = peak
        self._clock = clock
        self.restart()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Loading and setting up are over."""
        self.restart()

    def restart(self) -> None:
        """Count from here on."""
        # Tensors once something was counted: what is on the device is read when it is asked for.
        self._tokens: Any = 0
        self._pairs: Any = 0
        self._start = self._clock()

    def leave_out(self, seconds: float) -> None:
        """Take time that was no training, such as an evaluation, out of the account."""
        self._start += seconds

    def count(self, inputs: dict[str, torch.Tensor]) -> None:
        """Count a batch, padded (`attention_mask`) or packed (`position_ids`)."""
        if "attention_mask" in inputs:
            lengths = inputs["attention_mask"].sum(-1)
            self._tokens += lengths.sum()
            self._pairs += (lengths * (lengths + 1) // 2).sum()
        else:
            positions = inputs["position_ids"]
            self._tokens += positions.numel()
            self._pairs += (positions + 1).sum()

    def read(self, tokens_before: float) -> dict[str, float]:
        """The figures since the last reading, and start anew.

        Args:
            tokens_before: the run's tokens up to the last reading.

        Returns:
            `tokens_per_second` over all groups, were they all like this one; `tokens`, the
            run's so far; `mfu`, the operations a second that the model needs as a share of the
            peak (model FLOPs utilisation, PaLM, arXiv 2204.02311), where the peak is known.
            What gradient checkpointing computes again is not counted.
        """
        seconds = max(self._clock() - self._start, 1e-9)
        tokens, pairs = int(self._tokens), int(self._pairs)
        figures = {
            "tokens_per_second": tokens * self._groups / seconds,
            "tokens": tokens_before + tokens * self._groups,
        }
        if self._peak is not None:
            operations = tokens * self._token_cost + pairs * self._pair_cost
            figures["mfu"] = operations / self._ranks / seconds / self._peak
        self.restart()
        return figures


def costs(model: torch.nn.Module) -> tuple[float, float]:
    """Floating-point operations of training a dense model, forward and backward.

    A weight costs 2 operations a token forward, 2 for the gradient of its input and 2 for its
    own, which a frozen weight does without; a table of embeddings is only looked up. Attention
    costs 4 operations a layer, pair of tokens and channel forward, and twice that backward.

    Returns:
        operations per token, and per pair of a token with itself or an earlier one.
    """
    tables = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, torch.nn.Embedding)
        for parameter in module.parameters()
    }
    token = sum(
        # Under ZeRO-3 a parameter's own elements are elsewhere.
        getattr(parameter, "ds_numel", parameter.numel()) * (6 if parameter.requires_grad else 4)
        for parameter in model.parameters()
        if id(parameter) not in tables
    )
    config: Any = model.config
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    return float(token), float(12 * config.num_hidden_layers * width)


def peak(device: str) -> float | None:
    """Dense bfloat16 operations a second of a device, by its name; None where it is unknown."""
    return next((value for part, value in _PEAKS.items() if part in device), None)


def device_peak() -> float | None:
    """The same of the CUDA device in use; None without one."""
    return peak(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
