"""Configuration: nested dataclasses are the schema, YAML fills them, `key=value` overrides.

OmegaConf merges and checks; it stays inside this file, the rest of the code sees plain
dataclasses. Unknown keys at any depth are errors that name the nearest known key.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import MISSING, Container, DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from prm.errors import ConfigError

T = TypeVar("T")
Layer = tuple[str, DictConfig | ListConfig]
"""Where values come from, for errors, and the values."""


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


def _fill(schema: type[T], layers: Sequence[Layer]) -> T:
    for where, layer in layers:
        values = OmegaConf.to_container(layer, resolve=False)
        _refuse_unknown(schema, values, where, "")
        if isinstance(values, dict) and str(values.get("out", MISSING) or "").strip() == "":
            raise ConfigError(f"{where}: out is empty; name a folder")
    merged = _merge(schema, layers)
    missing = ", ".join(repr(key) for key in sorted(_missing(merged)))
    if missing:
        where = " and ".join(name for name, _ in layers) or schema.__name__
        raise ConfigError(
            f"{where}: required key {missing} is not set; set it in the file or as key=value"
        )
    problem = _problem(merged)
    if problem:
        causes = [
            where
            for index, (where, _) in enumerate(layers)
            if _problem(_without(schema, layers, index, merged)) != problem
        ]
        where = " and ".join(causes or [name for name, _ in layers]) or schema.__name__
        raise ConfigError(f"{where}: {problem}")
    return typing.cast(T, OmegaConf.to_object(merged))


def _merge(schema: type, layers: Sequence[Layer]) -> DictConfig:
    merged = OmegaConf.structured(schema)
    for where, layer in layers:
        try:
            merged = OmegaConf.merge(merged, layer)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{where}: {_at_key(error)}") from None
    return typing.cast(DictConfig, merged)


def _without(
    schema: type, layers: Sequence[Layer], index: int, merged: DictConfig
) -> DictConfig | None:
    """The configuration without one layer, but for the required keys that only this one sets.

    An error that is gone without a layer was caused by it.
    """
    try:
        rest = _merge(schema, [*layers[:index], *layers[index + 1 :]])
    except ConfigError:
        return None
    for key in _missing(rest):
        OmegaConf.update(
            rest, key, OmegaConf.select(merged, key, throw_on_resolution_failure=False)
        )
    return rest


def _parts(node: Container, key: str) -> Iterator[tuple[str, Node]]:
    """The values right below a node, as they stand there, with their dotted keys."""
    for name in range(len(node)) if isinstance(node, ListConfig) else list(node):
        inner = node._get_node(name)
        if isinstance(inner, Node):
            step = f"[{name}]" if isinstance(node, ListConfig) else f".{name}"
            yield (key + step).lstrip("."), inner


def _missing(node: Container, key: str = "") -> list[str]:
    # As OmegaConf.missing_keys, which stumbles over interpolations that lead nowhere.
    if node._is_none() or node._is_interpolation():
        return []
    found = []
    for name, inner in _parts(node, key):
        if inner._is_missing():
            found.append(name)
        elif isinstance(inner, Container):
            found += _missing(inner, name)
    return found


def _problem(node: Container | None, key: str = "") -> str | None:
    """What a part's own `__post_init__`, or an interpolation, says against it, and at which key."""
    if node is None or node._is_none():
        return None
    try:
        OmegaConf.to_object(node)
        return None
    except (OmegaConfBaseException, ValueError, ConfigError) as error:
        found = _first_line(error)
    inside = [
        _problem(part, name) for name, part in _parts(node, key) if isinstance(part, Container)
    ]
    return next(filter(None, inside), f"{key}: {found}" if key else found)


def _at_key(error: OmegaConfBaseException, prefix: str = "") -> str:
    key = getattr(error, "full_key", None)
    return f"{f'key {prefix + key!r}: ' if key else ''}{_first_line(error)}"


def _refuse_unknown(schema: type, values: Any, where: str, prefix: str) -> None:
    if not isinstance(values, dict):
        return
    hints = typing.get_type_hints(schema)
    for key, value in values.items():
        name = prefix + str(key)
        if key not in hints:
            close = difflib.get_close_matches(str(key), hints, n=1, cutoff=0.5)
            known = (
                f"did you mean {prefix + close[0]!r}?"
                if close
                else f"known keys: {', '.join(hints)}"
            )
            raise ConfigError(f"{where}: unknown key {name!r}; {known}")
        if _is_list(hints[key]):
            if isinstance(value, dict):
                raise ConfigError(f"{where}: {name!r} is a list; give the whole list")
            if not isinstance(value, (list, type(None))) and not _stands_for_another(value):
                raise ConfigError(f"{where}: {name!r} is a list; write [{value}]")
        for inner in _dataclasses_in(hints[key]):
            if not isinstance(value, (dict, list, type(None))) and value != MISSING:
                raise ConfigError(f"{where}: {name!r} needs keys of its own, not a value")
            if not isinstance(value, list):
                _refuse_unknown(inner, value, where, f"{name}.")
                continue
            for index, item in enumerate(value):
                _refuse_item(inner, item, where, f"{name}[{index}]")


def _refuse_item(schema: type, item: Any, where: str, name: str) -> None:
    """As `_refuse_unknown`, and refuse wrong values: inside a list OmegaConf loses their place."""
    _refuse_unknown(schema, item, where, f"{name}.")
    if isinstance(item, dict):
        try:
            OmegaConf.merge(OmegaConf.structured(schema), item)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{where}: {_at_key(error, f'{name}.')}") from None


def _stands_for_another(value: Any) -> bool:
    return value == MISSING or (isinstance(value, str) and "${" in value)


def _is_list(hint: Any) -> bool:
    """Whether a hint is `list[X]` or `list[X] | None`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_is_list(part) for part in typing.get_args(hint))
    return typing.get_origin(hint) is list


def _dataclasses_in(hint: Any) -> list[type]:
    """The dataclass inside `X`, `X | None` or `list[X]`, if there is one."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return [hint]
    if typing.get_origin(hint) in (list, typing.Union, types.UnionType):
        return [found for part in typing.get_args(hint) for found in _dataclasses_in(part)]
    return []


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
