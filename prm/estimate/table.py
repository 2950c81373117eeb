"""A recipe's stages in one table, with what the figures rest on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotate.forecast import CHARACTERS
from prm.errors import ConfigError
from prm.estimate.hardware import Guess, Hardware
from prm.estimate.stages import WORK, Desk
from prm.estimate.volume import Shelf
from prm.estimate.work import Machine, Pace, Work

HEAD = (
    "stage",
    "requests",
    "tokens in",
    "cached",
    "out",
    "forward",
    "steps",
    "GPUs",
    "hours",
    "node-hours",
    "cost",
)


@dataclass(frozen=True)
class Line:
    """A stage in the table.

    Attributes:
        name: of its run folder, with the stage's where that differs.
        work: what it has to do; None where that cannot be told.
        finished: it has run, and will be skipped.
    """

    name: str
    work: Work | None
    finished: bool = False


@dataclass(frozen=True)
class Estimate:
    """All stages, and what they rest on."""

    lines: Sequence[Line]
    hardware: Hardware
    guess: Guess
    paces: Sequence[Pace]
    notes: Sequence[str]

    @property
    def total(self) -> Work:
        """Of all stages that are yet to run."""
        return sum(
            (line.work for line in self.lines if line.work is not None and not line.finished),
            Work(),
        )

    def node_hours(self, work: Work) -> float:
        """Of nodes whose GPUs are all busy."""
        return work.gpu_hours / self.hardware.gpus_per_node

    def __str__(self) -> str:
        rows = [HEAD, *map(self._row, self.lines), ("all", *self._figures(self.total))]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
        table = [
            "  ".join(
                cell.rjust(width) if column else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([*table, "", *self._grounds()])

    def _row(self, line: Line) -> tuple[str, ...]:
        if line.finished or line.work is None:
            said = "has run" if line.finished else "not estimated"
            return (line.name, said, *("" for _ in HEAD[2:]))
        return (line.name, *self._figures(line.work))

    def _figures(self, work: Work) -> tuple[str, ...]:
        counts = (work.requests, work.prompt, work.cached, work.written, work.forward, work.steps)
        return (
            *map(short, counts),
            str(work.gpus or "-"),
            *map(_amount, (work.hours, self.node_hours(work), work.cost(self.hardware))),
        )

    def _grounds(self) -> Iterator[str]:
        yield "This is an estimate: rooflines and guesses; nothing was measured."
        yield f"hardware  {self.hardware}"
        yield f"guess     tokens of {self.guess}; {CHARACTERS} characters a token"
        yield "          a judge reasons as long as a solution; nothing is asked again or set aside"
        for pace in self.paces:
            yield f"model     {self._pace(pace)}"
        yield "hours     one engine after the other; node-hours and cost count busy GPUs alone"
        for note in self.notes:
            yield f"note      {note}"

    def _pace(self, pace: Pace) -> str:
        model = pace.model
        count = short(model.parameters).replace("G", "B")
        said = f"{model.name}: {count} parameters {model.source}"
        if pace.written:
            said += (
                f", {pace.gpus} a replica, writes {pace.written / pace.seconds:,.0f} tokens/s a GPU"
            )
        return said


def estimate(
    stages: Sequence[tuple[str, str, Any]],
    hardware: Hardware,
    guess: Guess,
    where: str,
    *,
    only: Sequence[str] = (),
) -> Estimate:
    """What a recipe's stages would ask, compute and cost.

    Args:
        stages: `(name of the run folder, stage, configuration)` in order.
        hardware: what they are taken to run on.
        guess: lengths that no file tells.
        where: the recipe's file, for errors.
        only: the names of those that are shown and summed up; all where it is empty.

    Raises:
        ConfigError: nothing says how much a stage has to do, or how large a model is.
    """
    desk = Desk(Shelf(guess), Machine(hardware), guess)
    lines = []
    for index, (name, stage, config) in enumerate(stages):
        try:
            work = WORK[stage](config, desk) if stage in WORK else None
        except ConfigError as error:
            raise ConfigError(f"{where}: stages[{index}] ({stage}): {error}") from None
        if not only or name in only:
            label = name if name == stage else f"{name} ({stage})"
            lines.append(Line(label, work, _finished(config)))
    for name in sorted(set(guess.answers) - set(desk.policies)):
        desk.machine.note(f"guess.answers: {name} is no policy of this recipe")
    machine = desk.machine
    return Estimate(lines, hardware, guess, list(machine.paces.values()), machine.notes)


def short(number: float) -> str:
    """Three digits and a thousand's letter; `-` for nothing."""
    if not number:
        return "-"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return (
                f"{number / size:.3g}{letter}"
                if number < 999.5 * size
                else f"{number / size:,.0f}{letter}"
            )
    return f"{number:,.0f}"


def _amount(number: float) -> str:
    if 0 < number < 0.005:
        return "<0.01"
    return f"{number:,.2f}" if number else "-"


def _finished(config: Any) -> bool:
    """Whether a stage has run to its end; `prm run` compares how, this does not."""
    path = Path(getattr(config, "out", ""), "run.json")
    if not path.is_file():
        return False
    try:
        return "outputs" in json.loads(path.read_bytes())
    except ValueError:
        return False
