r"""GenPRM: analysis, check by code and judgement of a paragraph after the other (family 8).

    system     You are a math teacher. …
    user       Question: PROBLEM, an empty line, STEP 1
    assistant  <analyze>…</analyze> <verify>…</verify> <output>**Judgement**: $\boxed{Yes}$</output>
    user       STEP 2
    assistant  …

A critique begins with words put into the model's mouth: `<analyze>` with its first sentence, then
`<verify>` with the head of a code block. The published code runs that block and puts its output
behind it, or, told not to, lets the model write on; code is NOT run here, so this is the latter. As
there, a critique that comes to no judgement within its tokens keeps its analysis, and the judgement
is asked for right after that. The score is the softmax of `Yes` beside `No` at the judgement,
averaged over samples; the first sample with a judgement stands in the conversation from then on.

Where the authors' own programs differ: the question is put as in the training data, on the model
card and in the demonstration (their evaluation has neither `Question: ` nor the empty line); a
conversation goes on with the assistant's turn (an earlier program left out its opening tag); a
critique without a judgement counts 0.5 with them, and is a failure here; they sample from the 20
likeliest tokens at temperature 0.6.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from prm.engines import Completion, Message, unfinished
from prm.zoo.critique import Asking, Course, Scores, mean, read_verdicts, together
from prm.zoo.entry import Checkpoint, Entry
from prm.zoo.family import GenerativeFamily

SYSTEM = (
    "You are a math teacher. Your task is to review and critique the paragraphs in solution step "
    "by step."
)
ANALYZE = "<analyze>\nLet's analyze the Paragraph {number} step by step: "
VERIFY = "<verify>\nLet's use python code to find any potential error:\n```python\n"
OUTPUT = "<output>\n**Judgement**: $\\boxed"

FORCED_TOKENS = 20
"""For a judgement that is asked for right after the analysis."""

TOP_P = 0.95

_JUDGEMENT = re.compile(r"<output>\n\*\*Judgement\*\*: \$\\boxed\{(Yes|No)\}")
_FORCED = re.compile(r"\A\{(Yes|No)\}")


def prompt(problem: str, steps: Sequence[str], critiques: Sequence[str]) -> tuple[Message, ...]:
    """The conversation up to the first paragraph that has no critique yet."""
    first, *later = steps[: len(critiques) + 1]
    paragraphs = [f"Question: {problem}\n\n{first}", *later]
    turns = [Message(role="system", content=SYSTEM)]
    for index, paragraph in enumerate(paragraphs):
        turns.append(Message(role="user", content=paragraph))
        if index < len(critiques):
            turns.append(Message(role="assistant", content=critiques[index]))
    return tuple(turns)


def critique(problem: str, steps: Sequence[str], asking: Asking) -> Course[Scores | str]:
    """Judge paragraph after paragraph; see `GenerativeFamily.critique`."""
    scores: list[float] = []
    critiques: list[str] = []
    for index in range(len(steps)):
        messages = prompt(problem, steps, critiques)
        start = ANALYZE.format(number=index + 1)
        (analyses,) = yield [
            asking.request(
                f"{index} analyze",
                messages,
                prefill=start,
                stop=("</analyze>\n",),
                samples=asking.samples,
                top_p=TOP_P,
            )
        ]
        samples = yield from together(
            [
                _judge(messages, f"{index} {sample}", start, analysis, asking)
                for sample, analysis in enumerate(analyses)
            ]
        )
        score = mean(found if isinstance(found, str) else found[0] for found in samples)
        if isinstance(score, str):
            return f"step {index}: {score}"
        scores.append(score)
        critiques.append(next(found[1] for found in samples if not isinstance(found, str)))
    return tuple(scores)


def _judge(
    messages: tuple[Message, ...], place: str, start: str, analysis: Completion, asking: Asking
) -> Course[tuple[float, str] | str]:
    """From an analysis to the score and the whole critique, or why there is none."""
    reason = unfinished(analysis, "analysis")
    if reason and analysis.finish_reason != "length":
        return reason
    analysed = start + _closed(analysis.text, "</analyze>")
    left = asking.max_tokens - analysis.completion_tokens
    if left > 0:
        begun = analysed + VERIFY
        ((answer,),) = yield [
            asking.request(
                f"{place} verify",
                messages,
                prefill=begun,
                stop=("</output>\n",),
                max_tokens=left,
                top_p=TOP_P,
            )
        ]
        if found := read_verdicts(answer, _JUDGEMENT, "Yes", "No"):
            return found[-1].probability, begun + _closed(answer.text, "</output>")
    begun = analysed + OUTPUT
    ((answer,),) = yield [
        asking.request(
            f"{place} output",
            messages,
            prefill=begun,
            stop=("</output>\n",),
            max_tokens=FORCED_TOKENS,
            top_p=TOP_P,
        )
    ]
    if found := read_verdicts(answer, _FORCED, "Yes", "No"):
        return found[0].probability, begun + _closed(answer.text, "</output>")
    return unfinished(answer, "judgement") or "the judgement is neither Yes nor No"


def _closed(text: str, tag: str) -> str:
    """A part with its closing tag, whether or not the model came to write that."""
    return text.split(tag)[0] + f"{tag}\n"


FAMILY = GenerativeFamily(
    entry=Entry(
        family="genprm",
        checkpoints=(
            Checkpoint(id="GenPRM/GenPRM-1.5B", licence="MIT", context=16384),
            Checkpoint(id="GenPRM/GenPRM-7B", licence="MIT", context=16384),
            Checkpoint(id="GenPRM/GenPRM-32B", licence="MIT", context=16384),
        ),
        architecture="Qwen2 causal language model (R1-Distill-Qwen), generative",
        template="chat: system, question and step 1, critique, step 2, …; forced <analyze>, "
        "<verify>, <output>, without code execution",
        positions="the word in the boxed judgement of each critique (Yes 9454, No 2753)",
        readout="softmax of Yes and No there, mean over samples",
        passes="two or three completions a step and sample, step after step",
        meaning="probability that the step is right, after a critique",
        backends=("transformers", "vllm"),
        source="the authors' evaluation code; arXiv 2504.00891",
    ),
    critique=critique,
)
