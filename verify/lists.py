r"""Answers of several parts: tuples, intervals, sets, bare lists, matrices, plus-minus."""

from __future__ import annotations

import re

List = tuple[str, list[str], str]
"""Opening bracket, items and closing bracket; both brackets are empty for a bare list."""

_SIGNS = re.compile(r"\\(?:pm|mp)(?![a-zA-Z]) ?")
_WORD = re.compile(r"(?<![a-zA-Z]) ?(?:and|or) ?(?![a-zA-Z])")
_MATRIX = re.compile(
    r"[\[(|]?\\begin\{(p|b|B|v|V|small)?(?:matrix|array)\}(?:\{[lcr|]*\})?(.*)"
    r"\\end\{(?:p|b|B|v|V|small)?(?:matrix|array)\}[\])|]?",
    re.DOTALL,
)


def split_list(text: str) -> List | None:
    """The parts of a tuple, interval, set or bare list of a normalised answer, else None."""
    match = re.match(r"\\\{|\\langle ?|[(\[]", text)
    left, right, inner = "", "", text
    if match:
        close = re.search(r"\\\}$|\\rangle$|[)\]]$", text)
        if close is None or close.start() < match.end():
            match = None
        else:
            left, right, inner = match[0].strip(), close[0], text[match.end() : close.start()]
    items = _items(inner)
    if items is None and match:
        # `(1,2),(3,4)`: the first bracket closes before the last one.
        left, right, items = "", "", _items(text)
    if items is None or not all(items):
        return None
    if left == r"\langle":
        left, right = "(", ")"
    return (left, items, right) if len(items) > 1 or left == r"\{" else None


def _items(text: str) -> list[str] | None:
    items: list[str] = []
    depth = start = 0
    word_ends = {match.start(): match.end() for match in _WORD.finditer(text)}
    index = 0
    while index < len(text):
        char = text[index]
        depth += (char in "([{") - (char in ")]}")
        if depth < 0:
            return None
        end = index + 1 if char in ",;" else word_ends.get(index)
        if depth == 0 and end is not None:
            part = text[start:index].strip()
            # `1,2,and 3`: the comma and the word part the items once.
            if part or not items:
                items.append(part)
            start = index = end
        else:
            index += 1
    if depth:
        return None
    return [*items, text[start:].strip()]


def has_signs(text: str) -> bool:
    r"""Whether a text holds a `\pm` or `\mp`."""
    return _SIGNS.search(text) is not None


def both_signs(items: list[str]) -> list[str] | None:
    r"""The items with each `\pm` written out as two; None where two in one item may vary apart."""
    result = []
    for item in items:
        count = len(_SIGNS.findall(item))
        if count > 1:
            return None
        if count == 0:
            result.append(item)
            continue
        for sign in "+-":
            result.append(_SIGNS.sub(sign, item).lstrip("+"))
    return result


def matrix(text: str) -> tuple[str, list[list[str]]] | None:
    """A matrix's kind (`v` for a determinant, else empty) and rows, else None."""
    match = _MATRIX.fullmatch(text)
    if match is None or r"\begin" in match[2]:
        return None
    rows = [row.strip() for row in match[2].split("¶")]
    if not rows[-1]:
        rows.pop()
    cells = [[cell.strip() for cell in row.split("&")] for row in rows]
    if not cells or len({len(row) for row in cells}) != 1 or not all(all(row) for row in cells):
        return None
    bars = match[1] in ("v", "V") or text[0] == "|"
    return ("v" if bars else ""), cells


def nested_rows(text: str) -> list[list[str]] | None:
    """The rows of `[[1,2],[3,4]]`, else None."""
    outer = split_list(text)
    if outer is None or outer[0] not in "[(" or not outer[0]:
        return None
    rows = [split_list(item) for item in outer[1]]
    if any(row is None or row[0] != outer[0] for row in rows):
        return None
    cells = [row[1] for row in rows if row is not None]
    return cells if len({len(row) for row in cells}) == 1 else None
