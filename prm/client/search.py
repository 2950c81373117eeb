"""What a search tells its client, as typed records, out of the lines of a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prm.errors import ClientError

NOT_OURS = "the answer is not what `prm serve` gives; is it one?"


@dataclass(frozen=True, kw_only=True)
class SearchPath:
    """A solution as far as it is written.

    Attributes:
        steps: its steps.
        scores: of the steps.
        reward: their aggregation; None where a step has no score.
        end: why it goes no further; empty while it may, `turn` where the policy ended its turn.
        answer: the final answer found in it; of a result's paths alone.
        count: how many draws came out as this one.
    """

    steps: tuple[str, ...]
    scores: tuple[float, ...]
    reward: float | None
    end: str
    answer: str | None = None
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class SearchRound:
    """What stands after a step of all paths.

    Attributes:
        round: from 1.
        live: paths that go on.
        ended: draws that came to their end so far.
        best: the path with the greatest reward so far; None where none has one.
        budget: tokens so far, by their kind.
    """

    round: int
    live: int
    ended: int
    best: SearchPath | None
    budget: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found.

    Attributes:
        id: as given, or what stood in for it.
        model: the reward model.
        policy: the model that wrote.
        best: the solution chosen.
        others: what else it ended with, best first.
        ends: how many draws ended how.
        rounds: how many there were.
        budget: tokens of all of it: the policy's `prompt`, `cached` of these, and `written`; the
            reward model's `read`, and `whole` had nothing been kept; and `requests`.
    """

    id: str
    model: str
    policy: str
    best: SearchPath
    others: tuple[SearchPath, ...]
    ends: Mapping[str, int]
    rounds: int
    budget: Mapping[str, int]


class Reader:
    """Puts the lines of a stream together to events."""

    def __init__(self) -> None:
        self._name = ""
        self._data = ""

    def read(self, line: str) -> SearchRound | SearchResult | None:
        """The event that a line ends, if it ends one that we know.

        Raises:
            ClientError: the event tells of an error, or is not one of `prm serve`.
        """
        field, _, value = line.partition(": ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data = value
        if line:
            return None
        name, self._name = self._name, ""
        try:
            return _event(name, self._data)
        except (KeyError, TypeError, ValueError):
            raise ClientError(NOT_OURS) from None


def _event(name: str, data: str) -> SearchRound | SearchResult | None:
    if name == "error":
        error = json.loads(data)["error"]
        where = f" ({error['where']})" if error["where"] else ""
        raise ClientError(f"the search broke off{where}: {error['message']}", None, error["where"])
    if name == "round":
        found = json.loads(data)
        best = found["best"]
        return SearchRound(
            round=found["round"],
            live=found["live"],
            ended=found["ended"],
            best=None if best is None else _path(best),
            budget=found["budget"],
        )
    if name == "result":
        found = json.loads(data)
        return SearchResult(
            id=found["id"],
            model=found["model"],
            policy=found["policy"],
            best=_path(found["best"]),
            others=tuple(map(_path, found["others"])),
            ends=found["ends"],
            rounds=found["rounds"],
            budget=found["budget"],
        )
    return None


def _path(found: dict[str, Any]) -> SearchPath:
    return SearchPath(
        steps=tuple(found["steps"]),
        scores=tuple(found["scores"]),
        reward=found["reward"],
        end=found["end"],
        answer=found.get("answer"),
        count=found.get("count", 1),
    )
