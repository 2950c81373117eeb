"""Dates and times of day, whichever way round they are written.

`3/5/2020` is the fifth of March or the third of May: both are kept, and compared both ways. What a
moment leaves open (no year, no a.m. or p.m.) makes its equality with a fuller one unknown.
"""

from __future__ import annotations

import re
from typing import Literal

Verdict = Literal["equal", "different", "unknown"]
Moment = tuple[str, frozenset[tuple[int | None, ...]]]
"""`date` with (year, month, day), or `time` with (hour, minute, second): all it may mean."""

_MONTH_NAMES = (
    "january february march april may june july august september october november december"
)
_MONTHS = {name: index + 1 for index, name in enumerate(_MONTH_NAMES.split())}
_MONTHS |= {name[:3]: index for name, index in _MONTHS.items()} | {"sept": 9}
_MONTH = r"(?P<month>" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\.?"
_DAY = r"(?P<day>\d{1,2})(?: ?(?:st|nd|rd|th))?"
_WEEKDAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,? ?)?"
_WRITTEN = tuple(
    re.compile(_WEEKDAY + pattern, re.IGNORECASE | re.ASCII)
    for pattern in (
        rf"{_MONTH} ?{_DAY}(?:,? ?(?P<year>\d{{4}}))?",
        rf"(?:the )?{_DAY}(?: of)? ?{_MONTH}(?:,? ?(?P<year>\d{{4}}))?",
        rf"{_MONTH},? ?(?P<year>\d{{4}})(?P<day>)",
        rf"(?P<year>\d{{4}}),? ?{_MONTH}(?P<day>)",
        r"(?P<year>\d{4})(?P<sign>[-/.])(?P<month>\d{1,2})(?P=sign)(?P<day>\d{1,2})",
        r"(?P<year>\d{4})年(?P<month>\d{1,2})月(?P<day>\d{1,2})[日号]",
        r"(?P<year>)(?P<month>\d{1,2})月(?P<day>\d{1,2})[日号]",
    )
)
_SLASHED = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})", re.ASCII)
_TIME = re.compile(
    r"(?:at )?(\d{1,2})(?::(\d{2}))?(?::(\d{2}))? ?(?:([ap])\.? ?m\.?|(o'clock))?",
    re.IGNORECASE | re.ASCII,
)
_NAMED = {"noon": (12, 0, 0), "midnight": (0, 0, 0)}


def moment(text: str) -> Moment | None:
    """The date or time that a normalised answer names, else None."""
    date = _date(text)
    return ("date", date) if date else _time(text)


def is_dated(text: str) -> bool:
    """Whether an answer can be nothing but a date or a time (`3:30` may be a ratio)."""
    return moment(text) is not None and re.search(r"[a-z年月]", text, re.IGNORECASE) is not None


def _date(text: str) -> frozenset[tuple[int | None, ...]] | None:
    for pattern in _WRITTEN:
        match = pattern.fullmatch(text)
        if match:
            name, day, year = match["month"].lower(), match["day"], match["year"]
            month = int(name) if name.isdigit() else _MONTHS[name]
            found = (int(year) if year else None, month, int(day) if day else None)
            return frozenset({found}) if _is_date(month, found[2]) else None
    match = _SLASHED.fullmatch(text)
    if match is None:
        return None
    first, second, year = int(match[1]), int(match[3]), int(match[4])
    both = {(year, month, day) for month, day in ((first, second), (second, first))}
    return frozenset(item for item in both if _is_date(item[1], item[2])) or None


def _is_date(month: int, day: int | None) -> bool:
    return 1 <= month <= 12 and (day is None or 1 <= day <= 31)


def _time(text: str) -> Moment | None:
    if text.casefold() in _NAMED:
        return "time", frozenset({_NAMED[text.casefold()]})
    match = _TIME.fullmatch(text)
    if match is None or not (match[2] or match[4] or match[5]):
        return None
    hour, minute, second = (int(part or 0) for part in match.groups()[:3])
    if hour > 24 or minute > 59 or second > 59:
        return None
    if match[4]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match[4].lower() == "p" else 0)
        return "time", frozenset({(hour, minute, second)})
    if 1 <= hour < 12 and not match[1].startswith("0"):
        # By the half day's clock or the whole day's: nobody said.
        return "time", frozenset({(hour, minute, second), (hour + 12, minute, second)})
    return "time", frozenset({(hour % 24, minute, second)})


def compare_moments(left: Moment, right: Moment) -> tuple[Verdict, str]:
    """The verdict on two moments, and why."""
    if left[0] != right[0]:
        return "unknown", "a date and a time"
    if left[1] == right[1]:
        return "equal", f"the same {left[0]}"
    fits = [
        all(x is None or y is None or x == y for x, y in zip(a, b, strict=True))
        for a in left[1]
        for b in right[1]
    ]
    if any(fits):
        return "unknown", f"one {left[0]} leaves open what the other says"
    return "different", f"two {left[0]}s"
