"""Read the quantities of a step: tokens of plain, Unicode and LaTeX arithmetic, and numbers.

Text is data from a model, so reading never raises and never calls an evaluator: every regular
expression here is linear in the text, and whatever is not understood becomes an opaque token
that makes the equation around it "not checkable" rather than false.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal as OneOf

MAX_CHARS = 20_000
"""Longer steps are not read at all; the caller abstains and says so."""

MAX_DIGITS = 30
"""Longer digit strings are identifiers rather than quantities."""

Kind = OneOf["number", "operator", "open", "close", "percent", "money", "equals", "word", "break"]


@dataclass(frozen=True)
class StepVerdict:
    """What one rule says of one step.

    Attributes:
        verdict: the probability that the step is right, or None where the rule abstains.
        reason: why, in one line.
    """

    verdict: float | None
    reason: str


@dataclass(frozen=True)
class Token:
    """One piece of a step.

    Attributes:
        kind: what it is; an `opaque` word is a `word` that no unit can be.
        text: the normal form, e.g. `*` for every sign of multiplication.
        value: of a number.
        decimals: places after the point that a number was written with.
        fraction: the number was written `a/b`, without spaces.
        tight: no space stands before it.
    """

    kind: Kind
    text: str
    tight: bool
    value: Fraction = Fraction(0)
    decimals: int = 0
    fraction: bool = False


OPAQUE = "?"
"""Text of the word that stands for something unreadable: a ratio, a root, a subscript."""

_SIGNS = str.maketrans(
    {
        **dict.fromkeys("×∙⋅·✕✖", "*"),
        **dict.fromkeys("÷∕⁄", "/"),
        **dict.fromkeys("−–‒﹣－", "-"),
        **dict.fromkeys("≈≅≃", "~"),
        **dict.fromkeys("’‘", "'"),
        **dict.fromkeys("\u00a0\u2009\u202f", " "),
        **dict.fromkeys("—→⇒≠≤≥", "\n"),
        "＝": "=",
        "²": "^2 ",
        "³": "^3 ",
        "½": " 1/2 ",
        "⅓": " 1/3 ",
        "⅔": " 2/3 ",
        "¼": " 1/4 ",
        "¾": " 3/4 ",
        "⅕": " 1/5 ",
        "⅛": " 1/8 ",
        "€": "$",
        "£": "$",
        "¢": " cents ",
    }
)

_LATEX = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (
            r"\\\\|\\(?:quad|qquad|Rightarrow|rightarrow|implies|to|neq?|leq?|geq?|therefore)\b",
            "\n",
        ),
        (r"\\(?:left|right|displaystyle|big|Big|bigg)\b|\\[,;:!]|\\ |&", " "),
        (r"\{,\}", ","),
        (r"\\(?:times|cdot|ast)\b", "*"),
        (r"\\div\b", "/"),
        (r"\\(?:approx|simeq|sim|cong)\b", "~"),
        (r"\\(?:ldots|dots|cdots)\b|\.\.\.", f" {OPAQUE} "),
        (r"\\([%$#])", r"\1"),
        (r"(?<!\d)\$-(?=\d)", "-$"),
        (r"\\[()\[\]]", "\x00"),
    )
]
_MARK = re.compile(r"<<([^<>]{1,300})>>")  # GSM8K's calculator marks, "16 - 3 = <<16-3=13>>13"
_FRACTION = re.compile(r"\\[dtc]?frac\{(\d{1,30})\}\{(\d{1,30})\}")
_SHORT_FRACTION = re.compile(r"\\[dtc]?frac(\d)(\d)")
_DEEP_FRACTION = re.compile(r"\\[dtc]?frac\{([^{}]*)\}\{([^{}]*)\}")
_GROUP = re.compile(r"\\(?:text[a-z]{0,4}|math[a-z]{2,4}|mbox|operatorname|boxed|fbox)\{([^{}]*)\}")
_ROOT = re.compile(r"\\sqrt(?:\[(\d{1,2})\])?\{([^{}]*)\}")
_SHORT_ROOT = re.compile(r"\\sqrt ?(\d)|√ ?(\d+(?:\.\d+)?)|√ ?\(([^()]*)\)")
_EXPONENT = re.compile(r"\^\{([^{}]*)\}")
_BORDER = re.compile(r"(?<=[+*/^=~(])[ \n]?\x00|\x00[ \n]?(?=[+*/^=~)])")
_BULLET = re.compile(r"(?m)^[ \t]*[-*•]+[ \t]+")
_POWER = re.compile(r"(?<=[\d)])\*\*(?=[\d(])")
_CROSS = re.compile(r"(?<=[\d)%])[ ]?[xX][ ]?(?=[\d(.$])")
_CONTINUED = re.compile(r"\n[ \t]*(?=[=~])")
_ROUNDS = 6


def _as_power(root: re.Match[str], inside: str, degree: str = "2") -> str:
    """A root as a power; brackets that follow a number or a bracket tightly multiply it."""
    factor = root.string[max(root.start() - 1, 0) : root.start()]
    space = "" if factor.isdigit() or factor in (")", "}") else " "
    return f"{space}(({inside})^(1/{degree}))"


def _normalise(text: str) -> str:
    """The text with one sign for each operation, and LaTeX unwrapped."""
    marks = _MARK.findall(text)
    text = "\n".join([_MARK.sub("", text), *marks]).translate(_SIGNS)
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    text = _SHORT_FRACTION.sub(r" \1/\2 ", text)
    text = _SHORT_ROOT.sub(lambda root: _as_power(root, root[1] or root[2] or root[3]), text)
    for _ in range(_ROUNDS):
        before = text
        text = _FRACTION.sub(r" \1/\2 ", text)
        text = _GROUP.sub(r" \1 ", text)
        text = _EXPONENT.sub(r"^(\1)", text)
        text = _ROOT.sub(lambda root: _as_power(root, root[2], root[1] or "2"), text)
        text = _DEEP_FRACTION.sub(r" ((\1)/(\2)) ", text)
        if text == before:
            break
    text = _BORDER.sub(" ", text).replace("\x00", "\n")
    text = _POWER.sub("^", _BULLET.sub("\n", text)).replace("**", " ")
    return _CONTINUED.sub(" ", _CROSS.sub(" * ", text))


_TOKEN = re.compile(
    r"""
      (?P<space>[^\S\n]+)
    | (?P<opaque>\d+(?::\d+)+ | \d+(?:\.\d+){2,} | (?:[<>!]=|=>|->|<-) | \\[a-zA-Z]+ | [<>|{}_\\!√])
    | (?P<ordinal>\d+(?:st|nd|rd|th)\b)
    | (?P<fraction>\d+/\d+(?![\d/]|[.,]\d))
    | (?P<number>\d{1,3}(?:,\d{3}){1,9}(?!\d)(?:\.\d+)? | \d+(?:\.\d+)? | \.\d+)
    | (?P<equals>=+|~=?)
    | (?P<operator>//|[-+*/^])
    | (?P<open>[(\[]) | (?P<close>[)\]])
    | (?P<percent>%) | (?P<money>\$)
    | (?P<word>[^\W\d_][\w']*(?:-[^\W\d_][\w']*)*)
    | (?P<break>.|\n)
    """,
    re.VERBOSE,
)
_WORD_OPERATORS = {"times": "*", "x": "*", "X": "*", "plus": "+", "minus": "-", "by": "/"}
_SCALES = {"thousand": 3, "million": 6, "billion": 9}


def tokens(text: str) -> list[Token]:
    """The tokens of a text of at most `MAX_CHARS` characters; empty for a longer one."""
    if len(text) > MAX_CHARS:
        return []
    return _resolve_words(list(_scan(_normalise(text))))


def _scan(text: str) -> Iterator[Token]:
    tight = False
    for match in _TOKEN.finditer(text):
        kind, piece = match.lastgroup, match.group()
        if kind == "space":
            tight = False
            continue
        if kind in ("number", "fraction"):
            yield _number(match[kind], tight)
        elif kind in ("opaque", "ordinal"):
            yield Token("word", OPAQUE, tight)
        elif kind == "equals":
            yield Token("equals", "~" if piece[0] == "~" else "=", tight)
        elif kind == "operator":
            yield Token("operator", piece[0], tight)
        elif kind == "word":
            yield Token("word", piece, tight)
        else:
            yield Token(kind, piece, tight)  # type: ignore[arg-type]
        tight = kind != "break"


def _number(piece: str, tight: bool) -> Token:
    if sum(char.isdigit() for char in piece) > MAX_DIGITS:
        return Token("word", OPAQUE, tight)
    piece = piece.replace(",", "")
    whole, slash, below = piece.partition("/")
    if slash and int(below) == 0:
        return Token("word", OPAQUE, tight)
    decimals = len(piece.partition(".")[2]) if not slash else 0
    value = Fraction(int(whole), int(below)) if slash else Fraction(piece)
    return Token("number", piece, tight, value, decimals, bool(slash))


def _resolve_words(stream: list[Token]) -> list[Token]:
    """Words that are operators between quantities, and scales such as `million`."""
    result: list[Token] = []
    for index, token in enumerate(stream):
        following = stream[index + 1] if index + 1 < len(stream) else None
        if token.kind == "word" and result:
            last = result[-1]
            scale = _SCALES.get(token.text.lower())
            if scale and last.kind == "number":
                value, decimals = last.value * 10**scale, last.decimals - scale
                result[-1] = Token("number", last.text, last.tight, value, decimals)
                continue
            if token.text in _WORD_OPERATORS and _starts_quantity(following):
                if token.text == "by":  # "divided by", "multiplied by"
                    if last.text not in ("divided", "multiplied"):
                        result.append(token)
                        continue
                    result.pop()
                    sign = "/" if last.text == "divided" else "*"
                else:
                    sign = _WORD_OPERATORS[token.text]
                result.append(Token("operator", sign, False))
                continue
        result.append(token)
    return result


def _starts_quantity(token: Token | None) -> bool:
    return token is not None and token.kind in ("number", "open", "money")


_ONES = (  # noqa: SIM905
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_WORD_VALUES = {
    **{word: Fraction(value) for value, word in enumerate(_ONES)},
    **{word: Fraction(10 * value) for value, word in enumerate(_TENS, 2)},
    **dict.fromkeys(("twice", "double", "doubled", "doubles", "couple", "pair"), Fraction(2)),
    **dict.fromkeys(("thrice", "triple", "tripled", "triples"), Fraction(3)),
    **dict.fromkeys(("quadruple", "quadrupled"), Fraction(4)),
    **dict.fromkeys(("half", "halves", "halved"), Fraction(1, 2)),
    **dict.fromkeys(("third", "thirds"), Fraction(1, 3)),
    **dict.fromkeys(("quarter", "quarters", "fourth", "fourths"), Fraction(1, 4)),
    **dict.fromkeys(("fifth", "fifths"), Fraction(1, 5)),
    **dict.fromkeys(("sixth", "sixths"), Fraction(1, 6)),
    **dict.fromkeys(("eighth", "eighths"), Fraction(1, 8)),
    **dict.fromkeys(("tenth", "tenths"), Fraction(1, 10)),
    **dict.fromkeys(("dozen", "dozens"), Fraction(12)),
    "hundred": Fraction(100),
}


def numbers(text: str, words: bool = True) -> list[Fraction]:
    """The numbers of a text in order, `percent` signs dropped; number words too, if asked."""
    found: list[Fraction] = []
    for token in tokens(text):
        if token.kind == "number":
            found.append(token.value)
        elif words and token.kind == "word":
            found.extend(_word_number(token.text.lower()))
    return found


def _word_number(word: str) -> list[Fraction]:
    """`twenty-five` is 25, `two-thirds` is 2/3; a compound with another word gives its number."""
    parts = [_WORD_VALUES[part] for part in word.split("-") if part in _WORD_VALUES]
    if len(parts) == 2:
        first, second = parts
        return [first + second if first >= 20 and second >= 1 else first * second]
    return parts
