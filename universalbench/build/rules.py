"""What makes a labelled solution part of a benchmark: hard labels, a length, a subset, a cell.

Pure functions of one solution; `draw` chooses among all that pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from prm.records import LabelledSolution, Solution
from universalbench.tasks.universal import LENGTHS

Counter = Callable[[str], int]
"""How many tokens a text has."""


@dataclass
class LabelRule:
    """When a soft label is sure enough to be called truth.

    A solution stays if each of its labels is at least `high` (then 1) or at most `low` (then 0);
    one label in between sets the whole solution aside.

    Attributes:
        low, high: 0 ≤ low < high ≤ 1.
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}; 0 <= low < high <= 1")


@dataclass
class LengthRule:
    """Which solutions are long.

    Attributes:
        by: `tokens` of `tokenizer`, `characters` (of all steps together), `steps`, or `generator`:
            those by the policies of `long_generators` are long, whatever they wrote.
        long_from: from this many on a solution is long; null for `generator`.
        tokenizer: for `tokens`: a folder or a name on the Hub.
        long_generators: for `generator`: the policies.
    """

    by: Literal["tokens", "characters", "steps", "generator"] = "characters"
    long_from: int | None = 4000
    tokenizer: str | None = None
    long_generators: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if (self.by == "tokens") != (self.tokenizer is not None):
            raise ValueError(_belongs("tokenizer", self.tokenizer, "tokens", self.by))
        if (self.by == "generator") != bool(self.long_generators):
            raise ValueError(
                _belongs("long_generators", self.long_generators, "generator", self.by)
            )
        if (self.by == "generator") != (self.long_from is None):
            raise ValueError(
                "with `by: generator`, long_from must be null"
                if self.by == "generator"
                else f"with `by: {self.by}`, long_from must be a number"
            )
        if self.long_from is not None and self.long_from < 1:
            raise ValueError(f"long_from is {self.long_from}; it starts at 1")


def _belongs(key: str, value: object, home: str, by: str) -> str:
    """What to say of a key that one `by` needs and no other takes."""
    if value:
        return f"{key} is set, but `by` is {by}; set `by: {home}`, or leave {key} out"
    return f"`by: {home}` needs {key}; set it, or choose another `by`"


@dataclass(frozen=True, order=True)
class Cell:
    """What a benchmark is balanced over."""

    subset: str
    length: str
    generator: str
    has_error: bool


def hardened(labels: Sequence[float], rule: LabelRule) -> tuple[float, ...] | None:
    """Labels 0 and 1; None where one is not sure enough."""
    if any(rule.low < label < rule.high for label in labels):
        return None
    return tuple(1.0 if label >= rule.high else 0.0 for label in labels)


def length_of(solution: Solution, rule: LengthRule, count_tokens: Counter) -> str:
    """`long` or `short`."""
    if rule.long_from is None:
        long = solution.generator in rule.long_generators
    elif rule.by == "steps":
        long = len(solution.steps) >= rule.long_from
    else:
        size = count_tokens if rule.by == "tokens" else len
        long = sum(size(step) for step in solution.steps) >= rule.long_from
    return LENGTHS[0] if long else LENGTHS[1]


def subset_of(solution: Solution, by: str) -> str | None:
    """The subset by `source`, `generator` or `metadata.KEY`; None where that names nothing."""
    name: object
    if by in ("source", "generator"):
        name = getattr(solution, by)
    else:
        name = solution.metadata.get(by.removeprefix("metadata."))
    return name if isinstance(name, str) and name.strip() else None


def item_of(
    item: LabelledSolution,
    labels: LabelRule,
    length: LengthRule,
    subset: str,
    count_tokens: Counter,
) -> LabelledSolution | str:
    """The benchmark's item made of a labelled solution, or the reason why it makes none.

    Soft labels that hardening changed stay in `metadata.soft_labels`; `metadata.subset` and
    `metadata.length` are the benchmark's.
    """
    solution = item.solution
    if solution.reference is None:
        return "no reference"
    if not solution.generator:
        return "no generator"
    hard = hardened(item.labels, labels)
    if hard is None:
        return "a label between low and high"
    name = subset_of(solution, subset)
    if name is None:
        return "no subset"
    own = {"subset": name, "length": length_of(solution, length, count_tokens)}
    soft = {"soft_labels": list(item.labels)} if hard != item.labels else {}
    described = replace(solution, metadata=solution.metadata | own | soft)
    # How far training trusts a solution is no part of a benchmark.
    return replace(item, solution=described, labels=hard, weight=1.0)


def cell_of(item: LabelledSolution) -> Cell:
    """The cell of a benchmark's item."""
    solution = item.solution
    return Cell(
        subset=solution.metadata["subset"],
        length=solution.metadata["length"],
        generator=solution.generator,
        has_error=0.0 in item.labels,
    )
