"""`prm export`: annotated or labelled solutions as a data set of the Hugging Face kind.

    annotations.jsonl | labelled.jsonl ──▶ data/train-*.parquet, README.md

The folder loads with `datasets.load_dataset`; whether it is published is for its owner to do.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from prm import jsonl
from prm.config import MAY_CHANGE
from prm.errors import ConfigError, RecordError
from prm.export.card import Summary, card
from prm.export.rows import row, schema, stepwise_schema
from prm.progress import track
from prm.records import Annotation, LabelledSolution
from prm.run import Counts, Run, fingerprint

ROW_GROUP = 500
"""Rows that are in memory together, and that a reader of the file has to take together."""


OUTPUTS = ("data", "README.md")


@dataclass
class Config:
    """`prm export`.

    Attributes:
        out: the run folder; gets `data/` and the card, `README.md`, and is the data set.
        source: `annotations.jsonl` of `prm annotate` or `labelled.jsonl` of `prm verify`.
        name: the data set's, for the card.
        licence: under which the data may be used, as the Hub writes it: `apache-2.0`,
            `cc-by-4.0`, `other`; `unknown` where it must not be published yet.
        format: `full` keeps every field; `stepwise` has the prompt, completions and labels of
            TRL's stepwise supervision, which labelled solutions alone have.
        cut: for `stepwise`: labels are true from here on and false below; null keeps them soft.
        shard_rows: solutions in each file.
    """

    out: str
    source: str = field(metadata=MAY_CHANGE)  # its content is compared
    name: str
    licence: str
    format: Literal["full", "stepwise"] = "full"
    cut: float | None = None
    shard_rows: int = 50_000

    def __post_init__(self) -> None:
        if not self.name.strip() or "\n" in self.name:
            raise ValueError(f"name is {self.name!r}; it must be one line")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.licence):
            raise ValueError(
                f"licence is {self.licence!r}; write it as the Hub does, such as apache-2.0, "
                "cc-by-4.0, other or unknown"
            )
        if self.cut is not None and (self.format != "stepwise" or not 0 < self.cut <= 1):
            raise ValueError("cut is for format stepwise alone; it lies above 0 and goes to 1")
        if self.shard_rows < 1:
            raise ValueError(f"shard_rows is {self.shard_rows}; it starts at 1")


def run(config: Config) -> Counts:
    """Export a file; what an earlier attempt left unfinished is written anew."""
    inputs = {"source": fingerprint(config.source)}
    kind = _kind(config)
    with Run(config.out, "export", config, inputs, OUTPUTS) as folder:
        if folder.counts is not None:
            return folder.counts
        full = config.format == "full"
        columns = schema(kind) if full else stepwise_schema(soft=config.cut is None)
        summary = Summary(config.cut)

        def rows() -> Iterator[dict[str, Any]]:
            for record in track(jsonl.read(config.source, kind), "export"):
                summary.add(record)
                yield row(record) if full else record.to_stepwise(config.cut)

        partial = folder.path("data" + jsonl.PARTIAL)
        with _whole(partial, folder.path("data")):
            _write_shards(rows(), columns, partial, config.shard_rows)
        text = card(config.name, config.licence, columns, summary)
        jsonl.write_text(folder.path("README.md"), text)
        count = summary.all.solutions
        return folder.finish(Counts(read=count, written=count), OUTPUTS)


def _kind(config: Config) -> type[Any]:
    """What the file holds, by its first record."""
    number, first = next(jsonl.read_rows(config.source), (None, {}))
    if number is None:
        raise RecordError("no records in it", path=config.source)
    if {"solution", "labels"} <= set(first):
        return LabelledSolution
    if not {"solution", "judgments"} <= set(first):
        raise RecordError(
            f"the row has {', '.join(first)}, so it is neither an annotation nor a labelled "
            "solution; name `annotations.jsonl` of `prm annotate` or `labelled.jsonl` of "
            "`prm verify`",
            path=config.source,
            line=number,
        )
    if config.format == "stepwise":
        raise ConfigError(
            f"{config.source}: annotations have no labels, which format stepwise needs; "
            "export `labelled.jsonl` of `prm verify`, or set format=full"
        )
    return Annotation


@contextlib.contextmanager
def _whole(partial: Path, path: Path) -> Iterator[None]:
    """Make a folder that gets its name when it is whole, and is gone if that fails."""
    try:
        for left in (partial, path):
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir()
        yield
        jsonl.sync_folder(partial)
        os.replace(partial, path)
        jsonl.sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise ConfigError(
            f"{path}: cannot be written ({reason}); make room or set another `out`, then run the "
            "same command again"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_shards(
    rows: Iterator[dict[str, Any]], schema: pa.Schema, folder: Path, shard_rows: int
) -> None:
    shards: list[Path] = []
    for first in rows:
        shards.append(folder / f"{len(shards)}.parquet")
        _write_shard(chain([first], islice(rows, shard_rows - 1)), schema, shards[-1])
    for index, path in enumerate(shards):  # a name tells how many there are
        os.replace(path, folder / f"train-{index:05d}-of-{len(shards):05d}.parquet")


def _write_shard(rows: Iterable[dict[str, Any]], schema: pa.Schema, path: Path) -> None:
    left = iter(rows)
    with open(path, "wb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            while group := list(islice(left, ROW_GROUP)):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
        file.flush()
        os.fsync(file.fileno())
