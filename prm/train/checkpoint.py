"""What training leaves: the trainer's checkpoints, and the finished model."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers.trainer import TRAINER_STATE_NAME

from prm.train import zero3
from prm.train.card import write_card
from prm.train.trainer import PRMTrainer
from prm.zoo.aurora import Declaration, write_declaration


def last_checkpoint(folder: Path) -> str | None:
    """The trainer's last checkpoint that is whole: its state is what the trainer writes last."""
    for path in sorted(
        folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True
    ):
        try:
            json.loads((path / TRAINER_STATE_NAME).read_bytes())
        except (FileNotFoundError, json.JSONDecodeError):  # killed while it was being written
            continue
        return str(path)
    return None


def save(
    trainer: PRMTrainer,
    tokenizer: Any,
    declaration: Declaration,
    measured: dict[str, float],
    without: dict[str, float] | None,
    out: Path,
) -> None:
    """Write `model/` whole: into a temporary folder, then renamed."""
    temporary, final = out / ".model", out / "model"
    if trainer.is_world_process_zero():
        shutil.rmtree(temporary, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "merge_and_unload"):
        with zero3.gathered(model):
            merged = model.merge_and_unload()
            state = None
            if trainer.is_fsdp_enabled:  # every process holds a part
                options = StateDictOptions(full_state_dict=True, cpu_offload=True)
                state = get_model_state_dict(merged, options=options)
            if trainer.is_world_process_zero():
                merged.save_pretrained(temporary, state_dict=state)
    else:
        trainer.save_model(str(temporary))
    if trainer.is_world_process_zero():
        (temporary / "training_args.bin").unlink(missing_ok=True)  # a pickle
        tokenizer.save_pretrained(temporary)
        write_declaration(temporary, declaration)
        write_card(temporary, declaration, measured, without)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
