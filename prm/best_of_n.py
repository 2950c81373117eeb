"""Best of N and its kin over given candidates, with expectations over subsets.

Given M candidates of a problem, the accuracy of "draw N of them, keep the best" is an
expectation over all N-subsets. For a choice by reward it has a closed form. For majority votes
all subsets are enumerated; where there are too many, seeded draws stand for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np

MAX_SUBSETS = 20_000
"""More subsets than this are not enumerated but drawn."""

DRAWS = 2_000
"""Drawn subsets per problem: a standard error of at most 0.011 for one problem."""

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


def expected_majority(
    groups: Sequence[int | None],
    correct: Sequence[bool],
    n: int,
    *,
    seed: str,
    weights: Sequence[float] | None = None,
) -> float:
    """Probability that the majority answer of `n` candidates drawn without replacement is right.

    Clusters that tie for the majority are equally likely to be chosen; a draw in which no one
    has an answer is wrong. Exact up to `MAX_SUBSETS` subsets, else estimated with `DRAWS`.

    Args:
        groups: the cluster of each candidate's answer, None where it has none.
        correct: whether each candidate's final answer is right. A cluster is as right as those
            of its members that were drawn are on average.
        n: 1 to the number of candidates.
        seed: of the draws; a problem's own, so that its draws are its own too.
        weights: votes of each candidate, none below 0 (weighted majority); 1 each by default.
    """
    total = len(groups)
    if not 1 <= n <= total:
        raise ValueError(f"n is {n}; there are {total} candidates")
    answered = [group is not None for group in groups]
    if n == 1:  # the only vote wins, whatever its weight: no sum, so no rounding
        return sum(a and c for a, c in zip(answered, correct, strict=True)) / total
    names = sorted({group for group in groups if group is not None})
    if not names:
        return 0.0
    # [M, clusters]: who says what.
    says = np.array([[group == name for name in names] for group in groups], dtype=float)
    chosen = _all_subsets(total, n) if comb(total, n) <= MAX_SUBSETS else _draws(total, n, seed)
    members = chosen @ says
    right = chosen @ (says * np.asarray(correct, dtype=float)[:, None])
    votes = members if weights is None else chosen @ (says * np.asarray(weights)[:, None])
    present = members > 0
    votes = np.where(present, votes, -np.inf)
    best = votes.max(axis=1, keepdims=True)
    # Sums of the same weights in another order may differ in the last bits; they tie still.
    wins = present & (votes >= best * (1 - 1e-9))
    shares = np.where(wins, right / np.maximum(members, 1), 0.0).sum(axis=1)
    return float((shares / np.maximum(wins.sum(axis=1), 1)).mean())


@lru_cache(maxsize=8)
def _all_subsets(total: int, n: int) -> np.ndarray:
    """All subsets of `n` out of `total`, `[subsets, total]`, 1 where a member is in."""
    return _indicator(np.array(list(combinations(range(total), n))), total)


def _draws(total: int, n: int, seed: str) -> np.ndarray:
    """As `_all_subsets`, for `DRAWS` subsets drawn at random."""
    keys = np.random.default_rng(list(seed.encode())).random((DRAWS, total))
    return _indicator(np.argsort(keys, axis=1)[:, :n], total)


def _indicator(members: np.ndarray, total: int) -> np.ndarray:
    chosen = np.zeros((len(members), total))
    np.put_along_axis(chosen, members, 1.0, axis=1)
    return chosen
