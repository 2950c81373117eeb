"""`prm score`: a score for every step of every solution.

One `StepScores` per solution, or a `Failure` with the reason; see `prm.scorers`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

from prm import jsonl
from prm.config import MAY_CHANGE
from prm.errors import RecordError
from prm.progress import bar
from prm.records import Failure, StepScores
from prm.run import Counts, Run
from prm.scorers import ScorerConfig, identify, load
from prm.sources import Source, solutions
from prm.sources import identify as identify_source

OUTPUTS = ("scores.jsonl", "failures.jsonl")


@dataclass
class Config:
    """`prm score`: a score for every step of every solution.

    Attributes:
        out: the run folder; gets `scores.jsonl` and, where needed, `failures.jsonl`.
        source: the solutions.
        scorer: the checkpoint.
        chunk: solutions scored between two durable writes.
    """

    out: str
    source: Source
    scorer: ScorerConfig
    chunk: int = field(default=512, metadata=MAY_CHANGE)


def run(config: Config) -> Counts:
    """Score a file of solutions; resumes where an earlier attempt stopped."""
    inputs = {"source": identify_source(config.source), "model": identify(config.scorer)}
    with Run(config.out, "score", config, inputs, OUTPUTS) as folder:
        if folder.counts is not None:
            return folder.counts
        batch = list(solutions(config.source))
        if not batch:
            raise RecordError("no solutions in this source", path=config.source)
        scorer = load(config.scorer)
        with (
            jsonl.Writer(folder.path("scores.jsonl"), StepScores) as out,
            jsonl.Writer(folder.path("failures.jsonl"), Failure) as failed,
        ):
            done = {*out.finished, *failed.finished}
            todo = (item for item in batch if item.id not in done)
            with bar("score", len(batch), done=len(done)) as shown:
                while chunk := list(islice(todo, config.chunk)):
                    results = scorer.score_each(chunk)
                    failed.write(item for item in results if isinstance(item, Failure))
                    out.write(item for item in results if isinstance(item, StepScores))
                    shown.update(len(chunk))
            out.commit()
            failed.commit()
        written = sum(1 for _ in jsonl.read(folder.path("scores.jsonl"), StepScores))
        rejected = len(batch) - written
        counts = Counts(
            read=len(batch),
            written=written,
            rejected={"cannot be scored": rejected} if rejected else {},
        )
        return folder.finish(counts, OUTPUTS)
