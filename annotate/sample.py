"""`prm sample`: policies write solutions of problems.

A policy is an engine with prompts and sampling settings. Every policy answers every problem
`samples` times under each of its prompts; the text is one step until `prm split` separates it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from annotate.forecast import Forecast, Reader, Row, scaled, shared, spread
from annotate.selection import set_aside
from prm import jsonl
from prm.config import MAY_CHANGE
from prm.engines import Completion, Engine, EngineConfig, Message, Request, load
from prm.engines.meter import Meter
from prm.errors import ConfigError
from prm.progress import bar
from prm.records import Failure, Problem, Solution
from prm.run import Counts, Run
from prm.sources import Place, identify, problems

PROBLEM = "{problem}"
ANSWER = 600
"""Tokens of an answer, as `forecast` guesses them."""
OPEN, CLOSE = "<think>", "</think>"
"""Around what a model thinks, as most of them write it themselves."""


OUTPUTS = ("solutions.jsonl", "failures.jsonl")


@dataclass
class PromptConfig:
    """One way to ask a policy.

    Attributes:
        name: stands in the generator's name, after the policy's.
        system: the system message; empty leaves it out.
        template: the user message; `{problem}` is replaced by the question, once.
    """

    name: str
    system: str = ""
    template: str = PROBLEM


@dataclass
class PolicyConfig:
    """Who solves, and how.

    Attributes:
        name: stands in each solution as its generator.
        engine: the model and the library that runs it; loaded once for neighbours that share it.
        system, template: its only prompt, see `PromptConfig`; or
        prompts: several, each a generator of its own, named `{policy}-{prompt}`.
        samples: solutions per problem and prompt.
        max_tokens, temperature, top_p: of the sampling.
        thinking: what a long-CoT model thinks before it answers. `keep`: it is part of the
            solution, between `<think>` and `</think>`, also where a server tells it apart.
            `apart`: it stands in the metadata, and the solution is the answer alone.
    """

    name: str
    engine: EngineConfig
    system: str = ""
    template: str = PROBLEM
    prompts: list[PromptConfig] = field(default_factory=list)
    samples: int = 1
    max_tokens: int = 2048
    temperature: float = 0.7
    top_p: float = 1.0
    thinking: Literal["keep", "apart"] = "keep"

    def __post_init__(self) -> None:
        if self.samples < 1 or self.max_tokens < 1:
            raise ValueError("samples and max_tokens start at 1")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError("temperature starts at 0; top_p lies above 0 and goes to 1")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples is {self.samples} but temperature 0 writes the same text every time"
            )
        if self.prompts and (self.system or self.template != PROBLEM):
            raise ValueError("give `prompts`, or one `system` and `template`, not both")

    @property
    def generators(self) -> list[PromptConfig]:
        """Its prompts under the names of their generators."""
        if not self.prompts:
            return [PromptConfig(self.name, self.system, self.template)]
        return [replace(prompt, name=f"{self.name}-{prompt.name}") for prompt in self.prompts]


@dataclass
class Config:
    """`prm sample`.

    Attributes:
        out: the run folder; gets `solutions.jsonl` and `failures.jsonl`.
        problems: what is to be solved.
        policies: who solves it.
        distinct: of texts about one problem that differ in white space alone, keep the first.
        balanced: keep as many solutions of every generator as of the one with the fewest, by lot.
        seed: of the sampling; every request draws its own from it.
        chunk: problems between two durable writes.
    """

    out: str
    problems: Place
    policies: list[PolicyConfig] = field(default_factory=list)
    distinct: bool = False
    balanced: bool = False
    seed: int = 0
    chunk: int = field(default=64, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunk is {self.chunk}; it starts at 1")


def sample(
    batch: Sequence[Problem], policy: PolicyConfig, engine: Engine, seed: int
) -> Iterator[Solution | Failure]:
    """Solve a batch of problems: `samples` results for each and each prompt, in order.

    A blank answer, or a prompt that does not fit the model, is a `Failure` with the reason.
    """
    asked = [(problem, prompt) for problem in batch for prompt in policy.generators]
    requests = [_request(problem, prompt, policy, seed) for problem, prompt in asked]
    for (problem, prompt), answers in zip(asked, engine.generate(requests), strict=True):
        for index, answer in enumerate(answers):
            yield _result(problem, prompt.name, index, answer, policy.thinking)


def _request(problem: Problem, prompt: PromptConfig, policy: PolicyConfig, seed: int) -> Request:
    before, _, after = prompt.template.partition(PROBLEM)
    turns = [Message(role="system", content=prompt.system)] if prompt.system else []
    turns.append(Message(role="user", content=before + problem.problem + after))
    digest = hashlib.sha256(f"{seed}/{prompt.name}/{problem.id}".encode()).digest()
    return Request(
        messages=tuple(turns),
        max_tokens=policy.max_tokens,
        n=policy.samples,
        temperature=policy.temperature,
        top_p=policy.top_p,
        seed=int.from_bytes(digest[:4], "big") % 2**31,
        group=problem.id,
    )


def _identity(problem: Problem, generator: str, index: int) -> str:
    return f"{problem.id}/{generator}/{index}"


def _result(
    problem: Problem, generator: str, index: int, answer: Completion, thinking: str
) -> Solution | Failure:
    text, thought = answer.text, answer.reasoning
    if thinking == "keep" and thought:
        text = f"{OPEN}\n{thought.strip()}\n{CLOSE}\n\n{text}"
    elif thinking == "apart" and not thought and CLOSE in text:
        thought, _, text = text.rpartition(CLOSE)
        thought, text = thought.strip().removeprefix(OPEN), text.lstrip()
    elif thinking == "apart" and not thought and text.lstrip().startswith(OPEN):
        thought, text = text, ""  # cut before it came to an end
    identity = _identity(problem, generator, index)
    if not text.strip():
        what = "thoughts and no answer" if thought else "no text"
        return Failure(id=identity, reason=f"{what} ({answer.finish_reason})")
    metadata: dict[str, Any] = {
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
    }
    if thinking == "apart" and thought:
        metadata["thinking"] = thought.strip()
    return Solution(
        id=identity,
        problem=problem.problem,
        steps=(text,),
        answer=problem.answer,
        reference=problem.reference,
        generator=generator,
        source=problem.source,
        metadata=metadata,
    )


def _check(config: Config) -> None:
    if not config.policies:
        raise ConfigError("sample needs at least one entry in `policies`")
    prompts = [prompt for policy in config.policies for prompt in policy.generators]
    names = [prompt.name for prompt in prompts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"two policies are named {twice!r}; names stand in the solutions' ids")
    for prompt in prompts:
        if prompt.template.count(PROBLEM) != 1:
            raise ConfigError(f"policy {prompt.name!r}: template must hold {PROBLEM} once")


def forecast(config: Config) -> Forecast:
    """What the policies will be asked and cost."""
    _check(config)
    total = sum(1 for _ in problems(config.problems))
    items = spread(problems(config.problems), total)
    rows = []
    notes = [f"{total:,} problems, {len(items):,} looked at; guess: {ANSWER} tokens an answer"]
    for policy in config.policies:
        reader = Reader(policy.engine)
        notes += [reader.note] if reader.note else []
        for prompt in policy.generators:
            row = Row(name=prompt.name)
            last: Sequence[int] | None = None
            for item in items:
                read = reader.read(_request(item, prompt, policy, config.seed))
                row += Row(
                    requests=1,
                    prompt=len(read),
                    cached=shared(last, read),
                    expected=policy.samples * min(ANSWER, policy.max_tokens),
                    most=policy.samples * policy.max_tokens,
                )
                last = read
            rows.append(scaled(row, total / max(1, len(items)), policy.engine))
    return Forecast(rows, notes)


def run(config: Config) -> Counts:
    """Sample from all policies; resumes where an earlier attempt stopped."""
    _check(config)
    inputs = {"problems": identify(config.problems)}
    with Run(config.out, "sample", config, inputs, [*OUTPUTS, "sampled.jsonl"]) as folder:
        if folder.counts is not None:
            return folder.counts
        selecting = config.distinct or config.balanced
        sampled = folder.path("sampled.jsonl" if selecting else "solutions.jsonl")
        with (
            jsonl.Writer(sampled, Solution) as out,
            jsonl.Writer(folder.path("failures.jsonl"), Failure) as failed,
        ):
            _sample_all(config, out, failed)
            out.commit()
            left: dict[str, str] = {}
            if selecting:
                left = set_aside(
                    jsonl.read(sampled, Solution),
                    distinct=config.distinct,
                    balanced=config.balanced,
                    seed=config.seed,
                )
                known = set(failed.finished)
                failed.write(Failure(id=i, reason=r) for i, r in left.items() if i not in known)
                kept = (item for item in jsonl.read(sampled, Solution) if item.id not in left)
                jsonl.write(folder.path("solutions.jsonl"), kept)
            failed.commit()
        return folder.finish(_count(folder, sampled), OUTPUTS)


def _sample_all(config: Config, out: jsonl.Writer, failed: jsonl.Writer) -> None:
    """Let every policy solve what it has not solved; one engine is loaded at a time."""
    items = list(problems(config.problems))
    done = {*out.finished, *failed.finished}
    meter: Meter | None = None
    loaded: EngineConfig | None = None
    try:
        for policy in config.policies:
            wanted = [item for item in items if not done.issuperset(_wanted(item, policy))]
            if not wanted:
                continue
            if meter is None or loaded != policy.engine:
                if meter is not None:
                    meter.close()
                meter, loaded = Meter(load(policy.engine), policy.engine.prices), policy.engine
            with bar(
                f"sample {policy.name}", len(items), done=len(items) - len(wanted), unit="problem"
            ) as shown:
                for start in range(0, len(wanted), config.chunk):
                    chunk = wanted[start : start + config.chunk]
                    results = sample(chunk, policy, meter, config.seed)
                    fresh = [item for item in results if item.id not in done]
                    failed.write(item for item in fresh if isinstance(item, Failure))
                    out.write(item for item in fresh if isinstance(item, Solution))
                    shown.update(len(chunk))
                    shown.set_postfix_str(meter.note(), refresh=False)
    finally:
        if meter is not None:
            meter.close()


def _wanted(problem: Problem, policy: PolicyConfig) -> list[str]:
    """The ids of all that a policy writes about a problem."""
    return [
        _identity(problem, prompt.name, index)
        for prompt in policy.generators
        for index in range(policy.samples)
    ]


def _count(folder: Run, sampled: Path) -> Counts:
    reasons: Counter[str] = Counter()
    for item in jsonl.read(folder.path("failures.jsonl"), Failure):
        # Without the part that differs from one to the next.
        reasons[item.reason.split(" (")[0].split(" as ")[0]] += 1
    written = sum(1 for _ in jsonl.read(folder.path("solutions.jsonl"), Solution))
    tokens = sum(
        item.metadata["prompt_tokens"] + item.metadata["completion_tokens"]
        for item in jsonl.read(sampled, Solution)
    )
    return Counts(
        read=written + reasons.total(), written=written, rejected=dict(reasons), tokens=tokens
    )
