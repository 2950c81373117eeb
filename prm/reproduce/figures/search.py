"""Search by steps against best of N (the paper's Figure 7): right answers, and at equal tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from prm import config as configuration
from prm import jsonl
from prm.records import Problem, Solution, problem_key
from prm.reproduce.figure import Claim, Figure, Row
from prm.reproduce.lab import TEMPERATURE, Lab
from prm.reproduce.measured import Sums, made
from prm.search.budget import Budget, parameters
from prm.search.online import SearchConfig, Spent
from universalbench import resampling
from verify.outcomes import outcomes

TITLE = "Search by steps and best of N, at equal tokens"
RIGHT, OVER = "right answers", "right answers over best of N"

BEST, MAJORITY, BEAM, DVTS = "best of N by PRM", "majority", "beam search", "DVTS"
ORM = "best of N by ORM"
WAYS = 4
"""In how many ways a path goes on: of a round's draws, a fourth is kept."""
WIDE = 16
"""Draws of searches that are 4 wide: those of the claims."""
LINE = (1, 4, 16, 48)
"""N of best of N."""
PAPER = {(BEAM, WIDE): 0.58, (BEST, 1): 0.31, (ORM, 4): 0.43}
"""A beam of width 4, one solution, the best of 4 by an outcome model: Figure 7."""
STEP = 512
"""Tokens of a step, at most."""

WRITTEN, POLICY, BOTH, FLOPS = ACCOUNTS = (
    "tokens written", "policy tokens", "tokens of both models", "GFLOPs",
)  # fmt: skip
"""What searches may spend alike. Policy tokens are those written and those of all prompts, which
end with what is written so far; FLOPs are two a parameter and token."""

Tables = Mapping[int, np.ndarray]
"""Seed → what each problem adds, `[problems, 2 + accounts]`: 1, a right answer, what it took."""


def _stepwise(method: str, n: int) -> SearchConfig:
    return SearchConfig(method=method, n=n, width=n // WAYS)  # type: ignore[arg-type]


SEARCHES: dict[str, dict[int, SearchConfig]] = {
    BEST: {n: SearchConfig(method="best_of_n", n=n) for n in LINE},
    MAJORITY: {WIDE: SearchConfig(method="best_of_n", n=WIDE, choice="majority")},
    BEAM: {n: _stepwise("beam", n) for n in (4, 8, WIDE)},
    # One subtree would be a beam of width 1.
    DVTS: {n: _stepwise("dvts", n) for n in (8, WIDE)},
}
BY_ORM = {ORM: {4: SearchConfig(method="best_of_n", n=4, aggregation="last")}}


def declare(lab: Lab) -> None:
    """The cells of this figure."""
    for seed in lab.seeds:
        _cells(lab, seed)


def measure(lab: Lab) -> Figure:
    """What they came to."""
    found = _read(lab)
    line = [found[BEST, n] for n in LINE]
    rows: list[Row] = []
    for (name, n), own in found.items():
        tokens = spend(own, POLICY).row(name).value.value
        rows.append(
            accuracy(own).row(
                name, group="draws", x=float(n), cost=tokens, paper=PAPER.get((name, n)),
                headline=(name, n) == (BEAM, WIDE),
            )
        )  # fmt: skip
    for account in ACCOUNTS:
        rows += [
            gain(own, line, account).row(name, group="draws", x=float(n))
            for (name, n), own in found.items()
            if name in (BEAM, DVTS, MAJORITY)
        ]
    for account in ACCOUNTS:
        rows += [
            spend(own, account).row(name, group="draws", x=float(n))
            for (name, n), own in found.items()
        ]
    return Figure(
        name="search",
        title=TITLE,
        rows=tuple(rows),
        claims=tuple(_claims(found, line)),
        solutions=sum(int(own[:, 0].sum()) for one in found.values() for own in one.values()),
        problems=sum(int(own[:, 0].sum()) for own in line[0].values()),
        command=lab.command("search"),
        notes=(
            f"The policy is {lab.world.chooser} at temperature {TEMPERATURE:g}; reward models are "
            "told no reference, and a solution's reward is the min of its step scores (by the ORM: "
            f"the last). Draws are solutions, or steps in a round, each path going on in {WAYS} "
            f"ways: of {WIDE} draws {WIDE // WAYS} paths are kept.",
            "At equal tokens: a search is held against a straight line through best of N = "
            f"{', '.join(map(str, LINE))} over the logarithm of what they took, read at what the "
            "search took, mean tokens a problem both. Intervals draw problems with their answers "
            "and tokens; outside of the line there is no value.",
            f"{POLICY.capitalize()} count every prompt in full, and a step's prompt is all that is "
            f"written so far; what an engine computes that keeps a cache of prefixes, as ours do, "
            f"is nearer to {WRITTEN}. Majority "
            "needs no reward model and is charged for none.",
            "The paper's policy, its problems and the draws of its beam of width 4 are not public.",
        ),
    )


def _claims(found: Mapping[tuple[str, int], Tables], line: Sequence[Tables]) -> list[Claim]:
    beam, dvts = found[BEAM, WIDE], found[DVTS, WIDE]
    four = f"a beam of width {WIDE // WAYS}"
    searches = {four: beam, f"DVTS of {WIDE // WAYS} subtrees": dvts}
    claims = []
    for name, own in searches.items():
        for account in (POLICY, WRITTEN):
            over = gain(own, line, account)
            text = f"{name} beats best of N for as many tokens"
            value = over.row(text)
            claims.append(made(text, "", over.metric, value.value, value.seeds))
    return [
        *claims,
        accuracy(beam).claim(
            f"{four} beats one solution (pass@1)",
            accuracy(found[BEST, 1]),
            ".58 against .31: Figure 7",
        ),
        accuracy(beam).claim(
            f"{four} beats the best of 4 by an ORM",
            accuracy(found[ORM, 4]),
            ".58 against .43: Figure 7",
        ),
    ]


def accuracy(tables: Tables) -> Sums:
    """The share of right answers."""
    return Sums(tables, lambda sums: resampling.ratio(sums[..., 1], sums[..., 0]), RIGHT)


def spend(tables: Tables, account: str) -> Sums:
    """What a problem took, on average."""
    column = _column(account)
    return Sums(tables, lambda sums: resampling.ratio(sums[..., column], sums[..., 0]), account)


def gain(tables: Tables, line: Sequence[Tables], account: str) -> Sums:
    """What a search has over a line through its peers at what it took; see `over_line`."""
    column = _column(account)
    joined = {
        seed: np.concatenate(
            [own[:, :1], *(one[seed][:, [1, column]] for one in (tables, *line))], axis=1
        )
        for seed, own in tables.items()
    }
    return Sums(joined, over_line, f"{OVER} at equal {account}")


def _column(account: str) -> int:
    return 2 + ACCOUNTS.index(account)


def over_line(sums: np.ndarray) -> np.ndarray:
    """How far a search lies above a line through its peers, straight over the logarithm of cost.

    Args:
        sums: of problems, then of right answers and cost of the search and of each peer,
            `[..., 3 + 2 peers]`.

    Returns:
        `[...]`, NaN where the search costs less than any peer, or more.
    """
    rows = sums.reshape(-1, sums.shape[-1])
    right, cost = rows[:, 1::2] / rows[:, :1], np.log(rows[:, 2::2])
    order = cost[:, 1:].argsort(axis=1)
    xs = np.take_along_axis(cost[:, 1:], order, axis=1)
    ys = np.take_along_axis(right[:, 1:], order, axis=1)
    reached = [
        np.interp(at, x, y, left=np.nan, right=np.nan)
        for at, x, y in zip(cost[:, 0], xs, ys, strict=True)
    ]
    found: np.ndarray = (right[:, 0] - np.array(reached)).reshape(sums.shape[:-1])
    return found


# Cells


def _cells(lab: Lab, seed: int) -> list[tuple[str, str, dict[str, dict[int, SearchConfig]]]]:
    """Folders of `prm solve`, the reward model of each, and what it ran."""
    chooser = lab.chooser
    policy = {
        "engine": configuration.to_dict(chooser.engine),
        "system": chooser.system,
        "template": chooser.template,
        "boundaries": list(lab.world.boundaries),
        "step_tokens": min(STEP, chooser.max_tokens),
        "max_tokens": chooser.max_tokens,
        "temperature": chooser.temperature,
        "top_p": chooser.top_p,
    }

    def solve(name: str, model: str, searches: dict[str, dict[int, SearchConfig]]) -> str:
        wanted = [search for own in searches.values() for search in own.values()]
        return lab.add(
            f"{seed}/{name}",
            "solve",
            problems={"path": f"{lab.problems(seed)}/choices.jsonl"},
            policy=policy,
            scorer={"model": model, "reference": "none", "batch_tokens": 4096},
            searches=[configuration.to_dict(search) for search in wanted],
            seed=seed,
        )

    models = lab.shared_model(seed), lab.outcome_model(seed)
    return [
        (solve("solve", models[0], SEARCHES), models[0], SEARCHES),
        (solve("solve-orm", models[1], BY_ORM), models[1], BY_ORM),
    ]


def _read(lab: Lab) -> dict[tuple[str, int], Tables]:
    """Search and draws → what came of it."""
    found: dict[tuple[str, int], dict[int, np.ndarray]] = {}
    policy = parameters(lab.chooser.engine.model)
    for seed in lab.seeds:
        problems = jsonl.read(lab.path(f"{lab.problems(seed)}/choices.jsonl"), Problem)
        judged = [problem for problem in problems if problem.answer is not None]
        for folder, model, searches in _cells(lab, seed):
            counted = policy, parameters(str(lab.path(model)))
            right, spent = _solved(lab.path(folder))
            for name, own in searches.items():
                for n, search in own.items():
                    ids = [f"{problem.id}/{search.name}" for problem in judged]
                    # As without a cache, so that runs on any engine can be held together.
                    budgets = [replace(spent[one], cached=0) for one in ids]
                    if name == MAJORITY:
                        budgets = [replace(budget, read=0) for budget in budgets]
                    hits = [right.get(one, False) for one in ids]
                    found.setdefault((name, n), {})[seed] = table(judged, hits, budgets, counted)
    return dict(found)


def _solved(folder: Path) -> tuple[dict[str, bool], dict[str, Budget]]:
    """Whether each solution's answer is right, and what each search took; by id."""
    solutions = list(jsonl.read(folder / "solutions.jsonl", Solution))
    right = {
        item.id: outcome is not None and outcome.verdict == "equal"
        for item, outcome in zip(solutions, outcomes(solutions), strict=True)
    }
    return right, {item.id: item.budget for item in jsonl.read(folder / "spent.jsonl", Spent)}


def table(
    problems: Sequence[Problem],
    right: Sequence[bool],
    budgets: Sequence[Budget],
    counted: tuple[int | None, int | None],
) -> np.ndarray:
    """See `Tables`; `counted` are the parameters of policy and reward model, where known."""
    rows = []
    for hit, budget in zip(right, budgets, strict=True):
        flops = np.nan
        if counted[0] is not None and counted[1] is not None:
            flops = budget.flops(counted[0], counted[1]) / 1e9
        rows.append([1, hit, budget.written, budget.policy, budget.computed, flops])
    keys = [problem_key(problem.problem) for problem in problems]
    return resampling.by_cluster(rows, resampling.clusters(keys))
