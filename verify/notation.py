r"""How an answer is written: one spelling for many.

`normalise` removes what does not change the value (`$`, `\left`, `\text{}`, colours, spaces) and
gives one sign to what has several (`≤`, full-width digits). It is pure and linear in the text's
length. What it leaves is read by `numerals`, `units`, `words`, `moments`, `regions` and
`formulas`.

Three characters stand for what LaTeX writes longer: `¤` for an escaped dollar sign, `°` for
degrees, `¶` for the end of a matrix's row.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import accumulate

_POWERS = {sign: f"^{digit}" for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
_FULL_WIDTH = {chr(code + 0xFEE0): chr(code) for code in range(0x21, 0x7F)}
_SYMBOLS = str.maketrans(
    {
        **_FULL_WIDTH,
        **_POWERS,
        **dict.fromkeys("−–—‐‑‒﹣－", "-"),
        **{"×": r"\times ", "÷": r"\div ", "∕": "/", "⁄": "/", "·": r"\cdot ", "⋅": r"\cdot "},
        **{"π": r"\pi ", "∞": r"\infty ", "θ": r"\theta ", "∪": r"\cup ", "±": r"\pm "},
        **{
            "∩": r"\cap ",
            "∈": r"\in ",
            "∅": r"\emptyset ",
            "ℝ": r"\mathbb{R} ",
            "∖": r"\setminus ",
        },
        **{"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "％": "%", "⟨": r"\langle ", "⟩": r"\rangle "},
        **{"½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "…": r"\ldots "},
        **{"　": " ", "。": ".", "、": ",", "“": '"', "”": '"', "¶": "?", "¤": "?", "’": "'"},
    }
)
_REPLACEMENTS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\\\(?:\[[^\[\]]{0,20}\])?", "¶"),
        (r"\{,\}|,\\!", ","),
        (r"\{:\}|\\colon(?![a-zA-Z])|\\text\{:\}", ":"),
        (r"(?<=\d)\\[,!;: ](?=\d{3}(?!\d))", ""),
        (r"\\(?:left|right|[bB]ig+[lrm]?)(?![a-zA-Z])\.?", ""),
        (
            r"\\(?:displaystyle|textstyle|limits|quad|qquad|tiny|small|large|Large|LARGE|huge|Huge"
            r"|bf|rm|it|hfill|hspace\{[^{}]*\})(?![a-zA-Z])|\\[!,;: ]|~",
            " ",
        ),
        (r"\\color\s*\{[^{}]*\}|\\textcolor\s*\{[^{}]*\}", " "),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\[dt]binom(?![a-zA-Z])", r"\\binom"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (
            r"\\(?:text|textbf|textit|textrm|textsf|texttt|mathrm|mathbf|mathit|mathsf|boldsymbol"
            r"|mbox|hbox|operatorname|underline|emph)\s*\{([^{}]*)\}",
            r" \1 ",
        ),
        (r"\\le(?:q|qslant)?(?![a-zA-Z])", r"\\le"),
        (r"\\ge(?:q|qslant)?(?![a-zA-Z])", r"\\ge"),
        (r"\\neq(?![a-zA-Z])", r"\\ne"),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\(?:lvert|rvert|vert|mid)(?![a-zA-Z])", "|"),
        (r"\\lbrace(?![a-zA-Z])", r"\\{"),
        (r"\\rbrace(?![a-zA-Z])", r"\\}"),
        (r"\\(?:varnothing|emptyset)(?![a-zA-Z])|\\\{\s*\\\}", r"\\emptyset"),
        (r"\\(?:dots|ldots|cdots|dotsc)(?![a-zA-Z])|\.\.\.+", r"\\ldots"),
        (r"\\(?:ast|times)(?![a-zA-Z])|(?<=\d) ?[xX] ?(?=10\s*\^)", r"\\cdot "),
        (r"\\\$", "¤"),
        (r"\\%", "%"),
        (r"√\s*(\d+|[a-zA-Z])", r"\\sqrt{\1}"),
        (r"(?:√|(?<![\\a-zA-Z])sqrt)\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (
            r"(?<![\\a-zA-Z])(arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|log|ln|pi)(?![a-zA-Z])",
            r"\\\1",
        ),
        (r"(?<![\\a-zA-Z])[Ii]nfinity(?![a-zA-Z])", r"\\infty"),
        (r"\*\*", "^"),
        (r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-zA-Z])|\s*°", "°"),
        (r"\s*(?<![a-zA-Z])degrees?(?![a-zA-Z])", "°"),
        (r"\s+", " "),
        (r" ?([-+*/^=<>(){}\[\]|!_:;,°&¶]) ?", r"\1"),
        (r" (?=\\)", ""),
        (r"(\\[a-zA-Z]+) (?![a-zA-Z])", r"\1"),
    )
)


def normalise(text: str) -> str:
    """One spelling for answers that differ only in how they are written."""
    # Control and format characters (NUL, direction marks) and lone surrogates have no value.
    text = "".join(
        char if char.isascii() or unicodedata.category(char) not in ("Cf", "Cs") else ""
        for char in text.translate(_SYMBOLS)
    )
    text = re.sub(r"[\x00-\x1f\x7f]", " ", text).strip()
    for left, right in ((r"\boxed{", "}"), ("**", "**"), ("$$", "$$"), (r"\[", r"\]"), ('"', '"')):
        inner = text[len(left) : len(text) - len(right)]
        wrapped = text.startswith(left) and text.endswith(right)
        if wrapped and len(text) > len(left) + len(right) and left not in inner:
            text = inner
    if r"\begin" not in text:
        # Outside a matrix nothing ends a row: the backslash was escaped once too often.
        text = re.sub(r"\\\\(?=[a-zA-Z$%{}(\[])", r"\\", text)
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    # Unescaped dollar signs that pair up are delimiters; a single one in front is a currency.
    if text.count("$") % 2:
        text = re.sub(r"^([-+]?)\$", r"\1¤", text)
    text = re.sub(r"\$|\\[()]", "", text).strip()
    text = re.sub(r"^[a-zA-Z]\\in(?![a-zA-Z]) ?", "", text)
    text = re.sub(r"^[\s:,;]+|[\s:;,]+$|(?<!\\ldots)[\s.:;,]+$", "", text)
    return _merge_thousands(_without_outer_braces(text))


def _without_outer_braces(text: str) -> str:
    """`{5}` is 5: braces group in LaTeX and show nothing."""
    while text.startswith("{") and text.endswith("}") and not text.endswith("\\}"):
        depths = accumulate((char == "{") - (char == "}") for char in text[:-1])
        if not all(depth > 0 for depth in depths):
            return text
        text = text[1:-1].strip()
    return text


def _merge_thousands(text: str) -> str:
    """Without thousands separators, unless a comma may separate the items of a list."""
    if re.fullmatch(r"[-+]?\d{1,3}(?: \d{3}){2,}", text):
        return text.replace(" ", "")
    merged = re.sub(
        r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", lambda match: match[0].replace(",", ""), text
    )
    return text if "," in merged or re.match(r"[(\[]|\\\{", text) else merged
