"""Math-Shepherd: a language model that says `+` or `-` after each step (family 4).

    QUESTION Step 1: … ки
    Step 2: … ки
    …

At each `ки` (12902) the published code takes the softmax over `+` (648) and `-` (387), all three
with the space that Mistral's tokenizer puts before a word; the first of the two is the score. Steps
are numbered as the training data are; one that has its number already keeps it. White space around
a step is dropped, so that ` ки` is the token that it was in training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prm.render import token_ids
from prm.zoo.entry import Checkpoint, Entry
from prm.zoo.family import Family
from prm.zoo.tagged import TaggedFormat
from prm.zoo.text import one_id

TAG = " ки"


def numbered(problem: str, steps: Sequence[str], *, joiner: str) -> list[str]:
    """What stands before each tag: the question, and `Step i:` with each step.

    Args:
        problem: the question.
        steps: the reasoning.
        joiner: what stands between a tag and the next step.
    """
    lines = [
        step.strip() if re.match(r"\s*Step \d+:", step) else f"Step {number}: {step}".strip()
        for number, step in enumerate(steps, 1)
    ]
    return [f"{problem} {lines[0]}", *(joiner + line for line in lines[1:])]


def _bind(tokenizer: Any, folder: Path, name: str) -> TaggedFormat:
    # Mistral's tokenizer begins a text with a space; converted ones may have lost that.
    begins = token_ids(tokenizer, TAG.strip(), special=False) == [one_id(tokenizer, TAG)]
    lead = "" if begins else " "
    return TaggedFormat(
        tokenizer,
        pieces=lambda problem, steps: numbered(lead + problem, steps, joiner="\n"),
        tag=TAG,
        wrong=" -",
        right=" +",
        context=FAMILY.checkpoint_context(name),
    )


FAMILY = Family(
    entry=Entry(
        family="math-shepherd",
        checkpoints=(
            Checkpoint(
                id="peiyi9979/math-shepherd-mistral-7b-prm", licence="unknown", context=32768
            ),
        ),
        architecture="Mistral, a causal language model",
        template="question, then `Step i: …` lines, each followed by ` ки`",
        positions="each `ки` (12902)",
        readout="softmax over `+` (648) and `-` (387), the first",
        passes="one forward a solution",
        meaning="probability that the step can lead to the right answer (hard estimate)",
        backends=("transformers", "vllm"),
        source="the model card's code; arXiv 2312.08935",
    ),
    bind=_bind,
)
