"""The card of a benchmark: what the Hub reads, and what a reader must know to trust it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from prm.export.card import share, size_category, table
from universalbench.build.rules import Cell, LabelRule, LengthRule

BENCHMARK = "benchmark.jsonl"
"""The file of the benchmark, beside the card."""


@dataclass
class CellCount:
    """What of a cell there was, and what was drawn."""

    available: int = 0
    solutions: int = 0
    steps: int = 0
    wrong_steps: int = 0


@dataclass(frozen=True)
class Recipe:
    """How a benchmark was made; see the keys of `prm build-bench`.

    Attributes:
        source: what it was built from, in words.
        training: the training sources that it was checked against.
    """

    name: str
    licence: str
    source: str
    labels: LabelRule
    length: LengthRule
    subset: str
    size: int | None
    per_problem: int | None
    seed: int
    training: Sequence[str]


def card(
    recipe: Recipe, cells: Mapping[Cell, CellCount], rejected: Mapping[str, int], problems: int
) -> str:
    """The text of `README.md`.

    Args:
        recipe: how the benchmark was made.
        cells: every cell that had a solution.
        rejected: reason → solutions that are not in it.
        problems: how many different ones there are in it.
    """
    solutions = sum(count.solutions for count in cells.values())
    front = {
        "pretty_name": recipe.name,
        "license": recipe.licence,
        "size_categories": [size_category(solutions)],
        "tags": ["process-reward-model", "reasoning", "benchmark"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "test", "path": BENCHMARK}]}
        ],
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {recipe.name}",
        "Solutions of problems in steps, every step labelled right (1) or wrong (0), those after "
        "the first error too. It has the format of UniversalBench (arXiv 2502.11520), whose data "
        "are not published, and none of its content: results on the two do not compare.",
        table(["", ""], _figures(cells, problems)),
        "## By subset and length",
        table(*_subsets(cells)),
        "## Cells",
        "A cell is what the benchmark is balanced over. `available` passed all rules; of these "
        "`drawn` are in the benchmark.",
        table(*_cells(cells)),
        "## How it was made",
        "\n".join(f"- {line}" for line in _rules(recipe)),
        "## What is not in it",
        _rejected(rejected),
        "## Columns",
        "One `LabelledSolution` a line: `solution` (`id`, `problem`, `steps`, `answer`, "
        "`reference`, `generator`, `source`, `final_answer_correct`, `metadata` with `subset` and "
        "`length`, and `soft_labels` where hardening changed them), `labels` (one a step), "
        "`agreement` of the voters, `weight` (1), `evidence` and `corrections` of the checks.",
    ]
    return "\n\n".join(parts) + "\n"


def _figures(cells: Mapping[Cell, CellCount], problems: int) -> list[list[str]]:
    solutions = sum(count.solutions for count in cells.values())
    steps = sum(count.steps for count in cells.values())
    wrong = sum(count.wrong_steps for count in cells.values())
    flawed = sum(count.solutions for cell, count in cells.items() if cell.has_error)
    return [
        ["solutions", f"{solutions:,}"],
        ["problems", f"{problems:,}"],
        ["steps", f"{steps:,}"],
        ["wrong steps", f"{wrong:,} ({share(wrong, steps)})"],
        ["solutions with a wrong step", f"{flawed:,} ({share(flawed, solutions)})"],
    ]


def _subsets(cells: Mapping[Cell, CellCount]) -> tuple[list[str], list[list[str]]]:
    sums: dict[str, list[int]] = {}
    for cell, count in sorted(cells.items()):
        own = sums.setdefault(f"{cell.subset} {cell.length}", [0, 0, 0])
        for place, value in enumerate((count.solutions, count.steps, count.wrong_steps)):
            own[place] += value
    lines = [[name, *(f"{value:,}" for value in values)] for name, values in sums.items()]
    return ["subset", "solutions", "steps", "wrong steps"], lines


def _cells(cells: Mapping[Cell, CellCount]) -> tuple[list[str], list[list[str]]]:
    lines = [
        [
            cell.subset,
            cell.length,
            cell.generator,
            "wrong step" if cell.has_error else "all right",
            f"{count.available:,}",
            f"{count.solutions:,}",
        ]
        for cell, count in sorted(cells.items())
    ]
    return ["subset", "length", "policy", "steps", "available", "drawn"], lines


def _rules(recipe: Recipe) -> list[str]:
    labels, length = recipe.labels, recipe.length
    if length.long_from is None:
        long = f"by {', '.join(length.long_generators)}"
    else:
        of = f" of `{length.tokenizer}`" if length.tokenizer else ""
        long = f"of {length.long_from:,} {length.by}{of} or more"
    size = "all there are" if recipe.size is None else f"{recipe.size:,} solutions"
    most = "" if recipe.per_problem is None else f", at most {recipe.per_problem} of one problem"
    checked = ", ".join(f"`{place}`" for place in recipe.training)
    return [
        f"Source: `{recipe.source}`.",
        f"Labels: a label of {labels.high:g} or more is 1, of {labels.low:g} or less is 0; a "
        "solution with any label in between is not in it. They are as good as those who labelled "
        "the source.",
        f"Long: solutions {long}. Subset: `{recipe.subset}`.",
        f"Draw: {size}{most}; cells take turns, so none has more than another but where the other "
        f"had no more. Seed {recipe.seed}.",
        "Duplicates: of solutions by one policy with the same problem text and steps the first "
        "that is fit stays.",
        f"Leak check: no problem has the letters and digits of one of {checked}. Not caught are "
        "problems that are reworded, translated or renumbered."
        if checked
        else "Leak check: none; no training source was named.",
    ]


def _rejected(rejected: Mapping[str, int]) -> str:
    if not rejected:
        return "Every solution of the source is in it."
    lines = [[reason, f"{count:,}"] for reason, count in sorted(rejected.items())]
    return table(["reason", "solutions"], lines) + "\n\n`rejected.jsonl` names each."
