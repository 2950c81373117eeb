"""`prm solve`: search for solutions with a policy and a reward model.

problems ──policy writes, reward model scores──▶ solutions.jsonl, one a problem and search
                                          └────▶ results.json: accuracy against compute

The reward model is never told a reference: the answer is what is searched for. Whether it was
found is verified afterwards, where the true one is known.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from prm import engines, jsonl
from prm.aggregation import Aggregation
from prm.config import MAY_CHANGE
from prm.errors import ConfigError, RecordError
from prm.progress import bar
from prm.records import STRICT, Failure, Problem, Solution
from prm.run import Counts, Run
from prm.scorers import ScorerConfig, load
from prm.scorers import identify as identify_scorer
from prm.search.beam import beam
from prm.search.budget import Budget, parameters
from prm.search.choice import Choice, choose
from prm.search.curves import Point, curve, format_curve
from prm.search.dvts import dvts
from prm.search.policy import PolicyConfig, Stepper
from prm.search.scoring import PathScorer, path_scorer
from prm.search.solve import solve
from prm.search.tree import Path, Search, ends
from prm.search.whole import best_of_n
from prm.sources import Place, identify, problems
from verify.equivalence import equivalent
from verify.outcomes import outcomes

OUTPUTS = ("solutions.jsonl", "failures.jsonl", "spent.jsonl", "results.json")


@dataclass
class SearchConfig:
    """One way to search.

    Attributes:
        method: `best_of_n` draws n solutions and scores them once. `beam` keeps the best `width`
            paths of each step's n draws. `dvts` keeps the best path of each of `width` subtrees.
        n: draws: of solutions, or of steps in a round.
        width: how many paths go on, each in n / width ways; for `beam` and `dvts`.
        aggregation: how step scores become a reward: min, product, last, mean.
        choice: the solution that is taken at the end: `reward`, `majority` of the final answers,
            or `weighted` by reward.
        steps: the most that a solution of `beam` or `dvts` may have.
    """

    method: Literal["best_of_n", "beam", "dvts"]
    n: int
    width: int | None = None
    aggregation: Aggregation = "min"
    choice: Choice = "reward"
    steps: int = 40

    def __post_init__(self) -> None:
        if self.n < 1 or self.steps < 1:
            raise ValueError("n and steps start at 1")
        if (self.width is None) != (self.method == "best_of_n"):
            raise ValueError(f"width is for beam and dvts, which need it; method is {self.method}")
        if self.width is not None and (self.width < 1 or self.n % self.width):
            raise ValueError(f"width {self.width} does not divide n {self.n}")

    @property
    def name(self) -> str:
        """Stands in the solutions' ids."""
        size = f"{self.n}" if self.width is None else f"{self.n}-{self.width}"
        return f"{self.method}-{size}-{self.aggregation}-{self.choice}"

    def search(self, problem: Problem) -> Search[list[Path]]:
        """The search of one problem."""
        if self.width is None:
            return best_of_n(problem, n=self.n)
        expansions, by_reward = self.n // self.width, self.choice == "reward"
        if self.method == "dvts":
            return dvts(
                problem,
                subtrees=self.width,
                expansions=expansions,
                steps=self.steps,
                aggregation=self.aggregation,
                by_reward=by_reward,
            )
        return beam(
            problem,
            width=self.width,
            expansions=expansions,
            steps=self.steps,
            aggregation=self.aggregation,
            by_reward=by_reward,
        )


@dataclass
class Config:
    """`prm solve`.

    Attributes:
        out: the run folder; gets `solutions.jsonl`, `failures.jsonl`, `spent.jsonl` (tokens, and
            how all paths of a search ended) and `results.json`.
        problems: what is to be solved.
        policy: who writes.
        scorer: the reward model; it is told no reference.
        searches: each goes over all problems.
        seed: of the sampling.
        chunk: problems that go on side by side, between two durable writes.
    """

    out: str
    problems: Place
    policy: PolicyConfig
    scorer: ScorerConfig
    searches: list[SearchConfig]
    seed: int = 0
    chunk: int = field(default=16, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunk is {self.chunk}; it starts at 1")
        if self.scorer.reference not in ("declared", "none"):
            raise ValueError("scorer.reference is of no use: the answer is what is searched for")


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one search of one problem took.

    Attributes:
        id: of its solution, or failure.
        budget: its tokens.
        ends: how many draws ended how; see `Path.end`, reasons left out.
    """

    __pydantic_config__ = STRICT

    id: str
    budget: Budget
    ends: dict[str, int]


def run(config: Config) -> Counts:
    """Search all problems in all ways; resumes where an earlier attempt stopped."""
    _check(config)
    inputs = {"problems": identify(config.problems), "model": identify_scorer(config.scorer)}
    with Run(config.out, "solve", config, inputs, OUTPUTS) as folder:
        if folder.counts is None:
            items = list(problems(config.problems))
            if not items:
                raise RecordError("no problems in this source", path=config.problems)
            with (
                jsonl.Writer(folder.path("spent.jsonl"), Spent) as spent,
                jsonl.Writer(folder.path("solutions.jsonl"), Solution) as out,
                jsonl.Writer(folder.path("failures.jsonl"), Failure) as failed,
            ):
                _solve_all(config, items, spent, out, failed)
                for file in (spent, out, failed):
                    file.commit()
            _finish(config, folder, items)
        assert folder.counts is not None
        print(_told(json.loads(folder.path("results.json").read_text())))
        return folder.counts


def _check(config: Config) -> None:
    if not config.searches:
        raise ConfigError("solve needs at least one entry in `searches`")
    names = [search.name for search in config.searches]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"two searches are {twice}; leave one out")
    if config.policy.temperature == 0 and any(search.n > 1 for search in config.searches):
        raise ConfigError("policy.temperature is 0, which writes the same every time; n must be 1")


def _identity(problem: Problem, search: SearchConfig) -> str:
    return f"{problem.id}/{search.name}"


def _solve_all(
    config: Config,
    items: Sequence[Problem],
    spent: jsonl.Writer,
    out: jsonl.Writer,
    failed: jsonl.Writer,
) -> None:
    done = {*out.finished, *failed.finished}
    todo = {
        search.name: [item for item in items if _identity(item, search) not in done]
        for search in config.searches
    }
    if not any(todo.values()):
        return
    known = set(spent.finished)
    scorer = load(config.scorer)
    try:
        engine = engines.load(config.policy.engine)
        try:
            paths = path_scorer(scorer)
            for search in config.searches:
                stepper = Stepper(engine, config.policy, config.seed, search.name)
                wanted = todo[search.name]
                already = len(items) - len(wanted)
                with bar(f"solve {search.name}", len(items), done=already, unit="problem") as shown:
                    for start in range(0, len(wanted), config.chunk):
                        chunk = wanted[start : start + config.chunk]
                        results = attempt(chunk, search, stepper, paths)
                        spent.write(one for one, _ in results if one.id not in known)
                        failed.write(one for _, one in results if isinstance(one, Failure))
                        out.write(one for _, one in results if isinstance(one, Solution))
                        shown.update(len(chunk))
        finally:
            engine.close()
    finally:
        scorer.close()


def attempt(
    batch: Sequence[Problem], search: SearchConfig, stepper: Stepper, scorer: PathScorer
) -> list[tuple[Spent, Solution | Failure]]:
    """Search a batch of problems in one way: what it took, and what came of it, in order."""
    found, budgets = solve([search.search(problem) for problem in batch], stepper, scorer)
    return [
        _result(problem, search, paths, budgets.get(problem.id, Budget()))
        for problem, paths in zip(batch, found, strict=True)
    ]


def _result(
    problem: Problem, search: SearchConfig, paths: Sequence[Path], budget: Budget
) -> tuple[Spent, Solution | Failure]:
    identity = _identity(problem, search)
    spent = Spent(id=identity, budget=budget, ends=ends(paths))
    chosen = choose(
        paths, search.aggregation, search.choice, lambda a, b: equivalent(a, b).verdict == "equal"
    )
    if chosen is None:
        reasons = Counter(path.end for path in paths)
        return spent, Failure(id=identity, reason=f"no solution: {reasons.most_common(1)[0][0]}")
    metadata: dict[str, Any] = {
        "reward": chosen.reward(search.aggregation),
        "scores": list(chosen.scores),
        "end": chosen.end,
        "budget": asdict(budget),
    }
    return spent, Solution(
        id=identity,
        problem=problem.problem,
        steps=chosen.steps,
        answer=problem.answer,
        reference=problem.reference,
        generator=search.name,
        source=problem.source,
        metadata=metadata,
    )


def _finish(config: Config, folder: Run, items: Sequence[Problem]) -> None:
    found = {item.id: item for item in jsonl.read(folder.path("solutions.jsonl"), Solution)}
    spent = {item.id: item for item in jsonl.read(folder.path("spent.jsonl"), Spent)}
    failures = list(jsonl.read(folder.path("failures.jsonl"), Failure))
    compared = outcomes(list(found.values()))
    right = {
        name: one is not None and one.verdict == "equal"
        for name, one in zip(found, compared, strict=True)
    }
    judged = [item for item in items if item.answer is not None]
    points, ended = [], []
    for search in config.searches:
        names = [_identity(item, search) for item in judged]
        budgets = [spent[name].budget for name in names]
        points.append(
            Point(search.name, search.method, [right.get(name, False) for name in names], budgets)
        )
        every: Counter[str] = Counter()
        for item in items:
            every.update(spent[_identity(item, search)].ends)
        ended.append(dict(every))
    counted = parameters(config.policy.engine.model), parameters(config.scorer.model)
    rows = curve(points, [item.problem for item in judged], counted)
    results = {
        "problems": len(judged),
        "without_answer": len(items) - len(judged),
        "parameters": {"policy": counted[0], "reward": counted[1]},
        "rows": [{**row, "ends": own} for row, own in zip(rows, ended, strict=False)],
    }
    text = json.dumps(results, indent=1, allow_nan=False)
    jsonl.write_text(folder.path("results.json"), text + "\n")
    reasons = Counter(item.reason.split(" (")[0] for item in failures)
    total = sum((item.budget for item in spent.values()), Budget())
    counts = Counts(
        read=len(items) * len(config.searches),
        written=len(found),
        rejected=dict(reasons),
        tokens=total.prompt + total.written,
    )
    folder.finish(counts, OUTPUTS)


def _told(results: dict[str, Any]) -> str:
    if not results["rows"]:
        return f"no accuracy: none of the {results['without_answer']} problems has a true answer"
    return format_curve(results["rows"])
