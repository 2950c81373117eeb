"""How this process was launched, alone or with others, and how it leaves them."""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import distributed

from prm.errors import ConfigError
from prm.train import sequence
from prm.train.config import Config
from prm.train.memory import Layout, Offload, Sharding

_PARTS = ("optimizer", "param")
_ZERO: Sequence[Sharding] = ("none", "zero1", "zero2", "zero3")


def launched(config: Config) -> Layout:
    """The layout that accelerate left in the environment, or that `trainer` asks for.

    Raises:
        ConfigError: settings for DeepSpeed that cannot be read, or rows that cannot be shared so.
    """
    given = os.environ
    devices = int(given.get("WORLD_SIZE", 1))
    shared = sequence.shared(config.trainer, devices)
    precision = given.get("ACCELERATE_MIXED_PRECISION", "no")
    half = precision in ("bf16", "fp16") or bool(
        config.trainer.get("bf16") or config.trainer.get("fp16")
    )
    settings = config.trainer.get("deepspeed") or given.get("ACCELERATE_DEEPSPEED_CONFIG_FILE")
    if settings:
        zero = _zero_settings(settings)
        stage = int(zero.get("stage", 0))
        where = {part: zero.get(f"offload_{part}", {}).get("device", "none") for part in _PARTS}
    elif given.get("ACCELERATE_USE_DEEPSPEED") == "true":
        prefix = "ACCELERATE_DEEPSPEED_"
        stage = int(given.get(f"{prefix}ZERO_STAGE", 2))
        where = {
            part: given.get(f"{prefix}OFFLOAD_{part.upper()}_DEVICE", "none") for part in _PARTS
        }
    elif shared > 1:
        raise ConfigError(sequence.NO_DEEPSPEED)
    elif given.get("ACCELERATE_USE_FSDP") == "true" and devices > 1:
        return Layout(sharding="fsdp", devices=devices, half=half)
    else:
        return Layout(sharding="none", devices=devices, half=half)
    sharding: Sharding = _ZERO[stage]
    everything = where["param"] != "none" and stage == 3
    offload: Offload = "all" if everything else "none"
    if not everything and where["optimizer"] != "none":
        offload = "optimizer"
    return Layout(sharding=sharding, devices=devices, half=half, offload=offload, shared=shared)


def _zero_settings(settings: Any) -> dict[str, Any]:
    """`zero_optimization` of DeepSpeed's settings, given as a dict or as a file's path."""
    if isinstance(settings, str):
        try:
            settings = json.loads(Path(settings).read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{settings}: no DeepSpeed settings ({error})") from None
    found: dict[str, Any] = settings.get("zero_optimization", {})
    return found


def leave_at_exit() -> None:
    """Have this process leave its group when it ends, as all others are about to.

    Left to itself, a thread of the group may want the interpreter when that is half gone, and
    abort a process that has done its work. Not for one that ends alone: it could wait for the
    others, while these wait for the launcher to see it end.
    """
    atexit.register(_leave)


def _leave() -> None:
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
