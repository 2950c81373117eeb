"""`prm split`: one text into steps, by rules; the text stays word for word.

Boundaries stand at blank lines; a text without any is cut at line ends, a text of one line
after sentences. Nothing is cut inside a display formula, a LaTeX environment or a code
fence, and a formula that stands alone joins the words that lead to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from prm import jsonl
from prm.progress import track
from prm.records import Solution
from prm.run import Counts, Run
from prm.sources import Source, identify, solutions

_PARAGRAPH = re.compile(r"\n[ \t\r]*\n\s*")
_LINE = re.compile(r"(?<!\s)\s*\n\s*")  # the look-behind keeps runs of white space linear
# A full stop, question or exclamation mark that ends a sentence: white space and a capital (or
# a formula) follow, and what stands before is no digit of a numbered list and no initial.
_SENTENCE = re.compile(
    r"(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bvs\.)(?<!\bEq\.)"
    r"(?<!\A\d\.)(?<!\A\d\d\.)(?<![.!?]\s\d\.)(?<![.!?]\s\d\d\.)"
    r"(?:(?<=[^\W\d_][^\W\d_][.!?])\s+(?=[A-Z\\$])|(?<=[)\]}%\d][.!?])\s+(?=[A-Z]))"
)
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
            return tuple(pieces)
    return (text.strip(),)


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


def _cut(text: str, pattern: re.Pattern[str], blocks: list[tuple[int, int]]) -> list[str]:
    pieces = []
    start = 0
    next_block = 0
    for boundary in pattern.finditer(text):
        while next_block < len(blocks) and blocks[next_block][1] <= boundary.start():
            next_block += 1
        inside = next_block < len(blocks) and blocks[next_block][0] < boundary.start()
        leads_to = any(begin == boundary.end() for begin, _ in blocks[next_block : next_block + 1])
        if inside or leads_to:
            continue
        pieces.append(text[start : boundary.start()].strip())
        start = boundary.end()
    pieces.append(text[start:].strip())
    return [piece for piece in pieces if piece]


def split(items: Iterable[Solution]) -> Iterator[Solution]:
    """Split solutions that are one text; those that have several steps stay as they are."""
    for item in items:
        if len(item.steps) > 1:
            yield item
        else:
            metadata = item.metadata | {"split": "rules"}
            yield replace(item, steps=split_steps(item.steps[0]), metadata=metadata)


@dataclass
class Config:
    """`prm split`.

    Attributes:
        out: the run folder; gets `solutions.jsonl`.
        source: solutions, as `prm sample` leaves them.
    """

    out: str
    source: Source


def run(config: Config) -> Counts:
    """Split a file of solutions. Seconds of work, so an interrupted run starts anew."""
    with Run(config.out, "split", config, {"source": identify(config.source)}) as folder:
        if folder.counts is not None:
            return folder.counts
        items = list(split(track(list(solutions(config.source)), "split")))
        jsonl.write(folder.path("solutions.jsonl"), items)
        return folder.finish(Counts(read=len(items), written=len(items)), ["solutions.jsonl"])
