"""`prm verify-answers`: final answers are found and compared with the true ones.

solutions or predictions ──▶ grades.jsonl, one grade each, and summary.json

The answer of a solution is what `verify.answers` finds in it. A prediction may be the bare answer:
where nothing in it is marked as the answer and it is one line of at most 100 characters, it is
compared as it stands, by the rule `whole text`, since a guess would take `2` for the answer
`(1, 2)`. A short sentence that marks no answer is therefore compared whole, which mostly ends
in `unknown`. Any other prediction is read as a solution whose steps are its lines.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from prm import jsonl
from prm.config import MAY_CHANGE
from prm.errors import RecordError
from prm.progress import bar
from prm.records import Grade, Prediction, Solution
from prm.run import Counts, Run
from prm.sources import Source, gradable, identify
from verify.answers import Answer, extract_answer
from verify.checker_pool import CheckerPool, Comparison
from verify.equivalence import grade_many

WHOLE_TEXT = "whole text"
"""The rule that takes a prediction for the bare answer."""

BARE_CHARS = 100
"""A bare answer is no longer than this."""

_MARKS = ("boxed", "####", "A:", "tag", "answer phrase", "choice")
"""Rules of `verify.answers` by which the text itself says what its answer is; the others guess."""

_MAX_DISAGREEMENTS = 20


OUTPUTS = ("grades.jsonl", "summary.json")


@dataclass
class Config:
    """`prm verify-answers`.

    Attributes:
        out: the run folder; gets `grades.jsonl` and `summary.json`, which counts the grades by
            verdict and rule and names the first 20 that contradict what their source says.
        sources: solutions, or predictions (`format: answers`). Ids differ across all sources. A
            prediction of one line of at most 100 characters that marks no answer is compared as
            it stands.
        deadline_s: seconds that one comparison may take; beyond, the verdict is unknown.
        workers: processes that compare formulas.
        chunk: answers compared between two durable writes.
    """

    out: str
    sources: list[Source]
    deadline_s: float = 5.0
    workers: int = field(default=2, metadata=MAY_CHANGE)
    chunk: int = field(default=256, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources is empty; give at least one")
        if not 0.0 < self.deadline_s < float("inf"):
            raise ValueError(f"deadline_s is {self.deadline_s}; it must be above 0")
        if self.workers < 1 or self.chunk < 1:
            raise ValueError("workers and chunk start at 1")


@dataclass(frozen=True, kw_only=True)
class GradeCounts(Counts):
    """What the answers were worth; `failed` counts the unknown ones by rule.

    Attributes:
        verdicts: verdict → rule → number of grades.
        compared: grades other than unknown whose source says itself whether the answer is right
            (`final_answer_correct`).
        agreed: how many of those say the same as the source.
        disagreements: the ids of the first 20 that do not.
    """

    verdicts: dict[str, dict[str, int]]
    compared: int
    agreed: int
    disagreements: list[str]

    def __str__(self) -> str:
        sums = {verdict: sum(rules.values()) for verdict, rules in self.verdicts.items()}
        line = f"{self.read} read, {self.written} written"
        line += "".join(f", {verdict} {count}" for verdict, count in sums.items())
        if self.failed:
            reasons = (f"{rule} {count}" for rule, count in sorted(self.failed.items()))
            line += f" ({', '.join(reasons)})"
        if self.compared:
            line += f", agrees with the source on {self.agreed} of {self.compared}"
        return line


def grade_all(
    items: Iterable[Solution | Prediction],
    *,
    deadline_s: float = 5.0,
    pool: CheckerPool | None = None,
) -> Iterator[Grade]:
    """Grade solutions and predictions, all at once; yields one grade each, in their order.

    Unknown by the rule `no reference answer` where the true answer is not known.

    Args:
        items: what to grade.
        deadline_s, pool: as for `verify.equivalence.grade_many`.
    """
    items = list(items)
    answers = [_find_answer(item) for item in items]
    pairs = [
        (found, item.answer)
        for item, found in zip(items, answers, strict=True)
        if item.answer is not None
    ]
    compared = iter(grade_many(pairs, deadline_s=deadline_s, pool=pool))
    for item, found in zip(items, answers, strict=True):
        if item.answer is None:
            result = Comparison("unknown", "no reference answer", "the true answer is not known")
        else:
            result = next(compared)
        yield Grade(
            id=item.id,
            answer=item.answer,
            found=found.text,
            found_by=found.rule,
            verdict=result.verdict,
            rule=result.rule,
            reason=result.reason,
        )


def _find_answer(item: Solution | Prediction) -> Answer:
    """The final answer of a solution, or of a prediction that may be the bare answer."""
    if isinstance(item, Solution):
        return extract_answer(item.steps)
    text = item.prediction.strip()
    lines = text.splitlines()
    found = extract_answer(lines)
    if found.rule not in _MARKS and len(lines) == 1 and len(text) <= BARE_CHARS:
        return Answer(text, WHOLE_TEXT)
    return found


def run(config: Config) -> GradeCounts:
    """Grade all sources; resumes where an earlier attempt stopped.

    The grades of a resumed run are those of an uninterrupted one, unless a comparison takes
    about as long as the deadline.

    Raises:
        RecordError: a record is not what its source says, or an id occurs in two sources.
    """
    inputs = {f"sources[{index}]": identify(source) for index, source in enumerate(config.sources)}
    with Run(config.out, "verify-answers", config, inputs, OUTPUTS) as folder:
        if folder.counts is not None:
            return _recall(folder, folder.counts)
        known = _read_through(config.sources)
        with jsonl.Writer(folder.path("grades.jsonl"), Grade) as out:
            _grade_rest(config, len(known), out)
            out.commit()
        counts = _count(jsonl.read(out.path, Grade), known)
        own = {name: getattr(counts, name) for name in _OWN}
        jsonl.write_text(
            folder.path("summary.json"), json.dumps(own, indent=1, ensure_ascii=False) + "\n"
        )
        plain = Counts(read=counts.read, written=counts.written, failed=counts.failed)
        folder.finish(plain, OUTPUTS)
        return counts


_OWN = ("verdicts", "compared", "agreed", "disagreements")
"""What `GradeCounts` adds, and `summary.json` holds."""


def _read_through(sources: Iterable[Source]) -> dict[str, bool | None]:
    """Every id, with its source's own word on the outcome; refuses what is wrong before work."""
    known: dict[str, bool | None] = {}
    for source in sources:
        for item in gradable(source):
            if item.id in known:
                raise RecordError(
                    f"{item.id!r} occurs in an earlier source, too; grade the sources in runs of "
                    "their own, or give ids that differ",
                    path=source,
                    field="id",
                )
            known[item.id] = item.final_answer_correct if isinstance(item, Solution) else None
    return known


def _grade_rest(config: Config, total: int, out: jsonl.Writer) -> None:
    """Grade what an earlier attempt left."""
    done = set(out.finished)
    todo = (item for source in config.sources for item in gradable(source) if item.id not in done)
    with CheckerPool(config.workers) as pool, bar("verify-answers", total, done=len(done)) as shown:
        while chunk := list(islice(todo, config.chunk)):
            out.write(grade_all(chunk, deadline_s=config.deadline_s, pool=pool))
            shown.update(len(chunk))


def _count(grades: Iterable[Grade], known: dict[str, bool | None]) -> GradeCounts:
    verdicts: dict[str, Counter[str]] = {
        verdict: Counter() for verdict in ("equal", "different", "unknown")
    }
    compared, disagreements = 0, []
    for grade in grades:
        verdicts[grade.verdict][grade.rule] += 1
        said = known[grade.id]
        if said is not None and grade.verdict != "unknown":
            compared += 1
            if said != (grade.verdict == "equal"):
                disagreements.append(grade.id)
    return GradeCounts(
        read=len(known),
        written=sum(rules.total() for rules in verdicts.values()),
        failed=dict(verdicts["unknown"]),
        verdicts={verdict: dict(rules) for verdict, rules in verdicts.items()},
        compared=compared,
        agreed=compared - len(disagreements),
        disagreements=disagreements[:_MAX_DISAGREEMENTS],
    )


def _recall(folder: Run, counts: Counts) -> GradeCounts:
    """The counts of a finished run."""
    own = json.loads(folder.path("summary.json").read_bytes())
    return GradeCounts(read=counts.read, written=counts.written, failed=counts.failed, **own)
