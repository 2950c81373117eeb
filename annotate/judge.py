"""The LLM judge: for each step of a solution, is it right?

A strategy is a way to ask (arXiv 2502.11520, ensemble prompting): `p0` lets the judge reason
about each step before it gives the list, `p1` shows examples and takes the list alone.

The list of verdicts is never searched for in free text. We write `judge_result=` ourselves
and let the engine complete it under a regex of exactly as many verdicts as there are steps.
So neither a student's text nor the judge's reasoning about it can pass for the verdict.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from annotate.strategy import Strategy, load_strategy, render
from prm.engines import TOO_LONG, Completion, Engine, Request
from prm.errors import ConfigError
from prm.records import Judgment, Solution

RESULT = "judge_result="
"""What stands before the list of verdicts."""

RETRY_TEMPERATURE = 0.7
"""A greedy judge would repeat itself, so a retry samples at least at this temperature."""


@dataclass
class JudgeSettings:
    """How to ask, for all strategies.

    Attributes:
        prompts: a prompt set: a folder's path, or the name of one in `annotate/prompts`.
        max_tokens: the most tokens of reasoning (`p0`).
        temperature: 0 is greedy.
        seed: of the sampling; each request draws its own seed from it.
        samples: judgments per strategy; more than one needs a temperature.
    """

    prompts: str = "default"
    max_tokens: int = 4096
    temperature: float = 0.0
    seed: int = 0
    samples: int = 1

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.samples < 1 or self.temperature < 0:
            raise ValueError("max_tokens and samples start at 1, temperature at 0")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples is {self.samples} but temperature 0 gives the same each time"
            )


def verdict_regex(steps: int) -> str:
    """What a list of verdicts for `steps` steps looks like."""
    return r"\[[01]" + (rf"(,[01]){{{steps - 1}}}" if steps > 1 else "") + r"\]"


def parse_verdicts(text: str, steps: int) -> tuple[float, ...] | str:
    """The verdicts in a judge's list, or the reason why it is none.

    Takes nothing but one list of as many 0 and 1 as there are steps: engines differ in how
    well they constrain, and a verdict that has to be guessed is no verdict.
    """
    inside = re.fullmatch(r"\s*\[([^\[\]]*)\]\s*", text)
    if inside is None:
        return "the answer is not one list"
    if not inside[1].strip():
        return "the list is empty"
    verdicts = [item.strip() for item in inside[1].split(",")]
    if any(verdict not in ("0", "1") for verdict in verdicts):
        return "a verdict is neither 0 nor 1"
    if len(verdicts) != steps:
        return f"{len(verdicts)} verdicts for {steps} steps"
    return tuple(float(verdict) for verdict in verdicts)


def judge(
    solutions: Iterable[Solution],
    engine: Engine,
    strategies: Sequence[str],
    *,
    settings: JudgeSettings,
    retries: int = 1,
    chunk: int = 64,
) -> Iterator[tuple[Judgment, ...]]:
    """Judge solutions, in their order.

    An unusable answer is asked for again with another seed, then kept with its reason and
    verdicts of None.

    Args:
        solutions: what to judge; read as they are needed.
        engine: who judges.
        strategies: names of strategies in the prompt set.
        settings: how to ask.
        retries: how often to ask again.
        chunk: how many solutions the engine gets at once.

    Yields:
        For each solution one judgment per strategy and sample, strategies in the given order.

    Raises:
        ConfigError: a strategy is unknown or named twice.
        EngineError: the engine died.
    """
    if not strategies or len(set(strategies)) != len(strategies):
        raise ConfigError(f"strategies {list(strategies)}: name at least one, none twice")
    loaded = [load_strategy(name, settings.prompts) for name in strategies]
    return _judge(solutions, engine, loaded, settings, retries, chunk)


def _judge(
    solutions: Iterable[Solution],
    engine: Engine,
    strategies: Sequence[Strategy],
    settings: JudgeSettings,
    retries: int,
    chunk: int,
) -> Iterator[tuple[Judgment, ...]]:
    remaining = iter(solutions)
    while part := list(itertools.islice(remaining, chunk)):
        groups = [
            [
                _Case(solution, strategy, sample, settings)
                for strategy in strategies
                for sample in range(settings.samples)
            ]
            for solution in part
        ]
        todo = [case for group in groups for case in group]
        for attempt in range(retries + 1):
            _ask(engine, todo, attempt)
            todo = [case for case in todo if case.error is not None and case.retry]
            if not todo:
                break
        for group in groups:
            yield tuple(case.judgment(engine.name) for case in group)


def error_share(judgments: Iterable[Judgment]) -> float:
    """The share of judgments that are unusable; 0 where there are none."""
    errors = [judgment.error is not None for judgment in judgments]
    return sum(errors) / len(errors) if errors else 0.0


class _Case:
    """One judgment in the making: a solution under one strategy, one sample."""

    def __init__(
        self, solution: Solution, strategy: Strategy, sample: int, settings: JudgeSettings
    ) -> None:
        self.steps = len(solution.steps)
        self.strategy = strategy
        self._key = f"{settings.seed} {solution.id} {strategy.name} {sample}"
        self._settings = settings
        self._messages = render(strategy, solution)
        self._verdicts: tuple[float, ...] | None = None
        self.text = ""
        self.finish_reason = ""
        self.error: str | None = None
        self.retry = True
        self._usage = {"prompt_tokens": 0, "completion_tokens": 0}

    def _request(self, attempt: int, max_tokens: int) -> Request:
        # A seed of its own makes a judgment independent of what else is judged with it.
        digest = hashlib.sha256(f"{self._key} {attempt}".encode()).digest()
        floor = RETRY_TEMPERATURE if attempt else 0.0
        return Request(
            messages=self._messages,
            max_tokens=max_tokens,
            temperature=max(self._settings.temperature, floor),
            seed=int.from_bytes(digest[:4]) >> 1,
        )

    def reasoning_request(self, attempt: int) -> Request:
        request = self._request(attempt, self._settings.max_tokens)
        return replace(request, stop=(f"\n{RESULT[:-1]}",))

    def verdict_request(self, attempt: int) -> Request:
        self.text = f"{self.text.rstrip()}\n\n{RESULT}" if self.strategy.reasoning else RESULT
        # No token is shorter than a character; one more ends the answer.
        request = self._request(attempt, 2 * self.steps + 4)
        return replace(request, prefill=self.text, regex=verdict_regex(self.steps))

    def take_reasoning(self, answer: Completion) -> None:
        self._count(answer)
        self.text = answer.text
        self.error = None
        if answer.finish_reason != "stop":
            self.error = self._cut(answer, "reasoning")

    def take_verdict(self, answer: Completion) -> None:
        self._count(answer)
        self.text += answer.text
        verdicts = parse_verdicts(answer.text, self.steps)
        if answer.finish_reason != "stop":
            self.error = self._cut(answer, "verdict")
        elif isinstance(verdicts, str):
            self.error = verdicts
        else:
            self.error, self._verdicts = None, verdicts

    def _count(self, answer: Completion) -> None:
        self.finish_reason = answer.finish_reason
        self._usage["prompt_tokens"] += answer.prompt_tokens
        self._usage["completion_tokens"] += answer.completion_tokens

    def _cut(self, answer: Completion, what: str) -> str:
        if answer.finish_reason == TOO_LONG:
            # The same prompt again would be no shorter; other reasoning before it might be.
            self.retry = what == "verdict" and self.strategy.reasoning
            return f"prompt of {answer.prompt_tokens} tokens exceeds the judge's context"
        if answer.finish_reason == "length":
            return f"{what} cut at {answer.completion_tokens} tokens"
        return f"{what} ended by {answer.finish_reason!r}"

    def judgment(self, judge: str) -> Judgment:
        return Judgment(
            judge=judge,
            strategy=self.strategy.name,
            verdicts=(None,) * self.steps if self._verdicts is None else self._verdicts,
            text=self.text,
            finish_reason=self.finish_reason,
            error=self.error,
            usage=dict(self._usage),
        )


def _ask(engine: Engine, cases: Sequence[_Case], attempt: int) -> None:
    """One attempt for all cases: the reasoning and the plain lists at once, then the lists."""
    requests = [
        case.reasoning_request(attempt)
        if case.strategy.reasoning
        else case.verdict_request(attempt)
        for case in cases
    ]
    reasoned = []
    for case, (answer,) in zip(cases, engine.generate(requests), strict=True):
        if not case.strategy.reasoning:
            case.take_verdict(answer)
            continue
        case.take_reasoning(answer)
        if case.error is None:
            reasoned.append(case)
    if not reasoned:
        return
    answers = engine.generate([case.verdict_request(attempt) for case in reasoned])
    for case, (answer,) in zip(reasoned, answers, strict=True):
        case.take_verdict(answer)
