"""Where a solution's text may be cut, by rules alone; the text stays word for word.

Boundaries stand at blank lines; a text without any is cut at line ends, a text of one line
after sentences. Nothing is cut inside a display formula, a LaTeX environment or a code
fence, and a formula that stands alone joins the words that lead to it.
"""

from __future__ import annotations

import re

_PARAGRAPH = re.compile(r"\n[ \t\r]*\n\s*")
_LINE = re.compile(r"(?<!\s)\s*\n\s*")  # the look-behind keeps runs of white space linear
# A full stop, question or exclamation mark that ends a sentence: white space and a capital (or
# a formula) follow, and what stands before is no digit of a numbered list and no initial.
_SENTENCE = re.compile(
    r"(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bvs\.)(?<!\bEq\.)"
    r"(?<!\A\d\.)(?<!\A\d\d\.)(?<![.!?]\s\d\.)(?<![.!?]\s\d\d\.)"
    r"(?:(?<=[^\W\d_][^\W\d_][.!?])\s+(?=[A-Z\\$])|(?<=[)\]}%\d][.!?])\s+(?=[A-Z]))"
)
_ANY = re.compile(f"{_PARAGRAPH.pattern}|{_LINE.pattern}|{_SENTENCE.pattern}")
_OPENING = re.compile(r"\\\[|\$\$|```|\\begin\{([^{}\n]{1,40})\}")
_END = re.compile(r"\\end\{[^{}\n]{1,40}\}")


def split_steps(text: str) -> tuple[str, ...]:
    """Separate a solution's text into steps.

    Args:
        text: a whole solution. A text without a boundary is one step.

    Returns:
        Steps without surrounding white space. Joined, and compared without white space, they
        equal the text.

    Raises:
        ValueError: the text is blank.
    """
    if not text.strip():
        raise ValueError("the text is blank: there is nothing to split")
    blocks = _protected(text)
    for pattern in (_PARAGRAPH, _LINE, _SENTENCE):
        pieces = _cut(text, pattern, blocks)
        if len(pieces) > 1:
            break
    return tuple(text[begin:end] for begin, end in pieces)


def candidates(text: str) -> list[tuple[int, int]]:
    """Spans of the smallest pieces that a step can be made of: sentences and lines.

    Between them lies white space alone, and no formula is cut.
    """
    return _cut(text, _ANY, _protected(text))


def _protected(text: str) -> list[tuple[int, int]]:
    """Spans that no boundary may cut: display formulas, environments, code fences."""
    spans = []
    position = 0
    # Where each closing stands last: without it, every opening would search the whole text.
    last = {found.group(): found.start() for found in _END.finditer(text)}
    last |= {closing: text.rfind(closing) for closing in (r"\]", "$$", "```")}
    while found := _OPENING.search(text, position):
        opening = found.group()
        closing = {r"\[": r"\]", "$$": "$$", "```": "```"}.get(opening)
        closing = closing or f"\\end{{{found.group(1)}}}"
        if last.get(closing, -1) < found.end():  # never closed: protects nothing
            position = found.end()
            continue
        end = text.find(closing, found.end())
        spans.append((found.start(), end + len(closing)))
        position = end + len(closing)
    return spans


def _cut(
    text: str, pattern: re.Pattern[str], blocks: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Spans between the boundaries, without the white space around them."""
    spans = []
    start = 0
    next_block = 0
    for boundary in pattern.finditer(text):
        while next_block < len(blocks) and blocks[next_block][1] <= boundary.start():
            next_block += 1
        inside = next_block < len(blocks) and blocks[next_block][0] < boundary.start()
        leads_to = any(begin == boundary.end() for begin, _ in blocks[next_block : next_block + 1])
        if inside or leads_to:
            continue
        spans.append((start, boundary.start()))
        start = boundary.end()
    spans.append((start, len(text)))
    stripped = [(begin, end, text[begin:end]) for begin, end in spans if text[begin:end].strip()]
    return [
        (begin + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip()))
        for begin, end, piece in stripped
    ]
