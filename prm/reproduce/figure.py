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
    def headline(self) -> str:
        """What came out, the claims that do not hold first."""
        words = {
            "fails": "does not hold here",
            "not shown": "not shown here",
            "holds": "holds here",
        }
        order = list(words)
        claims = sorted(self.claims, key=lambda claim: order.index(claim.verdict))
        return "; ".join(f"{claim.text}: {words[claim.verdict]}" for claim in claims)


@dataclass(frozen=True, kw_only=True)
class Results:
    """All figures of a run.

    Attributes:
        seeds: of the run, in the order of every row's.
        figures: in the report's order.
        versions: of the packages that bear on results.
        seconds: that all cells took together, one after the other.
    """

    __pydantic_config__ = STRICT

    seeds: tuple[int, ...]
    figures: tuple[Figure, ...]
    versions: dict[str, str]
    seconds: float

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

    It holds where the interval lies above 0 and every seed agrees, it fails where the interval
    lies below 0, and else nothing is shown.
    """
    if difference.interval is None:
        return "not shown"
    low, high = difference.interval
    if high < 0:
        return "fails"
    if low > 0 and all(value is not None and value > 0 for value in seeds):
        return "holds"
    return "not shown"
