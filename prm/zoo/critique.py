"""Critiques: how a generative reward model is asked about steps, and how its verdicts are read.

A family writes down the course of a critique as a generator: it yields the requests of a round, is
sent their completions, and returns what came of it. No engine is inside, so a course can be walked
through by hand, and many courses are one (`together`), which asks for a round of all at once.

A verdict is read from what the model wrote and nothing else: a problem or a step may spell one. It
is the probability of the word for right beside the word for wrong, at the token where the model
wrote either; where an engine does not tell probabilities there, it is 1 or 0 as written.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from prm.engines import MOST_ALTERNATIVES, Completion, Message, Request, Token, flow

T = TypeVar("T")

Course = flow.Course[Request, list[Completion], T]
"""Yields requests, is sent a list of completions for each, returns what came of it."""

Scores = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How to ask about one solution, whatever the family.

    Attributes:
        key: the solution's name; seeds are drawn from it, so that a critique does not depend on
            what else is asked at the time.
        samples: critiques for each decision.
        temperature: of sampling.
        max_tokens: the most of one critique.
    """

    key: str
    samples: int = 1
    temperature: float = 0.0
    max_tokens: int = 2048

    def request(
        self,
        place: str,
        messages: tuple[Message, ...],
        *,
        prefill: str = "",
        stop: tuple[str, ...] = (),
        samples: int = 1,
        max_tokens: int | None = None,
        top_p: float = 1.0,
    ) -> Request:
        """A request whose seed belongs to its place in the critique."""
        digest = hashlib.sha256(f"{self.key} {place}".encode()).digest()
        return Request(
            messages=messages,
            max_tokens=self.max_tokens if max_tokens is None else max_tokens,
            n=samples,
            temperature=self.temperature,
            top_p=top_p,
            seed=int.from_bytes(digest[:4]) >> 1,
            stop=stop,
            prefill=prefill,
            alternatives=MOST_ALTERNATIVES,
            group=self.key,
        )


class Verdict(NamedTuple):
    """What the model says of a step.

    Attributes:
        right: whether it wrote the word for right.
        probability: of that word beside the one for wrong.
    """

    right: bool
    probability: float


def together(courses: Sequence[Course[T]]) -> Course[list[T]]:
    """Courses as one: a round asks what all that are not at their end ask next.

    Returns:
        What came of each, in their order.
    """
    done: dict[int, T] = {}
    asked: dict[int, list[Request]] = {}
    answers: dict[int, list[list[Completion]]] = {}
    while len(done) < len(courses):
        for index, course in enumerate(courses):
            if index in done:
                continue
            try:
                asked[index] = course.send(answers[index]) if index in answers else next(course)
            except StopIteration as end:
                asked.pop(index, None)
                done[index] = end.value
        if asked:
            completions = iter((yield [request for own in asked.values() for request in own]))
            answers = {index: [next(completions) for _ in own] for index, own in asked.items()}
    return [done[index] for index in range(len(courses))]


def read_verdicts(
    answer: Completion, pattern: re.Pattern[str], right: str, wrong: str
) -> list[Verdict]:
    """The verdicts in a completion, in order.

    Args:
        answer: what the model wrote, with the alternatives of its tokens or without.
        pattern: what a verdict looks like; its group 1 is one of the two words.
        right: the word for right.
        wrong: the word for wrong; both begin with other letters.

    A word that is not among the alternatives counts as impossible beside the one that was written.
    """
    written = [found[1] for found in pattern.finditer(answer.reasoning + answer.text)]
    told = _told(answer.tokens, pattern)
    if [word for word, _, _ in told] != written:  # no alternatives, or tokens that do not tell
        return [Verdict(word == right, float(word == right)) for word in written]
    return [
        Verdict(word == right, _probability(token, before, right, wrong, word))
        for word, token, before in told
    ]


def mean(found: Iterable[float | str]) -> float | str:
    """The mean of the samples that are usable, or the first one's reason where none is."""
    found = list(found)
    usable = [value for value in found if not isinstance(value, str)]
    if usable:
        return math.fsum(usable) / len(usable)
    return next(reason for reason in found if isinstance(reason, str))


def _told(tokens: Sequence[Token], pattern: re.Pattern[str]) -> list[tuple[str, Token, str]]:
    """Each verdict's word, the token in which it begins, and what stands before it there.

    Searched for in the tokens' own texts: letters of more than one token come out garbled there,
    so places in the completion's text are others.
    """
    ends = list(itertools.accumulate(len(token.text) for token in tokens))
    text = "".join(token.text for token in tokens)
    found = []
    for match in pattern.finditer(text):
        index = bisect_right(ends, match.start(1))
        begin = ends[index] - len(tokens[index].text)
        found.append((match[1], tokens[index], text[begin : match.start(1)]))
    return found


def _probability(token: Token, before: str, right: str, wrong: str, written: str) -> float:
    def share(word: str) -> float:
        return math.fsum(
            math.exp(value)
            for text, value in token.alternatives.items()
            if text.startswith(before) and _begins(text[len(before) :], word)
        )

    yes, no = share(right), share(wrong)
    if not yes + no > 0:
        return float(written == right)
    return yes / (yes + no)


def _begins(text: str, word: str) -> bool:
    """Whether a token's text is the word, its beginning, or the word and what no word goes on with.

    A tokenizer may cut `incorrect` in two and leave `correct` whole.
    """
    if len(text) <= len(word):
        return text != "" and word.startswith(text)
    return text.startswith(word) and not text[len(word)].isalnum()
