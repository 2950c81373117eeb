r"""The final answer of a solution, whatever style it is written in.

Two kinds of evidence, in this order:

1. Explicit marks, anywhere in the solution; of several, the one that stands last:
   `\boxed{…}`, `\fbox{…}` or `\boxed 5`; `#### x`; a line `A: x`; `<answer>x</answer>`;
   `Answer: x`, `**Final Answer** x`, "the answer is x", `答案是 x`; "the correct choice is D".
2. The end, where nothing is marked: the last step's last bold value (`**36**`), else its last
   formula (`$…$`, `\(…\)`, `\[…\]`), date, time of day, interval or set, else its last number.
   Where the last step holds none of these, the three before it are asked, the last first.

A mark that holds nothing (a solution cut off after `A:`) is passed over. All patterns look at
a bounded stretch per mark, so the time grows with the text's length only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
"""GSM8K's calculator marks, `<<16-3=13>>`: a tool's transcript, not part of the text."""

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])")
_BARE = re.compile(r"(?!\\(?:boxed|fbox))[^\s${}]{1,100}")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"^[ \t]*####(?!#)[ \t]*([^\n]*)", re.MULTILINE)
_LETTER = re.compile(r"^[ \t]*A:[ \t]*([^\n]*)", re.MULTILINE)
_TAG = re.compile(r"<answer>([^<]{1,2000})</answer>", re.IGNORECASE)
_CHOICE = r"\(?\\?\b([A-J])\b(?![.'’-]?\w)\)?"
_CHOSEN = re.compile(
    rf"\b(?:correct|right|best) (?:choice|option)(?: is|:)[\s:*$]*(?:option |choice )?"
    rf"{_CHOICE}|\b(?:choice|option) {_CHOICE} is (?:the )?(?:correct|right|best)\b"
    rf"|\b(?:choose|select|pick)s? (?:choice |option |answer )?{_CHOICE}"
    r"|(?:故选|选) ?[:：]? ?([A-J])\b",
    re.IGNORECASE,
)
_LAST_CHOICE = re.compile(rf"\b(?:option|choice) {_CHOICE}[.*\s]*$", re.IGNORECASE)
_PHRASE = re.compile(
    r"答案(?:[是为]|[:：])[:：*\s]{0,8}|\bans(?:\.?[ \t]*[:=]|\.)[*_\s]{0,8}"
    r"|\banswers?\b(?:[^.\n:=]{0,60}?\s(?:is|are|equals)\b[ \t]*:?"
    r"|[^.\n:=]{0,60}?[:=]"
    r"|[ \t]*\*\*(?=[ \t]*\n))[*_\s]{0,8}",
    re.IGNORECASE,
)
_PHRASE_WINDOW = 400
"""How much text after "the answer is" may hold the answer, in characters."""

_NOT_AN_ANSWER = re.compile(
    r"(?:not|correct|incorrect|right|wrong|reasonable|consistent|clear(?:ly)?|valid)\b",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"(?:(?:therefore|thus|hence|then|so|simply|just|exactly|clearly|indeed|now|equal to|given by"
    r"|approximately|about|roughly)\b,?\s*){1,3}(?=\S)",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r"[,;]?\s+(?:which|that|since|because|where|so|i\.e|as|when|if|after|approximately)\b"
    r"|\s*(?:≈|\$?\\approx)|\s+\((?=[a-z])"
)
"""Where an answer ends and an explanation of it begins."""

_SENTENCE_END = re.compile(r"(?<!\b[ap]\.m)(?<!\b[ap]\.M)\.(?=\s+[A-Z]|\s*$)|[!?;](?=\s)|[\n。]")
_VALUE_START = re.compile(r"[-+−]?[\\$€£(\[]?[-+−]?(?:\d|\.\d)|\\|\$|\(|\[")
_LIST_ITEM = re.compile(r"\d+[.)]\s|step\b", re.IGNORECASE)
_MAX_WORDS = 8
"""A phrase's value with more words than this is prose, not an answer."""

_BOLD = re.compile(r"\*\*(?![*\s])([^*\n]{1,80})(?<!\s)\*\*")
_FORMULA = re.compile(
    # A dollar sign opens a formula only before a non-space and closes one only after a
    # non-space and before a non-digit (pandoc's rule), so that prices are not taken for one.
    r"(?<![\\$])\$\$?(?![\s$])([^$\n]{1,2000})(?<![\s\\])\$(?!\d)"
    r"|\\\(((?:[^\\\n]|\\[^()\n]){1,2000})\\\)"
    r"|\\\[((?:[^\\]|\\[^\[\]]){1,2000})\\\]"
)
_NUMBER = re.compile(
    r"(?:(?<![\w)\].}])[-−][ ]?)?[$€£]?(?<![\w.])"
    r"(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++|(?=\.[0-9]))(?:\.[0-9]++)?(?:/[0-9]++(?![/.0-9]))?(?!(?:st|nd|rd|th)\b)(?:\\?%)?"
)

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec)[a-z]{0,6}\.?"
_CLOCK_OR_DATE = re.compile(
    rf"\b{_MONTH} [0-9]{{1,2}}(?:st|nd|rd|th)?(?:,? [0-9]{{4}})?\b"
    rf"|\b[0-9]{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH}(?:,? [0-9]{{4}}\b)?"
    r"|\b[0-9]{4}-[0-9]{2}-[0-9]{2}\b"
    r"|\b[0-9]{1,2}:[0-9]{2}(?: ?[AaPp]\.?[Mm]\b\.?)?|\b[0-9]{1,2} ?[AaPp]\.?[Mm]\b\.?"
)
_GROUP = re.compile(
    r"(?<![\w)])(?:[(\[][^()\[\]{}\n]{1,80}[)\]]|\\?\{[^{}\n]{1,80}\\?\})(?=[.\s]*$)"
)
_LOOK_BACK = 3
"""Steps before the last that may hold the answer where the last holds none."""


@dataclass(frozen=True)
class Answer:
    """The answer found in a solution.

    Attributes:
        text: the answer as the solution writes it, without its mark; None where there is none.
        rule: what found it (`boxed`, `####`, `A:`, `tag`, `answer phrase`, `choice`, `bold`,
            `formula`, `date or time`, `group`, `last number`), or `none`.
        reason: why there is no answer, where there is none.
        early: an unmarked answer from a step before the last: the solution may go on to another
            one, or give up.
    """

    text: str | None
    rule: str
    reason: str | None = None
    early: bool = False


def extract_answer(steps: Sequence[str]) -> Answer:
    """The final answer of a solution, or the reason why it has none."""
    text = _CALCULATOR.sub("", "\n".join(steps))
    if not text.strip():
        return Answer(None, "none", "the solution is blank")
    finders = (_last_box, _last_hashes, _last_letter, _last_tag, _last_phrase, _last_choice)
    marks = [mark for finder in finders if (mark := finder(text)) is not None and mark[2]]
    if marks:
        _, rule, value = max(marks)
        return Answer(value, rule)
    plain = [line for step in steps if (line := _CALCULATOR.sub("", step)).strip()]
    for back, step in enumerate(reversed(plain[-1 - _LOOK_BACK :])):
        found = _from_step(step)
        if found is not None:
            rule, value = found
            return Answer(value, rule, early=back > 0)
    return Answer(None, "none", "no answer is marked and the last steps hold no number")


_Found = tuple[int, str, str]
"""Where an explicit mark stands, its rule, and the answer it marks."""


def _last_hashes(text: str) -> _Found | None:
    last_line = text.rstrip().rfind("\n") + 1
    for match in reversed(list(_HASHES.finditer(text))):
        value = match[1].strip()
        # `####` also opens a Markdown heading, so a wordy one counts only as the last line.
        is_value = _VALUE_START.match(value) and not _LIST_ITEM.match(value)
        if value and (match.start() >= last_line or (is_value and _words(value) <= 3)):
            return match.start(), "####", _clean(value)
    return None


def _last_letter(text: str) -> _Found | None:
    for match in reversed(list(_LETTER.finditer(text))):
        if match[1].strip():
            return match.start(), "A:", _clean(match[1])
    return None


def _last_tag(text: str) -> _Found | None:
    for match in reversed(list(_TAG.finditer(text))):
        if match[1].strip():
            return match.start(), "tag", _clean(match[1])
    return None


def _last_choice(text: str) -> _Found | None:
    for match in reversed(list(_CHOSEN.finditer(text))):
        letter = next(group for group in match.groups() if group)
        # Only a capital names an option: "choose a number".
        if letter.isupper():
            return match.start(), "choice", letter
    return None


def _last_phrase(text: str) -> _Found | None:
    for match in reversed(list(_PHRASE.finditer(text))):
        value = _phrase_value(text[match.end() : match.end() + _PHRASE_WINDOW])
        if value:
            return match.start(), "answer phrase", value
    return None


def _last_box(text: str) -> _Found | None:
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    closing: dict[int, int] = {}
    opened: list[int] = []
    for match in _BRACES.finditer(text, boxes[0].start()):
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            closing[opened.pop()] = match.start()
    for box in reversed(boxes):
        start = box.end()
        while start < len(text) and text[start] == " ":
            start += 1
        if text[start : start + 1] == "{":
            # A box that never closes was cut off: what it holds is not the answer.
            end = closing.get(start, start)
            value = text[start + 1 : end].strip()
        else:
            bare = _BARE.match(text, start)
            value = bare[0].rstrip(".,;\\)]") if bare else ""
        if value:
            return box.start(), "boxed", value
    return None


def _phrase_value(window: str) -> str | None:
    """The answer at the start of what follows "the answer is", if it looks like one."""
    if _NOT_AN_ANSWER.match(window):
        return None
    filler = _FILLER.match(window)
    window = window[filler.end() :] if filler else window
    formula = _FORMULA.match(window)
    if formula:
        # `$5$ and $7$` belongs together; a sentence after the formula does not.
        sentence = _without_aside(window[: _end_of_sentence(window, formula.end())], formula.end())
        return _clean(sentence) if _words(sentence) <= _MAX_WORDS else _clean(formula[0])
    sentence = _without_aside(window[: _end_of_sentence(window, 0)].strip(), 1)
    if not sentence:
        return None
    inner = _last_marked_value(sentence)
    if _VALUE_START.match(sentence) and _words(sentence) <= _MAX_WORDS:
        return _clean(sentence)
    if inner is not None:
        return inner[1]
    numbers = _NUMBER.findall(sentence)
    if len(numbers) == 1 and _words(sentence) > 3:
        return _clean(numbers[0])
    if _VALUE_START.match(sentence) and numbers:
        return _clean(numbers[0])
    return _clean(sentence) if _words(sentence) <= 3 else None


def _without_aside(sentence: str, start: int) -> str:
    aside = _ASIDE.search(sentence, start)
    return (
        sentence[: aside.start()]
        if aside and _NUMBER.search(sentence[: aside.start()])
        else sentence
    )


def _from_step(step: str) -> tuple[str, str] | None:
    """The rule and the value of what looks most like an answer in a step without marks."""
    inner = _last_marked_value(step)
    number = next(reversed(list(_NUMBER.finditer(step))), None)
    if inner is not None:
        rule, value, end = inner
        if rule == "bold" or number is None or number.start() < end:
            return rule, value
    moment = next(reversed(list(_CLOCK_OR_DATE.finditer(step))), None)
    if moment is not None and (number is None or number.start() < moment.end()):
        return "date or time", moment[0]
    group = _GROUP.search(step, max(0, len(step) - 100))
    if group is not None and "," in group[0] and re.search(r"\d", group[0]):
        return "group", group[0]
    chosen = _LAST_CHOICE.search(step, max(0, len(step) - 40))
    if chosen is not None and chosen[1].isupper():
        return "choice", chosen[1]
    return None if number is None else ("last number", _clean(number[0]))


def _last_marked_value(text: str) -> tuple[str, str, int] | None:
    """The last bold value, else the last formula that holds a digit: rule, value and end."""
    bold = None
    for match in _BOLD.finditer(text):
        if _VALUE_START.match(match[1]) and not _LIST_ITEM.match(match[1]):
            bold = match
    if bold is not None:
        return "bold", _clean(bold[1]), bold.end()
    formulas = [match for match in _FORMULA.finditer(text) if any(map(str.isdigit, match[0]))]
    if not formulas:
        return None
    last = formulas[-1]
    together = _joined(text, formulas)
    if together is not None:
        return "formula", together, last.end()
    content = last[last.lastindex or 0]
    # A chain of equations ends in its result.
    value = re.split(r"(?<![<>!\\])=", content)[-1].strip() or content
    return "formula", _clean(value), last.end()


def _joined(text: str, formulas: list[re.Match[str]]) -> str | None:
    """`$x=1$ or $x=2$` at the end as one list; None where the last formula stands alone."""
    start = len(formulas) - 1
    gaps = []
    while start > 0:
        gap = text[formulas[start - 1].end() : formulas[start].start()]
        if not re.fullmatch(r",?\s*(?:and|or)?\s*", gap):
            break
        gaps.append(gap.strip(" ,\n"))
        start -= 1
    if not gaps or gaps[0] not in ("and", "or"):
        return None
    contents = [match[match.lastindex or 0].strip() for match in formulas[start:]]
    # "For $x=1$ and $y=2$" with one name or none is a list of values, else of equations.
    return ", ".join(contents) if len({text.count("=") for text in contents}) == 1 else None


def _end_of_sentence(text: str, start: int) -> int:
    end = _SENTENCE_END.search(text, start)
    return end.start() if end else len(text)


def _words(text: str) -> int:
    return len(re.findall(r"(?<![\\\w])[^\W\d_]{2,}", text))


def _clean(text: str) -> str:
    """The value without the wrapping that styles put around it."""
    text = text.strip()
    for _ in range(4):
        before = text
        text = text.rstrip(".,;: ").strip()
        for left, right in (("**", "**"), ("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
            inner = text[len(left) : len(text) - len(right)]
            wrapped = text.startswith(left) and text.endswith(right)
            if wrapped and len(text) > len(left) + len(right) and left not in inner:
                text = inner.strip()
        text = text.removesuffix("**") if "**" not in text[:-2] else text
        if text == before:
            break
    return text
