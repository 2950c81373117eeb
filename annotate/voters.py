"""Who voted on a solution's steps, and how.

A voter is a judge under a strategy; several samples of one are voters of their own. A verdict
above one half is a vote for right, below it a vote for wrong; exactly one half is no vote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from annotate.estimates import Split
from prm.records import Judgment

MODEL_FREE = "rules"
"""The judge of the strategies that need no model."""


class Key(NamedTuple):
    """What tells a voter from the others; rules sort last. Samples count from 1."""

    model_free: bool
    judge: str
    strategy: str
    sample: int


def identified(judgments: Iterable[Judgment]) -> Iterator[tuple[Key, Judgment]]:
    """The judgments of one solution, each with its voter."""
    seen: Counter[tuple[str, str]] = Counter()
    for judgment in judgments:
        seen[judgment.judge, judgment.strategy] += 1
        sample = seen[judgment.judge, judgment.strategy]
        yield Key(judgment.judge == MODEL_FREE, judgment.judge, judgment.strategy, sample), judgment


def names(keys: Iterable[Key]) -> dict[Key, str]:
    """The shortest names under which no two voters are alike, voters in order."""
    found = sorted(keys)
    several = {key[:3] for key in found if key.sample > 1}
    short: dict[Key, str] = {}
    for pattern in ("{strategy}", "{last} {strategy}", "{judge} {strategy}"):
        for key in found:
            last = PurePosixPath(key.judge).name
            name = pattern.format(strategy=key.strategy, last=last, judge=key.judge)
            short[key] = f"{name} #{key.sample}" if key[:3] in several else name
        if len(set(short.values())) == len(short):
            break
    return short


def splits(judgments: Sequence[Judgment], steps: int) -> list[Split]:
    """How many votes for right and for wrong each step got."""
    right, wrong = [0] * steps, [0] * steps
    for judgment in judgments:
        for index, verdict in enumerate(judgment.verdicts):
            if verdict is not None:
                right[index] += verdict > 0.5
                wrong[index] += verdict < 0.5
    return list(zip(right, wrong, strict=True))


def disagreement(judgments: Sequence[Judgment], steps: int) -> float:
    """The share of a step's votes against its majority, averaged over the steps with two votes
    or more; 0 to 0.5, and 0 where there are none."""
    shares = [min(split) / sum(split) for split in splits(judgments, steps) if sum(split) > 1]
    return sum(shares) / len(shares) if shares else 0.0
