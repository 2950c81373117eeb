"""Exact labels for whatever a policy writes about a micro problem.

A micro problem's reference lists its operations, so a free text can be checked against it. A
step is right (1.0) if and only if all that it says is true of the problem:

- an equation is one of the problem's own, worked out right (operands of `+` and `*` in either
  order), and belongs to the person named beside it;
- "18 and 7" are the operands of one of the problem's operations;
- "Tom has 25 eggs" states the result of the step's equation, or, where the step has none before
  it, of any of Tom's;
- "The answer is 25" states the problem's answer.

A sentence without a number says nothing wrong; one in no form of the world is wrong. On what
`world.solve` writes, these labels are its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from examples.micro.problems import NAMES, SYMBOLS, THINGS, Equation, canonical
from prm.records import Solution

_KINDS = {symbol: kind for kind, symbol in SYMBOLS.items()}
_EQUATION = r"(?P<left>\d+) (?P<symbol>[-+*/]) (?P<right>\d+) = (?P<result>\d+)"
_HAS = rf"(?P<owner>{'|'.join(NAMES)}) has"
_THING = rf"(?:{'|'.join(THINGS)})"
_FORMS = [
    re.compile(form)
    for form in (
        rf"(?:Then |Now )?{_HAS} {_EQUATION} {_THING}",
        rf"(?:We get |That is )?{_EQUATION}, so (?:now )?{_HAS} (?P<value>\d+) {_THING}",
        rf"We get {_EQUATION}",
        rf"{_HAS} (?P<value>\d+) {_THING}",
        rf"Look at (?P<looked>{'|'.join(NAMES)})",
        r"(?:The numbers are|Next we take) (?P<first>\d+) and (?P<second>\d+)",
        r"Wait, (?:check that|that is wrong)",
        r"The answer is (?P<answer>\d+)",
    )
]
_SENTENCE_END = re.compile(r"\.(?:\s+|$)")


@dataclass(frozen=True)
class Step:
    """What is known of one step.

    Attributes:
        right: its label.
        claimed: the number it arrives at; None where it states none.
        due: what it should arrive at, going through the reference in order; None where that is
            the claimed number although the step is wrong.
    """

    right: bool
    claimed: int | None
    due: int | None


@dataclass(frozen=True)
class _Reference:
    """A problem's operations as its reference lists them."""

    lines: tuple[tuple[str, Equation], ...]
    answer: int


def label(solution: Solution, steps: Sequence[str] | None = None) -> tuple[float, ...]:
    """One label, 0.0 or 1.0, for each step.

    Args:
        solution: of a micro problem, with its reference.
        steps: instead of the solution's own.

    Raises:
        ValueError: the reference is none of the world's.
    """
    return tuple(float(step.right) for step in explain(solution, steps))


def explain(solution: Solution, steps: Sequence[str] | None = None) -> list[Step]:
    """`Step` for each step; see `label`."""
    reference = _read(solution)
    found = []
    position = 0
    for text in solution.steps if steps is None else steps:
        facts = _parse(text)
        equations = [_equation(fact) for fact in facts or () if "result" in fact]
        right = facts is not None and _true(facts, reference)
        claimed, due = _claim(facts), reference.answer
        if not any("answer" in fact for fact in facts or ()):
            redo = text.startswith("Wait")
            position = _operation(reference, equations, max(0, position - redo))
            due = reference.lines[position][1][3]
            position = min(position + 1, len(reference.lines) - 1)
        found.append(Step(right, claimed, None if claimed == due and not right else due))
    return found


def answered(solution: Solution) -> bool:
    """Whether the last step states the problem's answer, and nothing else."""
    facts = _parse(solution.steps[-1])
    return facts == [{"answer": str(solution.answer)}]


def true_steps(text: str) -> tuple[str, ...]:
    """A policy's text cut where the world's steps end: after each result that is stated.

    "We get 18 + 7 = 25." alone waits for the sentence that says who has them.
    """
    steps: list[str] = []
    begin = 0
    for end in _SENTENCE_END.finditer(text):
        facts = _parse(text[begin : end.end()])
        if facts is None or facts[-1].keys() & {"owner", "answer"}:
            steps.append(text[begin : end.end()].strip())
            begin = end.end()
    rest = text[begin:].strip()
    return (*steps, rest) if rest else tuple(steps)


def _read(solution: Solution) -> _Reference:
    lines = []
    for line in (solution.reference or "").splitlines():
        facts = _parse(line)
        if facts:
            lines.append((facts[0]["owner"], _equation(facts[0])))
    if not lines or solution.answer is None:
        raise ValueError(f"solution {solution.id!r} has no reference of the micro world")
    return _Reference(tuple(lines), int(solution.answer))


def _parse(text: str) -> list[dict[str, str]] | None:
    """What each sentence states; None where one has no form of the world."""
    facts = []
    for sentence in _SENTENCE_END.split(text.strip()):
        if sentence:
            match = next((m for form in _FORMS if (m := form.fullmatch(sentence))), None)
            if match is None:
                return None
            facts.append({key: value for key, value in match.groupdict().items() if value})
    return facts


def _equation(fact: dict[str, str]) -> Equation:
    kind = _KINDS[fact["symbol"]]
    return canonical((kind, int(fact["left"]), int(fact["right"]), int(fact["result"])))


def _true(facts: Sequence[dict[str, str]], reference: _Reference) -> bool:
    own = [(owner, canonical(equation)) for owner, equation in reference.lines]
    looked: str | None = None
    stated: Equation | None = None
    for fact in facts:
        looked = fact.get("looked", looked)
        if "first" in fact:
            pair = sorted((int(fact["first"]), int(fact["second"])))
            if not any(sorted(e[1:3]) == pair and looked in (None, owner) for owner, e in own):
                return False
        if "result" in fact:
            stated = _equation(fact)
            owner = fact.get("owner", looked)
            if not any(e == stated and owner in (None, name) for name, e in own):
                return False
        if "owner" in fact and not any(
            name == fact["owner"]
            and stated in (None, e)
            and e[3] == int(fact.get("value", e[3]))
            and looked in (None, name)
            for name, e in own
        ):
            return False
        if "answer" in fact and int(fact["answer"]) != reference.answer:
            return False
    return True


def _claim(facts: Sequence[dict[str, str]] | None) -> int | None:
    for fact in reversed(facts or ()):
        for key in ("answer", "value", "result"):
            if key in fact:
                return int(fact[key])
    return None


def _operation(reference: _Reference, equations: Sequence[Equation], position: int) -> int:
    """The operation a step is about: the one it writes, or writes with a slip, or the next."""
    for equation in equations:
        for width in (4, 3):
            for index, (_, own) in enumerate(reference.lines):
                if canonical(own)[:width] == equation[:width]:
                    return index
    return position
