"""The report of `prm reproduce`: one self-contained HTML page, and the same tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prm import html, jsonl
from prm.reproduce import plots, tables
from prm.reproduce.figure import Figure, Results, Row
from prm.reproduce.plots import Dot, Series
from universalbench.report.curves import Figure as Plot
from universalbench.report.grid import Grid, escape, markdown
from universalbench.results import Estimate

READ = "In drawings a full dot is the value over all seeds, the bar its interval"


@dataclass(frozen=True)
class View:
    """What the page shows of a figure.

    Attributes:
        figure: itself.
        outcomes: of its claims: kind, sign and words, and the claim.
        counts: what its numbers are of.
        read: how to read its drawings.
        plots: differences first, then numbers.
        numbers: the table of numbers.
    """

    figure: Figure
    outcomes: list[tuple[str, str, str]]
    counts: str
    read: str
    plots: list[Plot]
    numbers: Grid


def write(folder: Path, results: Results) -> None:
    """Write `report.html` and `report.md`; earlier ones are replaced."""
    jsonl.write_text(folder / "report.html", render(results))
    jsonl.write_text(folder / "report.md", text(results))


def render(results: Results) -> str:
    """The page. All text is escaped, and its unseen characters are shown."""
    return html.render(
        "prm.reproduce",
        tally=tables.tally(results),
        claims=tables.claims(results),
        views=[_view(figure, results) for figure in results.figures],
        made=tables.made(results),
    )


def text(results: Results) -> str:
    """The Markdown file."""
    lines = ["# The claims of the method, measured again", "", escape(tables.tally(results)), ""]
    lines.append(markdown(tables.claims(results)))
    for figure in results.figures:
        lines += [
            f"## {escape(figure.title)}", "",
            f"{escape(figure.headline)}.", "",
            escape(tables.counts(figure, results.seeds)), "",
            *(f"{escape(note)}\n" for note in figure.notes),
            f"`{figure.command}`", "",
            markdown(tables.numbers(figure, results)),
        ]  # fmt: skip
    lines.append(markdown(tables.made(results)))
    return "\n".join(lines).rstrip("\n") + "\n"


def _view(figure: Figure, results: Results) -> View:
    paper = any(row.paper is not None for row in figure.rows)
    return View(
        figure=figure,
        outcomes=[
            (verdict.replace(" ", "-"), tables.VERDICTS[verdict], claim)
            for verdict, claim in figure.outcomes
        ],
        counts=tables.counts(figure, results.seeds),
        read=READ
        + (", hollow dots the seeds by themselves" if len(results.seeds) > 1 else "")
        + (f", a hollow diamond the {tables.PAPER}." if paper else "."),
        plots=[*_differences(figure), *_numbers(figure)],
        numbers=tables.numbers(figure, results),
    )


def _differences(figure: Figure) -> Iterator[Plot]:
    """The claims, a drawing for each metric: right of 0 speaks for them."""
    for metric in dict.fromkeys(claim.metric for claim in figure.claims):
        own = [claim for claim in figure.claims if claim.metric == metric]
        dots = [
            (f"{tables.VERDICTS[claim.verdict][0]} {claim.text}", dot)
            for claim in own
            if (dot := _dot(claim.difference, claim.seeds)) is not None
        ]
        if dots:
            words = (f"{claim.text}: {tables.said(claim)}, {claim.verdict}" for claim in own)
            yield Plot(
                title=f"Differences in {metric}; right of 0 speaks for the claim",
                svg=plots.rows(dots, f"{figure.name} differences {metric}", zero=True),
                words=f"Differences in {metric}. {'; '.join(words)}",
                legend=[],
            )


def _numbers(figure: Figure) -> Iterator[Plot]:
    """Rows of one group and metric: as curves where they stand on one, over the tokens that they
    took, and else below each other."""
    for group, metric in dict.fromkeys((row.group, row.metric) for row in figure.rows):
        own = [row for row in figure.rows if (row.group, row.metric) == (group, metric)]
        title, key = f"{metric}, {group}" if group else metric, f"{figure.name} {group} {metric}"
        curved = [row for row in own if row.x is not None]
        if len({row.x for row in curved}) > 1:
            yield _curves(curved, title, (group, metric), key, [row.x or 0.0 for row in curved])
        else:
            curved = []
        plain = [row for row in own if row not in curved]
        dots = [(row.name, dot) for row in plain if (dot := _dot(row.value, row.seeds, row))]
        if dots:
            svg = plots.rows(dots, f"{key} rows")
            yield Plot(title, svg, _words(title, plain), legend=[])
        priced = [row for row in own if row.cost is not None]
        if len({row.cost for row in priced}) > 1:
            costs = [row.cost or 0.0 for row in priced]
            yield _curves(priced, f"{title}, over tokens", ("tokens", metric), key, costs)


def _curves(
    rows: Sequence[Row], title: str, labels: tuple[str, str], key: str, places: Sequence[float]
) -> Plot:
    """Rows of one name are one line. Where no name stands twice, all rows of a curve are."""
    over_tokens = labels[0] == "tokens"
    names = [row.name for row in rows]
    joined = not over_tokens and len(set(names)) == len(names)
    lines: dict[str, list[Dot]] = {}
    for row, place in zip(rows, places, strict=True):
        dot = _dot(row.value, row.seeds, row, place)
        if dot is not None:
            lines.setdefault("" if joined else row.name, []).append(dot)
    series = [
        Series(number, sorted(dots, key=lambda dot: dot.x))
        for number, dots in enumerate(lines.values())
    ]
    legend = [
        (plots.swatch(one.number, len(one.dots) > 1), name)
        for one, name in zip(series, lines, strict=True)
        if name
    ]
    svg = plots.curves(series, labels, f"{key} over {labels[0]}", ticks=not over_tokens)
    return Plot(title, svg, _words(title, rows, places), legend)


def _words(title: str, rows: Sequence[Row], places: Sequence[float] = ()) -> str:
    """A drawing for those who do not see it."""
    where = [f" at {place:g}" for place in places] or [""] * len(rows)
    parts = []
    for row, at in zip(rows, where, strict=True):
        cell = tables.estimated(row.value)
        paper = "" if row.paper is None else f", the paper's {tables.number(row.paper)}"
        parts.append(f"{row.name}{at}: {cell.text} {cell.small}".rstrip() + paper)
    return f"{title}. {'; '.join(parts)}"


def _dot(
    value: Estimate, seeds: Sequence[float | None], row: Row | None = None, x: float = 0.0
) -> Dot | None:
    """What is drawn of a number; nothing where it is not defined."""
    if value.value is None:
        return None
    own = [seed for seed in seeds if seed is not None]
    return Dot(value.value, value.interval, own, None if row is None else row.paper, x)
