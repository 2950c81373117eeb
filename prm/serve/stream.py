"""Solutions under way in an engine that takes up more at any time, and whose they are."""

from __future__ import annotations

import time
from typing import Any

from prm.scorers.base import FlowingScorer
from prm.serve.metrics import Metrics
from prm.serve.outcomes import Outcome, broken, outcome_of
from prm.serve.ticket import Ticket
from prm.serve.waiting import Entry


class Stream:
    """What is under way. For the model's thread.

    Args:
        scorer: what scores.
        metrics: where solutions are counted.

    Attributes:
        held: the cost of all that is under way.
    """

    def __init__(self, scorer: FlowingScorer, metrics: Metrics) -> None:
        self.held = 0
        self._scorer = scorer
        self._metrics = metrics
        self._under_way: dict[int, tuple[Entry[Any], float]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def tickets(self) -> set[Ticket]:
        """Of the requests that have solutions under way."""
        return {entry.request for entry, _ in self._under_way.values()}

    def begin(self, entry: Entry[Any]) -> None:
        """Hand a solution of a ticket to the engine.

        Raises:
            EngineError: it died.
        """
        number = self._scorer.flow.begin(self._scorer.course(entry.item))
        self._under_way[number] = entry, time.monotonic()
        self.held += entry.cost

    def advance(self, *, wait: bool = True) -> list[tuple[Entry[Any], Outcome, int]]:
        """The solutions that are done, with the tokens read and written for them.

        Args:
            wait: a little, where none is yet.

        Raises:
            EngineError: the engine died.
        """
        done = []
        together = len(self._under_way)
        for number in self._scorer.flow.advance(wait=wait):
            entry, began = self._leave(number)
            tokens = 0
            try:
                result, tokens = self._scorer.flow.collect(number)
                outcome = outcome_of(entry.item, result)
            except Exception as error:  # noqa: BLE001 - it harms no other solution
                outcome = broken(error, entry.request.request_id)
            self._metrics.batch(together, time.monotonic() - began)
            done.append((entry, outcome, tokens))
        return done

    def drop(self, tickets: set[Ticket]) -> None:
        """Break off what requests have under way."""
        for number, (entry, _) in [*self._under_way.items()]:
            if entry.request in tickets:
                self._leave(number)
                self._scorer.flow.drop(number)

    def _leave(self, number: int) -> tuple[Entry[Any], float]:
        found = self._under_way.pop(number)
        self.held -= found[0].cost
        return found
