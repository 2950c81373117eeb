"""`prm report reproduce A B`: whether two runs of other seeds come to the same numbers.

A function of two `results.json`, made anew each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prm import html, jsonl
from prm.errors import ConfigError
from prm.reproduce import tables
from prm.reproduce.figure import Claim, Results, Row, read
from universalbench.report.grid import Grid, escape, markdown, words

EXPECTED = 83
"""Per cent: how often one of two independent, normal values of one truth lies in the 95 % interval
of the other: P(|Z| < 1.96 / √2) = .834."""


@dataclass
class Config:
    """`prm report reproduce`.

    Attributes:
        runs: two folders that `prm reproduce` left, of one world and size and of other seeds; on
            the command line they may stand without a key: `prm report reproduce A B`.
        out: a folder; gets `agreement.md`.
    """

    runs: list[str] = field(default_factory=list)
    out: str = "runs/reproduce-agreement"


def run(config: Config) -> None:
    """Write the comparison; an earlier one in the same folder is replaced."""
    if len(config.runs) != 2:
        raise ConfigError(
            f"report reproduce needs two folders of prm reproduce, got {len(config.runs)}; such as "
            "prm report reproduce runs/reproduce runs/second"
        )
    one, other = (read(Path(folder) / "results.json") for folder in config.runs)
    if (one.world, one.size) != (other.world, other.size):
        raise ConfigError("runs: the two are of other worlds or sizes; compare runs of one")
    if shared := set(one.seeds) & set(other.seeds):
        raise ConfigError(
            f"runs: both have seed {min(shared)}, so they agree by construction; run one with "
            "other seeds"
        )
    found = compare(one, other)
    path = html.make_folder(config.out) / "agreement.md"
    jsonl.write_text(path, render(found, config.runs, (one.seeds, other.seeds)))
    print("\n".join(found.told))
    print(f"report reproduce → {path}", flush=True)


@dataclass(frozen=True)
class Pair:
    """A row of both runs.

    Attributes:
        figure: its figure's name.
        one, other: the row of each.
        inside: whether the value of one lies in the interval of the other, and the other way
            round; None where a value or an interval is missing.
    """

    figure: str
    one: Row
    other: Row
    inside: tuple[bool, bool] | None


@dataclass(frozen=True)
class Agreement:
    """How far two runs agree.

    Attributes:
        pairs: the rows of both.
        claims: the claims of both, with their figure's name.
        alone: labels of rows that one of them has.
    """

    pairs: Sequence[Pair]
    claims: Sequence[tuple[str, Claim, Claim]]
    alone: Sequence[str]

    @property
    def told(self) -> list[str]:
        """The counts, a sentence each."""
        lines = []
        for name, pairs in (
            ("rows", self.pairs),
            ("headline rows", [pair for pair in self.pairs if pair.one.headline]),
        ):
            known = [pair.inside for pair in pairs if pair.inside is not None]
            inside = sum(sum(both) for both in known)
            lines.append(
                f"{sum(map(all, known))} of {len(known)} {name} lie within each other's interval; "
                f"one by one {_share(inside, 2 * len(known))} of the values lie in the other's"
            )
        same = sum(one.verdict == other.verdict for _, one, other in self.claims)
        turned = sum({one.verdict, other.verdict} == {"holds", "fails"}
                     for _, one, other in self.claims)  # fmt: skip
        lines.append(
            f"{same} of {len(self.claims)} claims got the same verdict; {turned} hold in one run "
            "and fail in the other"
        )
        if self.alone:
            lines.append(f"{len(self.alone)} rows stand in one run alone, as {self.alone[0]}")
        return lines


def compare(one: Results, other: Results) -> Agreement:
    """Compare all rows and claims that two runs share."""
    ours, theirs = one.rows(), other.rows()
    pairs = [
        Pair(figure, row, theirs[figure, label], _inside(row, theirs[figure, label]))
        for (figure, label), row in ours.items()
        if (figure, label) in theirs
    ]
    known = {(figure.name, claim.text, claim.metric): claim
             for figure in other.figures for claim in figure.claims}  # fmt: skip
    claims = [
        (figure.name, claim, known[figure.name, claim.text, claim.metric])
        for figure in one.figures
        for claim in figure.claims
        if (figure.name, claim.text, claim.metric) in known
    ]
    alone = [f"{figure}, {label}" for figure, label in ours.keys() ^ theirs.keys()]
    return Agreement(pairs, claims, sorted(alone))


def render(found: Agreement, folders: Sequence[str], seeds: Sequence[Sequence[int]]) -> str:
    """The file's text."""
    names = [
        f"{folder} (seeds {', '.join(map(str, own))})"
        for folder, own in zip(folders, seeds, strict=True)
    ]
    lines = ["# Two seed sets of prm reproduce", ""]
    lines += [f"- {name}: {escape(text)}" for name, text in zip("AB", names, strict=True)]
    lines += ["", *(f"{escape(line)}." for line in found.told), ""]
    lines += [
        f"Where nothing but chance parts two runs, about {EXPECTED} in 100 values lie in the "
        "other's 95 % interval, not 95: both are drawn. Intervals are over problems; what training "
        "anew adds is not in them, and lowers that share.",
        "",
    ]
    rows = [
        [
            words(pair.figure),
            words(pair.one.label),
            tables.estimated(pair.one.value),
            tables.estimated(pair.other.value),
            words(_said(pair.inside)),
        ]
        for pair in found.pairs
    ]
    claims = [
        [
            words(figure),
            words(one.text, one.metric),
            words(one.verdict),
            words(other.verdict),
            tables.difference(one.difference),
            tables.difference(other.difference),
        ]
        for figure, one, other in found.claims
    ]
    lines += [
        markdown(
            Grid("Claims", ["figure", "claim", "in A", "in B", "difference in A", "in B"], claims)
        ),
        markdown(Grid("Numbers", ["figure", "row", "A", "B", "in the other's interval"], rows)),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _inside(one: Row, other: Row) -> tuple[bool, bool] | None:
    values = (one.value.value, other.value.value)
    intervals = (other.value.interval, one.value.interval)
    if None in values or None in intervals:
        return None
    first, second = (
        low_high[0] <= value <= low_high[1]  # type: ignore[index, operator]
        for value, low_high in zip(values, intervals, strict=True)
    )
    return first, second


def _said(inside: tuple[bool, bool] | None) -> str:
    if inside is None:
        return "no interval"
    return {(True, True): "both", (False, False): "neither"}.get(
        inside, "A in B's" if inside[0] else "B in A's"
    )


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.0f} %)" if whole else "0 of 0"
