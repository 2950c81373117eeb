"""What every figure works with: problems and solutions with true labels, judges, reward models.

For each seed, everything is drawn anew: problems, solutions, order and drops of training.

    problems ──sample──▶ solutions ──labels──▶ train-true ──the first `pool` problems──▶ pool
                                          └──▶ test-true                 pool ──judge──▶ votes
    votes ──verify──▶ labels of judges;  train-true ──derive──▶ planted labels
    labels ──train──▶ model ──score──▶ scores of test-true

Methods declare cells and give back the path of what they leave, for other cells (`@…`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from annotate.sample import PolicyConfig
from prm import config as configuration
from prm.reproduce.cells import Cell
from prm.reproduce.config import Config, World

LABELLED = "labelled.jsonl"
PRM = "soft"
"""The reward model that figures share: soft labels of the judge, verified, squared error."""
TRUE = "true"
"""The one that learns from true labels of all policies; what is planted is held against it."""
TEMPERATURE = 1.0
"""Of the policy whose solutions are chosen from: what is alike leaves nothing to choose."""


class Lab:
    """The cells of all figures of a run.

    Args:
        config: of the run.

    Attributes:
        world: where problems come from, and who writes, judges and learns.
        cells: by name, in the order in which they were declared.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.world = configuration.load(World, config.world)
        self.out = Path(config.out)
        self.seeds: Sequence[int] = config.seeds
        self.cells: dict[str, Cell] = {}

    def add(self, name: str, stage: str, **config: Any) -> str:
        """Declare a cell, unless it is; returns its folder as other cells name it.

        Raises:
            AssertionError: another cell has the name.
        """
        cell = Cell(name=name, stage=stage, config=config)
        assert self.cells.setdefault(name, cell) == cell, f"two cells are {name}"
        return f"@{name}"

    def path(self, place: str) -> Path:
        """Where a place of a cell (`@…`) lies."""
        return self.out / place.removeprefix("@")

    def command(self, figure: str) -> str:
        """The command that makes one figure alone."""
        return f"prm reproduce configs/reproduce/{figure.replace('_', '-')}.yaml"

    # Data

    def problems(self, seed: int) -> str:
        """`train.jsonl`, `test.jsonl` and `choices.jsonl`: problems that differ."""
        world, size = self.world, self.config.size
        return self.add(
            f"{seed}/problems",
            world.problems,
            seed=seed,
            train=size.train,
            test=size.test,
            choices=size.choices,
        )

    def true(self, seed: int, part: str) -> str:
        """Solutions of all policies with their true labels; `part` is `train` or `test`."""
        sampled = self.add(
            f"{seed}/{part}-sample",
            "sample",
            problems={"path": f"{self.problems(seed)}/{part}.jsonl"},
            policies=[configuration.to_dict(policy) for policy in self.world.policies],
            seed=seed,
        )
        folder = self.add(
            f"{seed}/{part}-true",
            self.world.labels,
            source={"path": f"{sampled}/solutions.jsonl"},
        )
        return f"{folder}/{LABELLED}"

    def derived(self, seed: int, name: str, source: str, **changes: Any) -> str:
        """Some of the solutions, or with other labels; see `prm.reproduce.derive`."""
        folder = self.add(
            f"{seed}/{name}",
            "prm.reproduce.derive",
            source={"path": source},
            seed=seed,
            **changes,
        )
        return f"{folder}/{LABELLED}"

    def pool(self, seed: int) -> str:
        """The solutions that judges annotate, with their true labels, which no judge sees."""
        true = self.true(seed, "train")
        return self.derived(seed, "pool", true, problems=self.config.size.pool)

    # Labels

    def votes(
        self,
        seed: int,
        name: str = "judge",
        *,
        source: str | None = None,
        strategies: Sequence[str] = ("p0", "p1", "p2", "p3"),
        rules: Sequence[str] = (),
        settings: dict[str, Any] | None = None,
        **config: Any,
    ) -> str:
        """What voters say of every step of the pool.

        Args:
            seed: of the data and of the judge's sampling.
            name: of the cell; the default is what the shared reward model learns from.
            source: solutions; the pool where not given.
            strategies: of the judge; none leaves it out.
            rules: voters without a model.
            settings: further settings of the judge.
            config: further keys of `prm annotate`.
        """
        world = self.world
        asked = {"prompts": world.prompts, "max_tokens": world.reasoning_tokens, "seed": seed}
        judge = {
            "engine": configuration.to_dict(world.judge),
            "strategies": list(strategies),
            "settings": asked | (settings or {}),
            # Figures measure unusable answers; they do not stop at them.
            "max_errors": 1.0,
        }
        folder = self.add(
            f"{seed}/{name}",
            "annotate",
            source={"path": source or self.pool(seed)},
            rules=list(rules),
            judges=[judge] if strategies else [],
            **config,
        )
        return f"{folder}/annotations.jsonl"

    def labels(self, seed: int, name: str = "labels", *, votes: str = "", **config: Any) -> str:
        """Labels from votes, verified; `config` holds further keys of `prm verify`."""
        annotations = votes or self.votes(seed)
        folder = self.add(f"{seed}/{name}", "verify", annotations=annotations, **config)
        return f"{folder}/{LABELLED}"

    # Models

    def model(
        self, seed: int, name: str, labels: str, references: str | None = None, **config: Any
    ) -> str:
        """A reward model that learnt from labels.

        Args:
            seed: of order and drops.
            name: of the model.
            labels: what it learns from.
            references: problems whose references the solutions get where they have none.
            config: further keys of `prm train`.
        """
        world = self.world
        source: dict[str, Any] = {"path": labels}
        if references is not None:
            source["references"] = {"path": references}
        settings: dict[str, Any] = {
            "model": world.base,
            "reference_drop": 0.5,
            "held_out": 0.15,
            "render": configuration.to_dict(world.render),
            "trainer": dict(world.trainer),
            "seed": seed,
        }
        settings |= config
        folder = self.add(f"{seed}/model-{name}", "train", sources=[source], **settings)
        return f"{folder}/model"

    def shared_model(self, seed: int) -> str:
        """The reward model that most figures hold others against; see `PRM`."""
        return self.model(seed, PRM, self.labels(seed))

    def true_model(self, seed: int) -> str:
        """See `TRUE`: as many solutions as one policy has, of all policies alike."""
        return self.model(seed, TRUE, self.mixed(seed))

    def mixed(self, seed: int) -> str:
        """As many solutions with true labels as one policy has, drawn from all policies alike."""
        source = self.true(seed, "train")
        return self.derived(seed, "mixed", source, solutions=self.config.size.train)

    def scores(
        self, seed: int, model: str, *, reference: str = "worked", source: str | None = None
    ) -> str:
        """What a model says of the test solutions (or others), told a reference or `none`."""
        folder = model.removeprefix("@").removesuffix("/model")
        where = "" if source is None else f"-{Path(source).parent.name}"
        told = "with" if reference == "worked" else "without"
        scorer = {"model": model, "reference": reference, "batch_tokens": 4096}
        name = f"{folder.replace('/model-', '/scores-')}{where}-{told}"
        scored = self.add(
            name, "score", source={"path": source or self.true(seed, "test")}, scorer=scorer
        )
        return f"{scored}/scores.jsonl"

    # Choices

    @property
    def chooser(self) -> PolicyConfig:
        """The policy whose solutions are chosen from, under its first prompt."""
        [policy] = [own for own in self.world.policies if own.name == self.world.chooser]
        prompt = policy.generators[0]
        return replace(
            policy,
            system=prompt.system,
            template=prompt.template,
            prompts=[],
            temperature=TEMPERATURE,
        )

    def candidates(self, seed: int) -> str:
        """Solutions of the problems that answers are chosen for, with their true labels.

        The stage of labels may leave out some, such as those that did not come to an end.
        """
        policy = replace(self.chooser, samples=self.config.size.candidates)
        sampled = self.add(
            f"{seed}/candidates-sample",
            "sample",
            problems={"path": f"{self.problems(seed)}/choices.jsonl"},
            policies=[configuration.to_dict(policy)],
            seed=seed,
        )
        folder = self.add(
            f"{seed}/candidates",
            self.world.labels,
            source={"path": f"{sampled}/solutions.jsonl"},
        )
        return f"{folder}/{LABELLED}"

    def outcome_model(self, seed: int) -> str:
        """An outcome reward model: learns the label of a solution's last step alone."""
        loss = {"kind": "binary_cross_entropy", "steps": "last"}
        return self.model(seed, "orm", self.labels(seed), loss=loss)
