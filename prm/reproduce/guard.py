"""Numbers that must not fall: new results held against recorded ones."""

from __future__ import annotations

from dataclasses import dataclass

from prm.errors import PRMError
from prm.reproduce.figure import Results
from universalbench.results import Estimate


@dataclass(frozen=True)
class Findings:
    """What a comparison with a recording came to.

    Attributes:
        wrong: each an error: a number that fell, or one that is no longer measured.
        told: what guards nothing, or less than it seems.
    """

    wrong: tuple[str, ...]
    told: tuple[str, ...]


def compare(recorded: Results, now: Results) -> Findings:
    """Hold new results against recorded ones.

    A row that is a headline in the recording falls where its value lies below the lower end of its
    interval there, or is not defined any more. What the recording calls a headline counts: no
    change of a figure takes a number out of the guard unseen.
    """
    before, after = recorded.rows(), now.rows()
    wrong, told = [], []
    if (recorded.seeds, recorded.size) != (now.seeds, now.size):
        told.append("the recording is of other seeds or sizes: a number may fall by chance")
    for place, row in before.items():
        name = f"figure {place[0]}, {place[1]}"
        if place not in after:
            wrong.append(f"{name}: recorded as {_shown(row.value)}, and no longer measured")
        elif row.headline:
            value = after[place].value.value
            if row.value.interval is None:
                told.append(f"{name}: recorded without an interval, so nothing is guarded")
            elif value is None or value < row.value.interval[0]:
                new = "no value" if value is None else f"{value:.3f}"
                wrong.append(f"{name}: {new} now, recorded as {_shown(row.value)}")
    fresh = [f"{figure}, {label}" for figure, label in after if (figure, label) not in before]
    if fresh:
        more = f" (and {len(fresh) - 1} more)" if len(fresh) > 1 else ""
        told.append(f"figure {fresh[0]}{more}: new; record anew to guard it")
    return Findings(tuple(wrong), tuple(told))


def check(findings: Findings, path: str) -> None:
    """Fail where a number fell.

    Args:
        findings: see `compare`.
        path: of the recording.

    Raises:
        PRMError: in one line, with the first number that fell and what to do.
    """
    if findings.wrong:
        count = len(findings.wrong) - 1
        more = f" (and {count} more)" if count else ""
        raise PRMError(
            f"{findings.wrong[0]}{more}: find what changed, or, if it is meant, copy results.json "
            f"to {path} and say why in docs/log.md"
        )


def _shown(value: Estimate) -> str:
    if value.value is None:
        return "no value"
    interval = "" if value.interval is None else " [{:.3f}, {:.3f}]".format(*value.interval)
    return f"{value.value:.3f}{interval}"
