"""What labels must be like: full trajectories or first errors, noise, and how many."""

from __future__ import annotations

from functools import partial

from prm.reproduce import models
from prm.reproduce.figure import Figure
from prm.reproduce.lab import Lab
from prm.reproduce.models import Build

TITLE = "Labels: full trajectories or first errors only, noise, and how many"
NOISE = (0.1, 0.2, 0.3)
"""Shares of labels turned round."""
PARTS = (4, 2)
"""A fourth and a half of the solutions."""
FULL, FIRST = "full trajectories", "up to the first error"


def declare(lab: Lab) -> None:
    """The cells of this figure."""
    models.declare(lab, _builds(lab))


def measure(lab: Lab) -> Figure:
    """What they came to."""
    builds = _builds(lab)
    found = {name: models.measure(lab, build) for name, build in builds.items()}
    full = found[FULL]
    size = lab.config.size.train
    rows = [
        *full.rows(FULL, group="trajectory", headline=True),
        *found[FIRST].rows(FIRST, group="trajectory"),
    ]
    curves = [(full, "no noise", "noise", 0.0)]
    curves += [(found[_noisy(share)], _noisy(share), "noise", share) for share in NOISE]
    curves += [(found[_part(p)], _part(p), "solutions", size // p) for p in sorted(PARTS)[::-1]]
    curves += [(full, "all", "solutions", size)]
    for own, name, group, x in curves:
        rows += own.rows(name, group=group, x=float(x))
    solutions, problems = models.counted(lab)
    return Figure(
        name="labels",
        title=TITLE,
        rows=tuple(rows),
        claims=(
            *full.claims(
                "labels of full trajectories beat labels up to the first error",
                found[FIRST],
                "full-trajectory labels, which the paper argues for; no ablation is public",
            ),
            *full.claims(
                f"true labels beat labels of which {NOISE[-1]:.0%} are turned round",
                found[_noisy(NOISE[-1])],
            ),
            *full.claims(f"{size} solutions beat {size // PARTS[0]}", found[_part(PARTS[0])]),
        ),
        solutions=solutions,
        problems=problems,
        command=lab.command("labels"),
        notes=(
            "True labels, of all policies alike; planted noise turns each label round by itself. "
            "Fewer solutions are gone through oftener, in as many optimizer steps.",
        ),
    )


def _builds(lab: Lab) -> dict[str, Build]:
    found: dict[str, Build] = {
        FULL: lab.true_model,
        FIRST: lambda seed: lab.model(
            seed, "first-error", lab.mixed(seed), loss={"after_first_error": "ignore"}
        ),
    }
    found |= {_noisy(share): partial(_flipped, lab, share) for share in NOISE}
    found |= {_part(part): partial(_fewer, lab, part) for part in PARTS}
    return found


def _noisy(share: float) -> str:
    return f"{share:.0%} of labels turned round"


def _part(part: int) -> str:
    return f"1/{part} of the solutions"


def _flipped(lab: Lab, share: float, seed: int) -> str:
    name = f"flips-{share}"
    return lab.model(seed, name, lab.derived(seed, name, lab.mixed(seed), flips=share))


def _fewer(lab: Lab, part: int, seed: int) -> str:
    count = lab.config.size.train // part
    labels = lab.derived(seed, f"part-{part}", lab.mixed(seed), solutions=count)
    trainer = dict(lab.world.trainer)
    trainer["num_train_epochs"] = part * trainer.get("num_train_epochs", 3)
    return lab.model(seed, f"part-{part}-as-long", labels, trainer=trainer)
