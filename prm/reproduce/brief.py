"""A run in one small table, as the README shows it."""

from __future__ import annotations

from prm.reproduce.figure import Claim, Results
from prm.reproduce.measured import AUROC
from prm.reproduce.tables import VERDICTS, said, tally


def brief(results: Results) -> str:
    """Markdown: a row for every claim of the paper, in one metric each.

    A claim that is held against numbers in several metrics stands with the first of them; the
    report has them all, and the claims that are this project's own.
    """
    lines = ["| claim | here: difference [95 %] | verdict | the paper, at its scale |"]
    lines += ["|---|---|---|---|"]
    for figure in results.figures:
        seen: set[str] = set()
        for claim in figure.claims:
            if claim.paper and claim.text not in seen:
                lines.append(_row(claim))
            seen.add(claim.text)
    return "\n".join([*lines, "", tally(results)])


def _row(claim: Claim) -> str:
    metric = "" if claim.metric != AUROC else f" ({claim.metric})"
    cells = [f"{claim.text}{metric}", said(claim), VERDICTS[claim.verdict], claim.paper]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
