"""`prm run`: the stages of a recipe, one after the other.

A recipe is a list of stages with their configurations; `${out}` and `${data}` stand for its
own two keys. Stages meet only through files, so each resumes or is skipped by itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prm import config as configuration
from prm.errors import ConfigError


@dataclass
class Step:
    """One stage of a recipe: its name and its configuration."""

    stage: str
    config: dict[str, Any] = field(default_factory=dict)


@dataclass
class Recipe:
    """`prm run`.

    Attributes:
        out: the folder under which the stages write, as `${out}`.
        data: the folder with the data sets, as `${data}`.
        stages: what runs, in this order.
    """

    out: str
    data: str = ""
    stages: list[Step] = field(default_factory=list)


def prepare(recipe: Recipe, where: str, modules: Mapping[str, str]) -> list[tuple[str, Any, Any]]:
    """Load every stage's module and fill its configuration.

    Args:
        recipe: the recipe.
        where: its file, for errors.
        modules: stage → module name.

    Returns:
        `(stage, module, configuration)` in order.

    Raises:
        ConfigError: an unknown stage, or a configuration that does not fit.
    """
    if not recipe.stages:
        raise ConfigError(f"{where}: the recipe has no stages")
    prepared = []
    for index, step in enumerate(recipe.stages):
        if step.stage not in modules:
            raise ConfigError(
                f"{where}: stages[{index}]: {step.stage!r} is no stage; there are "
                + ", ".join(modules)
            )
        module = importlib.import_module(modules[step.stage])
        label = f"{where}: stages[{index}] ({step.stage})"
        prepared.append(
            (step.stage, module, configuration.from_dict(module.Config, step.config, label))
        )
    return prepared
