"""Text to token ids, with the position of every step's end: the only renderer there is.

Training, benchmarks and the server all call `Renderer.render`, so a score never depends on
who asked. Pieces are tokenised one by one and joined as ids:

    template(system, user = problem + reference) | step 1 | step end | step 2 | step end | …

Step ends are therefore known by construction and never searched for, and what a problem or
a step contains (a special token's name, a separator) stays plain text.

The reference's wording is that of the Universal-PRM model card (arXiv 2502.11520).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from prm.errors import CheckpointError, RecordError

REFERENCE_INTRO = "\n\n###\n\nThe reference answer is: "
NO_REFERENCE = "There is no reference answer for this question."

_SENTINEL = "\u2063PROBLEM\u2063"  # an invisible separator: no template contains it


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """What must be equal in training and use; stored in every checkpoint.

    Attributes:
        system: the system message; empty leaves it out.
        step_end: the text after each step, tokenised on its own; the score is read at its
            last token.
        takes_reference: whether the user turn says a reference answer or that there is none.
        max_length: the most tokens a rendering may have; longer ones are refused.
    """

    system: str = "You are a helpful assistant."
    step_end: str = "\n\n"
    takes_reference: bool = True
    max_length: int = 4096


@dataclass(frozen=True)
class Rendered:
    """Token ids of one solution.

    Attributes:
        input_ids: the whole sequence.
        step_ends: for each step the index into `input_ids` where its score is read.
    """

    input_ids: list[int]
    step_ends: list[int]


@dataclass(frozen=True)
class Branch:
    """Tokens that follow a part of a trunk, and that nothing but themselves sees.

    Attributes:
        start: how many tokens of the trunk come before.
        ids: the tokens, at least one; the score is read at the last.
    """

    start: int
    ids: list[int]


@dataclass(frozen=True)
class Branched:
    """Token ids of a solution whose every prefix is a sequence of its own.

    The prefix of step k is `trunk[:branches[k].start] + branches[k].ids`: what all have in
    common is there once.

    Attributes:
        trunk: the longest common part.
        branches: one per step.
    """

    trunk: list[int]
    branches: list[Branch]

    @property
    def longest(self) -> int:
        """The most tokens that one prefix has."""
        return max(branch.start + len(branch.ids) for branch in self.branches)


class Renderer:
    """Renders with one tokenizer under fixed settings.

    Args:
        tokenizer: a Hugging Face tokenizer. With a chat template the problem is a user turn;
            without one it is plain text before the steps.
        settings: see `RenderSettings`.

    Attributes:
        step_end_ids: what `step_end` is tokenised to; never empty.

    Raises:
        CheckpointError: the tokenizer's template loses the user turn, or `step_end` has no
            tokens.
    """

    def __init__(self, tokenizer: Any, settings: RenderSettings) -> None:
        self.settings = settings
        self._tokenizer = tokenizer
        before, after = _template(tokenizer, settings.system)
        self._before = token_ids(tokenizer, before, special=True)
        self._after = token_ids(tokenizer, after, special=True)
        self.step_end_ids = token_ids(tokenizer, settings.step_end, special=True)
        if not self.step_end_ids:
            raise CheckpointError(f"step_end {settings.step_end!r} has no tokens; choose another")

    def render(self, problem: str, steps: Sequence[str], reference: str | None = None) -> Rendered:
        """Token ids and step ends of one solution.

        Args:
            problem: the question.
            steps: the reasoning; any text, one score each.
            reference: the reference answer, or None. Ignored where the settings take none.

        Raises:
            RecordError: no steps, or more tokens than `max_length`. Nothing is ever cut.
        """
        if not steps:
            raise RecordError("no steps to score", field="steps")
        ids = [*self._before, *self._plain(self._user(problem, reference)), *self._after]
        ends = []
        for step in steps:
            ids += self._plain(step)
            ids += self.step_end_ids
            ends.append(len(ids) - 1)
        if len(ids) > self.settings.max_length:
            raise RecordError(
                f"{len(ids)} tokens, more than max_length {self.settings.max_length}, as "
                "set in training; shorten or drop the solution, or train with a larger one",
                field="steps",
            )
        return Rendered(ids, ends)

    def _user(self, problem: str, reference: str | None) -> str:
        if not self.settings.takes_reference:
            return problem.strip()
        return problem.strip() + REFERENCE_INTRO + (reference or NO_REFERENCE).strip()

    def _plain(self, text: str) -> list[int]:
        return token_ids(self._tokenizer, text, special=False)


def _template(tokenizer: Any, system: str) -> tuple[str, str]:
    """The text before and after the user's words, up to where the answer starts."""
    if not getattr(tokenizer, "chat_template", None):
        bos = getattr(tokenizer, "bos_token", None) or ""
        return bos + (f"{system}\n\n" if system else ""), "\n\n"
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": _SENTINEL})
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise CheckpointError(
            f"the tokenizer's chat template refuses the conversation ({error}); some take no "
            "system message: set the render setting `system` to an empty text"
        ) from None
    before, found, after = text.partition(_SENTINEL)
    if not found or _SENTINEL in after:
        raise CheckpointError("the tokenizer's chat template does not hold the user turn once")
    return before, after


def token_ids(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    """Ids of a text, without any that a tokenizer would put around it.

    Args:
        tokenizer: a Hugging Face tokenizer.
        text: any.
        special: whether a special token's name in it is that token; else it is plain text.
    """
    if not text:
        return []
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=not special)
    return list(encoded["input_ids"])
