"""The keys of `trainer` in the configuration as the Trainer's own arguments."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from prm.errors import ConfigError
from prm.train import sequence
from prm.train.config import Config

_OURS = {
    "output_dir",
    "seed",
    "label_names",
    "remove_unused_columns",
    # Workers that outlive an epoch would never hear of the next one's reference drops.
    "dataloader_persistent_workers",
}
"""Keys of `trainer` that the stage sets itself."""


def training_arguments(config: Config) -> TrainingArguments:
    defaults: dict[str, Any] = {
        "output_dir": str(Path(config.out) / "trainer"),
        "seed": config.seed,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "report_to": [],
        "disable_tqdm": not sys.stderr.isatty(),  # a bar is for eyes; a log gets the losses
        "lr_scheduler_type": "cosine",
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "ddp_find_unused_parameters": False,
    }
    clash = sorted(_OURS & set(config.trainer))
    if clash:
        raise ConfigError(f"trainer.{clash[0]} is set by the stage; leave it out")
    if config.trainer.get("max_steps") == 0 or config.trainer.get("num_train_epochs") == 0:
        raise ConfigError("trainer.max_steps and trainer.num_train_epochs start above 0")
    processes = int(os.environ.get("WORLD_SIZE", 1))
    ranks = sequence.shared(config.trainer, processes)
    for known in dataclasses.fields(TrainingArguments):
        given = config.trainer.get(known.name)
        if isinstance(given, str) and isinstance(known.default, (int, float)):
            raise ConfigError(f"trainer.{known.name} is {given!r}; it must be like {known.default}")
    parallelism = {"parallelism_config": sequence.parallelism(ranks, processes)}
    try:
        arguments = TrainingArguments(**(defaults | config.trainer | parallelism))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"trainer: {error}; keys are those of transformers.TrainingArguments"
        ) from None
    if ranks > 1 and arguments.deepspeed_plugin is None:
        raise ConfigError(sequence.NO_DEEPSPEED)
    return arguments
