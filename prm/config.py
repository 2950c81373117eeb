"""Configuration: nested dataclasses are the schema, YAML fills them, `key=value` overrides.

OmegaConf merges and checks; it stays inside this file, the rest of the code sees plain
dataclasses. Unknown keys at any depth are errors that name the nearest known key.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from prm.errors import ConfigError

T = TypeVar("T")


def load(schema: type[T], path: str | Path | None = None, overrides: Sequence[str] = ()) -> T:
    """Fill a schema from a YAML file and overrides.

    Args:
        schema: a dataclass; fields without a default must be given.
        path: a YAML file, or None for the schema's defaults alone.
        overrides: `key=value` strings, dotted keys, later ones win. `key=null` sets None.

    Raises:
        ConfigError: naming file or override, key, and the nearest known key.
    """
    layers = [] if path is None else [(str(path), _read_yaml(path))]
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{override!r} is not an override; write key=value")
        try:
            layers.append((f"override {override!r}", OmegaConf.from_dotlist([override])))
        except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"override {override!r}: {_first_line(error)}") from None
    return _fill(schema, layers)


def from_dict(schema: type[T], values: dict[str, Any], where: str) -> T:
    """Fill a schema from a plain dict; `where` names it in errors."""
    try:
        layer = OmegaConf.create(values)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {_first_line(error)}") from None
    return _fill(schema, [(where, layer)])


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain dicts, lists and scalars, in the schema's order."""
    return dataclasses.asdict(config)


MAY_CHANGE = {"may_change": True}
"""Metadata of a field that does not decide what a stage writes: how fast it works, or where an
input lies whose content is compared. It may differ when a run is resumed."""


def identity(config: Any) -> dict[str, Any]:
    """As `to_dict`, without the fields marked `MAY_CHANGE`."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {
                item.name: plain(getattr(value, item.name))
                for item in dataclasses.fields(value)
                if not item.metadata.get("may_change")
            }
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value

    return typing.cast(dict[str, Any], plain(config))


def _read_yaml(path: str | Path) -> DictConfig:
    try:
        loaded = OmegaConf.load(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({_first_line(error)})") from None
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if isinstance(loaded, DictConfig):
        return loaded
    raise ConfigError(f"{path}: must hold `key: value` lines at its top level")


def _fill(schema: type[T], layers: Sequence[tuple[str, DictConfig | ListConfig]]) -> T:
    merged = OmegaConf.structured(schema)
    for where, layer in layers:
        _refuse_unknown(schema, OmegaConf.to_container(layer, resolve=False), where, "")
        try:
            merged = OmegaConf.merge(merged, layer)
        except OmegaConfBaseException as error:
            key = getattr(error, "full_key", None)
            raise ConfigError(
                f"{where}: {f'key {key!r}: ' if key else ''}{_first_line(error)}"
            ) from None
    where = " and ".join(name for name, _ in layers) or schema.__name__
    try:
        missing = ", ".join(repr(key) for key in sorted(OmegaConf.missing_keys(merged)))
        if missing:
            raise ConfigError(
                f"{where}: required key {missing} is not set; set it in the file or as key=value"
            )
        result = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {_first_line(error)}") from None
    except ValueError as error:  # a schema's own __post_init__
        raise ConfigError(f"{where}: {error}") from None
    return typing.cast(T, result)


def _refuse_unknown(schema: type, values: Any, where: str, prefix: str) -> None:
    if not isinstance(values, dict):
        return
    hints = typing.get_type_hints(schema)
    for key, value in values.items():
        if key not in hints:
            close = difflib.get_close_matches(str(key), hints, n=1, cutoff=0.5)
            known = (
                f"did you mean {prefix + close[0]!r}?"
                if close
                else f"known keys: {', '.join(hints)}"
            )
            raise ConfigError(f"{where}: unknown key {prefix + str(key)!r}; {known}")
        if typing.get_origin(hints[key]) is list and isinstance(value, dict):
            raise ConfigError(f"{where}: {prefix + str(key)!r} is a list; give the whole list")
        for inner in _dataclasses_in(hints[key]):
            if not isinstance(value, (dict, list, type(None))) and value != MISSING:
                raise ConfigError(
                    f"{where}: {prefix + str(key)!r} needs keys of its own, not a value"
                )
            items = value if isinstance(value, list) else [value]
            for index, item in enumerate(items):
                step = f"{key}[{index}]." if isinstance(value, list) else f"{key}."
                _refuse_unknown(inner, item, where, prefix + step)


def _dataclasses_in(hint: Any) -> list[type]:
    """The dataclass inside `X`, `X | None` or `list[X]`, if there is one."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return [hint]
    if typing.get_origin(hint) in (list, typing.Union, types.UnionType):
        return [found for part in typing.get_args(hint) for found in _dataclasses_in(part)]
    return []


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def describe(schema: type) -> str:
    """A schema's documentation and its keys with their defaults, for `--help`."""
    defaults = OmegaConf.to_yaml(_with_inner_keys(schema))
    return f"{inspect.cleandoc(schema.__doc__ or '')}\n\nDefaults (??? must be set):\n\n{defaults}"


def _with_inner_keys(schema: type) -> DictConfig:
    """The schema's defaults; a required part that has keys of its own shows them."""
    shown = OmegaConf.structured(schema)
    hints = typing.get_type_hints(schema)
    for key in OmegaConf.missing_keys(shown):
        hint = hints.get(key)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            shown[key] = _with_inner_keys(hint)
    return typing.cast(DictConfig, shown)
