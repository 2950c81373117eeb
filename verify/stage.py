"""`prm verify`: votes become labels, and labels are checked backwards from the answer.

annotations ──votes──▶ soft labels ──checks──▶ labelled.jsonl
                                         └───▶ rejected.jsonl, each with rule and reason
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, islice

from prm import jsonl
from prm.config import MAY_CHANGE
from prm.progress import bar
from prm.records import Annotation, LabelledSolution, Rejection
from prm.run import Counts, Run, fingerprint
from verify.decision import Rules, decide
from verify.outcomes import outcomes
from verify.summary import summarize
from verify.votes import Voting

OUTPUTS = ("labelled.jsonl", "rejected.jsonl", "summary.json")


@dataclass
class Config:
    """`prm verify`.

    Attributes:
        out: the run folder; gets `labelled.jsonl`, `rejected.jsonl`, and `summary.json`, which
            counts what each check said and did.
        annotations: what `prm annotate` left.
        voting: how votes become labels.
        rules: see `Rules`.
        chunk: solutions whose answers are checked together.
    """

    out: str
    annotations: str = field(metadata=MAY_CHANGE)  # its content is compared
    voting: Voting = field(default_factory=Voting)
    rules: Rules = field(default_factory=Rules)
    chunk: int = field(default=256, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunk is {self.chunk}; it starts at 1")


def run(config: Config) -> Counts:
    """Verify a file of annotations; resumes where an earlier attempt stopped."""
    inputs = {"annotations": fingerprint(config.annotations)}
    with Run(config.out, "verify", config, inputs, OUTPUTS) as folder:
        if folder.counts is not None:
            return folder.counts
        with (
            jsonl.Writer(folder.path("labelled.jsonl"), LabelledSolution) as kept,
            jsonl.Writer(folder.path("rejected.jsonl"), Rejection) as rejected,
        ):
            total = sum(1 for _ in jsonl.read(config.annotations, Annotation))
            done = {*kept.finished, *rejected.finished}
            items = jsonl.read(config.annotations, Annotation)
            todo = (item for item in items if item.id not in done)
            with bar("verify", total, done=len(done)) as shown:
                while chunk := list(islice(todo, config.chunk)):
                    compared = outcomes([item.solution for item in chunk])
                    decided = list(decide(chunk, compared, config.rules, config.voting))
                    rejected.write(item for item in decided if isinstance(item, Rejection))
                    kept.write(item for item in decided if isinstance(item, LabelledSolution))
                    shown.update(len(chunk))
            kept.commit()
            rejected.commit()
        summary = summarize(
            chain(jsonl.read(kept.path, LabelledSolution), jsonl.read(rejected.path, Rejection)),
            config.rules,
        )
        jsonl.write_text(folder.path("summary.json"), summary.json())
        counts = Counts(
            read=total,
            written=summary.kept,
            rejected=summary.rejected,
            corrected=summary.corrected,
        )
        return folder.finish(counts, OUTPUTS)
