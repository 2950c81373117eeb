"""What the checks said and did, counted over a whole file."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from prm.records import LabelledSolution, Rejection
from verify.decision import Rules


@dataclass
class Tally:
    """One check.

    Attributes:
        action: what follows where it fails.
        passed, failed, unknown: solutions of which it said so.
        labels: labels that it changed, of solutions that were kept.
    """

    action: str
    passed: int = 0
    failed: int = 0
    unknown: int = 0
    labels: int = 0


@dataclass
class Summary:
    """All checks.

    Attributes:
        kept: solutions with labels, all in all.
        lighter: those of them that training trusts less.
        rejected: solutions without, by rule.
        corrected: kept solutions with a changed label, by rule; under several rules, once each.
        checks: by name, in the order in which they ran.
    """

    kept: int = 0
    lighter: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    corrected: dict[str, int] = field(default_factory=dict)
    checks: dict[str, Tally] = field(default_factory=dict)

    def json(self) -> str:
        """As it is written to a file."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def summarize(records: Iterable[LabelledSolution | Rejection], rules: Rules) -> Summary:
    """Count what became of each record."""
    summary = Summary()
    rejected, corrected = Counter[str](), Counter[str]()
    for record in records:
        for item in record.evidence:
            action = getattr(rules, item.check, "keep")
            tally = summary.checks.setdefault(item.check, Tally(action))
            tally.passed += item.verdict == "pass"
            tally.failed += item.verdict == "fail"
            tally.unknown += item.verdict == "unknown"
        if isinstance(record, Rejection):
            rejected[record.rule] += 1
            continue
        summary.kept += 1
        summary.lighter += record.weight < 1.0
        corrected.update({change.rule for change in record.corrections})
        for change in record.corrections:
            summary.checks[change.rule].labels += 1
    summary.rejected = dict(sorted(rejected.items()))
    summary.corrected = dict(sorted(corrected.items()))
    return summary
