"""Published figures, to stand beside ours: what others measured, on which data, and who says so.

Figures are F1 in percent, as printed. They are those of other data, other code or other settings
than a run here, so nothing may be computed across; `Published.statement` says what a reader must be
told of each benchmark.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_PATH = Path(__file__).with_name("published.toml")


@dataclass(frozen=True)
class Figures:
    """A model's figures.

    Attributes:
        model: its name.
        source: who published the figures.
        values: subset → F1 in percent; those that were published.
        average: as published.
        note: what else to know of them, or "".
    """

    model: str
    source: str
    values: Mapping[str, float]
    average: float
    note: str


@dataclass(frozen=True)
class Published:
    """What is published of a benchmark.

    Attributes:
        benchmark: its name.
        source: of the benchmark itself.
        metric: what the figures are.
        statement: what ours is, in relation.
        subsets: in the order of the published table; the average is their plain mean.
        rows: the models, in the order of the file.
    """

    benchmark: str
    source: str
    metric: str
    statement: str
    subsets: tuple[str, ...]
    rows: tuple[Figures, ...]


@cache
def published() -> Mapping[str, Published]:
    """All that is known, by the benchmark's key: `universalbench`, `processbench`."""
    with open(_PATH, "rb") as file:
        return {key: _benchmark(table) for key, table in tomllib.load(file).items()}


def _benchmark(table: Mapping[str, Any]) -> Published:
    subsets = tuple(table["subsets"])
    sources = table["sources"]
    rows = []
    for row in table["rows"]:
        values = row.get("f1", [])
        rows.append(
            Figures(
                model=row["model"],
                source=sources[row["source"]],
                values=dict(zip(subsets, values, strict=True)) if values else {},
                average=row["average"],
                note=row.get("note", ""),
            )
        )
    return Published(
        benchmark=table["benchmark"],
        source=table["source"],
        metric=table["metric"],
        statement=table["statement"],
        subsets=subsets,
        rows=tuple(rows),
    )
