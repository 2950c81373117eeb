"""What `prm verify` did to a whole file, counted in one pass over what it left."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prm.errors import RecordError
from prm.records import LabelledSolution, Rejection
from verify import checks
from verify.checks import CUT
from verify.decision import CHECKS, Rules
from verify.summary import Summary, summarize
from verify.votes import Voting, labels_of

UNCHANGED, CORRECTED, REJECTED = "kept unchanged", "kept corrected", "rejected"
"""What can become of a solution's labels."""

SEVERAL = "several rules"
"""Stands for the rule of a solution whose labels more than one rule changed."""


@dataclass(frozen=True)
class Stream:
    """Solutions with one fate; each solution is in one stream.

    Attributes:
        fate: UNCHANGED, CORRECTED or REJECTED.
        rule: that did it; empty where nothing did anything.
        solutions: how many.
        full, lighter: those of them that training trusts fully, and less; none if rejected.
    """

    fate: str
    rule: str
    solutions: int
    full: int
    lighter: int


@dataclass(frozen=True)
class Check:
    """What one check said, and what became of the solutions on which it failed.

    Attributes:
        name: of the check.
        asks: its question.
        action: what follows where it fails; `skip` where it did not run.
        passed, failed, unknown: solutions of which it said so.
        share_failed: of those of which it could tell; None where there are none.
        labels: labels that it changed, of solutions that were kept.
        kept: solutions on which it failed and that were kept all the same.
        lighter: those of them that training trusts less, for this check or another.
    """

    name: str
    asks: str
    action: str
    passed: int = 0
    failed: int = 0
    unknown: int = 0
    share_failed: float | None = None
    labels: int = 0
    kept: int = 0
    lighter: int = 0


@dataclass
class Labels:
    """Soft labels of steps.

    Attributes:
        steps: that have a label.
        unlabelled: on which nobody voted.
        wrong: whose label lies below one half.
        tenths: steps with a label from 0.0 to 0.1, from 0.1 to 0.2, …; the last holds 1.0, too.
    """

    steps: int = 0
    unlabelled: int = 0
    wrong: int = 0
    tenths: list[int] = field(default_factory=lambda: [0] * 10)

    def add(self, labels: Iterable[float | None]) -> None:
        """Count the labels of one more solution."""
        for label in labels:
            if label is None:
                self.unlabelled += 1
                continue
            self.steps += 1
            self.wrong += label < CUT
            self.tenths[min(9, int(10 * label))] += 1


@dataclass(frozen=True)
class Verification:
    """Everything that was counted.

    Attributes:
        solutions: that came in: `kept` and `rejected`.
        corrected: kept ones with a changed label.
        lighter: kept ones that training trusts less.
        streams: what became of the solutions.
        checks: the outcome of the final answer, then the checks in the order in which they run.
        before: the labels as voted, of all solutions.
        after: the labels as kept.
        weights: how much training trusts a solution → kept solutions, the most trusted first.
    """

    solutions: int
    kept: int
    corrected: int
    lighter: int
    rejected: int
    streams: list[Stream]
    checks: list[Check]
    before: Labels
    after: Labels
    weights: dict[str, int]


def measure(
    records: Iterable[LabelledSolution | Rejection], rules: Rules, voting: Voting
) -> Verification:
    """Count what became of each record.

    Args:
        records: all that `prm verify` left.
        rules, voting: the run's own.

    Raises:
        RecordError: a record tells of a correction by a check that it does not tell of.
    """
    sums = _Sums(voting)
    summary = summarize(sums.adding(records), rules)
    rejected = sum(summary.rejected.values())
    streams = _streams(sums.fates)
    return Verification(
        solutions=summary.kept + rejected,
        kept=summary.kept,
        corrected=sum(item.solutions for item in streams if item.fate == CORRECTED),
        lighter=summary.lighter,
        rejected=rejected,
        streams=streams,
        checks=_checks(summary, sums, rules),
        before=sums.before,
        after=sums.after,
        weights={f"{weight:g}": sums.weights[weight] for weight in sorted(sums.weights)[::-1]},
    )


def voted(record: LabelledSolution | Rejection, voting: Voting) -> list[float | None]:
    """A record's labels before any correction; None where nobody voted on a step."""
    if isinstance(record, Rejection):
        annotation = record.annotation
        return list(labels_of(annotation.judgments, len(annotation.solution.steps), voting).labels)
    labels: list[float | None] = list(record.labels)
    for change in reversed(record.corrections):
        labels[change.step] = change.old
    return labels


def in_order(rule: str) -> tuple[int, str]:
    """The place of a rule in the order in which they run; what is no check comes last."""
    return CHECKS.index(rule) if rule in CHECKS else len(CHECKS), rule


def question(check: str) -> str:
    """What a check asks, in one sentence; nothing where there is no such check."""
    if check not in ("outcome", *CHECKS):
        return ""
    text = " ".join((inspect.getdoc(getattr(checks, check)) or "").split())
    return re.split(r"(?<=[?.]) ", text, maxsplit=1)[0]


class _Sums:
    """What `verify.summary` does not count, added up record by record."""

    def __init__(self, voting: Voting) -> None:
        self._voting = voting
        self.before = Labels()
        self.after = Labels()
        self.fates = Counter[tuple[str, str, bool]]()
        self.weights = Counter[float]()
        self.kept_though_failed = Counter[str]()
        self.lighter_and_failed = Counter[str]()

    def adding(
        self, records: Iterable[LabelledSolution | Rejection]
    ) -> Iterator[LabelledSolution | Rejection]:
        for record in records:
            self._add(record)
            yield record

    def _add(self, record: LabelledSolution | Rejection) -> None:
        rules = {change.rule for change in record.corrections}
        if strangers := rules - {item.check for item in record.evidence}:
            raise RecordError(
                f"{record.id!r}: {min(strangers)!r} corrects a label, and is not in the evidence; "
                "run `prm verify` anew"
            )
        self.before.add(voted(record, self._voting))
        if isinstance(record, Rejection):
            self.fates[REJECTED, record.rule, False] += 1
            return
        self.after.add(record.labels)
        lighter = record.weight < 1.0
        fate = CORRECTED if rules else UNCHANGED
        self.fates[fate, SEVERAL if len(rules) > 1 else next(iter(rules), ""), lighter] += 1
        self.weights[float(f"{record.weight:.3g}")] += 1
        failed = {item.check for item in record.evidence if item.verdict == "fail"}
        self.kept_though_failed.update(failed)
        if lighter:
            self.lighter_and_failed.update(failed)


def _streams(fates: Counter[tuple[str, str, bool]]) -> list[Stream]:
    order = (UNCHANGED, CORRECTED, REJECTED)
    known = {(fate, rule) for fate, rule, _ in fates}
    streams = []
    for fate, rule in sorted(known, key=lambda item: (order.index(item[0]), in_order(item[1]))):
        full, lighter = fates[fate, rule, False], fates[fate, rule, True]
        kept = 0 if fate == REJECTED else full
        streams.append(Stream(fate, rule, full + lighter, kept, lighter))
    return streams


def _checks(summary: Summary, sums: _Sums, rules: Rules) -> list[Check]:
    found = []
    for name in ("outcome", *CHECKS):
        tally = summary.checks.get(name)
        if tally is None:
            found.append(Check(name, question(name), getattr(rules, name, "keep")))
            continue
        told = tally.passed + tally.failed
        found.append(
            Check(
                name=name,
                asks=question(name),
                action=tally.action,
                passed=tally.passed,
                failed=tally.failed,
                unknown=tally.unknown,
                share_failed=tally.failed / told if told else None,
                labels=tally.labels,
                kept=sums.kept_though_failed[name],
                lighter=sums.lighter_and_failed[name],
            )
        )
    return found
