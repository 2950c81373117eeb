"""Where a solution's text may be cut, and where rules cut it; the text stays word for word.

A piece is the smallest part that a step can be made of: it ends at a blank line, at a line end or
after a sentence. Nothing is cut inside a formula, a LaTeX environment or a code fence. A display
formula joins the words that lead to it; a tag such as `<think>` and the number of a list item say
nothing by themselves and join what they belong to.

Rules cut at blank lines, a text with none or few at line ends, one of one line after sentences.
What announces a step by itself (`Step 3:`, a heading, a numbered item, "Wait", "Alternatively")
begins one anywhere. `benchmarks/split_quality.py` measures the rules, and decided them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

SENTENCE, LINE, PARAGRAPH = 1, 2, 3
"""What separates a piece from the one before it, the weakest first."""

_PARAGRAPH = re.compile(r"\n[ \t\r]*\n\s*")
_LINE = re.compile(r"(?<!\s)\s*\n\s*")  # the look-behind keeps runs of white space linear
# Where a sentence ends: after a full stop, question or exclamation mark with white space and a
# capital, a formula or bold type behind it, if what stands before is no digit of a numbered list
# and no initial. After a display formula a capital is enough.
_SENTENCE = re.compile(
    r"(?=\s)(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bvs\.)(?<!\bEq\.)"
    r"(?<!\A\d\.)(?<!\A\d\d\.)(?<![.!?]\s\d\.)(?<![.!?]\s\d\d\.)"
    r"(?:(?<=[^\W\d_][^\W\d_][.!?])|(?<=[)\]}%$\d][.!?])|(?<=\s[a-z][.!?])|(?<=[.!?][.!?)\]\"'”*$]))"
    r"\s+(?=[A-Z\\$#\"“]|\*\*)"
    r"|(?=\s)(?:(?<=\\\])|(?<=\$\$)|(?<=\*\})|(?<=align\})|(?<=ation\}))\s+(?=[A-Z#]|\*\*)"
    r"|(?=\s)(?<=</think>)\s+"
    r"|(?<=[。！？])\s*(?![\s。！？”’」』）])"
)
_ANY = re.compile(f"{_PARAGRAPH.pattern}|{_LINE.pattern}|{_SENTENCE.pattern}")
_OPENING = re.compile(
    r"(?P<display>(?<!\\)\\\[|\$\$|```|\\begin\{([^{}\n]{1,40})\})|(?<!\\)\\\(|(?<!\\)\$(?=[^\s$])"
)
_END = re.compile(r"\\end\{[^{}\n]{1,40}\}")
# A formula inside a line; a dollar that closes one stands against no white space and no digit, so
# amounts of money are none.
_INLINE = re.compile(
    r"\\\((?:(?!\\\(|\n[ \t\r]*\n)[\s\S])*?\\\)|\$(?=\S)[^$\n]*(?<=[^\s\\])\$(?!\d)"
)
_TAGS = re.compile(r"(?:</?[A-Za-z][\w-]{0,30}>\s*)+")
_NUMBER = re.compile(r"(?:\*\*)?(?:\d{1,3}|[a-z])[.)]")

# What announces a step by itself: at any piece, and at the start of a line.
_ANNOUNCED = re.compile(
    r"(?:#{1,6}[ \t]*)?(?:\*\*[ \t]*)?(?i:step|case)[ \t]+\d{1,3}[ \t]*(?:[:.)*–—-]|\n|\Z)"
    r"|(?:(?:But|Oh|No|So|Hmm+|Hm|Ah|Okay|OK),? )?(?:[Ww]ait|[Hh]old on)\b|Hmm+\b|Alternatively\b"
    r"|Let me (?:double[- ]?|re-?)?(?:check|verify|consider|think|try)\b|Actually,"
    r"|Another (?:way|approach)\b|<think>"
)
# A numbered item, unless it is a formula: those are listed inside a step.
_ITEM = re.compile(r"(?:\*\*)?\d{1,3}[.)](?=[ \t*])(?![ \t]*(?:\\[(\[]|\$\D))")
_TITLE = re.compile(r"#{1,6}[ \t]")
_CONTINUES = re.compile(r"[-*•+][ \t]|[|=&]")
# A heading names what follows; one that holds an equation may be a step.
_HEADING = re.compile(
    r"#{1,6}[ \t][^\n=]{0,80}|(?:\d{1,3}[.)][ \t]*)?\*\*[^*\n=]{1,80}\*\*:?"
    r"|(?:\*\*)?(?i:step|case)[ \t]+\d{1,3}[:.)]?(?:\*\*)?:?"
)
_WORD = re.compile(r"\w")


@dataclass
class RulesConfig:
    """How long a step that rules cut may be, in characters.

    Attributes:
        min_chars: a shorter one joins the one before it; the first one, and one that announces
            itself ("Hmm."), joins the one after it. What holds no letter and no digit always does.
        max_chars: a longer one is cut like a text of its own, at lines and then at sentences. A
            piece that offers no place to cut stays longer.
    """

    min_chars: int = 1
    max_chars: int = 1500

    def __post_init__(self) -> None:
        if not 1 <= self.min_chars <= self.max_chars:
            raise ValueError(
                f"min_chars is {self.min_chars} (from 1), max_chars is {self.max_chars} "
                "(from min_chars)"
            )


class Piece(NamedTuple):
    """A span of the text.

    Attributes:
        begin, end: where it stands; no white space at its edges.
        gap: what separates it from the piece before; `PARAGRAPH` for the first.
    """

    begin: int
    end: int
    gap: int


def split_steps(text: str, rules: RulesConfig | None = None) -> tuple[str, ...]:
    """Separate a solution's text into steps by rules.

    Args:
        text: a whole solution. A text without a boundary is one step.
        rules: how long a step may be; None takes the defaults.

    Returns:
        Steps without surrounding white space. Joined, and compared without white space, they
        equal the text.

    Raises:
        ValueError: the text is blank.
    """
    if not text.strip():
        raise ValueError("the text is blank: there is nothing to split")
    rules = rules or RulesConfig()
    spans = list(_steps(text, pieces(text), rules.max_chars))
    return tuple(text[begin:end] for begin, end in _gathered(text, spans, rules.min_chars))


def candidates(text: str) -> list[tuple[int, int]]:
    """Spans of the smallest pieces that a step can be made of: sentences and lines.

    Between them lies white space alone, and no formula is cut.
    """
    return attach(text, _cut(text, _protected(text)))


def pieces(text: str) -> list[Piece]:
    """The candidates of a text, each with what separates it from the one before."""
    found: list[Piece] = []
    before = 0
    for begin, end in candidates(text):
        white = text[before:begin]
        gap = PARAGRAPH if _PARAGRAPH.search(white) else LINE if "\n" in white else SENTENCE
        found.append(Piece(begin, end, gap if found else PARAGRAPH))
        before = end
    return found


def attach(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans that say nothing by themselves to the one that they belong to.

    Those are tags alone (opening ones join what follows, closing ones what stands before) and
    numbers of list items before words of the same line.
    """
    joined: list[tuple[int, int]] = []
    waiting: int | None = None
    for index, (begin, end) in enumerate(spans):
        tag = text[begin] == "<" and _TAGS.fullmatch(text, begin, end) is not None
        if tag and text[begin + 1] == "/" and joined and waiting is None:
            joined[-1] = (joined[-1][0], end)
            continue
        begin = begin if waiting is None else waiting
        number = (
            index + 1 < len(spans)
            and "\n" not in text[end : spans[index + 1][0]]
            and _NUMBER.fullmatch(text, spans[index][0], end) is not None
        )
        waiting = begin if tag or number else None
        if waiting is None:
            joined.append((begin, end))
    if waiting is not None:  # nothing follows
        first = joined.pop()[0] if joined else waiting
        joined.append((first, spans[-1][1]))
    return joined


def _steps(text: str, parts: Sequence[Piece], longest: int) -> Iterator[tuple[int, int]]:
    """Spans of steps; what is longer than `longest` is cut again while it can be."""
    level = max((part.gap for part in parts[1:]), default=SENTENCE)
    starts = _starts(text, parts, level)
    if level == PARAGRAPH:
        blank = sum(part.gap == PARAGRAPH for part in parts[1:])
        lines = _starts(text, parts, LINE)
        if sum(parts[index].gap == LINE for index in lines) > 2 * blank:
            starts = lines  # a text in lines, with a blank one before its answer
    starts = starts or [index for index in range(1, len(parts)) if parts[index].gap == level]
    for first, last in zip([0, *starts], [*starts, len(parts)], strict=True):
        begin, end = parts[first].begin, parts[last - 1].end
        if end - begin > longest and last - first > 1:
            yield from _steps(text, parts[first:last], longest)
        else:
            yield begin, end


def _starts(text: str, parts: Sequence[Piece], level: int) -> list[int]:
    """The pieces after the first that begin a step in a text of paragraphs, lines or sentences."""
    return [
        index
        for index in range(1, len(parts))
        if parts[index].gap > level
        or _announced(text, parts[index])
        or text.endswith("</think>", parts[index - 1].begin, parts[index - 1].end)
        or (parts[index].gap == level and not _goes_on(text, parts[index - 1], parts[index]))
    ]


def _goes_on(text: str, before: Piece, piece: Piece) -> bool:
    """Whether a line belongs to the one before it: a bullet, a row, what a colon leads to."""
    leads = text[before.end - 1] in ":："
    return piece.gap == LINE and (leads or _CONTINUES.match(text, piece.begin) is not None)


def _announced(text: str, piece: Piece) -> bool:
    title = piece.gap >= LINE and _TITLE.match(text, piece.begin) is not None
    return title or _own(text, piece.begin, item=piece.gap >= LINE)


def _own(text: str, begin: int, *, item: bool = True) -> bool:
    """Whether what begins here announces a step by itself, as a list's `item` or otherwise."""
    found = _ANNOUNCED.match(text, begin) or (_ITEM.match(text, begin) if item else None)
    return found is not None


def _gathered(
    text: str, spans: Sequence[tuple[int, int]], shortest: int
) -> Iterator[tuple[int, int]]:
    """Steps, with headings and those that are too short joined to a neighbour."""
    ready: tuple[int, int] | None = None  # may still grow at its end
    waiting: int | None = None  # where a step begins that joins the next
    worded = False
    for index, (begin, end) in enumerate(spans):
        begin = begin if waiting is None else waiting
        worded = _WORD.search(text, *spans[index]) is not None or (worded and waiting is not None)
        follows = index + 1 < len(spans)
        short = not worded or end - begin < shortest
        heading = _HEADING.fullmatch(text, begin, end) is not None
        if follows and heading:  # of numbered ones in a row, each is a step
            waiting = None if _own(text, begin) and _own(text, spans[index + 1][0]) else begin
        elif follows and short and (ready is None or _own(text, begin)):
            waiting = begin
        else:
            waiting = None
        if waiting is not None:
            continue
        if short and ready is not None:
            ready = ready[0], end
            continue
        if ready is not None:
            yield ready
        ready = begin, end
    if ready is not None:
        yield ready


def _protected(text: str) -> list[tuple[int, int, bool]]:
    """Spans that no boundary may cut, and whether each is a block of its own.

    Blocks are display formulas, environments and code fences; the others are formulas in a line.
    """
    spans = []
    position = 0
    # Where each closing stands last: without it, every opening would search the whole text.
    last = {found.group(): found.start() for found in _END.finditer(text)}
    last |= {closing: text.rfind(closing) for closing in (r"\]", "$$", "```")}
    while found := _OPENING.search(text, position):
        position = found.end()
        begin, opening = found.start(), found.group()
        if not found["display"]:
            if inline := _INLINE.match(text, begin):
                spans.append((begin, inline.end(), False))
                position = inline.end()
            continue
        closing = {r"\[": r"\]", "$$": "$$", "```": "```"}.get(opening)
        closing = closing or f"\\end{{{found.group(2)}}}"
        if last.get(closing, -1) < position:  # never closed: protects nothing
            continue
        end = text.find(closing, position)
        if opening == r"\[":  # one that another follows before its end was never closed
            begin = _last_opening(text, begin, end)
        position = end + len(closing)
        spans.append((begin, position, True))
    return spans


def _last_opening(text: str, begin: int, end: int) -> int:
    """The last `\\[` in a span that starts with one; `\\\\[` ends a line and opens nothing."""
    position = end
    while (position := text.rfind(r"\[", begin, position)) > begin:
        if text[position - 1] != "\\":
            return position
    return begin


def _cut(text: str, blocks: list[tuple[int, int, bool]]) -> list[tuple[int, int]]:
    """Spans between the boundaries, without the white space around them."""
    spans = []
    start = 0
    next_block = 0
    for boundary in _ANY.finditer(text):
        while next_block < len(blocks) and blocks[next_block][1] <= boundary.start():
            next_block += 1
        here = blocks[next_block : next_block + 1]
        if any(begin < boundary.start() for begin, _, _ in here):
            continue
        if any(block and begin == boundary.end() for begin, _, block in here):
            continue  # what stands before leads to the block
        spans.append((start, boundary.start()))
        start = boundary.end()
    spans.append((start, len(text)))
    stripped = [(begin, end, text[begin:end]) for begin, end in spans if text[begin:end].strip()]
    return [
        (begin + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip()))
        for begin, end, piece in stripped
    ]
