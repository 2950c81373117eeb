"""Which solutions a report shows of each rule, and what it shows of them.

They are drawn at random, without holding more than are shown, and whatever the order of the file.
"""

from __future__ import annotations

import bisect
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from prm.records import Evidence, LabelledSolution, Rejection
from verify.answers import Answer, extract_answer
from verify.decision import Rules
from verify.report.numbers import in_order, voted
from verify.votes import Voting

Record = LabelledSolution | Rejection

KINDS = ("corrected", "down-weighted", "rejected", "noted")
"""What a rule can do to a solution: to change a label, to lower the weight, to reject it, or to
write down that it fails and nothing else."""

Group = tuple[str, str]
"""Solutions to which a rule did the same: one of KINDS, and the rule."""


class Draw:
    """Takes records one by one and keeps, of each group, those to show.

    Args:
        number: how many to show of each group.
        seed: of the draw.
        rules: of the run.

    Attributes:
        offered: how many records each group had.
    """

    def __init__(self, number: int, seed: int, rules: Rules) -> None:
        self._number = number
        self._seed = seed
        self._rules = rules
        self.offered = Counter[Group]()
        # In order; digests differ within a group, so records never compare.
        self._kept: dict[Group, list[tuple[bytes, Record]]] = {}

    def offer(self, record: Record) -> None:
        """Keep a record wherever it belongs to those to show so far."""
        for group in _groups(record, self._rules):
            self.offered[group] += 1
            kept = self._kept.setdefault(group, [])
            text = f"{self._seed} {group} {record.id}"
            digest = hashlib.sha256(text.encode()).digest()
            bisect.insort(kept, (digest, record))
            del kept[self._number :]

    def made(self) -> Iterator[tuple[Group, list[Record]]]:
        """Each group with the records to show, rules in the order in which they run."""
        for kind, rule in sorted(
            self._kept, key=lambda group: (KINDS.index(group[0]), in_order(group[1]))
        ):
            yield (kind, rule), [record for _, record in self._kept[kind, rule]]


def _groups(record: Record, rules: Rules) -> Iterator[Group]:
    if isinstance(record, Rejection):
        yield "rejected", record.rule
        return
    for rule in {change.rule for change in record.corrections}:
        yield "corrected", rule
    for item in record.evidence:
        action = getattr(rules, item.check, None)
        if item.verdict == "fail" and action == "down_weight" and record.weight < 1.0:
            yield "down-weighted", item.check
        elif item.verdict == "fail" and action == "keep":
            yield "noted", item.check


@dataclass(frozen=True)
class StepView:
    """A step.

    Attributes:
        text: of the step.
        labels: the label as voted, then after each correction; the last one counts. None where
            nobody voted.
        fifth: of the last label, from 0; None without a label.
    """

    text: str
    labels: list[float | None]
    fifth: int | None


@dataclass(frozen=True)
class Example:
    """A solution to look at.

    Attributes:
        id, generator, problem, answer, reference: of the solution.
        found: the final answer that it gives.
        weight: how much training trusts it; None where it is rejected.
        reason: what the rule says against it.
        steps: with their labels.
        evidence: what each check said.
        changed: rule → the steps whose labels it changed.
    """

    id: str
    generator: str
    problem: str
    answer: str | None
    reference: str | None
    found: Answer
    weight: float | None
    reason: str
    steps: list[StepView]
    evidence: tuple[Evidence, ...]
    changed: dict[str, list[int]]


def view(record: Record, rule: str, voting: Voting) -> Example:
    """A record as the page shows it among those of a rule."""
    if isinstance(record, Rejection):
        solution, weight, reason = record.annotation.solution, None, record.reason
    else:
        solution, weight = record.solution, record.weight
        reason = next(item.reason for item in record.evidence if item.check == rule)
    labels = [[label] for label in voted(record, voting)]
    changed: dict[str, list[int]] = {}
    for change in record.corrections:
        labels[change.step].append(change.new)
        changed.setdefault(change.rule, []).append(change.step)
    return Example(
        id=solution.id,
        generator=solution.generator,
        problem=solution.problem,
        answer=solution.answer,
        reference=solution.reference,
        found=extract_answer(solution.steps),
        weight=weight,
        reason=reason,
        steps=[
            StepView(text, shown, _fifth(shown[-1]))
            for text, shown in zip(solution.steps, labels, strict=True)
        ],
        evidence=record.evidence,
        changed=changed,
    )


def _fifth(label: float | None) -> int | None:
    return None if label is None else min(4, int(5 * label))
