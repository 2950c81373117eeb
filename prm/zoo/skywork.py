"""Skywork-o1-Open-PRM: a value head, read at the newline that ends a step (family 6).

    <bos> QUESTION \\n  line \\n line \\n …

Question and newline are one text; every line of the answer is tokenised alone and followed by the
newline's id, an empty line by nothing else. The published code scores each line; a step's score is
that of its last line, with steps joined by newlines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prm.errors import CheckpointError, RecordError
from prm.render import Rendered, token_ids
from prm.zoo.entry import Checkpoint, Entry
from prm.zoo.family import Family, Format, Readout
from prm.zoo.text import Special, encode, one_id


class SkyworkFormat(Format):
    """Renders as the published inference code does.

    Args:
        tokenizer: the checkpoint's.
        context: see `Format`.

    Raises:
        CheckpointError: the tokenizer has no bos token, or a newline is more than one token.
    """

    readout = Readout(head="value", how="sigmoid")

    def __init__(self, tokenizer: Any, context: int | None) -> None:
        self._tokenizer = tokenizer
        self.context = context
        if tokenizer.bos_token is None:
            raise CheckpointError("the tokenizer has no bos token, with which this family begins")
        self._bos = Special(tokenizer.bos_token)
        self._newline = one_id(tokenizer, "\n")

    def render(self, problem: str, steps: Sequence[str], reference: str | None = None) -> Rendered:
        """See `Format.render`."""
        if not steps:
            raise RecordError("no steps to score", field="steps")
        ids = encode(self._tokenizer, self._bos, problem + "\n")
        ends = []
        for step in steps:
            for line in step.split("\n"):
                ids += [*token_ids(self._tokenizer, line, special=False), self._newline]
            ends.append(len(ids) - 1)
        return Rendered(ids, ends)


def _bind(tokenizer: Any, folder: Path, name: str) -> SkyworkFormat:
    return SkyworkFormat(tokenizer, FAMILY.checkpoint_context(name) or 4096)


FAMILY = Family(
    entry=Entry(
        family="skywork-prm",
        checkpoints=(
            Checkpoint(
                id="Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B", licence="other", context=4096
            ),
            Checkpoint(id="Skywork/Skywork-o1-Open-PRM-Qwen-2.5-7B", licence="other", context=4096),
        ),
        architecture="Qwen2 with a value head, linear in float32 (Qwen2ForPrmModel)",
        template="bos, question, newline; then each line of each step, tokenised alone, and a "
        "newline",
        positions="the newline after each step's last line",
        readout="sigmoid of the value",
        passes="one forward a solution",
        meaning="estimate that the step is right",
        source="SkyworkAI/skywork-o1-prm-inference, model_utils/io_utils.py and prm_model.py",
    ),
    bind=_bind,
    architectures=("Qwen2ForPrmModel",),
)
