r"""How an answer is written: one spelling for many, and what is too big to parse.

`normalise` removes what does not change the value (`$`, `\left`, `\text{}`, spaces); `read`
splits off a unit and reads plain numbers exactly; `too_big` names what could hang or exhaust
a computer algebra system; `misread` names what such a system would misread, as it takes
`3 apples` for a product of letters. All are pure and linear in the text's length.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARS = 2_000
MAX_DEPTH = 50
MAX_OPERATORS = 200
MAX_EXPONENT = 10_000
MAX_FACTORIAL = 1_000

_SYMBOLS = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑‒﹣－", "-"),
        **{"×": r"\times ", "÷": "/", "∕": "/", "⁄": "/", "·": r"\cdot ", "⋅": r"\cdot "},
        **{"π": r"\pi ", "∞": r"\infty ", "θ": r"\theta ", "∪": r"\cup ", "±": r"\pm "},
        **{"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "°": r"^\circ", "％": "%"},
        **{"²": "^2", "³": "^3", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}"},
    }
)
_REPLACEMENTS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\{,\}|,\\!", ","),
        (r"(?<=\d)\\[,!;: ](?=\d{3}(?!\d))", ""),
        (r"\\(?:left|right|[bB]ig[glr]*)(?![a-zA-Z])\.?", ""),
        (r"\\(?:displaystyle|textstyle|limits|quad|qquad)(?![a-zA-Z])|\\[!,;: ]|~", " "),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (
            r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}",
            r" \1 ",
        ),
        (r"\\le[qs](?![a-zA-Z])", r"\\le"),
        (r"\\ge[qs](?![a-zA-Z])", r"\\ge"),
        (r"\\\$", "¤"),
        (r"\\%", "%"),
        (r"√\s*(\d+|[a-zA-Z])", r"\\sqrt{\1}"),
        (r"(?:√|(?<![\\a-zA-Z])sqrt)\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"(?<![\\a-zA-Z])(sin|cos|tan|cot|sec|csc|log|ln|pi)(?![a-zA-Z])", r"\\\1"),
        (r"\*\*", "^"),
        (r"\^\s*\{?\s*\\circ\s*\}?", " degrees "),
        (r"\s+(?:and|or)\s+", ", "),
        (r"\s+", " "),
        (r" ?([-+*/^=<>(){}\[\]|!_]) ?", r"\1"),
        (r" (?=\\)", ""),
        (r"(\\[a-zA-Z]+) (?![a-zA-Z])", r"\1"),
    )
)

_UNIT_NAMES = """
dollar dollars usd bucks | cent cents | euro euros | pound pounds lb lbs | degree degrees
| percent percents | radian radians | second seconds sec secs | minute minutes min mins
| hour hours hr hrs | day days | week weeks | month months | year years
| meter meters metre metres | centimeter centimeters centimetre centimetres cm
| millimeter millimeters mm | kilometer kilometers kilometre kilometres km
| inch inches | foot feet ft | yard yards | mile miles | mph | gram grams
| kilogram kilograms kg | milligram milligrams mg | ounce ounces oz | ton tons
| liter liters litre litres | milliliter milliliters ml | gallon gallons | cup cups
| unit units | point points | person people | time times | student students
"""
"""The units that are dropped, each with its spellings; the first names it."""

_UNITS = {name: names.split()[0] for names in _UNIT_NAMES.split("|") for name in names.split()}
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_UNIT = re.compile(
    r"(?<![a-zA-Z])((?:(?:square|cubic|sq|cu)(?:\. ?| ))?)([a-zA-Z]+)(?:\^\{?([23])\}?)?$"
)
_BASE = re.compile(r"(?<=[\d)])_\{?(\d{1,2})\}?$")
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+"
_DECIMAL = re.compile(rf"([-+]?)({_DIGITS})(?:[eE]([-+]?\d{{1,3}}))?", re.ASCII)
_RATIO = re.compile(
    rf"([-+]?)(?:(\d+)[ ]?)?(?:\\frac\{{([-+]?)({_DIGITS})\}}\{{([-+]?)({_DIGITS})\}}"
    rf"|(?:(?<=[ ])|(?<![\d ]))([-+]?)({_DIGITS})/([-+]?)({_DIGITS}))",
    re.ASCII,
)
_FUNCTIONS = {"sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt", "mod", "max", "min"}


@dataclass(frozen=True)
class Quantity:
    """A normalised answer without its unit.

    Attributes:
        body: what is left to compare.
        unit: the unit in the singular, `%`, or empty.
        number: the body's exact value, where it is a plain number.
    """

    body: str
    unit: str
    number: Fraction | None


def normalise(text: str) -> str:
    """One spelling for answers that differ only in how they are written."""
    # Control and format characters (NUL, direction marks) and lone surrogates have no value.
    text = "".join(
        char if char.isascii() or unicodedata.category(char) not in ("Cf", "Cs") else ""
        for char in text.translate(_SYMBOLS)
    )
    text = re.sub(r"[\x00-\x1f\x7f]", " ", text).strip()
    for left, right in ((r"\boxed{", "}"), ("**", "**"), ("$$", "$$"), (r"\[", r"\]")):
        if text.startswith(left) and text.endswith(right) and left not in text[len(left) : -1]:
            text = text[len(left) : len(text) - len(right)]
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    # Unescaped dollar signs that pair up are delimiters; a single one in front is a currency.
    if text.count("$") % 2:
        text = re.sub(r"^([-+]?)\$", r"\1¤", text)
    text = re.sub(r"\$|\\[()]", "", text)
    return _merge_thousands(re.sub(r"^[\s:]+|[\s.:;,]+$", "", text))


def read(text: str) -> Quantity:
    """Split the unit off a normalised answer and read a plain number exactly."""
    body, unit = text, ""
    if "¤" in body and re.match(r"[-+]?¤", body):
        body, unit = body.replace("¤", "", 1), "dollar"
    if body.endswith("%"):
        body, unit = body[:-1].rstrip(), unit or "%"
    base = _BASE.search(body)
    if base:
        body, unit = body[: base.start()], f"base {base[1]}"
    scale = 1
    for _ in range(2):
        match = _UNIT.search(body)
        if match is None:
            break
        word, rest = match[2].lower(), body[: match.start()].rstrip(" -")
        if not rest:
            break
        if word in _SCALES and not match[1] and _number(rest) is not None:
            body, scale = rest, scale * _SCALES[word]
        elif word in _UNITS and (rest[-1] in "0123456789})i" or rest.split()[-1] in _SCALES):
            # Without its unit the argument of a function would change its value.
            if word.startswith("degree") and _number(rest) is None:
                break
            power = {"sq": "^2", "cu": "^3"}.get(match[1][:2], f"^{match[3]}" if match[3] else "")
            name = "%" if word.startswith("percent") else _UNITS[word] + power
            body, unit = rest, unit or name
        else:
            break
    number = _number(body)
    return Quantity(body, unit, None if number is None else number * scale)


def _number(text: str) -> Fraction | None:
    match = _DECIMAL.fullmatch(text)
    if match:
        value = _fraction(match[1], match[2])
        return value * Fraction(10) ** int(match[3]) if match[3] else value
    match = _RATIO.fullmatch(text)
    if match is None:
        return None
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


def _fraction(sign: str, digits: str) -> Fraction:
    value = Fraction(digits.replace(",", "").rstrip("."))
    return -value if sign == "-" else value


def _merge_thousands(text: str) -> str:
    """Without thousands separators, unless a comma may separate the items of a list."""
    merged = re.sub(
        r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", lambda match: match[0].replace(",", ""), text
    )
    return text if "," in merged or re.match(r"[(\[]|\\\{", text) else merged


def split_list(text: str) -> tuple[str, list[str], str] | None:
    """The opening bracket, items and closing bracket of a tuple, interval, set or bare list."""
    match = re.match(r"\\\{|[(\[]", text)
    left, right, inner = "", "", text
    if match:
        close = re.search(r"\\\}$|[)\]]$", text)
        if close is None or close.start() < match.end():
            return None
        left, right, inner = match[0], close[0], text[match.end() : close.start()]
    items, depth, start = [], 0, 0
    for index, char in enumerate(inner):
        depth += (char in "([{") - (char in ")]}")
        if depth < 0:
            return None
        if char == "," and depth == 0:
            items.append(inner[start:index].strip())
            start = index + 1
    items.append(inner[start:].strip())
    return (left, items, right) if len(items) > 1 and all(items) else None


def too_big(text: str) -> str | None:
    """Why a normalised answer must not reach a parser, or None where it may."""
    if len(text) > MAX_CHARS:
        return f"{len(text)} characters, more than {MAX_CHARS}"
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        return f"nested {deepest} deep, more than {MAX_DEPTH}"
    operators = len(re.findall(r"[-+*/^=<>!,;|]|\\[a-zA-Z]+", text))
    if operators > MAX_OPERATORS:
        return f"{operators} operators, more than {MAX_OPERATORS}"
    if any(int(digits) > MAX_FACTORIAL for digits in re.findall(r"(\d+)[)}]*!", text)):
        return f"a factorial above {MAX_FACTORIAL}"
    if re.search(r"\d[eE][-+]?\d{4}", text):
        return "an exponent of ten above 999"
    if re.search(r"!\s*[)}\]]*\s*!", text):
        return "a factorial of a factorial"
    for match in re.finditer(r"\^", text):
        exponent, end = _group(text, match.end())
        literals = re.findall(r"(?<![\d.])\d+", exponent)
        if any(len(digits) > 6 or int(digits) > MAX_EXPONENT for digits in literals):
            return f"an exponent above {MAX_EXPONENT}"
        if text[end : end + 1] == "^" or _is_tower(exponent):
            return "a tower of exponents"
    return None


def _group(text: str, start: int) -> tuple[str, int]:
    """The braced or parenthesised group, command or character at `start`, and its end."""
    if text[start : start + 1] not in ("{", "("):
        match = re.compile(r"[-+]?(?:\d+|\\[a-zA-Z]+|.)?", re.DOTALL).match(text, start)
        return (match[0], match.end()) if match else ("", start)
    depth = 0
    for index in range(start, len(text)):
        depth += (text[index] in "{(") - (text[index] in "})")
        if depth == 0:
            return text[start + 1 : index], index + 1
    return text[start + 1 :], len(text)


def _is_tower(exponent: str) -> bool:
    """Whether an exponent holds a power or factorial of its own that could be huge."""
    if "^" not in exponent and "!" not in exponent:
        return False
    if exponent.count("^") > 1 or "!" in exponent:
        return True
    letters = re.sub(r"\\[a-zA-Z]+", "", exponent)
    if any(char.isalpha() for char in letters):
        return False
    small = re.fullmatch(r"-?(\d{1,2})\^\{?-?(\d)\}?", exponent)
    return small is None or int(small[1]) ** int(small[2]) > MAX_EXPONENT


def misread(text: str) -> str | None:
    """Why a formula parser would misread a normalised answer, or None where it would not."""
    bare = re.sub(r"\\(?:begin|end)\{[a-z]+\*?\}|\\[a-zA-Z]+", " ", text)
    foreign = any(char.isalpha() and not char.isascii() for char in bare)
    if foreign or not _FUNCTIONS.issuperset(re.findall(r"[a-z]{3,}", bare.lower())):
        return "an answer holds words, which would be read as products of letters"
    if "¤" in text or re.search(r"\d \d", text):
        return "an answer holds several values side by side"
    return None


_PLAIN_TEXT = re.compile(r"\(?[^\W\d_]++(?:(?: |'|(?<=\w\w\w)-(?=\w\w\w))[^\W\d_]++)*+\)?")


def plain_text(text: str) -> str | None:
    """A normalised answer in lower case if it is nothing but words (`(B)`, `no`), else None."""
    return text.casefold().strip("()") if _PLAIN_TEXT.fullmatch(text) else None
