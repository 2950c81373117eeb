"""The LLM judge: for each step of a solution, is it right?

A strategy is a way to ask (arXiv 2502.11520, ensemble prompting): `p0` lets the judge reason
about each step before it gives the list, `p1` shows examples and takes the list alone,
`backward` walks back from the answer and takes the number of the first step that has lost it.

The answer is never searched for in free text. We write `judge_result=` ourselves and let the
engine complete it under a regex of exactly as many verdicts as there are steps (`first_error=`:
under one of the numbers there are). So neither a student's text nor the judge's reasoning about
it can pass for the verdict.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from annotate.sequential import SequentialConfig, not_asked, settled
from annotate.strategy import Layout, Strategy, load_strategy, render
from annotate.verdicts import BEFORE, answer_regex, longest_answer, read_answer
from prm.engines import MOST_ALTERNATIVES, TOO_LONG, Completion, Engine, Request, unfinished
from prm.errors import ConfigError
from prm.records import Judgment, Solution

RESULT = BEFORE["verdicts"]
"""What stands before the list of verdicts."""

RETRY_TEMPERATURE = 0.7
"""A greedy judge would repeat itself, so a retry samples at least at this temperature."""


@dataclass
class JudgeSettings:
    """How to ask, for all strategies.

    Attributes:
        prompts: a prompt set: a folder's path, or the name of one in `annotate/prompts`.
        max_tokens: the most tokens of reasoning (`p0`, `backward`).
        temperature: 0 is greedy.
        seed: of the sampling; each request draws its own seed from it.
        samples: judgments per strategy; more than one needs a temperature.
        layout: the order of a prompt: `paper` as published; `shared` begins alike under all
            strategies, so that an engine with a prefix cache reads a solution once.
        verdicts: `chosen` takes what the judge wrote; `soft` takes how likely 1 was beside 0
            there; see `annotate.verdicts` for a first error.
    """

    prompts: str = "default"
    max_tokens: int = 4096
    temperature: float = 0.0
    seed: int = 0
    samples: int = 1
    layout: Layout = "paper"
    verdicts: Literal["chosen", "soft"] = "chosen"

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.samples < 1 or self.temperature < 0:
            raise ValueError("max_tokens and samples start at 1, temperature at 0")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples is {self.samples} but temperature 0 gives the same each time"
            )


@dataclass(frozen=True, kw_only=True)
class Sequential:
    """What sequential voting has to know of the other voters; see `annotate.sequential`.

    Attributes:
        config: when to stop.
        earlier: for each solution, in order, what voters before this judge said.
        later: the strategies of those after it, one entry for each vote.
    """

    config: SequentialConfig
    earlier: Iterator[Sequence[Judgment]]
    later: Sequence[str] = ()


def judge(
    solutions: Iterable[Solution],
    engine: Engine,
    strategies: Sequence[str],
    *,
    settings: JudgeSettings,
    retries: int = 1,
    chunk: int = 64,
    sequential: Sequential | None = None,
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
        sequential: ask strategy after strategy, in the given order, and only about solutions
            that are not settled; None asks all.

    Yields:
        For each solution one judgment per strategy and sample, strategies in the given order.

    Raises:
        ConfigError: a strategy is unknown or named twice.
        EngineError: the engine died.
    """
    if not strategies or len(set(strategies)) != len(strategies):
        raise ConfigError(f"strategies {list(strategies)}: name at least one, none twice")
    loaded = [load_strategy(name, settings.prompts, settings.layout) for name in strategies]
    return _judge(solutions, engine, loaded, settings, retries, chunk, sequential)


def _judge(
    solutions: Iterable[Solution],
    engine: Engine,
    strategies: Sequence[Strategy],
    settings: JudgeSettings,
    retries: int,
    chunk: int,
    sequential: Sequential | None,
) -> Iterator[tuple[Judgment, ...]]:
    remaining = iter(solutions)
    rounds = [(how, sample) for how in strategies for sample in range(settings.samples)]
    while part := list(itertools.islice(remaining, chunk)):
        if sequential is None:
            cases = [[_Case(item, *how, settings) for how in rounds] for item in part]
            _ask_all(engine, [case for own in cases for case in own], retries)
            for own in cases:
                yield tuple(case.judgment(engine.name) for case in own)
        else:
            yield from _in_turn(part, engine, rounds, settings, retries, sequential)


def _in_turn(
    part: Sequence[Solution],
    engine: Engine,
    rounds: Sequence[tuple[Strategy, int]],
    settings: JudgeSettings,
    retries: int,
    sequential: Sequential,
) -> Iterator[tuple[Judgment, ...]]:
    """Judge a chunk round by round, and only what is not settled yet."""
    before = list(itertools.islice(sequential.earlier, len(part)))
    cast: list[list[Judgment]] = [[] for _ in part]
    for number, (strategy, sample) in enumerate(rounds):
        waiting = [*(how.name for how, _ in rounds[number:]), *sequential.later]
        asked: list[_Case | None] = []
        for item, earlier, own in zip(part, before, cast, strict=True):
            done = settled([*earlier, *own], waiting, len(item.steps), sequential.config)
            asked.append(None if done else _Case(item, strategy, sample, settings))
        _ask_all(engine, [case for case in asked if case is not None], retries)
        for item, own, case in zip(part, cast, asked, strict=True):
            own.append(
                not_asked(engine.name, strategy.name, len(item.steps))
                if case is None
                else case.judgment(engine.name)
            )
    yield from map(tuple, cast)


def first_requests(
    solution: Solution, strategy: Strategy, settings: JudgeSettings, reasoning: str
) -> list[Request]:
    """What a first attempt asks, if the judge reasons so: two requests, or one without reasoning.

    Nothing where the strategy is of no use for the solution.
    """
    case = _Case(solution, strategy, 0, settings)
    if case.error is not None:
        return []
    if not strategy.reasoning:
        return [case.verdict_request(0)]
    first = case.reasoning_request(0)
    case.text = reasoning
    return [first, case.verdict_request(0)]


def _ask_all(engine: Engine, cases: Sequence[_Case], retries: int) -> None:
    """Ask about all cases, and again about those whose answer is unusable."""
    todo = [case for case in cases if case.error is None]
    for attempt in range(retries + 1):
        if not todo:
            break
        _ask(engine, todo, attempt)
        todo = [case for case in todo if case.error is not None and case.retry]


class _Case:
    """One judgment in the making: a solution under one strategy, one sample."""

    def __init__(
        self, solution: Solution, strategy: Strategy, sample: int, settings: JudgeSettings
    ) -> None:
        self.steps = len(solution.steps)
        self.strategy = strategy
        self._soft = settings.verdicts == "soft"
        self._key = f"{settings.seed} {solution.id} {strategy.name} {sample}"
        self._group = solution.id
        self._settings = settings
        self._messages = render(strategy, solution)
        self._verdicts: tuple[float, ...] | None = None
        self._mass: tuple[float, ...] | None = None
        self.text = ""
        self.finish_reason = ""
        self.error = strategy.lacks(solution)
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
            group=self._group,
        )

    def reasoning_request(self, attempt: int) -> Request:
        request = self._request(attempt, self._settings.max_tokens)
        return replace(request, stop=(f"\n{BEFORE[self.strategy.answer][:-1]}",))

    def verdict_request(self, attempt: int) -> Request:
        form, reasoned = self.strategy.answer, f"{self.text.rstrip()}\n\n"
        self.text = (reasoned if self.strategy.reasoning else "") + BEFORE[form]
        # No token is shorter than a character; one more ends the answer.
        request = self._request(attempt, longest_answer(form, self.steps) + 3)
        return replace(
            request,
            prefill=self.text,
            regex=answer_regex(form, self.steps),
            alternatives=MOST_ALTERNATIVES if self._soft else 0,
        )

    def take_reasoning(self, answer: Completion) -> None:
        self._count(answer)
        self.text = answer.text
        self.error = self._unfinished(answer, "reasoning")

    def take_verdict(self, answer: Completion) -> None:
        self._count(answer)
        self.text += answer.text
        self.error = self._unfinished(answer, "verdict")
        if self.error is not None:
            return
        found = read_answer(answer, self.strategy.answer, self.steps, soft=self._soft)
        if isinstance(found, str):
            self.error = found
        else:
            self._verdicts, self._mass = found

    def _count(self, answer: Completion) -> None:
        self.finish_reason = answer.finish_reason
        self._usage["prompt_tokens"] += answer.prompt_tokens
        self._usage["completion_tokens"] += answer.completion_tokens

    def _unfinished(self, answer: Completion, what: str) -> str | None:
        if answer.finish_reason == TOO_LONG:
            # The same prompt again would be no shorter; other reasoning before it might be.
            self.retry = what == "verdict" and self.strategy.reasoning
        return unfinished(answer, what, "judge")

    def judgment(self, judge: str) -> Judgment:
        return Judgment(
            judge=judge,
            strategy=self.strategy.name,
            verdicts=(None,) * self.steps if self._verdicts is None else self._verdicts,
            text=self.text,
            finish_reason=self.finish_reason,
            error=self.error,
            usage=dict(self._usage),
            mass=self._mass,
        )


def _ask(engine: Engine, cases: Sequence[_Case], attempt: int) -> None:
    """One attempt for all cases: reasoning, and answers without it, at once; then the others."""
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
