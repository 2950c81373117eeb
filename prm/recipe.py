"""`prm run`: the stages of a recipe, one after the other.

A recipe is a list of stages with their configurations; `${out}`, `${data}` and `${vars.name}`
stand for its own keys. Stages meet only through files, so each resumes or is skipped by itself, and
some of them can be run elsewhere, or launched otherwise.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prm import config as configuration
from prm.errors import ConfigError
from prm.estimate.hardware import Guess, Hardware
from prm.sources import Place


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
        vars: whatever several stages share, as `${vars.name}`: a model, a judge, settings.
        stages: what runs, in this order: each a `stage` and the `config` that it takes by itself.
        only: of these, those whose run folders have these names; all where it is empty. So training
            is launched on several GPUs: `accelerate launch … -m prm run RECIPE 'only=[train]'`.
        hardware, guess: what `--dry-run` reckons with; docs/full-scale.md has the keys.

    A recipe, with the keys that `prm annotate --help` and `prm verify --help` list:

        out: runs/mine
        stages:
          - stage: annotate
            config: {out: "${out}/annotate", source: {path: solutions.jsonl}}
          - stage: verify
            config: {out: "${out}/verify", annotations: "${out}/annotate/annotations.jsonl"}
    """

    out: str
    data: str = ""
    vars: dict[str, Any] = field(default_factory=dict)
    stages: list[Step] = field(default_factory=list)
    only: list[str] = field(default_factory=list)
    hardware: Hardware = field(default_factory=Hardware)
    guess: Guess = field(default_factory=Guess)


def prepare(recipe: Recipe, where: str, modules: Mapping[str, str]) -> list[tuple[str, Any, Any]]:
    """Load every stage's module and fill its configuration.

    Args:
        recipe: the recipe.
        where: its file, for errors.
        modules: stage → module name.

    Returns:
        `(stage, module, configuration)` in order.

    Raises:
        ConfigError: an unknown stage, a configuration that does not fit, or an `only` that names
            none of them.
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
    names = [folder(stage, config) for stage, _, config in prepared]
    unknown = [name for name in recipe.only if name not in names]
    if unknown:
        raise ConfigError(
            f"{where}: only: no stage's run folder is named {unknown[0]!r}; there are "
            + ", ".join(dict.fromkeys(names))
        )
    return prepared


def folder(stage: str, config: Any) -> str:
    """The name of a stage's run folder, by which `only` chooses; a server has none but its own."""
    return Path(getattr(config, "out", "") or stage).name


def runs(recipe: Recipe, stage: str, config: Any) -> bool:
    """Whether `only` leaves a stage in."""
    return not recipe.only or folder(stage, config) in recipe.only


def require_inputs(recipe: Recipe, where: str, stages: Sequence[tuple[str, Any]]) -> None:
    """Refuse a recipe whose sources name files that are not there, before hours of work.

    Args:
        recipe: the recipe.
        where: its file, for errors.
        stages: `(stage, configuration)` in order. What lies under the recipe's `out`, or under
            that of an earlier stage, may still be made. What `only` leaves out is not asked for.

    Raises:
        ConfigError: naming the stage and the file.
    """
    made = [Path(recipe.out).resolve()]
    for index, (stage, config) in enumerate(stages):
        if not runs(recipe, stage, config):
            continue
        for key, place in _places(config):
            if place.path is None or Path(place.path).exists():
                continue
            path = Path(place.path).resolve()
            if not any(path.is_relative_to(folder) for folder in made):
                raise ConfigError(
                    f"{where}: stages[{index}] ({stage}): {key}.path: {place.path}: no such file"
                )
        if getattr(config, "out", None):
            made.append(Path(config.out).resolve())


def require_alone(
    recipe: Recipe, where: str, stages: Sequence[tuple[str, Any]], world: int
) -> None:
    """Refuse to do the same work in every process of a launch; training alone is made for that.

    Args:
        recipe: the recipe.
        where: its file, for errors.
        stages: `(stage, configuration)` in order.
        world: how many processes were launched.

    Raises:
        ConfigError: there are several, and a stage to run that is no training.
    """
    other = next((s for s, config in stages if s != "train" and runs(recipe, s, config)), None)
    if world > 1 and other is not None:
        named = [folder(stage, config) for stage, config in stages if stage == "train"]
        hint = f"; add 'only=[{named[0]}]', and run the rest without a launcher" if named else ""
        raise ConfigError(f"{where}: {other} runs in one process, and this is {world}{hint}")


def _places(value: Any, key: str = "") -> Iterator[tuple[str, Place]]:
    """Every place inside a configuration, with its dotted key."""
    if isinstance(value, Place):
        yield key, value
    if dataclasses.is_dataclass(value):
        for item in dataclasses.fields(value):
            yield from _places(getattr(value, item.name), f"{key}.{item.name}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _places(item, f"{key}[{index}]")
