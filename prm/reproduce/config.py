"""What `prm reproduce` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from annotate.sample import PolicyConfig
from prm.config import MAY_CHANGE
from prm.engines import EngineConfig
from prm.render import RenderSettings


@dataclass
class World:
    """Where problems and true labels come from, and who writes, judges and learns.

    Modules are found from the working folder, too.

    Attributes:
        problems: the module of a stage that writes `train.jsonl`, `test.jsonl` and
            `choices.jsonl`: `Config(out, seed, train, test, choices)`.
        labels: the module of a stage that cuts solutions into steps and labels them exactly:
            `Config(out, source)`, leaves `labelled.jsonl`.
        policies: each writes one solution of every problem.
        chooser: the policy whose candidates are chosen from.
        judge: the LLM judge.
        prompts: its prompt set.
        shared_prompts: a set with `p1` and `p3` in the layout `shared`, which is held against the
            paper's; null leaves that out.
        reasoning_tokens: the most that it may reason.
        base: what reward models are made from.
        render: how they are shown solutions.
        trainer: keys of `transformers.TrainingArguments`.
        boundaries: texts that end a step, for step search.
    """

    problems: str
    labels: str
    policies: list[PolicyConfig]
    chooser: str
    judge: EngineConfig
    prompts: str
    base: str
    shared_prompts: str | None = None
    reasoning_tokens: int = 4096
    render: RenderSettings = field(default_factory=RenderSettings)
    trainer: dict[str, Any] = field(default_factory=dict)
    boundaries: list[str] = field(default_factory=lambda: ["\n\n"])

    def __post_init__(self) -> None:
        if self.chooser not in [policy.name for policy in self.policies]:
            raise ValueError(f"chooser is {self.chooser!r}, which is none of the policies")


@dataclass
class Size:
    """How much each seed has.

    Attributes:
        pool: problems whose solutions judges annotate.
        train: problems with true labels; the pool is the first of them.
        test: problems that models are measured on.
        choices: problems that answers are chosen for.
        candidates: solutions of each of those.
    """

    pool: int = 168
    train: int = 400
    test: int = 168
    choices: int = 40
    candidates: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.pool <= self.train or min(self.test, self.choices, self.candidates) < 1:
            raise ValueError("all start at 1, and pool is at most train")


@dataclass
class Config:
    """`prm reproduce`.

    Attributes:
        out: the folder of all cells; gets `results.json` and `report.html`.
        world: a YAML file, see `World`.
        figures: which; all where the list is empty.
        seeds: each draws everything anew.
        size: how much each seed has.
        jobs: cells that run side by side.
        recorded: earlier results; a headline number that falls below its interval there is an
            error. null compares with nothing.
    """

    out: str
    world: str
    figures: list[str] = field(default_factory=list, metadata=MAY_CHANGE)
    seeds: list[int] = field(default_factory=lambda: [11, 12, 13])
    size: Size = field(default_factory=Size)
    jobs: int = field(default=2, metadata=MAY_CHANGE)
    recorded: str | None = field(default=None, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds needs at least one number, and none twice")
        if self.jobs < 1:
            raise ValueError(f"jobs is {self.jobs}; it starts at 1")
