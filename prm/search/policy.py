"""A policy that writes a step at a time.

The engine goes on from what is written so far (the prefill) up to a boundary. A boundary counts
where the step rules (`annotate.pieces.split_steps`) cut, too: a blank line inside a formula, or
after a heading, ends nothing, and the policy is asked to go on. A formula that is never closed so
makes one long step of what follows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

from annotate.pieces import split_steps
from prm.engines import Completion, Engine, EngineConfig, Message, Request
from prm.records import Problem
from prm.search.budget import Budget
from prm.search.tree import EMPTY, REPEATS, TURN, Done, Growth, Path, advance
from verify.answers import extract_answer

PROBLEM = "{problem}"
MOST_EQUAL = 2
"""How often one step may stand in a solution; a policy that writes it once more is in a loop."""

_ENDS = (r"\]", r"\)", "$$", "```")
_BEGIN = re.compile(r"\\begin\{([^{}\n]{1,40})\}")

_UNMARKED = ("bold", "formula", "date or time", "group", "last number", "none")
"""Rules of `verify.answers` that find an answer where none is announced."""


@dataclass(kw_only=True)
class WritingConfig:
    """How steps and solutions are written.

    Attributes:
        system: the system message; empty leaves it out.
        template: the user message; `{problem}` is replaced by the question, once.
        boundaries: texts that end a step. What in them is no white space is part of it (`". "`).
        step_tokens: the most of one step.
        max_tokens: the most of one solution.
        temperature, top_p: of the sampling.
    """

    system: str = ""
    template: str = PROBLEM
    boundaries: list[str] = field(default_factory=lambda: ["\n\n"])
    step_tokens: int = 512
    max_tokens: int = 4096
    temperature: float = 0.8
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not self.boundaries or "" in self.boundaries:
            raise ValueError("boundaries needs at least one text, and none of them empty")
        if not 1 <= self.step_tokens <= self.max_tokens:
            raise ValueError("step_tokens goes from 1 to max_tokens")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError("temperature starts at 0; top_p lies above 0 and goes to 1")
        if self.template.count(PROBLEM) != 1:
            raise ValueError(f"template must hold {PROBLEM} once")


@dataclass(kw_only=True)
class PolicyConfig(WritingConfig):
    """Who writes, and how.

    Attributes:
        engine: the model and the library that runs it.
        system, template, boundaries, step_tokens, max_tokens, temperature, top_p: see
            `WritingConfig`.
    """

    engine: EngineConfig


@dataclass
class _Draft:
    """One draw of a growth while it is written."""

    growth: Growth
    sample: int
    text: str = ""
    tokens: int = 0
    attempts: int = 0
    end: str = ""


class Writer:
    """Knows what to ask for steps, and for whole solutions; whoever drives it asks an engine.

    Args:
        config: how to write.
        seed: every request draws its own from it, from the problem and from what is written.
        scope: set apart from those of other scopes, requests find nothing that these left in an
            engine that keeps what it computed by group.
    """

    def __init__(self, config: WritingConfig, seed: int = 0, scope: str = "") -> None:
        self._config = config
        self._seed = seed
        self._scope = scope
        self._before, _, self._after = config.template.partition(PROBLEM)

    def grow(
        self, growths: Sequence[Growth]
    ) -> Generator[list[Request], list[list[Completion]], list[tuple[list[Path], Budget]]]:
        """Write what is asked for, and tell what each growth cost; all in few calls.

        Yields requests, is sent what `Engine.generate` makes of them.
        """
        found: list[list[Path]] = [[] for _ in growths]
        spent = [Budget() for _ in growths]
        drafts = [[_Draft(growth, sample) for sample in range(growth.count)] for growth in growths]
        # At first all draws of a growth are one request; those that go on are one each.
        waiting = [(index, own) for index, own in enumerate(drafts) if own]
        while waiting:
            answers = yield [self._request(own) for _, own in waiting]
            again = []
            for (index, own), completions in zip(waiting, answers, strict=True):
                spent[index] += Budget(
                    prompt=completions[0].prompt_tokens,
                    cached=completions[0].cached_tokens,
                    written=sum(one.completion_tokens for one in completions),
                    requests=1,
                )
                for draft, completion in zip(own, completions, strict=True):
                    if self._goes_on(draft, completion):
                        again.append((index, [draft]))
            waiting = again
        for index, own in enumerate(drafts):
            found[index] = [self._path(draft) for draft in own]
        return list(zip(found, spent, strict=True))

    def _request(self, drafts: Sequence[_Draft]) -> Request:
        config, first = self._config, drafts[0]
        growth = first.growth
        problem = growth.path.problem
        turns = [Message(role="system", content=config.system)] if config.system else []
        turns.append(Message(role="user", content=self._before + problem.problem + self._after))
        written = growth.path.text + first.text
        return Request(
            messages=tuple(turns),
            max_tokens=self._room(first),
            n=len(drafts),
            temperature=config.temperature,
            top_p=config.top_p,
            seed=_seed(self._seed, problem, growth.key, written, first.sample, first.attempts),
            stop=() if growth.whole else tuple(config.boundaries),
            prefill=written,
            group=f"{self._scope}/{problem.id}" if self._scope else problem.id,
            continues=not growth.whole,
        )

    def _room(self, draft: _Draft) -> int:
        """How many more tokens a draft may have; none below 1."""
        left = self._config.max_tokens - draft.growth.path.tokens - draft.tokens
        if draft.growth.whole:
            return left
        return min(left, self._config.step_tokens - draft.tokens)

    def _goes_on(self, draft: _Draft, answer: Completion) -> bool:
        """Add an answer to a draft; whether its step is not at its end."""
        draft.attempts += 1
        draft.tokens += answer.completion_tokens
        written = draft.text + answer.text
        stop = answer.stopped_at
        if stop is None:  # it was either a boundary or the end of the turn
            stop = "" if _says_answer(written) else self._config.boundaries[0]
            if not answer.text.strip() and draft.growth.path.texts:
                stop = ""
        draft.text = _joinable(written + stop)
        if answer.finish_reason != "stop":
            draft.end = answer.finish_reason
        elif not stop:
            draft.end = TURN
        elif not written.strip():
            draft.end = EMPTY
        elif not is_boundary(written, stop):
            if self._room(draft) >= 1:
                return True
            draft.end = "length"
        return False

    def _path(self, draft: _Draft) -> Path:
        path, end = draft.growth.path, draft.end
        tokens = path.tokens + draft.tokens
        if not draft.text.strip():
            # A turn that ends right after a boundary ends the solution before it.
            end = EMPTY if end in ("", TURN) and not path.texts else end
            return replace(path, tokens=tokens, end=end, count=1)
        if draft.growth.whole:
            texts = tuple(self.cut(draft.text))
        else:
            texts = (draft.text,)
            step = draft.text.strip()
            if not end and path.steps.count(step) >= MOST_EQUAL:
                return replace(path, tokens=tokens, end=REPEATS, count=1)
        if not end and tokens >= self._config.max_tokens:
            end = "length"
        return replace(path, texts=path.texts + texts, tokens=tokens, end=end, count=1)

    def cut(self, text: str) -> Iterator[str]:
        """The steps of a whole solution, where its boundaries would have cut it one by one."""
        start = look = 0
        while True:
            places = [
                (at, stop) for stop in self._config.boundaries if (at := text.find(stop, look)) >= 0
            ]
            if not places:
                break
            at, stop = min(places)
            look = at + len(stop)
            if text[start:at].strip() and text[look:].strip() and is_boundary(text[start:at], stop):
                yield _joinable(text[start:look])
                start = look
        if text[start:].strip():
            yield text[start:]


class Stepper:
    """A writer with an engine.

    Args:
        engine: who writes.
        config: see `Writer`.
        seed, scope: likewise.
    """

    def __init__(
        self, engine: Engine, config: WritingConfig, seed: int = 0, scope: str = ""
    ) -> None:
        self._engine = engine
        self._writer = Writer(config, seed, scope)

    def grow(self, growths: Sequence[Growth]) -> list[tuple[list[Path], Budget]]:
        """See `Writer.grow`.

        Raises:
            EngineError: the engine died.
        """
        writing = self._writer.grow(growths)
        answers: list[list[Completion]] | None = None
        while True:
            asked = advance(writing, answers)
            if isinstance(asked, Done):
                return asked.value
            answers = self._engine.generate(asked)


def is_boundary(text: str, stop: str) -> bool:
    """Whether step rules cut between a text that `stop` ends and a plain sentence after it.

    They know a formula by its end, which is still to be written: so no end that may follow must
    make one of both.
    """
    ends = ["", *_ENDS, *(rf"\end{{{name}}}" for name in set(_BEGIN.findall(text)))]
    after = [f"Next.{end}" for end in ends]
    return all(split_steps(f"{text}{stop}{words}")[-1] == words for words in after)


def _says_answer(text: str) -> bool:
    """Whether a text announces a final answer."""
    return extract_answer([text]).rule not in _UNMARKED


def _joinable(text: str) -> str:
    """Without spaces at the end: tokenizers put them at the start of the next word."""
    return text.rstrip(" \t")


def _seed(seed: int, problem: Problem, key: str, written: str, sample: int, attempt: int) -> int:
    text = f"{seed}/{problem.id}/{key}/{written}/{sample}/{attempt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 2**31
