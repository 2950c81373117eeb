"""Which solutions a report shows, and what it shows of them.

Half of them are those on which the voters disagree most, half are drawn at random; both without
holding more than so many, and whatever the order of the file.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from annotate.sequential import NOT_ASKED
from annotate.voters import Key, disagreement, identified
from prm.records import Annotation, Judgment
from verify import votes


class Choice:
    """Takes annotations one by one and keeps those to show.

    Args:
        number: how many to show. Where fewer than half of them have any disagreement, more are
            drawn at random.
        seed: of the draw, and among equal disagreement.
    """

    def __init__(self, number: int, seed: int) -> None:
        self._number = number
        self._seed = seed
        # Heaps whose smallest entry is the next to go; digests differ, so annotations never
        # compare.
        self._contested: list[tuple[float, bytes, Annotation]] = []
        self._drawn: list[tuple[bytes, Annotation]] = []

    def offer(self, annotation: Annotation) -> None:
        """Keep an annotation, if it belongs to those to show so far."""
        digest = hashlib.sha256(f"{self._seed} {annotation.id}".encode()).digest()
        # As many as there are examples, so that enough remain beside the contested ones.
        _keep(self._drawn, (digest, annotation), self._number)
        most = disagreement(annotation.judgments, len(annotation.solution.steps))
        if most > 0:
            _keep(self._contested, (most, digest, annotation), math.ceil(self._number / 2))

    def made(self) -> tuple[list[Annotation], list[Annotation]]:
        """The most contested ones, the worst first, and the random ones."""
        contested = [item for *_, item in sorted(self._contested, reverse=True)]
        known = {item.id for item in contested}
        drawn = [item for _, item in sorted(self._drawn, reverse=True) if item.id not in known]
        return contested, drawn[: self._number - len(contested)]


@dataclass(frozen=True)
class Cell:
    """A verdict on a step: its sign, its kind (a class of the page's style) and in words."""

    sign: str
    kind: str
    words: str


@dataclass(frozen=True)
class StepView:
    """A step: its text, its soft label, the label's fifth from 0, and a cell for each voter."""

    text: str
    label: float | None
    fifth: int | None
    cells: list[Cell]


@dataclass(frozen=True)
class Said:
    """What one voter wrote of a solution, and why it cannot be used, if so."""

    voter: str
    text: str
    error: str | None


@dataclass(frozen=True)
class Example:
    """A solution to look at; the voters of its cells are those of `said`, in order."""

    id: str
    generator: str
    disagreement: float
    problem: str
    answer: str | None
    reference: str | None
    steps: list[StepView]
    said: list[Said]


def view(annotation: Annotation, names: Mapping[Key, str]) -> Example:
    """An annotation as the page shows it; `names` are those of all voters of the file."""
    solution = annotation.solution
    cast = sorted(identified(annotation.judgments), key=lambda pair: pair[0])
    labels = votes.count(annotation.judgments, len(solution.steps)).labels
    return Example(
        id=solution.id,
        generator=solution.generator,
        disagreement=disagreement(annotation.judgments, len(solution.steps)),
        problem=solution.problem,
        answer=solution.answer,
        reference=solution.reference,
        steps=[
            StepView(
                text=text,
                label=label,
                fifth=None if label is None else min(4, int(5 * label)),
                cells=[_cell(names[key], judgment, index) for key, judgment in cast],
            )
            for index, (text, label) in enumerate(zip(solution.steps, labels, strict=True))
        ],
        said=[Said(names[key], judgment.text, judgment.error) for key, judgment in cast],
    )


def _cell(voter: str, judgment: Judgment, index: int) -> Cell:
    verdict = judgment.verdicts[index]
    if verdict is None:
        if judgment.error is not None:
            return Cell("!", "none", f"{voter}: unusable, {judgment.error}")
        if judgment.finish_reason == NOT_ASKED:
            return Cell("·", "none", f"{voter}: not asked")
        return Cell("–", "none", f"{voter}: no verdict")
    if verdict == 0.5:
        return Cell("½", "none", f"{voter}: one half, no vote")
    sign, kind = ("✓", "right") if verdict > 0.5 else ("✗", "wrong")
    soft = "" if verdict in (0.0, 1.0) else f" {verdict:.2f}"
    return Cell(sign + soft, kind, f"{voter}: {kind}, step {index + 1}{soft}")


def _keep(heap: list[Any], entry: Any, size: int) -> None:
    """Add to a heap of the `size` largest entries."""
    if len(heap) < size:
        heapq.heappush(heap, entry)
    elif size:
        heapq.heappushpop(heap, entry)
