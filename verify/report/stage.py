"""`prm report verify`: what the checks of labels said and did, and a page to look at it.

A function of what `prm verify` left alone, and made anew each time: the same files give the same
bytes.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prm import config as configuration
from prm import html, jsonl
from prm.errors import ConfigError, RecordError
from prm.progress import track
from prm.records import LabelledSolution, Rejection
from prm.run import Counts
from verify import stage
from verify.report.examples import Draw, Record, view
from verify.report.numbers import Verification, measure, question
from verify.report.page import Inputs, Section, render

OUTPUTS = ("verification.json", "report.html")
TITLE = "Verification: what the checks did"
"""That of the template."""


@dataclass
class Config:
    """`prm report verify`.

    Attributes:
        out: a folder; gets `report.html`, and `verification.json` with all its numbers.
        run: the folder that `prm verify` left.
        examples: solutions to show of each rule, drawn at random.
        seed: of the draw.
    """

    out: str
    run: str
    examples: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.examples < 0:
            raise ValueError(f"examples is {self.examples}; it starts at 0")


def run(config: Config) -> None:
    """Write the report; an earlier one in the same folder is replaced."""
    source = Path(config.run)
    verified, counts, inputs = _read_run(source)
    items = itertools.chain[Record](
        jsonl.read(source / "labelled.jsonl", LabelledSolution),
        jsonl.read(source / "rejected.jsonl", Rejection),
    )
    first = next(items, None)
    if first is None:
        raise RecordError("no solutions in this run", path=source)
    folder = html.make_folder(config.out, OUTPUTS, TITLE)
    draw = Draw(config.examples, config.seed, verified.rules)
    bar = track(itertools.chain([first], items), "report verify")
    numbers = measure(_offering(bar, draw), verified.rules, verified.voting)
    _require_all(source, numbers, counts)
    sections = [
        Section(
            kind=kind,
            rule=rule,
            asks=question(rule),
            solutions=draw.offered[kind, rule],
            examples=[view(record, rule, verified.voting) for record in records],
        )
        for (kind, rule), records in draw.made()
    ]
    jsonl.write_text(folder / "verification.json", _numbers_text(inputs, numbers, sections))
    page = folder / "report.html"
    jsonl.write_text(page, render(inputs, numbers, sections))
    print(f"report verify: {headline(numbers)} → {page}", flush=True)


def headline(numbers: Verification) -> str:
    """What became of the solutions, in one line."""
    return (
        f"kept {numbers.kept:,} of {numbers.solutions:,} ({numbers.corrected:,} corrected, "
        f"{numbers.lighter:,} lighter), rejected {numbers.rejected:,}"
    )


def _read_run(folder: Path) -> tuple[stage.Config, Counts, Inputs]:
    """How a finished run was configured, what it counted, and what it read.

    Raises:
        ConfigError: the folder holds no such run.
    """
    path, advice = folder / "run.json", "set `run` to a folder that `prm verify` left"
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; {advice}")
    if not path.exists():
        raise ConfigError(f"{folder}: no run.json in this folder; {advice}")
    try:
        record = json.loads(path.read_bytes())
        if record["stage"] != "verify":
            raise ConfigError(f"{folder}: holds a run of {record['stage']!r}; {advice}")
        if "outputs" not in record:
            raise ConfigError(f"{folder}: not finished; run the same `prm verify` again first")
        config = configuration.from_dict(stage.Config, dict(record["config"]), str(path))
        sha256 = str(record["inputs"]["annotations"])
        return config, Counts(**record["counts"]), Inputs(str(folder), config.annotations, sha256)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a run record ({error}); {advice}") from None


def _require_all(folder: Path, numbers: Verification, counts: Counts) -> None:
    """Refuse files that hold less or more than the run wrote."""
    for name, found, wrote in (
        ("labelled.jsonl", numbers.kept, counts.written),
        ("rejected.jsonl", numbers.rejected, sum(counts.rejected.values())),
    ):
        if found != wrote:
            raise RecordError(
                f"{found:,} records, but the run wrote {wrote:,}; run `prm verify` anew",
                path=folder / name,
            )


def _numbers_text(inputs: Inputs, numbers: Verification, sections: list[Section]) -> str:
    values = dataclasses.asdict(inputs) | dataclasses.asdict(numbers)
    values["examples"] = [
        {
            "kind": section.kind,
            "rule": section.rule,
            "solutions": section.solutions,
            "shown": len(section.examples),
        }
        for section in sections
    ]
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _offering(records: Iterable[Record], draw: Draw) -> Iterator[Record]:
    for record in records:
        draw.offer(record)
        yield record
