"""`prm search`: choose among given candidates of each problem, and measure how well.

candidates + step scores ──aggregate──▶ rankings.jsonl
                                  └───▶ results.json: accuracy for every method and N

Whether a candidate is right is verified here, from its final answer and the true one; what the
source says in `final_answer_correct` is not used.
"""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prm import jsonl
from prm.aggregation import AGGREGATIONS, Aggregation, aggregate
from prm.config import MAY_CHANGE
from prm.errors import ConfigError, RecordError
from prm.records import Failure, Ranking, Solution, StepScores, steps_digest
from prm.run import Counts, Run, fingerprint
from prm.selection import Candidates, measure
from prm.sources import Source, identify, solutions
from verify.candidates import answered, by_problem

OUTPUTS = ("rankings.jsonl", "results.json")


@dataclass
class Config:
    """`prm search`.

    Attributes:
        out: the run folder; gets `rankings.jsonl` and `results.json`.
        source: candidates; those with the same problem text compete.
        scores: what `prm score` left for them. Candidates that it set aside in the
            `failures.jsonl` beside are set aside here too.
        aggregations: how step scores become a reward: min, product, last, mean.
        n: how many candidates a choice is made from; an N beyond what every problem has gets
            no row.
    """

    out: str
    source: Source
    scores: str = field(metadata=MAY_CHANGE)  # its content is compared
    aggregations: list[Aggregation] = field(default_factory=lambda: list(AGGREGATIONS))
    n: list[int] = field(default_factory=lambda: [1, 2, 4, 8])


@dataclass(frozen=True)
class Scored:
    """All candidates of one problem.

    Attributes:
        solutions: the candidates.
        known: their rewards, and what is known of their final answers.
    """

    solutions: list[Solution]
    known: Candidates


def run(config: Config) -> Counts:
    """Rank the candidates of every problem; measure where the true answers are known."""
    _check(config)
    inputs = {"source": identify(config.source), "scores": fingerprint(config.scores)}
    failures = Path(config.scores).with_name("failures.jsonl")
    if failures.exists():
        inputs["failures"] = fingerprint(failures)
    with Run(config.out, "search", config, inputs, OUTPUTS) as folder:
        if folder.counts is None:
            items = list(solutions(config.source))
            if not items:
                raise RecordError("no candidates in this source", path=config.source)
            failed = (
                {item.id for item in jsonl.read(failures, Failure)} if failures.exists() else ()
            )
            scores = _scores(config, items, failed)
            kept = [item for item in items if item.id in scores]
            if not kept:
                raise RecordError("none of the candidates was scored", path=failures)
            problems = _group(kept, scores, config.aggregations)
            rankings = [ranking for problem in problems for ranking in rank(problem)]
            jsonl.write(folder.path("rankings.jsonl"), rankings)
            results = measure([problem.known for problem in problems], config.n)
            text = json.dumps(results, indent=1, allow_nan=False)
            jsonl.write_text(folder.path("results.json"), text + "\n")
            aside = len(items) - len(kept)
            rejected = {"not scored": aside} if aside else {}
            counts = Counts(read=len(items), written=len(kept), rejected=rejected)
            folder.finish(counts, OUTPUTS)
        assert folder.counts is not None
        print(format_results(json.loads(folder.path("results.json").read_text()), config.n))
        return folder.counts


def _check(config: Config) -> None:
    if not config.aggregations:
        raise ConfigError(f"aggregations is empty; choose from {', '.join(AGGREGATIONS)}")
    if not config.n or min(config.n) < 1:
        raise ConfigError("n must hold numbers from 1")


def _scores(
    config: Config, items: Sequence[Solution], failed: Container[str]
) -> dict[str, StepScores]:
    found = {item.id: item for item in jsonl.read(config.scores, StepScores)}
    for item in items:
        scores = found.get(item.id)
        if scores is None:
            if item.id in failed:
                continue
            raise RecordError(
                f"no scores of solution {item.id!r}; score this source first", path=config.scores
            )
        same = scores.steps_digest == steps_digest(item)
        if not same or len(scores.scores) != len(item.steps):
            raise RecordError(
                f"these scores are of other steps than those of solution {item.id!r}; score this "
                "source first",
                path=config.scores,
            )
    return found


def _group(
    items: Sequence[Solution], scores: dict[str, StepScores], methods: Sequence[Aggregation]
) -> list[Scored]:
    judged = answered(items)
    problems = []
    for members in by_problem(items):
        group = [items[index] for index in members]
        correct = [judged[index].correct for index in members]
        known = [right for right in correct if right is not None]
        problems.append(
            Scored(
                group,
                Candidates(
                    problem=group[0].problem,
                    rewards={
                        method: [aggregate(scores[item.id].scores, method) for item in group]
                        for method in methods
                    },
                    groups=[judged[index].group for index in members],
                    correct=known if len(known) == len(correct) else None,
                ),
            )
        )
    return problems


def rank(problem: Scored) -> list[Ranking]:
    """One ranking per aggregation, and one by majority; ties keep the order given."""
    groups = list(problem.known.groups)
    votes = [0.0 if group is None else float(groups.count(group)) for group in groups]
    first = problem.solutions[0]
    rankings = []
    for method, given in [*problem.known.rewards.items(), ("majority", votes)]:
        rewards = [value for value in given if value is not None]  # all are scored here
        order = sorted(range(len(rewards)), key=rewards.__getitem__, reverse=True)
        rankings.append(
            Ranking(
                id=f"{first.id}/{method}",
                problem=first.problem,
                method=method,
                solution_ids=tuple(problem.solutions[index].id for index in order),
                rewards=tuple(rewards[index] for index in order),
            )
        )
    return rankings


def format_results(results: dict[str, Any], asked: Sequence[int] = ()) -> str:
    """The table: a line per method, a column per N, percentages; last, the N that have no column
    among those that were `asked` for."""
    judged, fewest = results["problems"], results["candidates"]
    total = judged + results["without_answer"]
    if not judged:
        return f"no accuracy: none of the {total} problems has a true answer"
    known = f"{judged} of {total} problems have a true answer"
    if not results["rows"]:
        return f"{known}; no accuracy: every N exceeds {fewest}, the fewest candidates of a problem"
    numbers = sorted({row["n"] for row in results["rows"]})
    methods = list(dict.fromkeys(row["method"] for row in results["rows"]))
    cells = {(row["method"], row["n"]): row for row in results["rows"]}
    width = max(map(len, methods))
    lines = [
        f"{known}; at least {fewest} candidates each",
        " " * width
        + "".join(f"  {f'N = {n}':>7}" for n in numbers)
        + "  95 % interval, last N; gain over pass@1",
    ]
    for method in methods:
        last = cells[method, numbers[-1]]
        interval = _interval(last["interval"], "")
        if method != "pass@1":
            interval += f"  {100 * last['gain']:+.1f} {_interval(last['gain_interval'], '+')}"
        values = "".join(f"  {100 * cells[method, n]['accuracy']:7.1f}" for n in numbers)
        lines.append(f"{method:<{width}}{values}  {interval}")
    if beyond := sorted(set(asked) - set(numbers)):
        left = ", ".join(map(str, beyond))
        lines.append(f"no column for N = {left}: more than the fewest candidates of a problem")
    return "\n".join(lines)


def _interval(bounds: Sequence[float], sign: str) -> str:
    low, high = (f"{100 * bound:{sign}.1f}" for bound in bounds)
    return f"[{low}, {high}]"
