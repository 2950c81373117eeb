"""The report of an annotated file as one self-contained HTML page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from annotate.estimates import Estimate
from annotate.findings import Agreement, Pair
from annotate.report.examples import Example

_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and marks that turn the direction of writing: with them a text could look
like another than it is."""


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
    environment = Environment(
        loader=PackageLoader("annotate", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
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


def _visible(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Markup):
        return _UNSEEN.sub(lambda match: f"‹U+{ord(match[0]):04X}›", value)
    return value


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
