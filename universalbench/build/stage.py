"""`prm build-bench`: a benchmark of full-trajectory labels, drawn from labelled solutions.

    labelled.jsonl ──▶ benchmark.jsonl, README.md (the card), rejected.jsonl

The file has the format of `universalbench.tasks.universal` and is read as kind `universalbench`.
"""

from __future__ import annotations

import re
from collections import Counter as Tally
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from prm import jsonl
from prm.errors import ConfigError, RecordError
from prm.progress import track
from prm.records import Failure, LabelledSolution, problem_key, steps_digest
from prm.run import Counts, Run, fingerprint
from prm.sources import Place, Source, identify, labelled, problem_texts
from universalbench.build.card import BENCHMARK, CellCount, Recipe, card
from universalbench.build.draw import Entry, draw
from universalbench.build.rules import (
    Cell,
    Counter,
    LabelRule,
    LengthRule,
    cell_of,
    item_of,
)

LEAKED = "its problem is one of `training`"
DUPLICATE = "the same policy wrote the same steps before"


OUTPUTS = (BENCHMARK, "README.md", "rejected.jsonl")


@dataclass
class Config:
    """`prm build-bench`.

    Attributes:
        out: the run folder; gets `benchmark.jsonl`, its card `README.md`, and `rejected.jsonl`
            with the reason for each solution that is not in it. The folder is a data set of the
            Hub's kind.
        source: labelled solutions, such as `labelled.jsonl` of `prm verify`; each needs a
            reference (`source.references` joins them) and a generator.
        name: the benchmark's, for the card. It must not be UniversalBench, which is another.
        licence: under which the data may be used, as the Hub writes it: `apache-2.0`,
            `cc-by-4.0`, `other`; `unknown` where it must not be published yet.
        labels: which soft labels are sure enough, and what becomes of them.
        length: which solutions are long.
        subset: what names a solution's subset: `source`, `generator`, or `metadata.KEY`.
        size: how many solutions to draw, evenly from all cells (subset, length, policy, whether
            there is a wrong step); null takes all.
        per_problem: at most so many solutions of one problem; null sets no bound.
        seed: of the draw.
        training: what models under test may have been trained on; a solution of a problem that
            occurs there is left out.
    """

    out: str
    source: Source
    name: str
    licence: str
    labels: LabelRule = field(default_factory=LabelRule)
    length: LengthRule = field(default_factory=LengthRule)
    subset: str = "source"
    size: int | None = None
    per_problem: int | None = None
    seed: int = 0
    training: list[Place] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.name.strip() or "\n" in self.name:
            raise ValueError(f"name is {self.name!r}; it must be one line")
        if self.name.strip().casefold() == "universalbench":
            raise ValueError("name is that of another, unpublished data set; take one of your own")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.licence):
            raise ValueError(
                f"licence is {self.licence!r}; write it as the Hub does, such as apache-2.0, "
                "cc-by-4.0, other or unknown"
            )
        if not re.fullmatch(r"source|generator|metadata\..+", self.subset):
            raise ValueError(
                f"subset is {self.subset!r}; it must be source, generator or metadata.KEY"
            )
        for key, value in (("size", self.size), ("per_problem", self.per_problem)):
            if value is not None and value < 1:
                raise ValueError(f"{key} is {value}; it starts at 1, null sets no bound")


def run(config: Config) -> Counts:
    """Build the benchmark; what an earlier attempt left unfinished is done again."""
    inputs = {"source": identify(config.source)}
    inputs |= {f"training[{index}]": identify(at) for index, at in enumerate(config.training)}
    if config.length.tokenizer is not None and Path(config.length.tokenizer).exists():
        inputs["tokenizer"] = fingerprint(config.length.tokenizer)
    with Run(config.out, "build-bench", config, inputs, OUTPUTS) as folder:
        if folder.counts is not None:
            return folder.counts
        builder = _Builder(config)
        entries, reasons = builder.survey()
        chosen = draw(entries, config.size, config.per_problem, config.seed)
        reasons |= {id: reason for id, reason in chosen.items() if reason is not None}
        if len(reasons) == builder.read:
            common = Tally(reasons.values()).most_common(1)
            why = f"; most often: {common[0][0]}" if common else ""
            raise RecordError(f"no solution is fit for the benchmark{why}", path=config.source)
        cells = {entry.cell: CellCount() for entry in entries}
        for entry in entries:
            cells[entry.cell].available += 1
        drawn = {entry.id for entry in entries if chosen[entry.id] is None}
        keys = {entry.key for entry in entries if entry.id in drawn}
        jsonl.write(folder.path(BENCHMARK), builder.items(drawn, cells))
        jsonl.write(
            folder.path("rejected.jsonl"),
            (Failure(id=id, reason=reason) for id, reason in reasons.items()),
        )
        rejected = dict(Tally(reasons.values()))
        jsonl.write_text(
            folder.path("README.md"), card(_recipe(config), cells, rejected, len(keys))
        )
        counts = Counts(read=builder.read, written=len(drawn), rejected=rejected)
        return folder.finish(counts, OUTPUTS)


class _Builder:
    """Reads the source twice, so that no more than what a draw needs is ever in memory.

    Attributes:
        read: solutions in the source, after `survey`.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.read = 0
        self._count = _counter(config.length.tokenizer)

    def survey(self) -> tuple[list[Entry], dict[str, str]]:
        """What may be drawn, and id → reason of what may not, both in the source's order."""
        leaks = {problem_key(text) for at in self.config.training for text in problem_texts(at)}
        unlabelled: list[Failure] = []
        entries: list[Entry] = []
        reasons: dict[str, str] = {}
        seen: set[tuple[str, str]] = set()
        for item in track(labelled(self.config.source, unlabelled), "build-bench"):
            self.read += 1
            key = problem_key(item.solution.problem)
            same = item.solution.generator, steps_digest(item.solution)
            if key in leaks:
                reasons[item.id] = LEAKED
            elif same in seen:
                reasons[item.id] = DUPLICATE
            elif isinstance(made := self._make(item), str):
                reasons[item.id] = made
            else:
                entries.append(Entry(item.id, key, cell_of(made)))
                seen.add(same)
        self.read += len(unlabelled)
        return entries, reasons | {item.id: item.reason for item in unlabelled}

    def items(self, drawn: set[str], cells: dict[Cell, CellCount]) -> Iterator[LabelledSolution]:
        """The items drawn, in the source's order; counts them in their cells."""
        for item in track(labelled(self.config.source, []), "write"):
            if item.id in drawn:
                made = self._make(item)
                assert not isinstance(made, str)  # survey() made it of the same file
                count = cells[cell_of(made)]
                count.solutions += 1
                count.steps += len(made.labels)
                count.wrong_steps += made.labels.count(0.0)
                yield made

    def _make(self, item: LabelledSolution) -> LabelledSolution | str:
        config = self.config
        return item_of(item, config.labels, config.length, config.subset, self._count)


def _counter(tokenizer: str | None) -> Counter:
    if tokenizer is None:
        return len
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"length.tokenizer {tokenizer!r} cannot be read ({reason})") from None
    return lambda text: len(loaded.encode(text, add_special_tokens=False))


def _recipe(config: Config) -> Recipe:
    return Recipe(
        name=config.name,
        licence=config.licence,
        source=_named(config.source),
        labels=config.labels,
        length=config.length,
        subset=config.subset,
        size=config.size,
        per_problem=config.per_problem,
        seed=config.seed,
        training=[_named(at) for at in config.training],
    )


def _named(place: Place) -> str:
    """The name of a file without the folders of the machine it lies on, or the Hub's name."""
    return Path(place.path).name if place.path is not None else str(place)
