"""FoVer's PRMs: a chat in which the assistant calls each step `correct` or `incorrect` (family 11).

    user TASK with QUESTION and STEP 1 | assistant correct | user STEP 2 | assistant correct | …

The published code renders the chat by the tokenizer's template and reads, at the last token of each
assistant's header, the softmax over the first tokens of the two words. The misspelt heading is part
of the format.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prm.zoo.dialogue import DialogueFormat
from prm.zoo.entry import Checkpoint, Entry
from prm.zoo.family import Family

_BEFORE_PROBLEM = "** Problem **\n"
_TASK = """

** Task **
Your task is to evaluate the accuracy of each step in the provided solution to the above question. \
For each step, respond with "correct" if the reasoning is logically valid and mathematically \
sound, or if the step is a general statement or transition that does not contain reasoning. \
Respond with "incorrect" if the step includes any errors or flawed logic.

** Sotluion **
"""


def _turns(problem: str, steps: Sequence[str]) -> list[str]:
    return [_BEFORE_PROBLEM + problem + _TASK + steps[0], *steps[1:]]


def _bind(tokenizer: Any, folder: Path, name: str) -> DialogueFormat:
    return DialogueFormat(
        tokenizer,
        turns=_turns,
        wrong="incorrect",
        right="correct",
        context=FAMILY.checkpoint_context(name),
    )


FAMILY = Family(
    entry=Entry(
        family="fover",
        checkpoints=(
            Checkpoint(id="ryokamoi/Llama-3.1-8B-FoVer-PRM", licence="unknown", context=131072),
            Checkpoint(id="ryokamoi/Qwen-2.5-7B-FoVer-PRM", licence="unknown", context=32768),
        ),
        architecture="Llama 3.1 or Qwen 2.5, a causal language model",
        template="the tokenizer's chat template: the task, question and first step as a user's "
        "turn, an assistant's `correct`, each further step as a user's turn, `correct` after it",
        positions="the token before each assistant's `correct`",
        readout="softmax over `incorrect` and `correct`, the second",
        passes="one forward a solution",
        meaning="probability that the step is right",
        backends=("transformers", "vllm"),
        source="FoVer's src/prm; arXiv 2505.15960",
    ),
    bind=_bind,
)
