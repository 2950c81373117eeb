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
from itertools import islice
from typing import Literal

from tqdm import tqdm

from annotate.judge import JudgeSettings, error_share, judge
from annotate.rules import RULES, vote
from annotate.strategy import prompt_folder
from prm import jsonl
from prm.config import MAY_CHANGE
from prm.engines import EngineConfig, load
from prm.errors import ConfigError, EngineError
from prm.progress import track
from prm.records import STRICT, Annotation, Judgment, Solution
from prm.run import Counts, Run, fingerprint
from prm.sources import Source, identify, solutions


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
        chunk: solutions between two durable writes.
    """

    out: str
    source: Source
    rules: list[Literal["arithmetic", "reference"]] = field(
        default_factory=lambda: ["arithmetic", "reference"]
    )
    judges: list[JudgeConfig] = field(default_factory=list)
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
    with Run(config.out, "annotate", config, inputs) as folder:
        if folder.counts is not None:
            return folder.counts
        items = list(solutions(config.source))
        files = []
        if config.rules:
            files.append("votes-rules.jsonl")
            _run_rules(config, items, folder)
        for index, voter in enumerate(config.judges):
            files.append(f"votes-{index}.jsonl")
            _run_judge(config, voter, items, folder, files[-1])
        votes = [jsonl.read(folder.path(name), _Votes) for name in files]
        jsonl.write(folder.path("annotations.jsonl"), _merge(items, votes))
        return folder.finish(_count(folder), ["annotations.jsonl"])


def _check(config: Config) -> None:
    if not config.rules and not config.judges:
        raise ConfigError("annotate needs a voter: an entry in `rules` or in `judges`")
    unknown = sorted(set(config.rules) - set(RULES))
    if unknown:
        raise ConfigError(f"rules: {unknown[0]!r} is not among {', '.join(RULES)}")


def _run_rules(config: Config, items: Sequence[Solution], folder: Run) -> None:
    with jsonl.Writer(folder.path("votes-rules.jsonl"), _Votes) as out:
        todo = iter(track(_remaining(items, out), "annotate rules"))
        while chunk := list(islice(todo, config.chunk)):
            _write(out, zip(chunk, vote(chunk, config.rules), strict=True), config.chunk)
        out.commit()


def _run_judge(
    config: Config, voter: JudgeConfig, items: Sequence[Solution], folder: Run, name: str
) -> None:
    if folder.path(name).exists():  # finished by an earlier attempt
        _refuse_errors(voter, folder, name)
        return
    with jsonl.Writer(folder.path(name), _Votes) as out:
        remaining = _remaining(items, out)
        if remaining:
            engine = load(voter.engine)
            try:
                cast = judge(
                    remaining,
                    engine,
                    voter.strategies,
                    settings=voter.settings,
                    retries=voter.retries,
                    chunk=config.chunk,
                )
                pairs = zip(remaining, cast, strict=True)
                bar = track(pairs, f"annotate {voter.engine.name}", total=len(remaining))
                _write(out, _counting_tokens(bar), config.chunk)
            finally:
                engine.close()
        out.commit()
    _refuse_errors(voter, folder, name)


def _remaining(items: Sequence[Solution], out: jsonl.Writer) -> list[Solution]:
    done = set(out.finished)
    return [item for item in items if item.id not in done]


def _counting_tokens(
    bar: tqdm[tuple[Solution, tuple[Judgment, ...]]],
) -> Iterator[tuple[Solution, tuple[Judgment, ...]]]:
    """Pass on what the bar iterates over, showing the tokens spent so far."""
    tokens = 0
    for item, cast in bar:
        tokens += sum(sum(judgment.usage.values()) for judgment in cast)
        bar.set_postfix_str(f"{tokens:,} tokens", refresh=False)
        yield item, cast


def _write(
    out: jsonl.Writer, pairs: Iterable[tuple[Solution, tuple[Judgment, ...]]], chunk: int
) -> None:
    votes = (_Votes(id=item.id, judgments=cast) for item, cast in pairs)
    while part := list(islice(votes, chunk)):
        out.write(part)


def _refuse_errors(voter: JudgeConfig, folder: Run, name: str) -> None:
    """Stop where a judge's answers are mostly unusable: its labels would be noise."""
    judgments = [
        item for votes in jsonl.read(folder.path(name), _Votes) for item in votes.judgments
    ]
    share = error_share(judgments)
    if share > voter.max_errors:
        reason, _ = Counter(item.error for item in judgments if item.error).most_common(1)[0]
        raise EngineError(
            f"{voter.engine.name}: {share:.0%} of its answers are unusable (mostly: {reason}), "
            f"more than max_errors {voter.max_errors:.0%}; see {folder.path(name)}. Raise "
            "max_errors to keep them as abstentions, or delete that file and change the judge"
        )


def _merge(items: Sequence[Solution], votes: Sequence[Iterator[_Votes]]) -> Iterator[Annotation]:
    for item, *cast in zip(items, *votes, strict=True):
        if any(part.id != item.id for part in cast):
            raise AssertionError(f"votes out of order at {item.id!r}")
        judgments = tuple(judgment for part in cast for judgment in part.judgments)
        yield Annotation(solution=item, judgments=judgments)


def _count(folder: Run) -> Counts:
    failed: Counter[str] = Counter()
    tokens = written = 0
    for annotation in jsonl.read(folder.path("annotations.jsonl"), Annotation):
        written += 1
        for judgment in annotation.judgments:
            tokens += sum(judgment.usage.values())
            if judgment.error is not None:
                failed[judgment.strategy] += 1
    return Counts(read=written, written=written, failed=dict(failed), tokens=tokens)
