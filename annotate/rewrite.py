"""Step separation by a language model that writes the text again, as JSON, step by step.

This is the published way (arXiv 2502.11520): one prompt, and an answer such as
`{"Step 1": "...", "Step 2": "..."}`. An answer counts only where its steps, joined and compared
without white space, are the text. Even then they only say where to cut: the steps are cut out of
the text itself, so the white space inside them stays what the policy wrote. It costs as many
tokens as the text has; `annotate.boundary` asks for numbers alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import accumulate, pairwise

from annotate.boundary import ask, seed_of
from annotate.judge import RETRY_TEMPERATURE
from annotate.pieces import attach, candidates
from annotate.strategy import Rewriting, load_rewriting, render_text
from prm.engines import Engine, Request

START = '{"Step 1":'
"""What an answer begins with; so no model can write an introduction or a code fence before it."""


def rewrite_texts(
    texts: Sequence[str],
    engine: Engine,
    *,
    prompts: str,
    seed: int = 0,
    retries: int = 1,
    context: int | None = None,
) -> list[tuple[str, ...] | str]:
    """As `annotate.boundary.split_texts`, from answers that write each text again.

    Raises:
        ConfigError: the prompt set has no `rewrite.toml`, or one that is not as it should be.
        EngineError: the engine died.
    """
    asking = load_rewriting(prompts)
    return ask(
        texts,
        engine,
        request=lambda index, attempt: _request(asking, texts[index], seed, attempt),
        read=lambda index, answer: parse_steps(_whole(answer), texts[index]),
        retries=retries,
        context=context,
    )


def parse_steps(answer: str, text: str) -> tuple[str, ...] | str:
    """The steps that an answer cuts a text into, or the reason why it is of no use.

    Args:
        answer: the whole JSON object. Raw line ends inside its strings are let pass.
        text: what the answer should have kept word for word.
    """
    try:
        found = json.loads(answer, strict=False, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:  # a number may have too many digits, too
        return f"the answer is not JSON: {error}"
    if not isinstance(found, tuple) or not found:
        return "the answer is not one object with steps"
    if [key for key, _ in found] != [f"Step {number}" for number in range(1, len(found) + 1)]:
        return "the keys are not Step 1, Step 2 and so on"
    steps = ["".join(step.split()) if isinstance(step, str) else "" for _, step in found]
    if "" in steps:
        return f"a step holds no text: step {steps.index('') + 1}"
    places = [place for place, letter in enumerate(text) if not letter.isspace()]
    said, meant = "".join(steps), "".join(text[place] for place in places)
    if said != meant:
        same = next((n for n, (a, b) in enumerate(zip(said, meant, strict=False)) if a != b), None)
        same = min(len(said), len(meant)) if same is None else same
        return f"the steps are not the text: {same} of {len(meant)} characters agree"
    starts = [0, *accumulate(map(len, steps))]
    for number, start in enumerate(starts[1:-1], start=2):
        before, here = places[start - 1], places[start]
        if here == before + 1 and text[before].isalnum() and text[here].isalnum():
            return f"a step begins inside a word: step {number}"
    spans = [(places[start], places[end - 1] + 1) for start, end in pairwise(starts)]
    return tuple(text[begin:end] for begin, end in attach(text, spans))


def _request(asking: Rewriting, text: str, seed: int, attempt: int) -> Request:
    # Every token writes a byte or more: the text as JSON, and for each step what stands between
    # two of them. So a model that never ends is cut off soon after the text's own length.
    written = len(json.dumps(text, ensure_ascii=False).encode())
    between = len('", "Step 10000": "')
    return Request(
        messages=render_text(asking, text),
        max_tokens=written + between * len(candidates(text)),
        temperature=RETRY_TEMPERATURE if attempt else 0.0,
        seed=seed_of(text, seed, attempt),
        prefill=START,
    )


def _whole(answer: str) -> str:
    """The whole object: some servers cannot go on with a prefill and begin anew."""
    return answer if answer.lstrip().startswith("{") else START + answer
