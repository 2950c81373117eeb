"""A meter in front of an engine: what it was asked and what it cost."""

from __future__ import annotations

from collections.abc import Sequence

from prm.engines.base import Completion, Engine, Prices, Request


class Meter:
    """Passes requests on to an engine and adds up the tokens of its answers.

    Args:
        engine: who answers.
        prices: of its tokens; None leaves costs out.

    Attributes:
        prompt_tokens, cached_tokens, completion_tokens: of their answers.
    """

    def __init__(self, engine: Engine, prices: Prices | None = None) -> None:
        self.name = engine.name
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        self._engine = engine
        self._prices = prices

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """See `Engine.generate`."""
        answers = self._engine.generate(requests)
        for completions in answers:
            # The samples of one request share its prompt.
            self.prompt_tokens += completions[0].prompt_tokens
            self.cached_tokens += completions[0].cached_tokens
            self.completion_tokens += sum(one.completion_tokens for one in completions)
        return answers

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.close()

    def note(self) -> str:
        """Tokens in and out, those from the cache, and the cost, in a few words."""
        words = f"{_short(self.prompt_tokens)} tokens in"
        if self.cached_tokens:
            words += f" ({self.cached_tokens / self.prompt_tokens:.0%} cached)"
        words += f", {_short(self.completion_tokens)} out"
        if self._prices is not None:
            cost = self._prices.cost(self.prompt_tokens, self.cached_tokens, self.completion_tokens)
            words += f", cost {cost:,.2f}"
        return words


def _short(number: int) -> str:
    """A count in at most four digits: 987, 12.3k, 4.56M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
