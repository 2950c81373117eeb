"""What `prm train` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from prm.errors import ConfigError
from prm.render import RenderSettings
from prm.sources import Place, Source
from prm.train.batches import BatchConfig
from prm.train.losses import LossConfig
from prm.train.scratch import ScratchConfig


@dataclass
class Config:
    """`prm train`.

    Attributes:
        out: the run folder; gets `model/`, `rejected.jsonl`, the trainer's checkpoints, and
            `data.jsonl`, all that the sources gave: it need not fit into memory.
        sources: labelled solutions.
        model: a base model's folder or name; None makes one from nothing.
        revision: the base model's commit.
        scratch: the size of that model from nothing.
        benchmarks: what will be measured later; no training problem may occur there.
        on_leak: `refuse` fails on such a problem, `drop` sets its solutions aside, counted.
        too_long: `refuse` fails on a solution that exceeds `render.max_length`, `drop` sets it
            aside, counted; nothing is ever cut.
        reference: what stands in the reference's place: the worked solution, the final answer
            alone, or nothing.
        reference_drop: probability of leaving the reference out.
        render: how solutions become token ids.
        loss: what a step's score is trained to be.
        batches: how solutions come together in batches.
        held_out: share of problems kept for the threshold and the curves.
        seed: of split, drops, initial weights and order.
        peft: LoRA and the like, as keys of `trl.ModelConfig`; the adapter is merged at the end.
        trainer: keys of `transformers.TrainingArguments`.
    """

    out: str
    sources: list[Source]
    model: str | None = None
    revision: str | None = None
    scratch: ScratchConfig = field(default_factory=ScratchConfig)
    benchmarks: list[Place] = field(default_factory=list)
    on_leak: Literal["refuse", "drop"] = "refuse"
    too_long: Literal["refuse", "drop"] = "refuse"
    reference: Literal["worked", "answer", "none"] = "worked"
    reference_drop: float = 0.5
    render: RenderSettings = field(default_factory=RenderSettings)
    loss: LossConfig = field(default_factory=LossConfig)
    batches: BatchConfig = field(default_factory=BatchConfig)
    held_out: float = 0.05
    seed: int = 0
    peft: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)


def check(config: Config) -> None:
    """Refuse what cannot be.

    Raises:
        ConfigError: with the key.
    """
    if not config.sources:
        raise ConfigError("train needs at least one entry in `sources`")
    if not 0.0 <= config.reference_drop <= 1.0:
        raise ConfigError(f"reference_drop is {config.reference_drop}; it must lie in [0, 1]")
    if not 0.0 < config.held_out < 1.0:
        raise ConfigError(f"held_out is {config.held_out}; it must lie between 0 and 1")
    if config.reference != "none" and not config.render.takes_reference:
        raise ConfigError("render.takes_reference is false; set reference: none to agree")
