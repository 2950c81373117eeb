"""The report of an annotated file as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.estimates import Estimate
from annotate.findings import Agreement, Pair
from annotate.report.examples import Example
from prm import html


@dataclass(frozen=True)
class Inputs:
    """What was read: the file, and the hash of its content."""

    path: str
    sha256: str


def render(
    inputs: Inputs,
    agreement: Agreement,
    contested: Sequence[Example],
    drawn: Sequence[Example],
) -> str:
    """The page. Whatever stands in the records is escaped, and its unseen characters are shown."""
    return html.render(
        "annotate",
        inputs=inputs,
        agreement=agreement,
        juries=_juries(agreement),
        matrix=_matrix(agreement),
        reasons=_reasons(agreement),
        contested=contested,
        drawn=drawn,
    )


def kappa_text(kappa: Estimate) -> str:
    """A kappa with its interval, or why there is none."""
    if kappa.value is None:
        return f"undefined ({kappa.undefined})"
    if kappa.interval is None:
        return f"{kappa.value:.3f}"
    low, high = kappa.interval
    return f"{kappa.value:.3f} [{low:.3f}, {high:.3f}]"


def _juries(agreement: Agreement) -> dict[str, Any]:
    """The sets of voters to show: one where all are language models, or none is."""
    if agreement.llm.voters in (0, agreement.all.voters):
        return {"all voters": agreement.all}
    return {"all voters": agreement.all, "language models": agreement.llm}


def _matrix(agreement: Agreement) -> list[tuple[str, list[Pair | None]]]:
    """For each voter its pairs with all voters, None with itself."""
    pairs = {frozenset((pair.first, pair.second)): pair for pair in agreement.pairs}
    names = [voter.name for voter in agreement.voters]
    return [(one, [pairs.get(frozenset((one, other))) for other in names]) for one in names]


def _reasons(agreement: Agreement) -> Mapping[str, list[int]]:
    """Reason → unusable answers of each voter, the most frequent reason first."""
    known = sorted({reason for voter in agreement.voters for reason in voter.reasons})
    counts = {
        reason: [voter.reasons.get(reason, 0) for voter in agreement.voters] for reason in known
    }
    return dict(sorted(counts.items(), key=lambda item: -sum(item[1])))
