"""What `prm STAGE --help` prints of a schema: enough to write its YAML.

First the documentation of the schema and of every dataclass inside it, each once; then all keys
with their defaults as YAML, each with what it may hold. What may be left out but has keys of its
own (an item of a list, a part that is null) stands there as comments.
"""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any

import yaml

_WORDS = {str: "text", int: "integer", float: "number", bool: "true | false", Any: "anything"}


def describe(schema: type) -> str:
    """A schema's documentation and its keys with their defaults, for `--help`."""
    parts = [_documentation(schema)]
    for inner in dict.fromkeys(_inner(schema)):
        parts.append(f"{inner.__name__}: {_documentation(inner)}" if _documentation(inner) else "")
    keys = "\n".join(_keys(schema))
    shown = "\n\n".join(part for part in parts if part)
    return f"{shown}\n\nDefaults (??? must be set):\n\n{keys}\n"


def _documentation(schema: type) -> str:
    """Its docstring; that of a dataclass without one is made up by Python and says nothing."""
    text = schema.__doc__ or ""
    return "" if text.startswith(f"{schema.__name__}(") else inspect.cleandoc(text)


def _is_schema(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _inner(schema: type) -> Iterator[type]:
    """The dataclasses that a schema's keys hold, each with those that it extends."""
    for hint in typing.get_type_hints(schema).values():
        for part in (hint, *typing.get_args(hint)):
            if _is_schema(part):
                yield from (base for base in part.__mro__ if _is_schema(base))
                yield from _inner(part)


def _keys(schema: type, values: Any = None) -> Iterator[str]:
    """The lines of a schema's keys; `values` is an instance whose values are the defaults."""
    hints = typing.get_type_hints(schema)
    for item in dataclasses.fields(schema):
        hint = hints[item.name]
        if values is not None:
            value = getattr(values, item.name)
        elif item.default_factory is not dataclasses.MISSING:
            value = item.default_factory()
        else:
            value = item.default
        if _is_schema(hint):
            yield f"{item.name}:  # {hint.__name__}"
            lines = _keys(hint, None if value is dataclasses.MISSING else value)
            yield from textwrap.indent("\n".join(lines), "  ").splitlines()
            continue
        yield f"{item.name}: {_text(value)}  # {_kind(hint)}"
        for part in typing.get_args(hint):
            if _is_schema(part):
                first = "- " if typing.get_origin(hint) is list else "  "
                for line in _keys(part):
                    yield f"# {first}{line}"
                    first = "  "


def _text(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "???"
    dumped: str = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True
    )
    return dumped.removesuffix("\n").removesuffix("\n...")


def _kind(hint: Any) -> str:
    """What a key may hold, in words."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " | ".join(str(part) for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " | ".join("null" if part is types.NoneType else _kind(part) for part in parts)
    if origin is list:
        item = f"{_kind(parts[0])}, each:" if _is_schema(parts[0]) else _kind(parts[0])
        return f"list of {item}"
    if origin is dict:
        return "keys and values"
    return _WORDS.get(hint) or hint.__name__
