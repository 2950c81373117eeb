"""RLHFlow's PRMs: a chat in which the assistant answers each step with `+` or `-` (family 5).

    user QUESTION STEP 1 | assistant + | user STEP 2 | assistant + | …

The question and the first step are one turn. The published code renders the chat by the tokenizer's
template, once for each step, and reads at the token before the last `+` the softmax over `+` (10)
and `-` (12); one forward over the whole chat gives the same. White space around steps is dropped,
as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prm.zoo.dialogue import DialogueFormat
from prm.zoo.entry import Checkpoint, Entry
from prm.zoo.family import Family


def _turns(problem: str, steps: Sequence[str]) -> list[str]:
    first, *others = (step.strip() for step in steps)
    return [f"{problem} {first}", *others]


def _bind(tokenizer: Any, folder: Path, name: str) -> DialogueFormat:
    return DialogueFormat(
        tokenizer,
        turns=_turns,
        wrong="-",
        right="+",
        context=FAMILY.checkpoint_context(name),
    )


FAMILY = Family(
    entry=Entry(
        family="rlhflow",
        checkpoints=(
            Checkpoint(
                id="RLHFlow/Llama3.1-8B-PRM-Mistral-Data", licence="unknown", context=131072
            ),
            Checkpoint(
                id="RLHFlow/Llama3.1-8B-PRM-Deepseek-Data", licence="unknown", context=131072
            ),
        ),
        architecture="Llama 3.1, a causal language model",
        template="the tokenizer's chat template: question and first step as a user's turn, an "
        "assistant's `+`, each further step as a user's turn with a `+` after it",
        positions="the token before each assistant's `+`",
        readout="softmax over `+` (10) and `-` (12), the first",
        passes="one forward a solution",
        meaning="probability that the step can lead to the right answer (hard estimate)",
        backends=("transformers", "vllm"),
        source="RLHF-Reward-Modeling's math-rm/prm_evaluate.py",
    ),
    bind=_bind,
)
