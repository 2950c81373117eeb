"""Best of N and its kin over given candidates, with exact expectations over subsets.

Given M candidates of a problem, the accuracy of "draw N of them, keep the best" is an
expectation over all N-subsets. For a choice by reward it has a closed form; for majority votes
it is estimated with seeded draws.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import comb

Equal = Callable[[str, str], bool]


def expected_best(rewards: Sequence[float], correct: Sequence[bool], n: int) -> float:
    """Probability that the best-rewarded of `n` candidates drawn without replacement is right.

    Candidates with equal rewards are equally likely to be kept.

    Args:
        rewards: one per candidate.
        correct: whether each candidate's final answer is right.
        n: 1 to the number of candidates.
    """
    total = len(rewards)
    if not 1 <= n <= total:
        raise ValueError(f"n is {n}; there are {total} candidates")
    order = sorted(range(total), key=lambda index: -rewards[index])
    expected = 0.0
    start = 0
    while start < total:
        end = start
        while end < total and rewards[order[end]] == rewards[order[start]]:
            end += 1
        # The best of the draw lies in this tie group where none above it was drawn, and some
        # of it was; all of the group are then equally likely to be kept.
        share = (comb(total - start, n) - comb(total - end, n)) / comb(total, n)
        right = sum(correct[index] for index in order[start:end])
        expected += share * right / (end - start)
        start = end
    return expected


def expected_oracle(correct: Sequence[bool], n: int) -> float:
    """Probability that some of `n` candidates drawn without replacement is right (pass@n).

    Source: Chen et al., arXiv 2107.03374, section 2.1.
    """
    total, wrong = len(correct), len(correct) - sum(correct)
    return 1.0 - comb(wrong, n) / comb(total, n)


def clusters(answers: Sequence[str | None], equal: Equal) -> list[int | None]:
    """The cluster of each answer: equal answers share one; None stays without.

    Args:
        answers: final answers, None where a candidate has none.
        equal: whether two answers are the same.
    """
    representatives: list[str] = []
    found: list[int | None] = []
    for answer in answers:
        if answer is None:
            found.append(None)
            continue
        index = next(
            (index for index, other in enumerate(representatives) if equal(answer, other)), None
        )
        if index is None:
            index = len(representatives)
            representatives.append(answer)
        found.append(index)
    return found


def majority(
    groups: Sequence[int | None], weights: Sequence[float] | None = None
) -> list[int] | None:
    """The candidates that hold the most frequent answer, or None where no one has an answer.

    Args:
        groups: the cluster of each candidate's answer.
        weights: votes of each candidate (weighted majority); 1 each by default.

    Returns:
        Indices of the winning cluster's members; the cluster met first wins a tie.
    """
    totals: dict[int, float] = {}
    for index, group in enumerate(groups):
        if group is not None:
            totals[group] = totals.get(group, 0.0) + (1.0 if weights is None else weights[index])
    if not totals:
        return None
    best = max(totals, key=lambda group: totals[group])
    return [index for index, group in enumerate(groups) if group == best]


def expected_majority(
    groups: Sequence[int | None],
    correct: Sequence[bool],
    n: int,
    *,
    weights: Sequence[float] | None = None,
    draws: int = 64,
    seed: int = 0,
) -> float:
    """Share of `draws` seeded draws of `n` candidates whose majority answer is right.

    The order within a draw is random, so a tie falls to either side.
    """
    rng = random.Random(seed)
    right = 0.0
    for _ in range(draws):
        drawn = rng.sample(range(len(groups)), n)
        chosen = majority(
            [groups[index] for index in drawn],
            None if weights is None else [weights[index] for index in drawn],
        )
        right += chosen is not None and correct[drawn[chosen[0]]]
    return right / draws
