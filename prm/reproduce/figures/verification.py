"""Reverse verification (the paper's Figure 3): the reference before the judge and before the
reward model, and the checks of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from prm import jsonl
from prm.records import Correction, LabelledSolution
from prm.reproduce import models
from prm.reproduce.ballots import HALF, Labels, Voter, read_ballots, shares, voter
from prm.reproduce.figure import Claim, Figure, Row
from prm.reproduce.lab import Lab
from prm.reproduce.measured import Steps, read_steps
from prm.reproduce.models import Build, Measured
from verify.decision import CHECKS

TITLE = "Reverse verification: the reference, and the checks of labels"
PAPER = "UniversalBench .746 against .738, ProcessBench .743 against .737: Figure 3"
PAPER_F1 = {"worked": 0.746, "none": 0.738}
"""On UniversalBench, of the reward model."""
LABELS = "labels with the reference"
TOLD = {"worked": "told the reference", "none": "not told"}
SKIPPED = dict.fromkeys(CHECKS, "skip")


def declare(lab: Lab) -> None:
    """The cells of this figure."""
    for reference in TOLD:
        models.declare(lab, _taught(lab), reference)
    models.declare(lab, {"unchecked": partial(_unchecked, lab)})


def measure(lab: Lab) -> Figure:
    """What they came to."""
    pools = {seed: read_steps(lab.path(lab.pool(seed))) for seed in lab.seeds}
    parts = [_judges(lab, pools), _models(lab), _checks(lab, pools), _checked_model(lab)]
    solutions, problems = models.counted(lab)
    return Figure(
        name="verification",
        title=TITLE,
        rows=tuple(row for rows, _ in parts for row in rows),
        claims=tuple(claim for _, claims in parts for claim in claims),
        solutions=solutions,
        problems=problems,
        command=lab.command("verification"),
        notes=(
            "Models are measured on the test solutions, labels on the "
            f"{sum(len(own.items) for own in pools.values()):,} of the pool. Labels are cut where "
            "it is best on the other seeds (with one seed: on the other half of its problems).",
            "Labels without the reference come from a judge that sees neither reference nor "
            "answer, and from no check that needs one; the check of false equations needs none and "
            "stays. The model that learns from them is shown the reference as often as the other.",
            "The micro judge compares rather than calculates: where it has no reference it calls "
            "nearly every step right, so here the reference is worth more to a judge than it would "
            "be to a model that can solve the problems.",
            "The paper does not say which of the two uses of the reference its numbers leave out; "
            "they stand beside the reward model's.",
            "Corrected labels are compared on the solutions that the checks keep. Weighed as "
            "training weighs them, solutions that checks trust less count less.",
        ),
    )


# The judge


def _withheld(lab: Lab, seed: int) -> str:
    """The judge's votes without reference and answer."""
    source = lab.derived(seed, "pool-withheld", lab.pool(seed), withhold=True)
    return lab.votes(seed, "judge-withheld", source=source)


def _judges(lab: Lab, pools: Mapping[int, Steps]) -> tuple[list[Row], list[Claim]]:
    """Votes with and without the reference; which solution is whose is told by its id."""

    def of(place: Mapping[int, str]) -> Voter:
        paths = {seed: lab.path(own) for seed, own in place.items()}
        ballots = {seed: read_ballots(own, paths[seed]) for seed, own in pools.items()}
        return voter({seed: (own, ballots[seed].labels()) for seed, own in pools.items()})

    shown = of({seed: lab.votes(seed) for seed in lab.seeds})
    blind = of({seed: _withheld(lab, seed) for seed in lab.seeds})
    rows: list[Row] = []
    for name, one in (("judge with the reference", shown), ("judge without", blind)):
        rows += [*one.rows(name, group="votes"), one.auroc.row(name, group="votes")]
    return rows, shown.claims("the judge votes better with the reference", blind)


# The reward model


def _taught(lab: Lab) -> dict[str, Build]:
    return {
        LABELS: lab.shared_model,
        "labels without": partial(_blind, lab),
    }


def _blind(lab: Lab, seed: int) -> str:
    """Learns from labels that no reference had a part in, and is shown the references."""
    labels = lab.labels(seed, "labels-withheld", votes=_withheld(lab, seed))
    references = f"{lab.problems(seed)}/train.jsonl"
    return lab.model(seed, "withheld", labels, references=references)


def _unchecked(lab: Lab, seed: int) -> str:
    return lab.model(seed, "unchecked", _without_checks(lab, seed))


def _models(lab: Lab) -> tuple[list[Row], list[Claim]]:
    """The reference before the judge, before the model, before both and before neither."""
    shown, blind = _taught(lab)
    found: dict[tuple[str, str], Measured] = {}
    rows: list[Row] = []
    for name, told in product((shown, blind), TOLD):
        own = found[name, told] = models.measure(lab, _taught(lab)[name], told)
        headline = (name, told) == (shown, "worked")
        row, auroc = own.rows(f"{name}, {TOLD[told]}", group="reward model", headline=headline)
        rows += [replace(row, paper=PAPER_F1[told] if name == shown else None), auroc]
    both, neither = found[shown, "worked"], found[blind, "none"]
    return rows, [
        *both.claims(
            "a reward model that is told the reference beats the same one that is not",
            found[shown, "none"],
            PAPER,
        ),
        *both.claims(
            "the reference for both judge and model beats none for either", neither, PAPER
        ),
        *both.claims(
            "labels with the reference teach better than labels without (model told)",
            found[blind, "worked"],
        ),
        *found[shown, "none"].claims(
            "labels with the reference teach better than labels without (model not told)",
            neither,
        ),
    ]


# The checks


@dataclass(frozen=True)
class Checked:
    """Labels as `prm verify` left them, in the order of the solutions.

    Attributes:
        labels: None where it rejected a solution.
        weights: as training takes them; 0 where it rejected one.
        corrections: of each solution.
    """

    labels: Labels
    weights: Sequence[float]
    corrections: Sequence[Sequence[Correction]]


def read_checked(path: Path, steps: Steps) -> Checked:
    """From `labelled.jsonl`."""
    found = {item.id: item for item in jsonl.read(path, LabelledSolution)}
    rows = [found.get(item.id) for item in steps.items]
    return Checked(
        labels=[None if row is None else row.labels for row in rows],
        weights=[0.0 if row is None else row.weight for row in rows],
        corrections=[() if row is None else row.corrections for row in rows],
    )


def corrected(steps: Steps, checked: Checked) -> np.ndarray:
    """Labels moved to the right side, labels moved, and steps, per solution `[solutions, 3]`.

    A label is moved where it lies on the other side of one half than before all corrections.
    """
    table = np.zeros((len(steps.items), 3))
    for row, (item, changes) in enumerate(zip(steps.items, checked.corrections, strict=True)):
        first = {change.step: change.old for change in reversed(changes)}
        last = {change.step: change.new for change in changes}
        moved = [step for step in first if (first[step] < HALF) != (last[step] < HALF)]
        good = sum((last[step] < HALF) == (item.labels[step] < HALF) for step in moved)
        table[row] = good, len(moved), len(item.labels)
    return table


def _without_checks(lab: Lab, seed: int) -> str:
    return lab.labels(seed, "labels-unchecked", rules=SKIPPED)


def _checks(lab: Lab, pools: Mapping[int, Steps]) -> tuple[list[Row], list[Claim]]:
    """The judge's labels before and after the checks."""
    before, after = {}, {}
    for seed, steps in pools.items():
        before[seed] = read_checked(lab.path(_without_checks(lab, seed)), steps)
        after[seed] = read_checked(lab.path(lab.labels(seed)), steps)
    weights = {seed: own.weights for seed, own in after.items()}
    kept = {seed: [float(weight > 0) for weight in own] for seed, own in weights.items()}
    raw, same = _labelled(pools, before), _labelled(pools, before, kept)
    mended, weighed = _labelled(pools, after, kept), _labelled(pools, after, weights)
    group, rows = "labels", list[Row]()
    for name, one in (("labels without checks", raw), ("labels with checks", mended)):
        rows += [*one.rows(name, group=group, headline=one is mended)]
        rows.append(one.auroc.row(name, group=group))
    rows += weighed.rows("labels with checks, weighed", group=group)
    turned = {seed: (own, corrected(own, after[seed])) for seed, own in pools.items()}
    gone = {seed: (own, _rejected(kept[seed])) for seed, own in pools.items()}
    rows += [
        _share("share of labels turned round", turned, [1, 2]),
        _share("share of labels turned round that are then right", turned, [0, 1]),
        _share("share of solutions rejected", gone, [0, 1]),
    ]
    return rows, [
        *mended.claims("checks mend more labels than they spoil", same),
        weighed.f1.claim("what checks leave, as training weighs it, beats what they got", raw.f1),
    ]


def _labelled(
    pools: Mapping[int, Steps],
    found: Mapping[int, Checked],
    weights: Mapping[int, Sequence[float]] | None = None,
) -> Voter:
    return voter({seed: (own, found[seed].labels) for seed, own in pools.items()}, weights=weights)


def _rejected(kept: Sequence[float]) -> np.ndarray:
    """Whether each solution is rejected, and that it is one `[solutions, 2]`."""
    return np.array([[1.0 - one, 1.0] for one in kept])


def _share(
    metric: str, counts: Mapping[int, tuple[Steps, np.ndarray]], columns: Sequence[int]
) -> Row:
    two = {seed: (steps, table[:, columns]) for seed, (steps, table) in counts.items()}
    return shares(metric, two).row("checks", group="labels")


def _checked_model(lab: Lab) -> tuple[list[Row], list[Claim]]:
    """What learns from checked labels is the shared model, which has its rows above."""
    checked = models.measure(lab, lab.shared_model)
    unchecked = models.measure(lab, partial(_unchecked, lab))
    text = "checked labels teach better than unchecked ones (model told)"
    rows = unchecked.rows(f"unchecked {LABELS}, {TOLD['worked']}", group="reward model")
    return rows, checked.claims(text, unchecked)
