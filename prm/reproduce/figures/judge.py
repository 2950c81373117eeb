"""The judge: single prompts, their majority, soft labels (the paper's Figure 2), and what may be
asked instead."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from annotate.sequential import NOT_ASKED
from prm.reproduce.ballots import (
    HALF,
    Ballots,
    Voter,
    drawn,
    elsewhere,
    mean_f1,
    polled,
    read_ballots,
    shares,
)
from prm.reproduce.figure import Claim, Figure, Row
from prm.reproduce.lab import Lab
from prm.reproduce.measured import f1, read_steps

TITLE = "The judge: single prompts, their majority, soft labels"
PAPER = {"p0": 0.7690, "p1": 0.7679, "p2": 0.7623, "p3": 0.7560}
MAJORITY, SOFT = 0.7649, 0.7996
"""The paper's F1 on UniversalBench: Figure 2."""

ALL = tuple(PAPER)
REASONING, LIST = ("p0", "p2"), ("p1", "p3")
CURVE = {4: 0.125, 3: 0.375, 2: 0.625, 1: 0.875}
"""Objections out of four → the cut that takes so many for an error."""
RULES = ("arithmetic", "reference")
SAMPLES, TEMPERATURE = 4, 0.7
IN_TURN = ("p1", "p3", "p0", "p2")
"""The order of sequential voting: what costs least comes first."""
MARGIN = 0.01

Polls = Mapping[int, Ballots]


def declare(lab: Lab) -> None:
    """The cells of this figure."""
    for seed in lab.seeds:
        _cells(lab, seed)


def measure(lab: Lab) -> Figure:
    """What they came to."""
    polls = _polls(lab)
    truth = [own.steps for own in polls["judge"].values()]
    parts = [_single(polls), _verdicts(polls), _in_turn(polls), _layouts(polls)]
    soft = polled(polls["judge"])
    return Figure(
        name="judge",
        title=TITLE,
        rows=tuple(row for rows, _ in parts for row in rows),
        claims=tuple(claim for _, claims in parts for claim in claims),
        solutions=sum(len(steps.items) for steps in truth),
        problems=sum(len(set(steps.problems)) for steps in truth),
        command=lab.command("judge"),
        notes=(
            "A step counts as wrong where its label, the mean of the votes, lies below a cut: of "
            "0/1 votes and of the majority one half, so a tie of two and two calls it right; else "
            "the cut that is best on the other seeds (with one seed: on the other half of its "
            f"problems). That of the soft labels was {', '.join(f'{cut:g}' for cut in soft.cuts)}. "
            "A step on which all abstain counts as right.",
            "Tokens are those of prompts and answers together, each prompt counted in full.",
            "Asked in turn, a judge is asked no more once the open votes cannot change what the "
            "majority says, so at one half the labels are those of all four by construction; at "
            "another cut and in AUROC they need not be. Votes at random are drawn from the four, "
            "each with the share of tokens that asking in turn took.",
            "The micro judge was taught the paper's layout alone (examples/micro/lessons.py); the "
            "shared one has the same parts in an order that it never saw, and two examples in p3.",
        ),
    )


def _cells(lab: Lab, seed: int) -> dict[str, str]:
    """Who is asked, and how."""
    sampled = {"samples": SAMPLES, "temperature": TEMPERATURE}
    found = {
        "judge": lab.votes(seed),
        "rules": lab.votes(seed, "rules", strategies=(), rules=RULES),
        "probabilities": lab.votes(
            seed, "judge-soft", strategies=LIST, settings={"verdicts": "soft"}
        ),
        "samples": lab.votes(seed, "judge-sampled", strategies=LIST, settings=sampled),
        "in turn": lab.votes(
            seed, "judge-in-turn", strategies=IN_TURN, sequential={"cut": HALF, "margin": 0.0}
        ),
    }
    if lab.world.shared_prompts is not None:
        settings = {"prompts": lab.world.shared_prompts, "layout": "shared"}
        found["shared"] = lab.votes(seed, "judge-shared", strategies=LIST, settings=settings)
    return found


def _polls(lab: Lab) -> dict[str, Polls]:
    """Seed → votes, by cell; `both` are judge and rules together."""
    found: dict[str, dict[int, Ballots]] = {}
    for seed in lab.seeds:
        steps = read_steps(lab.path(lab.pool(seed)))
        places = _cells(lab, seed)
        for name, place in places.items():
            found.setdefault(name, {})[seed] = read_ballots(steps, lab.path(place))
        both = lab.path(places["judge"]), lab.path(places["rules"])
        found.setdefault("both", {})[seed] = read_ballots(steps, *both)
    return dict(found)


def _of(polls: Polls, *strategies: str) -> Polls:
    return {seed: poll.of(*strategies) for seed, poll in polls.items()}


def _single(polls: Mapping[str, Polls]) -> tuple[list[Row], list[Claim]]:
    """The paper's figure, the rules beside it, and the curve over cuts."""
    alone = {name: polled(_of(polls["judge"], name), HALF) for name in ALL}
    majority, soft = polled(polls["judge"], HALF), polled(polls["judge"])
    both = polled(polls["both"])
    best, _ = elsewhere({name: one.tables for name, one in alone.items()})
    group = "voters"
    rows = [
        row for name, one in alone.items() for row in one.rows(name, group=group, paper=PAPER[name])
    ]
    rows += majority.rows("majority of four", group=group, paper=MAJORITY)
    rows += soft.rows("soft labels of four", group=group, paper=SOFT, headline=True)
    rows.append(soft.auroc.row("soft labels of four", group=group, headline=True))
    for name in RULES:
        rows += polled(_of(polls["rules"], name), HALF).rows(f"rule: {name}", group=group)
    rows += both.rows("judges and rules", group=group)
    rows.append(both.auroc.row("judges and rules", group=group))
    for objections, cut in CURVE.items():
        at = polled(polls["judge"], cut)
        name = f"{objections} of 4 object" if objections == 4 else f"{objections} or more object"
        rows += at.rows(name, group="cut of the soft label", x=cut)
    reasoning, listed = (mean_f1([alone[name] for name in kind]) for kind in (REASONING, LIST))
    return rows, [
        soft.f1.claim(
            "soft labels beat their majority", majority.f1, f"{SOFT} against {MAJORITY}: Figure 2"
        ),
        soft.f1.claim(
            "soft labels beat the best single prompt",
            f1(best),
            f"{SOFT} against {PAPER['p0']}: Figure 2",
        ),
        reasoning.claim(
            "prompts that reason (p0, p2) beat those that list verdicts alone (p1, p3)",
            listed,
            "p0 .769, p2 .762 against p1 .768, p3 .756: Figure 2",
        ),
        *both.claims("rules add to judges", soft),
    ]


def _verdicts(polls: Mapping[str, Polls]) -> tuple[list[Row], list[Claim]]:
    """List-only prompts: greedy verdicts, their probabilities, and samples."""
    ways = {
        "greedy": polls["judge"],
        "probabilities": polls["probabilities"],
        f"{SAMPLES} samples": polls["samples"],
    }
    rows, found = _compared(ways, "verdicts of list-only prompts")
    greedy, probable, sampled = (found[way, LIST] for way in ways)
    return rows, [
        *probable.claims("probabilities of verdicts beat greedy verdicts (p1 and p3)", greedy),
        *sampled.claims(f"{SAMPLES} samples beat greedy verdicts (p1 and p3)", greedy),
    ]


def _layouts(polls: Mapping[str, Polls]) -> tuple[list[Row], list[Claim]]:
    """The orders of a prompt, where the world has both."""
    if "shared" not in polls:
        return [], []
    paper, shared = "paper's layout", "shared layout"
    ways = {paper: polls["judge"], shared: polls["shared"]}
    rows, found = _compared(ways, "layout of list-only prompts")
    claims = []
    for name in LIST:
        text = f"{name} judges better in the paper's layout than in the shared one"
        claims += found[paper, (name,)].claims(text, found[shared, (name,)])
    return rows, claims


def _compared(
    ways: Mapping[str, Polls], group: str
) -> tuple[list[Row], dict[tuple[str, tuple[str, ...]], Voter]]:
    """p1, p3 and both together, asked in several ways; voters by way and prompts."""
    rows: list[Row] = []
    found: dict[tuple[str, tuple[str, ...]], Voter] = {}
    for way, polls in ways.items():
        for kind in (*((name,) for name in LIST), LIST):
            name, one = f"{' and '.join(kind)}, {way}", polled(_of(polls, *kind))
            rows += [*one.rows(name, group=group), one.auroc.row(name, group=group)]
            found[way, kind] = one
    return rows, found


def _in_turn(polls: Mapping[str, Polls]) -> tuple[list[Row], list[Claim]]:
    """Sequential voting, all four, and as many votes at random."""
    all_four, asked = polls["judge"], polls["in turn"]
    every, turn = polled(all_four), polled(asked)
    assert every.cost is not None
    assert turn.cost is not None
    share = turn.cost / every.cost
    chance = polled({seed: drawn(poll, share, seed) for seed, poll in all_four.items()})
    rows: list[Row] = []
    group = "asking in turn"
    for name, one in (("all four", every), ("in turn", turn), ("votes at random", chance)):
        rows += one.rows(name, group=group)
        rows.append(one.auroc.row(name, group=group))
    for name, poll in (("all four", all_four), ("in turn", asked)):
        rows += polled(poll, HALF).rows(f"{name}, cut at one half", group=group)
    for name in IN_TURN[2:]:
        votes = {seed: (poll.steps, _spared(poll.of(name))) for seed, poll in asked.items()}
        rows.append(shares("share of votes spared", votes).row(f"of {name}", group=group))
    tokens = {
        seed: (poll.steps, np.stack([poll.tokens() - asked[seed].tokens(), poll.tokens()], axis=1))
        for seed, poll in all_four.items()
    }
    rows.append(shares("share of tokens spared", tokens).row("of all four", group=group))
    return rows, [
        *turn.claims(
            f"asking in turn is no worse than asking all four (difference + {MARGIN})",
            every,
            margin=MARGIN,
        ),
        *turn.claims("asking in turn beats as many tokens of votes at random", chance),
    ]


def _spared(poll: Ballots) -> np.ndarray:
    """Votes not asked for and votes, for each solution `[solutions, 2]`."""
    return np.array(
        [[sum(o.finish_reason == NOT_ASKED for o in own), len(own)] for own in poll.cast],
        dtype=float,
    )
