"""Token classifiers that TRL's PRMTrainer made (family 16).

    bos if there is one | QUESTION | STEP 1 | separator | STEP 2 | separator | …

Training tokenises piece by piece, as here, and puts a label on the last token of each separator.
There is no separator between question and first step: evaluation scripts that put one there score
another text than the model was trained on.

The separator belongs to a checkpoint's training and stands in none of its files. A line break is
the trainer's default and what trl-lib's models have. For PRM-0.2 the published scripts write
`--step_separator="\\n\\n"`, which is read as two line breaks here, though a shell passes it on as
four characters. Any other is given as `step_separator` in the checkpoint's `config.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prm.errors import CheckpointError, RecordError
from prm.render import Rendered, token_ids
from prm.zoo.catalog import read_config
from prm.zoo.entry import Checkpoint, Entry, Threshold
from prm.zoo.family import Family, Format, Readout

DEFAULT_SEPARATOR = "\n"
SEPARATORS = {
    "Qwen2.5-Math-1.5B-Instruct-PRM-0.2": "\n\n",
    "Qwen2.5-Math-7B-Instruct-PRM-0.2": "\n\n",
}
"""Of published checkpoints, where it is not the default."""


class PiecewiseFormat(Format):
    """Renders as TRL tokenises for training.

    Args:
        tokenizer: the checkpoint's.
        separator: what training put after each step.
        readout: see `Format`.
        context: see `Format`.
        threshold: see `Format`.

    Raises:
        CheckpointError: the separator has no tokens.
    """

    def __init__(
        self,
        tokenizer: Any,
        separator: str,
        readout: Readout,
        context: int | None,
        threshold: Threshold | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._separator = token_ids(tokenizer, separator, special=True)
        if not self._separator:
            raise CheckpointError(f"step_separator {separator!r} has no tokens; set another")
        self.readout = readout
        self.context = context
        self.threshold = threshold

    def render(self, problem: str, steps: Sequence[str], reference: str | None = None) -> Rendered:
        """See `Format.render`."""
        if not steps:
            raise RecordError("no steps to score", field="steps")
        bos = self._tokenizer.bos_token_id
        ids = [] if bos is None else [bos]
        ids += token_ids(self._tokenizer, problem, special=False)
        ends = []
        for step in steps:
            ids += token_ids(self._tokenizer, step, special=False) + self._separator
            ends.append(len(ids) - 1)
        return Rendered(ids, ends)


def _bind(tokenizer: Any, folder: Path, name: str) -> PiecewiseFormat:
    return PiecewiseFormat(
        tokenizer,
        _separator(folder, name),
        Readout(head="score", how="probability"),
        FAMILY.checkpoint_context(name),
    )


def _separator(folder: Path, name: str) -> str:
    declared = read_config(folder).get("step_separator")
    if declared is not None:
        return str(declared)
    return SEPARATORS.get(name.rstrip("/").rpartition("/")[2], DEFAULT_SEPARATOR)


FAMILY = Family(
    entry=Entry(
        family="trl",
        checkpoints=(
            Checkpoint(
                id="trl-lib/Qwen2-0.5B-Reward-Math-Sheperd", licence="unknown", context=131072
            ),
            Checkpoint(
                id="HuggingFaceH4/Qwen2.5-Math-1.5B-Instruct-PRM-0.2",
                licence="unknown",
                context=4096,
            ),
            Checkpoint(
                id="HuggingFaceH4/Qwen2.5-Math-7B-Instruct-PRM-0.2",
                licence="unknown",
                context=4096,
            ),
        ),
        architecture="any decoder of transformers, stock token classification of two labels",
        template="bos if there is one, question, then steps each followed by the separator of the "
        "checkpoint's training; tokenised piece by piece",
        positions="the last token of each separator",
        readout="softmax of two labels, the second",
        passes="one forward a solution",
        meaning="probability of the label that training had for a right step",
        backends=("transformers", "vllm"),
        source="TRL's PRMTrainer (documentation and tokenisation); search-and-learn's scripts",
    ),
    bind=_bind,
)
