"""What DeepSpeed's ZeRO-3 needs of a training run; nothing happens where it is not in use.

ZeRO-3 keeps a part of every parameter on each device, from the moment a model is loaded.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations import is_deepspeed_zero3_enabled

from prm.errors import ConfigError

_GATHER = "zero_optimization.stage3_gather_16bit_weights_on_model_save"


def prepare(arguments: TrainingArguments) -> None:
    """Start DeepSpeed before a model is loaded.

    Raises:
        ConfigError: the settings would leave a model folder without weights.
    """
    if not is_deepspeed_zero3_enabled():
        return
    import deepspeed

    plugin: Any = arguments.deepspeed_plugin
    if not plugin.hf_ds_config.get_value(_GATHER, False):
        raise ConfigError(
            f"ZeRO-3 leaves no model without {_GATHER} (accelerate: zero3_save_16bit_model); set it"
        )
    deepspeed.init_distributed(arguments.ddp_backend)


def gathered(model: torch.nn.Module) -> contextlib.AbstractContextManager[Any]:
    """While open, all parameters are whole; every process must enter."""
    if not is_deepspeed_zero3_enabled():
        return contextlib.nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(model.parameters()))
