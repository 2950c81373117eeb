"""`prm verify`: votes become labels, and labels are checked backwards from the answer.

annotations ──votes──▶ soft labels ──checks──▶ labelled.jsonl
                                         └───▶ rejected.jsonl, each with rule and reason
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from prm import jsonl
from prm.config import MAY_CHANGE
from prm.errors import ConfigError
from prm.progress import bar
from prm.records import Annotation, Evidence, LabelledSolution, Rejection
from prm.run import Counts, Run, fingerprint
from verify import votes
from verify.checker_pool import Comparison
from verify.checks import check_all_right, check_outcome, check_wrong_step
from verify.outcomes import outcomes
from verify.votes import Voting

Action = Literal["keep", "down_weight", "reject"]


@dataclass
class Rules:
    """What happens to a solution on which a check fails.

    Attributes:
        all_right_but_answer_wrong: some step must be wrong, and nobody found it.
        wrong_step_but_answer_right: errors may cancel or be taken back, so trust less.
        down_weight: the weight that `down_weight` gives.
    """

    all_right_but_answer_wrong: Action = "reject"
    wrong_step_but_answer_right: Action = "down_weight"
    down_weight: float = 0.5


@dataclass
class Config:
    """`prm verify`.

    Attributes:
        out: the run folder; gets `labelled.jsonl` and `rejected.jsonl`.
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


def verify(
    annotations: Iterable[Annotation],
    compared: Iterable[Comparison | None],
    rules: Rules,
    voting: Voting | None = None,
) -> Iterator[LabelledSolution | Rejection]:
    """Label each annotation, or reject it with the rule and the reason.

    Args:
        annotations: solutions with votes.
        compared: for each the comparison of its final answer with the reference answer, None
            where there is no reference answer.
        rules: what a failed check means.
        voting: how votes become labels; None averages them.
    """
    for annotation, outcome in zip(annotations, compared, strict=True):
        yield _decide(annotation, check_outcome(outcome), rules, voting or Voting())


def _decide(
    annotation: Annotation, outcome: Evidence, rules: Rules, voting: Voting
) -> LabelledSolution | Rejection:
    ballot = votes.count(annotation.judgments, len(annotation.solution.steps), voting.weights)
    labels = tuple(label for label in ballot.labels if label is not None)
    if len(labels) < len(ballot.labels):
        missing = ballot.labels.index(None)
        reason = f"nobody voted on step {missing}"
        return Rejection(
            annotation=annotation, rule="step without a vote", reason=reason, evidence=(outcome,)
        )
    if voting.labels == "hard":
        labels = tuple(float(label >= 0.5) for label in labels)
    all_right = check_all_right(labels, outcome)
    wrong_step = check_wrong_step(labels, outcome)
    evidence = (outcome, all_right, wrong_step)
    actions = {
        "all_right_but_answer_wrong": (all_right, rules.all_right_but_answer_wrong),
        "wrong_step_but_answer_right": (wrong_step, rules.wrong_step_but_answer_right),
    }
    weight = 1.0
    for rule, (check, action) in actions.items():
        if check.verdict != "fail" or action == "keep":
            continue
        if action == "reject":
            return Rejection(
                annotation=annotation, rule=rule, reason=check.reason, evidence=evidence
            )
        weight *= rules.down_weight
    return LabelledSolution(
        solution=annotation.solution,
        labels=labels,
        agreement=tuple(share for share in ballot.agreement if share is not None),
        weight=weight,
        evidence=evidence,
    )


def run(config: Config) -> Counts:
    """Verify a file of annotations; resumes where an earlier attempt stopped."""
    if not 0.0 < config.rules.down_weight <= 1.0:
        raise ConfigError(f"rules.down_weight is {config.rules.down_weight}; it must lie in (0, 1]")
    inputs = {"annotations": fingerprint(config.annotations)}
    with Run(config.out, "verify", config, inputs) as folder:
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
                    decided = list(verify(chunk, compared, config.rules, config.voting))
                    rejected.write(item for item in decided if isinstance(item, Rejection))
                    kept.write(item for item in decided if isinstance(item, LabelledSolution))
                    shown.update(len(chunk))
            kept.commit()
            rejected.commit()
        reasons = Counter(item.rule for item in jsonl.read(rejected.path, Rejection))
        counts = Counts(read=total, written=total - reasons.total(), rejected=dict(reasons))
        return folder.finish(counts, ["labelled.jsonl", "rejected.jsonl"])
