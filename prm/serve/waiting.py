"""What waits for the model: whose turn it is, and what makes a batch with it.

Order. Every request gets an equal share of the model while it waits: an item's place is the virtual
time at which its request came, plus the cost of the request's items before it; virtual time passes
with the cost of what is taken, divided by the requests that share the model. So requests of one
item are served in the order of arrival, a request of thousands holds nobody longer than a batch,
and none starves, for virtual time passes every place in the end (fair queueing: Demers, Keshav and
Shenker, SIGCOMM 1989).

Batches. Where the model pads, the item whose turn it is is joined by those nearest to its length,
at most a third longer or shorter, up to one padded forward: short ones neither wait for a long
one's forward nor are padded to it. Where nothing is padded, those that wait are taken in their
order. What needs the model to itself has its turn alone.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from prm.scorers.base import Batching

Item = TypeVar("Item")

ALIKE = 4 / 3
"""By which factor lengths of one batch may differ from that of the item whose turn it is. The
closer they are, the less is padded, and the smaller a batch: with 64 clients on a CPU, 2 took 4 %
more of its seconds, and 1.15 took 7 % less in batches of two thirds the size. No GPU was measured.
"""


@dataclass(order=True)
class Entry(Generic[Item]):
    """One item that waits.

    Attributes:
        place: its virtual time.
        number: of arrival, which decides between equal places.
        cost: about how many tokens it has, at least 1.
        request: whose it is.
        index: its place in the request.
        alone: whether it makes a batch by itself.
    """

    place: float
    number: int
    cost: int = field(compare=False)
    request: Any = field(compare=False)
    index: int = field(compare=False)
    item: Item = field(compare=False)
    alone: bool = field(compare=False, default=False)


class Waiting(Generic[Item]):
    """The queue; see the module. Whoever uses it sees to locks.

    Attributes:
        batching: what a batch may be.
        requests: how many items of each request wait.
    """

    def __init__(self, batching: Batching) -> None:
        self.batching = batching
        self.requests: dict[object, int] = {}
        self._entries: list[Entry[Item]] = []  # by place
        self._now = 0.0
        self._number = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(
        self,
        request: object,
        items: Sequence[Item],
        costs: Sequence[int],
        *,
        alone: bool = False,
    ) -> None:
        """Put a request's items where they belong."""
        place = self._now
        for index, (item, cost) in enumerate(zip(items, costs, strict=True)):
            self._number += 1
            entry = Entry(place, self._number, cost, request, index, item, alone)
            bisect.insort(self._entries, entry)
            place += cost
        self.requests[request] = len(items)

    def drop(self, request: object) -> None:
        """Forget what still waits of a request."""
        if self.requests.pop(request, 0):
            self._entries = [entry for entry in self._entries if entry.request is not request]

    def clear(self) -> None:
        """Forget everything."""
        self.requests = {}
        self._entries = []

    def take(self, held: int = 0) -> list[Entry[Item]]:
        """The next batch; empty where nothing waits that there is room for.

        Args:
            held: what a batch that others may join holds already.
        """
        if not self._entries:
            return []
        first = self._entries[0]
        if held and not first.alone and held + first.cost > self.batching.tokens:
            return []
        taken = list(self._batch(first, held))
        gone = {entry.number for entry in taken}
        self._entries = [entry for entry in self._entries if entry.number not in gone]
        spent = sum(entry.cost for entry in taken)
        self._now = max(self._now, taken[0].place) + spent / len(self.requests)
        for entry in taken:
            self.requests[entry.request] -= 1
            if not self.requests[entry.request]:
                del self.requests[entry.request]
        return taken

    def _batch(self, first: Entry[Item], held: int) -> Iterator[Entry[Item]]:
        yield first
        if first.alone:
            return
        others = [entry for entry in self._entries[1:] if not entry.alone]
        if not self.batching.pads:
            total = held + first.cost
            for entry in others:
                total += entry.cost
                if total > self.batching.tokens:
                    return
                yield entry
            return
        shortest, longest = first.cost / ALIKE, first.cost * ALIKE
        alike = [entry for entry in others if shortest <= entry.cost <= longest]
        alike.sort(key=lambda entry: abs(math.log(entry.cost / first.cost)))
        widest = first.cost
        for count, entry in enumerate(alike, 2):
            widest = max(widest, entry.cost)
            if widest * count > self.batching.tokens:
                return
            yield entry
