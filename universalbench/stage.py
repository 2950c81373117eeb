"""`prm bench`: predictors on benchmarks, measured with intervals and compared in pairs.

Every number comes with the threshold it rests on and where that was chosen. The run folder holds
all that a report needs, see `universalbench.results`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from prm import jsonl, scorers
from prm.aggregation import AGGREGATIONS, Aggregation
from prm.config import MAY_CHANGE, to_dict
from prm.errors import ConfigError
from prm.run import Counts, Run, fingerprint, versions
from prm.sources import identify
from universalbench import results, scoring
from universalbench.evaluation import Choosing, Said, evaluate, items_of
from universalbench.measures import DEFINITIONS
from universalbench.predictors import PredictorConfig
from universalbench.report.page import write_page
from universalbench.report.table import format_table
from universalbench.resampling import DRAWS, PERMUTATIONS
from universalbench.results import Cost, ItemScores, PredictorRecord, Results, Sampling
from universalbench.tasks import Task, TaskConfig, load
from universalbench.thresholds import check

OUTPUTS = ("items.jsonl", *scoring.FILES, "results.json", "report.html")


@dataclass
class Config:
    """`prm bench`.

    Attributes:
        out: the run folder; gets `items.jsonl`, `scores.jsonl`, `predictors.jsonl`, `costs.jsonl`,
            `results.json` and `report.html`.
        tasks: benchmarks.
        predictors: what is compared on them.
        aggregations: how the step scores of a candidate become its reward.
        n: out of how many candidates is chosen; an N beyond what every problem has is left out.
        seed: of bootstrap draws, of exchanges, and of what `threshold_split` draws.
        chunk: solutions scored between two durable writes.
    """

    out: str
    tasks: list[TaskConfig] = field(default_factory=list)
    predictors: list[PredictorConfig] = field(default_factory=list)
    aggregations: list[Aggregation] = field(default_factory=lambda: list(AGGREGATIONS))
    n: list[int] = field(default_factory=lambda: [1, 2, 4, 8])
    seed: int = 0
    chunk: int = field(default=256, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.seed < 0:
            raise ValueError("chunk starts at 1 and seed at 0")
        if not self.aggregations or not self.n or min(self.n) < 1:
            raise ValueError("aggregations and n are not empty, and n holds numbers from 1")


def run(config: Config) -> Counts:
    """Run all predictors on all tasks and print the table; resumes where an attempt stopped."""
    for name, entries in (("tasks", config.tasks), ("predictors", config.predictors)):
        names = [entry.name for entry in entries]
        if not names:
            raise ConfigError(f"bench needs `{name}`; none are given")
        again = next((own for own in names if names.count(own) > 1), None)
        if again is not None:
            raise ConfigError(f"two of `{name}` are called {again!r}; each needs a name of its own")
    for entry in config.predictors:
        check(entry, [task.name for task in config.tasks if task.kind != "candidates"])
    inputs = _inputs(config)
    with Run(config.out, "bench", config, inputs, OUTPUTS) as folder:
        if folder.counts is None:
            tasks = [load(task) for task in config.tasks]
            jsonl.write(folder.path("items.jsonl"), (i for task in tasks for i in items_of(task)))
            groups = scoring.group(config.predictors)
            named = {group.id: inputs.get(f"predictors.{group.id}") for group in groups}
            unscored = scoring.score(
                folder.folder, groups, tasks, fingerprints=named, chunk=config.chunk
            )
            found = _results(config, folder, tasks)
            results.write(folder.path("results.json"), found)
            write_page(folder.path("report.html"), folder.folder)
            read = sum(task.solutions for task in found.tasks)
            tokens = sum(cost.tokens for cost in found.costs)
            failed = {f"not scored by {name}": number for name, number in unscored.items()}
            folder.finish(Counts(read=read, written=read, failed=failed, tokens=tokens), OUTPUTS)
        assert folder.counts is not None
        print(format_table(results.read(folder.path("results.json"))))
        return folder.counts


def _results(config: Config, folder: Run, tasks: list[Task]) -> Results:
    """What is measured is what was written: a report reads the same."""
    records = {
        item.id: item for item in jsonl.read(folder.path("predictors.jsonl"), PredictorRecord)
    }
    rows: dict[tuple[str, str], list[ItemScores]] = {}
    for item in jsonl.read(folder.path("scores.jsonl"), ItemScores):
        rows.setdefault((item.predictor, item.task), []).append(item)
    said = [
        Said(
            config=entry,
            record=records[group.id],
            rows={task.name: rows[group.id, task.name] for task in tasks},
        )
        for group in scoring.group(config.predictors)
        for entry in group.members
    ]
    order = [entry.name for entry in config.predictors]
    said.sort(key=lambda item: order.index(item.config.name))
    described, measured, comparisons = evaluate(
        tasks, said, Choosing(config.aggregations, config.n), config.seed
    )
    resolved = to_dict(config)
    del resolved["out"]
    return Results(
        tasks=tuple(described),
        rows=tuple(measured),
        comparisons=tuple(comparisons),
        predictors=tuple(records.values()),
        definitions=DEFINITIONS,
        sampling=Sampling(seed=config.seed, draws=DRAWS, permutations=PERMUTATIONS),
        versions=versions(),
        config=resolved,
        costs=tuple(scoring.totals(list(jsonl.read(folder.path("costs.jsonl"), Cost)))),
    )


def _inputs(config: Config) -> dict[str, str]:
    inputs = {f"tasks.{task.name}": identify(task.source) for task in config.tasks}
    hashes: dict[str, str] = {}  # of a checkpoint that serves several rows, taken once
    for entry in config.predictors:
        if entry.checkpoint is not None:
            key = repr((entry.checkpoint.model, entry.checkpoint.revision, entry.checkpoint.family))
            if key not in hashes:
                hashes[key] = scorers.identify(entry.checkpoint)
            inputs[f"predictors.{entry.name}"] = hashes[key]
        elif entry.annotations is not None:
            inputs[f"predictors.{entry.name}"] = fingerprint(entry.annotations)
    return inputs
