"""`prm reproduce`: the claims of the method, measured again on a world with true labels.

cells (each a stage, run once, shared by figures) ──▶ figures ──▶ results.json, report.html and .md

The same command resumes; cells that are finished are not run again, figures are read from what
cells left. With `recorded`, a headline number that has fallen below its recorded interval is an
error: so the numbers guard themselves.
"""

from __future__ import annotations

import importlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from prm import config as configuration
from prm import jsonl
from prm.cli import STAGES
from prm.errors import ConfigError
from prm.reproduce import figure, guard, page, tables
from prm.reproduce.brief import brief
from prm.reproduce.cells import run_cells
from prm.reproduce.config import Config
from prm.reproduce.figure import Figure, Results
from prm.reproduce.lab import Lab
from prm.reproduce.tables import plural
from prm.run import Counts, versions

__all__ = ["FIGURES", "Config", "forecast", "run"]

FIGURES = ("judge", "verification", "loss", "best_of_n", "search", "universality", "labels")
"""In the report's order."""


def run(config: Config) -> Counts:
    """Run what is missing, and measure.

    Raises:
        PRMError: a cell failed; or a number fell below its recorded interval, or is no longer
            measured: then results and report are written.
    """
    figures = _figures(config)
    lab = _declared(config, figures)
    recorded = None if config.recorded is None else figure.read(config.recorded)
    modules = {name: module for name, (module, _) in STAGES.items()}
    run_cells(list(lab.cells.values()), lab.out, modules, config.jobs)
    print(f"{len(lab.cells)} cells are there; measuring", flush=True)
    results = Results(
        world=config.world,
        size=configuration.to_dict(config.size),
        seeds=tuple(config.seeds),
        figures=tuple(module.measure(lab) for module in figures.values()),
        versions=versions(),
        seconds=sum(_seconds(lab.path(name)) for name in lab.cells),
    )
    jsonl.write_text(lab.out / "results.json", results.json())
    page.write(lab.out, results)
    jsonl.write_text(lab.out / "brief.md", brief(results) + "\n")
    print(told(results.figures))
    if recorded is not None and config.recorded is not None:
        findings = guard.compare(recorded, results)
        for line in findings.told:
            print(f"recorded: {line}", flush=True)
        guard.check(findings, config.recorded)
        print(
            f"recorded: no headline number fell below its interval in {config.recorded}", flush=True
        )
    return Counts(read=len(lab.cells), written=len(lab.cells))


@dataclass(frozen=True)
class Forecast:
    """How many cells of each stage there are."""

    cells: dict[str, int]
    seeds: int

    def __str__(self) -> str:
        rows = [f"  {name:<32} {count:>5}" for name, count in self.cells.items()]
        total = sum(self.cells.values())
        head = f"{plural(total, 'cell')} of {plural(self.seeds, 'seed')}:"
        return "\n".join([head, *rows])


def forecast(config: Config) -> Forecast:
    """What would run."""
    lab = _declared(config, _figures(config))
    return Forecast(dict(Counter(cell.stage for cell in lab.cells.values())), len(config.seeds))


def _figures(config: Config) -> dict[str, ModuleType]:
    unknown = [name for name in config.figures if name not in FIGURES]
    if unknown:
        raise ConfigError(f"figures: {unknown[0]!r} is none; there are {', '.join(FIGURES)}")
    wanted = [name for name in FIGURES if not config.figures or name in config.figures]
    return {name: importlib.import_module(f"prm.reproduce.figures.{name}") for name in wanted}


def _declared(config: Config, figures: dict[str, ModuleType]) -> Lab:
    lab = Lab(config)
    for module in figures.values():
        module.declare(lab)
    return lab


def _seconds(folder: Path) -> float:
    record: dict[str, Any] = json.loads((folder / "run.json").read_bytes())
    return float(record["seconds"])


def told(figures: tuple[Figure, ...]) -> str:
    """The figures as text: what came out, and the numbers."""
    lines = []
    for one in figures:
        lines += ["", f"{one.title} ({one.solutions:,} solutions)", f"  {one.headline}"]
        for row in one.rows:
            value = tables.estimated(row.value)
            at = "" if row.x is None else f"at {row.x:g}"
            name = ", ".join(part for part in (row.name, row.group, at) if part)
            lines.append(f"  {name:<44} {row.metric:<38} {value.text} {value.small}".rstrip())
    return "\n".join(lines)
