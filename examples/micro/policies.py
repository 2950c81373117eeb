"""The micro policies: who they are, and what they write about a problem.

The table says of which age, in steps of the solving course, a policy is, and whether its prompt
asks for the long style. Younger ones err more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


@dataclass(frozen=True)
class MicroPolicy:
    """A policy.

    Attributes:
        name: becomes its solutions' `generator`.
        age: steps of the solving course.
        template: the user turn, which asks for a style.
    """

    name: str
    age: int
    template: str


POLICIES = (
    MicroPolicy("plain-weak", 500, PLAIN),
    MicroPolicy("plain-middle", 1000, PLAIN),
    MicroPolicy("plain-strong", 2400, PLAIN),
    MicroPolicy("long-middle", 1800, CHECKING),
)


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
