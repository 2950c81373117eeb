"""How far the voters of an annotated file agree, in one pass that keeps nothing but counts.

This stands here and not in `verify`, which makes labels of votes and asks no more of them: half
of it is about how annotation went (unusable answers, votes not asked for, tokens), and nothing
but annotation's report reads it.
"""

from __future__ import annotations

import hashlib
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from annotate.estimates import (
    Estimate,
    Split,
    cohen,
    dissent,
    fleiss,
    mean_agreement,
    share,
    share_of,
)
from annotate.findings import Agreement, Class, Generator, Jury, Pair, Voter
from annotate.sequential import NOT_ASKED
from annotate.voters import Key, identified, names, splits
from prm.records import Annotation, Judgment, first_error
from verify import votes

GROUPS = 1000
"""Solutions are counted in so many groups, by their ids; the bootstrap draws groups, which for few
solutions is as good as drawing each, and for many needs no more memory."""

LENGTHS = (3, 6, 10, 20, 50)
"""Numbers of steps up to which a class of solutions goes; one more class holds the rest."""

FIRST_ERRORS = (1, 2, 3, 4, 5, 10, 20)
"""Numbers of steps, from 1, up to which a class of first errors goes; likewise."""


def measure(annotations: Iterable[Annotation]) -> Agreement:
    """Go over the annotations once, in any order, and measure how far their voters agree."""
    counts = _Counts()
    for annotation in annotations:
        counts.add(annotation)
    return counts.result()


@dataclass
class _Voter:
    asked: int = 0
    verdicts: int = 0
    right: int = 0
    wrong: int = 0
    not_asked: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    usage: Counter[str] = field(default_factory=Counter)


@dataclass
class _Class:
    solutions: int = 0
    dissent: int = 0
    total: int = 0

    def shown(self, name: str) -> Class:
        return Class(name, self.solutions, share(self.dissent, self.total))


@dataclass
class _Generator:
    solutions: int = 0
    steps: int = 0
    labelled: int = 0
    wrong: Counter[int] = field(default_factory=Counter)
    known: Counter[int] = field(default_factory=Counter)
    first_errors: Counter[int] = field(default_factory=Counter)

    def shown(self, name: str) -> Generator:
        wrong = [(self.wrong[group], total) for group, total in sorted(self.known.items())]
        classes = dict.fromkeys(_class_names(FIRST_ERRORS), 0)
        for first, count in self.first_errors.items():
            classes[_class_names(FIRST_ERRORS)[_class(first, FIRST_ERRORS)]] += count
        elements = self.first_errors.elements()
        return Generator(
            name=name,
            solutions=self.solutions,
            steps=self.steps,
            wrong=share_of(wrong),
            erroneous=share(self.first_errors.total(), self.labelled),
            first_errors=classes,
            median_first_error=statistics.median_low(elements) if self.first_errors else None,
        )


class _Counts:
    """What `measure` has seen so far."""

    def __init__(self) -> None:
        self.solutions = self.steps = self.unlabelled = 0
        self.voters: defaultdict[Key, _Voter] = defaultdict(_Voter)
        self.pairs: defaultdict[tuple[Key, Key], list[int]] = defaultdict(lambda: [0] * 4)
        # Per set of voters: group → split → steps.
        self.all: defaultdict[int, Counter[Split]] = defaultdict(Counter)
        self.llm: defaultdict[int, Counter[Split]] = defaultdict(Counter)
        self.positions = [_Class() for _ in range(10)]
        self.lengths = [_Class() for _ in range(len(LENGTHS) + 1)]
        self.labels = [0] * 10
        self.generators: defaultdict[str, _Generator] = defaultdict(_Generator)

    def add(self, annotation: Annotation) -> None:
        steps = len(annotation.solution.steps)
        digest = hashlib.sha256(annotation.id.encode()).digest()
        group = int.from_bytes(digest[:4]) % GROUPS
        self.solutions += 1
        self.steps += steps
        cast = sorted(identified(annotation.judgments), key=lambda pair: pair[0])
        self._add_voters(cast)
        found = splits(annotation.judgments, steps)
        self.all[group].update(found)
        models = [judgment for key, judgment in cast if not key.model_free]
        self.llm[group].update(found if len(models) == len(cast) else splits(models, steps))
        self._add_classes(found)
        self._add_labels(annotation, group)

    def _add_voters(self, cast: Sequence[tuple[Key, Judgment]]) -> None:
        masks = []
        for key, judgment in cast:
            voter = self.voters[key]
            asked = judgment.finish_reason != NOT_ASKED
            voter.asked += asked
            voter.not_asked += not asked
            voter.usage.update(judgment.usage)
            if judgment.error is not None:
                voter.reasons[_reason(judgment.error)] += 1
            # A bit for each step, so that two voters are compared on all steps at once.
            right = wrong = 0
            for index, verdict in enumerate(judgment.verdicts):
                if verdict is not None:
                    voter.verdicts += 1
                    right |= (verdict > 0.5) << index
                    wrong |= (verdict < 0.5) << index
            voter.right += right.bit_count()
            voter.wrong += wrong.bit_count()
            masks.append((key, right, wrong))
        for (one, right, wrong), (other, other_right, other_wrong) in combinations(masks, 2):
            table = self.pairs[one, other]
            table[0] += (right & other_right).bit_count()
            table[1] += (right & other_wrong).bit_count()
            table[2] += (wrong & other_right).bit_count()
            table[3] += (wrong & other_wrong).bit_count()

    def _add_classes(self, found: Sequence[Split]) -> None:
        length = self.lengths[_class(len(found), LENGTHS)]
        length.solutions += 1
        tenths = [10 * (2 * index + 1) // (2 * len(found)) for index in range(len(found))]
        for tenth in set(tenths):
            self.positions[tenth].solutions += 1
        for tenth, split in zip(tenths, found, strict=True):
            for place in (length, self.positions[tenth]):
                place.total += sum(split) > 1
                place.dissent += min(split) > 0

    def _add_labels(self, annotation: Annotation, group: int) -> None:
        steps = len(annotation.solution.steps)
        labels = votes.count(annotation.judgments, steps).labels
        known = [label for label in labels if label is not None]
        self.unlabelled += steps - len(known)
        for label in known:
            self.labels[min(9, int(10 * label))] += 1
        generator = self.generators[annotation.solution.generator]
        generator.solutions += 1
        generator.steps += steps
        generator.known[group] += len(known)
        generator.wrong[group] += sum(label < 0.5 for label in known)
        if len(known) == steps:
            generator.labelled += 1
            first = first_error(known)
            if first != -1:
                generator.first_errors[first + 1] += 1

    def result(self) -> Agreement:
        named = names(self.voters)
        voters = [self._voter(key, name) for key, name in named.items()]
        models = [self.voters[key] for key in named if not key.model_free]
        unusable = sum(voter.reasons.total() for voter in models)
        return Agreement(
            solutions=self.solutions,
            steps=self.steps,
            voters=voters,
            pairs=[
                _pair(named[one], named[other], *self.pairs[one, other])
                for one, other in combinations(named, 2)
            ],
            all=_jury(self.all, len(voters)),
            llm=_jury(self.llm, len(models)),
            by_position=[
                tenth.shown(f"{10 * index}–{10 * index + 10} %")
                for index, tenth in enumerate(self.positions)
            ],
            by_length=[
                length.shown(name)
                for name, length in zip(_class_names(LENGTHS), self.lengths, strict=True)
            ],
            labels=self.labels,
            unlabelled=self.unlabelled,
            generators=[item.shown(name) for name, item in sorted(self.generators.items())],
            unusable=share(unusable, sum(voter.asked for voter in models)),
            not_asked=sum(voter.not_asked for voter in models),
            tokens=sum(
                voter.usage["prompt_tokens"] + voter.usage["completion_tokens"] for voter in models
            ),
        )

    def _voter(self, key: Key, name: str) -> Voter:
        voter = self.voters[key]
        return Voter(
            name=name,
            model_free=key.model_free,
            judge=key.judge,
            strategy=key.strategy,
            sample=key.sample,
            coverage=share(voter.verdicts, self.steps),
            wrong=share(voter.wrong, voter.right + voter.wrong),
            unusable=share(voter.reasons.total(), voter.asked),
            reasons=dict(sorted(voter.reasons.items())),
            not_asked=voter.not_asked,
            usage=dict(sorted(voter.usage.items())),
        )


def _pair(
    first: str, second: str, both_right: int, first_right: int, second_right: int, both_wrong: int
) -> Pair:
    agree = both_right + both_wrong
    return Pair(
        first=first,
        second=second,
        agreement=share(agree, agree + first_right + second_right),
        kappa=cohen(both_right, first_right, second_right, both_wrong),
    )


def _jury(groups: dict[int, Counter[Split]], voters: int) -> Jury:
    counts = [groups[group] for group in sorted(groups)]
    whole = [
        {split: steps for split, steps in part.items() if sum(split) == voters} for part in counts
    ]
    total: Counter[Split] = Counter()
    for part in counts:
        total.update(part)
    complete, varying = fleiss(whole), fleiss(counts)
    if voters < 2:
        complete = varying = Estimate(None, 0, undefined="fewer than two voters")
    elif not complete.steps:
        complete = Estimate(None, 0, undefined=f"no step has a vote of all {voters} voters")
    order = sorted(total, key=lambda split: (-sum(split), -split[0]))
    return Jury(
        voters=voters,
        complete=complete,
        varying=varying,
        dissent=dissent(counts),
        agreement=mean_agreement(counts),
        splits={f"{right}:{wrong}": total[right, wrong] for right, wrong in order},
    )


def _reason(error: str) -> str:
    """Why an answer is unusable, without what differs from answer to answer."""
    return re.sub(r"\d+(?= (?:tokens|verdicts|steps)\b)", "…", error)


def _class(number: int, ends: Sequence[int]) -> int:
    return sum(number > end for end in ends)


def _class_names(ends: Sequence[int]) -> list[str]:
    starts = [1, *(end + 1 for end in ends)]
    closed = zip(starts[:-1], ends, strict=True)
    return [*(str(b) if a == b else f"{a}–{b}" for a, b in closed), f"{starts[-1]}+"]
