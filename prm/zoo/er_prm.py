"""ER-PRM's Llama3.1-Math-PRM: Math-Shepherd's format without line breaks (family 20).

    QUESTION Step 1: … киStep 2: … ки…

Training and evaluation take the line break after each tag away, and look up ` ки`, ` +` (489) and
` -` (482) with their leading space; the softmax's value at ` +` is the score.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prm.zoo.entry import Checkpoint, Entry
from prm.zoo.family import Family
from prm.zoo.math_shepherd import TAG, numbered
from prm.zoo.tagged import TaggedFormat


def _bind(tokenizer: Any, folder: Path, name: str) -> TaggedFormat:
    return TaggedFormat(
        tokenizer,
        pieces=lambda problem, steps: numbered(problem, steps, joiner=""),
        tag=TAG,
        wrong=" -",
        right=" +",
        context=FAMILY.checkpoint_context(name),
    )


FAMILY = Family(
    entry=Entry(
        family="er-prm",
        checkpoints=(
            Checkpoint(id="HanningZhang/Llama3.1-Math-PRM", licence="unknown", context=131072),
        ),
        architecture="Llama 3.1, a causal language model",
        template="question, then `Step i: …` with each step, each followed by ` ки`, no line break",
        positions="each ` ки`",
        readout="softmax over ` +` (489) and ` -` (482), the first",
        passes="one forward a solution",
        meaning="entropy-regularised value of the steps so far, as a probability",
        backends=("transformers", "vllm"),
        source="arXiv 2412.11006; its repository's kl_math_reward_ce.py and evaluation",
    ),
    bind=_bind,
)
