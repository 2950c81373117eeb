"""Squared error or cross entropy, soft labels or their majority (the paper's Figure 5)."""

from __future__ import annotations

from functools import partial

from prm.reproduce import models
from prm.reproduce.figure import Figure
from prm.reproduce.lab import Lab
from prm.reproduce.models import Build

TITLE = "The loss: squared error or cross entropy, soft or hard labels"
PAPER = "L2 91.9 against 90.2 (GSM8K), 76.2 against 75.3 (AMC): Figure 5"
CROSS = {"kind": "binary_cross_entropy"}


def declare(lab: Lab) -> None:
    """The cells of this figure."""
    models.declare(lab, _builds(lab))


def measure(lab: Lab) -> Figure:
    """What they came to."""
    found = {name: models.measure(lab, build) for name, build in _builds(lab).items()}
    soft, hard = found["squared error, soft labels"], found["squared error, hard labels"]
    cross = found["cross entropy, soft labels"]
    crossed = found["cross entropy, hard labels"]
    solutions, problems = models.counted(lab)
    return Figure(
        name="loss",
        title=TITLE,
        rows=tuple(
            row
            for name, own in found.items()
            for row in own.rows(name, group="loss", headline=own is soft)
        ),
        claims=(
            *soft.claims("squared error beats cross entropy (soft labels)", cross, PAPER),
            *hard.claims("squared error beats cross entropy (hard labels)", crossed),
            *soft.claims("soft labels beat hard ones (squared error)", hard),
            *cross.claims("soft labels beat hard ones (cross entropy)", crossed),
        ),
        solutions=solutions,
        problems=problems,
        command=lab.command("loss"),
        notes=(
            "Labels are the judge's four votes, verified; hard ones are their majority. Models "
            "are shown the reference.",
        ),
    )


def _builds(lab: Lab) -> dict[str, Build]:
    return {
        "squared error, soft labels": lab.shared_model,
        "squared error, hard labels": partial(_model, lab, "hard", True, {}),
        "cross entropy, soft labels": partial(_model, lab, "cross-soft", False, CROSS),
        "cross entropy, hard labels": partial(_model, lab, "cross-hard", True, CROSS),
    }


def _model(lab: Lab, name: str, hard: bool, loss: dict[str, str], seed: int) -> str:
    labels = lab.labels(seed)
    if hard:
        labels = lab.labels(seed, "labels-hard", voting={"labels": "hard"})
    return lab.model(seed, name, labels, loss=loss)
