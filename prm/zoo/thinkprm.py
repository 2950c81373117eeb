r"""ThinkPRM: one long verification of a whole solution, a boxed verdict for each step (family 9).

    user       … [Math Problem] PROBLEM [Solution] Step 1: … Step 2: … Review and critique …
    assistant  <think> Let's verify step by step: Step 1: … The step is \boxed{correct} Step 2: …

The authors read a step's label from its boxed word. They name the tokens of both words, but take
their one probability from the closing question, `Is the solution correct?`, and that is about the
solution as a whole. Here a step's score is the same normalised probability at the step's own
word: p(correct) / (p(correct) + p(incorrect)). A verification ends, as on their server, at the
closing question, at `</think>`, or where it turns to a step that is not there.

The model was trained on verifications that stop after the first incorrect step; the labels of the
steps after it are incorrect there, because they follow it. They are so with the probability that
it is incorrect: they get its score. A verification that ends otherwise before the last step, that
has more verdicts than there are steps, or that is cut, is none.

The prompt is the authors' newest, without the card's `Let's verify step by step:` after the
template: the tokenizer's template already opens `<think>`, and the model writes the words itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from prm.engines import Completion, Message, unfinished
from prm.zoo.critique import Asking, Course, Scores, mean, read_verdicts
from prm.zoo.entry import Checkpoint, Entry
from prm.zoo.family import GenerativeFamily

OPENING = "You are given a math problem and a proposed step-by-step solution:"
INSTRUCTION = (
    "Review and critique each step in the proposed solution to determine whether each step is "
    "correct. If the solution is incomplete, only verify the provided steps."
)

_BOXED = re.compile(r"\\boxed\{(?:\\text\{)?(correct|incorrect)\}")


def prompt(problem: str, steps: Sequence[str]) -> tuple[Message, ...]:
    """The one message about a solution."""
    solution = "".join(f"Step {number}: {step}\n" for number, step in enumerate(steps, 1)).strip()
    parts = [OPENING, "[Math Problem]", problem, "[Solution]", solution, INSTRUCTION]
    return (Message(role="user", content="\n\n".join(parts)),)


def critique(problem: str, steps: Sequence[str], asking: Asking) -> Course[Scores | str]:
    """Verify a whole solution; see `GenerativeFamily.critique`."""
    (answers,) = yield [
        asking.request(
            "verify",
            prompt(problem, steps),
            stop=("Is the solution correct?", "</think>", f"Step {len(steps) + 1}:"),
            samples=asking.samples,
        )
    ]
    samples = [read(answer, len(steps)) for answer in answers]
    scores = []
    for index in range(len(steps)):
        score = mean(found if isinstance(found, str) else found[index] for found in samples)
        if isinstance(score, str):
            return score
        scores.append(score)
    return tuple(scores)


def read(answer: Completion, steps: int) -> Scores | str:
    """The steps' scores in a verification, or why there are none."""
    if reason := unfinished(answer, "verification"):
        return reason
    verdicts = read_verdicts(answer, _BOXED, "correct", "incorrect")
    if len(verdicts) > steps:
        return f"{len(verdicts)} verdicts for {steps} steps"
    left = steps - len(verdicts)
    if left and (not verdicts or verdicts[-1].right):
        return f"{len(verdicts)} verdicts for {steps} steps, and none incorrect at the end"
    scores = tuple(verdict.probability for verdict in verdicts)
    return scores + scores[-1:] * left


FAMILY = GenerativeFamily(
    entry=Entry(
        family="thinkprm",
        checkpoints=(
            Checkpoint(id="launch/ThinkPRM-1.5B", licence="Apache-2.0", context=131072),
            Checkpoint(id="launch/ThinkPRM-7B", licence="Apache-2.0", context=131072),
            Checkpoint(id="launch/ThinkPRM-14B", licence="Apache-2.0", context=131072),
        ),
        architecture="Qwen2 causal language model (R1-Distill-Qwen), generative",
        template="chat: one message with problem, numbered steps and the instruction",
        positions="the word in each \\boxed{correct} (19928) or \\boxed{incorrect} (61954)",
        readout="softmax of correct and incorrect there, mean over samples; steps after the one "
        "at which a verification stops as incorrect get its score",
        passes="one long completion a solution and sample",
        meaning="probability that the step is right, after a verification",
        backends=("transformers", "vllm"),
        source="the authors' code; arXiv 2504.16828",
    ),
    critique=critique,
)
