"""What must not reach a parser: answers too big to work out, and answers that would be misread.

A short text can name a number that no machine holds; `too_big` refuses it before anything is
computed. `misread` refuses what a formula parser would take for something else, as it takes
`3 apples` for a product of letters. Both are pure and linear in the text's length.
"""

from __future__ import annotations

import re

MAX_CHARS = 2_000
MAX_DEPTH = 50
MAX_OPERATORS = 200
MAX_EXPONENT = 10_000
MAX_FACTORIAL = 1_000

_FUNCTIONS = {"sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt", "mod", "max", "min"}
_SHORT_WORDS = frozenset("is in of or no to at by if an am pm we he so as it be on do my".split())  # noqa: SIM905


def too_big(text: str) -> str | None:
    """Why a normalised answer must not reach a parser, or None where it may."""
    if len(text) > MAX_CHARS:
        return f"{len(text)} characters, more than {MAX_CHARS}"
    deep = too_deep(text)
    if deep:
        return deep
    operators = len(re.findall(r"[-+*/^=<>!,;|]|\\[a-zA-Z]+", text))
    if operators > MAX_OPERATORS:
        return f"{operators} operators, more than {MAX_OPERATORS}"
    factorials = re.findall(r"(?<!\d)(\d+)[)}]*!", text)
    if any(len(digits) > 6 or int(digits) > MAX_FACTORIAL for digits in factorials):
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


def too_deep(text: str) -> str | None:
    """Why a text is nested too deep for anything recursive, or None."""
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return f"nested {deepest} deep, more than {MAX_DEPTH}" if deepest > MAX_DEPTH else None


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
    words = set(re.findall(r"[a-z]+", bare.lower()))
    if foreign or {word for word in words if len(word) > 2} - _FUNCTIONS or words & _SHORT_WORDS:
        return "an answer holds words, which would be read as products of letters"
    if "¤" in text or re.search(r"(?<![_\d])\d+ \d", text):
        return "an answer holds several values side by side"
    return None
