"""What the demo found, gathered from what the stages left, and a page that shows it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from examples.micro import truth
from prm import jsonl, metrics
from prm.records import Annotation, LabelledSolution, StepScores
from universalbench.results import Row as BenchRow
from universalbench.results import read as read_results
from verify import votes

SHOWN = 8
"""Solutions on the page."""


@dataclass(frozen=True)
class Row:
    """A share with its 95 % interval."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Table:
    """Shares that compare with each other."""

    title: str
    rows: list[Row]


@dataclass(frozen=True)
class StepView:
    """A step of an example: its text, exact label, votes and scores."""

    text: str
    right: bool
    votes: list[tuple[str, str]]
    soft: float | None
    score: float


@dataclass(frozen=True)
class Example:
    """A solution to look at."""

    policy: str
    problem: str
    reference: list[str]
    steps: list[StepView]


@dataclass(frozen=True)
class Summary:
    """All that the page and the closing table show; `cut` is the PRM's own threshold."""

    tables: list[Table]
    examples: list[Example]
    cut: float


def summarize(out: Path, benchmark: str) -> Summary:
    """Read what the stages of the demo left under `out`."""
    items = list(jsonl.read(benchmark, LabelledSolution))
    bench = read_results(out / "bench" / "results.json").rows
    search = json.loads((out / "search" / "results.json").read_text())["rows"]
    steps = [_bench_row(row) for row in bench if row.task == "all"]
    chosen = [row for row in search if row["n"] == 8]
    choices = [Row(row["method"], row["accuracy"], *row["interval"]) for row in chosen]
    gains = [
        Row(row["method"], row["gain"], *row["gain_interval"])
        for row in chosen
        if row["method"] not in ("pass@1", "oracle")
    ]
    cut = next(
        row.threshold.value
        for row in bench
        if row.predictor == "PRM with reference" and row.threshold is not None
    )
    return Summary(
        tables=[
            Table(
                "Right answers of the policies on UniversalBench-micro, % [95 %]", _policies(items)
            ),
            Table("F1 of wrong steps against the exact labels, % [95 %]", steps),
            Table("Right answers when choosing among the weakest policy's 8, % [95 %]", choices),
            Table("Gain over pass@1, points [95 %, paired]", gains),
        ],
        examples=_examples(out, items),
        cut=cut,
    )


def _bench_row(row: BenchRow) -> Row:
    found = row.metrics["f1_wrong"]
    value = found.value or 0.0
    return Row(row.predictor, value, *(found.interval or (value, value)))


def _policies(items: Sequence[LabelledSolution]) -> list[Row]:
    rows = []
    for name in dict.fromkeys(item.solution.generator for item in items):
        hits = [truth.answered(i.solution) for i in items if i.solution.generator == name]
        rows.append(Row(name, sum(hits) / len(hits), *metrics.mean_interval(hits)))
    return rows


def _examples(out: Path, items: Sequence[LabelledSolution]) -> list[Example]:
    """Solutions with right and wrong steps, policies in turn."""
    annotations = jsonl.read(out / "annotate-benchmark" / "annotations.jsonl", Annotation)
    cast = {item.id: item for item in annotations}
    scored = {
        item.id: item for item in jsonl.read(out / "score-benchmark" / "scores.jsonl", StepScores)
    }
    mixed = [item for item in items if len(set(item.labels)) == 2]
    return [
        _example(item, cast[item.solution.id], scored[item.solution.id])
        for item in _in_turn(mixed)[:SHOWN]
    ]


def _in_turn(items: Iterable[LabelledSolution]) -> list[LabelledSolution]:
    """The first of each policy, then the second of each, and so on."""
    rank: dict[str, int] = {}
    placed = []
    for item in items:
        rank[item.solution.generator] = rank.get(item.solution.generator, 0) + 1
        placed.append((rank[item.solution.generator], len(placed), item))
    return [item for *_, item in sorted(placed, key=lambda place: place[:2])]


def _example(item: LabelledSolution, annotation: Annotation, scores: StepScores) -> Example:
    solution = item.solution
    labels = votes.count(annotation.judgments, len(solution.steps)).labels
    marks: dict[Any, str] = {1.0: "right", 0.0: "wrong"}
    return Example(
        policy=solution.generator,
        problem=solution.problem,
        reference=(solution.reference or "").splitlines(),
        steps=[
            StepView(
                text=text,
                right=item.labels[index] == 1.0,
                votes=[
                    (judgment.strategy, marks.get(judgment.verdicts[index], "none"))
                    for judgment in annotation.judgments
                ],
                soft=labels[index],
                score=scores.scores[index],
            )
            for index, text in enumerate(solution.steps)
        ],
    )


def write_page(path: Path, summary: Summary, switch: str) -> None:
    """One self-contained HTML page: tables with bars, and solutions with every step coloured."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("page.html").render(summary=summary, switch=switch)
    jsonl.write_text(path, page)
