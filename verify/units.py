"""Units of measure: which text is one, and how many of one make another.

Only conversions that hold exactly and everywhere: 60 minutes are an hour, but how many days a
month has is open. Volumes and weights are the American ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from verify.numerals import SCALES, number

_TABLE = """
usd      1          dollar dollars usd bucks buck
usd      1/100      cent cents ¢
eur      1          euro euros eur €
gbp      1          £ gbp
cny      1          yuan rmb 元 块
angle    1          °
celsius  1          °c
fahrenheit 1        °f
radian   1          radian radians rad
percent  1          % percent
time     1          second seconds sec secs s 秒
time     60         minute minutes min mins 分钟
time     3600       hour hours hr hrs h 小时
time     86400      day days 天
time     604800     week weeks 周
month    1          month months 月
month    12         year years yr yrs 年
length   1          meter meters metre metres m 米
length   1/10       decimeter decimeters dm
length   1/100      centimeter centimeters centimetre centimetres cm 厘米
length   1/1000     millimeter millimeters millimetre millimetres mm 毫米
length   1000       kilometer kilometers kilometre kilometres km 千米 公里
length   0.0254     inch inches
length   0.3048     foot feet ft
length   0.9144     yard yards yd
length   1609.344   mile miles
mass     1          gram grams g 克
mass     1/1000     milligram milligrams mg
mass     1000       kilogram kilograms kg kgs 千克 公斤
mass     453.59237  pound pounds lb lbs
mass     28.349523125 ounce ounces oz
volume   1          liter liters litre litres l 升
volume   1/1000     milliliter milliliters millilitre millilitres ml 毫升
volume   3.785411784 gallon gallons gal
volume   0.946352946 quart quarts
volume   0.473176473 pint pints
volume   0.2365882365 cup cups
length/time 0.44704  mph
length/time 5/18     kph kmh
"""
"""A dimension, the size of the unit in it, and the unit's spellings."""


@dataclass(frozen=True)
class Unit:
    """A unit of measure; `size` is how much of its dimension one of it is."""

    name: str
    dimension: str
    size: Fraction


@dataclass(frozen=True)
class Quantity:
    """A normalised answer without its unit.

    Attributes:
        body: what is left to compare.
        unit: the unit, or None.
        number: the body's exact value, where it is a plain number.
    """

    body: str
    unit: Unit | None
    number: Fraction | None


_UNITS = {
    spelling: Unit(row.split()[2], row.split()[0], Fraction(row.split()[1]))
    for row in _TABLE.strip().split("\n")
    for spelling in row.split()[2:]
}
_SIGNS = {"¤": "dollar", "€": "euro", "£": "£", "¥": "yuan"}
_WORD = r"°[CF]|[^\W\d_]+|[°%¢€]"
_PER = re.compile(
    rf"(?: ?(?<![a-zA-Z])({_WORD}))?(?:/| ?per )({_WORD})(?:\^\{{?([23])\}}?)?$", re.IGNORECASE
)
_UNIT = re.compile(
    rf"(?<![a-zA-Z])((?:(?:square|cubic|sq|cu)(?:\. ?| ))?)({_WORD})(?:\^\{{?([23])\}}?)?$"
)
_NOUNS = tuple(
    re.compile(r"[ -]((?:[a-zA-Z]+[ -]){" + str(count) + r"}(?<![a-zA-Z])[a-zA-Z]{3,})$")
    for count in range(3)
)
NOUN = "number of "
"""How the dimension of a unit begins that is any noun (`3 apples`)."""

_NOT_NOUNS = frozenset(
    """squared cubed factorial hundred thousand million billion trillion dozen dozens score gross
    half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths tenth
    tenths hundredth hundredths pair pairs couple triple double twice and or of to by in per
    plus minus times over under less more fewer than below above about mod modulo base choose
    remainder left not is are was with without between from at on negative positive north south
    east west for sin cos tan log exp max min gcd lcm mph if when unless except percent point
    points divided lakh crore big most least only almost nearly digits each every""".split()  # noqa: SIM905
)
"""Words after a number that may change its value, or are no unit's name."""


def quantity(text: str) -> Quantity:
    """Split the unit off a normalised answer and read a plain number exactly."""
    body, unit = text, None
    sign = re.match(r"([-+]?)(USD|[¤€£¥]) ?(?=.)", body)
    if sign:
        name = _SIGNS.get(sign[2], "dollar")
        body, unit = sign[1] + body[sign.end() :], _UNITS[name]
        if body.startswith("--"):
            body = body[2:]
    scale = 1
    for _ in range(3):
        if number(body) is not None:
            break
        cut = _split_unit(body)
        if cut is None:
            break
        rest, found = cut
        if isinstance(found, int):
            scale *= found
        elif unit is not None and found.dimension.startswith("/"):
            unit = Unit(
                unit.name + found.name, unit.dimension + found.dimension, unit.size * found.size
            )
        elif unit is not None and unit.dimension != found.dimension:
            break
        else:
            unit = unit or found
        body = rest
    value = number(body)
    if value is None and scale > 1:
        return Quantity(text, None, None)
    return Quantity(body, unit, None if value is None else value * scale)


def _split_unit(body: str) -> tuple[str, Unit | int] | None:
    """What stands before the unit or scale word at the end, and that; None without one."""
    per = _PER.search(body)
    if per and per[2].lower() in _UNITS and _is_amount(body[: per.start()]):
        below = _raised(_UNITS[per[2].lower()], "", per[3])
        above = _UNITS.get((per[1] or "").lower())
        if above is not None:
            return body[: per.start()], _quotient(above, below)
        if per[1] is None:
            # `$12/hour`: the dollars stand before the number.
            return body[: per.start()], _quotient(Unit("", "", Fraction(1)), below)
    match = _UNIT.search(body)
    rest = body[: match.start()].rstrip(" -") if match else ""
    if match and rest:
        word = match[2].lower()
        tight = body[: match.start()] == rest
        before = rest[-1] in "0123456789})i!°" or rest.split()[-1] in SCALES or number(rest)
        if word in SCALES and not match[1] and number(rest) is not None:
            return rest, SCALES[word]
        # One letter is a unit only behind a space: `5m` may be a product.
        if (
            word in _UNITS
            and before
            and not (tight and len(word) == 1 and word.isascii() and word.isalpha())
        ):
            if (
                word == "°"
                and number(rest) is None
                and not re.fullmatch(r"\{?\\frac\{\d+\}\{\d+\}\}?", rest)
            ):
                return None
            return rest, _raised(_UNITS[word], match[1], match[3])
    for nouns in filter(None, (pattern.search(body) for pattern in _NOUNS)):
        words = re.split(r"[ -]", nouns[1].lower())
        if not _is_amount(body[: nouns.start()]) or number(nouns[1]) is not None:
            continue
        if not _NOT_NOUNS.intersection(words):
            name = " ".join(words).removesuffix("s")
            return body[: nouns.start()], Unit(name, NOUN + name, Fraction(1))
    if re.fullmatch(r"[-+]?[\d.,]+[个人只张岁本页次名]", body):
        return body[:-1], Unit(body[-1], NOUN + body[-1], Fraction(1))
    return None


def _quotient(above: Unit, below: Unit) -> Unit:
    return Unit(
        f"{above.name}/{below.name}",
        f"{above.dimension}/{below.dimension}",
        above.size / below.size,
    )


def compound(text: str) -> Quantity | None:
    """`2 hours and 30 minutes` in the first of its units, else None."""
    parts = re.split(r",? ?\band\b ?|,|(?<=[a-z]) (?=\d)", text)
    found = [quantity(part.strip()) for part in parts]
    if len(found) < 2 or any(part.number is None or part.unit is None for part in found):
        return None
    units = [part.unit for part in found if part.unit]
    if len({unit.dimension for unit in units}) > 1 or len({unit.size for unit in units}) < len(
        units
    ):
        return None
    total = sum(
        ((part.number or 0) * unit.size for part, unit in zip(found, units, strict=True)),
        Fraction(0),
    )
    return Quantity(text, units[0], total / units[0].size)


def _is_amount(text: str) -> bool:
    """Whether a text is a number, perhaps with a scale word (`2.5 million`)."""
    head, _, last = text.rpartition(" ")
    return number(text) is not None or (last in SCALES and number(head) is not None)


def _raised(unit: Unit, prefix: str, exponent: str | None) -> Unit:
    power = {"sq": 2, "cu": 3}.get(prefix[:2], int(exponent or 1))
    if power == 1:
        return unit
    return Unit(f"{unit.name}^{power}", f"{unit.dimension}^{power}", unit.size**power)


def other_sizes(unit: Unit) -> list[Fraction]:
    """How many of the unit make one of each other unit of its dimension."""
    base, _, power = unit.dimension.partition("^")
    sizes = {item.size for item in _UNITS.values() if item.dimension == base}
    return [size ** int(power or 1) / unit.size for size in sizes]
