"""Implicit PRMs: how much likelier a policy finds a solution than what it started from (family 7).

    chat template: user QUESTION, assistant Step 1: … \\n\\n Step 2: … \\n\\n …

There is no head. A step's score is 0.001 × the log-probability under the policy less that under the
base, summed over the answer's tokens **up to** the step's end: cumulative, as the card's code gives
it, not the step's own share, which is the difference of two neighbours.

Which tokens are summed is the published code's, too: it counts the tokens of the conversation cut
after a step and takes two off. In ChatML the turn's end counts, so that the sum starts one token
before the answer and runs over the token after the separator; in Llama 3, where the turn's end is
taken off, it starts two tokens before the answer and ends with the separator. The last step's sum
ends with the turn's end in both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from prm.errors import CheckpointError, RecordError
from prm.render import Rendered
from prm.zoo.entry import Checkpoint, Entry
from prm.zoo.family import Family, Format
from prm.zoo.text import Special, cut_specials, encode

SCALE = 0.001
SEPARATOR = "\n\n"
LLAMA_END = "<|eot_id|>"

_TURN = "\u2063TURN\u2063"  # an invisible separator: no template contains it
_LABEL = re.compile(r"\s*Step \d+:")


@dataclass(frozen=True)
class Answered(Rendered):
    """Token ids of a conversation; `step_ends` are the last tokens that a step's sum holds.

    Attributes:
        start: the first token that all sums hold; at least 1.
    """

    start: int


class ImplicitFormat(Format):
    """Renders as the model card does.

    Args:
        tokenizer: the policy's.
        context: see `Format`.

    Raises:
        CheckpointError: there is no chat template, or it does not hold a question and an answer
            between special tokens.
    """

    def __init__(self, tokenizer: Any, context: int | None) -> None:
        self._tokenizer = tokenizer
        self.context = context
        before, between, after, self._trims = _template(tokenizer)
        self._before, self._between = (cut_specials(tokenizer, text) for text in (before, between))
        self._after = cut_specials(tokenizer, after)
        closing = [piece for piece in self._after if piece.strip()]
        if len(closing) != 1 or not isinstance(self._after[0], Special):
            raise CheckpointError("the chat template does not end an answer with one special token")

    def render(self, problem: str, steps: Sequence[str], reference: str | None = None) -> Answered:
        """See `Format.render`. Steps without a label `Step i:` get theirs."""
        if not steps:
            raise RecordError("no steps to score", field="steps")
        texts = [
            step if _LABEL.match(step) else f"Step {number}: {step}"
            for number, step in enumerate(steps, 1)
        ]
        ids = encode(self._tokenizer, *self._conversation(problem, texts), *self._after)
        # Of log-probabilities, of which the first token has none, the last that is summed stands at
        # the length of the conversation cut there less two.
        start, *ends = (
            len(encode(self._tokenizer, *self._cut(problem, texts, count))) - 2
            for count in range(len(texts) + 1)
        )
        return Answered(ids, [end + 1 for end in ends], start)

    def _conversation(self, problem: str, texts: Sequence[str]) -> list[str]:
        answer = SEPARATOR.join(texts)
        if self._trims:
            problem, answer = problem.strip(), answer.strip()
        return [*self._before, problem, *self._between, answer]

    def _cut(self, problem: str, texts: Sequence[str], count: int) -> list[str]:
        """The conversation after some steps as the published code measures it."""
        pieces = self._conversation(problem, texts[:count])
        whole = count == len(texts)
        if whole or self._after[0] != LLAMA_END:
            pieces.append(self._after[0])
        return pieces if whole or count == 0 else [*pieces, SEPARATOR]


def _template(tokenizer: Any) -> tuple[str, str, str, bool]:
    """What a chat template writes before a question, between it and an answer, and after that.

    Returns:
        the three texts, and whether white space around contents is dropped.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise CheckpointError("the tokenizer has no chat template, and this family needs its own")
    # Tabs, which a template has no cause to write itself, show whether white space is dropped.
    turns = [{"role": role, "content": f"\t{_TURN}\t"} for role in ("user", "assistant")]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except TemplateError as error:
        raise CheckpointError(f"the tokenizer's chat template refuses a chat ({error})") from None
    kept = text.count(f"\t{_TURN}\t")
    parts = text.replace(f"\t{_TURN}\t", _TURN).split(_TURN)
    if len(parts) != 3 or kept not in (0, 2):
        raise CheckpointError("the tokenizer's chat template does not hold each turn once")
    return parts[0], parts[1], parts[2], kept == 0


def _bind(tokenizer: Any, folder: Path, name: str) -> ImplicitFormat:
    return ImplicitFormat(tokenizer, FAMILY.checkpoint_context(name))


FAMILY = Family(
    entry=Entry(
        family="implicit-prm",
        checkpoints=(
            Checkpoint(id="PRIME-RL/EurusPRM-Stage1", licence="apache-2.0", context=4096),
            Checkpoint(id="PRIME-RL/EurusPRM-Stage2", licence="apache-2.0", context=4096),
            Checkpoint(id="Windy0822/ImplicitPRM_DPO", licence="unknown", context=131072),
        ),
        architecture="two causal language models of one vocabulary: the policy and its `base` "
        "(EurusPRM: Qwen/Qwen2.5-Math-7B-Instruct; ImplicitPRM: meta-llama/Llama-3.1-8B-Instruct)",
        template="the tokenizer's chat template: question, then `Step i: ` and the step, joined by "
        "empty lines; a step that says `Step i:` already is left as it is",
        positions="in ChatML the token after the separator after a step, in Llama 3 the separator; "
        "the turn's end after the last step",
        readout="0.001 times the log-probability under the policy less that under the base, summed "
        "over the answer up to there: cumulative, not the step's own",
        passes="one forward of each model a solution",
        meaning="expected reward of the solution so far (log-odds times 0.001, no probability); a "
        "solution's score is the least of its steps' with Stage 1",
        bounds=None,
        source="the model cards' code and PRIME-RL/ImplicitPRM's eval; arXiv 2412.01981, "
        "2502.01456",
    ),
    bind=_bind,
    takes_base=True,
)
