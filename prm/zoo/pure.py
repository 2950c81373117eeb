"""PURE-PRM: a token classifier that TRL trained, read as a difference (family 15).

    QUESTION | STEP 1 | two line breaks | STEP 2 | two line breaks | …

Tokenised piece by piece. The published code takes the softmax of the two labels at each separator
and gives p1 − p0; a step is right where that is above 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prm.zoo.entry import Checkpoint, Entry, Threshold
from prm.zoo.family import Family, Readout
from prm.zoo.trl import PiecewiseFormat

SEPARATOR = "\n\n"


def _bind(tokenizer: Any, folder: Path, name: str) -> PiecewiseFormat:
    return PiecewiseFormat(
        tokenizer,
        SEPARATOR,
        Readout(head="score", how="margin"),
        FAMILY.checkpoint_context(name),
        FAMILY.entry.threshold,
    )


FAMILY = Family(
    entry=Entry(
        family="pure-prm",
        checkpoints=(Checkpoint(id="jinachris/PURE-PRM-7B", licence="unknown", context=4096),),
        architecture="Qwen2, token classification of two labels",
        template="question, then steps each followed by two line breaks; tokenised piece by piece",
        positions="each separator",
        readout="softmax of two labels, the second less the first",
        passes="one forward a solution",
        meaning="probability that the step is right less that it is wrong",
        bounds=(-1.0, 1.0),
        threshold=Threshold(value=0.0, split="none: both labels equally likely", metric="none"),
        backends=("transformers", "vllm"),
        source="the model card's code; its authors' adapter for PRMBench; arXiv 2504.15275",
    ),
    bind=_bind,
)
