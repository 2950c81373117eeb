"""`prm annotate`: every solution gets the votes of rules and of LLM judges.

Voters work one after the other, so only one model is in memory at a time; the votes of each
stand in a file of their own until all are there:

    solutions ──rules──▶ votes-rules.jsonl ─┐
        └──judge k────▶ votes-<k>.jsonl ────┴──▶ annotations.jsonl
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from typing import Literal

from annotate.forecast import Asking, Forecast, Reader, scaled, spread
from annotate.judge import JudgeSettings, Sequential, judge
from annotate.rules import RULES, vote
from annotate.sequential import NOT_ASKED, SequentialConfig
from annotate.strategy import load_strategy, prompt_folder
from prm import jsonl
from prm.config import MAY_CHANGE
from prm.engines import EngineConfig, load
from prm.engines.meter import Meter
from prm.errors import ConfigError, EngineError
from prm.progress import bar
from prm.records import STRICT, Annotation, Judgment, Solution
from prm.run import Counts, Run, fingerprint
from prm.sources import Source, identify, solutions

HOPELESS_AFTER, HOPELESS = 200, 0.5
"""A judge with a larger share of unusable answers after so many is stopped at once."""


@dataclass
class JudgeConfig:
    """An LLM that votes.

    Attributes:
        engine: the model and the library that runs it.
        strategies: prompt strategies; each votes on its own.
        settings: how to ask.
        retries: how often an unusable answer is asked for again.
        max_errors: the share of unusable answers above which the stage fails.
    """

    engine: EngineConfig
    strategies: list[str] = field(default_factory=lambda: ["p0", "p1", "p2", "p3"])
    settings: JudgeSettings = field(default_factory=JudgeSettings)
    retries: int = 1
    max_errors: float = field(default=0.05, metadata=MAY_CHANGE)


@dataclass
class Config:
    """`prm annotate`.

    Attributes:
        out: the run folder; gets `annotations.jsonl`.
        source: the solutions, with references where there are any.
        rules: voters that need no model.
        judges: LLM judges.
        sequential: ask judges strategy after strategy, and no further about a solution whose
            labels the open votes cannot move over a cut; null asks all.
        chunk: solutions between two durable writes.
    """

    out: str
    source: Source
    rules: list[Literal["arithmetic", "reference"]] = field(
        default_factory=lambda: ["arithmetic", "reference"]
    )
    judges: list[JudgeConfig] = field(default_factory=list)
    sequential: SequentialConfig | None = None
    chunk: int = field(default=64, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunk is {self.chunk}; it starts at 1")


@dataclass(frozen=True, kw_only=True)
class _Votes:
    """What one voter said of one solution."""

    __pydantic_config__ = STRICT

    id: str
    judgments: tuple[Judgment, ...]


def run(config: Config) -> Counts:
    """Annotate a file of solutions; resumes where an earlier attempt stopped."""
    _check(config)
    inputs = {"source": identify(config.source)}
    for index, voter in enumerate(config.judges):
        # The words of the prompts decide what is written, as much as their set's name.
        prompts = prompt_folder(voter.settings.prompts)
        inputs[f"judges[{index}].settings.prompts"] = fingerprint(prompts)
    votes = ["votes-rules.jsonl", *(_votes_of(index) for index in range(len(config.judges)))]
    with Run(config.out, "annotate", config, inputs, ["annotations.jsonl", *votes]) as folder:
        if folder.counts is not None:
            return folder.counts
        total = sum(1 for _ in solutions(config.source))
        files: list[str] = []
        if config.rules:
            _run_rules(config, total, folder, "votes-rules.jsonl")
            files.append("votes-rules.jsonl")
        for index in range(len(config.judges)):
            files.append(_run_judge(config, index, total, folder, files))
        jsonl.write(folder.path("annotations.jsonl"), _merge(config, folder, files))
        return folder.finish(_count(folder), ["annotations.jsonl"])


def forecast(config: Config) -> Forecast:
    """What the judges will be asked and cost; the guess is as much reasoning as solution."""
    _check(config)
    total = sum(1 for _ in solutions(config.source))
    items = spread(solutions(config.source), total)
    looked = f"{total:,} solutions, {len(items):,} looked at"
    rows, notes = [], [f"{looked}; guess: a judge's reasoning is as long as the solution"]
    for voter in config.judges:
        reader = Reader(voter.engine)
        notes += [reader.note] if reader.note else []
        strategies = [
            load_strategy(name, voter.settings.prompts, voter.settings.layout)
            for name in voter.strategies
        ]
        found = [
            Asking(f"{voter.engine.name} {strategy.name}", strategy, voter.settings)
            for strategy in strategies
        ]
        for item in items:
            before: Sequence[int] | None = None
            for asking in found:
                before = asking.add(item, reader, before)
        factor = total / len(items) * voter.settings.samples if items else 0.0
        rows += [scaled(asking.row, factor, voter.engine) for asking in found]
    if config.sequential is not None:
        notes.append("sequential voting will ask less")
    return Forecast(rows, notes)


def _check(config: Config) -> None:
    if not config.rules and not config.judges:
        raise ConfigError("annotate needs a voter: an entry in `rules` or in `judges`")
    unknown = sorted(set(config.rules) - set(RULES))
    if unknown:
        raise ConfigError(f"rules: {unknown[0]!r} is not among {', '.join(RULES)}")


def _votes_of(index: int) -> str:
    """The name of a judge's file."""
    return f"votes-{index}.jsonl"


def _run_rules(config: Config, total: int, folder: Run, name: str) -> None:
    with jsonl.Writer(folder.path(name), _Votes) as out:
        todo = _remaining(config, out)
        with bar("annotate rules", total, done=len(out.finished)) as shown:
            while chunk := list(islice(todo, config.chunk)):
                cast = zip(chunk, vote(chunk, config.rules), strict=True)
                out.write(_Votes(id=item.id, judgments=said) for item, said in cast)
                shown.update(len(chunk))
        out.commit()


def _run_judge(config: Config, index: int, total: int, folder: Run, earlier: Sequence[str]) -> str:
    """Let a judge vote, unless it has; returns the name of its file."""
    voter, name = config.judges[index], _votes_of(index)
    with jsonl.Writer(folder.path(name), _Votes) as out:
        if len(out.finished) < total:
            sequential = _sequential(config, index, folder, earlier, len(out.finished))
            meter = Meter(load(voter.engine), voter.engine.prices)
            try:
                _ask(config, voter, total, out, meter, sequential)
            finally:
                meter.close()
        out.commit()
    answers = _Answers(voter)
    answers.add(chain.from_iterable(v.judgments for v in jsonl.read(out.path, _Votes)))
    answers.refuse(voter.max_errors, out.path)
    return name


def _sequential(
    config: Config, index: int, folder: Run, earlier: Sequence[str], done: int
) -> Sequential | None:
    """What a judge must know of the other voters, from the first solution that is not done."""
    if config.sequential is None:
        return None
    later = [
        strategy
        for voter in config.judges[index + 1 :]
        for strategy in voter.strategies
        for _ in range(voter.settings.samples)
    ]
    before = islice(_votes(folder, earlier), done, None)
    return Sequential(config=config.sequential, earlier=before, later=later)


def _ask(
    config: Config,
    voter: JudgeConfig,
    total: int,
    out: jsonl.Writer,
    meter: Meter,
    sequential: Sequential | None,
) -> None:
    """Let one judge vote on what it has not voted on yet."""
    cast = judge(
        _remaining(config, out),
        meter,
        voter.strategies,
        settings=voter.settings,
        retries=voter.retries,
        chunk=config.chunk,
        sequential=sequential,
    )
    pairs = zip(_remaining(config, out), cast, strict=True)
    answers = _Answers(voter)
    with bar(f"annotate {voter.engine.name}", total, done=len(out.finished)) as shown:
        while chunk := list(islice(pairs, config.chunk)):
            out.write(_Votes(id=item.id, judgments=said) for item, said in chunk)
            answers.add(chain.from_iterable(said for _, said in chunk))
            shown.update(len(chunk))
            note = f"{meter.note()}, {answers.unusable:.1%} unusable"
            shown.set_postfix_str(note, refresh=False)
            if answers.asked >= HOPELESS_AFTER:
                answers.refuse(max(HOPELESS, voter.max_errors), f"{out.path}{jsonl.PARTIAL}")


class _Answers:
    """What became of a judge's answers: unusable ones in number would make its labels noise."""

    def __init__(self, voter: JudgeConfig) -> None:
        self._voter = voter
        self._reasons: Counter[str] = Counter()
        self.asked = 0

    def add(self, judgments: Iterable[Judgment]) -> None:
        for judgment in judgments:
            self.asked += judgment.finish_reason != NOT_ASKED
            if judgment.error is not None:
                self._reasons[judgment.error] += 1

    @property
    def unusable(self) -> float:
        """Their share; 0 where nothing was asked."""
        return self._reasons.total() / self.asked if self.asked else 0.0

    def refuse(self, most: float, path: object) -> None:
        """Stop the stage where more than `most` are unusable."""
        if self.unusable <= most:
            return
        reason, _ = self._reasons.most_common(1)[0]
        raise EngineError(
            f"{self._voter.engine.name}: {self.unusable:.0%} of its answers are unusable (mostly: "
            f"{reason}), more than max_errors {self._voter.max_errors:.0%}; see {path}. Raise "
            "max_errors to keep them as abstentions, or delete that file and change the judge"
        )


def _remaining(config: Config, out: jsonl.Writer) -> Iterator[Solution]:
    """The solutions without an entry; those with one came first in the input."""
    done = set(out.finished)
    return (item for item in solutions(config.source) if item.id not in done)


def _votes(folder: Run, files: Sequence[str]) -> Iterator[tuple[Judgment, ...]]:
    """What the voters so far said of each solution."""
    if not files:
        yield from repeat(())
    readers = [jsonl.read(folder.path(name), _Votes) for name in files]
    for cast in zip(*readers, strict=True):
        if any(part.id != cast[0].id for part in cast):
            raise AssertionError(f"votes out of order at {cast[0].id!r}")
        yield tuple(judgment for part in cast for judgment in part.judgments)


def _merge(config: Config, folder: Run, files: Sequence[str]) -> Iterator[Annotation]:
    for item, judgments in zip(solutions(config.source), _votes(folder, files), strict=True):
        yield Annotation(solution=item, judgments=judgments)


def _count(folder: Run) -> Counts:
    failed: Counter[str] = Counter()
    spared: Counter[str] = Counter()
    tokens = written = 0
    for annotation in jsonl.read(folder.path("annotations.jsonl"), Annotation):
        written += 1
        for judgment in annotation.judgments:
            tokens += sum(judgment.usage.values())
            failed[judgment.strategy] += judgment.error is not None
            spared[judgment.strategy] += judgment.finish_reason == NOT_ASKED
    return Counts(
        read=written,
        written=written,
        failed=dict(+failed),
        not_asked=dict(+spared),
        tokens=tokens,
    )
