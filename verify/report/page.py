"""The report of a verified file as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prm import html
from verify.report.examples import Example
from verify.report.flow import flow
from verify.report.numbers import Verification


@dataclass(frozen=True)
class Inputs:
    """What was read: the run's folder, and the annotations that it verified, with their hash."""

    run: str
    annotations: str
    sha256: str


@dataclass(frozen=True)
class Section:
    """What one rule did, with examples.

    Attributes:
        kind: one of `verify.report.examples.KINDS`.
        rule: its name.
        asks: its question, where it is a check.
        solutions: to which it did so.
        examples: some of them.
    """

    kind: str
    rule: str
    asks: str
    solutions: int
    examples: list[Example]


def render(inputs: Inputs, numbers: Verification, sections: Sequence[Section]) -> str:
    """The page. Whatever stands in the records is escaped, and its unseen characters are shown."""
    histograms = {"as voted": numbers.before, "as kept": numbers.after}
    shares = [
        steps / labels.steps
        for labels in histograms.values()
        for steps in labels.tenths
        if labels.steps
    ]
    return html.render(
        "verify",
        inputs=inputs,
        numbers=numbers,
        flow=flow(numbers),
        histograms=histograms,
        highest=max(shares, default=1.0),
        sections=sections,
    )
