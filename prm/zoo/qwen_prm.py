"""Qwen2.5-Math-PRM and ReasonFlux-PRM: ChatML, a step tag, two labels (families 1 and 2).

    <|im_start|>system … <|im_end|> <|im_start|>user QUESTION <|im_end|>
    <|im_start|>assistant STEP 1 <extra_0> STEP 2 <extra_0> … <|im_end|> <|endoftext|>

The published code renders the conversation by the chat template, appends nothing of its own, and
reads the softmax at each `<extra_0>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prm.errors import RecordError
from prm.render import Rendered
from prm.zoo.entry import Checkpoint, Entry
from prm.zoo.family import Family, Format, Readout
from prm.zoo.text import Special, encode, one_id

SYSTEM = r"Please reason step by step, and put your final answer within \boxed{}."
STEP_TAG = Special("<extra_0>")
START, END = Special("<|im_start|>"), Special("<|im_end|>")


class QwenPRMFormat(Format):
    """Renders as the model card does.

    Args:
        tokenizer: the checkpoint's.
        system: the system message; None for a conversation without one.
        context: see `Format`.

    Raises:
        CheckpointError: `<extra_0>` is no token of its own.
    """

    readout = Readout(head="score", how="probability")

    def __init__(self, tokenizer: Any, system: str | None, context: int | None) -> None:
        self._tokenizer = tokenizer
        self._system = system
        self.context = context
        one_id(tokenizer, STEP_TAG)

    def render(self, problem: str, steps: Sequence[str], reference: str | None = None) -> Rendered:
        """See `Format.render`."""
        if not steps:
            raise RecordError("no steps to score", field="steps")
        before = [] if self._system is None else _turn("system", self._system)
        before += [*_turn("user", problem), START, "assistant\n"]
        ids: list[int] = []
        ends = []
        for step in steps:
            ids += encode(self._tokenizer, *before, step, STEP_TAG)
            ends.append(len(ids) - 1)
            before = []
        return Rendered(ids, ends)


def _turn(role: str, text: str) -> list[str]:
    return [START, f"{role}\n{text}", END, "\n"]


def _bind(tokenizer: Any, folder: Path, name: str) -> QwenPRMFormat:
    system = None if "reasonflux" in name.lower() else SYSTEM
    return QwenPRMFormat(tokenizer, system, FAMILY.checkpoint_context(name) or 4096)


FAMILY = Family(
    entry=Entry(
        family="qwen-prm",
        checkpoints=(
            Checkpoint(id="Qwen/Qwen2.5-Math-PRM-7B", licence="unknown", context=4096),
            Checkpoint(id="Qwen/Qwen2.5-Math-PRM-72B", licence="unknown", context=4096),
            Checkpoint(id="Qwen/Qwen2.5-Math-7B-PRM800K", licence="unknown", context=4096),
            Checkpoint(id="Gen-Verse/ReasonFlux-PRM-7B", licence="unknown", context=4096),
        ),
        architecture="Qwen2 with a head of two layers (Qwen2ForProcessRewardModel)",
        template="ChatML: system, question, steps each followed by <extra_0>",
        positions="each <extra_0>",
        readout="softmax of two labels, the second",
        passes="one forward a solution",
        meaning="probability that the step is right",
        backends=("transformers", "vllm"),
        source="the model card's code; arXiv 2501.07301, arXiv 2506.18896",
    ),
    bind=_bind,
    architectures=("Qwen2ForProcessRewardModel",),
)
