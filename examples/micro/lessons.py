"""What the micro models learn from: prompts and answers, as token ids with a weight each.

A lesson is a chat in the tokenizer's own template, made by the code that later asks the model:
the strategies of `annotate`, with the prompt set `examples/micro/prompts`. The judge's reasoning
has one line a step, with the number the student arrives at beside the number that is due:

    1: 26 (25) wrong

Seeing both before the verdict is what makes reasoning learnable for a model this small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from annotate.boundary import STARTS
from annotate.judge import RESULT
from annotate.pieces import candidates
from annotate.strategy import Strategy, load_splitting, load_strategy, render, render_pieces
from examples.micro import truth
from examples.micro.policies import CHECKING
from prm.engines import Message, Request
from prm.engines.chat import ChatEncoder
from prm.records import Solution
from prm.render import Renderer, RenderSettings

PROMPTS = Path(__file__).parent / "prompts"
STRATEGIES = ("p0", "p1", "p2", "p3")
RENDER = RenderSettings(system="", max_length=1024)
"""How reward models made from the micro base are shown solutions; see the recipe."""
VERDICT_WEIGHT = 4.0
"""Of a verdict in a list: it is one token among few and carries all there is to learn."""
READING_WEIGHT = 0.3
"""Of the student's own words. Who expects each number, from the reference or by solving, is
surprised where it differs: that is most of what judging takes."""


@dataclass(frozen=True)
class Lesson:
    """One sequence to learn.

    Attributes:
        ids: prompt and answer.
        weights: of each token's loss; 0 in the prompt, but for a student's steps.
        probes: a position at each judged step's end, and 1.0 if the step is right. A head that is
            thrown away after training tells them.
    """

    ids: list[int]
    weights: list[float]
    probes: list[tuple[int, float]] = field(default_factory=list)


class Teacher:
    """Makes lessons with one tokenizer; ids are those that an engine would make."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._chat = ChatEncoder(tokenizer, "the micro tokenizer")
        self._strategies = {name: load_strategy(name, str(PROMPTS)) for name in STRATEGIES}
        self._renderer = Renderer(tokenizer, RENDER)
        self._splitting = load_splitting(str(PROMPTS))

    def solve(self, solution: Solution, *, checking: bool) -> Lesson:
        """Write this solution of its problem."""
        user = CHECKING.format(problem=solution.problem) if checking else solution.problem
        return self._lesson((Message(role="user", content=user),), [" ".join(solution.steps)])

    def judge(self, solution: Solution, strategy: str, *, reference: bool = True) -> Lesson:
        """Judge each step of a solution, with or without reference and answer at hand."""
        known = truth.explain(solution)
        shown = solution if reference else replace(solution, reference=None, answer=None)
        asking = self._strategies[strategy]
        verdicts = ",".join(str(int(step.right)) for step in known)
        before = RESULT
        if asking.reasoning:
            lines = [
                f"{number}: {_show(step.claimed)} ({_show(step.due)}) "
                + ("right" if step.right else "wrong")
                for number, step in enumerate(known, start=1)
            ]
            before = "\n".join(lines) + f"\n\n{RESULT}"
        lesson = self._lesson(render(asking, shown), [before, f"[{verdicts}]"], asking.reasoning)
        weights, probes = list(lesson.weights), []
        for (first, last), step in zip(self._places(asking, shown), known, strict=True):
            weights[first : last + 1] = [READING_WEIGHT] * (last + 1 - first)
            probes.append((last, float(step.right)))
        return Lesson(lesson.ids, weights, probes)

    def read(self, solution: Solution, *, reference: bool) -> Lesson:
        """Read a solution as a reward model is shown it, and expect each of its words.

        Args:
            solution: right or wrong.
            reference: whether the reference is shown.
        """
        shown = solution.reference if reference else None
        rendered = self._renderer.render(solution.problem, solution.steps, shown)
        # A step and its end are tokenised apart, so the first one's tokens tell where it begins.
        ending = self._plain(self._renderer.settings.step_end)
        begin = rendered.step_ends[0] + 1 - len(ending) - len(self._plain(solution.steps[0]))
        ids = rendered.input_ids
        return Lesson(ids, [float(index >= begin) for index in range(len(ids))])

    def split(self, text: str) -> Lesson:
        """Say which pieces of a text begin a step."""
        begins, starts = 1, []
        for step in truth.true_steps(text):
            starts.append(begins)
            begins += len(candidates(step))
        pieces = [text[begin:end] for begin, end in candidates(text)]
        messages = render_pieces(self._splitting, pieces)
        return self._lesson(messages, [STARTS, f"[{','.join(map(str, starts))}]"], False)

    def _lesson(
        self, messages: tuple[Message, ...], parts: Sequence[str], free: bool = True
    ) -> Lesson:
        """A prompt and an answer of one or two parts, the last of them a list.

        Where the answer is not free, the first part is ours to write and not to be learnt.
        """
        ids = self._chat.encode(Request(messages=messages, max_tokens=1))
        weights = [0.0] * len(ids)
        for number, part in enumerate(parts):
            new = self._plain(part)
            ids += new
            weights += [1.0 if free or number else 0.0] * len(new)
            if number == 1 and parts[0].endswith(RESULT):
                verdicts = {self._plain("0")[0], self._plain("1")[0]}
                weights[-len(new) :] = [
                    VERDICT_WEIGHT if token in verdicts else 1.0 for token in new
                ]
        return Lesson([*ids, self._tokenizer.eos_token_id], [*weights, 1.0])

    def _places(self, asking: Strategy, shown: Solution) -> list[tuple[int, int]]:
        """The first and the last token of each judged step."""
        messages = render(asking, shown)
        user = messages[-1].content
        ids = self._chat.encode(Request(messages=messages, max_tokens=1))
        encoded = self._tokenizer(user, add_special_tokens=False, return_offsets_mapping=True)
        inside = list(encoded["input_ids"])
        first = next(
            start
            for start in range(len(ids) - len(inside), -1, -1)
            if ids[start : start + len(inside)] == inside
        )
        # By character: a step's full stop shares its token with the line end after it.
        holder = {
            character: first + index
            for index, span in enumerate(encoded["offset_mapping"])
            for character in range(*span)
        }
        at = user.index(f"\n{shown.problem}\n")
        places = []
        for text in shown.steps:
            begin = user.index(f"\n{text}\n", at) + 1
            at = begin + len(text)
            places.append((holder[begin], holder[at - 1]))
        return places

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def _show(number: int | None) -> str:
    return "no" if number is None else str(number)
