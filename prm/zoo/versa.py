r"""VersaPRM, Llama-PRM800K and Qwen-PRM800K: blank lines as the tag (family 12).

    QUESTION ␠\n\n STEP 1 ␠\n\n\n\n STEP 2 ␠\n\n\n\n …

A space and four line breaks are one token of Llama 3 (23535) and of Qwen 2.5 (22701); at each the
published code takes the softmax over `-` (12) and `+` (10), the second is the score. White space
that ends a step or begins the next grows together with the tag into another token, which published
code then misses; here such a step is tokenised alone and the tag keeps its token.

Checkpoints that are published as LoRA adapters have to be merged into their base first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prm.zoo.entry import Checkpoint, Entry
from prm.zoo.family import Family
from prm.zoo.tagged import TaggedFormat

TAG = " \n\n\n\n"
AFTER_PROBLEM = " \n\n"


def _pieces(problem: str, steps: Sequence[str]) -> list[str]:
    return [problem + AFTER_PROBLEM + steps[0], *steps[1:]]


def _bind(tokenizer: Any, folder: Path, name: str) -> TaggedFormat:
    return TaggedFormat(
        tokenizer,
        pieces=_pieces,
        tag=TAG,
        wrong="-",
        right="+",
        context=FAMILY.checkpoint_context(name),
    )


FAMILY = Family(
    entry=Entry(
        family="versa-prm",
        checkpoints=(
            Checkpoint(id="UW-Madison-Lee-Lab/VersaPRM", licence="unknown", context=131072),
            Checkpoint(id="UW-Madison-Lee-Lab/VersaPRM-Base-8B", licence="unknown", context=131072),
            Checkpoint(id="UW-Madison-Lee-Lab/VersaPRM-Aug", licence="unknown", context=131072),
            Checkpoint(id="UW-Madison-Lee-Lab/Llama-PRM800K", licence="unknown", context=131072),
            Checkpoint(id="UW-Madison-Lee-Lab/Qwen-PRM800K", licence="unknown", context=4096),
        ),
        architecture="Llama 3.1 or Qwen 2.5, a causal language model",
        template="question, a space and two line breaks, then steps, each followed by a space and "
        "four line breaks",
        positions="each space with four line breaks (23535 in Llama, 22701 in Qwen)",
        readout="softmax over `-` (12) and `+` (10), the second",
        passes="one forward a solution",
        meaning="probability that the step is right",
        backends=("transformers", "vllm"),
        source="the model cards' code; arXiv 2502.06737",
    ),
    bind=_bind,
)
