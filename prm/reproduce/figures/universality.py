"""Trained on one policy and tested on all, against trained on all (the paper's title)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from prm.reproduce import models
from prm.reproduce.figure import Figure
from prm.reproduce.lab import Lab
from prm.reproduce.measured import Steps
from prm.reproduce.models import Build

TITLE = "Universality: learning from one policy, or from all"
PAPER = "the title's claim; no such table is public"
ALL = "all policies"


def declare(lab: Lab) -> None:
    """The cells of this figure."""
    models.declare(lab, _builds(lab))


def measure(lab: Lab) -> Figure:
    """What they came to."""
    names = [policy.name for policy in lab.world.policies]
    builds = _builds(lab)
    rows, claims = [], []
    every = models.measure(lab, builds[ALL])
    for name, build in builds.items():
        own = every if name == ALL else models.measure(lab, build)
        rows += own.rows(f"learnt from {name}", group="tested on all", headline=name == ALL)
        if name != ALL:
            text = f"learning from all policies beats learning from {name} alone"
            claims += every.claims(text, own, PAPER)
        # Long and short styles, each policy by itself.
        for tested in names:
            part = models.measure(lab, build, kept=partial(_of, [tested]))
            rows.append(part.f1.row(f"learnt from {name}", group=f"tested on {tested}"))
    solutions, problems = models.counted(lab)
    return Figure(
        name="universality",
        title=TITLE,
        rows=tuple(rows),
        claims=tuple(claims),
        solutions=solutions,
        problems=problems,
        command=lab.command("universality"),
        notes=(
            "True labels; every model learns from as many solutions, in as many steps. The paper "
            "claims universality and shows no such table, so there is no number of its own.",
        ),
    )


def _builds(lab: Lab) -> dict[str, Build]:
    single = {policy.name: partial(_alone, lab, policy.name) for policy in lab.world.policies}
    return {ALL: lab.true_model, **single}


def _alone(lab: Lab, policy: str, seed: int) -> str:
    source = lab.true(seed, "train")
    labels = lab.derived(seed, f"alone-{policy}", source, generators=[policy])
    return lab.model(seed, f"alone-{policy}", labels)


def _of(policies: Sequence[str], steps: Steps) -> Steps:
    kept = [item for item in steps.items if item.solution.generator in policies]
    return replace(steps, items=kept)
