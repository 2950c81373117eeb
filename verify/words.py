"""Answers in words: names, yes and no, days, and the letters of multiple choice.

Two texts are different only where that is shown: both belong to one closed class (the days of the
week), or both are single names. Other words may say the same in another way: unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["equal", "different", "unknown"]

_PLAIN_TEXT = re.compile(r"\(?[^\W\d_]++(?:(?:,? |'|(?<=\w\w\w)-(?=\w\w\w))[^\W\d_]++)*+\)?")
_CHOICE_WORD = re.compile(
    r"(?:(?:the )?(?:correct |right )?(?:answer|option|choice)(?: is)?:? ?)"
    r"(?=\(?[A-Ja-j]\)?(?:$|[.):]))",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"(?:\(([A-Ja-j])\)|([A-Ja-j])\)|([A-J])[.:])\.?:? ?(.*)", re.DOTALL)
_ARTICLE = re.compile(r"^(?:the|a|an) (?=\w{2})")

_CLASSES = tuple(
    [set(group.strip().split("/")) for group in row.split("|")]
    for row in """
yes/是|no/否
true/对|false/错
even|odd
positive|negative|zero
rational|irrational
increasing|decreasing|constant
increase|decrease
left|right
up|down
north|south|east|west|northeast|northwest|southeast|southwest
monday/mon|tuesday/tue/tues|wednesday/wed|thursday/thu/thurs|friday/fri|saturday/sat|sunday/sun
january/jan|february/feb|march/mar|april/apr|may|june/jun|july/jul|august/aug|september/sep/sept|october/oct|november/nov|december/dec
red|orange|yellow|green|blue|purple|black|white|brown|pink
parabola|hyperbola|ellipse|straight line
parabola|hyperbola|circle|straight line
acute|right|obtuse
prime|composite
""".strip().split("\n")
)
"""Per row, what excludes one another; within `/`, what means the same."""

_EMPTY = frozenset(
    {"no solution", "no solutions", "no real solution", "no real solutions", "empty set"}
)
_EVERYTHING = frozenset({"all real numbers", "all reals", "the set of all real numbers"})
_VAGUE = frozenset(
    "none nothing never neither both all any impossible undefined dne other unknown "  # noqa: SIM905
    "nobody everyone everything zero one infinite infinity yes no true false".split()
)


def plain_text(text: str) -> str | None:
    """A normalised answer if it is nothing but words (`(B)`, `no`), without brackets, else None."""
    return text.strip("()").strip() if _PLAIN_TEXT.fullmatch(text) else None


def compare_texts(left: str, right: str) -> tuple[Verdict, str]:
    """The verdict on two plain texts, and why."""
    a, b = (_ARTICLE.sub("", " ".join(text.casefold().split())) for text in (left, right))
    if a == b:
        return "equal", "the same words"
    if a in _EMPTY and b in _EMPTY and ("real" in a) == ("real" in b):
        return "equal", "both say that there is no solution"
    for row in _CLASSES:
        places = [{index for index, group in enumerate(row) if text in group} for text in (a, b)]
        if places[0] and places[1]:
            if places[0] == places[1]:
                return "equal", "two spellings of one word"
            return "different", "words that exclude one another"
    if len(a) == len(b) == 1:
        return "different", "two letters"
    names = [re.fullmatch(r"[A-Z][a-z]{2,}", text.strip()) for text in (left, right)]
    if all(names) and not {a, b} & _VAGUE and a[:3] != b[:3]:
        return "different", "two names"
    return "unknown", "one text may stand for the other"


def is_empty(text: str) -> bool:
    """Whether a normalised answer says that nothing solves the problem."""
    return text == r"\emptyset" or text.casefold() in _EMPTY


def is_everything(text: str) -> bool:
    """Whether a normalised answer says "all real numbers"."""
    return text in (r"\mathbb{R}", r"\mathbb R") or text.casefold() in _EVERYTHING


def is_closed(text: str) -> bool:
    """Whether a word belongs to a closed class in which there is no number."""
    word = text.casefold()
    return word not in ("zero", "may") and any(
        word in group for row in _CLASSES[7:11] for group in row
    )


@dataclass(frozen=True)
class Choice:
    """An option of multiple choice: its letter, and what stands beside it, if anything."""

    letter: str
    content: str


def choice(text: str) -> Choice | None:
    """The option that a normalised answer names (`(C)`, `C. 12`, `option C`), else None."""
    named = _CHOICE_WORD.match(text)
    rest = text[named.end() :] if named else text
    if re.fullmatch(r"[A-Ja-j]", rest) and (named or rest.isupper()):
        return Choice(rest.upper(), "")
    behind = re.fullmatch(r"([-+]?[\d./]+) ?\(([A-J])\)", rest)
    if behind:
        return Choice(behind[2], behind[1])
    match = _CHOICE.fullmatch(rest)
    if match is None:
        return None
    letter, content = (match[1] or match[2] or match[3]).upper(), match[4].strip()
    # `(a)+b` and `(b)^2` are formulas; `A:B` a ratio.
    if content and (content[0] in "+-*/^=!_" or (match[3] and re.match(r"[A-Z](?:$|:)", content))):
        return None
    if content and not match[3] and letter.lower() in rest[:3] and not content[0].isdigit():
        return None if not re.match(r"[A-Z][a-z]", content) else Choice(letter, content)
    return Choice(letter, content)


def compare_choices(left: Choice, right: Choice) -> tuple[Verdict, str] | None:
    """The verdict on two options by their letters; None where their contents must tell."""
    if left.letter != right.letter:
        if left.content and left.content == right.content:
            return "unknown", "two letters with one content"
        return "different", "two options"
    if not left.content or not right.content or left.content == right.content:
        return "equal", "the same option"
    return None
