r"""Plain numbers, read exactly: decimals, fractions, mixed and repeating ones, words, bases.

No tolerance anywhere: `0.333` is not `1/3`, `0.\overline{3}` is.
"""

from __future__ import annotations

import re
from fractions import Fraction

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+"
_DECIMAL = re.compile(rf"([-+]?)({_DIGITS})(?:[eE]([-+]?\d{{1,3}}))?", re.ASCII)
_POWER_OF_TEN = re.compile(
    rf"([-+]?)(?:({_DIGITS})(?:\\cdot|\*))?10\^(?:\{{([-+]?\d{{1,3}})\}}|([-+]?\d{{1,3}}))",
    re.ASCII,
)
_RATIO = re.compile(
    rf"([-+]?)(?:(\d+)[ ]?)?(?:\\frac\{{([-+]?)({_DIGITS})\}}\{{([-+]?)({_DIGITS})\}}"
    rf"|(?:(?<=[ ])|(?<![\d ]))([-+]?)({_DIGITS})/([-+]?)({_DIGITS}))",
    re.ASCII,
)
_REPEATING = re.compile(
    r"([-+]?)(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\{(\d+)\}|\\(?:bar|dot)(\d)|\((\d+)\))", re.ASCII
)
_GOES_ON = re.compile(r"([-+]?)(\d*)\.(\d*?)(\d{1,6}?)\4{2,}\\ldots", re.ASCII)
_BASE = re.compile(
    r"([-+]?)(\d[0-9A-Fa-f]*|[A-F][0-9A-F]+)_(?:\{ ?([a-z]+|\d{1,2}) ?\}|(\d{1,2})(?!\d))"
)

_SMALL = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen
""".split()  # noqa: SIM905
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_WORDS = {word: value for value, word in enumerate(_SMALL)}
_WORDS |= {word: 20 + 10 * index for index, word in enumerate(_TENS)}
_SHARES = {"half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4}
_SHARES |= {"fourth": 4, "fourths": 4, "fifth": 5, "fifths": 5}
SCALES = {"dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9}
SCALES |= {"trillion": 10**12}


def number(text: str) -> Fraction | None:
    """The exact value of a normalised text that is a plain number, else None."""
    match = _DECIMAL.fullmatch(text)
    if match:
        value = _fraction(match[1], match[2])
        return value * Fraction(10) ** int(match[3]) if match[3] else value
    match = _POWER_OF_TEN.fullmatch(text)
    if match:
        return _fraction(match[1], match[2] or "1") * Fraction(10) ** int(match[3] or match[4])
    match = _REPEATING.fullmatch(text) if "." in text else None
    if text.endswith(r"\ldots") and len(text) < 50:
        match = _GOES_ON.fullmatch(text)
    if match:
        return _repeating(match)
    match = _RATIO.fullmatch(text)
    if match:
        return _ratio(match)
    return spelled(text) if text[:1].isalpha() else None


def _ratio(match: re.Match[str]) -> Fraction | None:
    above = _fraction(match[3] or match[7] or "", match[4] or match[8])
    below = _fraction(match[5] or match[9] or "", match[6] or match[10])
    if below == 0:
        return None
    value, whole = above / below, match[2]
    if whole:
        # `3\frac{1}{4}` and `3 1/4` are mixed numbers; anything improper is not.
        if not 0 < value < 1 or match[3] or match[5] or match[7] or match[9]:
            return None
        value += int(whole)
    return -value if match[1] == "-" else value


def _repeating(match: re.Match[str]) -> Fraction:
    """The value of sign, whole part, fixed decimals and the group that goes on for ever."""
    group = next(group for group in match.groups()[3:] if group)
    fixed = Fraction(int((match[2] or "0") + match[3]), 10 ** len(match[3]))
    value = fixed + Fraction(int(group), (10 ** len(group) - 1) * 10 ** len(match[3]))
    return -value if match[1] == "-" else value


def _fraction(sign: str, digits: str) -> Fraction:
    value = Fraction(digits.replace(",", "").rstrip("."))
    return -value if sign == "-" else value


def spelled(text: str) -> Fraction | None:
    """The value of a number in words (`twenty-five`, `three hundred`, `one half`), else None."""
    words = text.casefold().replace("-", " ").split()
    if not words or len(words) > 4:
        return None
    if words == ["half"] or (len(words) == 2 and words[0] == "a" and words[1] in _SHARES):
        return Fraction(1, _SHARES[words[-1]])
    if len(words) == 2 and words[1] in _SHARES and words[0] in _WORDS:
        return Fraction(_WORDS[words[0]], _SHARES[words[1]])
    scale = 1
    while len(words) > 1 and words[-1] in SCALES:
        scale *= SCALES[words.pop()]
    if words[0] == "a" and scale > 1 and len(words) == 1:
        return Fraction(scale)
    if len(words) == 2 and words[0] in _TENS and 1 <= _WORDS.get(words[1], 0) <= 9:
        return Fraction((_WORDS[words[0]] + _WORDS[words[1]]) * scale)
    return Fraction(_WORDS[words[0]] * scale) if len(words) == 1 and words[0] in _WORDS else None


def in_base(text: str) -> tuple[str, int, int | None] | None:
    """Digits, base and value of `1011_2`, the value None where a digit is too big; or None."""
    match = _BASE.fullmatch(text)
    if match is None:
        return None
    name = match[3] or match[4]
    base = int(name) if name.isdigit() else _WORDS.get(name, 0)
    if not 2 <= base <= 36 or (match[2].isalpha() and base < 11):
        return None
    digits = match[1].replace("+", "") + match[2].lower()
    try:
        return digits, base, int(digits, base)
    except ValueError:
        return digits, base, None
