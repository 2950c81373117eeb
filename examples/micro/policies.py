"""The micro policies: who they are, and what they write about a problem.

Each is the model of some step of the solving course. Younger ones err more, and how fast a model
learns is partly chance: so the table says how much a policy gets right, not how old it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from annotate.sample import PolicyConfig, sample
from examples.micro import truth
from examples.micro.problems import MicroProblem
from prm.engines import EngineConfig, load
from prm.records import Solution

PLAIN = "{problem}"
CHECKING = "{problem}\nCheck each step."
MAX_TOKENS = 320
TEMPERATURE = 0.7
NEAR = 2
"""Checkpoints on each side of the first that reaches a goal; accuracy jumps between neighbours."""


@dataclass(frozen=True)
class MicroPolicy:
    """A policy.

    Attributes:
        name: becomes its solutions' `generator`.
        template: the user turn, which asks for a style.
        goal: the share of train problems that it answers right, as nearly as any checkpoint of
            the solving course does; None: it is the last one.
    """

    name: str
    template: str
    goal: float | None


POLICIES = (
    MicroPolicy("plain-weak", PLAIN, 0.35),
    MicroPolicy("plain-middle", PLAIN, 0.55),
    MicroPolicy("plain-strong", PLAIN, None),
    MicroPolicy("long-middle", CHECKING, 0.65),
)


def choose(goal: float | None, ages: Sequence[int], accuracy: Callable[[int], float]) -> int:
    """The age whose accuracy is nearest to the goal.

    Accuracy rises with age, up to chance: the first crossing is found by halving, and the ages
    next to it on both sides, `NEAR` of them, are compared.

    Args:
        goal: a share; None chooses the oldest.
        ages: to choose from, rising.
        accuracy: of the model of an age.
    """
    if goal is None:
        return ages[-1]
    low, high = 0, len(ages) - 1
    while low < high:
        middle = (low + high) // 2
        if accuracy(ages[middle]) < goal:
            low = middle + 1
        else:
            high = middle
    close = ages[max(0, low - NEAR) : low + NEAR]
    return min(close, key=lambda age: abs(accuracy(age) - goal))


def write_solutions(
    policy: MicroPolicy, model: Path, problems: Iterable[MicroProblem], seed: int
) -> Iterator[Solution]:
    """One solution a problem, cut into the world's steps.

    Those that do not come to an end are left out: there the last step is cut.
    """
    engine = EngineConfig(model=str(model), kind="transformers", dtype="float32")
    config = PolicyConfig(
        name=policy.name,
        engine=engine,
        template=policy.template,
        max_tokens=MAX_TOKENS,
        temperature=TEMPERATURE,
    )
    loaded = load(engine)
    asked = [problem.record for problem in problems]
    try:
        for start in tqdm(range(0, len(asked), 200), desc=policy.name, unit=" x 200 problems"):
            for item in sample(asked[start : start + 200], config, loaded, seed):
                if isinstance(item, Solution) and item.metadata["finish_reason"] == "stop":
                    yield replace(item, steps=truth.true_steps(item.steps[0]))
    finally:
        loaded.close()
