r"""Sets of real numbers: intervals, unions, inequalities in one unknown.

`x<1 or x>2`, `(-\infty,1)\cup(2,\infty)` and `\mathbb{R}\setminus[1,2]` are one region. The ends
are exact numbers or infinite; a region with other ends is compared piece by piece.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from verify.formulas import READINGS, UnreadableError, read
from verify.guards import misread, too_big
from verify.identity import InexactError, exact
from verify.words import is_everything

_INFINITE = {r"\infty": 1, r"+\infty": 1, r"-\infty": -1}
_RELATION = re.compile(r"(<|>|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|=|\\ne(?![a-zA-Z]))")
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", "=": "=", r"\ne": r"\ne"}
_UNKNOWN = re.compile(r"[a-zA-Z]|\\(?:theta|alpha|beta|lambda|mu)")

End = tuple[float, Fraction]
"""A number, ordered: (-1 or 1, 0) for the infinite ones, else (0, value)."""


@dataclass(frozen=True, order=True)
class Piece:
    """An interval; `low_open` and `high_open` say which ends do not belong to it."""

    low: End
    low_open: bool
    high: End
    high_open: bool


Region = tuple[Piece, ...]
"""Pieces in ascending order that neither meet nor touch."""

_ALL: Region = (Piece((-1, Fraction(0)), True, (1, Fraction(0)), True),)


@dataclass(frozen=True)
class Found:
    """A region and the unknown that it was written with (`x` in `x>3`), empty for none."""

    region: Region
    unknown: str


def region(text: str) -> Found | None:
    """The region that a normalised answer can only mean, or None."""
    if is_everything(text):
        return Found(_ALL, "")
    if r"\cup" in text or r"\setminus" in text or re.search(r"[\])}] ?or ?(?=[(\[\\])", text):
        return _union(text)
    if _RELATION.search(text):
        return _inequalities(text)
    found = interval(text)
    if found is None:
        return None
    # `(1,2)` may be a pair and `[1,2]` a list; only these can be nothing but intervals.
    infinite = r"\infty" in text
    return Found((found,), "") if infinite or (text[0] == "(") != (text[-1] == ")") else None


def interval(text: str) -> Piece | None:
    """A text read as an interval with exact ends."""
    match = re.fullmatch(r"([(\[])([^,]+),([^,]+)([)\]])", text)
    if match is None:
        return None
    low, high = _end(match[2]), _end(match[3])
    if low is None or high is None or low >= high:
        return None
    return Piece(low, match[1] == "(" or low[0] != 0, high, match[4] == ")" or high[0] != 0)


def _end(text: str) -> End | None:
    text = text.strip()
    if text in _INFINITE:
        return _INFINITE[text], Fraction(0)
    if too_big(text) or misread(text):
        return None
    try:
        # Rounded roots would hide which of two ends is the greater: only exact ones.
        return 0, exact(read(text, READINGS[0]))
    except (UnreadableError, InexactError):
        return None


def _union(text: str) -> Found | None:
    base, *removed = re.split(r"\\setminus ?", text)
    whole = _pieces(base)
    for part in removed:
        out = _pieces(part)
        if whole is None or out is None:
            return None
        whole = _intersection(whole, _complement(out))
    return None if whole is None else Found(whole, "")


def _pieces(text: str) -> Region | None:
    found: list[Piece] = []
    for part in re.split(r"\\cup ?|(?<=[\])}]) ?or ?", text.strip()):
        part = part.strip()
        points = re.fullmatch(r"\\\{(.*)\\\}", part)
        if is_everything(part):
            found += _ALL
        elif points:
            ends = [_end(item) for item in points[1].split(",")]
            if any(end is None for end in ends):
                return None
            found += [Piece(end, False, end, False) for end in ends if end is not None]
        else:
            piece = interval(part)
            if piece is None:
                return None
            found.append(piece)
    return _joined(found)


def _inequalities(text: str) -> Found | None:
    whole: Region | None = None
    unknowns = set()
    for option in re.split(r"(?<![a-zA-Z])or(?![a-zA-Z])", text):
        region: Region = _ALL
        for part in re.split(r"(?<![a-zA-Z])and(?![a-zA-Z])|\\land", option):
            found = _chain(part.strip().strip(","))
            if found is None:
                return None
            unknowns.add(found.unknown)
            region = _intersection(region, found.region)
        whole = region if whole is None else _joined([*whole, *region])
    if whole is None or len(unknowns) != 1:
        return None
    return Found(whole, unknowns.pop())


def _chain(text: str) -> Found | None:
    """`a<x`, `x \\ge a` or `a<x<b`."""
    parts = _RELATION.split(text)
    signs, sides = parts[1::2], [side.strip() for side in parts[::2]]
    places = [index for index, side in enumerate(sides) if _UNKNOWN.fullmatch(side)]
    if len(places) != 1 or len(sides) not in (2, 3) or signs in (["="], ["=", "="]):
        return None
    place, whole = places[0], _ALL
    for index, side in enumerate(sides):
        if index == place:
            continue
        if abs(index - place) != 1:
            return None
        end = _end(side)
        if end is None:
            return None
        sign = signs[min(index, place)]
        whole = _intersection(whole, _half(_FLIPPED[sign] if index < place else sign, end))
    return Found(whole, sides[place])


def _half(sign: str, end: End) -> Region:
    """All x with `x sign end`."""
    low, high = _ALL[0].low, _ALL[0].high
    point = Piece(end, False, end, False)
    if sign == "=":
        return (point,)
    if sign == r"\ne":
        return _complement((point,))
    is_open = "e" not in sign
    if end[0] != 0:
        return _ALL
    if sign in ("<", r"\le"):
        return (Piece(low, True, end, is_open),)
    return (Piece(end, is_open, high, True),)


def _joined(pieces: list[Piece]) -> Region:
    result: list[Piece] = []
    for piece in sorted(pieces):
        last = result[-1] if result else None
        if last is not None and (
            piece.low < last.high
            or (piece.low == last.high and not (piece.low_open and last.high_open))
        ):
            high, closed = max((last.high, not last.high_open), (piece.high, not piece.high_open))
            low_open = last.low_open and (piece.low_open or piece.low != last.low)
            result[-1] = Piece(last.low, low_open, high, not closed)
        else:
            result.append(piece)
    return tuple(result)


def _complement(region: Region) -> Region:
    low, low_open = _ALL[0].low, True
    result = []
    for piece in region:
        if low < piece.low or (low == piece.low and not low_open and piece.low_open):
            result.append(Piece(low, low_open, piece.low, not piece.low_open))
        low, low_open = piece.high, not piece.high_open
    if low < _ALL[0].high:
        result.append(Piece(low, low_open, _ALL[0].high, True))
    return tuple(result)


def _intersection(a: Region, b: Region) -> Region:
    return _complement(_joined([*_complement(a), *_complement(b)]))


def as_interval(text: str) -> str:
    """An inequality in one unknown written as an interval, whatever its ends; else the text."""
    parts = _RELATION.split(text)
    signs, sides = parts[1::2], [side.strip() for side in parts[::2]]
    places = [index for index, side in enumerate(sides) if _UNKNOWN.fullmatch(side)]
    if len(places) != 1 or not set(signs) <= {"<", ">", r"\le", r"\ge"} or not all(sides):
        return text
    if len(signs) == 1:
        sign = signs[0] if places[0] == 0 else _FLIPPED[signs[0]]
        end = sides[1 - places[0]]
        if sign in (">", r"\ge"):
            return f"{'(' if sign == '>' else '['}{end},\\infty)"
        return f"(-\\infty,{end}{')' if sign == '<' else ']'}"
    if len(signs) != 2 or places[0] != 1 or len({sign in (">", r"\ge") for sign in signs}) != 1:
        return text
    if signs[0] in (">", r"\ge"):
        sides, signs = sides[::-1], [_FLIPPED[sign] for sign in reversed(signs)]
    left, right = ("(" if signs[0] == "<" else "["), (")" if signs[1] == "<" else "]")
    return f"{left}{sides[0]},{sides[2]}{right}"
