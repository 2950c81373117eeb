"""How runs were made, in tables."""

from __future__ import annotations

from collections.abc import Sequence

from prm.zoo.entry import Threshold
from universalbench.report.grid import NONE, Grid, count, words
from universalbench.report.runs import BenchRun, TaskReport


def predictors(runs: Sequence[BenchRun]) -> Grid:
    """What gave the scores."""
    return Grid(
        caption="What gave the scores",
        columns=["scores of", "run", "kind", "model", "family", "told", "declared threshold",
                 "the same without a reference", "revision", "fingerprint", "format"],
        rows=[
            [
                words(item.id),
                words(run.name),
                words(item.kind),
                words(item.model),
                words(item.family or NONE),
                words({"none": "nothing"}.get(item.reference, item.reference)),
                words(_cut(item.declared), "" if item.declared is None else item.declared.split),
                words(_cut(item.declared_untold)),
                words(item.revision or NONE),
                words(_hash(item.fingerprint)),
                words(_hash(item.format)),
            ]
            for run in runs
            for item in run.results.predictors
        ],
        notes=(
            "The fingerprint is of a checkpoint's files or of the annotations; the format is of "
            "what the checkpoint is shown of a fixed solution.",
        ),
    )  # fmt: skip


def made(runs: Sequence[BenchRun]) -> Grid:
    """How the runs were made, a run a column."""
    names = list(dict.fromkeys(name for run in runs for name in run.results.versions))
    rows = [
        [words("folder"), *(words(run.folder) for run in runs)],
        [words("began"), *(words(run.record.get("started", NONE)) for run in runs)],
        [words("ended"), *(words(run.record.get("finished", NONE)) for run in runs)],
        [words("seed"), *(words(str(run.results.sampling.seed)) for run in runs)],
        [words("bootstrap draws"), *(words(count(run.results.sampling.draws)) for run in runs)],
        [words("exchanges"), *(words(count(run.results.sampling.permutations)) for run in runs)],
    ]
    rows += [
        [words(name), *(words(run.results.versions.get(name, NONE)) for run in runs)]
        for name in names
    ]
    inputs = list(dict.fromkeys(name for run in runs for name in run.record.get("inputs", {})))
    rows += [
        [words(name, "hash of the input"),
         *(words(_hash(run.record.get("inputs", {}).get(name))) for run in runs)]
        for name in inputs
    ]  # fmt: skip
    return Grid("How the runs were made", ["run", *(run.name for run in runs)], rows)


def _cut(found: Threshold | None) -> str:
    return NONE if found is None else f"{found.value:.4g}"


def _hash(text: str | None) -> str:
    """The beginning of a hash; a Hub id's stands as it is."""
    if text is None:
        return NONE
    return f"{text[:16]}…" if len(text) == 64 and " " not in text else text


def digests(tasks: Sequence[TaskReport]) -> Grid:
    """What tells tasks from others of the same name."""
    return Grid(
        caption="Digests of the tasks: equal digests, equal solutions and truth",
        columns=["task", "digest"],
        rows=[[words(task.record.name), words(task.record.digest)] for task in tasks],
    )
