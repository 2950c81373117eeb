"""Records as rows of a table: one row per solution, typed as Arrow types its columns."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, Literal

import pyarrow as pa

from prm.records import Annotation, LabelledSolution, Solution


def row(record: Annotation | LabelledSolution | Solution) -> dict[str, Any]:
    """All of a record in one row: a solution's fields beside those of its annotation or labels.

    Dicts, whose keys differ from record to record, become JSON.
    """
    columns: dict[str, Any] = {}
    for item in dataclasses.fields(record):
        value = getattr(record, item.name)
        columns |= row(value) if isinstance(value, Solution) else {item.name: _plain(value)}
    return columns


def schema(kind: type) -> pa.Schema:
    """The columns of `row`, from the types of a record's fields, so that none is forgotten."""
    return pa.schema(_fields(kind))


def stepwise_schema(soft: bool) -> pa.Schema:
    """The columns of `LabelledSolution.to_stepwise`; labels are numbers or booleans."""
    label = pa.float64() if soft else pa.bool_()
    return pa.schema(
        [
            pa.field("prompt", pa.string()),
            pa.field("completions", pa.list_(pa.string())),
            pa.field("labels", pa.list_(label)),
        ]
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    return value


def _fields(kind: type) -> list[pa.Field]:
    hints = typing.get_type_hints(kind)
    found = []
    for item in dataclasses.fields(kind):
        hint = hints[item.name]
        found += _fields(Solution) if hint is Solution else [pa.field(item.name, _arrow(hint))]
    return found


def _arrow(hint: Any) -> pa.DataType:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):  # `X | None`: every column may hold nulls
        return _arrow(next(part for part in parts if part is not types.NoneType))
    if origin is tuple:
        return pa.list_(_arrow(parts[0]))
    if dataclasses.is_dataclass(hint):
        return pa.struct(_fields(typing.cast(type, hint)))
    if origin in (dict, Literal):
        return pa.string()
    return {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}[hint]
