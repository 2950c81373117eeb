"""What a training run will need, before a weight is loaded: `prm train --dry-run`.

Parameters are counted on torch's `meta` device, from the model's configuration alone. The formulas
are in `prm.train.memory`, what is counted of the data in `prm.train.volume`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

from prm.errors import CheckpointError
from prm.train import memory, pace, volume
from prm.train.base import add_adapter, require_context, vocabulary_texts
from prm.train.config import Config, check
from prm.train.launch import launched
from prm.train.memory import GIB, Layout, Memory, Offload, Sharding, Size
from prm.train.scratch import make_model, make_tokenizer
from prm.train.sequence import require_sequence_parallel

CARDS = (24, 40, 80, 141)
"""GiB of the devices that are compared."""
DEVICES = (1, 8, 16, 64)
SHARE = 0.4
"""Of a device's peak: what a well-kept run reaches."""
DEVICE = "H100"
"""Whose peak is taken; an H200's is the same."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The figures of a run.

    Attributes:
        size: the model's.
        here: how the run is spread, as this process was launched.
        tokens: the most in a forward pass.
        checkpointing: whether activations are computed again.
        width: tokens of a row where batches are padded; None where they are packed.
        data: None where a source is not there.
        steps: the optimizer's in one epoch; None without data.
        epochs: how many.
        operations: floating-point operations of one epoch; None without data.
        notes: what the figures rest on.
    """

    size: Size
    here: Layout
    tokens: int
    checkpointing: bool
    width: int | None
    data: volume.Data | None
    steps: int | None
    epochs: float
    operations: float | None
    notes: Sequence[str]

    def memory(self, layout: Layout, *, checkpointing: bool | None = None) -> Memory:
        """What a device holds under a layout."""
        again = self.checkpointing if checkpointing is None else checkpointing
        return memory.forecast(
            self.size, layout, self.tokens, checkpointing=again, width=self.width
        )

    def __str__(self) -> str:
        return "\n".join([*self._summary(), "", *self._layouts(), "", *self._matrix(), *self.notes])

    def _summary(self) -> Iterator[str]:
        trained = self.size.trainable
        share = "all" if trained == self.size.parameters else f"{trained:,}"
        yield f"model     {self.size.parameters:,} parameters, {share} trained"
        rows = "packed" if self.width is None else "padded"
        whose = "device" if self.here.shared == 1 else f"row over {self.here.shared} devices"
        yield f"forward   at most {self.tokens:,} tokens a {whose}, {rows}"
        if self.data is None or self.steps is None or self.operations is None:
            return
        data, devices = self.data, self.here.devices
        yield (
            f"data      {data.solutions:,} solutions to train on, {data.held_out:,} held out; "
            f"{data.tokens / data.solutions:,.0f} tokens each, {max(data.lengths):,} at most"
        )
        yield (
            f"epoch     {data.tokens:,.0f} tokens, {self.steps:,} optimizer steps on {devices} "
            f"{_devices(devices)}"
        )
        operations = self.operations * self.epochs
        peak = pace.peak(DEVICE)
        assert peak is not None
        hours = operations / (SHARE * peak) / 3600
        yield (
            f"run       {self.epochs:.3g} epochs, {operations:.2e} operations: {hours:,.2f} hours "
            f"of an H100 or H200 at {SHARE:.0%} of its peak, {hours / devices:,.2f} on {devices}"
        )

    def _layouts(self) -> Iterator[str]:
        half, devices = self.here.half, self.here.devices
        layouts = [self.here]
        layouts += [layout for layout in _layouts(devices, half=half) if layout != self.here]
        again = "activations"
        head = ["GiB a device", "weights", "gradients", "optimizer", again, "again", "buffers"]
        rows = [[*head, "step", "most", "host"]]
        for layout in layouts:
            kept = self.memory(layout, checkpointing=False)
            again_ = self.memory(layout, checkpointing=True)
            used = again_ if self.checkpointing else kept
            figures = (
                *(used.weights, used.gradients, used.optimizer),
                *(kept.activations, again_.activations),
                *(used.buffers, used.step, used.total, used.host),
            )
            rows.append([str(layout), *(f"{figure / GIB:,.1f}" for figure in figures)])
        yield from _aligned(rows)
        yield (
            f"on {devices} {_devices(devices)}, the launch at hand first; "
            f"{'half' if half else 'single'} precision; `again`: activations with "
            f"gradient_checkpointing, which is {'on' if self.checkpointing else 'off'}"
        )

    def _matrix(self) -> Iterator[str]:
        half = self.here.half
        rows = [["most, GiB", *(f"{devices} {_devices(devices)}" for devices in DEVICES)]]
        for name in _layouts(1, half=half):
            cells = []
            for devices in DEVICES:
                layout = Layout(
                    sharding=name.sharding, devices=devices, half=half, offload=name.offload
                )
                most = self.memory(layout).total
                cells.append(f"{most / GIB:,.1f} {_card(most)}")
            rows.append([str(name), *cells])
        yield from _aligned(rows)
        yield (
            "behind each the smallest that holds it, of devices with "
            f"{', '.join(map(str, CARDS))} GiB, {memory.RESERVED / GIB:.0f} kept free"
        )


def forecast(config: Config) -> Forecast:
    """What a run needs.

    Raises:
        CheckpointError: the model's configuration cannot be read.
        ConfigError: the settings do not fit.
        RecordError: a source is not what it says.
    """
    notes: list[str] = []
    check(config)
    here = launched(config)
    found = volume.count(config, notes)
    model, tokenizer = _outline(config, found[0] > 0, notes)
    data = volume.read(config, found, tokenizer, notes) if found[0] else None
    groups = here.devices // here.shared
    steps = None if data is None else volume.steps(config, data, groups, notes)
    epochs = float(config.trainer.get("num_train_epochs", 3.0))
    most = config.trainer.get("max_steps", -1)
    if steps is not None and most > 0:
        epochs = most / steps
    require_sequence_parallel(
        model.config,
        here.shared,
        longest=config.render.max_length,
        batches=config.batches,
        rows=int(config.trainer.get("per_device_train_batch_size", 8)),
    )
    token_cost, pair_cost = pace.costs(model)
    return Forecast(
        size=memory.measure(model),
        here=here,
        tokens=volume.forward_tokens(config),
        checkpointing=bool(config.trainer.get("gradient_checkpointing", False)),
        width=None if config.batches.packing else config.render.max_length,
        data=data,
        steps=steps,
        epochs=epochs,
        operations=None if data is None else data.tokens * token_cost + data.pairs * pair_cost,
        notes=notes,
    )


def _outline(config: Config, known: bool, notes: list[str]) -> tuple[Any, Any]:
    """The model without weights, and its tokenizer; None where there is none at hand."""
    tokenizer: Any = None
    if config.model is None:
        texts = vocabulary_texts(volume.training(config) if known else ())
        tokenizer = make_tokenizer(texts, config.scratch.vocab_size)
        with torch.device("meta"):
            model = make_model(
                config.scratch,
                tokenizer,
                context=config.render.max_length,
                labels=config.loss.labels,
                seed=config.seed,
            )
            if not known:  # nothing to learn a vocabulary from: a full one
                model.resize_token_embeddings(config.scratch.vocab_size, mean_resizing=False)
    else:
        try:
            settings = AutoConfig.from_pretrained(
                config.model, revision=config.revision, num_labels=config.loss.labels
            )
            with torch.device("meta"):
                model = AutoModelForTokenClassification.from_config(settings)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{config.model}: {str(error).splitlines()[0]}") from None
        tokenizer = _tokenizer(config)
        if tokenizer is None:
            said = f"{config.model}: no tokenizer at hand; {volume.CHARACTERS} characters a token"
            notes.append(said)
    require_context(model, config.render.max_length)
    with torch.device("meta"):
        return add_adapter(model, config.peft), tokenizer


def _tokenizer(config: Config) -> Any:
    """The base model's tokenizer, or None."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.model, revision=config.revision)
    except (OSError, ValueError):
        return None
    # Where its files are missing, transformers makes a tokenizer without a vocabulary.
    return tokenizer if tokenizer.encode("a", add_special_tokens=False) else None


def _layouts(devices: int, *, half: bool) -> list[Layout]:
    """What is compared."""
    kinds: list[tuple[Sharding, Offload]] = [
        ("none", "none"),
        ("zero2", "none"),
        ("zero3", "none"),
        ("zero3", "all"),
        ("fsdp", "none"),
    ]
    return [
        Layout(sharding=sharding, devices=devices, half=half, offload=offload)
        for sharding, offload in kinds
    ]


def _card(most: int) -> str:
    """The smallest device that holds so much."""
    fitting = (card for card in CARDS if most + memory.RESERVED <= card * GIB)
    return next((f"({card})" for card in fitting), "(none)")


def _devices(count: int) -> str:
    return "GPU" if count == 1 else "GPUs"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
