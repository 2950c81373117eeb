"""The meter in front of an engine, and what its tokens cost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from prm.engines import Completion, Message, Prices, Request
from prm.engines.meter import Meter


class Canned:
    """Two samples a request, of a prompt that was half in the cache."""

    name = "canned"
    closed = False

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        one = Completion(
            text="x",
            finish_reason="stop",
            prompt_tokens=1000,
            cached_tokens=500,
            completion_tokens=100,
        )
        return [[one, one] for _ in requests]

    def close(self) -> None:
        self.closed = True


def test_the_samples_of_a_request_share_its_prompt() -> None:
    engine = Canned()
    meter = Meter(engine, Prices(input=2.0, output=10.0, cached=1.0))
    request = Request(messages=(Message(role="user", content="?"),), max_tokens=1)
    assert len(meter.generate([request] * 3)) == 3
    assert (meter.prompt_tokens, meter.cached_tokens, meter.completion_tokens) == (3000, 1500, 600)
    cost = (1500 * 2 + 1500 * 1 + 600 * 10) / 1e6
    assert meter.note() == f"3k tokens in (50% cached), 600 out, cost {cost:.2f}"
    meter.close()
    assert engine.closed


def test_without_prices_and_a_cache_nothing_is_said_of_them() -> None:
    assert Meter(Canned()).note() == "0 tokens in, 0 out"


def test_cached_tokens_cost_as_others_unless_said_otherwise() -> None:
    assert Prices(input=2.0, output=0.0).cost(10, 5, 7) == pytest.approx(20 / 1e6)
    assert Prices(input=2.0, output=0.0, cached=0.0).cost(10, 5, 7) == pytest.approx(10 / 1e6)
    with pytest.raises(ValueError, match="negative"):
        Prices(input=-1.0, output=0.0)
