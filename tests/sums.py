"""Labelled solutions of small sums, made on the spot, and a training run small enough for tests."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch

from prm import jsonl
from prm.records import LabelledSolution, Solution
from prm.render import RenderSettings
from prm.sources import Source
from prm.train.scratch import ScratchConfig
from prm.train.stage import Config

torch.set_num_threads(1)  # on matrices this small, threads cost more than they save

SMALL = ScratchConfig(vocab_size=320, hidden_size=32, layers=2, heads=2, intermediate_size=64)


def labelled(count: int, *, seed: int = 0, prefix: str = "sum") -> list[LabelledSolution]:
    """`count` solutions of different problems; every other one has a wrong sum in it."""
    rng = random.Random(seed)
    items = []
    for index in range(count):
        left, middle, right = (rng.randint(1, 40) for _ in range(3))
        slip = index % 2
        first, last = left + middle + slip, left + middle + slip + right
        items.append(
            LabelledSolution(
                solution=Solution(
                    id=f"{prefix}-{index}",
                    problem=f"Box {index}: what is {left} + {middle} + {right}?",
                    steps=(
                        f"{left} + {middle} = {first}",
                        f"{first} + {right} = {last}",
                        f"The answer is {last}.",
                    ),
                    answer=str(left + middle + right),
                    reference=f"{left} + {middle} + {right} = {left + middle + right}",
                    generator="sums",
                ),
                labels=(0.0, 0.0, 0.0) if slip else (1.0, 1.0, 1.0),
            )
        )
    return items


def write(path: Path, items: list[LabelledSolution]) -> Path:
    """Write labelled solutions to a file; returns its path."""
    jsonl.write(path, items)
    return path


def config(out: Path, data: Path, *, trainer: dict[str, Any] | None = None, **keys: Any) -> Config:
    """A run of a few steps; `trainer` adds to the keys below, `keys` to those of the stage."""
    few: dict[str, Any] = {
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }
    defaults: dict[str, Any] = {
        "scratch": SMALL,
        "held_out": 0.2,
        "render": RenderSettings(max_length=256),
    }
    return Config(
        out=str(out),
        sources=[Source(path=str(data))],
        trainer=few | (trainer or {}),
        **(defaults | keys),
    )
