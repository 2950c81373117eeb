"""What a run will ask and cost, before an engine is loaded: `--dry-run`.

Prompts are rendered and counted for some of the records, evenly spread, and scaled to all. What a
model will write is not known: the table gives the most, and a guess that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from annotate.judge import JudgeSettings, first_requests
from annotate.strategy import Strategy
from annotate.verdicts import longest_answer
from prm.engines import EngineConfig, Request
from prm.engines.chat import ChatEncoder
from prm.errors import CheckpointError
from prm.records import Solution

T = TypeVar("T")

LOOKED_AT = 200
"""Records whose prompts are counted."""
CHARACTERS = 3.5
"""A token's, where no tokenizer is at hand."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One generator's or strategy's share of the work, in tokens over all records.

    Attributes:
        name: the generator or strategy.
        requests: calls of the engine.
        prompt: of the prompts.
        cached: of these, what a prefix cache can have read before: the beginning shared with the
            request before, about the same record or of the same kind.
        expected: written, by the guess.
        most: written, if every answer runs to its limit.
        cost: at the configured prices, with `cached` and `expected`; None without prices.
    """

    name: str = ""
    requests: int = 0
    prompt: int = 0
    cached: int = 0
    expected: int = 0
    most: int = 0
    cost: float | None = None

    def __add__(self, other: Row) -> Row:
        """Both together under the name of the first, without a cost."""
        return Row(
            name=self.name,
            requests=self.requests + other.requests,
            prompt=self.prompt + other.prompt,
            cached=self.cached + other.cached,
            expected=self.expected + other.expected,
            most=self.most + other.most,
        )


@dataclass(frozen=True)
class Forecast:
    """All rows, and what they rest on."""

    rows: Sequence[Row]
    notes: Sequence[str]

    def __str__(self) -> str:
        head = ("", "requests", "tokens in", "cacheable", "out, guess", "out, most", "cost")
        lines: list[tuple[str, ...]] = [head]
        for row in [*self.rows, *([self.total] if len(self.rows) > 1 else [])]:
            cost = "-" if row.cost is None else f"{row.cost:,.2f}"
            numbers = (row.requests, row.prompt, row.cached, row.expected, row.most)
            lines.append((row.name, *(f"{number:,}" for number in numbers), cost))
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        table = [
            "  ".join(
                cell.rjust(width) if column else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        return "\n".join([*table, *self.notes])

    @property
    def total(self) -> Row:
        """The sum of all rows; its cost is unknown where one's is."""
        costs = [row.cost for row in self.rows if row.cost is not None]
        known = sum(costs) if len(costs) == len(self.rows) else None
        return replace(sum(self.rows, Row(name="all")), cost=known)


class Reader:
    """Counts a request's tokens with its engine's tokenizer, or by characters without one.

    Args:
        config: the engine's; None counts by characters.

    Attributes:
        note: how it counts, where that is not exact.
    """

    def __init__(self, config: EngineConfig | None) -> None:
        self.note: str | None = None
        self._encode: Callable[[Request], Sequence[int]] = _by_characters
        if config is None:
            return
        try:
            self._encode = _encoder(config).encode
        except (OSError, ValueError, ImportError, CheckpointError) as error:
            reason = " ".join(str(error).split())[:100]
            self.note = f"{config.name}: {CHARACTERS} characters a token, no tokenizer ({reason})"

    def read(self, request: Request) -> Sequence[int]:
        """The token ids; without a tokenizer as many stand-ins, alike where the text is."""
        return self._encode(request)


class Asking:
    """What a judge is asked under one strategy about the solutions added so far.

    Attributes:
        row: so far, without a cost.
    """

    def __init__(self, name: str, strategy: Strategy, settings: JudgeSettings) -> None:
        self.row = Row(name=name)
        self._strategy = strategy
        self._settings = settings
        self._last: Sequence[int] | None = None

    def add(
        self, item: Solution, reader: Reader, before: Sequence[int] | None
    ) -> Sequence[int] | None:
        """Count a solution, with a reasoning as long as its own.

        Args:
            item: the solution.
            reader: counts tokens.
            before: this solution's prompt under the strategy before.

        Returns:
            Its prompt under this strategy; `before` where it is not asked about.
        """
        asked = first_requests(item, self._strategy, self._settings, "\n".join(item.steps))
        if not asked:
            return before
        prompts = [reader.read(request) for request in asked]
        cached = max(shared(before, prompts[0]), shared(self._last, prompts[0]))
        expected = most = longest_answer(self._strategy.answer, len(item.steps))
        if len(prompts) == 2:
            cached += shared(prompts[0], prompts[1])
            expected += min(self._settings.max_tokens, len(prompts[1]) - len(prompts[0]))
            most += self._settings.max_tokens
        self.row += Row(
            requests=len(asked),
            prompt=sum(map(len, prompts)),
            cached=cached,
            expected=expected,
            most=most,
        )
        self._last = prompts[0]
        return prompts[0]


def _encoder(config: EngineConfig) -> ChatEncoder:
    from transformers import AutoTokenizer

    name = config.model
    if config.endpoint is not None:
        name = config.endpoint.tokenizer or name
    return ChatEncoder(AutoTokenizer.from_pretrained(name, revision=config.revision), name)


def _by_characters(request: Request) -> Sequence[int]:
    text = "\n".join([*(turn.content for turn in request.messages), request.prefill])
    places = range(int(len(text) / CHARACTERS) + 1)
    return [hash(text[int(i * CHARACTERS) : int((i + 1) * CHARACTERS)]) for i in places]


def spread(items: Iterable[T], total: int) -> list[T]:
    """Up to `LOOKED_AT` of the items, evenly spread over all `total`."""
    every = max(1, -(-total // LOOKED_AT))  # rounded up
    return [item for index, item in enumerate(items) if index % every == 0]


def shared(before: Sequence[int] | None, now: Sequence[int]) -> int:
    """How many tokens two prompts have in common at their beginning; the last is always read."""
    if before is None:
        return 0
    same = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), None)
    return min(len(before) if same is None else same, len(now) - 1)


def scaled(row: Row, factor: float, config: EngineConfig) -> Row:
    """A row for all records, from one for those looked at, with its cost."""
    # Nothing is cached from one call of `transformers` to the next.
    cached = 0 if config.kind == "transformers" else round(row.cached * factor)
    prompt, expected = round(row.prompt * factor), round(row.expected * factor)
    return replace(
        row,
        requests=round(row.requests * factor),
        prompt=prompt,
        cached=cached,
        expected=expected,
        most=round(row.most * factor),
        cost=None if config.prices is None else config.prices.cost(prompt, cached, expected),
    )
