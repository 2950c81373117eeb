"""`prm sample`: policies write solutions of problems.

A policy is an engine with a prompt and sampling settings. Every policy answers every problem
`samples` times; the text is one step until `prm split` separates it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from prm import jsonl
from prm.config import MAY_CHANGE
from prm.engines import Completion, Engine, EngineConfig, Message, Request, load
from prm.errors import ConfigError
from prm.progress import track
from prm.records import Failure, Problem, Solution
from prm.run import Counts, Run
from prm.sources import Place, identify, problems

PROBLEM = "{problem}"


@dataclass
class PolicyConfig:
    """Who solves, and how.

    Attributes:
        name: stands in each solution as its generator.
        engine: the model and the library that runs it.
        system: the system message; empty leaves it out.
        template: the user message; `{problem}` is replaced by the question, once.
        samples: solutions per problem.
        max_tokens, temperature, top_p: of the sampling.
    """

    name: str
    engine: EngineConfig
    system: str = ""
    template: str = PROBLEM
    samples: int = 1
    max_tokens: int = 2048
    temperature: float = 0.7
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.max_tokens < 1:
            raise ValueError("samples and max_tokens start at 1")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError("temperature starts at 0; top_p lies above 0 and goes to 1")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples is {self.samples} but temperature 0 writes the same text every time"
            )


@dataclass
class Config:
    """`prm sample`.

    Attributes:
        out: the run folder; gets `solutions.jsonl` and `failures.jsonl`.
        problems: what is to be solved.
        policies: who solves it.
        seed: of the sampling; every request draws its own from it.
        chunk: problems between two durable writes.
    """

    out: str
    problems: Place
    policies: list[PolicyConfig] = field(default_factory=list)
    seed: int = 0
    chunk: int = field(default=64, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunk is {self.chunk}; it starts at 1")


def sample(
    batch: Sequence[Problem], policy: PolicyConfig, engine: Engine, seed: int
) -> Iterator[Solution | Failure]:
    """Solve a batch of problems: `samples` results for each, in order.

    A blank answer, or a prompt that does not fit the model, is a `Failure` with the reason.
    """
    requests = [_request(problem, policy, seed) for problem in batch]
    for problem, completions in zip(batch, engine.generate(requests), strict=True):
        for index, completion in enumerate(completions):
            yield _result(problem, policy, completion, f"{problem.id}/{policy.name}/{index}")


def _request(problem: Problem, policy: PolicyConfig, seed: int) -> Request:
    before, _, after = policy.template.partition(PROBLEM)
    turns = [Message(role="system", content=policy.system)] if policy.system else []
    turns.append(Message(role="user", content=before + problem.problem + after))
    digest = hashlib.sha256(f"{seed}/{policy.name}/{problem.id}".encode()).digest()
    return Request(
        messages=tuple(turns),
        max_tokens=policy.max_tokens,
        n=policy.samples,
        temperature=policy.temperature,
        top_p=policy.top_p,
        seed=int.from_bytes(digest[:4], "big") % 2**31,
    )


def _result(
    problem: Problem, policy: PolicyConfig, completion: Completion, identity: str
) -> Solution | Failure:
    if not completion.text.strip():
        return Failure(id=identity, reason=f"no text ({completion.finish_reason})")
    return Solution(
        id=identity,
        problem=problem.problem,
        steps=(completion.text,),
        answer=problem.answer,
        reference=problem.reference,
        generator=policy.name,
        source=problem.source,
        metadata={
            "finish_reason": completion.finish_reason,
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
        },
    )


def _check(config: Config) -> None:
    names = [policy.name for policy in config.policies]
    if not names:
        raise ConfigError("sample needs at least one entry in `policies`")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"two policies are named {twice!r}; names stand in the solutions' ids")
    for policy in config.policies:
        if policy.template.count(PROBLEM) != 1:
            raise ConfigError(f"policy {policy.name!r}: template must hold {PROBLEM} once")


def run(config: Config) -> Counts:
    """Sample from all policies; resumes where an earlier attempt stopped."""
    _check(config)
    with Run(config.out, "sample", config, {"problems": identify(config.problems)}) as folder:
        if folder.counts is not None:
            return folder.counts
        items = list(problems(config.problems))
        with (
            jsonl.Writer(folder.path("solutions.jsonl"), Solution) as out,
            jsonl.Writer(folder.path("failures.jsonl"), Failure) as failed,
        ):
            done = {*out.finished, *failed.finished}
            for policy in config.policies:
                _run_policy(config, policy, items, done, out, failed)
            out.commit()
            failed.commit()
        written = list(jsonl.read(out.path, Solution))
        missing = list(jsonl.read(failed.path, Failure))
        counts = Counts(
            read=len(written) + len(missing),
            written=len(written),
            rejected={"no text": len(missing)} if missing else {},
            tokens=sum(
                item.metadata["prompt_tokens"] + item.metadata["completion_tokens"]
                for item in written
            ),
        )
        return folder.finish(counts, ["solutions.jsonl", "failures.jsonl"])


def _run_policy(
    config: Config,
    policy: PolicyConfig,
    items: Sequence[Problem],
    done: set[str],
    out: jsonl.Writer,
    failed: jsonl.Writer,
) -> None:
    """Let one policy solve what it has not solved, with its engine loaded only meanwhile."""
    wanted = [
        item
        for item in items
        if any(f"{item.id}/{policy.name}/{index}" not in done for index in range(policy.samples))
    ]
    if not wanted:
        return
    engine = load(policy.engine)
    try:
        todo = iter(track(wanted, f"sample {policy.name}", "problem"))
        while chunk := list(islice(todo, config.chunk)):
            results = [
                item for item in sample(chunk, policy, engine, config.seed) if item.id not in done
            ]
            failed.write(item for item in results if isinstance(item, Failure))
            out.write(item for item in results if isinstance(item, Solution))
    finally:
        engine.close()
