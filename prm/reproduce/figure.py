"""What a figure says: numbers with intervals, and whether the paper's claims hold here.

A figure is a module of `prm.reproduce.figures` with `TITLE`, `declare(lab)`, which declares the
cells that it needs, and `measure(lab)`, which reads what they left.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from prm.errors import RecordError
from prm.records import STRICT
from universalbench.results import Estimate

Verdict = Literal["holds", "not shown", "fails"]

WORDS: dict[Verdict, str] = {
    "fails": "Does not hold here",
    "not shown": "Not shown here",
    "holds": "Holds here",
}
"""What a headline calls a verdict, in its order."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number.

    Attributes:
        name: what was measured.
        metric: in which words, such as `F1 (macro)`.
        value: over all seeds, with its interval over problems.
        seeds: of each seed by itself, in the order of the run's; None where it is not defined.
        paper: the paper's number, where it has one; its model, data and scale are others.
        group: rows of one group belong together, such as a curve.
        x: where the row stands on its curve; null where it is on none.
        cost: tokens that it took, where that is compared.
        headline: whether it must not fall (`recorded`).
    """

    __pydantic_config__ = STRICT

    name: str
    metric: str
    value: Estimate
    seeds: tuple[float | None, ...]
    paper: float | None = None
    group: str = ""
    x: float | None = None
    cost: float | None = None
    headline: bool = False

    @property
    def label(self) -> str:
        """What tells it from the other rows of its figure."""
        x = "" if self.x is None else f" at {self.x:g}"
        parts = (self.group, self.name + x, self.metric)
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What the paper (or this project) says, held against what was measured.

    Attributes:
        text: the claim, as `soft labels judge better than their majority`.
        paper: what the claim rests on, as `.800 against .765 (Figure 2)`; empty where it is ours.
        metric: of the difference.
        difference: the better side less the other, paired by problem.
        seeds: of each seed by itself.
        verdict: see `verdict`.
    """

    __pydantic_config__ = STRICT

    text: str
    paper: str
    metric: str
    difference: Estimate
    seeds: tuple[float | None, ...]
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of the report.

    Attributes:
        name: its module's.
        title: what was asked.
        rows, claims: what came out.
        solutions: that the numbers are of, all seeds together.
        problems: likewise.
        command: that makes this figure alone.
        notes: what a reader must know to take the numbers for what they are.
    """

    __pydantic_config__ = STRICT

    name: str
    title: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    solutions: int
    problems: int
    command: str
    notes: tuple[str, ...] = ()

    @property
    def outcomes(self) -> list[tuple[Verdict, str]]:
        """Each claim and what became of it, those that do not hold first.

        A claim in several metrics stands once where they agree, else once for each.
        """
        found: list[tuple[Verdict, str]] = []
        for text in dict.fromkeys(claim.text for claim in self.claims):
            own = [claim for claim in self.claims if claim.text == text]
            if len({claim.verdict for claim in own}) == 1:
                found.append((own[0].verdict, text))
            else:
                found += [(claim.verdict, f"{text} ({claim.metric})") for claim in own]
        return sorted(found, key=lambda outcome: list(WORDS).index(outcome[0]))

    @property
    def headline(self) -> str:
        """What came out, the claims that do not hold first."""
        outcomes = self.outcomes
        parts = []
        for verdict, words in WORDS.items():
            texts = [text for own, text in outcomes if own == verdict]
            if texts:
                parts.append(f"{words}: {'; '.join(texts)}")
        return ". ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Results:
    """All figures of a run.

    Attributes:
        world: the file that names the problems, policies, judge and base.
        size: how much each seed has, see `prm.reproduce.config.Size`.
        seeds: of the run, in the order of every row's.
        figures: in the report's order.
        versions: of the packages that bear on results.
        seconds: that all cells took together, one after the other.
    """

    __pydantic_config__ = STRICT

    world: str
    size: dict[str, int]
    seeds: tuple[int, ...]
    figures: tuple[Figure, ...]
    versions: dict[str, str]
    seconds: float

    def rows(self) -> dict[tuple[str, str], Row]:
        """All rows, by the name of their figure and their label."""
        found: dict[tuple[str, str], Row] = {}
        for figure in self.figures:
            for row in figure.rows:
                assert found.setdefault((figure.name, row.label), row) is row, row.label
        return found

    def json(self) -> str:
        """As text, which `read` takes."""
        return TypeAdapter(Results).dump_json(self, indent=1).decode() + "\n"


def read(path: str | Path) -> Results:
    """The results that a run left.

    Raises:
        RecordError: there is no such file, or it holds something else.
    """
    try:
        return TypeAdapter(Results).validate_json(Path(path).read_bytes())
    except OSError as error:
        raise RecordError(f"cannot be read ({error.strerror})", path=path) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RecordError(
            f"no results of prm reproduce: {first['msg']}", path=path, field=where
        ) from None


def verdict(difference: Estimate, seeds: tuple[float | None, ...]) -> Verdict:
    """Whether a claim that a difference is above 0 holds.

    It holds where the interval and every seed lie above 0, it fails where all of them lie below,
    and else nothing is shown: an interval over problems does not know what another seed of training
    would change.
    """
    if difference.interval is None:
        return "not shown"
    low, high = difference.interval
    known = [value for value in seeds if value is not None]
    if len(known) < len(seeds):
        return "not shown"
    if min([low, *known]) > 0:
        return "holds"
    return "fails" if max([high, *known]) < 0 else "not shown"
