"""R-PRM: an analysis of each step against those before it, then Yes or No (family 10).

    system     You are a helpful assistant.
    user       … Question: PROBLEM Previous Steps: Step 1: … Now Step: Step 2: … Reply:
    assistant  Analysis: … Verification: Is the step correct (Yes/No)? Yes

The score is the softmax of ` Yes` beside ` No` after the question, averaged over samples; the
published one is the same, read in a second pass over the analysis up to there. An analysis that
does not end with an answer is unusable: the published search leaves it out, as is done here (the
published benchmark asks once more, in words that training did not have).

Steps are numbered as in the training data. The chat is the template's own; the published prompt
file writes `\\n` in two characters between its last turns, which looks like a slip. The authors
sample 10 analyses at temperature 0.95.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from prm.engines import Completion, Message, unfinished
from prm.zoo.critique import Asking, Course, Scores, mean, read_verdicts
from prm.zoo.entry import Checkpoint, Entry
from prm.zoo.family import GenerativeFamily

SYSTEM = "You are a helpful assistant."

TASK = (
    "You are an excellent math teacher. Please verify the correctness of the Now Step.\n"
    "\n"
    "You first need to analyze the Now Step and the Previous Steps and then summarize based on "
    "your analysis.\n"
    "Analysis:\n"
    "You need to analyze the following aspects.\n"
    "**Previous Steps Analysis**: You need to analyze the Previous Steps step by step. For each "
    "step, you need to first explain what the current step is doing, then you try to find any "
    "error in the current step.\n"
    "**Now Step Analysis**: You first need to explain what the Now Step is doing, and then point "
    "out which part of the Question it is trying to solve or which part of the information it "
    "states.\n"
    "**Data Source Analysis**: First you need to find out what data are used in the Now Step, and "
    "then you need to determine whether the source of the data is reasonable and correct. When "
    "you judge whether the source of a data is reasonable and correct, you need to specify the "
    "specific source of this data: such as which part of the question, or which content of the "
    "previous step; and then determine the source and current use is consistent, the Now Step is "
    "used correctly.\n"
    "**Consistency Analysis**: You need to check that the Now Step is consistent with the "
    "contents of the Previous Steps, and then you need to check that all the information inside "
    "the Now Step is consistent.\n"
    "**Calculation Analysis**: If the Now Step involves any calculations, such as addition, "
    "subtraction, multiplication, division, equations, modulo operations, etc., you will first "
    "need to perform a check on the calculation, such as a reverse operation, to see if the "
    "calculation was done correctly, and then analyze the results of your check to see if there "
    "was an error in the calculation.\n"
    "Conclusion: \n"
    "Please verify the correctness of the Now Step based on your analysis, if there is any error "
    "in the Now Step then the Now Step is wrong and vice versa the Now Step is correct. At the "
    "end of the Conclusion, when you give your final answer, write it in the form "
    '"Verification: Is the step correct (Yes/No)? X", where X is either Yes or No.\n'
    "\n"
)

FIRST = "Since the Now Step is the first step, there are no Previous Steps."
"""What stands for the previous steps of the first."""

TOP_P = 0.95

_ANSWER = re.compile(r"Is the step correct \(Yes/No\)\? (Yes|No)\b")
_ANSWERED = re.compile(_ANSWER.pattern + r"[\s.*]*\Z")


def prompt(problem: str, steps: Sequence[str], index: int) -> tuple[Message, ...]:
    """The messages about a step."""
    *previous, now = (f"Step {number}: {step}" for number, step in enumerate(steps[: index + 1], 1))
    before = "\n".join(previous) or FIRST
    content = (
        f"{TASK}Question: {problem}\n"
        f"Previous Steps: {before}\n"
        f"Now Step: {now}\n"
        "Please carefully analyze the correctness of the Now Step.\n"
        "Reply: "
    )
    return (Message(role="system", content=SYSTEM), Message(role="user", content=content))


def critique(problem: str, steps: Sequence[str], asking: Asking) -> Course[Scores | str]:
    """Analyse every step, all at once; see `GenerativeFamily.critique`."""
    answers = yield [
        asking.request(
            str(index), prompt(problem, steps, index), samples=asking.samples, top_p=TOP_P
        )
        for index in range(len(steps))
    ]
    scores = []
    for index, samples in enumerate(answers):
        score = mean(map(read, samples))
        if isinstance(score, str):
            return f"step {index}: {score}"
        scores.append(score)
    return tuple(scores)


def read(answer: Completion) -> float | str:
    """The score in an analysis, or why there is none."""
    if reason := unfinished(answer, "analysis"):
        return reason
    if not _ANSWERED.search(answer.text):
        return "the analysis does not end with Yes or No"
    return read_verdicts(answer, _ANSWER, "Yes", "No")[-1].probability


FAMILY = GenerativeFamily(
    entry=Entry(
        family="r-prm",
        checkpoints=(Checkpoint(id="kevinpro/R-PRM-7B-DPO", licence="unknown", context=4096),),
        architecture="Qwen2 causal language model (Qwen2.5-Math), generative",
        template="chat: system, then one message with task, question, previous steps and step",
        positions="the word after the question that ends each analysis (7414 Yes, 2308 No, each "
        "with the space before it)",
        readout="softmax of Yes and No there, mean over samples",
        passes="one completion a step and sample, all at once",
        meaning="probability that the step is right, after an analysis",
        backends=("transformers", "vllm"),
        source="the authors' code; arXiv 2503.21295",
    ),
    critique=critique,
)
