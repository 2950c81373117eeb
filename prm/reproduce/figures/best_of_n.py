"""Best of N: a process and an outcome reward model choose among candidates (the paper's Figure 6),
beside majority, weighted majority and a choice that cannot err."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from prm import jsonl
from prm.aggregation import AGGREGATIONS, Aggregation, aggregate
from prm.records import Problem, problem_key
from prm.reproduce.figure import Claim, Figure
from prm.reproduce.lab import TEMPERATURE, Lab
from prm.reproduce.measured import Sums, read_scores, read_steps
from prm.selection import Candidates, expected
from universalbench import resampling
from verify.candidates import Answered, answered

TITLE = "Best of N: a process and an outcome reward model"
PAPER = {
    "PRM": "89.9 against 82.9 (GSM8K), 52.5 against 46.8 (MATH): Figure 6",
    "ORM": "90.1 against 82.9 (GSM8K), 52.9 against 46.8 (MATH): Figure 6",
    "both": "there the ORM leads: 90.1 against 89.9 (GSM8K), 52.9 against 52.5 (MATH): Figure 6",
}
RIGHT, GAIN = "right answers", "gain in right answers"
AGGREGATION: Aggregation = "min"
"""What makes a reward of the PRM's step scores where one is taken: the default of `prm solve`."""
COMPARED = (8, 64)
"""N at which methods are held against one another."""
SINGLE, PRM, ORM = "one candidate (pass@1)", f"best by PRM ({AGGREGATION})", "best by ORM (last)"
MAJORITY = "majority"
WEIGHTED = {"PRM": f"majority weighted by PRM ({AGGREGATION})", "ORM": "majority weighted by ORM"}


CHOICES = {
    **{f"best by PRM ({name})": ("PRM", f"best of N ({name})") for name in AGGREGATIONS},
    ORM: ("ORM", "best of N (last)"),
    MAJORITY: ("PRM", "majority"),
    WEIGHTED["PRM"]: ("PRM", f"weighted majority ({AGGREGATION})"),
    WEIGHTED["ORM"]: ("ORM", "weighted majority (last)"),
    "a choice that cannot err": ("PRM", "oracle"),
}
"""Ways to choose: whose rewards are taken (no matter where none are), and the name of the method in
`prm.selection`."""

Known = Mapping[int, Mapping[str, Sequence[Candidates]]]
"""Seed → reward model → what is known of the candidates of each problem."""


def declare(lab: Lab) -> None:
    """The cells of this figure."""
    for seed in lab.seeds:
        _cells(lab, seed)


def measure(lab: Lab) -> Figure:
    """What they came to."""
    known = {seed: _read(lab, seed) for seed in lab.seeds}
    most = lab.config.size.candidates
    compared = [n for n in COMPARED if n <= most] or [most]
    single = accuracy(known, ("PRM", "pass@1"), 1)
    found = {
        name: {n: accuracy(known, choice, n) for n in {*powers(most), *compared}}
        for name, choice in CHOICES.items()
    }
    rows = [single.row(SINGLE, group="candidates", x=1.0)]
    for name, own in found.items():
        for n in powers(most):
            headline = name == PRM and n == compared[0]
            rows.append(own[n].row(name, group="candidates", x=float(n), headline=headline))
    for name in (PRM, ORM, MAJORITY, *WEIGHTED.values()):
        for n in compared:
            headline = name == PRM and n == compared[0]
            more = gain(found[name][n], single)
            rows.append(more.row(name, group="N", x=float(n), headline=headline))
    problems = len(lab.seeds) * lab.config.size.choices
    every = [own for by in known.values() for own in by["PRM"]]
    missing = sum(value is None for own in every for value in own.rewards[AGGREGATION])
    return Figure(
        name="best_of_n",
        title=TITLE,
        rows=tuple(rows),
        claims=tuple(claim for n in compared for claim in _claims(found, single, n)),
        solutions=problems * most,
        problems=problems,
        command=lab.command("best_of_n"),
        notes=(
            f"Candidates are of {lab.world.chooser} at temperature {TEMPERATURE:g}. Accuracies are "
            f"expectations over all ways to draw N of the {most} candidates of a problem; of "
            "majorities, where those are too many, over 2,000 seeded draws.",
            f"Candidates that did not come to an end or could not be scored ({missing:,}) stay "
            "among those drawn, no reward model chooses them, and those that did not come to an "
            "end are wrong and have no vote.",
            "Both reward models learn from the same labels of the judge, verified; the ORM from "
            "that of a solution's last step alone. Neither is told a reference here.",
            f"Where a claim is of the PRM, a solution's reward is the {AGGREGATION} of its step "
            "scores, settled beforehand. The paper's N and how its PRM's scores become one reward "
            "are not public.",
        ),
    )


def _claims(found: Mapping[str, Mapping[int, Sums]], single: Sums, n: int) -> list[Claim]:
    of = {name: own[n] for name, own in found.items()}
    best, weighted = f"the best of {n} by the", f"the majority of {n} weighted by the"
    return [
        of[PRM].claim(f"{best} PRM beats one candidate", single, PAPER["PRM"]),
        of[ORM].claim(f"{best} ORM beats one candidate", single, PAPER["ORM"]),
        of[PRM].claim(f"{best} PRM beats that by the ORM", of[ORM], PAPER["both"]),
        of[PRM].claim(f"{best} PRM beats the majority", of[MAJORITY]),
        of[WEIGHTED["PRM"]].claim(f"{weighted} PRM beats the plain one", of[MAJORITY]),
    ]


def powers(most: int) -> list[int]:
    """1, 2, 4, … up to `most`."""
    return [2**power for power in range(most.bit_length())]


def accuracy(known: Known, choice: tuple[str, str], n: int) -> Sums:
    """Expected accuracy of a way to choose out of `n`; each problem adds its own."""
    by, method = choice
    tables = {}
    for seed, models in known.items():
        table = [(expected(problem, method, n), 1.0) for problem in models[by]]
        keys = [problem_key(problem.problem) for problem in models[by]]
        tables[seed] = resampling.by_cluster(table, resampling.clusters(keys))
    return Sums(tables, _mean, RIGHT)


def gain(one: Sums, other: Sums) -> Sums:
    """What an accuracy has over another, on the same problems."""
    tables = {seed: table.copy() for seed, table in one.tables.items()}
    for seed, table in other.tables.items():
        tables[seed][:, 0] -= table[:, 0]
    return Sums(tables, _mean, GAIN)


def _mean(sums: np.ndarray) -> np.ndarray:
    return resampling.ratio(sums[..., 0], sums[..., 1])


# Candidates


def _cells(lab: Lab, seed: int) -> dict[str, str]:
    """The scores of each reward model, told no reference."""
    source = lab.candidates(seed)
    models = {"PRM": lab.shared_model(seed), "ORM": lab.outcome_model(seed)}
    return {
        name: lab.scores(seed, model, reference="none", source=source)
        for name, model in models.items()
    }


def _read(lab: Lab, seed: int) -> dict[str, list[Candidates]]:
    path = lab.path(f"{lab.problems(seed)}/choices.jsonl")
    problems = [item.problem for item in jsonl.read(path, Problem)]
    steps = read_steps(lab.path(lab.candidates(seed)))
    texts, judged = steps.problems, answered([item.solution for item in steps.items])
    most = lab.config.size.candidates
    return {
        name: known(problems, texts, judged, read_scores(lab.path(place), steps), most)
        for name, place in _cells(lab, seed).items()
    }


def known(
    problems: Sequence[str],
    texts: Sequence[str],
    judged: Sequence[Answered],
    scores: Sequence[Sequence[float] | None],
    count: int,
) -> list[Candidates]:
    """What is known of the candidates of each problem.

    Args:
        problems: the text of each, all different.
        texts: the problem of each candidate that is left.
        judged: its final answer.
        scores: of its steps; None where there are none.
        count: how many candidates each problem had. Those that were left out since are wrong,
            without an answer and without a reward.
    """
    assert len(set(problems)) == len(problems)
    found = []
    for problem in problems:
        own = [index for index, text in enumerate(texts) if text == problem]
        gone = count - len(own)
        rewards = {
            name: [None if (row := scores[at]) is None else aggregate(row, name) for at in own]
            + [None] * gone
            for name in AGGREGATIONS
        }
        found.append(
            Candidates(
                problem=problem,
                rewards=rewards,
                groups=[judged[at].group for at in own] + [None] * gone,
                correct=[bool(judged[at].correct) for at in own] + [False] * gone,
            )
        )
    return found
