"""Results of `prm reproduce` made by hand, with everything in them that a figure may have."""

from __future__ import annotations

from prm.reproduce.figure import Claim, Figure, Results, Row, verdict
from universalbench.results import Estimate

F1, AUROC = "F1 (mean of right and wrong steps)", "AUROC of wrong steps"
EVIL = "<script>alert(1)</script> & \"' $x_1$ | *y*"
TURNED, SHOWN = "evil\u202egnorw", "evil‹U+202E›gnorw"


def estimate(value: float, half: float = 0.02) -> Estimate:
    return Estimate(value=value, interval=(value - half, value + half))


def row(name: str, value: float, metric: str = F1, half: float = 0.02, **more: object) -> Row:
    """Its seeds lie a hundredth beside it."""
    seeds = (value - 0.01, value, value + 0.01)
    return Row(name=name, metric=metric, value=estimate(value, half), seeds=seeds, **more)  # type: ignore[arg-type]


def claim(text: str, value: float, metric: str = F1, paper: str = "") -> Claim:
    seeds = (value - 0.001, value, value + 0.001)
    difference = estimate(value, 0.01)
    return Claim(
        text=text, paper=paper, metric=metric, difference=difference, seeds=seeds,
        verdict=verdict(difference, seeds),
    )  # fmt: skip


def results(*figures: Figure, seeds: tuple[int, ...] = (11, 12, 13)) -> Results:
    return Results(
        world="world.yaml",
        size={"pool": 168, "train": 400},
        seeds=seeds,
        figures=figures,
        versions={"torch": "2.13.0"},
        seconds=3100.0,
    )


def figure(
    name: str, rows: list[Row], claims: list[Claim] | None = None, notes: tuple[str, ...] = ()
) -> Figure:
    return Figure(
        name=name, title=f"The {name}", rows=tuple(rows), claims=tuple(claims or ()),
        solutions=2016, problems=504, command=f"prm reproduce configs/reproduce/{name}.yaml",
        notes=notes,
    )  # fmt: skip


def judge() -> Figure:
    """Rows with the paper's numbers and tokens, a curve whose points have names of their own, a
    row without a value, texts that must stay texts."""
    return figure(
        "judge",
        [
            row("p0 alone", 0.8, group="strategies", paper=0.769, cost=4e5),
            row("p1 alone", 0.81, group="strategies", paper=0.768, cost=8e4),
            row("soft labels, best cut", 0.86, group="strategies", paper=0.8, headline=True),
            row("at least 1", 0.82, group="cut", x=0.875),
            row("at least 2", 0.84, group="cut", x=0.625),
            row("at least 3", 0.83, group="cut", x=0.375),
            row("soft labels", 0.93, AUROC),
            Row(name="none", metric=AUROC, value=Estimate(value=None, why="no wrong step"),
                seeds=(None, None, None)),
        ],
        [
            claim(f"soft labels beat the majority {EVIL}", 0.02, paper=".800 against .765"),
            claim("reasoning beats lists", -0.03),
            claim("reasoning beats lists", 0.001, AUROC),
        ],
        (f"One layout. {TURNED}",),
    )  # fmt: skip


def best_of_n() -> Figure:
    """Lines whose points share a name, too many rows for an open table."""
    return figure(
        "best_of_n",
        [
            row(name, 0.3 + gain * power, "right answers", group="candidates", x=float(2**power),
                headline=name == "PRM" and power == 3)
            for name, gain in (("majority", 0.03), ("PRM", 0.06), ("oracle", 0.09))
            for power in range(7)
        ],
        [claim("the PRM's best of 8 beats pass@1", 0.2, "right answers")],
    )  # fmt: skip


def search() -> Figure:
    """Lines over tokens; a count that is no share."""
    return figure(
        "search",
        [
            *(
                row(name, 0.4 + gain + 0.05 * power, "right answers", group="problems",
                    x=float(4 * 2**power), cost=1100.0 * 2**power)
                for name, gain in (("best of N", 0.0), ("beam", 0.1))
                for power in range(3)
            ),
            row("tokens a problem", 12345.6, "tokens", 300.0),
        ],
        [],
    )  # fmt: skip
