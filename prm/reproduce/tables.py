"""The tables of `prm reproduce`, which its page and its Markdown share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prm.reproduce.figure import Claim, Figure, Results, Row
from universalbench.report.grid import NONE, Cell, Grid, duration, words
from universalbench.results import Estimate

VERDICTS = {"holds": "✓ holds", "not shown": "○ not shown", "fails": "✗ fails"}
"""A sign and words: neither rests on a colour."""

PAPER = "paper (other model, other data)"


def claims(results: Results) -> Grid:
    """Every claim of every figure."""
    return Grid(
        caption="Every claim, and whether it holds here",
        columns=["claim", "verdict", "difference", _per_seed(results), "paper", "figure"],
        rows=[
            [
                words(claim.text, claim.metric),
                Cell(VERDICTS[claim.verdict], kind=claim.verdict.replace(" ", "-")),
                difference(claim.difference),
                Cell(signed_list(claim.seeds), kind="seeds"),
                words(claim.paper or NONE),
                words(figure.name),
            ]
            for figure in results.figures
            for claim in figure.claims
        ],
        notes=(
            "A difference is the better side of the claim less the other, on the same problems. A "
            "claim holds where the interval lies above 0 and every seed agrees, it fails where "
            "both lie below, and else nothing is shown either way. Intervals stand each for "
            "itself: among this many claims some miss by chance.",
        ),
    )


def numbers(figure: Figure, results: Results) -> Grid:
    """Every number of a figure; columns that would be empty are left out."""
    rows = figure.rows
    optional = {
        "group": any(row.group for row in rows),
        "at": any(row.x is not None for row in rows),
        "tokens": any(row.cost is not None for row in rows),
        PAPER: any(row.paper is not None for row in rows),
    }
    shown = [name for name, there in optional.items() if there]
    guarded = any(row.headline for row in rows)
    return Grid(
        caption=f"Numbers: {figure.title}",
        columns=["what", "metric", "value", _per_seed(results), *shown],
        rows=[
            [
                words(f"{row.name} ★" if row.headline else row.name),
                words(row.metric),
                estimated(row.value),
                Cell(" · ".join(map(number, row.seeds)), kind="seeds"),
                *(cell for name, cell in _rest(row).items() if name in shown),
            ]
            for row in rows
        ],
        notes=("★ must not fall below its recorded interval.",) if guarded else (),
    )


def made(results: Results) -> Grid:
    """What the numbers rest on."""
    size = ", ".join(f"{name} {count:,}" for name, count in results.size.items())
    rows = [
        ("world", results.world),
        ("seeds", ", ".join(map(str, results.seeds))),
        ("size of each seed", size),
        ("time of all cells, one after the other", duration(results.seconds)),
        *results.versions.items(),
    ]
    return Grid(
        "How it was made", ["what", "value"], [[words(key), words(value)] for key, value in rows]
    )


def counts(figure: Figure, seeds: Sequence[int]) -> str:
    """What a figure's numbers are of."""
    return (
        f"{plural(len(seeds), 'seed')} ({', '.join(map(str, seeds))}), "
        f"{plural(figure.solutions, 'solution')} of {plural(figure.problems, 'problem')}, all "
        "seeds together. Brackets are 95 % percentile bootstrap intervals over problems."
    )


def tally(results: Results) -> str:
    """How many claims hold, in a sentence."""
    verdicts = [claim.verdict for figure in results.figures for claim in figure.claims]
    held = {name: verdicts.count(name) for name in ("fails", "not shown", "holds")}
    return (
        f"Of {plural(len(verdicts), 'claim')} {held['holds']} hold here, {held['not shown']} are "
        f"not shown either way, and {held['fails']} fail."
    )


def number(value: float | None) -> str:
    """A share with three digits; what is no share with fewer."""
    if value is None:
        return NONE
    if abs(value) >= 100:
        return f"{value:,.0f}".replace("-", "−")
    return (f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}").replace("-", "−")


def signed(value: float | None) -> str:
    """A difference, with its sign; one that rounds to 0 has none."""
    text = number(value)
    if value is None or not text.strip("−0."):
        return text.lstrip("−")
    return text if value < 0 else f"+{text}"


def signed_list(values: Sequence[float | None]) -> str:
    """Differences of seeds."""
    return " · ".join(map(signed, values))


def estimated(value: Estimate) -> Cell:
    """A value with its interval."""
    return Cell(number(value.value), _interval(value, number))


def difference(value: Estimate) -> Cell:
    """A difference with its interval."""
    return Cell(signed(value.value), _interval(value, signed))


def said(claim: Claim) -> str:
    """A claim's difference in one phrase."""
    cell = difference(claim.difference)
    return f"{cell.text} {cell.small}".strip()


def _interval(value: Estimate, show: Callable[[float], str]) -> str:
    if value.interval is None:
        return value.why or ""
    return f"[{show(value.interval[0])}, {show(value.interval[1])}]"


def _rest(row: Row) -> dict[str, Cell]:
    return {
        "group": words(row.group or NONE),
        "at": Cell(NONE if row.x is None else f"{row.x:g}"),
        "tokens": Cell(NONE if row.cost is None else f"{row.cost:,.0f}"),
        PAPER: Cell(number(row.paper)),
    }


def _per_seed(results: Results) -> str:
    return "seed " + " · ".join(map(str, results.seeds))


def plural(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
