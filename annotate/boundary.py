"""Step separation by a language model that says where steps begin and writes nothing else.

The smallest pieces of a text (sentences, lines) are numbered and the model answers with the
numbers of those that begin a step. The text itself is never rewritten, so the steps stay word
for word what the policy wrote.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Sequence

from annotate.judge import RETRY_TEMPERATURE
from annotate.pieces import candidates
from annotate.strategy import Splitting, load_splitting, render_pieces
from prm.engines import TOO_LONG, Completion, Engine, Request

STARTS = "step_starts="
"""What stands before the list of numbers."""


def starts_regex(pieces: int) -> str:
    """What a list of up to `pieces` piece numbers looks like; it starts at 1."""
    return rf"\[1(,[1-9][0-9]{{0,{len(str(pieces)) - 1}}}){{0,{pieces - 1}}}\]"


def parse_starts(text: str, pieces: int) -> list[int] | str:
    """The numbers in a model's list, or the reason why it is none."""
    inside = re.fullmatch(r"\s*\[\s*(\d{1,9}(?:\s*,\s*\d{1,9})*)\s*\]\s*", text)
    if inside is None:
        return "the answer is not one list of numbers"
    numbers = [int(number) for number in inside[1].split(",")]
    if numbers[0] != 1:
        return "the first step does not begin at piece 1"
    if any(later <= earlier for earlier, later in itertools.pairwise(numbers)):
        return "the numbers do not rise"
    if numbers[-1] > pieces:
        return "a piece that is not there"
    return numbers


def join(text: str, spans: Sequence[tuple[int, int]], starts: Sequence[int]) -> tuple[str, ...]:
    """The steps that begin at these pieces, cut out of the text as it is."""
    ends = [*(number - 1 for number in starts[1:]), len(spans)]
    return tuple(
        text[spans[begin - 1][0] : spans[end - 1][1]]
        for begin, end in zip(starts, ends, strict=True)
    )


def split_texts(
    texts: Sequence[str],
    engine: Engine,
    *,
    prompts: str,
    seed: int = 0,
    retries: int = 1,
    context: int | None = None,
) -> list[tuple[str, ...] | str]:
    """Steps of each text, or the reason why the model's answers gave none.

    Args:
        texts: solutions, none of them blank.
        engine: who separates.
        prompts: the prompt set; see `annotate.strategy`.
        seed: of the retries, which sample.
        retries: how often to ask again after an unusable answer.
        context: the model's, in tokens, for the reason of a text that is too long; None where it
            is not known.

    Raises:
        ConfigError: the prompt set has no `split.toml`, or one that is not as it should be.
        EngineError: the engine died.
    """
    asking = load_splitting(prompts)
    spans = [candidates(text) for text in texts]
    return ask(
        texts,
        engine,
        request=lambda index, attempt: _request(asking, texts[index], spans[index], seed, attempt),
        read=lambda index, answer: _read(texts[index], spans[index], answer),
        retries=retries,
        context=context,
    )


def ask(
    texts: Sequence[str],
    engine: Engine,
    *,
    request: Callable[[int, int], Request],
    read: Callable[[int, str], tuple[str, ...] | str],
    retries: int,
    context: int | None,
) -> list[tuple[str, ...] | str]:
    """Ask about each text until its answer is of use; one that is a single piece is one step.

    Args:
        texts: solutions, none of them blank.
        engine: who separates.
        request: for a text's index and the attempt, from 0.
        read: steps in an answer about the text of this index, or why it holds none.
        retries: how often to ask again. A prompt that is too long would be no shorter.
        context: the model's, in tokens, if known.

    Returns:
        Steps, or the last reason.
    """
    results: list[tuple[str, ...] | str] = [
        (text.strip(),) if len(candidates(text)) == 1 else "" for text in texts
    ]
    todo = [index for index, result in enumerate(results) if isinstance(result, str)]
    for attempt in range(retries + 1):
        if not todo:
            break
        answers = engine.generate([request(index, attempt) for index in todo])
        again = []
        for index, (answer,) in zip(todo, answers, strict=True):
            if answer.finish_reason == "stop":
                results[index] = read(index, answer.text)
            else:
                results[index] = _cut_off(answer, context)
            if isinstance(results[index], str) and answer.finish_reason != TOO_LONG:
                again.append(index)
        todo = again
    return results


def seed_of(text: str, seed: int, attempt: int) -> int:
    """A seed of its own makes an answer independent of what else is asked with it."""
    digest = hashlib.sha256(f"{seed} {attempt} {text}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def _request(
    asking: Splitting, text: str, spans: Sequence[tuple[int, int]], seed: int, attempt: int
) -> Request:
    return Request(
        messages=render_pieces(asking, [text[begin:end] for begin, end in spans]),
        # A digit a token at the most, and a comma; two more open and end the list.
        max_tokens=(len(str(len(spans))) + 1) * len(spans) + 2,
        temperature=RETRY_TEMPERATURE if attempt else 0.0,
        seed=seed_of(text, seed, attempt),
        prefill=STARTS,
        regex=starts_regex(len(spans)),
    )


def _read(text: str, spans: Sequence[tuple[int, int]], answer: str) -> tuple[str, ...] | str:
    starts = parse_starts(answer, len(spans))
    return starts if isinstance(starts, str) else join(text, spans, starts)


def _cut_off(answer: Completion, context: int | None) -> str:
    """Why an answer that did not end by itself is of no use; numbers stand after a colon."""
    if answer.finish_reason == TOO_LONG:
        room = "the model's context" if context is None else f"a context of {context:,}"
        return f"the prompt is too long: {answer.prompt_tokens:,} tokens for {room}"
    if answer.finish_reason == "length":
        return (
            f"the answer was cut off: at {answer.completion_tokens:,} tokens, after a prompt of "
            f"{answer.prompt_tokens:,}"
        )
    return f"ended by {answer.finish_reason!r}"
